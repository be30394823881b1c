"""AMIGA's SQLite file, opened so that nothing is written and nothing is left beside it.

By apsw, with the SQLite it brings: rows come four times as fast as by the standard library's module, which locks two
mutexes for each column. Whoever else opens the file in this process must do so by apsw, too: SQLite's locks belong to
a process, and what one copy of it holds another one drops (https://www.sqlite.org/howtocorrupt.html, 2.2.1).

Three ways, by what lies beside the file (measured with SQLite 3.40 and 3.54):

- no -wal, or an empty one: `immutable=1`. A plain read-only open would create -wal and -shm where it may
  write, and fail where it may not.
- -wal and -shm: `mode=ro`; the writer is alive or was killed.
- -wal without -shm: `mode=ro` would create a -shm, so both are copied into a directory of ours, at most
  every 30 s, and the copy is read.

No connection is kept between ticks. A kept one holds a shared lock on the file for its whole life, and
SQLite's last writer, closing cleanly, then cannot remove its -wal and -shm: they would stay behind because
of us. Instead of PRAGMA data_version (which needs a kept connection) size, mtime and inode of the file and
its -wal tell whether anything was written: every commit is a write() to the -wal. It costs three stats.

Who writes the file may be hostile, as an agent of AMIGA's may be led to be. So only plain tables are read,
none whose rows are worked out when they are asked for, and what a query may cost has a limit.
"""

from __future__ import annotations

import errno
import itertools
import logging
import math
import os
import stat
import time
import urllib.parse
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any

import apsw
import msgspec

from amiga_ws.collectors.amiga.files import open_regular, require_regular

logger = logging.getLogger(__name__)

COPY_EVERY_S = 30.0
COPY_BYTES = 1 << 20  # at once
COPY_LIMIT_BYTES = 2 << 30  # of database + -wal; beyond it the owner is told to start AMIGA once
PROGRESS_STEPS = 20_000  # SQLite's virtual machine does so many in about a millisecond
PROCESSOR_S = 5.0  # of one query: twenty million rows looked through; a slow disk does not count
PAUSE_S = 60.0  # after one that took longer
VALUE_BYTES = 32 << 20  # of one value
RESULT_BYTES = 128 << 20  # of one query's rows: 4,000 of 32 KiB each
PART_ROWS = 8  # after so many we look how long they were
_ROW_IDS = {"rowid", "_rowid_", "oid"}  # a column of that name hides what it names elsewhere
BUSY_TIMEOUT_MS = 300  # a reader in WAL mode waits only while the -shm is being recovered
# Kernels stamp files with a clock of up to 10 ms; a change is looked at until it is older than this.
RACY_S = 0.1

# One thread at a time has the connection, so SQLite need lock nothing.
_FLAGS = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI | apsw.SQLITE_OPEN_NOMUTEX

_packed = msgspec.msgpack.Encoder().encode
Row = tuple[Any, ...]
Stamp = tuple[int, ...]


class DatabaseError(Exception):
    """The database is there but cannot be read; the message says why and is fit to show.

    `hint`: what to do about it.
    """

    hint = "it must be an SQLite database that the user of this server may read (docs/operations.md, Rights)"


class DatabaseMissingError(DatabaseError):
    """There is no file at the path."""


class CopyError(DatabaseError):
    """The copy that reading it takes cannot be made."""

    hint = (
        "private/ in state_dir must be a folder of this server's user with room for the copy; "
        "or start AMIGA, then no copy is needed"
    )


