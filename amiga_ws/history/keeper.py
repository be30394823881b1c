"""History without its thread: samples in, points out, and what becomes of them when the disk fails.

The last hour is in memory in steps of 2 s. What has not reached the disk yet stays in memory too, up to
an hour of it, so that a full disk that is mended costs nothing, and is part of every answer.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from time import monotonic

import apsw

from amiga_ws.history.database import BROKEN, MIB, Database, NewerError, move_aside
from amiga_ws.history.points import (
    FINEST,
    HOUR_S,
    MINUTES,
    Answer,
    Column,
    Grid,
    Points,
    Tallies,
    Tally,
    column,
    gaps,
    gather,
    rows_of,
    shown,
    step_between,
    step_of,
    tier_of,
)
from amiga_ws.history.recent import Recent
from amiga_ws.history.series import SERIES
from amiga_ws.snapshot import Source, shown_path

logger = logging.getLogger(__name__)

TIDY_EVERY_S = 60.0
RECORDED = SERIES["host.cpu"].number  # is there whenever we run
FULL_SHARE = 0.95  # of the size allowed: what is dropped makes room for a while

Minutes = Mapping[str, Mapping[int, float]]  # series -> start of the minute (epoch) -> value


class HistoryError(Exception):
    """There is no answer just now; `sources.history` says why."""


class Keeper:
    """Used by one thread, the one that called `open`. `path` None keeps it in memory for as long as we run."""

    def __init__(self, path: Path | None, most_mb: int) -> None:
        self._path = path
        self._most_mb = most_mb
        self._database: Database | None = None
        self._recent = Recent()
        self._pending: Tallies = {}  # FINEST's slots that are not on disk
        self._newest: float | None = None  # what was recorded last (epoch) when the file was opened
        self._opened = 0.0  # monotonic; when that was
        self._tidied = float("-inf")
        self._written: float | None = None  # when something was last written, wall clock
        self._cut = False  # the oldest points went for want of room
        self._error: str | None = None
        self.source = Source(path=self._shown)

    def open(self, now: float) -> None:
        """Make or open the file; what is wrong with it is in `source`, and tried again at each flush."""
        # Before 3.51.3 two connections that write can break one file; ours has this one.
        logger.info("SQLite is %s", apsw.sqlite_lib_version())
        try:
            self._connect()
            self._good(now)
        except (apsw.Error, OSError, NewerError) as error:
            self._failed(error)

    def note(self, now: float, values: Mapping[str, float]) -> None:
        """Take in one reading."""
        self._recent.add(now, values)
        time = int(now) // FINEST.step * FINEST.step
        for name, value in values.items():
            tally = self._pending.setdefault((time, SERIES[name].number), Tally())
            tally.add(1, value, value, value)

    def put_minutes(self, minutes: Minutes) -> bool:
        """Whole minutes of the series that come so, in the place of what was known; False if it failed."""
        rows = [
            (time, SERIES[name].number, value)
            for name, values in minutes.items()
            for time, value in values.items()
        ]
        try:
            self._connect().replace_minutes(rows)
            return True
        except (apsw.Error, OSError, NewerError) as error:
            self._failed(error)
            return False

    def flush(self, now: float) -> None:
        """Bring to disk what is pending. On failure it stays so, at most an hour of it."""
        try:
            database = self._connect()
            if self._pending:
                database.add(rows_of(self._pending))
                self._pending.clear()
                self._written = now
            if not 0 <= now - self._tidied < TIDY_EVERY_S:
                self._tidied = now
                database.forget(self._no_later(now))
                if database.shrink(int(self._most_mb * MIB * FULL_SHARE)):
                    self._cut = True
            self._good(now)
        except (apsw.Error, OSError, NewerError) as error:
            self._failed(error)
            newest = max((time for time, _ in self._pending), default=0)
            for key in [key for key in self._pending if key[0] <= newest - HOUR_S]:
                del self._pending[key]

    def read(
        self, names: list[str], hours: int, now: float, between: tuple[float, float] | None = None
    ) -> Answer:
        """The answer to `GET /api/metrics/timeseries`, but for the spans. Names must be known ones.

        The last `hours`, or what lies `between` two moments (epoch), then in as fine steps as there are.

        Raises:
            HistoryError: the file cannot be read.
        """
        if between is None:
            grid = Grid.over(hours, step_of(hours), now)
        else:
            start, end = between
            grid = Grid.between(start, end, step_between(start, end, now))
        try:
            return self._answer(names, hours if between is None else None, grid, now)
        except apsw.Error as error:
            self._failed(error)
            raise HistoryError from error

    def _answer(self, names: list[str], hours: int | None, grid: Grid, now: float) -> Answer:
        sampled = [name for name in names if not SERIES[name].by_minute]
        counted = [name for name in names if SERIES[name].by_minute]
        tallies = self._sampled(grid, {SERIES[name].number for name in sampled} | {RECORDED})
        known = {time for time, _ in tallies}
        missing = gaps(grid, known, now)
        times = shown(grid, known, missing)
        columns = {name: column(grid, tallies, SERIES[name].number, times) for name in sampled}
        if counted:
            by_minute = grid.widened(MINUTES.step)
            found = self._stored(by_minute, {SERIES[name].number for name in counted})
            columns |= {name: column(by_minute, found, SERIES[name].number) for name in counted}
        return {
            "hours": hours,
            "from": grid.start,
            "to": grid.end,
            "step": grid.step,
            "unit": {name: SERIES[name].unit for name in names},
            "series": {name: _plain(columns[name]) for name in names},
            "gaps": missing,
        }

    def close(self, now: float) -> None:
        """Write what is left and leave one whole file."""
        self.flush(now)
        if self._database is not None:
            self._database.close()
            self._database = None

    # -- within --------------------------------------------------------------------------------

    @property
    def _shown(self) -> str | None:
        return None if self._path is None else shown_path(self._path)

    def _connect(self) -> Database:
        if self._database is None:
            try:
                self._database = Database(self._path)
            except BROKEN:
                if self._path is None:
                    raise
                self._move_aside()
                self._database = Database(self._path)
            self._newest, self._opened = self._database.newest(), monotonic()
        return self._database

    def _no_later(self, now: float) -> float:
        """`now`, or what was recorded last and the time since, if that is less.

        A clock that is set years ahead for a while must not make us forget everything; of a time in which nobody
        recorded there is nothing to forget.
        """
        if self._newest is None:
            self._newest = now
        return min(now, self._newest + monotonic() - self._opened)

    def _move_aside(self) -> None:
        if self._path is not None:
            move_aside(self._path)

    def _sampled(self, grid: Grid, numbers: set[int]) -> Tallies:
        """Of the series we sample: on disk, what is pending, and for the last hour what is in memory."""
        if grid.step % FINEST.step == 0:
            return self._stored(grid, numbers)
        # Memory is finer; what was before this life's first sample is on disk alone.
        first = self._recent.first()
        began = (grid.end if first is None else first) // FINEST.step * FINEST.step
        since = max(began, grid.start)
        tallies = self._stored(grid, numbers, until=since)
        gather(tallies, self._recent.rows(since, grid.end, numbers), grid.step)
        return tallies

    def _stored(self, grid: Grid, numbers: set[int], until: int | None = None) -> Tallies:
        end = grid.end if until is None else min(until, grid.end)
        tallies: Tallies = {}
        if self._database is not None:
            rows = self._database.read(tier_of(grid.step), grid.step, grid.start, end, numbers)
            gather(tallies, rows, grid.step)
        pending = (row for row in rows_of(self._pending) if grid.start <= row[0] < end and row[1] in numbers)
        gather(tallies, pending, grid.step)
        return tallies

    # -- how it stands -------------------------------------------------------------------------

    def _good(self, now: float) -> None:
        if self._error is not None:
            logger.info("history is written again")
        self._error = None
        if self._database is None:
            return
        # Whole megabytes: a gauge that moved at each write would be news for everybody.
        used = f"{round(self._database.size() / MIB)} of {self._most_mb} MB used"
        if self._cut:
            used += "; the oldest points are dropped for room (history.max_mb)"
        if self._path is None:
            used += "; in memory only (history.enabled is false): it ends with this process"
        self.source = Source(
            state="ok", as_of=now if self._written is None else self._written, path=self._shown, hint=used
        )

    def _failed(self, error: apsw.Error | OSError | NewerError) -> None:
        text, hint = _told(error)
        if text != self._error:
            logger.warning("history cannot be written: %s", text)
        self._error = text
        self.source = Source(state="error", as_of=self._written, path=self._shown, error=text, hint=hint)
        if isinstance(error, BROKEN) and self._database is not None:
            self._database.close()
            self._database = None
            try:
                self._move_aside()
            except OSError:
                logger.warning("the broken history file cannot be moved aside")


def _told(error: apsw.Error | OSError | NewerError) -> tuple[str, str]:
    """(what went wrong, what to do)."""
    kept = "the live view goes on; the last hour is kept in memory and written when it can be"
    if isinstance(error, NewerError):
        return "made by a later version", f"move the file away, or run the version that made it; {kept}"
    if isinstance(error, OSError):
        return str(error.strerror or error), f"check the folder's owner and rights; {kept}"
    if isinstance(error, apsw.FullError):
        return "the disk is full", f"make room on it; {kept}"
    return " ".join(str(error).split())[:200], kept


def _plain(found: Column) -> Points:
    return {"t": found.t, "min": found.min, "max": found.max, "avg": found.avg, "step": found.step}
