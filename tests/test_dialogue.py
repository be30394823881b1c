"""Dialogue: every message a client may send, its answer, and that bad ones change nothing."""

from __future__ import annotations

import asyncio
import json

import pytest
from fakes import Rooms, identity
from hypothesis import given, settings
from hypothesis import strategies as st

from amiga_ws import window as window_room
from amiga_ws.patch import Operation
from amiga_ws.window import MAX_BASES


@pytest.fixture
def rooms():
    return Rooms()


def total_of(update):
    return update["data"]["overview"]["tasks"]["total"]


def names(answers):
    return [answer["event"] for answer in answers]


# -- subscribe -----------------------------------------------------------------------------------


async def test_subscribe_answers_and_then_the_state(rooms):
    peer = rooms.peer()
    subscribed, update = await peer.ask("subscribe", "mine")
    assert subscribed == {
        "event": "subscribed",
        "data": {
            "status": "subscribed",
            "config": {"hours": 24, "update_interval": 2, "delta": False, "clamped": []},
            "resumed": False,
            "why": None,
        },
        "id": "mine",
    }
    assert update["event"] == "metrics_update"
    assert "id" not in update  # the direct answer alone echoes it
    assert (update["data"]["hours"], total_of(update)) == (24, 1)
    assert update["data"]["position"] == peer.client.position


async def test_subscribe_without_interval_takes_the_servers(rooms):
    peer = Rooms(default_interval=7).peer()
    answer = (await peer.ask("subscribe"))[0]
    assert answer["data"]["config"]["update_interval"] == 7


async def test_clamping_is_disclosed(rooms):
    answer = (await rooms.peer().ask("subscribe", hours=1000, update_interval=0))[0]
    assert answer["data"]["config"] == {
        "hours": 168,
        "update_interval": 1,
        "delta": False,
        "clamped": ["hours", "update_interval"],
    }


async def test_subscribe_again_replaces_the_subscription(rooms):
    peer = await rooms.viewer(hours=24, interval=1)
    await peer.ask("subscribe", hours=48, update_interval=5)
    peer.forget()
    assert rooms.hub.hours_in_use() == {48}
    rooms.feed.total += 1
    await rooms.tick(5)
    assert [update["data"]["hours"] for update in peer.heard()] == [48]


async def test_window_that_was_asked_for_is_read_before_it_is_composed(rooms):
    rooms.feed.requests = {24: 10, 48: 20}
    one, other = await rooms.viewer(hours=24), rooms.peer()
    update = (await other.ask("subscribe", hours=48))[1]
    assert update["data"]["overview"]["claude_api"]["total_requests"] == 20
    assert rooms.feed.asked[-1] == {24, 48}
    assert one.transport.sent == []


async def test_client_that_leaves_while_its_window_is_read_leaves_nothing_behind(rooms):
    peer = rooms.peer()
    rooms.feed.gate.clear()
    asking = asyncio.create_task(peer.ask("subscribe", hours=48))
    await asyncio.sleep(0)
    rooms.hub.remove(peer.client)
    rooms.feed.gate.set()
    assert await asking == []
    assert rooms.hub.hours_in_use() == frozenset()
    await rooms.tick(3)
    assert peer.transport.sent == []


async def test_client_that_leaves_while_a_refresh_is_read_gets_nothing(rooms):
    peer = await rooms.viewer()
    rooms.feed.gate.clear()
    asking = asyncio.create_task(peer.ask("request_refresh"))
    await asyncio.sleep(0)
    rooms.hub.remove(peer.client)
    rooms.feed.gate.set()
    assert await asking == []


async def test_client_that_leaves_while_its_renewal_is_read_is_not_joined_again(rooms):
    rooms.tokens["new"] = identity()
    peer = await rooms.viewer(who=identity(left_s=1))
    await rooms.tick(1)
    rooms.feed.gate.clear()
    asking = asyncio.create_task(peer.ask("refresh_token", token="new"))  # noqa: S106 - a name in the test's table
    await asyncio.sleep(0)
    rooms.hub.remove(peer.client)
    rooms.feed.gate.set()
    await asking
    assert rooms.hub.hours_in_use() == frozenset()


# -- windows -------------------------------------------------------------------------------------


async def fill_windows(rooms, count=16):
    """Windows 10, 20, … in use."""
    return [await rooms.viewer(hours=10 * (n + 1)) for n in range(count)]


