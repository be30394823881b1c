"""`GET /api/stream/metrics`: the stream as Server-Sent Events."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import pytest
from servers import eventually, parse_reply, request_bytes

from amiga_ws.snapshot import Task
from amiga_ws.wire import Close


async def test_a_stream_opens_with_connected_subscribed_and_the_state(server):
    stream = await server.events("?hours=48&interval=5")
    assert stream.reply.status == 200
    assert stream.reply.header("Content-Type") == "text/event-stream; charset=utf-8"
    connected, subscribed, state = [await stream.next() for _ in range(3)]
    assert [connected.name, subscribed.name, state.name] == ["connected", "subscribed", None]
    assert 2000 <= stream.retry_ms <= 5000
    assert connected.data["status"] == "connected"
    assert connected.data["subject"] == "ada"
    assert connected.data["scopes"] == ["metrics:read"]
    assert subscribed.data["config"] == {"hours": 48, "update_interval": 5, "delta": False, "clamped": []}
    assert state.id == state.data["position"]
    assert state.data["hours"] == 48
    assert state.data["overview"]["tasks"]["total"] == 7
    assert connected.id is None
    assert subscribed.id is None
    stream.close()
    await eventually(lambda: not server.hub.connections_of())


@pytest.mark.parametrize("sent", [b"\r\n", b"x" * 1000])
async def test_who_leaves_is_gone_also_when_he_has_sent_something_after_his_request(server, sent):
    stream = await server.events("?interval=1")
    await stream.until(None)
    stream.writer.write(sent)
    server.amiga.total = 8
    await stream.until(None)  # it is no reason to end
    stream.close()
    await eventually(lambda: not server.hub.connections_of())


async def test_who_sends_on_and_on_is_let_go(server):
    stream = await server.events()
    stream.writer.write(b"x" * 100_000)
    with suppress(ConnectionError):
        while await stream.next() is not None:
            pass
    await eventually(lambda: not server.hub.connections_of())


async def test_a_change_is_pushed_and_nothing_is_while_nothing_changes(server):
    stream = await server.events("?interval=1")
    first = await stream.until(None)
    server.amiga.total = 8
    second = await stream.until(None)
    assert second.data["overview"]["tasks"]["total"] == 8
    assert second.id != first.id
    ticks = len(server.amiga.asked)
    await eventually(lambda: len(server.amiga.asked) >= ticks + 2)
    assert [event.name for event in stream.seen] == ["connected", "subscribed", None, None]
    stream.close()


async def test_both_transports_carry_the_same_bytes(server):
    server.amiga.tasks = [Task(task_id="t", status="failed", description='"\\ \n\r  \x00 ö 🎈 </script>')]
    stream, peer = await server.events(), await server.websocket()
    await peer.say("subscribe")
    assert (await peer.next())["event"] == "connected"
    assert (await peer.next())["event"] == "subscribed"
    opcode, frame = await peer.frame()
    state = await stream.until(None)
    assert opcode == 0x1
    assert frame == b'{"event":"metrics_update","data":' + state.raw.encode() + b"}"
    assert json.loads(frame)["data"]["tasks"][0]["description"] == server.amiga.tasks[0].description
    stream.close()
    peer.close()


async def test_numbers_out_of_range_are_clamped_and_said(server):
    for query, config in (
        ("?hours=0&interval=0.2", {"hours": 1, "update_interval": 1}),
        ("?hours=99999999999999999&interval=3600", {"hours": 168, "update_interval": 60}),
        ("?hours=-5&interval=1.5", {"hours": 1, "update_interval": 2}),
    ):
        stream = await server.events(query)
        said = (await stream.until("subscribed")).data["config"]
        assert {name: said[name] for name in config} == config, query
        assert "hours" in said["clamped"]
        assert ("update_interval" in said["clamped"]) == ("1.5" not in query and "0.2" not in query)
        stream.close()


async def test_a_parameter_of_a_wrong_type_is_400_and_named(server):
    for query, name in (
        ("?hours=many", "hours"),
        ("?hours=1.5", "hours"),
        ("?hours=nan", "hours"),
        ("?hours=1e3", "hours"),
        ("?hours=%D9%A3", "hours"),
        ("?hours=", "hours"),
        ("?hours=%ff", "hours"),
        ("?interval=soon", "interval"),
        ("?delta=maybe", "delta"),
    ):
        stream = await server.events(query)
        assert stream.reply.status == 400, query
        assert name in stream.reply.json["error"], query
        assert "%s" not in stream.reply.json["error"]
        stream.close()
    assert not server.hub.connections_of()


async def test_a_stream_comes_back_where_it_was(server):
    stream = await server.events()
    state = await stream.until(None)
    stream.close()
    headers = {"Authorization": f"Bearer {server.token()}", "Last-Event-ID": state.id}
    stream = await server.events(headers=headers)
    subscribed = await stream.until("subscribed")
    assert (subscribed.data["resumed"], subscribed.data["why"]) == (True, None)
    server.amiga.total = 9
    assert (await stream.until(None)).data["overview"]["tasks"]["total"] == 9
    stream.close()


async def test_a_position_of_another_life_or_window_is_answered_with_the_whole_state(server):
    stream = await server.events("?hours=5")
    position = (await stream.until(None)).id
    stream.close()
    for last_id, query, why in (
        ("00000000.5.1", "?hours=5", "epoch"),
        (position, "?hours=6", "window"),
        (position + "999", "?hours=5", "evicted"),
        ("rubbish", "?hours=5", "epoch"),
        ("x" * 5000, "?hours=5", "epoch"),
    ):
        headers = {"Authorization": f"Bearer {server.token()}", "Last-Event-ID": last_id}
        stream = await server.events(query, headers)
        subscribed = await stream.until("subscribed")
        assert (subscribed.data["resumed"], subscribed.data["why"]) == (False, why), last_id
        assert (await stream.until(None)).data["hours"] == int(query[-1])
        stream.close()


async def test_a_refusal_that_passes_is_a_bye_to_an_event_source(start):
    """A browser's EventSource gives up on any status but 200."""
    server = await start("limits.connections_per_address=1")
    peer = await server.websocket()
    token = server.token("bob")
    reply = await server.ask_as(token, "/api/stream/metrics", {"Accept": "text/event-stream"})
    assert reply.status == 200
    assert reply.header("Content-Type") == "text/event-stream; charset=utf-8"
    retry, bye = reply.body.decode().strip().split("\n\n")
    name, data = bye.split("\n")
    said = json.loads(data.removeprefix("data: "))
    assert name == "event: bye"
    assert said["code"] == Close.RATE_LIMITED
    assert said["reconnect"] is True
    assert "limits.connections_per_address" in said["reason"]
    assert retry == f"retry: {said['retry_ms']}"
    assert int(reply.header("Retry-After")) * 1000 == said["retry_ms"]
    # Whoever accepts more is told in HTTP's own way, and what does not pass is never 200.
    reply = await server.ask_as(token, "/api/stream/metrics", {"Accept": "text/event-stream, */*"})
    assert reply.status == 429
    peer.close()
    await eventually(lambda: not server.hub.connections_of())
    reply = await server.ask("/api/stream/metrics", {"Accept": "text/event-stream"})
    assert reply.status == 401


