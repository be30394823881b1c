#!/usr/bin/env python3
"""Floods below the frames, with the harness of floods.py: connections that say nothing, requests that never end,
answers that nobody takes, requests that are hard to read.

    .venv/bin/python benchmarks/floods_http.py                     # 20 s for each: longer than a head may take
    .venv/bin/python benchmarks/floods_http.py --only slow --seconds 20

The same from slowhttptest, against a server that runs (its limits are 15 s for a head and 10 s for a body):

    slowhttptest -H -c 1000 -r 400 -i 3 -l 30 -u http://127.0.0.1:3000/login            # slow heads
    slowhttptest -B -c 1000 -r 400 -i 3 -l 30 -s 60000 -u http://127.0.0.1:3000/api/session
    slowhttptest -X -c 1000 -r 400 -k 3 -w 8 -y 16 -n 5 -z 32 -l 30 -u http://127.0.0.1:3000/static/uplot.js
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Callable

import floods
from floods import Target, flood

floods.FLOODS.clear()  # the frames' own have their run
flood(floods.NOTHING)(floods.nothing)

EACH = 250  # connections of one attacker; there are four
DROP_S = 1.0  # between two drops
HUGE = "a=b; " * 13_000  # 64 KiB
DEEP = b'{"jti": ' + b"[" * 60_000


@contextlib.asynccontextmanager
async def crowd(target: Target, opening: bytes, receive_bytes: int = 0) -> AsyncIterator[list[socket.socket]]:
    """Many connections that have sent `opening`."""
    loop, peers = asyncio.get_running_loop(), []
    try:
        for _ in range(EACH):
            peer = socket.socket()
            peers.append(peer)
            if receive_bytes:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            peer.setblocking(False)
            await loop.sock_connect(peer, ("127.0.0.1", target.port))
            if opening:
                await loop.sock_sendall(peer, opening)
        yield peers
    finally:
        for peer in peers:
            peer.close()


async def drip(target: Target, peers: list[socket.socket], drop: bytes) -> None:
    """A drop for each that is still there, again and again, until all are cut; counts them."""
    left = list(peers)
    while left and target.going():
        await asyncio.sleep(DROP_S)
        for peer in list(left):
            try:
                if drop:
                    peer.send(drop)
                elif peer.recv(1, socket.MSG_PEEK) == b"":
                    raise ConnectionResetError
            except BlockingIOError:
                continue
            except OSError:
                left.remove(peer)
                target.codes["cut"] += 1


def head(target: Target, method: str, path: str, *lines: str, end: str = "\r\n\r\n") -> bytes:
    """Of a request, with a good token unless it brings one of its own."""
    own = [f"Host: 127.0.0.1:{target.port}"]
    if not any(line.startswith("Authorization:") for line in lines):
        own.append(f"Authorization: Bearer {target.token}")
    return ("\r\n".join([f"{method} {path} HTTP/1.1", *own, *lines]) + end).encode()


def dripping_flood(name: str, opening: Callable[[Target], bytes], drop: bytes) -> None:
    """Register: a crowd that begins, and goes on by a drop a second (b"": not at all)."""

    @flood(name)
    async def attack(target: Target) -> None:
        async with crowd(target, opening(target)) as peers:
            target.done["let in"] += EACH
            await drip(target, peers, drop)


dripping_flood("silent connections", lambda _: b"", b"")
dripping_flood("slow heads", lambda target: head(target, "GET", "/health", end="\r\n"), b"X: y\r\n")
dripping_flood(
    "slow bodies", lambda target: head(target, "POST", "/api/session", "Content-Length: 60000"), b"x"
)


@flood("slow reads")
async def slow_reads(target: Target) -> None:
    opening = head(target, "GET", "/static/uplot.js") * 10  # pipelined: half a megabyte
    async with crowd(target, opening, receive_bytes=2048) as peers:
        target.done["let in"] += EACH
        while target.going():
            await asyncio.sleep(DROP_S)
            for peer in peers:
                with contextlib.suppress(OSError):
                    peer.recv(16)


@flood("sockets without a credential")
async def pending(target: Target) -> None:
    lines = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    lines += [f"Host: 127.0.0.1:{target.port}", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    try:
        writer.write("\r\n".join(["GET /ws HTTP/1.1", *lines, "", ""]).encode())
        let_in = (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        target.done["let in" if let_in else "turned away"] += 1
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reader.read(), max(0.1, 6.0 if let_in else 0.1))
    finally:
        writer.transport.abort()


def request_flood(name: str, method: str, path: str, *lines: str, body: bytes = b"") -> None:
    """Register: one request after another, as fast as they are answered."""

    @flood(name)
    async def attack(target: Target) -> None:
        raw = head(target, method, path, *lines, *([f"Content-Length: {len(body)}"] if body else [])) + body
        reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
        try:
            while target.going():
                writer.write(raw)
                status = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1]
                target.codes[status.decode()] += 1
                target.done["frames"] += 1
                if status != b"200":
                    return  # come again on another connection
                await reader.read(65_536)
        finally:
            writer.transport.abort()


request_flood("requests", "GET", "/api/metrics/overview")
request_flood("64 KiB of cookies", "GET", "/api/session", f"Cookie: {HUGE}")
request_flood("3,000 arguments", "GET", f"/api/tasks?{'a=1&' * 3000}")
request_flood("tokens in the query", "GET", f"/health?{'eyJ' * 5_000}")
request_flood("2,000 headers", "GET", "/health", *["X: y"] * 2000)
request_flood("60,000 nested brackets", "POST", "/api/admin/revocations", body=DEEP)
for size, name in ((7000, "7 KiB"), (5_000_000, "5 MB")):
    request_flood(
        f"tokens of {name} that are none", "GET", "/api/session", f"Authorization: Bearer eyJ{'x' * size}"
    )


if __name__ == "__main__":
    sys.exit(floods.main())
