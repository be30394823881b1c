"""Recorder: from the newest facts to history. Callable by hand; the tick calls it after each reading.

Two ways lead there. The host and what can only be seen while it lasts are sampled from the facts. What
AMIGA wrote down itself (calls, tokens, ends of tasks) comes minute by minute from its collector, which
holds a week of it: all of it at the start, so that a fresh installation has full charts, then the newest
minutes once a minute, and everything again when a source has been read to its end, and now and then,
because AMIGA books some things late.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from amiga_ws.facts import Facts
from amiga_ws.history import History, HistoryError, reading
from amiga_ws.snapshot import AmigaFacts, HostFacts

logger = logging.getLogger(__name__)

MINUTE_S = 60
WEEK_MINUTES = 168 * 60
CHUNK_MINUTES = 12 * 60  # read in a few ms, so that no tick waits for it
NEWEST_MINUTES = 15
SETTLED_S = 3.0  # after the end of a minute its last rows have been read
AGAIN_S = 900.0  # everything again: 0.4 s of CPU for a busy week
LEAST_AGAIN_S = 5.0  # from one time to the next, where a source is now read to its end and now is not
WRITTEN_WITHIN_S = 30.0  # a slow disk; else tried again


class Recorder:
    """Feeds `history` from `facts`; `wall` is the clock of the samples."""

    def __init__(self, facts: Facts, history: History, wall: Callable[[], float]) -> None:
        self._facts = facts
        self._history = history
        self._wall = wall
        self._seen: tuple[HostFacts | None, AmigaFacts | None] = (None, None)
        self._minute = 0  # up to this epoch minute all have been handed over
        self._week_at = float("-inf")  # wall clock; when everything was last handed over
        self._unread: frozenset[str] = frozenset()  # AMIGA's sources that were not read, or not to their end
        self._task: asyncio.Task[None] | None = None
        self._stopped = False  # a tick that was under way may end after `stop`

    def note(self) -> None:
        """Sample what the facts say, if they are new ones, and see to the minutes. Never blocks."""
        if self._stopped:
            return
        host, amiga = self._facts.host.facts, self._facts.amiga.facts
        values = reading(
            host if host is not self._seen[0] else None, amiga if amiga is not self._seen[1] else None
        )
        self._seen = (host, amiga)
        if values:
            self._history.note(values)
        amiga_source = amiga.sources.get("amiga")
        if amiga_source is None or amiga_source.state != "ok":
            # Its database is being read, or is another one when it comes back.
            self._minute, self._week_at = 0, float("-inf")
            return
        if self._task is not None and not self._task.done():
            return
        now = self._wall()
        unread = frozenset(name for name, source in amiga.sources.items() if source.state != "ok")
        if unread >= self._unread:
            self._unread = unread
        elif not 0 <= now - self._week_at < LEAST_AGAIN_S:
            self._unread = unread
            self._minute, self._week_at = 0, float("-inf")
        last = int((now - SETTLED_S) // MINUTE_S)
        if last != self._minute:
            self._task = asyncio.get_running_loop().create_task(self._hand_over(last))

    async def stop(self) -> None:
        """End what is under way, and begin nothing more."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _hand_over(self, last: int) -> None:
        """Minutes before `last`."""
        now = self._wall()
        everything = not 0 <= now - self._week_at < AGAIN_S
        first = last - (WEEK_MINUTES if everything else max(NEWEST_MINUTES, last - self._minute))
        first = max(first, last - WEEK_MINUTES)
        try:
            # The newest first: they are what somebody looks at.
            for end in range(last, first, -CHUNK_MINUTES):
                minutes = await self._facts.find_minutes(max(first, end - CHUNK_MINUTES), end)
                written = asyncio.wrap_future(self._history.put_minutes(minutes))
                if not await asyncio.wait_for(written, WRITTEN_WITHIN_S):
                    return  # told in sources.history; the next reading tries again
        except (TimeoutError, HistoryError):
            logger.debug("minutes could not be handed to history now")
            return
        except Exception:  # the collector's boundary: a bug there costs the charts, not the server
            logger.exception("minutes could not be read")
        self._minute = last
        if everything:
            self._week_at = now
