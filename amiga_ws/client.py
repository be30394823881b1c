"""Client: all state of one connection, whatever its transport. No I/O: the transport has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Literal, Protocol

from amiga_ws import spread
from amiga_ws.auth.tokens import Identity
from amiga_ws.ratelimit import Strikes, TokenBucket
from amiga_ws.window import NOTHING_SENT, Window
from amiga_ws.wire import Bye, Close, Config, Event, Heartbeat, Lag, Message, MessageId, close_reason

HEARTBEAT_S = 15.0  # of silence before a heartbeat
WARN_S = 60.0  # before the credential ends
SAME_END_S = 1.0  # two ends so close are one: tokens keep time in 1/1024 s
PING_S, PONG_S = 25.0, 10.0  # of silence before a ping, and for its answer
STALL_S = 10.0  # without progress before a slow peer is cut


class Transport(Protocol):
    """The bytes to one peer. No method blocks or raises for a peer that has gone."""

    kind: Literal["websocket", "sse"]

    def busy(self) -> bool:
        """Whether earlier bytes still wait for the peer."""

    @property
    def waiting(self) -> object | None:
        """None unless bytes of ours wait for the peer; an attribute, because every beat asks every client."""

    @property
    def frame(self) -> Callable[[Message], bytes]:
        """What makes of a message the bytes for this peer: the same ones for all peers that have it in common."""

    def offer(self, data: bytes) -> bool:
        """Send what `frame` made unless busy; False when it was. The hot path: once for each client and tick."""

    def send(self, message: Message) -> None:
        """Send now; what the kernel refuses is kept and `Client.drained` called when it has left."""

    def ping(self) -> None:
        """Ask for a sign of life; `Client.heard` is called when it comes (WebSocket only)."""

    def queued(self) -> int:
        """Bytes in the kernel that the peer has not acknowledged."""

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
    sent_seq: int = NOTHING_SENT  # the last state of `window` given to the transport
    owed: bool = False  # a newer state waits until the transport has drained
    owed_seq: int = NOTHING_SENT  # the newest state that was due meanwhile
    coalesced: int = 0  # states skipped while it was busy
    owed_since: float = 0.0  # monotonic; when `owed` became true
    queued: int = 0  # bytes the peer had not taken when we last looked at a busy transport
    heard_at: float = 0.0  # monotonic; when the peer last sent something (at first: when it came)
    since: float = 0.0  # wall; when it came
    delta: bool = False  # as in config: patches where it has a base
    warned: bool = False  # `auth` expiring was sent for the end of the present credential
    ping_at: float = inf  # monotonic; when to ask whether it lives, or, pinged, when to give it up
    pinged: bool = False  # a ping has not been answered
    auth_at: float = 0.0  # wall; when its credential next wants a look: the warning, the end; parked: always
    warn_before_s: float = 60.0  # how long before the end that is; drawn, so that not all renew at once
    parked_at: float | None = None  # monotonic; since when its credential has ended and delivery stopped
    rate_strikes: Strikes | None = None  # limits hit; made at the first
    parse_strikes: Strikes | None = None  # messages that did not parse; made at the first
    stalled_since: float | None = None  # monotonic; since when `queued` has not moved; None: not busy
    # Monotonic; when to break the silence. The first is drawn, so that clients that came together part.
    heartbeat_at: float = field(default=0.0)

    def __post_init__(self) -> None:
        self.heard_at, self.since = self.clock.monotonic(), self.clock.wall()
        self.heartbeat_at = self.heard_at + HEARTBEAT_S * spread.uniform(0.5, 1.0)
        self.warn_before_s = WARN_S * spread.uniform(0.75, 1.25)
        if self.transport.kind == "websocket":
            # An SSE peer can answer nothing: its socket has a user timeout instead.
            self.ping_at = self.heard_at + PING_S * spread.uniform(0.5, 1.0)
        self.renewed(self.identity)

    def renewed(self, identity: Identity) -> None:
        """Go on under this credential.

        An end that was announced is not announced again (a session at its very end cannot be prolonged): a client
        that renews at every announcement would do so every second.
        """
        self.warned = self.warned and abs(identity.expires_at - self.identity.expires_at) < SAME_END_S
        self.identity = identity
        self.auth_at = identity.expires_at - (0 if self.warned else self.warn_before_s)

    @property
    def position(self) -> str | None:
        """The position of the last state it was given."""
        return None if self.window is None else self.window.position_at(self.sent_seq)

    # -- what it is given ------------------------------------------------------------------------

    def give_newest(self) -> None:
        """Send the newest state of its window, whether or not the transport is busy."""
        window = self.window
        if window is None or window.newest is None:
            return
        message = window.update_from(self.sent_seq) if self.delta else window.newest.message
        self.sent_seq, self.owed = window.newest.seq, False
        self.heartbeat_at = self.clock.monotonic() + HEARTBEAT_S
        self.transport.send(message)

    def owe(self, seq: int) -> None:
        """The transport is busy: it is owed one state, the newest at the time it drains (now that is `seq`)."""
        if not self.owed:
            self.owed, self.owed_since = True, self.clock.monotonic()
        elif seq != self.owed_seq:  # not the same one at another tick
            self.coalesced += 1
        self.owed_seq = seq

    def drained(self) -> None:
        """The transport has room again: pay what is owed and tell how far behind that was."""
        self.stalled_since = None
        if not self.owed:
            return
        skipped, behind_s = self.coalesced, self.clock.monotonic() - self.owed_since
        self.owed, self.coalesced = False, 0
        newest = None if self.window is None else self.window.newest
        if newest is not None and newest.seq != self.sent_seq:  # else a refresh or a tick has just brought it
            self.give_newest()
        if skipped:
            self.say(Lag(skipped, int(behind_s * 1000)))

    def say(self, event: Event, message_id: MessageId = None) -> None:
        """Send a named event, at once."""
        self.pass_on(Message.of(event, message_id))

    def pass_on(self, message: Message) -> None:
        """Send any message, at once."""
        self.heartbeat_at = self.clock.monotonic() + HEARTBEAT_S
        self.transport.send(message)

    # -- time ------------------------------------------------------------------------------------

    def beat(self, now: float) -> None:
        """Break a silence of 15 s; a busy transport is not silent."""
        if now >= self.heartbeat_at and not self.transport.busy():
            self.say(Heartbeat(self.position, self.clock.wall()))

    def heard(self) -> None:
        """The peer has sent something: it lives."""
        self.heard_at = self.clock.monotonic()
        if self.ping_at != inf:
            # Drawn, or clients whose answers came in one burst would be asked in one burst for ever.
            self.ping_at = self.heard_at + PING_S * spread.uniform(0.8, 1.0)
            self.pinged = False

    def silent(self, now: float) -> bool:
        """At `ping_at`: whether it has left a ping unanswered; else it is pinged now."""
        if self.pinged:
            return True
        self.ping_at = now + PONG_S
        if not self.transport.busy():  # else it would queue behind what it does not take: `stalled` judges
            self.pinged = True  # first: the answer may be here before `ping` returns
            self.transport.ping()
        return False

    def stalled(self, now: float) -> bool:
        """Whether the peer has taken nothing for 10 s although bytes wait for it."""
        if not self.transport.busy():
            self.stalled_since = None
            return False
        queued = self.transport.queued()
        if self.stalled_since is None or queued != self.queued:
            self.queued, self.stalled_since = queued, now
        return now - self.stalled_since >= STALL_S

    @property
    def expires_in(self) -> float:
        """Seconds left of its credential; negative when it has ended."""
        return round(self.identity.expires_at - self.clock.wall(), 3)

    @property
    def renewable(self) -> bool:
        """Whether somebody can still bring a new credential: an SSE stream opened with a bearer cannot."""
        return self.transport.kind == "websocket" or self.identity.sid is not None

    # -- end -------------------------------------------------------------------------------------

    def subscribe(self, config: Config, window: Window, sent_seq: int) -> None:
        """Take a subscription, as one who has the state `sent_seq` of that window."""
        self.config, self.window, self.sent_seq, self.delta = config, window, sent_seq, config.delta
        self.owed, self.coalesced = False, 0

    def unsubscribe(self) -> None:
        """Be owed nothing any more."""
        self.config, self.window, self.delta = None, None, False
        self.sent_seq, self.owed, self.coalesced = NOTHING_SENT, False, 0

    def bye(self, code: Close, reason: str, ref: str, retry_ms: int | None = None) -> None:
        """Say why and close."""
        self.say(Bye(int(code), reason, code.reconnect, retry_ms, ref))
        self.transport.close(int(code), close_reason(reason))
