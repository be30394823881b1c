"""Writes small AMIGA installations for the collector's tests: real SQLite in WAL mode, real JSONL.

Independent of the package: it knows AMIGA's files, not our code.
"""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path
from urllib.parse import quote

import apsw

SCHEMA = """
CREATE TABLE schema_version (version INTEGER PRIMARY KEY, applied_at TEXT NOT NULL);
CREATE TABLE tasks (
    task_id TEXT PRIMARY KEY, user_id INTEGER NOT NULL, description TEXT NOT NULL, status TEXT NOT NULL,
    created_at TEXT NOT NULL, updated_at TEXT NOT NULL, model TEXT NOT NULL, workspace TEXT NOT NULL,
    agent_type TEXT NOT NULL DEFAULT 'code_agent', result TEXT, error TEXT, pid INTEGER, activity_log TEXT,
    session_uuid TEXT, workflow TEXT, context TEXT, current_phase TEXT, phase_number INTEGER DEFAULT 0,
    last_agent_type TEXT);
CREATE TABLE tool_usage (
    id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp TEXT NOT NULL, task_id TEXT NOT NULL,
    tool_name TEXT NOT NULL, duration_ms REAL, success BOOLEAN, error TEXT, parameters TEXT,
    error_category TEXT, screenshot_path TEXT, input_tokens INTEGER, output_tokens INTEGER,
    cache_creation_tokens INTEGER, cache_read_tokens INTEGER);
CREATE TABLE agent_status (
    id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp TEXT NOT NULL, task_id TEXT NOT NULL,
    status TEXT NOT NULL, message TEXT, metadata TEXT);
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, user_id INTEGER NOT NULL, timestamp TEXT NOT NULL,
    role TEXT NOT NULL, content TEXT NOT NULL, tokens_input INTEGER, tokens_output INTEGER,
    cache_creation_tokens INTEGER, cache_read_tokens INTEGER, conversation_id TEXT, input_method TEXT,
    has_image BOOLEAN DEFAULT 0, model TEXT);
CREATE INDEX idx_tasks_status ON tasks(status);
CREATE INDEX idx_tasks_created ON tasks(created_at DESC);
CREATE INDEX idx_tool_timestamp ON tool_usage(timestamp DESC);
CREATE INDEX idx_tool_task ON tool_usage(task_id);
CREATE INDEX idx_status_timestamp ON agent_status(timestamp);
CREATE INDEX idx_status_task ON agent_status(task_id);
INSERT INTO schema_version VALUES (14, '2026-01-01T00:00:00');
"""
CLI_SESSION = "f532a6cd-3118-48c0-83c5-5850f837beb2"


def local(epoch: float) -> str:
    """`epoch` as AMIGA writes it: naive UTC here, since the tests run collectors with timezone UTC."""
    return dt.datetime.fromtimestamp(epoch, dt.UTC).replace(tzinfo=None).isoformat()


class Installation:
    """One AMIGA root. Writes commit at once; the writer stays open until `close()` or `crash()`."""

    def __init__(self, root: Path, schema: str = SCHEMA) -> None:
        self.root = root
        self.database = root / "data" / "agentlab.db"
        self.sessions = root / "logs" / "sessions"
        self.database.parent.mkdir(parents=True, exist_ok=True)
        self.sessions.mkdir(parents=True, exist_ok=True)
        self.db = self._connect()
        self.db.execute(schema)

    def _connect(self) -> apsw.Connection:
        connection = apsw.Connection(
            f"file:{quote(os.fsencode(self.database))}",
            apsw.SQLITE_OPEN_URI | apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE,
        )
        connection.set_busy_timeout(5_000)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        return connection

    def reopen(self) -> None:
        self.db = self._connect()

    def close(self) -> None:
        """As a server that ends cleanly: the -wal is folded into the file and removed."""
        self.db.close()

    def crash(self, *, keep_shm: bool = True) -> None:
        """As a server killed with -9: -wal (and -shm) stay."""
        names = [self.database.with_name(self.database.name + suffix) for suffix in ("", "-wal", "-shm")]
        kept = {name: name.read_bytes() for name in names}
        self.db.close()
        for name, content in kept.items():
            if keep_shm or not name.name.endswith("-shm"):
                name.write_bytes(content)

    def files(self) -> set[str]:
        return {path.name for path in self.database.parent.iterdir()}

    def task(self, task_id: str, status: str = "running", at: float = 0.0, **columns: object) -> None:
        row: dict[str, object] = {
            "task_id": task_id,
            "user_id": 12345,
            "description": f"do {task_id}",
            "status": status,
            "created_at": local(at),
            "updated_at": local(at),
            "model": "sonnet",
            "workspace": "/srv/code/app",
        }
        self._insert("tasks", row | columns)

    def update(self, task_id: str, **columns: object) -> None:
        names = ", ".join(f"{name}=?" for name in columns)
        sql = f"UPDATE tasks SET {names} WHERE task_id=?"  # noqa: S608 - names are the tests' own
        self.db.execute(sql, (*columns.values(), task_id))

    def tool(self, owner: str, tool: str, at: float, success: int | None = None, **columns: object) -> int:
        row = {"timestamp": local(at), "task_id": owner, "tool_name": tool, "success": success}
        return self._insert("tool_usage", row | columns)

    def finish(
        self, row_id: int, success: int, error: str | None = None, category: str | None = None
    ) -> None:
        self.db.execute(
            "UPDATE tool_usage SET success=?, error=?, error_category=? WHERE id=?",
            (success, error, category, row_id),
        )

    def status(
        self, owner: str, status: str, at: float, message: str | None = None, **metadata: object
    ) -> int:
        row = {"timestamp": local(at), "task_id": owner, "status": status, "message": message}
        return self._insert("agent_status", row | {"metadata": json.dumps(metadata) if metadata else None})

    def ended(self, owner: str, tool: str, at: float, *, ok: bool = True) -> int:
        return self.status(owner, "tool_call", at, f"{tool} completed", tool=tool, success=ok)

    def message(self, at: float, tokens: tuple[int, int], model: str = "claude-haiku-4-5") -> int:
        row = {"user_id": 1, "timestamp": local(at), "role": "assistant", "content": "Done.", "model": model}
        return self._insert("messages", row | {"tokens_input": tokens[0], "tokens_output": tokens[1]})

    def hook(
        self, session: str, tool: str, at: float, task_id: str | None = None, **parameters: object
    ) -> None:
        folder = self.sessions / session
        folder.mkdir(exist_ok=True)
        line = {
            "timestamp": local(at) + "Z",
            "tool": tool,
            "parameters": parameters,
            "status": "starting",
            "task_id": task_id,
            "session_uuid": session,
        }
        with (folder / "pre_tool_use.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _insert(self, table: str, row: dict[str, object]) -> int:
        marks = ", ".join("?" for _ in row)
        sql = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})"  # noqa: S608 - names are the tests' own
        self.db.execute(sql, tuple(row.values()))
        return self.db.last_insert_rowid()
