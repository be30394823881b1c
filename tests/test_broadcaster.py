"""Broadcaster: one tick, called by hand: whom it asks, when, and that nobody waits for the others."""

from __future__ import annotations

import asyncio

import pytest
from fakes import Rooms, identity

from amiga_ws.broadcaster import REST_S, Broadcaster


@pytest.fixture
def rooms():
    return Rooms()


async def test_collectors_are_asked_once_a_tick_for_all_windows(rooms):
    for hours in (24, 24, 48, 1):
        await rooms.viewer(hours=hours)
    rooms.feed.asked.clear()
    await rooms.tick()
    assert rooms.feed.asked == [{1, 24, 48}]


async def test_tick_is_as_slow_as_the_fastest_viewer(rooms):
    await rooms.viewer(interval=5)
    slower = await rooms.viewer(interval=15)
    rooms.feed.asked.clear()
    await rooms.tick(30)
    assert len(rooms.feed.asked) == 6
    await slower.ask("set_interval", interval=1)
    rooms.feed.asked.clear()
    await rooms.tick(10)
    assert len(rooms.feed.asked) == 10


async def test_facts_are_kept_warm_while_nobody_watches(rooms):
    await rooms.tick(1)
    assert rooms.feed.asked == [frozenset()]
    await rooms.tick(int(REST_S) - 1)
    assert len(rooms.feed.asked) == 1
    await rooms.tick(1)
    assert len(rooms.feed.asked) == 2
    rooms.peer()  # connected, but subscribed to nothing
    await rooms.tick(int(REST_S))
    assert len(rooms.feed.asked) == 3


async def test_a_history_is_loaded_each_second_though_nobody_watches(rooms):
    rooms.feed.reading = True
    await rooms.tick(5)
    assert len(rooms.feed.asked) == 5
    rooms.feed.reading = False
    await rooms.tick(int(REST_S) - 1)
    assert len(rooms.feed.asked) == 5


async def test_nobody_is_served_while_nothing_is_due(rooms):
    peer = await rooms.viewer(interval=60)
    rooms.feed.asked.clear()
    rooms.feed.total += 1
    await rooms.tick(59)
    assert rooms.feed.asked == []
    assert "metrics_update" not in peer.names()
    await rooms.tick(1)
    assert "metrics_update" in peer.names()


async def test_windows_of_parked_streams_stay_warm(rooms):
    await rooms.viewer(hours=48, who=identity(left_s=1))
    await rooms.tick(1)
    rooms.feed.asked.clear()
    await rooms.tick(11)
    assert {48} in rooms.feed.asked


@pytest.mark.parametrize("jitter_s", [-0.2, 0.2, 0.0])
async def test_jitter_of_the_timer_loses_no_tick(rooms, jitter_s):
    peer = await rooms.viewer(interval=1)
    for number in range(20):
        rooms.feed.total += 1
        rooms.time.pass_(1 + (jitter_s if number % 2 else -jitter_s))
        await rooms.broadcaster.tick()
    assert len(peer.transport.sent) == 20


async def test_late_tick_serves_once_not_for_each_second_it_missed(rooms):
    peer = await rooms.viewer(interval=1)
    rooms.feed.total += 1
    rooms.time.pass_(7.0)
    await rooms.broadcaster.tick()
    assert peer.names() == ["metrics_update"]


async def test_late_tick_serves_a_border_it_jumped_over(rooms):
    peer = await rooms.viewer(interval=5)
    rooms.feed.total += 1
    rooms.time.pass_(4.0)
    await rooms.broadcaster.tick()
    assert peer.transport.sent == []
    rooms.time.pass_(3.0)
    await rooms.broadcaster.tick()
    assert peer.names() == ["metrics_update"]


async def test_who_expires_is_not_served_at_that_tick(rooms):
    peer = await rooms.viewer(who=identity(left_s=3))
    rooms.feed.total += 1
    rooms.time.pass_(3)
    await rooms.broadcaster.tick()
    assert peer.transport.sent == []


async def test_everybody_may_leave_while_collectors_are_asked(rooms):
    peers = [await rooms.viewer() for _ in range(3)]
    rooms.feed.gate.clear()
    rooms.time.pass_(1)
    ticking = asyncio.create_task(rooms.broadcaster.tick())
    await asyncio.sleep(0)
    for peer in peers:
        rooms.hub.remove(peer.client)
    rooms.feed.gate.set()
    await ticking
    assert all(peer.transport.sent == [] for peer in peers)


async def test_who_comes_while_collectors_are_asked_waits_for_his_own_facts(rooms):
    await rooms.viewer(hours=24)
    late = rooms.peer()
    rooms.feed.requests = {48: 3}
    rooms.feed.gate.clear()
    rooms.time.pass_(1)
    ticking = asyncio.create_task(rooms.broadcaster.tick())
    await asyncio.sleep(0)
    asking = asyncio.create_task(late.ask("subscribe", hours=48))
    await asyncio.sleep(0)
    rooms.feed.gate.set()
    await ticking
    update = (await asking)[1]
    assert update["data"]["overview"]["claude_api"]["total_requests"] == 3


async def test_history_is_fed_after_each_reading_and_every_ten_seconds_at_least(rooms):
    noted = []
    rooms.broadcaster = Broadcaster(
        rooms.feed, rooms.hub, rooms.time.clock, lambda: noted.append(rooms.feed.total)
    )
    await rooms.viewer(interval=60)
    rooms.feed.asked.clear()
    await rooms.tick(60)
    assert len(noted) == len(rooms.feed.asked)
    assert len(noted) in (6, 7)  # every ten seconds, and the one that was due
    await rooms.viewer(interval=2)
    noted.clear()
    await rooms.tick(60)
    assert len(noted) == 30