async def test_a_stream_opened_with_a_bearer_ends_with_it(server):
    stream = await server.events(headers={"Authorization": f"Bearer {server.token(ttl_s=600)}"})
    await stream.until(None)
    server.ahead_s = 601
    bye = await stream.until("bye")
    assert (bye.data["code"], bye.data["reconnect"]) == (4003, True)
    assert bye.data["retry_ms"] > 0
    assert await stream.next() is None
    assert not server.hub.connections_of()


async def test_a_peer_that_sends_after_its_request_is_no_trouble(server):
    """A pipelined request is not answered; the peer's leaving is noticed all the same."""
    request = request_bytes(
        "GET",
        "/api/stream/metrics",
        f"127.0.0.1:{server.port}",
        {"Authorization": f"Bearer {server.token()}"},
        close=False,
    )
    stream = await server.events()
    stream.writer.write(request * 3)
    await stream.until(None)
    server.amiga.total = 8
    assert (await stream.until(None)).data["overview"]["tasks"]["total"] == 8
    stream.close()
    await eventually(lambda: not server.hub.connections_of())


async def test_head_and_http_1_0_get_no_stream(server):
    reply = await server.ask_as(server.token(), "/api/stream/metrics", method="HEAD")
    assert (reply.status, reply.header("Allow")) == (405, "GET, OPTIONS")
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(
        f"GET /api/stream/metrics HTTP/1.0\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"Authorization: Bearer {server.token()}\r\n\r\n".encode()
    )
    reply = parse_reply(await reader.read())
    writer.close()
    assert (reply.status, reply.json["code"]) == (400, "invalid_request")
    assert not server.hub.connections_of()


@pytest.mark.promise("A viewer that takes nothing is owed one state, is cut after 10 s, and holds nobody up")
async def test_a_reader_that_stops_is_owed_one_state_and_cut_when_it_takes_nothing(server):
    """The newest state is what it is owed, however many it has missed; others are not held up."""
    slow, fast = await server.events("?interval=1"), await server.events("?interval=1")
    await slow.until(None)
    await fast.until(None)
    slow.writer.transport.pause_reading()
    client = next(iter(server.hub.clients.values()))
    big = "x" * 200
    for step in range(400):
        server.amiga.tasks = [
            Task(task_id=f"{step}-{i}", status="running", description=big) for i in range(50)
        ]
        server.facts.amiga.facts = server.amiga.collect(server.hub.hours_in_use())
        await server.hub.publish([(24, 1)])
        await fast.until(None)
        if client.owed and client.coalesced > 3:
            break
    assert client.owed
    assert client.coalesced > 3
    assert client.transport.busy()
    assert server.hub.connections_of() == 2
    server.ahead_s = 0.5
    server.hub.beat()
    server.ahead_s = 11
    server.hub.beat()
    await eventually(lambda: server.hub.connections_of() == 1)
    fast.close()
