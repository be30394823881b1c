"""The pages' client module in Node, against our server and against servers that are odd or hostile."""

from __future__ import annotations

import json
import signal
import time

import pytest
from nodejs import Peer, comes_true, needs_node
from odd import GREETING, SUBSCRIBED, Odd, patch, snapshot, update

pytestmark = needs_node

FORGED = "eyJ.eyJ.x"
HURRY = 20  # a minute of the client's is three seconds of ours
HURRIED = {"hurry": HURRY, "beyond": 20_000}  # but answers have the time they have


def live(url, **options):
    return Peer("live.mjs", url, json.dumps(options))


def live_as(server, **options):
    return live(server.url, **{"token": server.token(), "interval": 1, "delta": True} | options)


def call(peer, method, *arguments):
    peer.say(method, list(arguments))


def document(peer):
    call(peer, "document")
    return peer.until("document")


def phases(peer):
    return [line["phase"] for line in peer.seen if "phase" in line]


def uncaught(peer):
    return [line["uncaught"] for line in peer.seen if "uncaught" in line]


# -- our server ---------------------------------------------------------------------------------


def test_it_lives_in_node_on_a_websocket_that_is_handed_to_it(threaded):
    with threaded() as server, live_as(server) as peer:
        assert peer.until("phase", "live")["transport"] == "ws"
        assert peer.until("snapshot", "metrics_update")["total"] == 7
        server.amiga.total = 8
        while peer.until("snapshot", "metrics_patch")["total"] != 8:
            pass
        call(peer, "refresh")
        assert peer.until("answer", "refresh")["value"]["event"] == "metrics_update"


@pytest.mark.parametrize("options", [{"plain": True}, {"transports": ["poll"]}], ids=["sse", "poll"])
def test_it_lives_in_node_without_a_websocket(threaded, options):
    with threaded() as server, live_as(server, **options) as peer:
        assert peer.until("phase", "live")["transport"] in ("sse", "poll")
        assert peer.until("snapshot")["total"] == 7
        call(peer, "refresh")
        peer.until("answer", "refresh")
        assert document(peer)["document"]["overview"]["tasks"]["total"] == 7


def test_windows_chosen_in_haste_end_at_the_last(threaded):
    with threaded() as server, live_as(server) as peer:
        peer.until("snapshot")
        for hours in (1, 6, 48):
            call(peer, "setHours", hours)
        while peer.until("frame", "subscribed")["data"]["config"]["hours"] != 48:
            pass
        peer.until("snapshot")
        assert document(peer)["document"]["hours"] == 48


def test_new_token_goes_into_the_running_stream_and_is_not_told(threaded):
    with threaded() as server, live_as(server) as peer:
        peer.until("phase", "live")
        token = server.token()
        call(peer, "renew", token)
        assert peer.until("answer", "renew")["value"]["event"] == "token_refreshed"
        assert token not in json.dumps(peer.seen)


@pytest.mark.parametrize("transport", ["ws", "sse", "poll"])
def test_bad_token_is_tried_once(threaded, transport):
    with threaded() as server, live(server.url, token=FORGED, transports=[transport], hurry=HURRY) as peer:
        assert "token" in peer.until("phase", "signedout")["reason"]
        refused = len(server.services.refusals.newest())
        time.sleep(1)  # twenty seconds of the client's: it must not come back
        assert len(server.services.refusals.newest()) == refused
        call(peer, "renew", server.token())
        peer.until("phase", "live")


# -- nonsense -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame",
    ["not JSON", "[]", "null", '{"event": 5}', b"\0\1", "[" * 200_000, '{"event": "metrics_update"}'],
    ids=["text", "list", "null", "number", "binary", "deep", "no greeting"],
)
def test_what_is_no_frame_ends_the_stream_and_is_tried_again_later(frame):
    with Odd([frame]) as odd, live(odd.url, transports=["ws"]) as peer:
        for attempt in (1, 2):
            waits = peer.until("attempt", attempt)
            assert waits["code"] in (1002, 1007)
            assert waits["phase"] == "waiting"
        assert uncaught(peer) == []


