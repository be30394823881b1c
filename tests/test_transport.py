"""The bytes to one peer: nothing overtakes, nothing is cut in two, nothing follows the end, little is queued."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest
from servers import eventually
from tornado.iostream import IOStream

from amiga_ws import listening
from amiga_ws.handlers.transport import SseTransport, WebSocketTransport
from amiga_ws.wire import METRICS_UPDATE, Message

KINDS = pytest.mark.parametrize("kind", ["websocket", "sse"])
SNAPSHOT = Message(METRICS_UPDATE, b'"' + b"x" * (16 * 1024) + b'"', position="e.24.1")
MOST_QUEUED = 20  # snapshots of 16 KiB that the kernel takes for a peer that reads nothing


class NoHandler:
    """Of a WebSocket; only `close` is ever asked of it."""

    def close(self, code, reason):
        raise AssertionError


@asynccontextmanager
async def connected(kind):
    """(transport, the peer's socket): two ends of a real connection."""
    (listener,) = listening.bind("127.0.0.1", [0])
    with listener:
        peer = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    peer.setblocking(False)
    stream = IOStream(accepted)
    transport = (
        WebSocketTransport(NoHandler(), stream, deflated=False)
        if kind == "websocket"
        else SseTransport(stream)
    )
    try:
        yield transport, peer
    finally:
        stream.close()
        peer.close()


def framed(kind):
    return SNAPSHOT.websocket() if kind == "websocket" else SNAPSHOT.sse()


def offered_until_busy(transport):
    """How many snapshots it took."""
    taken = 0
    while transport.offer(transport.frame(SNAPSHOT)):
        taken += 1
    return taken


async def read(peer, size):
    """So many bytes; the peer reads a little at a time, as a slow one does."""
    loop, data = asyncio.get_running_loop(), b""
    while len(data) < size:
        data += await loop.sock_recv(peer, min(4096, size - len(data)))
    return data


@KINDS
async def test_a_peer_that_reads_nothing_has_at_most_twenty_snapshots_queued(kind):
    async with connected(kind) as (transport, _peer):
        assert 1 <= offered_until_busy(transport) <= MOST_QUEUED
        assert transport.busy()
        assert not transport.offer(transport.frame(SNAPSHOT))


@KINDS
async def test_what_the_kernel_took_in_part_arrives_whole_and_frees_the_transport(kind):
    async with connected(kind) as (transport, peer):
        drained = asyncio.Event()
        transport.on_drained = drained.set
        taken = offered_until_busy(transport)
        assert not drained.is_set()
        assert await read(peer, taken * len(framed(kind))) == framed(kind) * taken
        await asyncio.wait_for(drained.wait(), 5)
        assert not transport.busy()
        assert transport.offer(transport.frame(SNAPSHOT))
        assert await read(peer, len(framed(kind))) == framed(kind)


@KINDS
async def test_what_must_be_said_waits_its_turn(kind):
    async with connected(kind) as (transport, peer):
        taken = offered_until_busy(transport)
        transport.send(SNAPSHOT)
        assert await read(peer, (taken + 1) * len(framed(kind))) == framed(kind) * (taken + 1)


async def test_a_frame_does_not_overtake_what_was_written_beside_it():
    """A pong waits in the stream; the socket has room again before the stream has looked."""
    async with connected("websocket") as (transport, peer):
        frame, sent = framed("websocket"), b""
        while not transport.stream.writing():
            sent += frame
            transport.written_beside(transport.stream.write(frame))
        pong = b"\x8a\x05here?"
        transport.written_beside(transport.stream.write(pong))
        taken = peer.recv(1 << 17)
        assert not transport.offer(transport.frame(SNAPSHOT))
        transport.send(SNAPSHOT)
        expected = sent + pong + frame
        assert taken + await read(peer, len(expected) - len(taken)) == expected


@KINDS
async def test_nothing_follows_the_end_whether_or_not_something_waits(kind):
    async with connected(kind) as (transport, peer):
        transport.send(SNAPSHOT)
        transport.end()
        transport.send(SNAPSHOT)
        assert transport.offer(transport.frame(SNAPSHOT))
        transport.abort()
        assert await read(peer, len(framed(kind))) == framed(kind)
        assert await asyncio.get_running_loop().sock_recv(peer, 1) == b""
    async with connected(kind) as (transport, peer):
        taken = offered_until_busy(transport)
        transport.end()
        transport.send(SNAPSHOT)
        assert await read(peer, taken * len(framed(kind))) == framed(kind) * taken
        await eventually(lambda: not transport.busy())
        transport.abort()
        assert await asyncio.get_running_loop().sock_recv(peer, 1) == b""


@KINDS
async def test_a_peer_that_has_gone_takes_everything_and_is_closed(kind):
    async with connected(kind) as (transport, peer):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        peer.close()
        while not transport.closed():
            assert transport.offer(transport.frame(SNAPSHOT))
            await asyncio.sleep(0)
        assert transport.offer(transport.frame(SNAPSHOT))
        transport.send(SNAPSHOT)
        assert not transport.busy()
