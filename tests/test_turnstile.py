"""Turnstile: few pass at once, many a few at a time and in order."""

from __future__ import annotations

import asyncio

from amiga_ws.turnstile import Turnstile


async def passes(count, each_pass, *, cancel=()):
    """Who passed in which pass of the loop."""
    turnstile, passed, now = Turnstile(each_pass), [], 0

    async def one(number):
        await turnstile.turn()
        passed.append((now, number))

    tasks = [asyncio.create_task(one(number)) for number in range(count)]
    for number in cancel:
        asyncio.get_running_loop().call_soon(tasks[number].cancel)
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        now += 1
    return passed


async def test_few_do_not_wait():
    turnstile = Turnstile(3)
    for _ in range(3):
        coroutine = turnstile.turn()
        try:
            coroutine.send(None)
        except StopIteration:
            continue
        raise AssertionError("it waited")


async def test_many_pass_in_order_and_no_more_than_so_many_at_once():
    passed = await passes(100, 8)
    assert [number for _, number in passed] == list(range(100))
    per_pass = [sum(1 for when, _ in passed if when == each) for each in {when for when, _ in passed}]
    assert max(per_pass) <= 8
    assert len(per_pass) >= 12


async def test_who_gives_up_takes_nobodys_turn():
    passed = await passes(30, 4, cancel=(10, 11, 29))
    assert [number for _, number in passed] == [n for n in range(30) if n not in (10, 11, 29)]


async def test_it_rests_when_nobody_waits():
    turnstile = Turnstile(2)
    for _ in range(3):
        await asyncio.gather(*(turnstile.turn() for _ in range(5)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not turnstile._refilling