@pytest.mark.parametrize(
    "data",
    [None, {}, [], 5, snapshot(tasks=None), snapshot(position=5), snapshot(sources=[]), snapshot(hours="24")],
    ids=["null", "empty", "list", "number", "no tasks", "position", "sources", "hours"],
)
def test_state_that_makes_no_sense_is_not_shown(data):
    answer = [SUBSCRIBED, {"event": "metrics_update", "data": data}]
    with Odd([GREETING], answer=lambda _: answer) as odd, live(odd.url) as peer:
        assert "makes no sense" in peer.until("phase", "waiting")["reason"]
        assert document(peer)["document"] is None
        assert uncaught(peer) == []


SOUND = {"op": "replace", "path": "/overview/tasks/total", "value": 8}


@pytest.mark.parametrize(
    "frame",
    [
        patch(SOUND, **{"from": "odd.24.9"}),
        patch(patch=None),
        patch(patch={"length": 1}),
        patch({"op": "replace", "path": "", "value": None}),
        patch({"op": "remove", "path": "/tasks"}),
        patch({"op": "replace", "path": 5}),
        patch({"op": "test", "path": "/hours", "value": 24}),
        patch({"op": "replace", "path": "/overview/__proto__/polluted", "value": 1}),
        patch({"op": "replace", "path": "/constructor/prototype/polluted", "value": 1}),
        patch(*[SOUND] * 10_001),
        {"event": "metrics_patch", "data": None},
    ],
    ids=range(11),
)
def test_patch_that_does_not_fit_is_answered_by_asking_for_the_whole(frame):
    answers = iter([[SUBSCRIBED, update(), frame], [SUBSCRIBED, update(position="odd.24.5")]])
    with Odd([GREETING], answer=lambda _: next(answers, ())) as odd, live(odd.url) as peer:
        assert peer.until("position")["position"] == "odd.24.1"
        assert peer.until("position")["position"] == "odd.24.5"
        assert document(peer)["polluted"] is None
        assert [message["data"].get("resume") for message in odd.heard] == [None, None]
        assert uncaught(peer) == []
        assert "waiting" not in phases(peer)


def test_data_may_have_any_name():
    """`__proto__` is as good a name of a model as any."""
    named = {"op": "add", "path": "/overview/__proto__", "value": {"polluted": 1}}
    deeper = {"op": "replace", "path": "/overview/__proto__/polluted", "value": 2}
    answer = [SUBSCRIBED, update(), patch(named, deeper)]
    with Odd([GREETING], answer=lambda _: answer) as odd, live(odd.url) as peer:
        peer.until("snapshot", "metrics_patch")
        told = document(peer)
        assert told["document"]["overview"]["__proto__"] == {"polluted": 2}
        assert told["polluted"] is None


@pytest.mark.parametrize(
    ("retry_ms", "least", "most"),
    [(-5, 100, 250), (0, 100, 250), (1e15, 299_000, 300_000), ("soon", 300, 20_000)],
)
def test_pause_the_server_asks_for_is_kept_within_reason(retry_ms, least, most):
    bye = {"event": "bye", "data": {"code": 4001, "reason": {}, "reconnect": True, "retry_ms": retry_ms}}
    with Odd([GREETING, bye]) as odd, live(odd.url) as peer:
        peer.until("notice", "bye")
        odd.hang_up(4001)
        waits = peer.until("phase", "waiting")
        assert least <= waits["wait"] <= most
        assert waits["reason"] == "The server is restarting."


# -- silence ------------------------------------------------------------------------------------


