"""Hub: who is here, who is due, and what happens when a credential ends."""

from __future__ import annotations

import asyncio

import pytest
from fakes import WALL, Rooms, identity

from amiga_ws import hub as hub_room
from amiga_ws.hub import MAX_WINDOWS, PARK_S, SLICE


@pytest.fixture
def rooms():
    return Rooms()


# -- who is here ---------------------------------------------------------------------------------


def test_connections_are_counted_by_subject_and_address(rooms):
    peers = [
        rooms.peer(identity("ada"), address="10.0.0.1"),
        rooms.peer(identity("ada"), address="10.0.0.2"),
        rooms.peer(identity("bob"), address="10.0.0.2"),
    ]
    count = rooms.hub.connections_of
    assert (count(), count(subject="ada"), count(address="10.0.0.2"), count(subject="eve")) == (3, 2, 2, 0)
    rooms.hub.remove(peers[1].client)
    rooms.hub.remove(peers[1].client)  # a socket may end twice
    assert (count(), count(subject="ada"), count(address="10.0.0.2")) == (2, 1, 1)


def test_nobody_leaves_a_trace(rooms):
    for number in range(100):
        rooms.hub.remove(rooms.peer(identity(f"s{number}"), address=f"10.0.0.{number}").client)
    assert not rooms.hub._subjects
    assert not rooms.hub._addresses
    assert not rooms.hub.clients


# -- fan-out -------------------------------------------------------------------------------------


async def test_one_window_is_composed_once_for_all_its_viewers(rooms):
    peers = [await rooms.viewer() for _ in range(20)]
    rooms.feed.total += 1
    rooms.feed.composed.clear()
    await rooms.tick()
    assert rooms.feed.composed == [24]
    assert len({id(peer.transport.sent[0]) for peer in peers}) == 1
    assert len({id(peer.transport.sent[0].websocket()) for peer in peers}) == 1


async def test_both_transports_get_the_same_data(rooms):
    socket, events = await rooms.viewer(), await rooms.viewer(kind="sse")
    rooms.feed.total += 1
    await rooms.tick()
    assert socket.transport.sent[0].data is events.transport.sent[0].data


async def test_unchanged_state_is_not_sent(rooms):
    peer = await rooms.viewer()
    await rooms.tick(5)
    assert peer.transport.sent == []


async def test_clients_of_one_interval_share_their_ticks(rooms):
    early = await rooms.viewer(interval=5)
    await rooms.tick(2)
    late = await rooms.viewer(interval=5)
    for _ in range(10):
        rooms.feed.total += 1
        await rooms.tick()
    assert early.transport.sent == late.transport.sent
    assert len(early.transport.sent) == 2


async def test_each_interval_gets_its_own_pace_and_always_the_newest(rooms):
    fast, slow = await rooms.viewer(interval=1), await rooms.viewer(interval=3)
    for _ in range(6):
        rooms.feed.total += 1
        await rooms.tick()
    totals = [[u["data"]["overview"]["tasks"]["total"] for u in peer.heard()] for peer in (fast, slow)]
    assert totals == [[2, 3, 4, 5, 6, 7], [4, 7]]


async def test_delta_viewers_get_one_patch_object_for_all(rooms):
    peers = [await rooms.viewer(delta=True) for _ in range(5)]
    rooms.feed.total += 1
    await rooms.tick()
    assert {peer.names()[0] for peer in peers} == {"metrics_patch"}
    assert len({id(peer.transport.sent[0]) for peer in peers}) == 1


async def test_only_the_windows_with_news_are_sent(rooms):
    day, two = await rooms.viewer(hours=24), await rooms.viewer(hours=48)
    rooms.feed.requests[48] = 9
    await rooms.tick()
    assert (day.names(), two.names()) == ([], ["metrics_update"])


async def test_one_slow_peer_delays_nobody(rooms):
    slow, *others = [await rooms.viewer() for _ in range(5)]
    slow.transport.full = True
    for _ in range(3):
        rooms.feed.total += 1
        await rooms.tick()
    assert [len(peer.transport.sent) for peer in others] == [3] * 4
    assert slow.transport.sent == []


async def test_more_than_a_slice_of_viewers_all_get_it(rooms):
    peers = [await rooms.viewer() for _ in range(2 * SLICE + 3)]
    rooms.feed.total += 1
    await rooms.tick()
    assert {len(peer.transport.sent) for peer in peers} == {1}