async def test_beyond_sixteen_windows_the_next_wider_one_is_served_and_disclosed(rooms):
    await fill_windows(rooms)
    for asked, served in ((55, 60), (1, 10), (159, 160), (165, 160), (168, 160)):
        config = (await rooms.peer().ask("subscribe", hours=asked))[0]["data"]["config"]
        assert (config["hours"], config["clamped"]) == (served, ["hours"])
    assert len(rooms.hub.hours_in_use()) == 16


async def test_window_in_use_is_served_as_it_is_at_the_cap(rooms):
    await fill_windows(rooms)
    config = (await rooms.peer().ask("subscribe", hours=50))[0]["data"]["config"]
    assert (config["hours"], config["clamped"]) == (50, [])


async def test_hours_clamped_twice_are_named_once(rooms):
    await fill_windows(rooms)
    config = (await rooms.peer().ask("subscribe", hours=1000))[0]["data"]["config"]
    assert (config["hours"], config["clamped"]) == (160, ["hours"])


async def test_windows_asked_for_at_once_do_not_slip_past_the_cap(rooms):
    peers = [rooms.peer() for _ in range(40)]
    rooms.feed.gate.clear()
    asking = [asyncio.create_task(peer.ask("subscribe", hours=100 + n)) for n, peer in enumerate(peers)]
    await asyncio.sleep(0)
    rooms.feed.gate.set()
    answers = await asyncio.gather(*asking)
    assert len(rooms.hub.hours_in_use()) == 16
    for asked, (subscribed, update) in enumerate(answers, 100):
        config = subscribed["data"]["config"]
        assert update["data"]["hours"] == config["hours"]
        assert (config["hours"] != asked) == (config["clamped"] == ["hours"])


async def test_window_that_became_free_is_served_again(rooms):
    peers = await fill_windows(rooms)
    await peers[0].ask("unsubscribe")
    assert (await rooms.peer().ask("subscribe", hours=55))[0]["data"]["config"]["hours"] == 55


# -- resume --------------------------------------------------------------------------------------


async def come_back(rooms, position, *, delta=True, hours=24):
    answers = await rooms.peer().ask("subscribe", hours=hours, delta=delta, resume=position)
    told = answers[0]["data"]
    return told["resumed"], told["why"], answers[1:]


async def test_resume_with_nothing_newer_sends_nothing(rooms):
    peer = await rooms.viewer()
    for delta in (True, False):
        assert await come_back(rooms, peer.client.position, delta=delta) == (True, None, [])


async def test_resume_with_something_newer_is_one_patch(rooms):
    peer = await rooms.viewer()
    position = peer.client.position
    for _ in range(5):
        rooms.feed.total += 1
        await rooms.tick()
    resumed, why, rest = await come_back(rooms, position)
    assert (resumed, why, names(rest)) == (True, None, ["metrics_patch"])
    assert rest[0]["data"]["from"] == position
    assert rest[0]["data"]["position"] == peer.client.position


async def test_resume_without_delta_replaces_an_older_state(rooms):
    peer = await rooms.viewer()
    position = peer.client.position
    rooms.feed.total += 1
    resumed, _, rest = await come_back(rooms, position, delta=False)
    assert (resumed, names(rest)) == (False, ["metrics_update"])


async def test_resume_where_a_patch_would_not_be_smaller_is_told_as_the_full_state_it_is(rooms, monkeypatch):
    position = (await rooms.viewer()).client.position
    rooms.feed.total += 1
    long = [Operation(op="replace", path="/instance", value="x" * 10_000)]
    monkeypatch.setattr(window_room, "diff", lambda base, newest: long)
    resumed, why, rest = await come_back(rooms, position)
    assert (resumed, why, names(rest)) == (False, None, ["metrics_update"])


async def test_position_of_another_life_is_told_apart(rooms):
    old = await Rooms().viewer()
    resumed, why, rest = await come_back(rooms, old.client.position)
    assert (resumed, why, names(rest)) == (False, "epoch", ["metrics_update"])


@pytest.mark.parametrize("position", ["", "x", "..", "24.1", "é.24.1", "x" * 10_000, "\n", "None"])
async def test_nonsense_position_is_another_epoch(rooms, position):
    resumed, why, rest = await come_back(rooms, position)
    assert (resumed, why, names(rest)) == (False, "epoch", ["metrics_update"])


