"""Bytes no honest client sends: each is refused or dropped, none is obeyed, and none makes us complain.

The fixture reads the log afterwards: an error or a traceback that a peer can provoke fails the test.
"""

from __future__ import annotations

import asyncio
import socket

import pytest
from servers import eventually, handshake, read_head, request_bytes

from amiga_ws import app
from amiga_ws.handlers import guard
from amiga_ws.snapshot import Task

AUTH = "Authorization: Bearer TOKEN"
FORM = "Content-Type: application/x-www-form-urlencoded"
UPGRADE = [f"{name}: {value}" for name, value in handshake()]
HUGE = "x" * 20_000


def get(target, *lines):
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: 127.0.0.1:PORT", *lines, "", ""])


def post(*lines, body=""):
    return get("/api/session", AUTH, *lines).replace("GET", "POST", 1) + body


# Each is answered with 4xx, or not at all.
REFUSED = {
    "nothing": "",
    "noise": "\x00\xff\xfe\x80" * 50,
    "http 0.9": "GET /health\r\n",
    "http 2 preface": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tls hello": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "no host": f"GET /api/session HTTP/1.1\r\n{AUTH}\r\n\r\n",
    "two hosts": get("/health", "Host: evil"),
    "two hosts in one": "GET /health HTTP/1.1\r\nHost: 127.0.0.1:PORT, evil\r\n\r\n",
    "host with a user": "GET /health HTTP/1.1\r\nHost: evil@127.0.0.1:PORT\r\n\r\n",
    "absolute address": get("http://evil.example/api/session", AUTH),
    "absolute address with a token": get("http://127.0.0.1:PORT/api/session?token=TOKEN"),
    "connect": get("evil.example:443").replace("GET", "CONNECT", 1),
    "unknown method": get("/api/session", AUTH).replace("GET", "BREW", 1),
    "method of control characters": get("/api/session", AUTH).replace("GET", "G\x1bT", 1),
    "double slash": get("//api/session", AUTH),
    "dots": get("/static/../../../../etc/passwd"),
    "control characters in the path": get("/\x1b[2J\x07"),
    "bytes in the path": get("/%ff%fe/\xff"),
    "nul in a header": get("/health", "X: a\x00b"),
    "bare cr in a header": get("/health", "X: a\rY: b"),
    "folded header": get("/health", "X: a", " b"),
    "header without a colon": get("/health", "nonsense"),
    "header with a space in its name": get("/api/session", "Authorization : Bearer TOKEN"),
    "length and chunks": post("Content-Length: 3", "Transfer-Encoding: chunked", body="0\r\n\r\n"),
    "two lengths": post("Content-Length: 0", "Content-Length: 3", body="abc"),
    "negative length": post("Content-Length: -1"),
    "length of a gigabyte": post("Content-Length: 1000000000"),
    "broken chunks": post("Transfer-Encoding: chunked", body="zz\r\n"),
    "big headers": get("/health", f"X: {HUGE}"),
    "big cookie": get("/api/session", f"Cookie: {'a=b;' * 3500}"),
    "odd cookie": get("/api/session", 'Cookie: amiga_session_PORT="\\0\\777;;=; =x'),
    "websocket without a key": get("/ws", AUTH, *UPGRADE[:3]),
    "websocket by post": get("/ws", AUTH, *UPGRADE).replace("GET", "POST", 1),
    "origin of control characters": get("/health", "Origin: http://\x1b[2J"),
    "token of all sorts": get("/api/session", "Authorization: Bearer \xff\xfe.\xfd.\xfc"),
    "token of dots": get("/api/session", f"Authorization: Bearer {'.' * 7000}"),
    "token of brackets": get("/api/session", f"Authorization: Bearer eyJ{'W1tb' * 1500}.e30.x"),
}
# Each is odd but harmless: it may be obeyed.
HARMLESS = {
    "asterisk": get("*").replace("GET", "OPTIONS", 1),
    "many headers": get("/health", *["X: y"] * 2000),
    "many arguments": get(f"/health?{'a=1&' * 3000}"),
    "many form fields": post(FORM, "Content-Length: 20000", body="a=1&" * 5000),
    "form of another charset": post(FORM, "Content-Length: 3", body="\xff=%"),
    "gzipped body": post("Content-Encoding: gzip", "Content-Length: 3", body="abc"),
    "expect": post("Expect: 100-continue", "Content-Length: 0"),
    "range": get("/static/client.js", "Range: bytes=0-0,1-1,2-2,-1"),
    "odd validators": get("/static/client.js", "If-None-Match: \x80,,,", "If-Modified-Since: yesterday"),
    "odd extensions": get("/ws", AUTH, 'Sec-WebSocket-Extensions: permessage-deflate; x=99; y="', *UPGRADE),
    "last event id of all sorts": get("/api/stream/metrics", AUTH, "Last-Event-ID: \xff..\x7f"),
}


