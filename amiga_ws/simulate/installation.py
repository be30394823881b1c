"""The files of one AMIGA installation, open for writing: database, hook logs, chat sessions, application log.

What AMIGA's processes do to their files lives here; what happens in AMIGA (tasks, tools) lives in
`simulator.py`. All times that come in are epoch seconds; the texts that go out are AMIGA's.
"""

from __future__ import annotations

import json
import os
import shutil
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, Literal

import apsw

from amiga_ws.simulate import schema as schemas

Stamps = Literal["local", "utc", "space"]

BUSY_TIMEOUT_MS = 5_000  # as in Python's sqlite3, with which AMIGA writes
_FLAGS = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI


class Installation:
    """data/agentlab.db, data/sessions.json, logs/sessions/ID/pre_tool_use.jsonl, logs/bot.log below `root`.

    `zone` is the host's time zone (None: this host's own). `wal_only` keeps every page out of the main
    file, as on a little-used AMIGA; nothing here calls fsync, which a reader cannot tell.
    """

    def __init__(
        self,
        root: Path,
        *,
        schema: int = schemas.NEWEST,
        zone: tzinfo | None = None,
        wal_only: bool = False,
        messages: bool = True,
        session_uuid_from_start: bool = True,
    ) -> None:
        self.root = root
        self.database = root / "data" / "agentlab.db"
        self.zone = zone
        self._schema = schema
        self._wal_only = wal_only
        self._messages = messages
        self._session_uuid_from_start = session_uuid_from_start
        self._con: apsw.Connection | None = None
        self._columns: dict[str, tuple[str, ...]] = {}  # by table; follows every migration
        self._batch = False  # within batch(): one transaction instead of one a row
        self._chats: dict[str, dict[str, Any]] = {}  # sessions.json as it stands
        self._half: dict[Path, str] = {}  # the rest of a half-written line, by file

    # -- database ---------------------------------------------------------------------------------------

    @property
    def con(self) -> apsw.Connection:
        """The writer's connection; raises RuntimeError while AMIGA is down."""
        if self._con is None:
            raise RuntimeError("this AMIGA is down: call open() first")
        return self._con

    def open(self, now: float) -> None:
        """Start AMIGA's writer on the existing database, or make a new one."""
        self.database.parent.mkdir(parents=True, exist_ok=True)
        (self.root / "logs" / "sessions").mkdir(parents=True, exist_ok=True)
        # As a URI, which can have any bytes in it.
        con = apsw.Connection(
            f"file://{urllib.parse.quote(os.fsencode(self.database.absolute()))}", flags=_FLAGS
        )
        con.set_busy_timeout(BUSY_TIMEOUT_MS)
        con.execute("PRAGMA journal_mode=WAL")
        con.execute("PRAGMA synchronous=OFF")
        if self._wal_only:
            con.execute("PRAGMA wal_autocheckpoint=0")
        self._con = con
        with self.batch():
            if not schemas.columns(con):
                applied_at = self.stamp(now)
                schemas.create(
                    con,
                    self._schema,
                    applied_at,
                    session_uuid_from_start=self._session_uuid_from_start,
                )
            if self._messages:
                schemas.add_messages(con)
        self._columns = schemas.columns(con)
        try:
            self._chats = json.loads(self._sessions_json.read_text("utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            self._chats = {}

    def migrate(self, version: int, now: float) -> None:
        """AMIGA was updated: take the schema up to `version`."""
        with self.batch():
            schemas.migrate(self.con, version, self.stamp(now))
        self._columns = schemas.columns(self.con)

    def close(self) -> None:
        """AMIGA ended in good order: the last connection empties and removes the -wal."""
        if self._con is not None:
            self._con.close()
            self._con = None

    def kill(self, *, keep_shm: bool = True) -> None:
        """AMIGA was killed with -9: -wal and -shm stay as they are, with all they hold.

        `keep_shm` False: a -wal without its -shm, as a copy or a restored backup leaves it.
        """
        names = [self.database.with_name(self.database.name + suffix) for suffix in ("", "-wal", "-shm")]
        kept = {name: name.read_bytes() for name in names if name.exists()}
        self.close()
        if names[1].exists():
            return  # somebody else has it open, so closing emptied nothing
        if not keep_shm:
            kept.pop(names[2], None)
        for name, content in kept.items():
            name.write_bytes(content)

    def remove_database(self) -> None:
        """Take the database and its companions away, as a moved or re-installed AMIGA does."""
        self.close()
        for suffix in ("", "-wal", "-shm"):
            self.database.with_name(self.database.name + suffix).unlink(missing_ok=True)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Everything written inside is one transaction; without it every row is its own, as AMIGA's."""
        if self._batch:
            yield
            return
        self._batch = True
        self.con.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.con.execute("ROLLBACK")
            raise
        else:
            self.con.execute("COMMIT")
        finally:
            self._batch = False

    def insert(self, table: str, row: Mapping[str, object]) -> int:
        """Insert one row and return its rowid; columns that this schema lacks are left out.

        0 when the table itself is missing.
        """
        here = [name for name in self._columns.get(table, ()) if name in row]
        if not here:
            return 0
        marks = ", ".join("?" * len(here))
        self.con.execute(
            f"INSERT INTO {table} ({', '.join(here)}) VALUES ({marks})",  # noqa: S608 - our own schema's names
            [row[name] for name in here],
        )
        return self.con.last_insert_rowid()

    def update(self, table: str, key: str, value: object, row: Mapping[str, object]) -> None:
        """Set the columns of `row` where `key` is `value`; columns that this schema lacks are left out."""
        here = [name for name in self._columns.get(table, ()) if name in row]
        if here:
            changes = ", ".join(f"{name} = ?" for name in here)
            self.con.execute(
                f"UPDATE {table} SET {changes} WHERE {key} = ?",  # noqa: S608 - our own schema's names
                [*(row[name] for name in here), value],
            )

    def stamp(self, at: float, how: Stamps = "local") -> str:
        """The text AMIGA writes for an instant: naive local time, or UTC with Z as its older rows have."""
        moment = datetime.fromtimestamp(at, UTC)
        if how == "utc":
            return utc_stamp(at)
        return moment.astimezone(self.zone).replace(tzinfo=None).isoformat(" " if how == "space" else "T")

    # -- files ------------------------------------------------------------------------------------------

    def hook_log(self, session: str) -> Path:
        """Where the hooks of one Claude session write."""
        return self.root / "logs" / "sessions" / session / "pre_tool_use.jsonl"

    def append_hook_line(self, session: str, line: Mapping[str, object], *, half: bool = False) -> None:
        """Append one line; with `half`, only its first half, until `finish_hook_line`."""
        path = self.hook_log(session)
        text = json.dumps(line) + "\n"
        if half:
            self._half[path] = text[len(text) // 2 :]
            text = text[: len(text) // 2]
        self.append_raw(path, text)

    def finish_hook_line(self, session: str) -> None:
        """Write the rest of the half-written line."""
        path = self.hook_log(session)
        self.append_raw(path, self._half.pop(path))

    def append_raw(self, path: Path, text: str) -> None:
        """Append text as it is, in one write like the hook's `echo >>`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(text)

    def add_chat(self, user: int | str, session: str, role: str, content: str, at: float) -> None:
        """Add a chat line to sessions.json, which AMIGA rewrites whole and in place."""
        now = self.stamp(at)
        chat = self._chats.setdefault(
            f"{user}:{session}",
            {
                "user_id": user,
                "session_id": session,
                "created_at": now,
                "last_activity": now,
                "history": [],
                "current_workspace": None,
            },
        )
        chat["last_activity"] = now
        chat["history"] = [*chat["history"][-19:], {"role": role, "content": content, "timestamp": now}]
        if not self._batch:
            self.save_chats()

    def save_chats(self) -> None:
        """Write sessions.json; done after each chat line outside of a batch."""
        self._sessions_json.write_text(json.dumps(self._chats, indent=2), "utf-8")

    def log(self, at: float, source: str, message: str, level: str = "INFO") -> None:
        """Append to bot.log in AMIGA's format: local time with a comma before the milliseconds."""
        when = datetime.fromtimestamp(at, UTC).astimezone(self.zone)
        stamp = f"{when:%Y-%m-%d %H:%M:%S},{when.microsecond // 1000:03d}"
        self.append_raw(self.root / "logs" / "bot.log", f"{stamp} - {source} - {level} - {message}\n")

    @property
    def _sessions_json(self) -> Path:
        return self.root / "data" / "sessions.json"


def utc_stamp(at: float) -> str:
    """UTC with a trailing Z, as the hooks' lines have it."""
    return datetime.fromtimestamp(at, UTC).replace(tzinfo=None).isoformat() + "Z"


def set_file_time(path: Path, at: float) -> None:
    """Give a file the age its content says, for a history that was written in one go."""
    if path.exists():
        os.utime(path, (at, at))


def clear(root: Path) -> None:
    """Remove what an installation consists of below `root`, and nothing else."""
    for name in ("data", "logs"):
        shutil.rmtree(root / name, ignore_errors=True)
