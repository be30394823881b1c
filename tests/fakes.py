"""Stand-ins for what lies beyond the rooms under test: time, a peer's socket, and the collectors' news."""

from __future__ import annotations

import asyncio
import itertools
import json

from amiga_ws.auth.tokens import Identity, TokenError
from amiga_ws.broadcaster import Broadcaster
from amiga_ws.client import Client, Clock
from amiga_ws.dialogue import Dialogue
from amiga_ws.hub import Hub
from amiga_ws.ratelimit import BucketTable, TokenBucket
from amiga_ws.snapshot import (
    AmigaFacts,
    AmigaWindow,
    ClaudeApi,
    HostFacts,
    Source,
    System,
    TaskTotals,
    compose,
)

WALL = 1_800_000_000.0


class FakeTime:
    """Both clocks, moved by hand."""

    def __init__(self):
        self.monotonic_s, self.wall_s = 1000.0, WALL
        self.clock = Clock(lambda: self.monotonic_s, lambda: self.wall_s)

    def pass_(self, seconds):
        self.monotonic_s += seconds
        self.wall_s += seconds


class FakeTransport:
    """One peer: keeps what it was sent; `full` makes it a peer that takes nothing."""

    def __init__(self, kind="websocket"):
        self.kind = kind
        self.sent = []  # Messages, as given
        self.full = False
        self.unacknowledged = 0
        self.closes = []  # (code, reason)
        self.aborted = False
        self.pings = 0
        self.on_ping = lambda: None  # a peer answers; replaced by one that does not live

    def busy(self):
        return self.full

    @property
    def waiting(self):
        return self if self.full else None

    @staticmethod
    def frame(message):
        return message

    def offer(self, message):
        if self.full:
            return False
        self.sent.append(message)
        return True

    def send(self, message):
        self.sent.append(message)

    def ping(self):
        self.pings += 1
        self.on_ping()

    def queued(self):
        return self.unacknowledged

    def close(self, code, reason):
        self.closes.append((code, reason))

    def abort(self):
        self.aborted = True

    def closed(self):
        return self.aborted or bool(self.closes)


class FakeFeed:
    """News in the test's hands. As the real one it knows what it read last, of the windows it was asked for.

    `gate` holds every refresh back while it is cleared.
    """

    def __init__(self):
        self.total = 1  # tasks; change it to have news
        self.requests = {}  # hours → API requests; news of one window
        self.asked = []  # the windows of each refresh
        self.composed = []  # the hours of each composition
        self.gate = asyncio.Event()
        self.gate.set()
        self.reading = False  # for the first time
        self._facts = AmigaFacts(sources={})

    def loading(self):
        return self.reading

    async def refresh(self, windows):
        self.asked.append(windows)
        await self.gate.wait()
        known = {
            hours: AmigaWindow(claude_api=ClaudeApi(total_requests=self.requests.get(hours, 0)))
            for hours in windows
        }
        self._facts = AmigaFacts(sources={}, totals=TaskTotals(total=self.total), windows=known)

    def snapshot(self, hours):
        self.composed.append(hours)
        looked = {"host": Source(state="ok", as_of=float(len(self.composed)))}
        return compose(hours, "test", HostFacts(sources=looked, system=System(cpu_percent=1.0)), self._facts)


def identity(subject="ada", left_s=3600.0, scopes=("metrics:read",), **more):
    """Who a token that ends in `left_s` would speak for."""
    given = {"typ": "access", "jti": "j1", "issued_at": WALL, "expires_at": WALL + left_s}
    return Identity(subject=subject, scopes=frozenset(scopes), **(given | more))


class Rooms:
    """A hub with its feed, clock, dialogue and broadcaster, and peers to speak to it."""

    def __init__(self, default_interval=2):
        self.time, self.feed = FakeTime(), FakeFeed()
        self.tokens = {}  # token text → the identity it verifies as
        self.hub = Hub(self.feed, self.time.clock, BucketTable(rate=1, burst=1000))
        self.dialogue = Dialogue(self.hub, self.feed, self.time.clock, default_interval, self._verify)
        self.broadcaster = Broadcaster(self.feed, self.hub, self.time.clock)
        self._numbers = itertools.count(1)

    def _verify(self, token, typ):
        found = self.tokens.get(token)
        if found is None or found.typ != typ:
            raise TokenError("unknown", forged=True)
        return found

    def peer(self, who=None, *, kind="websocket", address="10.0.0.1", messages=1000, refreshes=1000):
        """A connection that has just begun."""
        now = self.time.monotonic_s
        client = Client(
            client_id=f"c{next(self._numbers)}",
            identity=who or identity(),
            transport=FakeTransport(kind),
            address=address,
            clock=self.time.clock,
            messages=TokenBucket(messages, messages, now),
            refreshes=TokenBucket(refreshes, refreshes, now),
        )
        client.transport.on_ping = client.heard
        self.hub.add(client)
        return Peer(self, client)

    async def viewer(self, hours=24, interval=1, *, delta=False, **more):
        """A peer that has subscribed and read the answers."""
        peer = self.peer(**more)
        await peer.ask("subscribe", hours=hours, update_interval=interval, delta=delta)
        peer.forget()
        return peer

    async def tick(self, seconds=1):
        """So many ticks, a second apart."""
        for _ in range(seconds):
            self.time.pass_(1.0)
            await self.broadcaster.tick()


class Peer:
    """One client as its peer sees it."""

    def __init__(self, rooms, client):
        self.rooms, self.client, self.transport = rooms, client, client.transport

    async def send(self, text):
        await self.rooms.dialogue.obey(self.client, text)

    async def ask(self, event, message_id=None, **data):
        """One message in; what came out because of it."""
        before = len(self.transport.sent)
        envelope = {"event": event, "data": data}
        await self.send(json.dumps(envelope if message_id is None else envelope | {"id": message_id}))
        return self.heard()[before:]

    def heard(self):
        """Every message it was sent: {event, data, id?}."""
        return [unframed(message.websocket()) for message in self.transport.sent]

    def names(self):
        return [message.event for message in self.transport.sent]

    def forget(self):
        self.transport.sent.clear()

    def drain(self):
        """The peer takes all that waits."""
        self.transport.full = False
        self.client.drained()

    @property
    def present(self):
        return self.client.client_id in self.rooms.hub.clients


def unframed(frame):
    """The JSON of an unmasked text frame."""
    skipped = {126: 4, 127: 10}.get(frame[1], 2)
    return json.loads(frame[skipped:])