async def said(server, raw):
    """The beginning of the answer to these bytes, empty if there is none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(raw.replace("PORT", str(server.port)).replace("TOKEN", server.token()).encode("latin-1"))
        if not raw:
            writer.write_eof()
        return await asyncio.wait_for(reader.read(400), 0.3)
    except (TimeoutError, ConnectionResetError):
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize("name", [*REFUSED, *HARMLESS])
async def test_it_is_refused_or_does_no_harm_and_leaves_no_trace(server, name):
    answer = await said(server, (REFUSED | HARMLESS)[name])
    if answer and name in REFUSED:
        assert answer.startswith(b"HTTP/1.1 4")
    assert not answer.startswith(b"HTTP/1.1 5")
    assert b"Traceback" not in answer
    assert b"Tornado" not in answer
    assert (await server.ask("/health")).status == 200


async def test_a_peer_that_sends_its_request_drop_by_drop_is_cut(server):
    """Slowloris: the time for a request's head and body is bounded."""
    assert app.HTTP_LIMITS["idle_connection_timeout"] <= 30
    assert app.HTTP_LIMITS["body_timeout"] <= 30
    assert app.HTTP_LIMITS["max_body_size"] <= 2**20
    server._http.conn_params.header_timeout = 0.2
    server._http.conn_params.body_timeout = 0.2
    for opening in (
        b"GET /health HTTP/1.1\r\n",
        b"POST /api/session HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\na",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(opening)
        assert b"200" not in await asyncio.wait_for(reader.read(), 3)
        writer.close()


async def test_a_peer_that_does_not_take_its_answer_is_cut_and_one_that_does_is_not(server, monkeypatch):
    """Slow read: an answer is kept for nobody longer than it takes to send it."""
    server.amiga.tasks = [Task(task_id=f"t{i}", status="failed", description="x" * 99_000) for i in range(50)]
    monkeypatch.setattr(guard, "TAKEN_S", 0.2)
    monkeypatch.setattr(guard, "TAKEN_BYTES_S", 1e9)
    raw = request_bytes(
        "GET",
        "/api/metrics/overview",
        f"127.0.0.1:{server.port}",
        {"Authorization": f"Bearer {server.token()}"},
        close=False,
    )
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        peer.setblocking(False)
        await asyncio.get_running_loop().sock_connect(peer, ("127.0.0.1", server.port))
        await asyncio.get_running_loop().sock_sendall(peer, raw)
        await eventually(lambda: server._http._connections)
        await eventually(lambda: not server._http._connections)
    monkeypatch.setattr(guard, "TAKEN_S", 10.0)
    reply = await server.ask_as(server.token(), "/api/metrics/overview")
    assert len(reply.body) > 4_000_000


async def test_a_silent_connection_gives_way_to_a_newcomer_and_one_at_work_does_not(server):
    application = server._http.request_callback
    stream = await server.events()
    first = await asyncio.open_connection("127.0.0.1", server.port)
    await eventually(lambda: len(application._silent) == 1)
    second = await asyncio.open_connection("127.0.0.1", server.port)
    await eventually(lambda: len(application._silent) == 2)
    first[1].write(request_bytes("GET", "/health", f"127.0.0.1:{server.port}", close=False))
    assert (await read_head(first[0])).status == 200  # now the second one has been silent for longer
    assert application.drop_silent()
    assert await second[0].read() == b""
    assert application.drop_silent()
    assert await first[0].read(100) in (b"", b'{"status":"ok"}')
    assert not application.drop_silent()
    await stream.until("subscribed")
    assert not stream.reader.at_eof()
    for _, writer in (first, second):
        writer.close()
