"""Who comes too fast: waits, is told late, or gives way, and costs nobody else anything."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import socket
import time
from collections import Counter
from math import inf

import pytest
from servers import ServerInHand, eventually, pairs, parse_reply, read_head, request_bytes, settings_in
from tornado.iostream import IOStream

from amiga_ws import app, listening
from amiga_ws.handlers import guard, pacing, queues, rates
from amiga_ws.handlers.peer import key_of, networks
from amiga_ws.handlers.rest import Session
from amiga_ws.turnstile import Turnstile


async def spoil(server, token):
    """One stream with this token that ends for what it sent."""
    peer = await server.websocket({"Authorization": f"Bearer {token}"})
    assert peer.reply.status == 101
    await peer.send(0x2, b"binary")
    assert (await peer.closed())[0] == 1003


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


# -- refusals that are told late -----------------------------------------------------------------


async def test_a_refusal_for_coming_too_fast_is_told_two_seconds_late_and_others_at_once(start):
    server = await start("limits.requests_burst=1", "limits.requests_per_second=0.01")
    assert (await server.ask("/api/session")).status == 401
    began = time.monotonic()
    late = asyncio.ensure_future(server.ask("/api/session"))
    assert (await server.ask("/health")).status == 200
    assert not late.done()
    reply = await late
    assert (reply.status, time.monotonic() - began >= guard.HOLD_S) == (429, True)
    assert int(reply.header("Retry-After")) >= 1


async def test_only_so_many_refusals_are_held_and_the_others_told_at_once(start, monkeypatch):
    monkeypatch.setattr(guard, "MAX_HELD", 2)
    monkeypatch.setattr(guard, "HOLD_S", 30.0)
    server = await start("limits.requests_burst=1", "limits.requests_per_second=0.01")
    await server.ask("/api/session")
    held = [asyncio.ensure_future(server.ask("/api/session")) for _ in range(2)]
    await eventually(lambda: len(server.services.held) == 2)
    assert (await server.ask("/api/session")).status == 429
    assert not any(one.done() for one in held)
    for one in held:
        one.cancel()
    await asyncio.wait(held)


async def test_who_leaves_before_a_late_refusal_leaves_nothing_behind(start, monkeypatch):
    monkeypatch.setattr(guard, "HOLD_S", 0.1)
    server = await start("limits.new_connections_burst=1", "limits.new_connections_per_second=0.01")
    peer = await server.websocket()
    refused = request_bytes(
        "GET", "/ws", f"127.0.0.1:{server.port}", pairs(bearer(server.token())), close=False
    )
    for path in (b"/ws", b"/api/stream/metrics", b"/nothing"):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(refused.replace(b"/ws", path, 1))
        await asyncio.sleep(0.05)
        writer.transport.abort()
        del reader
    await eventually(lambda: not server.services.held)
    await eventually(lambda: not server._http._connections)
    assert server.hub.connections_of() == 1
    peer.close()


# -- tokens that are misused ---------------------------------------------------------------------


async def test_a_token_whose_streams_had_to_be_ended_opens_none_for_a_while(start):
    server = await start("limits.misuses_burst=2", "limits.misuses_per_minute=2")
    token = server.token()
    open_before = await server.websocket(bearer(token))
    for _ in range(2):
        await spoil(server, token)
    for _ in range(2):  # asking costs nothing
        refused = await server.websocket(bearer(token))
        assert refused.reply.status == 429
        assert "limits.misuses_per_minute" in refused.reply.json["error"]
    stream = await server.events("", bearer(token))
    assert stream.reply.status == 429
    assert (await server.ask_as(token, "/api/metrics/overview")).status == 200  # what is no stream goes on
    assert server.hub.connections_of() == 1
    await open_before.say("subscribe")
    await open_before.until("subscribed")
    server.ahead_s += 31
    assert (await server.websocket(bearer(token))).reply.status == 101


async def test_another_token_of_the_same_subject_pays_for_nobody(start):
    """Who has stolen a token must not keep its owner out."""
    server = await start("limits.misuses_burst=1")
    await spoil(server, server.token())
    assert (await server.websocket(bearer(server.token()))).reply.status == 101


async def test_a_session_pays_for_the_token_it_was_signed_in_with(start):
    server = await start("limits.misuses_burst=1")
    token = server.token()
    reply = await server.ask_as(token, "/api/session", method="POST")
    cookie = {"Cookie": reply.header("Set-Cookie").partition(";")[0]}
    await spoil(server, token)
    refused = await server.websocket({**cookie, "Origin": server.url})
    assert refused.reply.status == 429


async def test_a_misused_token_is_not_taken_in_the_first_message_either(start):
    server = await start("limits.misuses_burst=1")
    token = server.token()
    await spoil(server, token)
    peer = await server.websocket({})
    await peer.say("authenticate", {"token": token})
    bye = (await peer.until("bye"))["data"]
    assert (bye["code"], bye["reconnect"]) == (4005, True)
    assert bye["retry_ms"] >= 1000


@pytest.mark.parametrize("leaves", ["unsubscribe", "close"])
async def test_who_behaves_may_come_as_often_as_the_other_limits_allow(start, leaves):
    server = await start("limits.misuses_burst=1", "limits.new_connections_burst=100")
    token = server.token()
    for _ in range(5):
        peer = await server.websocket(bearer(token))
        assert peer.reply.status == 101
        if leaves == "unsubscribe":
            await peer.say("unsubscribe")
            await peer.until("unsubscribed")
        await peer.send(0x8, (1000).to_bytes(2, "big"))
        await peer.closed()


def use_up(pace, server, debt):
    """What the address has saved, and so much more."""
    bucket = pace._whole._bucket("127.0.0.1", server.clock.monotonic())
    bucket.reserve(server.clock.monotonic(), bucket._tokens + debt, inf)


# -- connections ---------------------------------------------------------------------------------


def connected(server, count):
    return [socket.create_connection(("127.0.0.1", server.port)) for _ in range(count)]


def was_closed(peer):
    peer.setblocking(False)
    try:
        return peer.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


async def test_connections_beyond_the_pace_of_an_address_wait_and_then_are_closed(start):
    server = await start("limits.connections_per_address=100")
    peers = connected(server, rates.TOGETHER)
    await eventually(lambda: len(server._http._connections) == rates.TOGETHER)
    use_up(server.services.rates.connects, server, 12)
    began = time.monotonic()
    assert (await server.ask("/health")).status == 200
    assert time.monotonic() - began > 0.4  # sixteen thirtieths of a second
    late = [peer for _ in range(4) for peer in connected(server, 50)]
    await eventually(lambda: sum(was_closed(peer) for peer in late) > 100)
    assert 0 < len(server._listener._waiting) < 100
    for peer in (*peers, *late):
        peer.close()
    await eventually(lambda: not server._listener._waiting)
    server.ahead_s += 10
    assert (await server.ask("/health")).status == 200


async def test_a_trusted_proxy_has_no_pace_of_its_own(start):
    server = await start("server.trusted_proxies=127.0.0.1")
    wait_s = functools.partial(server._http.request_callback.connection_wait_s, room=True)
    assert {wait_s("127.0.0.1") for _ in range(1000)} == {0.0}
    assert wait_s("::ffff:127.0.0.1") == 0.0
    waits = [wait_s("192.0.2.7") for _ in range(1000)]
    assert waits[0] == 0.0
    assert waits[-1] is None
    assert max(wait for wait in waits if wait is not None) <= pacing.MAX_WAIT_S


async def test_a_burst_that_is_allowed_is_let_in_however_large_it_is(start):
    server = await start("limits.new_connections_burst=400", "limits.connections_per_address=400")
    began = time.monotonic()
    replies = await asyncio.gather(*[server.ask("/health") for _ in range(300)])
    assert {reply.status for reply in replies} == {200}
    assert (
        time.monotonic() - began > 0.5
    )  # three quarters of what is begun within two seconds, but for twelve


async def test_who_is_closed_for_want_of_room_to_wait_pays_nothing(start, monkeypatch):
    monkeypatch.setattr(listening, "MAX_WAITING", 0)
    server = await start()
    peers = connected(server, rates.TOGETHER + 20)
    await eventually(lambda: sum(was_closed(peer) for peer in peers) >= 10)
    bucket = server.services.rates.connects._whole._bucket("127.0.0.1", server.clock.monotonic())
    let_in = len(server._http._connections)
    assert bucket._tokens >= bucket._burst - rates.UNPROVEN * let_in
    assert let_in < rates.TOGETHER + 10
    for peer in peers:
        peer.close()


def test_connections_are_counted_as_requests_are():
    assert key_of("192.0.2.7", ()) == "192.0.2.7"
    assert key_of("2001:db8::1", ()) == key_of("2001:db8::2", ()) == "2001:db8::"
    assert key_of("::ffff:192.0.2.7", ()) == "192.0.2.7"
    assert key_of("192.0.2.7", networks(["192.0.2.0/24"])) is None


async def test_what_waits_is_closed_when_the_server_stops(start):
    server = await start()
    use_up(server.services.rates.connects, server, 9)
    peers = connected(server, 9)
    await eventually(lambda: server._listener._waiting)
    waiting = list(server._listener._waiting)
    server._listener.stop()
    assert [one.fileno() for one in waiting] == [-1] * len(waiting)
    for peer in peers:
        peer.close()


def left_of_pace(server):
    """What 127.0.0.1 has left to connect with."""
    now = server.clock.monotonic()
    bucket = server.services.rates.connects._whole._bucket("127.0.0.1", now)
    bucket.wait_s(now)
    return bucket._tokens


async def test_a_connection_costs_less_when_it_has_brought_a_request(server):
    before = left_of_pace(server)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    await eventually(lambda: left_of_pace(server) < before - 3)
    for _ in range(2):  # the second one gives nothing back
        writer.write(request_bytes("GET", "/health", f"127.0.0.1:{server.port}", close=False))
        assert (await read_head(reader)).status == 200
        assert before - 1.5 < left_of_pace(server) <= before
    writer.close()


@pytest.mark.parametrize("head", [f"GET /health?{'a=1&' * 3000} HTTP/1.1", "GET /health HTTP/1.1\r\nA: \0"])
async def test_what_is_refused_as_no_request_makes_no_connection_cheaper(server, monkeypatch, head):
    given_back = []
    monkeypatch.setattr(server.services.rates.connects, "give_back", lambda *more: given_back.append(more))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"{head}\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
    assert (await read_head(reader)).status == 400
    assert not given_back
    assert (await server.ask("/health")).status == 200
    assert len(given_back) == 1
    writer.close()


# -- connections without a request ---------------------------------------------------------------


async def test_an_address_has_so_many_connections_without_a_request_and_the_oldest_gives_way(
    start, monkeypatch
):
    monkeypatch.setattr(guard, "CROWD", 3)
    server = await start("limits.connections_per_address=2")
    stream = await server.events()  # its request is whole: it does not count
    peers, silent = [], server._http.request_callback._silent
    for half in (b"", b"GET /health HTTP/1.1\r\nHo", b"", b""):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(half)
        peers.append((reader, writer))
        await eventually(lambda: len(silent) == len(peers))
    assert (await server.ask("/health")).status == 200
    assert await peers[0][0].read() == b""
    body = await asyncio.open_connection("127.0.0.1", server.port)
    body[1].write(b"POST /api/session HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf")
    for number in range(4):
        await eventually(lambda: len(silent) == 4)
        assert not body[0].at_eof()
        peers.append(await asyncio.open_connection("127.0.0.1", server.port))
        if number < 3:
            assert await peers[number + 1][0].read() == b""  # nor is a head that has not ended a request
    assert await body[0].read() == b""  # nor one whose body has not come
    await stream.until("subscribed")
    assert not stream.reader.at_eof()
    for _, writer in (*peers, body):
        writer.close()


async def test_an_address_has_so_many_answers_that_it_does_not_take_and_the_oldest_is_given_up(
    start, monkeypatch
):
    monkeypatch.setattr(guard, "CROWD", 3)
    server = await start("limits.connections_per_address=1")
    host = f"127.0.0.1:{server.port}"
    more = request_bytes("GET", "/static/uplot.js", host, close=False) * 5  # a quarter of a megabyte
    peers = []
    lying = server.services.untaken._queues
    for number in range(1, 6):
        peer = socket.socket()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        peer.connect(("127.0.0.1", server.port))
        peer.sendall(more)
        peers.append(peer)
        await eventually(lambda number=number: len(lying.get("127.0.0.1", ())) == min(number, 3))
    await eventually(lambda: len(server._http._connections) == 3)
    assert (await server.ask("/static/uplot.js")).status == 200
    for peer in peers:
        peer.close()
    await eventually(lambda: not lying["127.0.0.1"])


async def test_addresses_of_which_nobody_waits_are_forgotten(monkeypatch):
    monkeypatch.setattr(queues, "MAX_ADDRESSES", 3)
    waiting = queues.Queues()
    ends = [socket.socketpair() for _ in range(20)]
    for number, (own, _) in enumerate(ends):
        stream = IOStream(own)
        waiting.add(f"192.0.2.{number}", stream, 1)
        waiting.discard(f"192.0.2.{number}", stream)
    assert len(waiting._queues) <= 3
    for own, other in ends:
        own.close()
        other.close()


async def test_those_that_have_ended_leave_their_places_to_others():
    waiting = queues.Queues()
    ends = [socket.socketpair() for _ in range(4)]
    streams = [IOStream(own) for own, _ in ends]
    for stream in streams[:3]:
        waiting.add("192.0.2.7", stream, 3)
    streams[1].close()
    waiting.add("192.0.2.7", streams[0], 3)  # again: to the end
    waiting.add("192.0.2.7", streams[3], 3)
    assert [stream.closed() for stream in streams] == [False, True, False, False]
    waiting.add("192.0.2.7", streams[3], 2)
    assert [stream.closed() for stream in streams] == [False, True, True, False]
    for stream, (_, other) in zip(streams, ends, strict=True):
        stream.close()
        other.close()


# -- requests ------------------------------------------------------------------------------------


async def test_requests_that_no_limit_counts_are_begun_at_a_pace(server):
    """Files of pages are refused to nobody, and yet nobody fills the loop with them."""
    use_up(server.services.rates.begun, server, 0)
    began = time.monotonic()
    replies = await asyncio.gather(*[server.ask("/health") for _ in range(20)])
    assert {reply.status for reply in replies} == {200}
    assert time.monotonic() - began > 0.2  # thirty a second


async def test_a_request_whose_turn_would_come_too_late_is_not_kept(server):
    """What waits is in memory, and its peer may have gone."""
    use_up(server.services.rates.begun, server, 50)
    answers = await asyncio.gather(*[server.ask("/health") for _ in range(20)], return_exceptions=True)
    served = [one for one in answers if not isinstance(one, Exception)]
    assert {one.status for one in served} == {200}
    assert 0 < len(served) < 20
    assert not server.services.turns
    await eventually(lambda: not server._http._connections)


async def test_a_stop_waits_neither_for_turns_nor_for_late_refusals(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "HOLD_S", 60.0)
    monkeypatch.setattr(pacing, "MAX_WAIT_S", 60.0)
    server = ServerInHand(settings_in(tmp_path, "limits.requests_burst=1", "limits.requests_per_second=0.01"))
    await server.start()
    await server.ask("/api/session")
    late = asyncio.ensure_future(server.ask("/api/session"))
    await eventually(lambda: len(server.services.held) == 1)
    use_up(server.services.rates.begun, server, 900)
    slow = asyncio.ensure_future(server.ask("/health"))
    await eventually(lambda: len(server.services.turns) == 1)
    began = time.monotonic()
    await server.leave()
    assert time.monotonic() - began < 5
    assert (await late).status == 429
    assert (await slow).status == 200


@pytest.mark.parametrize("more", [0, 1])
async def test_a_head_has_at_most_a_hundred_lines(server, more):
    """Two thousand, each its own header, took 5 ms to parse."""
    head = ["GET /health HTTP/1.1", f"Host: 127.0.0.1:{server.port}"]
    head += [f"X-{number}: y" for number in range(97 + more)]
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write("\r\n".join([*head, "", ""]).encode())
    assert (await read_head(reader)).status == (400 if more else 200)
    assert reader.at_eof() == bool(more)
    writer.close()


async def test_a_stop_does_not_wait_for_requests_of_who_was_cut(tmp_path):
    """One after another, in heads that came together: each would wait for its turn anew."""
    server = ServerInHand(settings_in(tmp_path))
    await server.start()
    heads = request_bytes("GET", "/health", f"127.0.0.1:{server.port}", close=False) * 300
    peers = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(5)]
    use_up(server.services.rates.begun, server, 0)
    for _, writer in peers:
        writer.write(heads)
    await eventually(lambda: len(server.services.turns) == 5)
    began = time.monotonic()
    await server.stop()
    assert time.monotonic() - began < 4
    for _, writer in peers:
        writer.close()


async def test_a_body_whose_time_ends_while_it_waits_for_its_turn_ends_quietly(start, monkeypatch, caplog):
    monkeypatch.setitem(app.HTTP_LIMITS, "body_timeout", 0.2)
    server, turning = await start(), asyncio.Event()
    monkeypatch.setattr(Turnstile, "turn", lambda _: turning.wait())
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    turning.set()
    head = f"POST /api/session HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: 9\r\n\r\n"
    writer.write(head.encode())
    await eventually(lambda: len(server._http.request_callback._proven) == 1)
    turning.clear()
    writer.write(b"x")
    assert await reader.read() == b""  # the time for bodies is over
    turning.set()
    await asyncio.sleep(0.05)
    gc.collect()  # a task that failed tells it when it goes
    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []
    writer.close()


async def half_closed(server, raw):
    """All that is answered to one who closes his half after asking, before we have looked."""
    (peer,) = connected(server, 1)
    peer.sendall(raw)
    peer.shutdown(socket.SHUT_WR)
    reader, writer = await asyncio.open_connection(sock=peer)
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize("target", ["/health", "/ready", "/static/base.css"])
async def test_a_probe_that_closes_its_half_is_answered(server, target):
    raw = request_bytes("GET", target, f"127.0.0.1:{server.port}", close=False)
    assert (await half_closed(server, raw)).startswith(b"HTTP/1.1 200 ")


async def test_no_sign_in_link_is_used_up_for_who_has_gone_meanwhile(server):
    link = bearer(server.token(typ="login", ttl_s=60))
    raw = request_bytes("POST", "/api/session", f"127.0.0.1:{server.port}", pairs(link), close=False)
    assert await half_closed(server, raw) == b""
    await asyncio.sleep(0.05)
    assert (await server.ask("/api/session", link, method="POST")).status == 201


async def test_requests_are_judged_and_answered_in_pieces(server, monkeypatch):
    """None does all of its work in one pass of the loop, and no pass has the work of many."""
    passes, judged, answered, turning = 0, {}, {}, True

    def count():
        nonlocal passes
        passes += 1
        if turning:
            asyncio.get_running_loop().call_soon(count)

    def noted(where, work):
        def work_and_note(handler):
            where[handler.request.query] = passes
            return work(handler)

        return work_and_note

    monkeypatch.setattr(Session, "_admit", noted(judged, Session._admit))
    monkeypatch.setattr(Session, "get", noted(answered, Session.get))
    count()
    token = server.token()
    replies = await asyncio.gather(*[server.ask_as(token, f"/api/session?{number}") for number in range(10)])
    turning = False
    assert {reply.status for reply in replies} == {200}
    assert all(answered[number] > judged[number] for number in judged)
    assert max(Counter(answered.values()).values()) == 1


async def test_an_answer_that_is_late_is_whole(start):
    server = await start("limits.requests_burst=1", "limits.requests_per_second=0.01")
    await server.ask("/api/session")
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request_bytes("GET", "/api/session", f"127.0.0.1:{server.port}", {"Accept": "text/html"}))
    reply = parse_reply(await reader.read())
    assert reply.status == 429
    assert reply.body.strip().endswith(b"</html>")
    writer.close()