async def test_position_of_another_window_is_told_apart(rooms):
    peer = await rooms.viewer(hours=48)
    resumed, why, rest = await come_back(rooms, peer.client.position, hours=24)
    assert (resumed, why, names(rest)) == (False, "window", ["metrics_update"])


async def test_position_of_a_window_the_cap_did_not_serve_is_told_apart(rooms):
    position = (await rooms.viewer(hours=55)).client.position
    await rooms.tick()
    rooms.hub.remove(next(iter(rooms.hub.clients.values())))
    await fill_windows(rooms)
    resumed, why, _ = await come_back(rooms, position, hours=55)
    assert (resumed, why) == (False, "window")


async def test_state_that_is_no_longer_kept_is_evicted(rooms):
    peer = await rooms.viewer()
    position = peer.client.position
    for _ in range(MAX_BASES):
        rooms.feed.total += 1
        await rooms.tick()
    resumed, why, rest = await come_back(rooms, position)
    assert (resumed, why, names(rest)) == (False, "evicted", ["metrics_update"])


@pytest.mark.parametrize("change", [".99", "9", ".-1", ".01", " "])
async def test_position_that_never_was_is_evicted(rooms, change):
    peer = await rooms.viewer()
    resumed, why, _ = await come_back(rooms, peer.client.position + change)
    assert (resumed, why) == (False, "evicted")


async def test_window_without_viewers_can_be_resumed(rooms):
    peer = await rooms.viewer()
    position = peer.client.position
    rooms.hub.remove(peer.client)
    rooms.feed.total += 1
    resumed, why, rest = await come_back(rooms, position)
    assert (resumed, why, names(rest)) == (True, None, ["metrics_patch"])


async def test_position_of_a_window_dropped_meanwhile_is_never_taken_for_a_new_one(rooms):
    """More than sixteen windows have been used since: the window starts anew, but does not count anew."""
    peer = await rooms.viewer(hours=24)
    first = peer.client.position
    rooms.hub.remove(peer.client)
    for viewer in await fill_windows(rooms, 16):
        rooms.hub.remove(viewer.client)
    rooms.feed.total += 1
    resumed, why, rest = await come_back(rooms, first)
    assert (resumed, why, names(rest)) == (False, "evicted", ["metrics_update"])
    assert rest[0]["data"]["position"] != first


async def test_position_of_a_glimpse_is_never_taken_for_a_kept_state(rooms):
    peer = await rooms.viewer(hours=24)
    glimpse = (await peer.ask("request_refresh", hours=48))[0]["data"]["position"]
    rooms.feed.total += 1
    resumed, why, rest = await come_back(rooms, glimpse, hours=48)
    assert (resumed, why, names(rest)) == (False, "evicted", ["metrics_update"])
    again = (await peer.ask("request_refresh", hours=96))[0]["data"]["position"]
    assert (await peer.ask("request_refresh", hours=96))[0]["data"]["position"] != again


# -- unsubscribe ---------------------------------------------------------------------------------


async def test_unsubscribe_ends_the_news(rooms):
    peer = await rooms.viewer()
    assert (await peer.ask("unsubscribe", 7))[0] == {
        "event": "unsubscribed",
        "data": {"status": "unsubscribed"},
        "id": 7,
    }
    peer.forget()
    rooms.feed.total += 1
    await rooms.tick(5)
    assert peer.transport.sent == []
    assert rooms.hub.hours_in_use() == frozenset()


async def test_unsubscribe_without_a_subscription_is_harmless(rooms):
    assert names(await rooms.peer().ask("unsubscribe")) == ["unsubscribed"]


# -- refresh -------------------------------------------------------------------------------------


async def test_refresh_is_a_full_update_of_the_newest_state_with_the_id(rooms):
    peer = await rooms.viewer(delta=True)
    rooms.feed.total += 1
    (update,) = await peer.ask("request_refresh", "r1")
    assert (update["event"], update["id"], total_of(update)) == ("metrics_update", "r1", rooms.feed.total)
    assert update["data"]["position"] == peer.client.position