async def test_client_that_changes_between_two_slices_is_left_alone(rooms, monkeypatch):
    """The loop runs between slices: some leave, some change their window, all of a group may go."""
    peers = [await rooms.viewer() for _ in range(SLICE + 3)]
    gone, moved, refreshed = peers[-3:]
    rooms.feed.total += 1

    async def meanwhile(_delay):
        rooms.hub.remove(gone.client)
        await moved.ask("subscribe", hours=48)
        await refreshed.ask("request_refresh")

    monkeypatch.setattr(hub_room.asyncio, "sleep", meanwhile)
    await rooms.tick()
    assert gone.transport.sent == []
    assert [update["data"].get("hours") for update in moved.heard()] == [None, 48]
    assert refreshed.names() == ["metrics_update"]
    assert len(peers[0].transport.sent) == 1


async def test_window_dropped_between_two_groups_breaks_nothing(rooms, monkeypatch):
    many = [await rooms.viewer(hours=24) for _ in range(SLICE + 1)]
    last = await rooms.viewer(hours=48)
    rooms.feed.total += 1

    async def meanwhile(_delay):
        rooms.hub.remove(last.client)
        for number in range(MAX_WINDOWS):
            rooms.hub.remove((await rooms.viewer(hours=100 + number)).client)

    monkeypatch.setattr(hub_room.asyncio, "sleep", meanwhile)
    await rooms.tick()
    assert {len(peer.transport.sent) for peer in many} == {1}
    assert last.transport.sent == []


async def test_group_that_left_while_collectors_were_asked_is_not_published(rooms):
    peer = await rooms.viewer()
    due = rooms.hub.due(0, 1)
    rooms.hub.remove(peer.client)
    composed = len(rooms.feed.composed)
    await rooms.hub.publish(due)
    assert len(rooms.feed.composed) == composed


async def test_windows_that_are_kept_have_a_cap(rooms):
    for hours in range(1, 169):
        rooms.hub.remove((await rooms.viewer(hours=hours)).client)
    assert len(rooms.hub._windows) <= MAX_WINDOWS + 1


# -- expiry --------------------------------------------------------------------------------------


async def test_expiring_credential_is_announced_once_about_a_minute_before(rooms):
    peer = await rooms.viewer(who=identity(left_s=120))
    for _ in range(110):
        rooms.feed.total += 1
        await rooms.tick()
    (told,) = [message["data"] for message in peer.heard() if message["event"] == "auth"]
    assert told["state"] == "expiring"
    assert 44 <= told["expires_in"] <= 76


async def test_announcement_is_spread(rooms):
    peers = [rooms.peer(identity(left_s=120)) for _ in range(100)]
    await rooms.tick(60)
    told = sum("auth" in peer.names() for peer in peers)
    assert 10 < told < 90


async def test_delivery_stops_at_the_end_and_the_stream_is_parked(rooms):
    peer = await rooms.viewer(who=identity(left_s=5))
    for _ in range(4):
        rooms.feed.total += 1
        await rooms.tick()
    peer.forget()
    for _ in range(20):
        rooms.feed.total += 1
        await rooms.tick()
    assert peer.transport.sent == []
    assert peer.present


async def test_parked_stream_without_renewal_is_closed_with_4003(rooms):
    peer = await rooms.viewer(who=identity(left_s=5))
    await rooms.tick(5 + int(PARK_S) - 1)
    assert peer.present
    await rooms.tick(1)
    assert not peer.present
    bye = peer.heard()[-1]["data"]
    assert (bye["code"], bye["reconnect"]) == (4003, True)
    assert peer.transport.closes == [(4003, bye["reason"])]
    assert rooms.hub.hours_in_use() == frozenset()


async def test_event_stream_with_a_bearer_is_closed_at_the_end_itself(rooms):
    peer = await rooms.viewer(who=identity(left_s=5), kind="sse")
    await rooms.tick(4)
    assert peer.present
    await rooms.tick(1)
    assert not peer.present
    assert peer.heard()[-1]["data"]["code"] == 4003


@pytest.mark.parametrize("kind", ["websocket", "sse"])
async def test_nothing_is_said_after_the_goodbye(rooms, kind):
    peer = await rooms.viewer(who=identity(left_s=5), kind=kind)
    peer.client.heartbeat_at = rooms.time.monotonic_s + 5
    await rooms.tick(40)
    assert peer.names()[-1] == "bye"
    assert peer.names().count("bye") == 1


