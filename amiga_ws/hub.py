"""Hub: who is here, which windows are in use, and the fan-out.

News comes in through the broadcaster, peers through the handlers; both know only this room.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import ClassVar, Protocol

import msgspec

from amiga_ws.client import HEARTBEAT_S, STALL_S, Client, Clock
from amiga_ws.snapshot import Snapshot
from amiga_ws.window import NOTHING_SENT, State, Window
from amiga_ws.wire import (
    DEFAULT_HOURS,
    Close,
    Command,
    Config,
    ErrorEvent,
    IntervalUpdated,
    Message,
    MessageId,
    RequestError,
    RequestRefresh,
    SetInterval,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unsubscribed,
    clamp_hours,
    clamp_interval,
    config_of,
    parse_command,
)

logger = logging.getLogger(__name__)

MAX_WINDOWS = 16  # in use at once: each is composed and encoded on its own
SLICE = 256  # sends between two yields to the loop: at 20-25 us each it stalls less than 10 ms


class Feed(Protocol):
    """Where states come from (facts.py)."""

    async def refresh(self, windows: frozenset[int]) -> None:
        """Have facts of these windows that are at most a second old."""

    def snapshot(self, hours: int) -> Snapshot:
        """Compose one."""


class Hub:
    """All live connections of one server."""

    def __init__(self, feed: Feed, clock: Clock, default_interval: int) -> None:
        self._feed = feed
        self._clock = clock
        self._default_interval = default_interval
        self._epoch = secrets.token_hex(4)
        self._windows: dict[int, Window] = {}
        self._groups: dict[tuple[int, int], dict[Client, None]] = {}  # (hours, interval) → subscribers
        self._subjects: Counter[str] = Counter()
        self._addresses: Counter[str] = Counter()
        self.clients: dict[str, Client] = {}

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
        self._leave_group(client)
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
        """The windows somebody is subscribed to."""
        return frozenset(hours for hours, _ in self._groups)

    def due(self, previous: int, second: int) -> list[tuple[int, int]]:
        """The groups whose interval passed a border between two ticks, given in whole seconds.

        Borders are common to all, so clients of one interval share their ticks and thus their bytes.
        """
        return [key for key in self._groups if second // key[1] > previous // key[1]]

    async def publish(self, due: Iterable[tuple[int, int]]) -> None:
        """Compose and encode each due window once and offer it to each subscriber that is due.

        `due`'s windows must have been refreshed in the feed.
        """
        due = list(due)
        for hours in {hours for hours, _ in due}:
            self._advance(self._windows[hours])
        for key in due:
            clients = list(self._groups.get(key, ()))
            for start in range(0, len(clients), SLICE):
                if start:
                    await asyncio.sleep(0)
                self._fan_out(self._windows[key[0]], clients[start : start + SLICE])

    def _fan_out(self, window: Window, clients: list[Client]) -> None:
        """The hot path: one comparison, at most one dict look-up and one system call for each client.

        The frame was encoded before the first client and is the same bytes object for all of them; a
        client whose transport is busy is owed the newest state and costs nothing more until it drains.
        `benchmarks/fanout.py` measures this loop.
        """
        state = window.newest
        if state is None:
            return
        later = self._clock.monotonic() + HEARTBEAT_S
        seq, full = state.seq, state.message
        for client in clients:
            # Between two slices it may have left, changed its window, or been given this state already.
            if client.window is not window or client.sent_seq >= seq or client.config is None:
                continue
            message = window.update_from(client.sent_seq) if client.config.delta else full
            if client.transport.offer(message):
                client.sent_seq, client.heartbeat_at = seq, later
            else:
                client.owe()

    def _advance(self, window: Window) -> State:
        return window.advance(self._feed.snapshot(window.hours), self._clock.wall())

    def beat(self) -> None:
        """Once a second: break silences, cut who takes nothing, end who has expired."""
        now = self._clock.monotonic()
        for client in list(self.clients.values()):
            if client.expired:
                self.close(
                    client, Close.TOKEN_EXPIRED, "the token has expired: sign in again or bring a new one"
                )
            elif client.stalled(now):
                self._cut(client)
            else:
                client.beat(now)

    def _cut(self, client: Client) -> None:
        """A close frame would queue behind what the peer does not take: abort, and say so in the log."""
        logger.info(
            "cutting %s of %r: %d slow consumer, nothing taken for %.0f s",
            client.client_id,
            client.identity.subject,
            Close.SLOW_CONSUMER,
            STALL_S,
        )
        client.transport.abort()
        self.remove(client)

    # -- what clients ask ------------------------------------------------------------------------

    async def obey(self, client: Client, raw: str) -> None:
        """One inbound text message. Bad input is answered with `error` and changes nothing."""
        try:
            if wait_s := client.messages.take(self._clock.monotonic()):
                self._refuse_rate(client, "limits.messages_per_second", wait_s, None)
                return
            command, message_id = parse_command(raw)
            await self._handlers[type(command)](self, client, command, message_id)
        except RequestError as error:
            self._error(client, error.code, error.text, error.message_id)

    async def subscribe(self, client: Client, request: Subscribe, message_id: MessageId = None) -> None:
        """Answer `subscribed`, then the state of the window. Raises RequestError."""
        config = self._fit(config_of(request, self._default_interval, message_id))
        await self._feed.refresh(self.hours_in_use() | {config.hours})
        if client.client_id not in self.clients:
            return  # it left while we waited
        self._leave_group(client)
        window = self._window(config.hours)
        state = self._advance(window)
        seq, why = (NOTHING_SENT, None) if request.resume is None else window.find(request.resume)
        if not config.delta and seq != state.seq:
            seq = NOTHING_SENT  # without deltas an older state cannot be continued, only replaced
        client.subscribe(config, window, seq)
        self._groups.setdefault((config.hours, config.update_interval), {})[client] = None
        client.say(Subscribed(config, seq != NOTHING_SENT, why), message_id)
        if seq != state.seq:
            client.give_newest()

    async def _subscribe(self, client: Client, command: Command, message_id: MessageId) -> None:
        assert isinstance(command, Subscribe)  # noqa: S101 - by the dispatch table
        await self.subscribe(client, command, message_id)

    async def _unsubscribe(self, client: Client, _command: Command, message_id: MessageId) -> None:
        self._leave_group(client)
        client.unsubscribe()
        client.say(Unsubscribed(), message_id)

    async def _refresh(self, client: Client, command: Command, message_id: MessageId) -> None:
        assert isinstance(command, RequestRefresh)  # noqa: S101 - by the dispatch table
        own = client.window
        hours = command.hours
        if hours is None:
            hours = own.hours if own is not None else DEFAULT_HOURS
        whole, _ = clamp_hours(hours, message_id)
        if wait_s := client.refreshes.take(self._clock.monotonic()):
            self._refuse_rate(client, "limits.refreshes_per_second", wait_s, message_id)
            return
        await self._feed.refresh(self.hours_in_use() | {whole})
        if client.client_id not in self.clients:
            return
        if client.window is not None and client.window.hours == whole:
            state = self._advance(client.window)
            client.sent_seq, client.owed = state.seq, False
        else:
            # Not the client's window: a state beside its subscription, which moves neither position nor base.
            state = self._advance(self._windows.get(whole) or Window(whole, self._epoch))
        full = state.message
        client.transport.send(Message(full.event, full.data, position=full.position, message_id=message_id))

    async def _set_interval(self, client: Client, command: Command, message_id: MessageId) -> None:
        assert isinstance(command, SetInterval)  # noqa: S101 - by the dispatch table
        if client.config is None:
            raise RequestError("not_subscribed", "subscribe first: there is no interval to set", message_id)
        interval, _ = clamp_interval(command.interval)
        self._leave_group(client)
        client.config = msgspec.structs.replace(client.config, update_interval=interval)
        self._groups.setdefault((client.config.hours, interval), {})[client] = None
        client.say(IntervalUpdated(interval), message_id)

    _handlers: ClassVar[dict[type[Command], Callable[[Hub, Client, Command, MessageId], Awaitable[None]]]] = {
        Subscribe: _subscribe,
        Unsubscribe: _unsubscribe,
        RequestRefresh: _refresh,
        SetInterval: _set_interval,
    }

    def _error(self, client: Client, code: str, text: str, message_id: MessageId) -> None:
        client.say(ErrorEvent(text, code, self._clock.wall()), message_id)

    def _refuse_rate(self, client: Client, limit: str, wait_s: float, message_id: MessageId) -> None:
        retry_ms = int(wait_s * 1000) + 1
        text = f"too many: {limit} (see limits in connected); try again in {retry_ms} ms"
        client.say(ErrorEvent(text, "rate_limited", self._clock.wall(), retry_ms=retry_ms), message_id)

    # -- windows ---------------------------------------------------------------------------------

    def _fit(self, config: Config) -> Config:
        """The window to serve: the asked one, or at the cap the next wider one in use (else the widest)."""
        in_use = self.hours_in_use()
        if config.hours in in_use or len(in_use) < MAX_WINDOWS:
            return config
        hours = min((h for h in in_use if h > config.hours), default=max(in_use))
        clamped = [*config.clamped, *([] if "hours" in config.clamped else ["hours"])]
        return msgspec.structs.replace(config, hours=hours, clamped=clamped)

    def _window(self, hours: int) -> Window:
        """The window, kept after its last subscriber left so that one who comes back can resume."""
        window = self._windows.pop(hours, None) or Window(hours, self._epoch)
        self._windows[hours] = window  # last in order: most recently subscribed
        in_use = self.hours_in_use()
        for idle in [h for h in self._windows if h not in in_use and h != hours]:
            if len(self._windows) <= MAX_WINDOWS:
                break
            del self._windows[idle]
        return window

    def _leave_group(self, client: Client) -> None:
        if client.config is None:
            return
        key = (client.config.hours, client.config.update_interval)
        group = self._groups.get(key)
        if group is not None:
            group.pop(client, None)
            if not group:
                del self._groups[key]

    # -- end -------------------------------------------------------------------------------------

    def close(self, client: Client, code: Close, reason: str, retry_ms: int | None = None) -> None:
        """Say `bye`, close, and forget the client at once."""
        ref = secrets.token_hex(4)
        logger.info(
            "closing %s of %r: %d %s ref=%s", client.client_id, client.identity.subject, code, reason, ref
        )
        client.bye(code, reason, ref, retry_ms)
        self.remove(client)