async def test_refresh_moves_the_base_of_its_own_window(rooms):
    peer = await rooms.viewer(delta=True)
    rooms.feed.total += 1
    (update,) = await peer.ask("request_refresh")
    peer.forget()
    await rooms.tick()
    assert peer.transport.sent == []  # it has that state already
    rooms.feed.total += 1
    await rooms.tick()
    assert [patch["data"]["from"] for patch in peer.heard()] == [update["data"]["position"]]


async def test_refresh_with_nothing_new_answers_all_the_same(rooms):
    peer = await rooms.viewer()
    position = peer.client.position
    (update,) = await peer.ask("request_refresh")
    assert update["data"]["position"] == peer.client.position == position


async def test_refresh_of_another_window_moves_neither_position_nor_base(rooms):
    peer = await rooms.viewer(hours=24, delta=True)
    position = peer.client.position
    (other,) = await peer.ask("request_refresh", hours=48)
    assert other["data"]["hours"] == 48
    assert peer.client.position == position
    rooms.feed.total += 1
    peer.forget()
    await rooms.tick()
    assert [patch["data"]["from"] for patch in peer.heard()] == [position]
    assert rooms.hub.hours_in_use() == {24}


async def test_refresh_of_another_window_in_use_shares_its_positions(rooms):
    one, other = await rooms.viewer(hours=24), await rooms.viewer(hours=48)
    (update,) = await one.ask("request_refresh", hours=48)
    assert update["data"]["position"] == other.client.position


async def test_refresh_without_subscription_is_of_a_day(rooms):
    peer = rooms.peer()
    (update,) = await peer.ask("request_refresh")
    assert update["data"]["hours"] == 24
    assert peer.client.position is None


@pytest.mark.parametrize(("asked", "served"), [(0, 1), (1e9, 168), (24.0, 24)])
async def test_refresh_clamps_its_hours(rooms, asked, served):
    (update,) = await rooms.peer().ask("request_refresh", hours=asked)
    assert update["data"]["hours"] == served


async def test_too_many_refreshes_name_their_limit_and_ask_no_collector(rooms):
    peer = rooms.peer(refreshes=1)
    await peer.ask("request_refresh")
    asked = len(rooms.feed.asked)
    (error,) = await peer.ask("request_refresh", "r2")
    assert (error["event"], error["data"]["code"], error["id"]) == ("error", "rate_limited", "r2")
    assert "limits.refreshes_per_second" in error["data"]["error"]
    assert 0 < error["data"]["retry_ms"] <= 1001
    assert len(rooms.feed.asked) == asked
    rooms.time.pass_(error["data"]["retry_ms"] / 1000)
    assert names(await peer.ask("request_refresh")) == ["metrics_update"]


# -- interval ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("asked", "set_to"), [(5, 5), (1.5, 2), (0, 1), (1000, 60), (60.0, 60)])
async def test_interval_is_set_and_clamped(rooms, asked, set_to):
    peer = await rooms.viewer(interval=2)
    (answer,) = await peer.ask("set_interval", 3, interval=asked)
    assert answer == {"event": "interval_updated", "data": {"interval": set_to}, "id": 3}
    assert peer.client.config.update_interval == set_to
    assert peer.client.config.hours == 24


async def test_new_interval_counts_from_the_next_tick(rooms):
    peer = await rooms.viewer(interval=60)
    await peer.ask("set_interval", interval=1)
    peer.forget()
    rooms.feed.total += 1
    await rooms.tick()
    assert peer.names() == ["metrics_update"]


async def test_interval_without_subscription_says_so(rooms):
    (error,) = await rooms.peer().ask("set_interval", "i", interval=5)
    assert (error["data"]["code"], error["id"], error["data"]["id"]) == ("not_subscribed", "i", "i")


# -- bad messages --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "invalid_json"),
        ('{"event": "nothing"}', "unknown_event"),
        ('{"event": "subscribe", "data": {"hours": "1"}}', "invalid_request"),
        ('{"event": "subscribe", "data": {"hours": 1.5}}', "invalid_request"),
        ('{"event": "request_refresh", "data": {"hours": 1.5}}', "invalid_request"),
        ('{"event": "subscribe", "data": {"hour": 1}}', "invalid_request"),
        ('{"event": "authenticate", "data": {"token": "t"}}', "invalid_request"),
        ('{"event": "refresh_token", "data": {"token": "t"}}', "unauthorized"),
    ],
)
async def test_bad_message_is_answered_and_changes_nothing(rooms, text, code):
    peer = await rooms.viewer(hours=48)
    config, position = peer.client.config, peer.client.position
    await peer.send(text)
    (error,) = peer.heard()
    assert error["event"] == "error"
    assert error["data"]["code"] == code
    assert error["data"]["timestamp"] == rooms.time.wall_s
    assert (peer.client.config, peer.client.position) == (config, position)
    assert rooms.hub.hours_in_use() == {48}
    assert peer.present