async def test_expiry_follows_the_wall_clock_and_parking_the_other(rooms):
    peer = await rooms.viewer(who=identity(left_s=1000))
    rooms.time.wall_s += 999
    await rooms.tick(1)
    assert peer.client.parked_at is not None
    rooms.time.wall_s -= 86_400  # a clock set back: the token counts again
    await rooms.tick(1)
    assert peer.present
    await rooms.tick(int(PARK_S))
    assert peer.heard()[-1]["data"]["code"] == 4003  # or it would stay open and never hear news again


@pytest.mark.parametrize("event", ["subscribe", "unsubscribe", "request_refresh"])
async def test_parked_socket_answers_only_refresh_token(rooms, event):
    peer = await rooms.viewer(who=identity(left_s=1))
    await rooms.tick(1)
    (error,) = await peer.ask(event, "m")
    assert (error["data"]["code"], error["id"]) == ("unauthorized", "m")
    assert "refresh_token" in error["data"]["error"]


@pytest.mark.parametrize("event", ["subscribe", "request_refresh"])
@pytest.mark.parametrize("before", [True, False])
async def test_what_is_asked_before_the_end_of_a_token_gets_no_state_after_it(rooms, event, before):
    """Collectors take their time, and the token ends meanwhile."""
    rooms.tokens["new"] = identity(left_s=3600)
    peer = await rooms.viewer(who=identity(left_s=5)) if before else rooms.peer(identity(left_s=5))
    rooms.feed.gate.clear()
    asked = asyncio.ensure_future(peer.ask(event, "m", hours=48))
    await asyncio.sleep(0.01)
    rooms.time.pass_(6.0)
    rooms.feed.gate.set()
    (answer,) = await asked
    if event == "subscribe":
        assert answer["event"] == "subscribed"
        assert rooms.hub.hours_in_use() == {48}  # kept for it, but nobody is due
    else:
        assert answer["data"]["code"] == "unauthorized"
    assert not rooms.hub.watched()
    rooms.feed.total += 1
    await rooms.tick()
    assert "metrics_update" not in peer.names()
    await peer.ask("refresh_token", token="new")  # noqa: S106 - a name in the test's table
    assert rooms.hub.watched() == (before or event == "subscribe")
    assert ("metrics_update" in peer.names()) == rooms.hub.watched()
    rooms.hub.remove(peer.client)
    assert rooms.hub.hours_in_use() == frozenset()


@pytest.mark.parametrize("busy", [False, True])
async def test_who_is_parked_while_others_get_a_state_gets_none(rooms, busy):
    for number in range(SLICE):
        await rooms.viewer(who=identity(f"s{number}"))
    last = await rooms.viewer(who=identity("last", left_s=5))
    last.transport.full = busy
    rooms.feed.total += 1
    await rooms.feed.refresh(rooms.hub.hours_in_use())
    publishing = asyncio.ensure_future(rooms.hub.publish(rooms.hub.due(0, 1)))
    await asyncio.sleep(0)
    rooms.time.pass_(6.0)
    rooms.hub.expire_due(last.client)
    await publishing
    last.drain()
    assert last.client.parked_at is not None
    assert "metrics_update" not in last.names()


async def test_a_subscription_that_fails_while_parked_leaves_no_window_behind(rooms, monkeypatch):
    peer = await rooms.viewer(who=identity(left_s=5))
    rooms.feed.gate.clear()
    asked = asyncio.ensure_future(peer.ask("subscribe", hours=48))
    await asyncio.sleep(0.01)
    rooms.time.pass_(6.0)
    monkeypatch.setattr(rooms.hub, "advance", lambda _: 1 / 0)
    rooms.feed.gate.set()
    with pytest.raises(ZeroDivisionError):
        await asked
    rooms.hub.remove(peer.client)
    assert rooms.hub.hours_in_use() == frozenset()


async def test_renewal_is_followed_by_the_newest_state(rooms):
    rooms.tokens["new"] = identity(left_s=3600)
    peer = await rooms.viewer(hours=48, interval=60, who=identity(left_s=5))
    rooms.feed.requests[48] = 5
    await rooms.tick(10)
    rooms.feed.total, rooms.feed.requests[48] = 77, 8
    renewed, update = await peer.ask("refresh_token", "r", token="new")  # noqa: S106 - a name in the test's table
    assert (renewed["event"], renewed["id"]) == ("token_refreshed", "r")
    assert renewed["data"] == {"expires_in": WALL + 3600 - rooms.time.wall_s}
    assert update["data"]["overview"]["tasks"]["total"] == 77
    assert update["data"]["overview"]["claude_api"]["total_requests"] == 8
    peer.forget()
    rooms.feed.total += 1
    await rooms.tick(60)
    assert "metrics_update" in peer.names()


