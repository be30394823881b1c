"""What crosses the network: messages in, messages out, frames and close codes. No I/O, no clock.

docs/protocol.md is this module in prose. A message is encoded to JSON once (`Message.data`) and framed at
most once for each transport, however many clients get it.
"""

from __future__ import annotations

import math
import zlib
from enum import IntEnum
from typing import Literal

import msgspec

from amiga_ws.patch import Operation

SUBPROTOCOL = "amiga.v1"
BEARER_SUBPROTOCOL = "amiga.bearer."

HOURS_RANGE = (1, 168)
INTERVAL_RANGE = (1, 60)
DEFAULT_HOURS = 24
MAX_REASON_BYTES = 123  # RFC 6455, 5.5: a control frame's payload is at most 125 bytes, 2 are the code
MAX_ID_CHARS = 128

MessageId = str | int | None
ErrorCode = Literal[
    "invalid_json",
    "unknown_event",
    "invalid_request",
    "unauthorized",
    "forbidden",
    "rate_limited",
    "not_subscribed",
    "unavailable",
    "internal",
]


class Close(IntEnum):
    """Close codes of live connections: 4000-4499 come back, 4500-4999 stop; RFC 6455's (7.4.1) keep their meaning."""

    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    INVALID_DATA = 1007
    TOO_BIG = 1009
    SHUTTING_DOWN = 4001
    SLOW_CONSUMER = 4002
    TOKEN_EXPIRED = 4003
    NO_PONG = 4004
    RATE_LIMITED = 4005
    SERVER_ERROR = 4006
    NO_CREDENTIAL = 4501
    BAD_CREDENTIAL = 4502
    REVOKED = 4503
    SCOPE_LOST = 4504
    EVICTED = 4505
    UNPARSABLE = 4506

    @property
    def reconnect(self) -> bool:
        """Whether the client should come back by itself."""
        return Close.SHUTTING_DOWN <= self < Close.NO_CREDENTIAL

    @property
    def misuse(self) -> bool:
        """Whether the connection ends for what the peer sent."""
        return self < Close.SHUTTING_DOWN or self in (Close.RATE_LIMITED, Close.UNPARSABLE)


# -- client → server -----------------------------------------------------------------------------