class Database:
    """Follows the file at `path` through its life; use `changed()` or `look()`, then `open()`,
    `query()`…, `close()`.

    `generation` grows when another file has taken the place, so that all learned by row id is void.
    `how` is the way of the last opening: immutable, ro or copy. `clock` gives wall time, the one that files are
    stamped with.
    """

    def __init__(self, path: Path, private_dir: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._whole = os.fspath(path.absolute())
        self._real = self._whole  # no link itself; set by each look
        self.generation = 0
        self.how = "immutable"
        self.file_stamp: Stamp = ()  # of the file itself: while it holds still, all that came is in the -wal
        self._private = private_dir
        self._clock = clock
        self._connection: apsw.Connection | None = None
        self._inode: tuple[int, int] | None = None  # device and inode of the file last seen
        self._stamp: Stamp = ()  # of the content that was last reported as changed
        self._size = 0  # database and -wal together
        self._look_again = False  # the last change was too fresh to be sure it was all
        self._copied: tuple[Stamp, float] = ((), float("-inf"))  # what the copy holds; monotonic time of it
        self._ends = math.inf  # monotonic; of all queries of this opening
        self._processor_ends = math.inf  # in this thread's processor time; of the running query
        self._pause: tuple[DatabaseError, float] | None = None  # why nothing is read until then (monotonic)

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
            # As SQLite does: -wal and -shm lie beside the file, wherever links to it do.
            linked = os.path.islink(self._whole)  # noqa: PTH114 - at each tick, as strings
            self._real = os.path.realpath(self._whole, strict=True) if linked else self._whole
            file = os.stat(self._real)  # noqa: PTH116 - at each tick, as strings
            require_regular(file, self.path)
            wal = _stat(f"{self._real}-wal")
            shm = _stat(f"{self._real}-shm") != _ABSENT
        except FileNotFoundError as error:
            raise DatabaseMissingError("no such file") from error
        except OSError as error:
            raise DatabaseError(f"cannot be read: {error.strerror or error}") from error
        self._size = file.st_size + wal[0]
        how = "immutable" if not wal[0] else "ro" if shm else "copy"
        if how != self.how:
            self.how, self._pause = how, None
        return (file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns, *wal, shm)

    def forget(self) -> None:
        """Make the next `changed()` say yes: what was read could not be used, or the file has gone."""
        self._stamp = ()
        self._copied = ((), float("-inf"))

    def open(self, within_s: float | None = None) -> None:
        """Open as the last `changed()` or `look()` found right; queries end `within_s`. Raises DatabaseError."""
        if self._pause is not None:
            error, until = self._pause
            if time.monotonic() < until:
                raise error.with_traceback(None)
            self._pause = None
        try:
            path = str(self._copy()) if self.how == "copy" else self._real
            options = "mode=ro&immutable=1" if self.how == "immutable" else "mode=ro"
            uri = f"file://{urllib.parse.quote(os.fsencode(path))}?{options}"  # `//`: whole paths, also of two slashes
            connection = apsw.Connection(uri, flags=_FLAGS)
        except (apsw.Error, OSError) as error:
            raise DatabaseError(f"cannot be opened: {self._why(error)}") from error
        self._ends = math.inf if within_s is None else time.monotonic() + within_s
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.set_progress_handler(self._is_over, PROGRESS_STEPS)
        connection.limit(apsw.SQLITE_LIMIT_LENGTH, VALUE_BYTES)
        # Else a query with `LIMIT ?` is planned twice: again when the value is known.
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        self._connection = connection

    def _why(self, error: Exception) -> str:
        """SQLite's reason, or the one behind it: SQLite itself does not tell that rights are missing."""
        if isinstance(error, apsw.CantOpenError):
            for path in (self._real, f"{self._real}-wal", f"{self._real}-shm"):
                if os.path.exists(path) and not os.access(path, os.R_OK):  # noqa: PTH110 - as strings
                    return f"Permission denied: {path}"
        return str(error)

    def _is_over(self) -> bool:
        """Asked by SQLite as it works."""
        return time.monotonic() > self._ends or time.thread_time() > self._processor_ends

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """All rows of a short read; its transaction has ended when this returns. Raises DatabaseError."""
        if self._connection is None:
            raise DatabaseError("is not open")
        self._processor_ends = time.thread_time() + PROCESSOR_S
        cursor = self._connection.cursor()
        try:
            cursor.execute(sql, parameters)
            try:
                return _all_rows(cursor)
            except UnicodeDecodeError:
                # Text that is not UTF-8 must not make a whole table unreadable.
                sql = _with_bytes_for_text(sql, len(cursor.description))
                return [_decoded(row) for row in _all_rows(cursor.execute(sql, parameters))]
        except _TooLongError as error:
            raise self._paused(DatabaseError("holds texts that are too long to be read"), PAUSE_S) from error
        except (apsw.Error, OverflowError) as error:
            if time.thread_time() > self._processor_ends:
                raise self._paused(
                    DatabaseError(f"takes more than {PROCESSOR_S:.0f} s to be asked"), PAUSE_S
                ) from error
            raise DatabaseError(f"cannot be read: {self._why(error)}") from error
        finally:
            cursor.close(True)  # which ends the read, also of what was not read to its end

    def columns(self, table: str) -> frozenset[str]:
        """Column names of a table, empty if there is none. Schema versions are not to be trusted for this.

        Raises DatabaseError: also for a table whose rows or columns are worked out when they are asked for (views,
        virtual tables, generated columns), and for one whose ids can be something else than numbers.
        """
        found = self.query("SELECT name, type, pk, hidden FROM pragma_table_xinfo(?)", (table,))
        if not found:
            return frozenset()
        names = frozenset(str(row[0]) for row in found)
        plain = self.query(
            "SELECT 1 FROM sqlite_master WHERE lower(name) = ? AND type = 'table' AND rootpage > 0", (table,)
        )
        if not plain or any(row[3] for row in found) or _ROW_IDS & {name.lower() for name in names}:
            raise DatabaseError(f"cannot be read: {table} is no plain table")
        if "id" in names and ("id", "INTEGER", 1) not in {
            (name, kind.upper(), pk) for name, kind, pk, _ in found
        }:
            raise DatabaseError(f"cannot be read: {table}.id is no INTEGER PRIMARY KEY")
        return names

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _copy(self) -> Path:
        copy = self._private.absolute() / "agentlab-copy.db"
        if self._copied[0] == self._stamp and copy.exists():
            return copy
        if self._size > COPY_LIMIT_BYTES:
            raise DatabaseError("has a -wal without -shm and is too large to copy; starting AMIGA mends it")
        with open_regular(self._real) as file, open_regular(f"{self._real}-wal") as wal:
            try:
                _make_private(self._private)
                _remove(copy)
                _write_copy(copy, file)
                _write_copy(_with_suffix(copy, "-wal"), wal)
            except OSError as error:
                with suppress(OSError):
                    _remove(copy)  # on a full disk it is what others need
                cause = (
                    f"has a -wal without -shm, and no copy can be made in {self._private}: {error.strerror}"
                )
                raise self._paused(CopyError(cause), COPY_EVERY_S) from error
        self._copied = (self._stamp, time.monotonic())
        return copy

    def _paused(self, error: DatabaseError, pause_s: float) -> DatabaseError:
        """The error, which all openings of the next `pause_s` raise at once: to meet it again is dear."""
        self._pause = (error, time.monotonic() + pause_s)
        return error


def id_list(ids: Iterable[int]) -> str:
    """Row ids for an IN list; int() keeps anything else out of the SQL."""
    return ",".join([str(int(one)) for one in ids])


def _with_suffix(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


class _TooLongError(Exception):
    """Rows of more than RESULT_BYTES."""


_ABSENT = (0, 0)


def _stat(path: str) -> tuple[int, int]:
    """(size, mtime in ns) of a file, zeros if there is none. Raises OSError: also for what is no regular file."""
    try:
        found = os.stat(path)  # noqa: PTH116 - at each tick, as strings
    except FileNotFoundError:
        return _ABSENT
    require_regular(found, path)
    return (found.st_size, found.st_mtime_ns)


def _all_rows(cursor: apsw.Cursor) -> list[Row]:
    """To the end. Raises _TooLongError; UnicodeDecodeError for text that is not UTF-8."""
    rows: list[Row] = []
    size = 0
    while True:
        part = list(itertools.islice(cursor, PART_ROWS))
        rows += part
        size += len(_packed(part))  # the cheapest way to know: 0.1 us a row
        if size > RESULT_BYTES:
            raise _TooLongError
        if len(part) < PART_ROWS:
            return rows


def _with_bytes_for_text(sql: str, columns: int) -> str:
    """A query of the same rows, with whether it is text before each value, and the bytes of what is."""
    names = [f"c{number}" for number in range(columns)]
    shown = ", ".join(
        f"typeof({name}) = 'text', iif(typeof({name}) = 'text', CAST({name} AS BLOB), {name})"
        for name in names
    )
    return f"WITH asked ({', '.join(names)}) AS ({sql}) SELECT {shown} FROM asked"  # noqa: S608 - names from here


def _decoded(row: Row) -> Row:
    # What is no text stays as it is: a row must look the same whichever way it is read.
    return tuple(
        one.decode("utf-8", "replace") if is_text else one
        for is_text, one in zip(row[::2], row[1::2], strict=True)
    )


def _make_private(folder: Path) -> None:
    """Raises OSError: also for a link, which may lead to where others can read."""
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "it is no folder") from None


def _remove(copy: Path) -> None:
    for suffix in ("-shm", "-wal", ""):
        _with_suffix(copy, suffix).unlink(missing_ok=True)


def _write_copy(target: Path, source: FileIO) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        # Not to the end, which may move away as fast as we copy.
        left = os.fstat(source.fileno()).st_size
        while left > 0 and (part := source.read(min(left, COPY_BYTES))):
            file.write(part)
            left -= len(part)
