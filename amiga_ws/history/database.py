"""The file: one table of points, its migrations, its size. Used by one thread; knows nothing of clocks."""

from __future__ import annotations

import logging
import os
import urllib.parse
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import apsw

from amiga_ws.history.points import HOUR_S, HOURS, MINUTES, TIERS, Row, Tier

logger = logging.getLogger(__name__)

MIB = 1 << 20
# Each brings user_version from its index to the next; what has been released is never edited.
MIGRATIONS: tuple[str, ...] = (
    # Ordered by time within a tier: one reading is one page to write, not one for each series.
    """
    CREATE TABLE points (
        step INTEGER NOT NULL,
        time INTEGER NOT NULL,
        series INTEGER NOT NULL,
        count INTEGER NOT NULL,
        low REAL NOT NULL,
        high REAL NOT NULL,
        total REAL NOT NULL,
        PRIMARY KEY (step, time, series)
    ) WITHOUT ROWID
    """,
)
MOST_CUTS = 40  # 0.9 ** 40 is nothing
WAL_PAGES = 256  # 1 MiB, then its content goes into the file
BUSY_TIMEOUT_MS = 1000
BROKEN = (apsw.CorruptError, apsw.NotADBError)
_FLAGS = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
_ADD = """
    INSERT INTO points (step, time, series, count, low, high, total) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (step, time, series) DO UPDATE SET
        count = count + excluded.count, low = min(low, excluded.low), high = max(high, excluded.high),
        total = total + excluded.total
"""
# What has not changed is not written: a whole week is handed over again and again.
_REPLACE = """
    ON CONFLICT (step, time, series) DO UPDATE SET
        count = excluded.count, low = excluded.low, high = excluded.high, total = excluded.total
    WHERE count IS NOT excluded.count OR total IS NOT excluded.total
        OR low IS NOT excluded.low OR high IS NOT excluded.high
"""
_PUT = (
    "INSERT INTO points (step, time, series, count, low, high, total) VALUES (?, ?, ?, 1, ?, ?, ?)"  # noqa: S608 - constants
    + _REPLACE
)


class NewerError(Exception):
    """A later version of this program made the file; it is left as it is."""


