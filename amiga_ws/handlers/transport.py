"""The bytes to one peer: an IOStream taken over from Tornado."""

from __future__ import annotations

import array
import asyncio
import fcntl
import termios
from collections.abc import Callable
from typing import Literal

from tornado.iostream import IOStream, SSLIOStream, StreamClosedError
from tornado.websocket import WebSocketHandler

from amiga_ws.wire import PING_FRAME, Message

CLOSE_GRACE_S = 2.0  # for a slow SSE peer to take its `bye`


class StreamTransport:
    """Bytes to one stream; calls `on_drained` when what had to wait has left. See client.Transport."""

    __slots__ = ("_ended", "_send", "on_drained", "stream", "waiting")

    def __init__(self, stream: IOStream) -> None:
        self.stream = stream
        self.on_drained: Callable[[], None] = _nothing  # set once there is a Client
        # The last write that could not leave at once. None: nothing waits in the stream's buffer, whoever
        # wrote it (`written_beside`); only then may we write to the socket ourselves.
        self.waiting: asyncio.Future[None] | None = None
        self._ended = False  # our last byte has been written
        # A TLS socket must not be written to beside its stream.
        self._send: Callable[[bytes], int] = (
            self._send_through if isinstance(stream, SSLIOStream) else stream.socket.send
        )
        stream.set_nodelay(True)
        if stream.writing():  # the head of the response
            self.write(b"")

    def busy(self) -> bool:
        """Whether bytes wait in our buffer: the kernel's is full, so the peer is slow."""
        return self.waiting is not None

    def offer(self, data: bytes) -> bool:
        """Write unless something waits already: then nothing is done, and the answer is False.

        The hot path. Straight to the socket: IOStream.write would make a future and copy into its buffer for
        each client. Only what the kernel refuses goes there.
        """
        if self.waiting is not None:
            return False
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        except OSError:  # the peer has gone, or the stream has been closed: its close callback tells
            self.stream.close()
            return True
        if sent != len(data):
            self.write(memoryview(data)[sent:])
        return True

    def write_now(self, data: bytes) -> None:
        """Write in any case: at once where nothing waits, else after what does."""
        if not self.offer(data):
            self.write(data)

    def write(self, data: bytes | memoryview) -> None:
        """Hand `data` over, after what may wait already."""
        if self._ended or self.stream.closed():
            return
        try:
            future = self.stream.write(data)
        except StreamClosedError:
            return
        future.add_done_callback(_forget_closed)
        self.written_beside(future)

    def _send_through(self, data: bytes) -> int:
        self.write(data)
        return len(data)

    def written_beside(self, written: asyncio.Future[None]) -> None:
        """Something has been given to the stream: if it waits there, so must all that follows."""
        if self.stream.writing():
            self.waiting = written
            written.add_done_callback(self._flushed)

    def end(self) -> None:
        """Nothing may follow what has been written: whatever comes from now on goes nowhere."""
        self._ended = True
        self._send = len  # as if all of it had been sent: the hot path need not ask

    def queued(self) -> int:
        """Bytes in the kernel's send queue that the peer has not acknowledged."""
        if self.stream.closed():
            return 0
        answer = array.array("i", [0])
        fcntl.ioctl(self.stream.socket.fileno(), termios.TIOCOUTQ, answer)
        return answer[0]

    def _flushed(self, future: asyncio.Future[None]) -> None:
        if future is self.waiting:
            self.waiting = None
            if not self.stream.closed():
                self.on_drained()

    async def drained(self) -> None:
        """Wait until nothing waits: a peer that does not read is not read from."""
        while self.waiting is not None:
            # wait() leaves the future alone when we are cancelled: cancelling a write's future makes
            # Tornado's own callback raise. A shield would be one more future whose exception nobody fetches.
            await asyncio.wait({self.waiting})

    def abort(self) -> None:
        """Cut it now."""
        self.stream.close()

    def closed(self) -> bool:
        """Whether the socket has been closed."""
        return self.stream.closed()

    def forget(self) -> None:
        """It is over: let go of who holds us. In a cycle all of a connection would wait for the garbage collector,
        and for ever if a reading froze what there was meanwhile (AmigaCollector).
        """
        self.on_drained = _nothing


def _nothing() -> None:
    """Nobody to tell yet."""


def _forget_closed(future: asyncio.Future[None]) -> None:
    """Fetch the outcome, so that a peer's leaving is not reported as an unhandled error."""
    if not future.cancelled():
        future.exception()


class WebSocketTransport(StreamTransport):
    """Frames to a WebSocket peer. Its handler calls `end` after a close frame (RFC 6455, 5.5.1)."""

    __slots__ = ("_handler", "frame")
    kind: Literal["websocket", "sse"] = "websocket"

    def __init__(self, handler: WebSocketHandler, stream: IOStream, *, deflated: bool) -> None:
        super().__init__(stream)
        self._handler: WebSocketHandler | None = handler
        self.frame = Message.deflated if deflated else Message.websocket

    def send(self, message: Message) -> None:
        """Send one frame."""
        self.write_now(self.frame(message))

    def ping(self) -> None:
        """Ask for a pong."""
        self.offer(PING_FRAME)

    def close(self, code: int, reason: str) -> None:
        """Send a close frame; Tornado ends the socket when the peer answers or 5 s later."""
        if self._handler is not None:
            self._handler.close(code, reason)

    def forget(self) -> None:
        super().forget()
        self._handler = None


class SseTransport(StreamTransport):
    """Event stream blocks to an SSE peer."""

    __slots__ = ()
    kind: Literal["websocket", "sse"] = "sse"
    frame = staticmethod(Message.sse)

    def send(self, message: Message) -> None:
        """Send one block."""
        self.write_now(message.sse())

    def ping(self) -> None:
        """There is no such thing; the user timeout of the socket stands for it."""

    def close(self, code: int, reason: str) -> None:
        """End the response; a peer that is slow gets 2 s to take what waits."""
        del code, reason  # `bye` has told them
        if self.stream.writing():
            asyncio.get_running_loop().call_later(CLOSE_GRACE_S, self.stream.close)
        else:
            self.stream.close()
