"""`WS /ws`: the stream over WebSocket."""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future
from http import HTTPStatus
from typing import Any, ClassVar

from tornado.httputil import HTTPHeaders

from amiga_ws.auth.tokens import MAX_TOKEN_BYTES
from amiga_ws.client import Client
from amiga_ws.handlers.connect import welcome
from amiga_ws.handlers.credentials import Credential, offered_subprotocols
from amiga_ws.handlers.frames import CLOSE, FrameError, StrictSocket
from amiga_ws.handlers.guard import Guarded
from amiga_ws.handlers.refusals import RefusedError, unavailable
from amiga_ws.handlers.transport import WebSocketTransport
from amiga_ws.ratelimit import TokenBucket
from amiga_ws.wire import (
    SUBPROTOCOL,
    Authenticate,
    Bye,
    Close,
    Message,
    RequestError,
    close_reason,
    parse_command,
)

logger = logging.getLogger(__name__)

CREDENTIAL_S = 5.0  # for the first message
_NO_HEADERS = HTTPHeaders()
# What a frame costs us beside its bytes, as bytes: it is read, unmasked and looked at in 15 us.
FRAME_BYTES = 4096
LAST_FRAMES = 20  # room for so many, as they count, after our close frame; then nothing is looked at
PINGS, PINGS_BURST = 1, 10  # at least, a second and at once: libraries ping by themselves, and answer ours