async def test_renewed_session_revives_its_streams_of_both_kinds_with_known_facts(rooms):
    """Others watch other windows meanwhile: a parked one is still read, or it would come back as unknown."""
    rooms.feed.requests = {24: 1, 48: 5}
    peers = [
        await rooms.viewer(hours=48, who=identity(left_s=5, sid="s1", typ="session"), kind=kind)
        for kind in ("websocket", "sse")
    ]
    await rooms.viewer(hours=24)
    await rooms.tick(10)
    assert {peer.client.parked_at is not None for peer in peers} == {True}
    for peer in peers:
        peer.forget()
    rooms.feed.requests[48] = 6
    await rooms.tick()
    rooms.hub.extend_session(identity(left_s=3600, sid="s1", typ="session", jti="j2"))
    for peer in peers:
        assert peer.names() == ["token_refreshed", "metrics_update"]
        assert peer.heard()[1]["data"]["overview"]["claude_api"]["total_requests"] == 6
        assert peer.client.identity.jti == "j2"


async def test_window_of_a_parked_stream_survives_sixteen_others(rooms):
    rooms.tokens["new"] = identity(left_s=3600)
    peer = await rooms.viewer(hours=48, who=identity(left_s=1))
    await rooms.tick()
    for number in range(MAX_WINDOWS + 4):
        rooms.hub.remove((await rooms.viewer(hours=100 + number)).client)
    await rooms.viewer(hours=48)
    await peer.ask("refresh_token", token="new")  # noqa: S106 - a name in the test's table
    peer.forget()
    rooms.feed.total += 1
    await rooms.tick()
    assert peer.names() == ["metrics_update"]


async def test_extending_a_session_leaves_others_alone(rooms):
    other = rooms.peer(identity(sid="s2", typ="session"))
    bearer = rooms.peer(identity())
    rooms.hub.extend_session(identity(sid="s1", typ="session"))
    assert other.transport.sent == bearer.transport.sent == []


async def test_renewal_before_the_end_only_says_so(rooms):
    rooms.tokens["new"] = identity(left_s=7200)
    peer = await rooms.viewer(who=identity(left_s=3600))
    answers = await peer.ask("refresh_token", token="new")  # noqa: S106 - a name in the test's table
    assert [answer["event"] for answer in answers] == ["token_refreshed"]
    assert peer.client.expires_in == 7200


async def test_renewed_stream_is_warned_again_before_its_new_end(rooms):
    rooms.tokens["new"] = identity(left_s=300)
    peer = rooms.peer(identity(left_s=90))
    await rooms.tick(60)
    await peer.ask("refresh_token", token="new")  # noqa: S106 - a name in the test's table
    await rooms.tick(220)
    assert peer.names().count("auth") == 2


async def test_renewal_that_does_not_prolong_is_not_announced_again(rooms):
    """A session at its very end: who renews at every announcement would do so once a second."""
    session = identity(sid="s1", typ="session", left_s=90)
    peer = await rooms.viewer(who=session)
    await rooms.tick(50)
    for _ in range(20):
        rooms.hub.extend_session(session)
        await rooms.tick()
    assert peer.names().count("auth") == 1
    await rooms.tick(21)
    assert peer.client.parked_at is not None


async def test_renewal_of_an_unsubscribed_stream_brings_no_state(rooms):
    rooms.tokens["new"] = identity()
    peer = rooms.peer(identity(left_s=1))
    await rooms.tick(2)
    answers = await peer.ask("refresh_token", token="new")  # noqa: S106 - a name in the test's table
    assert [answer["event"] for answer in answers] == ["token_refreshed"]
    assert [answer["event"] for answer in await peer.ask("subscribe")] == ["subscribed", "metrics_update"]


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (None, "unauthorized"),
        (identity(typ="login"), "unauthorized"),
        (identity(typ="session", sid="s"), "unauthorized"),
        (identity("eve"), "forbidden"),
    ],
)
async def test_token_that_does_not_renew_leaves_the_connection_until_its_end(rooms, found, code):
    if found is not None:
        rooms.tokens["new"] = found
    peer = await rooms.viewer(who=identity(left_s=100))
    (error,) = await peer.ask("refresh_token", "r", token="new")  # noqa: S106 - a name in the test's table
    assert (error["event"], error["data"]["code"], error["id"]) == ("error", code, "r")
    assert peer.present
    assert peer.client.identity == identity(left_s=100)


