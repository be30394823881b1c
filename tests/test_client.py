"""Client: what one peer is owed, when its silence is broken, and when it is cut."""

from __future__ import annotations

import json

import pytest
from fakes import WALL, Rooms, identity
from hypothesis import given
from hypothesis import strategies as st

from amiga_ws.client import HEARTBEAT_S, STALL_S
from amiga_ws.wire import Close


@pytest.fixture
def rooms():
    return Rooms()


# -- heartbeats ----------------------------------------------------------------------------------


def test_first_heartbeat_comes_after_a_drawn_seven_to_fifteen_seconds(rooms):
    due = [rooms.peer().client.heartbeat_at - rooms.time.monotonic_s for _ in range(200)]
    assert all(HEARTBEAT_S / 2 <= wait_s <= HEARTBEAT_S for wait_s in due)
    assert max(due) - min(due) > HEARTBEAT_S / 4  # they part


async def test_silence_is_broken_every_fifteen_seconds(rooms):
    peer = await rooms.viewer()
    await rooms.tick(14)
    assert peer.names() == []
    await rooms.tick(1)
    assert peer.names() == ["heartbeat"]
    beat = peer.heard()[0]["data"]
    assert beat == {"position": peer.client.position, "server_time": rooms.time.wall_s}
    await rooms.tick(14)
    assert peer.names() == ["heartbeat"]
    await rooms.tick(1)
    assert peer.names() == ["heartbeat"] * 2


async def test_news_and_answers_put_the_heartbeat_off(rooms):
    peer = await rooms.viewer()
    for _ in range(3):
        await rooms.tick(10)
        rooms.feed.total += 1
        await rooms.tick(1)
        await rooms.tick(9)
        await peer.ask("request_refresh", hours=48)
    assert "heartbeat" not in peer.names()


async def test_heartbeat_of_one_who_has_no_subscription_has_no_position(rooms):
    peer = rooms.peer()
    await rooms.tick(15)
    assert peer.heard()[-1]["data"]["position"] is None


async def test_busy_peer_gets_no_heartbeat(rooms):
    peer = await rooms.viewer()
    peer.transport.full = True
    for _ in range(20):
        peer.transport.unacknowledged += 1  # it takes, slowly
        await rooms.tick()
    assert peer.names() == []


# -- the owed frame ------------------------------------------------------------------------------


async def test_slow_peer_is_owed_exactly_one_frame_the_newest(rooms):
    peer = await rooms.viewer()
    peer.transport.full = True
    for _ in range(5):
        rooms.feed.total += 1
        await rooms.tick()
    assert peer.transport.sent == []
    peer.drain()
    assert peer.names() == ["metrics_update", "lag"]
    update, lag = peer.heard()
    assert update["data"]["overview"]["tasks"]["total"] == rooms.feed.total
    assert lag["data"] == {"coalesced": 4, "behind_ms": 4000}
    peer.drain()
    assert len(peer.transport.sent) == 2  # told once


async def test_one_late_frame_is_no_lag(rooms):
    peer = await rooms.viewer()
    peer.transport.full = True
    rooms.feed.total += 1
    await rooms.tick()
    peer.drain()
    assert peer.names() == ["metrics_update"]


async def test_ticks_without_news_are_not_counted_as_skipped(rooms):
    peer = await rooms.viewer()
    peer.transport.full = True
    rooms.feed.total += 1
    await rooms.tick(4)
    rooms.feed.total += 1
    await rooms.tick(4)
    peer.drain()
    assert peer.heard()[-1]["data"]["coalesced"] == 1


async def test_peer_that_owes_nothing_hears_nothing_when_it_drains(rooms):
    peer = await rooms.viewer()
    peer.transport.full = True
    await rooms.tick(3)
    peer.drain()
    assert peer.transport.sent == []


async def test_frame_that_came_before_the_drain_is_not_sent_twice(rooms):
    """A socket is free a moment before its drain is told; a tick in between brings the owed state."""
    peer = await rooms.viewer(delta=True)
    peer.transport.full = True
    rooms.feed.total += 1
    await rooms.tick()
    peer.transport.full = False
    rooms.feed.total += 1
    await rooms.tick()
    assert peer.names() == ["metrics_patch"]
    peer.client.drained()
    assert peer.names() == ["metrics_patch"]


