"""Turnstile: a few pass at a time, in order, and each has to come again for what he does next."""

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


async def test_few_wait_for_the_next_pass_and_nobody_goes_on_in_the_one_he_came_in():
    turnstile, said = Turnstile(3), []

    async def one(number):
        for step in range(2):
            said.append((number, step))
            await turnstile.turn()

    await asyncio.gather(*(one(number) for number in range(3)))
    assert said == [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)]


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
        assert not turnstile._turning
