"""Hub: who is here, which windows are in use, and the fan-out.

News comes in through the broadcaster, peers through the handlers; both know only this room.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from amiga_ws import spread
from amiga_ws.auth.tokens import Identity
from amiga_ws.client import HEARTBEAT_S, STALL_S, Client, Clock
from amiga_ws.ratelimit import BucketTable
from amiga_ws.snapshot import Snapshot
from amiga_ws.window import NOTHING_SENT, State, Window
from amiga_ws.wire import (
    AuthEvent,
    Close,
    Config,
    MessageId,
    TokenRefreshed,
)

logger = logging.getLogger(__name__)

MAX_WINDOWS = 16  # in use at once: each is composed and encoded on its own
COME_BACK_EACH_MS = 5  # more for each live client: 200 handshakes/s are a tenth of what a core can do
PARK_S = 25.0  # for a new credential after the old one has ended
COME_BACK_MS = (500, 3000)  # told to each client that may come back: together they would come as a storm
REQUIRED_SCOPE = "metrics:read"
SLICE = 128  # sends between two yields to the loop, which may wait out two: 20 us each, so it stalls less than 10 ms


class Feed(Protocol):
    """Where states come from (facts.py)."""

    async def refresh(self, windows: frozenset[int]) -> None:
        """Have facts of these windows that are at most a second old."""

    def loading(self) -> bool:
        """Whether a source is still being read for the first time, slice by slice."""

    def snapshot(self, hours: int) -> Snapshot:
        """Compose one."""


class Hub:
    """All live connections of one server."""

    def __init__(self, feed: Feed, clock: Clock, misuses: BucketTable) -> None:
        self._feed = feed
        self._clock = clock
        self._misuses = misuses  # by the token handed out: one for each connection that ends for what it sent
        self._epoch = secrets.token_hex(4)
        self._windows: dict[int, Window] = {}
        self._ended_at: dict[int, int] = {}  # hours → last seq of a window that was dropped; at most 168
        self._parked: Counter[int] = Counter()  # hours → clients that wait for a new credential
        self._groups: dict[tuple[int, int], dict[Client, None]] = {}  # (hours, interval) → subscribers
        self._subjects: Counter[str] = Counter()
        self._addresses: Counter[str] = Counter()
        self.clients: dict[str, Client] = {}
        self.delivered = 0  # states given to transports by ticks
        self.coalesced = 0  # states that came while a peer was busy with an earlier one
        self.ended: Counter[Close] = Counter()  # connections that we have ended

    # -- who is here -----------------------------------------------------------------------------

    def add(self, client: Client) -> None:
        """A connection begins."""
        self.clients[client.client_id] = client
        self._subjects[client.identity.subject] += 1
        self._addresses[client.address] += 1

    def remove(self, client: Client) -> None:
        """A connection has ended; harmless when it has been removed before."""
        if self.clients.pop(client.client_id, None) is None:
            return
        self.leave_group(client)
        client.unsubscribe()
        for counter, key in ((self._subjects, client.identity.subject), (self._addresses, client.address)):
            counter[key] -= 1
            if not counter[key]:
                del counter[key]

    def connections_of(self, *, subject: str | None = None, address: str | None = None) -> int:
        """How many live connections a subject, an address or (neither given) everybody has."""
        if subject is not None:
            return self._subjects[subject]
        return len(self.clients) if address is None else self._addresses[address]

    # -- news ------------------------------------------------------------------------------------

    def hours_in_use(self) -> frozenset[int]:
        """The windows somebody is subscribed to; who is parked may come back to his at any moment."""
        return frozenset(hours for hours, _ in self._groups) | self._parked.keys()

    def watched(self) -> bool:
        """Whether news is due to anybody."""
        return bool(self._groups)

    def due(self, previous: int, second: int) -> list[tuple[int, int]]:
        """The groups whose interval passed a border between two ticks, given in whole seconds.

        Borders are common to all, so clients of one interval share their ticks and thus their bytes.
        """
        return [key for key in self._groups if second // key[1] > previous // key[1]]

    async def publish(self, due: Iterable[tuple[int, int]]) -> None:
        """Compose and encode each due window once and offer it to each subscriber that is due.

        `due`'s windows must have been refreshed in the feed.
        """
        due = [key for key in due if key in self._groups]  # some may have left since they were due
        for hours in {hours for hours, _ in due}:
            self.advance(self._windows[hours])
        for key in due:
            window, clients = self._windows.get(key[0]), list(self._groups.get(key, ()))
            if window is None:
                continue  # its last client left while another group was served
            for start in range(0, len(clients), SLICE):
                part = clients[start : start + SLICE]
                if start:
                    await asyncio.sleep(0)
                    part = [client for client in part if client.parked_at is None]  # not parked meanwhile
                self._fan_out(window, part)

    def _fan_out(self, window: Window, clients: list[Client]) -> None:
        """The hot path: a few comparisons, one call and one system call for each client (docs/adr/0001).

        The frame was encoded before the first client and is the same bytes object for all of a kind; a
        client whose transport is busy is owed the newest state and costs nothing more until it drains.

        Of a tick's 10.1 us for each of 1,000 clients with 16 KiB, 8.5 are the system call as a bare loop
        over the same sockets makes it, 0.8 this loop with all it asks, 0.4 the beat, 0.2 composing,
        comparing and encoding, 0.2 the yields (Python 3.11, benchmarks/fanout.py: `x bare`).
        """
        state = window.newest
        if state is None:
            return
        later = self._clock.monotonic() + HEARTBEAT_S
        seq, full = state.seq, state.message
        passed_over = owed = 0
        base, delta, frame, data = NOTHING_SENT, None, None, b""  # what the client before this one got
        for client in clients:
            # Between two slices it may have left, changed its window, or been given this state already.
            if client.window is not window or client.sent_seq >= seq:
                passed_over += 1
                continue
            transport = client.transport
            if client.sent_seq != base or client.delta is not delta or transport.frame is not frame:
                base, delta, frame = client.sent_seq, client.delta, transport.frame
                data = frame(window.update_from(base) if delta else full)
            if transport.offer(data):
                client.sent_seq, client.heartbeat_at = seq, later
            else:
                client.owe(seq)
                owed += 1
        self.delivered += len(clients) - passed_over - owed
        self.coalesced += owed

    def advance(self, window: Window) -> State:
        """Bring a window to the newest facts; its newest state."""
        return window.advance(self._feed.snapshot(window.hours), self._clock.wall())

    def beat(self) -> None:
        """Once a second: break silences, cut who takes nothing, warn, park and end who expires.

        Four comparisons for a client that wants none of it; most of 10,000 are such.
        """
        now, wall = self._clock.monotonic(), self._clock.wall()
        for client in list(self.clients.values()):
            if client.transport.waiting is not None and client.stalled(now):
                self._cut(client, Close.SLOW_CONSUMER, f"nothing taken for {STALL_S:.0f} s")
                continue
            if wall >= client.auth_at:
                self._look_at_credential(client, now)
                if client.parked_at is not None or client.client_id not in self.clients:
                    continue
            if now >= client.ping_at and client.silent(now):
                self._cut(client, Close.NO_PONG, "no sign of life")
            elif now >= client.heartbeat_at:
                client.beat(now)

    def _look_at_credential(self, client: Client, now: float) -> None:
        if client.expires_in <= 0 or client.parked_at is not None:  # parked: or the clock was set back
            self._expire(client, now)
        elif not client.warned:
            client.warned, client.auth_at = True, client.identity.expires_at
            client.say(AuthEvent(client.expires_in))

    # -- credentials of open connections -----------------------------------------------------------

    def _expire(self, client: Client, now: float) -> None:
        """Delivery stops at once; who can still bring a new credential gets 25 s for it."""
        if client.parked_at is None and client.renewable:
            self.leave_group(client)
            client.parked_at, client.auth_at = now, float("-inf")
            client.owed, client.coalesced = False, 0
            if client.config is not None:
                self.join_group(client, client.config)
        elif client.parked_at is None or now - client.parked_at >= PARK_S:
            self.close(client, Close.TOKEN_EXPIRED, "the token has expired: sign in again or bring a new one")

    def renew(self, client: Client, identity: Identity, message_id: MessageId = None) -> None:
        """Go on under a new credential of the same subject; what it no longer grants ends now."""
        client.renewed(identity)
        if REQUIRED_SCOPE not in identity.scopes:
            self.close(client, Close.SCOPE_LOST, f"the new token does not grant {REQUIRED_SCOPE}")
            return
        client.say(TokenRefreshed(client.expires_in), message_id)
        if client.parked_at is not None:
            self.leave_group(client)
            client.parked_at = None
            if client.config is not None and client.window is not None:
                self.join_group(client, client.config)
                self.advance(client.window)
                client.give_newest()

    def expire_due(self, client: Client) -> None:
        """Between two beats: a credential's last moment has passed."""
        if client.expires_in <= 0 and client.parked_at is None:
            self._expire(client, self._clock.monotonic())

    def awaits(self, session: Identity) -> bool:
        """Whether a stream of this session waits for its renewal."""
        return any(c.parked_at is not None and c.identity.sid == session.sid for c in self.clients.values())

    def extend_session(self, session: Identity) -> None:
        """A session was renewed: all its streams, of both kinds, go on under it."""
        for client in list(self.clients.values()):
            if client.identity.sid == session.sid:
                self.renew(client, session)

    def close_unwelcome(self, still_good: Callable[[Identity], bool]) -> None:
        """End the connections whose credential has been taken back."""
        for client in list(self.clients.values()):
            if not still_good(client.identity):
                self.close(client, Close.REVOKED, "signed out, or access was revoked")

    def judge_again(self, left_of: Callable[[Identity], Identity | None]) -> None:
        """The keys have changed: end who came in by one that is gone, and sooner whose key now ends sooner."""
        for client in list(self.clients.values()):
            left = left_of(client.identity)
            if left is None:
                self.close(client, Close.REVOKED, "the key of this token has been withdrawn")
            elif left.expires_at < client.identity.expires_at:
                client.renewed(left)

    def evict_silent(self, subject: str) -> None:
        """Make room for one more connection of this subject: the one not heard of for longest goes."""
        own = [client for client in self.clients.values() if client.identity.subject == subject]
        oldest = min(own, key=lambda client: client.heard_at, default=None)
        if oldest is not None:
            self.close(oldest, Close.EVICTED, "a newer connection of yours took this one's place")

    def _cut(self, client: Client, code: Close, reason: str) -> None:
        """A close frame would queue behind what the peer does not take: abort, and say so in the log."""
        logger.info("cutting %s of %r: %d %s", client.client_id, client.identity.subject, code, reason)
        self.ended[code] += 1
        client.transport.abort()
        self.remove(client)

    # -- windows ---------------------------------------------------------------------------------

    def glimpse(self, hours: int) -> State:
        """The newest state of a window nobody need be subscribed to; nothing but its seq is kept for it."""
        window = self._windows.get(hours)
        if window is not None:
            return self.advance(window)
        state = self.advance(self._new_window(hours))
        self._ended_at[hours] = state.seq
        return state

    def _new_window(self, hours: int) -> Window:
        """One that goes on counting where a former one ended: a position is never given twice."""
        return Window(hours, self._epoch, self._ended_at.get(hours, 0))

    def fit(self, config: Config) -> Config:
        """The window to serve: the asked one, or at the cap the next wider one in use (else the widest)."""
        in_use = self.hours_in_use()
        if config.hours in in_use or len(in_use) < MAX_WINDOWS:
            return config
        hours = min((h for h in in_use if h > config.hours), default=max(in_use))
        clamped = [*config.clamped, *([] if "hours" in config.clamped else ["hours"])]
        return msgspec.structs.replace(config, hours=hours, clamped=clamped)

    def window(self, hours: int) -> Window:
        """The window, kept after its last subscriber left so that one who comes back can resume."""
        window = self._windows.pop(hours, None) or self._new_window(hours)
        self._windows[hours] = window  # last in order: most recently subscribed
        in_use = self.hours_in_use()
        for idle in [h for h in self._windows if h not in in_use and h != hours]:
            if len(self._windows) <= MAX_WINDOWS:
                break
            dropped = self._windows.pop(idle).newest
            if dropped is not None:
                self._ended_at[idle] = dropped.seq
        return window

    def join_group(self, client: Client, config: Config) -> None:
        """From now on the client is due with all others of its window and interval; a parked one keeps its window."""
        if client.parked_at is not None:
            self._parked[config.hours] += 1
            return
        self._groups.setdefault((config.hours, config.update_interval), {})[client] = None

    def leave_group(self, client: Client) -> None:
        """It is due no more; its subscription stays as it is."""
        if client.config is None:
            return
        if client.parked_at is not None:
            self._parked[client.config.hours] -= 1
            if not self._parked[client.config.hours]:
                del self._parked[client.config.hours]
            return
        key = (client.config.hours, client.config.update_interval)
        group = self._groups.get(key)
        if group is not None:
            group.pop(client, None)
            if not group:
                del self._groups[key]

    # -- end -------------------------------------------------------------------------------------

    def close(self, client: Client, code: Close, reason: str) -> None:
        """Say `bye`, close, and forget the client at once. When to come back is drawn for each.

        Harmless for one that has gone: a peer that keeps sending after its end is not told twice.
        """
        if client.client_id not in self.clients:
            return
        ref = secrets.token_hex(4)
        latest = COME_BACK_MS[1] + COME_BACK_EACH_MS * len(self.clients)
        retry_ms = spread.randint(COME_BACK_MS[0], latest) if code.reconnect else None
        logger.info(
            "closing %s of %r: %d %s ref=%s", client.client_id, client.identity.subject, code, reason, ref
        )
        self.ended[code] += 1
        if code.misuse:
            self._misuses.take(client.identity.root_jti, self._clock.monotonic())
        client.bye(code, reason, ref, retry_ms)
        self.remove(client)