class RequestError(Exception):
    """A message that cannot be obeyed; it changes nothing and the connection stays.

    `ref` is set where the log says more than `text`.
    """

    def __init__(
        self, code: ErrorCode, text: str, message_id: MessageId = None, ref: str | None = None
    ) -> None:
        super().__init__(text)
        self.code: ErrorCode = code
        self.text = text
        self.message_id = message_id
        self.ref = ref


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Unknown fields are errors: a misspelt one would else be a silent default."""


class Envelope(_Strict, frozen=True):
    event: str
    data: msgspec.Raw = msgspec.Raw(b"{}")
    id: MessageId = None


class Subscribe(_Strict, frozen=True):
    """`hours` and `update_interval` (s) as the client wrote them; `config_of` makes them usable."""

    hours: int | float = DEFAULT_HOURS
    update_interval: int | float | None = None
    delta: bool = False
    resume: str | None = None


class Unsubscribe(_Strict, frozen=True):
    pass


class RequestRefresh(_Strict, frozen=True):
    hours: int | float | None = None


class SetInterval(_Strict, frozen=True):
    interval: int | float


class RefreshToken(_Strict, frozen=True):
    token: str


class Authenticate(_Strict, frozen=True):
    token: str


Command = Subscribe | Unsubscribe | RequestRefresh | SetInterval | RefreshToken | Authenticate
_COMMANDS: dict[str, type[Command]] = {
    "subscribe": Subscribe,
    "unsubscribe": Unsubscribe,
    "request_refresh": RequestRefresh,
    "set_interval": SetInterval,
    "refresh_token": RefreshToken,
    "authenticate": Authenticate,
}
_envelope_decoder = msgspec.json.Decoder(Envelope)
_command_decoders = {event: msgspec.json.Decoder(shape) for event, shape in _COMMANDS.items()}


def parse_command(raw: str | bytes) -> tuple[Command, MessageId]:
    """One text frame → the command and the client's own id.

    Raises:
        RequestError: malformed JSON, an unknown event or field, a wrong type.
    """
    try:
        envelope = _envelope_decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise RequestError("invalid_request", _speakable(error)) from error
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise RequestError("invalid_json", 'not JSON: expected {"event": name, "data": {…}}') from error
    message_id = envelope.id
    if isinstance(message_id, str) and len(message_id) > MAX_ID_CHARS:
        raise RequestError("invalid_request", f"id is longer than {MAX_ID_CHARS} characters")
    decoder = _command_decoders.get(envelope.event)
    if decoder is None:
        known = ", ".join(_COMMANDS)
        raise RequestError("unknown_event", f"unknown event; known are: {known}", message_id)
    try:
        return decoder.decode(envelope.data), message_id
    except (msgspec.DecodeError, RecursionError) as error:
        raise RequestError("invalid_request", _speakable(error), message_id) from error


def _speakable(error: Exception) -> str:
    """msgspec names the field and the expected type; a field name from outside is cut, not trusted."""
    return str(error)[:200]


class Config(msgspec.Struct, frozen=True):
    """What a subscription really got; `clamped` names the fields that were put into their range."""

    hours: int
    update_interval: int
    delta: bool = False
    clamped: list[str] = []


def clamp_hours(hours: float, message_id: MessageId = None) -> tuple[int, bool]:
    """Whole hours within 1-168 and whether they had to be moved; RequestError for a fraction."""
    if hours != (whole := math.floor(hours)):
        raise RequestError("invalid_request", "hours is a whole number", message_id)
    inside = min(max(whole, HOURS_RANGE[0]), HOURS_RANGE[1])
    return inside, inside != whole


def clamp_interval(seconds: float) -> tuple[int, bool]:
    """Whole seconds (rounded up) within 1-60 and whether the range moved them."""
    whole = math.ceil(seconds)
    inside = min(max(whole, INTERVAL_RANGE[0]), INTERVAL_RANGE[1])
    return inside, inside != whole


def config_of(request: Subscribe, default_interval: int, message_id: MessageId = None) -> Config:
    """The usable subscription a request asks for; RequestError for a fraction of an hour."""
    hours, hours_moved = clamp_hours(request.hours, message_id)
    asked = default_interval if request.update_interval is None else request.update_interval
    interval, interval_moved = clamp_interval(asked)
    clamped = [name for name, moved in (("hours", hours_moved), ("update_interval", interval_moved)) if moved]
    return Config(hours, interval, request.delta, clamped)


# -- server → client -----------------------------------------------------------------------------


class Limits(msgspec.Struct, frozen=True):
    """The limits a client lives under, told on connection. Rates are per second."""

    messages_per_second: float
    messages_burst: int
    refreshes_per_second: float
    refreshes_burst: int
    message_bytes: int
    connections_per_subject: int


class Connected(msgspec.Struct, frozen=True):
    client_id: str
    subject: str
    scopes: list[str]
    expires_in: float
    heartbeat_interval: float
    limits: Limits
    server_version: str
    status: str = "connected"
    protocol: str = SUBPROTOCOL


class Subscribed(msgspec.Struct, frozen=True):
    config: Config
    resumed: bool
    why: Literal["epoch", "window", "evicted"] | None = None
    status: str = "subscribed"


class Unsubscribed(msgspec.Struct, frozen=True):
    status: str = "unsubscribed"


class IntervalUpdated(msgspec.Struct, frozen=True):
    interval: int


class Heartbeat(msgspec.Struct, frozen=True):
    position: str | None
    server_time: float


class Lag(msgspec.Struct, frozen=True):
    coalesced: int
    behind_ms: int


class AuthEvent(msgspec.Struct, frozen=True):
    expires_in: float
    state: Literal["expiring"] = "expiring"


class TokenRefreshed(msgspec.Struct, frozen=True):
    expires_in: float


class ErrorEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    error: str
    code: str
    timestamp: float
    id: MessageId = None
    retry_ms: int | None = None
    ref: str | None = None


class Bye(msgspec.Struct, frozen=True):
    code: int
    reason: str
    reconnect: bool
    retry_ms: int | None
    ref: str


class Patch(msgspec.Struct, frozen=True, kw_only=True, rename={"base": "from"}):
    """`patch` turns the document at `base` into the one at `position`, both without their stamps."""

    hours: int
    base: str
    position: str
    timestamp: float
    patch: list[Operation]


_EVENT_NAMES: dict[type[msgspec.Struct], str] = {
    Connected: "connected",
    Subscribed: "subscribed",
    Unsubscribed: "unsubscribed",
    IntervalUpdated: "interval_updated",
    Heartbeat: "heartbeat",
    Lag: "lag",
    AuthEvent: "auth",
    TokenRefreshed: "token_refreshed",
    ErrorEvent: "error",
    Bye: "bye",
}
Event = (
    Connected
    | Subscribed
    | Unsubscribed
    | IntervalUpdated
    | Heartbeat
    | Lag
    | AuthEvent
    | TokenRefreshed
    | ErrorEvent
    | Bye
)

METRICS_UPDATE = "metrics_update"
METRICS_PATCH = "metrics_patch"

encode = msgspec.json.Encoder().encode


class Message:
    """One server message: its JSON once, its frame for each transport built at most once.

    `position` is set on events that move the client's position.
    """

    __slots__ = ("_deflated", "_sse", "_websocket", "data", "event", "message_id", "position")

    def __init__(
        self, event: str, data: bytes, *, position: str | None = None, message_id: MessageId = None
    ) -> None:
        self.event = event
        self.data = data
        self.position = position
        self.message_id = message_id
        self._websocket: bytes | None = None
        self._deflated: bytes | None = None
        self._sse: bytes | None = None

    @classmethod
    def of(cls, event: Event, message_id: MessageId = None) -> Message:
        """A named event; `message_id` is echoed on the direct answer to a command."""
        return cls(_EVENT_NAMES[type(event)], encode(event), message_id=message_id)

    def websocket(self) -> bytes:
        """An unmasked, unfragmented text frame (RFC 6455, 5.2)."""
        if self._websocket is None:
            head = b'{"event":"' + self.event.encode() + b'","data":'
            tail = b"}" if self.message_id is None else b',"id":' + encode(self.message_id) + b"}"
            size = len(head) + len(self.data) + len(tail)
            self._websocket = b"".join((text_header(size), head, self.data, tail))
        return self._websocket

    def deflated(self) -> bytes:
        """The same, compressed by itself (RFC 7692, without context takeover); the plain frame if that is small.

        70 us for 16 KiB, once, however many clients get it.
        """
        if self._deflated is None:
            frame = self.websocket()
            if len(frame) < LEAST_DEFLATED:
                self._deflated = frame
                return frame
            compressor = zlib.compressobj(DEFLATE_LEVEL, wbits=-zlib.MAX_WBITS)
            header = 4 if frame[1] == 126 else 10  # noqa: PLR2004 - RFC 6455, 5.2
            data = compressor.compress(memoryview(frame)[header:]) + compressor.flush(zlib.Z_SYNC_FLUSH)
            data = data[:-4]  # the empty block at the end is understood (7.2.1)
            self._deflated = text_header(len(data), RSV1) + data
        return self._deflated

    def sse(self) -> bytes:
        """An event stream block. JSON has no raw line end, so one `data:` line carries it all.

        A full snapshot is the unnamed event: `onmessage` of a native EventSource gets it.
        """
        if self._sse is None:
            head = b"" if self.event == METRICS_UPDATE else b"event: " + self.event.encode() + b"\n"
            if self.position is not None:
                head += b"id: " + self.position.encode() + b"\n"
            self._sse = head + b"data: " + self.data + b"\n\n"
        return self._sse


RSV1 = 0x40  # this message is compressed (RFC 7692, 6)
LEAST_DEFLATED = 1024  # bytes; below that a frame fits a packet anyway
DEFLATE_LEVEL = 6  # 16 KiB to 1.8; level 9 takes a quarter longer for 6 bytes less
PING_FRAME = b"\x89\x00"  # empty, from a server (RFC 6455, 5.5.2)


def text_header(size: int, reserved: int = 0) -> bytes:
    """What goes before `size` bytes of UTF-8, or what they were compressed to: one final text frame from a server."""
    first = 0x81 | reserved
    if size < 126:  # noqa: PLR2004 - RFC 6455, 5.2: 7-bit length
        return bytes((first, size))
    if size < 1 << 16:
        return bytes((first, 126)) + size.to_bytes(2, "big")
    return bytes((first, 127)) + size.to_bytes(8, "big")


def close_reason(text: str) -> str:
    """`text` cut to what a close frame carries, never inside a character."""
    return text.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
