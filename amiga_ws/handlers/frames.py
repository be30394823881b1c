"""RFC 6455 and 7692 to the letter, and every private name of Tornado that we touch.

Tornado speaks WebSocket well and forgives much: frames without a mask, close codes that must never be sent,
reserved bits on a ping, handshakes of HTTP/1.0. And it errs where a ping comes between the fragments of a
compressed message (the connection is lost) or an offer of compression is odd (500). `StrictProtocol` is its
protocol with these put right, and with bounds on what a peer can make us do. How each rule ends a connection
stands in tests/test_frames.py; docs/adr/0006-strict-frames.md says why it is a subclass.

What a message means does not belong here.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import zlib
from asyncio import Future
from typing import Any, ClassVar

from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.iostream import IOStream, SSLIOStream
from tornado.util import _websocket_mask
from tornado.web import RequestHandler
from tornado.websocket import (
    WebSocketHandler,
    WebSocketProtocol13,
    _DecompressTooLargeError,
    _WebSocketParams,
)

from amiga_ws.handlers.extensions import DEFLATE, agreed_deflate
from amiga_ws.handlers.refusals import RefusedError
from amiga_ws.wire import Close, close_reason

KEY_BYTES = 16  # RFC 6455, 4.1
TEXT, BINARY, CLOSE = 0x1, 0x2, 0x8
OPCODES = frozenset({0x0, TEXT, BINARY, CLOSE, 0x9, 0xA})
MASKED = 0x80
LONGEST_CONTROL = 125
# 7.4.1 and IANA's registry; of the rest up to 2999 and of 1004-1006, 1015 none may be in a frame.
CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})
OWN_CLOSE_CODES = range(3000, 5000)
# After our last word: how long we take in what is on its way, and how much of it, before the socket is closed.
# Closed over unread input it would be reset, and the close frame might be lost (RFC 1122, 4.2.2.13).
LINGER_S, LINGER_BYTES, PIECE = 1.0, 1 << 20, 1 << 16


class FrameError(Exception):
    """What the peer sent ends its connection with this close code. `str` is the reason it is told."""

    def __init__(self, code: Close, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class StrictSocket(WebSocketHandler):
    """A WebSocketHandler whose peer is held to the standards. Base of `/ws`.

    Compression is offered where `get_compression_options` returns a dict.
    """

    max_fragments: ClassVar[int] = 1000  # of one message
    binary: ClassVar[bool] = True  # whether binary messages are taken; else 1003
    # Whether each connection compresses for itself, as Tornado does: 145 KiB for each. Else it agrees to
    # compression that anybody can do once for all (no context takeover) and only `deflates` tells.
    own_compressor: ClassVar[bool] = True

    async def get(self, *args: Any, **kwargs: Any) -> None:
        """The handshake. Raises RefusedError, so `write_error` must know it."""
        check_handshake(self.request)
        await super().get(*args, **kwargs)

    def get_websocket_protocol(self) -> StrictProtocol:
        return StrictProtocol(
            self,
            _WebSocketParams(
                ping_interval=self.ping_interval,
                ping_timeout=self.ping_timeout,
                max_message_size=self.max_message_size,
                compression_options=self.get_compression_options(),
            ),
        )

    def _detach_stream(self) -> IOStream:
        # Tornado would also put seven methods of HTTP out of action, each an attribute of the instance: its
        # dict would no longer be shared with others of its class, and take 1.3 KiB more of each connection.
        return self.detach()

    def frame_arrived(self, opcode: int, size: int) -> None:
        """Called for each frame before its `size` bytes of payload are read; may raise FrameError."""

    def broken_off(self, error: FrameError) -> None:
        """The peer has broken a rule; the close frame goes out after this, unless it has gone out here."""

    def frame_written(self, opcode: int, written: Future[None]) -> None:
        """Called for each frame that is not ours: pongs, and the close frame, which is the last."""


class StrictProtocol(WebSocketProtocol13):
    """Tornado's protocol, strict. Frames are read by us; the handshake, writing, pongs and closing are its own."""

    # A 31st attribute in the instance's dict would cost each connection 1 KiB: Tornado has 29.
    __slots__ = ("_begun", "_deflated", "_fragments", "_opcode")
    handler: StrictSocket

    def __init__(self, handler: StrictSocket, params: _WebSocketParams) -> None:
        super().__init__(handler, False, params)  # mask_outgoing
        # Of the message that is being read; the first two are set with its first frame.
        self._opcode = 0
        self._deflated = False
        self._fragments = 0
        self._begun: bytearray | None = None  # what has come of it, from its first fragment to its last

    @property
    def deflates(self) -> bool:
        """Whether compressed messages may be sent and received."""
        return self._decompressor is not None

    # -- handshake -------------------------------------------------------------------------------

    def _parse_extensions_header(self, headers: HTTPHeaders) -> list[tuple[str, dict[str, Any]]]:
        """The one extension agreed to, if any, with what is answered. Tornado would take the first offer or fail."""
        if self._compression_options is None:
            return []
        offered = headers.get("Sec-WebSocket-Extensions", "")
        agreed = agreed_deflate(offered, shared=not self.handler.own_compressor)
        return [] if agreed is None else [(DEFLATE, agreed)]

    def _create_compressors(
        self, side: str, agreed_parameters: dict[str, Any], compression_options: dict[str, Any] | None = None
    ) -> None:
        super()._create_compressors(side, agreed_parameters, compression_options)
        if not self.handler.own_compressor:
            # Frames are compressed once for many connections; one that came from here would not fit between.
            self._compressor = None

    # -- writing ---------------------------------------------------------------------------------

    def _write_frame(self, fin: bool, opcode: int, data: bytes, flags: int = 0) -> Future[None]:
        """Whatever Tornado writes by itself."""
        written = super()._write_frame(fin, opcode, data, flags)
        self.handler.frame_written(opcode, written)
        return written

    # -- reading ---------------------------------------------------------------------------------

    async def _receive_frame(self) -> None:
        """Called by Tornado's loop until `client_terminated`. One frame in each turn of the event loop: who sends many
        waits for all others. (Tornado yields after 256; four floods of pings so held everybody up for 50 ms.)
        """
        try:
            await self._read_frame()
            await asyncio.sleep(0)
        except FrameError as error:
            if not self.server_terminated:
                self.handler.broken_off(error)
                self.close(error.code, close_reason(str(error)))
            await self._linger()
            self._abort()

    async def _read_frame(self) -> None:
        first, second = await self._read_bytes(2)
        opcode, size = first & self.OPCODE_MASK, second & ~MASKED
        self._check_head(first, second)
        if size > LONGEST_CONTROL:
            extended = await self._read_bytes(2 if size == 126 else 8)  # noqa: PLR2004 - 5.2
            size = int.from_bytes(extended, "big")
            if size <= LONGEST_CONTROL or (len(extended) > 2 and size < 1 << 16):  # noqa: PLR2004 - 5.2
                raise FrameError(Close.PROTOCOL_ERROR, "a length takes as few bytes as it can")
        if opcode < CLOSE:
            self._check_message(opcode, size)
        self.handler.frame_arrived(opcode, size)
        masked = await self._read_bytes(4 + size)
        data = _websocket_mask(masked[:4], masked[4:])
        if opcode < CLOSE:
            handled = self._take_fragment(data, final=bool(first & self.FIN))
        else:
            handled = self._take_control(opcode, data)
        if handled is not None:
            await handled

    def _check_head(self, first: int, second: int) -> None:
        """A frame's first two bytes (5.2; RSV1: RFC 7692, 6.1)."""
        opcode, reserved = first & self.OPCODE_MASK, first & self.RSV_MASK
        if opcode not in OPCODES:
            raise FrameError(Close.PROTOCOL_ERROR, f"opcode {opcode} is not defined")
        if reserved and not (reserved == self.RSV1 and self.deflates and opcode in (TEXT, BINARY)):
            raise FrameError(Close.PROTOCOL_ERROR, "a reserved bit is set")
        if not second & MASKED:
            raise FrameError(Close.PROTOCOL_ERROR, "a client masks its frames")
        if opcode >= CLOSE and (not first & self.FIN or second & ~MASKED > LONGEST_CONTROL):
            raise FrameError(Close.PROTOCOL_ERROR, "a control frame is whole and at most 125 bytes long")
        if opcode < CLOSE:
            within = self._begun is not None
            if within != (opcode == 0):
                text = "a message must end before the next" if within else "there is nothing to continue"
                raise FrameError(Close.PROTOCOL_ERROR, text)
            if opcode:
                self._opcode, self._deflated, self._fragments = opcode, bool(reserved), 0

    def _check_message(self, opcode: int, size: int) -> None:
        """What a message may be, before any of it is kept."""
        if opcode == BINARY and not self.handler.binary:
            raise FrameError(Close.UNSUPPORTED_DATA, "binary messages are not part of this protocol")
        self._fragments += 1
        if self._fragments > self.handler.max_fragments:
            raise FrameError(Close.TOO_BIG, f"more than {self.handler.max_fragments} fragments")
        if size + len(self._begun or b"") > self.params.max_message_size:
            raise FrameError(Close.TOO_BIG, f"more than {self.params.max_message_size} bytes")

    def _take_fragment(self, data: bytes, *, final: bool) -> Future[Any] | None:
        if self._begun is not None:
            self._begun += data
        elif not final:
            self._begun = bytearray(data)
        if not final:
            return None
        if self._begun is not None:
            data, self._begun = bytes(self._begun), None
        return self._take_message(data)

    def _take_message(self, data: bytes) -> Future[Any] | None:
        if self.server_terminated:
            return None  # after our close frame nothing counts but theirs (5.5.1)
        if self._deflated:
            data = self._inflate(data)
        if self._opcode == BINARY:
            return self._run_callback(self.handler.on_message, data)
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise FrameError(Close.INVALID_DATA, "text is UTF-8") from error
        return self._run_callback(self.handler.on_message, text)

    def _inflate(self, data: bytes) -> bytes:
        assert self._decompressor is not None  # noqa: S101 - RSV1 is refused without
        try:
            return self._decompressor.decompress(data)
        except _DecompressTooLargeError as error:
            limit = self.params.max_message_size
            raise FrameError(Close.TOO_BIG, f"more than {limit} bytes when decompressed") from error
        except zlib.error as error:
            raise FrameError(Close.INVALID_DATA, "this is not compressed as agreed") from error

    def _take_control(self, opcode: int, data: bytes) -> Future[Any] | None:
        if opcode != CLOSE:
            return self._handle_message(
                opcode, data
            )  # at most one pong waits, the newest: Tornado sees to it
        if data:
            code = int.from_bytes(data[:2], "big")
            if len(data) == 1 or not (code in CLOSE_CODES or code in OWN_CLOSE_CODES):
                raise FrameError(Close.PROTOCOL_ERROR, "that is no close code")
            try:
                self.close_reason = data[2:].decode()
            except UnicodeDecodeError as error:
                raise FrameError(Close.INVALID_DATA, "a reason is UTF-8") from error
            self.close_code = code
        self.client_terminated = True
        self.close(
            self.close_code
        )  # their code comes back to them, and then we close the socket (5.5.1, 7.1.1)
        return None

    async def _linger(self) -> None:
        """Have our last frame arrive; what still comes is read in large pieces and thrown away."""
        timer = asyncio.get_running_loop().call_later(LINGER_S, self.stream.close)
        try:
            await self.stream.write(b"")  # nothing of ours waits
            if not isinstance(self.stream, SSLIOStream):
                self.stream.socket.shutdown(socket.SHUT_WR)
            left = LINGER_BYTES
            while left > 0:
                left -= len(await self.stream.read_bytes(PIECE, partial=True))
        except OSError:
            pass  # it has gone, or time is up
        finally:
            timer.cancel()