async def test_new_token_without_the_scope_ends_the_stream_with_4504(rooms):
    rooms.tokens["new"] = identity(scopes=("admin",))
    peer = await rooms.viewer()
    (bye,) = await peer.ask("refresh_token", token="new")  # noqa: S106 - a name in the test's table
    assert (bye["event"], bye["data"]["code"], bye["data"]["reconnect"]) == ("bye", 4504, False)
    assert not peer.present


async def test_parked_client_that_leaves_frees_its_window(rooms):
    peer = await rooms.viewer(hours=48, who=identity(left_s=1))
    await rooms.tick(2)
    assert rooms.hub.hours_in_use() == {48}
    rooms.hub.remove(peer.client)
    assert rooms.hub.hours_in_use() == frozenset()


# -- ends ----------------------------------------------------------------------------------------


async def test_revoked_identities_are_closed_with_4503_and_others_stay(rooms):
    bad = await rooms.viewer(who=identity("eve"))
    events = await rooms.viewer(who=identity("eve"), kind="sse")
    good = await rooms.viewer(who=identity("ada"))
    rooms.hub.close_unwelcome(lambda who: who.subject != "eve")
    for peer in (bad, events):
        assert peer.heard()[-1]["data"]["code"] == 4503
        assert peer.heard()[-1]["data"]["reconnect"] is False
        assert not peer.present
    assert good.transport.sent == []
    assert good.present


async def test_changed_keys_end_or_shorten_open_streams(rooms):
    gone, shorter, same = [await rooms.viewer(who=identity(name)) for name in ("gone", "shorter", "same")]
    left = {"gone": None, "shorter": identity("shorter", left_s=10), "same": identity("same")}
    rooms.hub.judge_again(lambda who: left[who.subject])
    assert gone.heard()[-1]["data"]["code"] == 4503
    assert (shorter.client.expires_in, same.client.expires_in) == (10, 3600)
    await rooms.tick(1)
    assert shorter.names() == ["auth"]
    assert same.names() == []


async def test_longest_silent_connection_of_the_subject_makes_room(rooms):
    first, second = rooms.peer(identity("ada")), rooms.peer(identity("ada"))
    other = rooms.peer(identity("bob"))
    rooms.time.pass_(5)
    await first.ask("unsubscribe")
    rooms.hub.evict_silent("ada")
    assert (first.present, second.present, other.present) == (True, False, True)
    assert second.heard()[-1]["data"]["code"] == 4505
    rooms.hub.evict_silent("nobody")
    assert first.present


async def test_each_who_may_come_back_is_told_another_time(rooms):
    peers = [rooms.peer(identity(left_s=1), kind="sse") for _ in range(50)]
    await rooms.tick(2)
    waits = [peer.heard()[-1]["data"]["retry_ms"] for peer in peers]
    assert all(wait_ms >= 500 for wait_ms in waits)
    assert len(set(waits)) > 30


async def test_goodbye_and_log_share_a_ref(rooms, caplog):
    caplog.set_level("INFO")
    peer = rooms.peer(identity("bob\x1b[2J\nINFO fake", left_s=1), kind="sse")
    await rooms.tick(2)
    ref = peer.heard()[-1]["data"]["ref"]
    (record,) = caplog.records
    assert f"ref={ref}" in record.getMessage()
    assert record.getMessage().isprintable()  # whatever the subject is called


async def test_closing_who_has_gone_does_nothing(rooms):
    peer = rooms.peer(identity("eve"))
    rooms.hub.remove(peer.client)
    rooms.hub.close(peer.client, hub_room.Close.REVOKED, "late")
    assert peer.transport.sent == []
    assert peer.transport.closes == []


# -- signs of life -------------------------------------------------------------------------------


async def test_silent_socket_is_pinged_and_cut_when_it_does_not_answer(rooms):
    alive, dead = await rooms.viewer(), await rooms.viewer()
    dead.transport.on_ping = lambda: None
    for _ in range(40):
        rooms.time.pass_(1)
        rooms.hub.beat()
    assert alive.transport.pings
    assert dead.transport.pings == 1
    assert dead.transport.aborted
    assert rooms.hub.connections_of() == 1


async def test_event_stream_is_never_pinged(rooms):
    events = await rooms.viewer(kind="sse")
    for _ in range(100):
        rooms.time.pass_(1)
        rooms.hub.beat()
    assert not events.transport.pings
    assert not events.transport.aborted


async def test_peer_that_has_just_spoken_is_not_asked(rooms):
    peer = await rooms.viewer()
    for _ in range(10):
        rooms.time.pass_(10)
        await peer.ask("request_refresh")
        rooms.hub.beat()
    assert not peer.transport.pings