@pytest.mark.parametrize("beats", [15, 0, -1, 1e12, "often", None])
def test_stream_that_falls_silent_is_given_up(beats):
    greeting = {"event": "connected", "data": {"heartbeat_interval": beats}}
    with Odd([greeting]) as odd, live(odd.url, subscribe=False, **HURRIED) as peer:
        peer.until("phase", "live")
        since = time.monotonic()
        assert "silent" in peer.until("phase", "waiting")["reason"]
        assert (time.monotonic() - since) * HURRY > 10


def test_proxy_that_drops_upgrades_gets_an_event_stream_until_it_takes_them():
    greeting = f"event: connected\ndata: {json.dumps(GREETING['data'])}\n\n"
    state = f"data: {json.dumps(snapshot())}\n\n"
    with Odd([GREETING], upgrades=False, events=[greeting, state]) as odd, live(odd.url, **HURRIED) as peer:
        assert peer.until("phase", "live")["transport"] == "sse"
        assert odd.attempts[:3] == ["ws", "ws", "sse"]
        peer.until("snapshot")
        comes_true(lambda: odd.attempts.count("ws") > 2)
        assert "waiting" not in phases(peer)[-1:]
        odd.upgrades = True
        while peer.until("phase", "live")["transport"] != "ws":
            pass


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"], ids=["LF", "CR", "CRLF"])
def test_event_stream_may_come_in_any_pieces(end):
    blocks = [
        ["event: connected", f"data: {json.dumps(GREETING['data'])}"],
        [f"data:{json.dumps(snapshot())}"],
    ]
    text = ": a comment, with data: in it" + end + end
    text += "".join(end.join([*block, "", ""]) for block in blocks)
    with Odd(events=[*text]) as odd, live(odd.url, transports=["sse"]) as peer:
        assert peer.until("snapshot")["total"] == 7
        assert peer.seen[-2]["frame"] == "metrics_update"


def test_line_without_an_end_ends_the_stream():
    events = ["data: " + "x" * 2**20, *["x" * 2**20] * 16]
    with Odd(events=events) as odd, live(odd.url, transports=["sse"]) as peer:
        assert "without an end" in peer.until("phase", "waiting")["reason"]


def test_proxies_that_take_and_hand_nothing_on_end_in_polling():
    with Odd(upgrades=True, events=[]) as odd, live(odd.url, hurry=HURRY) as peer:
        assert peer.until("phase", "live")["transport"] == "poll"
        assert odd.attempts[:5] == ["ws", "ws", "sse", "sse", "poll"]
        assert peer.until("snapshot")["total"] == 7


def test_event_stream_is_opened_anew_after_a_sleep_that_one_clock_has_not_noticed():
    greeting = f"event: connected\ndata: {json.dumps(GREETING['data'])}\n\n"
    state = f"data: {json.dumps(snapshot())}\n\n"
    with Odd(events=[greeting, state]) as odd, live(odd.url, transports=["sse"]) as peer:
        peer.until("snapshot")
        peer.say("sleep", 60)
        peer.until("phase", "connecting")
        peer.until("snapshot")
        assert odd.attempts == ["sse", "sse"]


def test_device_that_slept_asks_before_it_gives_the_stream_up():
    greeting = {"event": "connected", "data": {"heartbeat_interval": 2}}
    beat = {"event": "heartbeat", "data": {}}
    with Odd([greeting, update()], answer=lambda _: [beat]) as odd, live(odd.url) as peer:
        peer.until("snapshot")
        peer.until("frame", "heartbeat")  # the answer to subscribe: nothing is under way when it falls asleep
        peer.process.send_signal(signal.SIGSTOP)
        time.sleep(8)  # more than 2.5 heartbeats and 2 s: this is no clock of ours to move
        peer.process.send_signal(signal.SIGCONT)
        comes_true(lambda: "request_refresh" in [each["event"] for each in odd.heard])
        peer.until("frame", "heartbeat")
        assert "waiting" not in phases(peer)
        assert odd.attempts == ["ws"]
