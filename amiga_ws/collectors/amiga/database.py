"""AMIGA's SQLite file, opened so that nothing is written and nothing is left beside it.

Three ways, by what lies beside the file (measured with SQLite 3.40):

- no -wal, or an empty one: `immutable=1`. A plain read-only open would create -wal and -shm where it may
  write, and fail where it may not.
- -wal and -shm: `mode=ro`; the writer is alive or was killed.
- -wal without -shm: `mode=ro` would create a -shm, so both are copied into a directory of ours, at most
  every 30 s, and the copy is read.

No connection is kept between ticks. A kept one holds a shared lock on the file for its whole life, and
SQLite's last writer, closing cleanly, then cannot remove its -wal and -shm: they would stay behind because
of us. Instead of PRAGMA data_version (which needs a kept connection) size, mtime and inode of the file and
its -wal tell whether anything was written: every commit is a write() to the -wal. It costs three stats.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
import time
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

COPY_EVERY_S = 30.0
COPY_LIMIT_BYTES = 2 << 30  # of database + -wal; beyond it the owner is told to start AMIGA once
PROGRESS_STEPS = 20_000  # SQLite's virtual machine does so many in about a millisecond
BUSY_TIMEOUT_S = 0.3  # a reader in WAL mode waits only while the -shm is being recovered
# Kernels stamp files with a clock of up to 10 ms; a change is looked at until it is older than this.
RACY_S = 0.1

Row = tuple[Any, ...]
Stamp = tuple[int, ...]


class DatabaseError(Exception):
    """The database is there but cannot be read; the message says why and is fit to show."""


class DatabaseMissingError(DatabaseError):
    """There is no file at the path."""


class Database:
    """Follows the file at `path` through its life; use `changed()` or `look()`, then `open()`,
    `query()`…, `close()`.

    `generation` grows when another file has taken the place, so that all learned by row id is void.
    `how` is the way of the last opening: immutable, ro or copy. `clock` gives wall time, the one that files are
    stamped with.
    """

    def __init__(self, path: Path, private_dir: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self.generation = 0
        self.how = "immutable"
        self.file_stamp: Stamp = ()  # of the file itself: while it holds still, all that came is in the -wal
        self._private = private_dir
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None  # device and inode of the file last seen
        self._stamp: Stamp = ()  # of the content that was last reported as changed
        self._size = 0  # database and -wal together
        self._look_again = False  # the last change was too fresh to be sure it was all
        self._copied: tuple[Stamp, float] = ((), float("-inf"))  # what the copy holds; monotonic time of it

    def changed(self) -> bool:
        """Whether the content may differ from the last call's. Raises DatabaseError."""
        stamp = self.look()
        inode = (stamp[0], stamp[1])
        if inode != self._inode:
            if self._inode is not None:
                logger.info("AMIGA's database was replaced by another file; reading it anew")
            self.generation += 1
            self._inode = inode
        self.file_stamp = stamp[:4]
        if self.how == "copy" and time.monotonic() - self._copied[1] < COPY_EVERY_S and self._copied[0]:
            return False
        if stamp == self._stamp and not self._look_again:
            return False
        # A write in the same clock beat as our reading would leave the stamp as it is, where the -wal is
        # written from its start again and does not grow: only a stamp that has aged is to be trusted.
        age = self._clock() - max(stamp[3], stamp[5]) / 1e9  # of the file and of its -wal
        self._look_again = -RACY_S < age < RACY_S
        self._stamp = stamp
        return True

    def look(self) -> Stamp:
        """Find out how to open now; what `changed()` will say stays as it is. Raises DatabaseError."""
        try:
            file = self.path.stat()
            wal = _stat(self._beside("-wal"))
            shm = self._beside("-shm").exists()
        except FileNotFoundError as error:
            raise DatabaseMissingError("no such file") from error
        except OSError as error:
            raise DatabaseError(f"cannot be read: {error.strerror or error}") from error
        self._size = file.st_size + wal[0]
        self.how = "immutable" if not wal[0] else "ro" if shm else "copy"
        return (file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns, *wal, shm)

    def forget(self) -> None:
        """Make the next `changed()` say yes: what was read could not be used, or the file has gone."""
        self._stamp = ()
        self._copied = ((), float("-inf"))

    def open(self, within_s: float | None = None) -> None:
        """Open as the last `changed()` or `look()` found right; queries end `within_s`. Raises DatabaseError."""
        try:
            path = self._copy() if self.how == "copy" else self.path
            options = "mode=ro&immutable=1" if self.how == "immutable" else "mode=ro"
            uri = f"file:{urllib.parse.quote(str(path.absolute()))}?{options}"
            connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        except (sqlite3.Error, OSError) as error:
            raise DatabaseError(f"cannot be opened: {error}") from error
        if within_s is not None:
            ends = time.monotonic() + within_s
            connection.set_progress_handler(lambda: time.monotonic() > ends, PROGRESS_STEPS)
        self._connection = connection

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """All rows of a short read; its transaction has ended when this returns. Raises DatabaseError."""
        if self._connection is None:
            raise DatabaseError("is not open")
        try:
            # fetchall() steps to the end, which resets the statement and so ends the autocommit read.
            return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.OperationalError as error:
            if "UTF-8" not in str(error) or self._connection.text_factory is _text:
                raise DatabaseError(f"cannot be read: {error}") from error
        except (sqlite3.Error, OverflowError) as error:
            raise DatabaseError(f"cannot be read: {error}") from error
        # Text that is not UTF-8 must not make a whole table unreadable; decoding it here takes twice as long.
        self._connection.text_factory = _text
        return self.query(sql, parameters)

    def columns(self, table: str) -> frozenset[str]:
        """Column names of a table, empty if there is none. Schema versions are not to be trusted for this."""
        rows = self.query("SELECT name FROM pragma_table_info(?)", (table,))
        return frozenset(str(row[0]) for row in rows)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _copy(self) -> Path:
        copy = self._private / "agentlab-copy.db"
        if self._copied[0] == self._stamp and copy.exists():
            return copy
        if self._size > COPY_LIMIT_BYTES:
            raise DatabaseError("has a -wal without -shm and is too large to copy; starting AMIGA mends it")
        self._private.mkdir(mode=0o700, parents=True, exist_ok=True)
        for suffix in ("-shm", "-wal", ""):
            _with_suffix(copy, suffix).unlink(missing_ok=True)
        for suffix in ("", "-wal"):
            target = _with_suffix(copy, suffix)
            target.touch(mode=0o600)
            shutil.copyfile(self._beside(suffix), target)
        self._copied = (self._stamp, time.monotonic())
        return copy

    def _beside(self, suffix: str) -> Path:
        return _with_suffix(self.path, suffix)


def _with_suffix(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _stat(path: Path) -> tuple[int, int]:
    """(size, mtime in ns) of a file, zeros if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return (found.st_size, found.st_mtime_ns)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