class MetricsSocket(Guarded, StrictSocket):
    """One WebSocket viewer. Text messages go to the hub in order, each after the peer has read the answers."""

    # With more than 30 attributes a dict costs a kilobyte more, and this one stays as long as the connection.
    __slots__ = ("_frames", "_pings", "_transport")
    stream: ClassVar[bool] = True
    late_credential: ClassVar[bool] = True
    binary: ClassVar[bool] = False
    own_compressor: ClassVar[bool] = False
    client: Client | None = None  # set once there is an identity: by open, or by the first message
    _transport: WebSocketTransport  # set by open
    _deflated: bool = False  # whether messages are compressed; set by open
    _frames: TokenBucket  # bytes of frames, each counted as FRAME_BYTES more; set by open
    _pings: TokenBucket  # pings, which are answered, and pongs; set by open
    _deadline: asyncio.TimerHandle | None = None  # for the first message; set while one is awaited

    def set_default_headers(self) -> None:
        """None yet: a 101 is no document, and a tenth of a handshake's cost would go into its headers."""
        self.clear_header("Server")

    def finish(self, chunk: str | bytes | dict[str, Any] | None = None) -> Future[None]:
        if self.get_status() != HTTPStatus.SWITCHING_PROTOCOLS:
            super().set_default_headers()
        return super().finish(chunk)

    def check_origin(self, origin: str) -> bool:
        """True: the guard has judged. Tornado does not even ask where Origin equals Host (DNS rebinding)."""
        return True

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """Only the fixed name is ever echoed, never the one that carries the token."""
        return SUBPROTOCOL if SUBPROTOCOL in offered_subprotocols(self.request) else None

    def get_compression_options(self) -> dict[str, Any] | None:
        """Compression is answered to who offers it, if the owner wants it and there is room."""
        settings = self.services.settings
        room = self.services.deflating < settings.limits.deflate_connections
        return {} if settings.server.deflate and room else None

    def open(self, *args: str, **kwargs: str) -> None:
        """The handshake is done."""
        connection: Any = self.ws_connection
        if connection.stream.closed():
            return  # it left during the handshake: Tornado finds out when it reads
        # 8 KiB a connection less, and the token need not stay in memory.
        self.request.headers = _NO_HEADERS
        self._deflated = connection.deflates
        self.services.deflating += self._deflated
        self._transport = WebSocketTransport(self, connection.stream, deflated=self._deflated)
        self._frames, self._pings = self._frame_budget(), self._ping_budget()
        if hasattr(self, "identity"):
            self._begin()
        else:
            self._wait_for_credential()

    def _begin(self) -> None:
        self.client = welcome(self, self._transport)
        self._transport.on_drained = self.client.drained

    async def on_message(self, message: str | bytes) -> None:
        """Tornado reads the next frame when this is done: a peer that does not read is not read from."""
        if self.ws_connection is None:
            return
        assert isinstance(message, str)  # noqa: S101 - `binary` is False
        if self.client is None:
            self._authenticate(message)
            return
        await self._transport.drained()
        try:
            await self.services.dialogue.obey(self.client, message)
        except Exception:
            logger.exception("a message of %s failed", self.client.client_id)
            self.services.hub.close(self.client, Close.SERVER_ERROR, "server error: see the server's log")

    def _frame_budget(self) -> TokenBucket:
        """What messages may take by their own limits, and one message in as many fragments as there may be."""
        limits = self.services.settings.limits
        message = limits.message_bytes + FRAME_BYTES
        most = limits.messages_burst * message + self.max_fragments * FRAME_BYTES
        return TokenBucket(limits.messages_per_second * message, most, self.services.clock.monotonic())

    def _ping_budget(self) -> TokenBucket:
        limits = self.services.settings.limits
        rate, burst = max(limits.messages_per_second, PINGS), max(limits.messages_burst, PINGS_BURST)
        return TokenBucket(rate, burst, self.services.clock.monotonic())

    def frame_arrived(self, opcode: int, size: int) -> None:
        """Messages have a limit of their own; this one counts pings, fragments and what is empty, too."""
        now = self.services.clock.monotonic()
        if self._frames.take(now, FRAME_BYTES + size):
            text = "more frames than limits.messages_per_second and message_bytes leave room for"
            raise FrameError(Close.RATE_LIMITED, text)
        if opcode > CLOSE and self._pings.take(now):
            raise FrameError(Close.RATE_LIMITED, "more pings than limits.messages_per_second allows messages")

    def broken_off(self, error: FrameError) -> None:
        if self.client is None:
            self._dismiss(error.code, str(error), kind="frames")
        else:
            self.services.hub.close(self.client, error.code, str(error))

    def frame_written(self, opcode: int, written: Future[None]) -> None:
        """Beside our transport, which must not overtake it, nor follow a close frame."""
        self._transport.written_beside(written)
        if opcode == CLOSE:
            self._transport.end()
            # Theirs is all that counts now, and what was on its way may come before it.
            self._frames = TokenBucket(1, LAST_FRAMES * FRAME_BYTES, self.services.clock.monotonic())

    def on_ping(self, data: bytes) -> None:
        """Heard of: it need not be asked, and the longest-silent connection is the one that makes room."""
        if self.client is not None:
            self.client.heard()

    on_pong = on_ping

    def on_close(self) -> None:
        self._stop_waiting()
        self.services.deflating -= self._deflated
        if self.client is not None:
            self.services.hub.remove(self.client)
        if hasattr(self, "_transport"):
            self._transport.forget()

    # -- a credential in the first message -------------------------------------------------------

    def _wait_for_credential(self) -> None:
        """For clients that can set neither header nor subprotocol; nothing is sent before."""
        self.services.pending[self.address] += 1
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(
            CREDENTIAL_S, self._dismiss, Close.NO_CREDENTIAL, "no credential in time"
        )

    def _stop_waiting(self) -> None:
        if self._deadline is None:
            return
        self._deadline.cancel()
        self._deadline = None
        self.services.pending[self.address] -= 1
        if not self.services.pending[self.address]:
            del self.services.pending[self.address]

    def _authenticate(self, message: str) -> None:
        if self._deadline is None:
            return  # dismissed already
        try:
            if len(message) > MAX_TOKEN_BYTES:
                raise RequestError("invalid_request", "too long")
            command, _ = parse_command(message)
        except RequestError:
            command = None
        if not isinstance(command, Authenticate):
            self._dismiss(Close.NO_CREDENTIAL, "the first message must be authenticate")
            return
        try:
            if not self.services.ready():
                raise unavailable("the server is shutting down")
            identity = self._identify(Credential(command.token, "subprotocol"))
            self.check_misuses(identity)
        except RefusedError as refusal:
            code = Close.BAD_CREDENTIAL if refusal.retry_s is None else Close.RATE_LIMITED
            self._dismiss(code, refusal.text, refusal.reason, refusal.retry_s, kind=refusal.kind)
            return
        if self.scope not in identity.scopes:
            self._dismiss(Close.BAD_CREDENTIAL, self.lacking, "scope", kind="scope")
            return
        self._stop_waiting()
        self.identity = identity
        self._begin()

    def _dismiss(
        self,
        code: Close,
        text: str,
        reason: str = "",
        retry_s: int | None = None,
        kind: str = "credential",
    ) -> None:
        """Tell the peer `text` and the owner `reason`, and close."""
        self._stop_waiting()
        ref = self.note_refusal(RefusedError(int(code), "unauthorized", text, reason or text, kind=kind))
        retry_ms = None if retry_s is None else retry_s * 1000
        self._transport.send(Message.of(Bye(int(code), text, code.reconnect, retry_ms, ref)))
        self.close(int(code), close_reason(text))
