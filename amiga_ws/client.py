"""Client: all state of one connection, whatever its transport. No I/O: the transport has it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from amiga_ws.auth.tokens import Identity
from amiga_ws.ratelimit import TokenBucket
from amiga_ws.window import Window
from amiga_ws.wire import Bye, Close, Config, Event, Heartbeat, Lag, Message, MessageId, close_reason

HEARTBEAT_S = 15.0  # of silence before a heartbeat


class Transport(Protocol):
    """The bytes to one peer. Neither method blocks or raises for a peer that has gone."""

    kind: Literal["websocket", "sse"]

    def busy(self) -> bool:
        """Whether earlier bytes still wait for the peer."""

    def send(self, message: Message) -> None:
        """Send now; what the kernel refuses is kept and `Client.drained` called when it has left."""

    def close(self, code: int, reason: str) -> None:
        """End the stream in order, after what was sent."""

    def abort(self) -> None:
        """Cut it now, whatever waits."""

    def closed(self) -> bool:
        """Whether the connection has ended."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Monotonic seconds for every interval, wall seconds for expiry and what people read."""

    monotonic: Callable[[], float]
    wall: Callable[[], float]


@dataclass(eq=False, slots=True)
class Client:
    """One viewer's connection. `eq=False`: two are the same only if they are one."""

    client_id: str
    identity: Identity
    transport: Transport
    address: str  # the peer's, as the guard judged it
    clock: Clock
    messages: TokenBucket  # inbound messages
    refreshes: TokenBucket  # request_refresh
    config: Config | None = None  # set by subscribe, None again by unsubscribe
    window: Window | None = None  # the subscribed window, set together with config
    sent: Message | None = None  # the last state given to the transport, of this window
    owed: bool = False  # a newer state waits until the transport has drained
    coalesced: int = 0  # states skipped while it was busy
    owed_since: float = 0.0  # monotonic; when `owed` became true
    # Monotonic; when to break the silence. The first is drawn, so that clients that came together part.
    heartbeat_at: float = field(default=0.0)

    def __post_init__(self) -> None:
        self.heartbeat_at = self.clock.monotonic() + HEARTBEAT_S * random.uniform(0.5, 1.0)  # noqa: S311 - spread

    @property
    def position(self) -> str | None:
        """The position of the last state it was given."""
        return None if self.sent is None else self.sent.position

    # -- what it is given ------------------------------------------------------------------------

    def offer(self, state: Message) -> None:
        """Give the newest state of its window now, or owe it: at most one frame, the newest."""
        if self.sent is state:
            return
        if self.transport.busy():
            self.coalesced += self.owed
            if not self.owed:
                self.owed, self.owed_since = True, self.clock.monotonic()
            return
        self._give(state)

    def drained(self) -> None:
        """The transport has room again: pay what is owed and tell how far behind that was."""
        if not self.owed or self.window is None or self.window.message is None:
            return
        behind_ms = int((self.clock.monotonic() - self.owed_since) * 1000)
        skipped, self.coalesced, self.owed = self.coalesced, 0, False
        self._give(self.window.message)
        if skipped:
            self.say(Lag(skipped, behind_ms))

    def _give(self, state: Message) -> None:
        self.sent = state
        self.heartbeat_at = self.clock.monotonic() + HEARTBEAT_S
        self.transport.send(state)

    def say(self, event: Event, message_id: MessageId = None) -> None:
        """Send a named event, at once."""
        self.heartbeat_at = self.clock.monotonic() + HEARTBEAT_S
        self.transport.send(Message.of(event, message_id))

    # -- time ------------------------------------------------------------------------------------

    def beat(self, now: float) -> None:
        """Break a silence of 15 s; a busy transport is not silent."""
        if now >= self.heartbeat_at and not self.transport.busy():
            self.say(Heartbeat(self.position, self.clock.wall()))

    @property
    def expired(self) -> bool:
        """Whether its credential has ended."""
        return self.clock.wall() >= self.identity.expires_at

    # -- end -------------------------------------------------------------------------------------

    def subscribe(self, config: Config, window: Window) -> None:
        """Take a subscription; of a new window nothing has been sent yet."""
        if window is not self.window:
            self.sent = None
        self.config, self.window, self.owed, self.coalesced = config, window, False, 0

    def unsubscribe(self) -> None:
        """Be owed nothing any more."""
        self.config = self.window = self.sent = None
        self.owed, self.coalesced = False, 0

    def bye(self, code: Close, reason: str, ref: str, retry_ms: int | None = None) -> None:
        """Say why and close."""
        self.say(Bye(int(code), reason, code.reconnect, retry_ms, ref))
        self.transport.close(int(code), close_reason(reason))