class Database:
    """An open history file; `path` None is one in memory.

    Raises:
        apsw.Error: whatever the file or its disk does not allow.
        OSError: the file cannot be made.
        NewerError: see there.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        if path is not None:
            # What AMIGA did is nobody else's business; the log beside it gets the same rights. Never through a link.
            os.close(os.open(path, os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600))
        # As a URI, which can have any bytes in it.
        # `//` before a whole path: or one that begins with two slashes would name a host.
        name = ":memory:" if path is None else f"file://{urllib.parse.quote(os.fsencode(path.absolute()))}"
        self._db = apsw.Connection(name, flags=_FLAGS)
        try:
            self._db.set_busy_timeout(BUSY_TIMEOUT_MS)
            self._prepare()
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        # First what leaves a file that is not to be used as it is.
        if self._number("PRAGMA user_version") > len(MIGRATIONS):
            raise NewerError
        if self._db.execute("PRAGMA quick_check(1)").get != "ok":
            raise apsw.CorruptError("malformed")
        self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # takes effect in a new file alone
        self._db.execute("PRAGMA journal_mode = WAL")
        # Survives kill -9 whole; a power cut may cost what was written since the last checkpoint.
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        self._db.execute(f"PRAGMA journal_size_limit = {WAL_PAGES * 4096}")
        self._migrate()

    def _migrate(self) -> None:
        for version in range(self._number("PRAGMA user_version"), len(MIGRATIONS)):
            with self._transaction():
                for statement in filter(str.strip, MIGRATIONS[version].split(";")):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {version + 1}")

    # -- writing -------------------------------------------------------------------------------

    def add(self, rows: Iterable[Row]) -> None:
        """Take samples into every tier. All or nothing; may be called again for a slot that has some."""
        kept = list(rows)
        with self._transaction():
            for tier in TIERS:
                step = tier.step
                self._db.executemany(
                    _ADD, ((step, time // step * step, series, *rest) for time, series, *rest in kept)
                )

    def replace_minutes(self, rows: Iterable[tuple[int, int, float]]) -> None:
        """Put whole minutes (start, series, value) in the place of what was known of them."""
        kept = sorted(rows)
        if not kept:
            return
        numbers = sorted({series for _, series, _ in kept})
        first, last = kept[0][0] // HOUR_S * HOUR_S, kept[-1][0] // HOUR_S * HOUR_S + HOUR_S
        with self._transaction():
            self._db.executemany(
                _PUT,
                ((MINUTES.step, time, series, value, value, value) for time, series, value in kept),
            )
            # `true`, or SQLite takes ON for a join's.
            self._db.execute(
                "INSERT INTO points (step, time, series, count, low, high, total)"  # noqa: S608 - constants
                f" SELECT {HOURS.step}, time / {HOUR_S} * {HOUR_S} AS hour, series, sum(count), min(low),"
                f" max(high), sum(total) FROM points WHERE step = {MINUTES.step} AND time >= ? AND time < ?"
                f" AND series IN ({', '.join('?' * len(numbers))}) GROUP BY hour, series" + _REPLACE,
                (first, last, *numbers),
            )

    def forget(self, now: float) -> None:
        """Drop what is older than its tier keeps."""
        with self._transaction():
            for tier in TIERS:
                self._db.execute(
                    "DELETE FROM points WHERE step = ? AND time < ?", (tier.step, int(now) - tier.keep)
                )

    def shrink(self, most_bytes: int) -> bool:
        """While the file is larger than it may be, drop the oldest tenth of the largest tier; True if it was."""
        if self.size() <= most_bytes:
            return False
        for _ in range(MOST_CUTS):
            count, step = max((self._count(tier), tier.step) for tier in TIERS)
            with self._transaction():
                self._db.execute(
                    "DELETE FROM points WHERE step = ? AND time <= (SELECT time FROM points WHERE step = ?"
                    " ORDER BY time LIMIT 1 OFFSET ?)",
                    (step, step, count // 10),
                )
            self._db.execute("PRAGMA incremental_vacuum").fetchall()  # each step frees one page
            self._checkpoint()
            if not count or self.size() <= most_bytes:
                break
        return True

    # -- reading -------------------------------------------------------------------------------

    def read(self, tier: Tier, step: int, start: int, end: int, numbers: Iterable[int]) -> list[Row]:
        """Points of `step` seconds of these series in [start, end), made from a tier."""
        # A question for each slot: to group them all by slot in one would be to sort them, five times as slow.
        # `+series`: or SQLite looks up each series by itself.
        question = (
            "SELECT ?, series, sum(count), min(low), max(high), sum(total) FROM points"  # noqa: S608 - numbers of ours
            " WHERE step = ? AND time >= ? AND time < ?"
            f" AND +series IN ({', '.join(str(int(number)) for number in numbers)}) GROUP BY series"
        )
        found: list[Row] = []
        for slot in range(start // step * step, end, step):
            until = min(slot + step, end)
            found += self._db.execute(question, (slot, tier.step, max(slot, start), until))
        return found

    def newest(self) -> int | None:
        """The last hour (its start, epoch) of which there is something; None in an empty file."""
        found: int | None = self._db.execute("SELECT max(time) FROM points WHERE step = ?", (HOURS.step,)).get
        return found

    def size(self) -> int:
        """Bytes on disk, with the write-ahead log."""
        used = self._number("PRAGMA page_count") * self._number("PRAGMA page_size")
        if self.path is not None:
            with suppress(OSError):
                used += self.path.with_name(self.path.name + "-wal").stat().st_size
        return used

    def close(self) -> None:
        """Bring everything into the one file and leave it."""
        with closing(self._db), suppress(apsw.Error):
            self._checkpoint()

    # -- within --------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            # A full disk may have rolled it back already.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _checkpoint(self) -> None:
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _number(self, pragma: str) -> int:
        return int(self._db.execute(pragma).get)

    def _count(self, tier: Tier) -> int:
        return int(self._db.execute("SELECT count(*) FROM points WHERE step = ?", (tier.step,)).get)


def move_aside(path: Path) -> None:
    """Put a broken file out of the way, in the place of an older broken one."""
    aside = path.with_name(path.name + ".broken")
    path.replace(aside)
    for suffix in ("-wal", "-shm"):
        with suppress(OSError):
            path.with_name(path.name + suffix).unlink()
    logger.warning("the history file was broken; it has been moved to %s and a new one begun", aside)
