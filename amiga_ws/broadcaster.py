"""Broadcaster: the one tick that feeds everybody. Callable by hand; app.py gives it a PeriodicCallback."""

from __future__ import annotations

from collections.abc import Callable

from amiga_ws.client import Clock
from amiga_ws.hub import Feed, Hub
from amiga_ws.measures import Histogram

TICK_S = 1  # the shortest interval a client may ask for
REST_S = 10  # how often the sources are read while nobody watches, or only now and then


class Broadcaster:
    """Asks the collectors when somebody is due, and publishes what changed.

    With nobody subscribed it only keeps the facts warm (every 10 s; each second while there is a history to load), so
    that a first viewer sees rates and what happened before at once. `record` is called after each reading, to keep what
    it brought; with it the sources are read every 10 s also while all who watch ask for less.
    """

    def __init__(
        self,
        feed: Feed,
        hub: Hub,
        clock: Clock,
        record: Callable[[], None] | None = None,
        durations: Histogram | None = None,
    ) -> None:
        self._feed = feed
        self._hub = hub
        self._clock = clock
        self._started = clock.monotonic()
        self._second = 0  # whole seconds since start, of the last tick
        self._record = record
        self._durations = durations  # of the ticks, in seconds
        self._last_read = -REST_S  # whole seconds since start

    async def tick(self) -> None:
        """One beat: silences and expiry first, then news for who is due."""
        now = self._clock.monotonic()
        self._hub.beat()
        # Rounded: the timer jitters by milliseconds around the second.
        previous, self._second = self._second, round(now - self._started)
        if due := self._hub.due(previous, self._second):
            await self._read()
            await self._hub.publish(due)
        elif self._feed.loading() or (
            self._second - self._last_read >= REST_S and (self._record or not self._hub.watched())
        ):
            await self._read()
        if self._durations is not None:
            self._durations.observe(self._clock.monotonic() - now)

    async def _read(self) -> None:
        self._last_read = self._second
        await self._feed.refresh(self._hub.hours_in_use())
        if self._record is not None:
            self._record()
