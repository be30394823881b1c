"""`WS /ws`: handshake, conversation, limits, and how it ends."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import pytest
from servers import RawWebSocket, eventually, handshake, masked_frame

from amiga_ws.handlers.websocket import MetricsSocket
from amiga_ws.snapshot import Task


async def opened(server, **config):
    """A socket that has been greeted and has its first state."""
    peer = await server.websocket()
    assert (await peer.next())["event"] == "connected"
    await peer.say("subscribe", config)
    assert (await peer.next())["event"] == "subscribed"
    assert (await peer.next())["event"] == "metrics_update"
    return peer


# -- handshake ----------------------------------------------------------------------------------


async def test_a_plain_request_is_426(server):
    reply = await server.ask_as(server.token(), "/ws")
    assert reply.status == 426
    assert reply.header("Upgrade") == "websocket"
    assert set(reply.json) == {"error", "code", "ref"}


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("Sec-WebSocket-Version", "12", 426),
        ("Sec-WebSocket-Version", "", 426),
        ("Sec-WebSocket-Key", "short", 400),
        ("Sec-WebSocket-Key", "", 400),
        ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==, AAAAAAAAAAAAAAAAAAAAAA==", 400),
        ("Connection", "keep-alive", 400),
        ("Upgrade", "h2c", 426),
    ],
)
async def test_a_handshake_that_is_none_is_refused_in_json(server, name, value, status):
    headers = dict(handshake()) | {name: value}
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    lines = "".join(f"{key}: {text}\r\n" for key, text in headers.items() if text)
    writer.write(
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"Authorization: Bearer {server.token()}\r\n{lines}\r\n".encode()
    )
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    writer.close()
    assert head.startswith(f"HTTP/1.1 {status} ")
    assert "application/json" in head
    if status == 426:
        assert "Sec-Websocket-Version: 13" in head


async def test_connected_tells_who_one_is_and_the_limits(server):
    peer = await server.websocket()
    message = await peer.next()
    assert message["event"] == "connected"
    data = message["data"]
    assert (data["status"], data["protocol"], data["subject"]) == ("connected", "amiga.v1", "ada")
    assert data["scopes"] == ["metrics:read"]
    assert 3590 < data["expires_in"] <= 3600
    assert data["heartbeat_interval"] == 15
    limits = server.settings.limits
    assert data["limits"] == {
        "messages_per_second": limits.messages_per_second,
        "messages_burst": limits.messages_burst,
        "refreshes_per_second": limits.refreshes_per_second,
        "refreshes_burst": limits.refreshes_burst,
        "message_bytes": limits.message_bytes,
        "connections_per_subject": limits.connections_per_subject,
    }


# -- conversation -------------------------------------------------------------------------------


async def test_subscribe_is_answered_and_followed_by_the_state(server):
    peer = await server.websocket()
    await peer.next()
    await peer.say("subscribe", {"hours": 48, "update_interval": 5}, id="mine")
    subscribed, update = await peer.next(), await peer.next()
    assert subscribed == {
        "event": "subscribed",
        "data": {
            "config": {"hours": 48, "update_interval": 5, "delta": False, "clamped": []},
            "resumed": False,
            "why": None,
            "status": "subscribed",
        },
        "id": "mine",
    }
    assert update["event"] == "metrics_update"
    assert update["data"]["hours"] == 48
    assert "id" not in update


async def test_nothing_is_pushed_before_subscribe_and_after_unsubscribe(server):
    peer = await server.websocket()
    await peer.next()
    server.amiga.total += 1
    await server.broadcaster.tick()
    await peer.say("subscribe")
    assert (await peer.next())["event"] == "subscribed"
    await peer.next()
    await peer.say("unsubscribe", id=7)
    assert await peer.next() == {
        "event": "unsubscribed",
        "data": {"status": "unsubscribed"},
        "id": 7,
    }
    assert not server.hub.hours_in_use()
    server.amiga.total += 1
    await server.broadcaster.tick()
    await peer.say("request_refresh", id=8)
    answer = await peer.next()
    assert (answer["event"], answer["id"]) == ("metrics_update", 8)


async def test_clamped_numbers_are_named(server):
    peer = await server.websocket()
    await peer.next()
    for asked, config in (
        ({"hours": 0, "update_interval": 0}, {"hours": 1, "update_interval": 1}),
        ({"hours": 1e9, "update_interval": 1e9}, {"hours": 168, "update_interval": 60}),
        ({"hours": -(10**18), "update_interval": -1}, {"hours": 1, "update_interval": 1}),
    ):
        await peer.say("subscribe", asked)
        subscribed = await peer.until("subscribed")
        clamped = ["hours", "update_interval"]
        assert subscribed["data"]["config"] == config | {"delta": False, "clamped": clamped}
    await peer.say("subscribe", {"hours": 24.0, "update_interval": 1.2})
    assert (await peer.until("subscribed"))["data"]["config"]["clamped"] == []


async def test_an_update_arrives_by_itself(server):
    peer = await opened(server, update_interval=1)
    server.amiga.total = 8
    update = await peer.until("metrics_update")
    assert update["data"]["overview"]["tasks"]["total"] == 8


async def test_set_interval_needs_a_subscription_and_is_answered(server):
    peer = await server.websocket()
    await peer.next()
    await peer.say("set_interval", {"interval": 5}, id=1)
    error = await peer.next()
    assert (error["event"], error["data"]["code"], error["id"]) == ("error", "not_subscribed", 1)
    await peer.say("subscribe")
    await peer.until("metrics_update")
    await peer.say("set_interval", {"interval": 0.5}, id=2)
    assert await peer.next() == {"event": "interval_updated", "data": {"interval": 1}, "id": 2}


async def test_request_refresh_of_another_window_leaves_the_subscription_alone(server):
    peer = await opened(server, hours=24)
    await peer.say("request_refresh", {"hours": 3}, id=1)
    other = await peer.next()
    assert (other["data"]["hours"], other["id"]) == (3, 1)
    assert server.hub.hours_in_use() == {24}
    await peer.say("request_refresh", id=2)
    assert (await peer.next())["data"]["hours"] == 24


async def test_a_patch_turns_the_state_before_into_the_state_after(server):
    jsonpatch = pytest.importorskip("jsonpatch")
    peer = await server.websocket()
    await peer.next()
    server.amiga.tasks = [Task(task_id=f"task_{i}", status="running", description="x" * 50) for i in range(9)]
    await peer.say("subscribe", {"delta": True, "update_interval": 1})
    assert (await peer.next())["data"]["config"]["delta"] is True
    state = (await peer.next())["data"]
    server.amiga.total = 99
    patch = (await peer.until("metrics_patch"))["data"]
    assert (patch["from"], patch["hours"]) == (state["position"], 24)
    after = jsonpatch.apply_patch(state, patch["patch"])
    after |= {"position": patch["position"], "timestamp": patch["timestamp"]}
    await peer.say("request_refresh")
    full = (await peer.until("metrics_update"))["data"]
    assert after["overview"]["tasks"]["total"] == 99
    assert {**after, "sources": None} == {**full, "sources": None}


# -- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("", "invalid_json"),
        ("{", "invalid_json"),
        ("[" * 5000, "invalid_request"),
        ('{"event":"subscribe","data":' + '{"a":' * 2000, "invalid_json"),
        ('"text"', "invalid_request"),
        ("null", "invalid_request"),
        ('{"data":{}}', "invalid_request"),
        ('{"event":1}', "invalid_request"),
        ('{"event":"shutdown"}', "unknown_event"),
        ('{"event":"subscribe","data":[]}', "invalid_request"),
        ('{"event":"subscribe","data":{"hours":"24"}}', "invalid_request"),
        ('{"event":"subscribe","data":{"hours":1.5}}', "invalid_request"),
        ('{"event":"subscribe","data":{"hours":true}}', "invalid_request"),
        ('{"event":"subscribe","data":{"hours":1e400}}', "invalid_request"),
        ('{"event":"subscribe","data":{"colour":1}}', "invalid_request"),
        ('{"event":"subscribe","extra":1}', "invalid_request"),
        ('{"event":"set_interval"}', "invalid_request"),
        ('{"event":"request_refresh","data":{"hours":null,"x":1}}', "invalid_request"),
        ('{"event":"authenticate","data":{"token":"x"}}', "invalid_request"),
    ],
)
async def test_bad_input_is_an_error_and_costs_neither_connection_nor_subscription(server, message, code):
    peer = await opened(server)
    await peer.send(0x1, message.encode())
    error = await peer.next()
    assert error["event"] == "error"
    assert error["data"]["code"] == code, error
    assert error["data"]["error"]
    await peer.say("request_refresh")
    assert (await peer.next())["event"] == "metrics_update"
    assert server.hub.hours_in_use() == {24}


async def test_an_error_echoes_the_id_of_what_was_wrong(server):
    peer = await opened(server)
    for sent in ("mine", 12, 0, ""):
        await peer.say("nonsense", id=sent)
        assert (await peer.next())["id"] == sent


# -- limits -------------------------------------------------------------------------------------


async def test_messages_come_at_their_rate(start):
    server = await start("limits.messages_burst=3", "limits.messages_per_second=0.5")
    peer = await server.websocket()
    await peer.next()
    for _ in range(3):
        await peer.say("unsubscribe")
        assert (await peer.next())["event"] == "unsubscribed"
    await peer.say("unsubscribe")
    error = await peer.next()
    assert error["data"]["code"] == "rate_limited"
    assert "limits.messages_per_second" in error["data"]["error"]
    assert 0 < error["data"]["retry_ms"] <= 2001
    server.ahead_s += 2
    await peer.say("unsubscribe")
    assert (await peer.next())["event"] == "unsubscribed"


async def test_refreshes_have_a_rate_of_their_own(start):
    server = await start("limits.refreshes_burst=1", "limits.refreshes_per_second=0.5")
    peer = await server.websocket()
    await peer.next()
    await peer.say("request_refresh")
    assert (await peer.next())["event"] == "metrics_update"
    await peer.say("request_refresh", id="again")
    error = await peer.next()
    assert (error["data"]["code"], error["id"]) == ("rate_limited", "again")
    assert "limits.refreshes_per_second" in error["data"]["error"]
    await peer.say("unsubscribe")
    assert (await peer.next())["event"] == "unsubscribed"


async def test_ten_messages_over_the_rate_end_the_connection(start):
    server = await start("limits.messages_burst=1", "limits.messages_per_second=0.01")
    peer = await server.websocket()
    for _ in range(12):
        await peer.say("unsubscribe")
    bye = (await peer.until("bye"))["data"]
    assert (bye["code"], bye["reconnect"]) == (4005, True)
    assert (await peer.closed())[0] == 4005


async def test_ten_messages_that_do_not_parse_end_the_connection(server):
    peer = await server.websocket()
    for _ in range(10):
        await peer.send(0x1, b"{")
    bye = (await peer.until("bye"))["data"]
    assert (bye["code"], bye["reconnect"], bye["retry_ms"]) == (4506, False, None)
    assert (await peer.closed())[0] == 4506
    assert not server.hub.connections_of()


async def test_a_message_over_the_limit_is_1009_also_in_fragments(start):
    server = await start("limits.message_bytes=1024")
    peer = await server.websocket()
    await peer.send(0x1, b"x" * 1024)
    assert (await peer.until("error"))["data"]["code"] == "invalid_json"
    await peer.send(0x1, b"x" * 1025)
    assert (await peer.closed())[0] == 1009
    peer = await server.websocket()
    await peer.send(0x1, b"x" * 1000, final=False)
    await peer.send(0x0, b"x" * 25)
    assert (await peer.closed())[0] == 1009
    await eventually(lambda: not server.hub.connections_of())


async def test_binary_is_1003_before_it_is_read(server):
    peer = await server.websocket()
    await peer.send_raw(b"\x82\xfe\x10\x00")  # 4096 bytes are to come
    bye = (await peer.until("bye"))["data"]
    assert (bye["code"], bye["reconnect"], bye["retry_ms"]) == (1003, False, None)
    assert (await peer.closed())[0] == 1003
    assert await peer.ended()
    assert not server.hub.connections_of()


async def test_a_message_of_the_greatest_length_there_may_be_is_read(start):
    server = await start("limits.message_bytes=1048576")
    peer = await server.websocket()
    await peer.send(0x1, b"x" * 1048576)
    assert (await peer.until("error"))["data"]["code"] == "invalid_json"


async def test_a_message_has_at_most_a_thousand_fragments(server):
    peer = await server.websocket()
    text = b'{"event":"unsubscribe"}'
    fragments = [masked_frame(0x1, text), *[masked_frame(0x0)] * 998, masked_frame(0x80)]
    await peer.send_raw(b"".join(fragments))
    await peer.until("unsubscribed")
    peer = await server.websocket()
    await peer.send_raw(b"".join([fragments[0], *fragments[1:-1], *fragments[1:]]))
    assert (await peer.until("bye"))["data"]["code"] == 1009
    assert (await peer.closed())[0] == 1009


@pytest.mark.parametrize(
    "flood",
    [
        masked_frame(0x89, b"?") * 20,
        masked_frame(0x8A) * 20,
        (masked_frame(0x1, b"{}") + masked_frame(0x0) * 360 + masked_frame(0x80)) * 3,
    ],
    ids=["pings", "pongs", "empty fragments"],
)
@pytest.mark.parametrize("known", [True, False], ids=["known", "without credential"])
async def test_a_flood_of_small_frames_is_4005(start, flood, known):
    """All of them count: with these limits there is room for 1,015 frames and ten pings, and a few more a second."""
    server = await start("limits.messages_burst=3", "limits.messages_per_second=1")
    other = await opened(server)
    peer = await server.websocket(None if known else {})
    await peer.send_raw(flood)
    if known or flood[0] != 0x1:  # without a credential the first message is the last
        assert (await peer.until("bye"))["data"]["code"] == 4005
        assert (await peer.closed())[0] == 4005
    else:
        assert (await peer.closed())[0] == 4501
    assert await peer.ended()
    await other.say("request_refresh")
    await other.until("metrics_update")


@pytest.mark.parametrize("first", [0x89, 0x8A], ids=["pings", "pongs"])
async def test_pings_are_as_many_as_messages(server, first):
    """Each ping is answered, so each costs a system call."""
    limits = server.settings.limits
    peer = await server.websocket()
    await peer.send_raw(masked_frame(first) * limits.messages_burst)
    await peer.send(0x1, b'{"event":"unsubscribe"}')
    await peer.until("unsubscribed")
    await peer.send_raw(masked_frame(first) * 100)
    assert (await peer.until("bye"))["data"]["code"] == 4005
    assert (await peer.closed())[0] == 4005


async def test_who_goes_on_after_our_close_frame_is_soon_not_read_any_more(server, monkeypatch):
    """What was on its way is looked at, and then nothing but the end."""
    seen = []
    arrived = MetricsSocket.frame_arrived
    monkeypatch.setattr(
        MetricsSocket, "frame_arrived", lambda self, *frame: (seen.append(frame), arrived(self, *frame))
    )
    peer = await server.websocket()
    await peer.send_raw(masked_frame(0x81, b"{") * 900)
    assert (await peer.closed())[0] == 4506
    assert await peer.ended()
    assert len(seen) < 50


async def test_a_peer_that_goes_on_after_its_end_is_cut(server):
    """It is given a second to take what it was told; what it sends meanwhile is thrown away unread."""
    peer = await server.websocket()
    client = next(iter(server.hub.clients.values()))
    await peer.send_raw(masked_frame(0x3))
    with suppress(ConnectionError):
        for _ in range(64):  # four times what it takes in
            await peer.send_raw(b"x" * 65536)
    await eventually(client.transport.closed)


# -- how it ends --------------------------------------------------------------------------------


async def test_a_close_is_answered_and_forgotten(server):
    peer = await opened(server)
    await peer.send(0x8, (1000).to_bytes(2, "big"))
    assert (await peer.closed())[0] == 1000
    await eventually(lambda: not server.hub.connections_of())
    assert not server.hub.hours_in_use()


@pytest.mark.parametrize(
    ("opcode", "payload", "final"),
    [
        (0x1, b"\xff\xfe", True),  # no UTF-8
        (0x3, b"", True),  # reserved opcode
        (0x9, b"x" * 126, True),  # a long ping
        (0x9, b"", False),  # a ping in fragments
        (0x0, b"", True),  # a continuation of nothing
        (0x8, b"\x03", True),  # half a close code
    ],
)
async def test_a_frame_that_breaks_the_protocol_ends_its_connection_quietly(server, opcode, payload, final):
    """The fixture sees to it that no traceback is logged."""
    peer = await opened(server)
    await peer.send(opcode, payload, final=final)
    await peer.closed()
    peer.close()
    await eventually(lambda: not server.hub.connections_of())


async def test_a_ping_is_answered_with_its_payload(server):
    peer = await server.websocket()
    await peer.next()
    await peer.send(0x9, b"here?")
    assert await peer.frame() == (0xA, b"here?")


async def test_each_turn_of_the_loop_takes_one_frame_of_a_connection(start, monkeypatch):
    """So who sends many holds up nobody else."""
    server = await start("limits.messages_burst=200")
    peer = await server.websocket()
    loop, turn, turns = asyncio.get_running_loop(), 0, []

    def begin_turn():
        nonlocal turn, handle
        turn += 1
        handle = loop.call_soon(begin_turn)

    monkeypatch.setattr(MetricsSocket, "on_ping", lambda _, data: turns.append(turn))
    handle = loop.call_soon(begin_turn)
    await peer.send_raw(masked_frame(0x89, b"?") * 200)
    await eventually(lambda: len(turns) == 200)
    handle.cancel()
    assert len(set(turns)) == 200


async def test_who_was_owed_a_state_because_of_pongs_gets_it_when_they_have_left(start):
    """Pongs are written by Tornado; nothing of ours waits."""
    server = await start("limits.messages_per_second=100000", "limits.messages_burst=100000")
    peer = await opened(server, update_interval=1)
    peer.writer.transport.pause_reading()
    (client,) = server.hub.clients.values()
    while not client.transport.busy():
        await peer.send_raw(masked_frame(0x89, b"x" * 125) * 100)
        await asyncio.sleep(0)
    before, server.amiga.total = client.sent_seq, 8
    await eventually(lambda: client.owed or client.sent_seq != before)
    peer.writer.transport.resume_reading()
    assert (await peer.until("metrics_update"))["data"]["overview"]["tasks"]["total"] == 8
    assert not client.owed


async def test_who_pings_need_not_answer_ours(server):
    peer = await server.websocket()
    (client,) = server.hub.clients.values()
    for server.ahead_s in range(0, 200, 5):
        await peer.send(0x9, b"%d" % server.ahead_s)
        while await peer.frame() != (0xA, b"%d" % server.ahead_s):
            pass
        server.hub.beat()
    assert client.client_id in server.hub.clients


async def test_a_peer_that_sends_and_never_reads_is_cut_and_leaves_no_complaint(server):
    """Its answers fill the buffers; the server stops reading it, and later cuts it."""
    peer = await RawWebSocket.open(server)
    peer.writer.transport.pause_reading()
    server.amiga.tasks = [Task(task_id=f"{i}", status="running", description="x" * 200) for i in range(50)]
    client = next(iter(server.hub.clients.values()))
    client.refreshes._rate = client.refreshes._burst = client.refreshes._tokens = 1e9
    client.messages._rate = client.messages._burst = client.messages._tokens = 1e9
    asked = json.dumps({"event": "request_refresh"}).encode()
    while not client.transport.busy():
        await peer.send(0x1, asked)
        await asyncio.sleep(0)
    await peer.send(0x1, asked)
    await asyncio.sleep(0.1)
    server.hub.beat()
    server.ahead_s = 11
    server.hub.beat()
    assert not server.hub.connections_of()
    assert client.transport.closed()
    peer.close()


async def test_an_expired_token_stops_delivery_and_later_the_connection(server):
    peer = await server.websocket({"Authorization": f"Bearer {server.token(ttl_s=100)}"})
    await peer.say("subscribe", {"update_interval": 1})
    await peer.until("metrics_update")
    server.ahead_s = 56
    server.hub.beat()
    warning = await peer.until("auth")
    assert warning["data"]["state"] == "expiring"
    assert 40 < warning["data"]["expires_in"] <= 44
    server.ahead_s = 101
    server.hub.beat()
    server.amiga.total += 1
    await server.broadcaster.tick()
    await peer.say("request_refresh")
    refused = await peer.next()
    assert (refused["event"], refused["data"]["code"]) == ("error", "unauthorized")
    server.ahead_s = 127
    server.hub.beat()
    bye = (await peer.until("bye"))["data"]
    assert (bye["code"], bye["reconnect"]) == (4003, True)
    assert (await peer.closed())[0] == 4003


async def test_a_parked_connection_goes_on_with_a_new_token_of_its_subject(server):
    peer = await server.websocket({"Authorization": f"Bearer {server.token(ttl_s=100)}"})
    await peer.say("subscribe", {"update_interval": 1})
    await peer.until("metrics_update")
    server.ahead_s = 101
    server.hub.beat()
    server.amiga.total = 77
    await server.facts.refresh(frozenset({24}))
    await peer.say("refresh_token", {"token": "rubbish"}, id=1)
    assert (await peer.until("error"))["data"]["code"] == "unauthorized"
    await peer.say("refresh_token", {"token": server.token("bob")}, id=2)
    assert (await peer.next())["data"]["code"] == "forbidden"
    await peer.say("refresh_token", {"token": server.token()}, id=3)
    renewed = await peer.next()
    assert (renewed["event"], renewed["id"]) == ("token_refreshed", 3)
    assert renewed["data"]["expires_in"] > 3500
    assert (await peer.next())["event"] == "metrics_update"


async def test_a_crash_is_said_as_4006_and_logged_without_the_message(server, caplog, monkeypatch):
    peer = await opened(server)

    def broken(hours):
        raise ZeroDivisionError

    monkeypatch.setattr(server.facts, "snapshot", broken)
    await peer.say("request_refresh", id="canary")
    bye = (await peer.until("bye"))["data"]
    assert (bye["code"], bye["reconnect"]) == (4006, True)
    assert (await peer.closed())[0] == 4006
    assert not server.hub.connections_of()
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.exc_info[0] is ZeroDivisionError
    assert "canary" not in record.getMessage()
    monkeypatch.undo()
    caplog.clear()