async def test_refresh_pays_what_is_owed_and_the_lag_is_still_told(rooms):
    peer = await rooms.viewer()
    peer.transport.full = True
    for _ in range(3):
        rooms.feed.total += 1
        await rooms.tick()
    await peer.ask("request_refresh")
    peer.drain()
    assert peer.names() == ["metrics_update", "lag"]
    assert peer.heard()[-1]["data"]["coalesced"] == 2
    peer.transport.full = True
    rooms.feed.total += 1
    await rooms.tick()
    peer.drain()
    assert peer.names() == ["metrics_update", "lag", "metrics_update"]  # nothing left over


async def test_resubscribing_peer_is_owed_nothing_of_its_old_window(rooms):
    peer = await rooms.viewer()
    peer.transport.full = True
    for _ in range(3):
        rooms.feed.total += 1
        await rooms.tick()
    await peer.ask("subscribe", hours=48)
    peer.forget()
    peer.drain()
    assert peer.transport.sent == []


async def test_unsubscribed_peer_is_owed_nothing(rooms):
    peer = await rooms.viewer()
    peer.transport.full = True
    rooms.feed.total += 1
    await rooms.tick()
    await peer.ask("unsubscribe")
    peer.drain()
    assert peer.names() == ["unsubscribed"]


def test_newest_of_no_window_is_nothing(rooms):
    peer = rooms.peer()
    peer.client.give_newest()
    assert peer.transport.sent == []


# -- stalls --------------------------------------------------------------------------------------


async def test_peer_that_takes_nothing_for_ten_seconds_is_cut(rooms, caplog):
    caplog.set_level("INFO")
    peer = await rooms.viewer()
    peer.transport.full, peer.transport.unacknowledged = True, 5000
    await rooms.tick(int(STALL_S))
    assert peer.present
    await rooms.tick(1)
    assert not peer.present
    assert peer.transport.aborted
    assert peer.transport.closes == []  # a close frame would queue behind what it does not take
    assert "4002" in caplog.text
    assert rooms.hub.connections_of() == 0
    assert rooms.hub.hours_in_use() == frozenset()


async def test_peer_that_takes_a_byte_now_and_then_stays(rooms):
    peer = await rooms.viewer()
    peer.transport.full, peer.transport.unacknowledged = True, 5000
    for _ in range(10):
        await rooms.tick(9)
        peer.transport.unacknowledged -= 1
    assert peer.present


async def test_stall_is_counted_anew_after_a_pause(rooms):
    peer = await rooms.viewer()
    for _ in range(5):
        peer.transport.full = True
        await rooms.tick(9)
        peer.drain()
        await rooms.tick(1)
    assert peer.present


# -- words ---------------------------------------------------------------------------------------


def test_goodbye_is_said_before_the_close(rooms):
    peer = rooms.peer()
    peer.client.bye(Close.SHUTTING_DOWN, "going", "ref1", 700)
    assert peer.heard() == [
        {
            "event": "bye",
            "data": {"code": 4001, "reason": "going", "reconnect": True, "retry_ms": 700, "ref": "ref1"},
        }
    ]
    assert peer.transport.closes == [(4001, "going")]


@given(reason=st.text(st.characters(codec="utf-8"), max_size=300))
def test_goodbye_tells_all_and_the_close_frame_what_fits(reason):
    peer = Rooms().peer()
    peer.client.bye(Close.REVOKED, reason, "r")
    assert json.loads(peer.transport.sent[0].data)["reason"] == reason
    assert len(peer.transport.closes[0][1].encode()) <= 123


def test_two_clients_are_the_same_only_if_they_are_one(rooms):
    one, other = rooms.peer().client, rooms.peer().client
    other.client_id = one.client_id
    assert one != other
    assert len({one, other}) == 2


def test_client_knows_since_when_it_is_here(rooms):
    client = rooms.peer(identity(left_s=100)).client
    assert (client.since, client.heard_at, client.expires_in) == (WALL, rooms.time.monotonic_s, 100)


@pytest.mark.parametrize(
    ("kind", "sid", "renewable"),
    [("websocket", None, True), ("websocket", "s", True), ("sse", "s", True), ("sse", None, False)],
)
def test_only_an_event_stream_with_a_bearer_cannot_be_renewed(rooms, kind, sid, renewable):
    assert rooms.peer(identity(sid=sid), kind=kind).client.renewable is renewable