def check_handshake(request: HTTPServerRequest) -> None:
    """RFC 6455, 4.2.1. Tornado takes any key and any HTTP. Raises RefusedError."""
    headers = request.headers
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    if headers.get("Upgrade", "").lower() != "websocket":
        text = "this is a WebSocket: upgrade"
        raise RefusedError(426, "invalid_request", text, "no upgrade", headers=upgrade)
    if headers.get("Sec-WebSocket-Version") != "13":
        text = "this server speaks version 13 of WebSocket"
        raise RefusedError(426, "invalid_request", text, "WebSocket version", headers=upgrade)
    options = [option.strip().lower() for option in headers.get("Connection", "").split(",")]
    if "upgrade" not in options or request.version != "HTTP/1.1":
        text = "expected HTTP/1.1 with 'Connection: Upgrade'; a proxy in between may drop it"
        raise RefusedError(400, "invalid_request", text, "no connection upgrade")
    if not _is_key(headers.get("Sec-WebSocket-Key", "")):
        text = "Sec-WebSocket-Key is 16 bytes in base64"
        raise RefusedError(400, "invalid_request", text, "bad WebSocket key")


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == KEY_BYTES
    except ValueError:
        return False


# -- other names that Tornado does not give to the public ------------------------------------------


def answered(handler: RequestHandler) -> bool:
    """Whether the request has been answered."""
    return handler._finished


def headers_set(handler: RequestHandler) -> HTTPHeaders:
    """The headers the answer has so far."""
    return handler._headers