@pytest.mark.parametrize("message_id", ["a", 7, 0, ""])
async def test_error_carries_the_id_of_what_it_answers(rooms, message_id):
    (error,) = await rooms.peer().ask("nothing", message_id)
    assert (error["id"], error["data"]["id"]) == (message_id, message_id)
    (nameless,) = await rooms.peer().ask("nothing")
    assert "id" not in nameless["data"]


async def test_too_many_messages_name_their_limit(rooms):
    peer = rooms.peer(messages=2)
    for _ in range(2):
        await peer.ask("unsubscribe")
    (error,) = await peer.ask("unsubscribe")
    assert error["data"]["code"] == "rate_limited"
    assert "limits.messages_per_second" in error["data"]["error"]
    assert error["data"]["retry_ms"] > 0
    assert peer.present


async def test_ten_limits_hit_in_thirty_seconds_end_the_connection(rooms):
    peer = rooms.peer(messages=1)
    for _ in range(11):
        assert peer.present
        await peer.ask("unsubscribe")
    assert not peer.present
    bye = peer.heard()[-1]["data"]
    assert (bye["code"], bye["reconnect"]) == (4005, True)
    assert "limits.messages_per_second" in bye["reason"]
    assert bye["retry_ms"] > 0


async def test_ten_messages_that_do_not_parse_end_the_connection(rooms):
    peer = rooms.peer()
    for _ in range(10):
        assert peer.present
        await peer.send("{")
    assert not peer.present
    bye = peer.heard()[-1]["data"]
    assert (bye["code"], bye["reconnect"], bye["retry_ms"]) == (4506, False, None)


async def test_a_mistake_now_and_then_ends_nothing(rooms):
    peer = rooms.peer()
    for _ in range(50):
        await peer.send("{")
        rooms.time.pass_(4)
    assert peer.present


async def test_peer_that_keeps_sending_after_its_end_is_answered_and_logged_no_more(rooms, caplog):
    caplog.set_level("INFO")
    peer = rooms.peer()
    for _ in range(10):
        await peer.send("{")
    sent, lines = len(peer.transport.sent), len(caplog.records)
    for text in ("{", '{"event": "subscribe"}', '{"event": "request_refresh"}') * 100:
        await peer.send(text)
    assert (len(peer.transport.sent), len(caplog.records)) == (sent, lines)
    assert len(peer.transport.closes) == 1
    assert rooms.hub.hours_in_use() == frozenset()


async def test_bad_messages_do_not_push_news_away(rooms):
    peer = await rooms.viewer()
    rooms.feed.total += 1
    await peer.send("{")
    await rooms.tick()
    assert peer.names() == ["error", "metrics_update"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
EVENTS = ["subscribe", "unsubscribe", "request_refresh", "set_interval", "refresh_token", "authenticate"]
FIELDS = ["hours", "update_interval", "delta", "resume", "interval", "token"]
NUMBERS = st.integers(-5, 200) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = NUMBERS | st.booleans() | st.text(max_size=20) | JSON
MESSAGES = st.builds(
    lambda event, data, message_id: json.dumps({"event": event, "data": data, "id": message_id}),
    st.sampled_from(EVENTS),
    st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3),
    st.none() | st.integers() | st.text(max_size=5),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(MESSAGES | st.text(max_size=60), max_size=25))
def test_no_sequence_of_messages_breaks_the_hub(texts):
    async def talk():
        rooms = Rooms()
        peers = [rooms.peer(), rooms.peer()]
        for number, text in enumerate(texts):
            await peers[number % 2].send(text)
            if number % 5 == 0:
                rooms.feed.total += 1
                await rooms.tick()
        for peer in peers:
            rooms.hub.remove(peer.client)
        assert rooms.hub.hours_in_use() == frozenset()
        assert rooms.hub.connections_of() == 0

    asyncio.run(talk())
