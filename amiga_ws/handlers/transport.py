"""The bytes to one peer: an IOStream taken over from Tornado."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Literal

from tornado.iostream import IOStream, StreamClosedError
from tornado.websocket import WebSocketHandler

from amiga_ws.wire import Message

logger = logging.getLogger(__name__)

CLOSE_GRACE_S = 2.0  # for a slow SSE peer to take its `bye`


class StreamWriter:
    """Writes to one stream; calls `on_drained` when what had to wait has left."""

    def __init__(self, stream: IOStream, on_drained: Callable[[], None]) -> None:
        self.stream = stream
        self._on_drained = on_drained
        self._waiting: asyncio.Future[None] | None = None  # the last write that could not leave at once

    def busy(self) -> bool:
        """Whether bytes wait in our buffer: the kernel's is full, so the peer is slow."""
        return self.stream.writing()

    def write(self, data: bytes) -> None:
        """Hand `data` over; a peer that has gone is found out by the stream's own close callback."""
        if self.stream.closed():
            return
        try:
            future = self.stream.write(data)
        except StreamClosedError:
            return
        future.add_done_callback(_forget_closed)
        if self.stream.writing():
            self._waiting = future
            future.add_done_callback(self._flushed)

    def _flushed(self, future: asyncio.Future[None]) -> None:
        if future is self._waiting:
            self._waiting = None
            if not self.stream.closed():
                self._on_drained()

    async def drained(self) -> None:
        """Wait until nothing waits: a peer that does not read is not read from."""
        while self._waiting is not None:
            # Shielded: cancelling a write's future makes Tornado's own callback raise.
            await asyncio.wait({asyncio.shield(self._waiting)})


def _forget_closed(future: asyncio.Future[None]) -> None:
    """Fetch the outcome, so that a peer's leaving is not reported as an unhandled error."""
    if not future.cancelled():
        future.exception()


class WebSocketTransport:
    """Frames to a WebSocket peer."""

    kind: Literal["websocket", "sse"] = "websocket"

    def __init__(self, handler: WebSocketHandler, writer: StreamWriter) -> None:
        self._handler = handler
        self.writer = writer

    def busy(self) -> bool:
        """As StreamWriter.busy."""
        return self.writer.busy()

    def send(self, message: Message) -> None:
        """Send one frame; after a close frame nothing may follow (RFC 6455, 5.5.1)."""
        connection = self._handler.ws_connection
        if connection is not None and not connection.is_closing():
            self.writer.write(message.websocket())

    def close(self, code: int, reason: str) -> None:
        """Send a close frame; Tornado ends the socket when the peer answers or 5 s later."""
        self._handler.close(code, reason)

    def abort(self) -> None:
        """Cut it now."""
        self.writer.stream.close()

    def closed(self) -> bool:
        """Whether the socket has been closed."""
        return self.writer.stream.closed()


class SseTransport:
    """Event stream blocks to an SSE peer."""

    kind: Literal["websocket", "sse"] = "sse"

    def __init__(self, writer: StreamWriter) -> None:
        self.writer = writer

    def busy(self) -> bool:
        """As StreamWriter.busy."""
        return self.writer.busy()

    def send(self, message: Message) -> None:
        """Send one block."""
        self.writer.write(message.sse())

    def close(self, code: int, reason: str) -> None:
        """End the response; a peer that is slow gets 2 s to take what waits."""
        del code, reason  # `bye` has told them
        stream = self.writer.stream
        if stream.writing():
            asyncio.get_running_loop().call_later(CLOSE_GRACE_S, stream.close)
        else:
            stream.close()

    def abort(self) -> None:
        """Cut it now."""
        self.writer.stream.close()

    def closed(self) -> bool:
        """Whether the socket has been closed."""
        return self.writer.stream.closed()
