"""AMIGA's database schema, versions 1 to 14, the way its own migrations leave it on disk.

A file grows by steps: the first version's tables, then one step per version, each adding columns at the
end of a table. So an old file taken to 14 and a fresh one have the same columns in the same order.
Version 12 was never released. `messages` stands outside the versions: AMIGA's analytics make it.
"""

from __future__ import annotations

import apsw

NEWEST = 14
VERSIONS = tuple(version for version in range(1, NEWEST + 1) if version not in {12})

_BASE = (
    "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY, applied_at TEXT NOT NULL)",
    """CREATE TABLE tasks (
        task_id TEXT PRIMARY KEY,
        user_id INTEGER NOT NULL,
        description TEXT NOT NULL,
        status TEXT NOT NULL,
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        model TEXT NOT NULL,
        workspace TEXT NOT NULL,
        agent_type TEXT NOT NULL DEFAULT 'code_agent',
        result TEXT,
        error TEXT,
        pid INTEGER,
        activity_log TEXT{session_uuid}
    )""",
    "CREATE INDEX idx_tasks_user_status ON tasks(user_id, status, created_at DESC)",
    "CREATE INDEX idx_tasks_created ON tasks(created_at DESC)",
    "CREATE INDEX idx_tasks_status ON tasks(status)",
    """CREATE TABLE tool_usage (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        timestamp TEXT NOT NULL,
        task_id TEXT NOT NULL,
        tool_name TEXT NOT NULL,
        duration_ms REAL,
        success BOOLEAN,
        error TEXT,
        parameters TEXT
    )""",
    "CREATE INDEX idx_tool_timestamp ON tool_usage(timestamp DESC)",
    "CREATE INDEX idx_tool_task ON tool_usage(task_id)",
    "CREATE INDEX idx_tool_name ON tool_usage(tool_name)",
    """CREATE TABLE agent_status (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        timestamp TEXT NOT NULL,
        task_id TEXT NOT NULL,
        status TEXT NOT NULL,
        message TEXT,
        metadata TEXT
    )""",
    "CREATE INDEX idx_status_timestamp ON agent_status(timestamp DESC)",
    "CREATE INDEX idx_status_task ON agent_status(task_id)",
)

_STEPS: dict[int, tuple[str, ...]] = {
    2: (
        """CREATE TABLE games (
            game_id INTEGER PRIMARY KEY AUTOINCREMENT,
            user_id INTEGER NOT NULL,
            game_type TEXT NOT NULL,
            status TEXT NOT NULL,
            score INTEGER DEFAULT 0,
            level INTEGER DEFAULT 1,
            created_at TEXT NOT NULL,
            updated_at TEXT NOT NULL,
            state_data TEXT
        )""",
        "CREATE INDEX idx_games_user_status ON games(user_id, status, updated_at DESC)",
        "CREATE INDEX idx_games_user_type ON games(user_id, game_type)",
    ),
    3: ("ALTER TABLE tasks ADD COLUMN workflow TEXT",),
    4: ("ALTER TABLE tasks ADD COLUMN context TEXT",),
    5: ("ALTER TABLE tool_usage ADD COLUMN error_category TEXT",),
    6: ("ALTER TABLE tool_usage ADD COLUMN screenshot_path TEXT",),
    7: (
        """CREATE TABLE files (
            file_path TEXT PRIMARY KEY,
            first_seen TEXT NOT NULL,
            last_accessed TEXT NOT NULL,
            access_count INTEGER NOT NULL DEFAULT 0,
            task_ids TEXT,
            operations TEXT,
            file_size INTEGER,
            file_hash TEXT
        )""",
        "CREATE INDEX idx_files_last_accessed ON files(last_accessed DESC)",
        "CREATE INDEX idx_files_access_count ON files(access_count DESC)",
    ),
    8: (
        """CREATE TABLE users (
            user_id TEXT PRIMARY KEY,
            username TEXT UNIQUE NOT NULL,
            email TEXT UNIQUE NOT NULL,
            password_hash TEXT NOT NULL,
            created_at TEXT NOT NULL,
            is_admin BOOLEAN NOT NULL DEFAULT 0
        )""",
        "CREATE INDEX idx_users_username ON users(username)",
        "CREATE INDEX idx_users_email ON users(email)",
    ),
    9: ("ALTER TABLE tasks ADD COLUMN session_uuid TEXT",),
    10: (
        "ALTER TABLE tool_usage ADD COLUMN input_tokens INTEGER",
        "ALTER TABLE tool_usage ADD COLUMN output_tokens INTEGER",
        "ALTER TABLE tool_usage ADD COLUMN cache_creation_tokens INTEGER",
        "ALTER TABLE tool_usage ADD COLUMN cache_read_tokens INTEGER",
    ),
    11: (
        "ALTER TABLE tasks ADD COLUMN current_phase TEXT",
        "ALTER TABLE tasks ADD COLUMN phase_number INTEGER DEFAULT 0",
    ),
    13: (
        """CREATE TABLE documents (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            path TEXT NOT NULL UNIQUE,
            status TEXT NOT NULL DEFAULT 'active',
            created_at TEXT NOT NULL,
            updated_at TEXT NOT NULL,
            archived_at TEXT,
            task_id TEXT,
            notes TEXT,
            FOREIGN KEY (task_id) REFERENCES tasks(task_id)
        )""",
        "CREATE INDEX idx_documents_status ON documents(status)",
        "CREATE INDEX idx_documents_path ON documents(path)",
        "CREATE INDEX idx_documents_task_id ON documents(task_id)",
    ),
    14: ("ALTER TABLE tasks ADD COLUMN last_agent_type TEXT",),
}

_MESSAGES = (
    """CREATE TABLE IF NOT EXISTS messages (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        user_id INTEGER NOT NULL,
        timestamp TEXT NOT NULL,
        role TEXT NOT NULL,
        content TEXT NOT NULL,
        tokens_input INTEGER,
        tokens_output INTEGER,
        cache_creation_tokens INTEGER,
        cache_read_tokens INTEGER,
        conversation_id TEXT,
        input_method TEXT,
        has_image BOOLEAN DEFAULT 0,
        model TEXT
    )""",
    "CREATE INDEX IF NOT EXISTS idx_messages_user_timestamp ON messages(user_id, timestamp DESC)",
    "CREATE INDEX IF NOT EXISTS idx_messages_timestamp ON messages(timestamp DESC)",
    "CREATE INDEX IF NOT EXISTS idx_messages_conversation ON messages(conversation_id, timestamp ASC)",
)


def create(con: apsw.Connection, version: int, applied_at: str, *, session_uuid_from_start: bool) -> None:
    """Make an empty file of `version` and note that version alone, as AMIGA does for a fresh file.

    `session_uuid_from_start`: AMIGA's first-version DDL of today has `tasks.session_uuid`, which a file
    really made in those days got at version 9.
    """
    if version not in VERSIONS:
        raise ValueError(f"AMIGA never had schema version {version}")
    extra = ",\n        session_uuid TEXT" if session_uuid_from_start else ""
    for statement in _BASE:
        con.execute(statement.format(session_uuid=extra))
    _climb(con, 1, version)
    con.execute("INSERT INTO schema_version VALUES (?, ?)", (version, applied_at))


def migrate(con: apsw.Connection, version: int, applied_at: str) -> None:
    """Take an existing file up to `version`, leaving the older version's row as AMIGA's migration does."""
    now = con.execute("SELECT max(version) FROM schema_version").get
    if now < version:
        _climb(con, now, version)
        con.execute("INSERT INTO schema_version VALUES (?, ?)", (version, applied_at))


def add_messages(con: apsw.Connection) -> None:
    """The chat table, which appears when AMIGA's server first starts on a file of any version."""
    for statement in _MESSAGES:
        con.execute(statement)


def columns(con: apsw.Connection) -> dict[str, tuple[str, ...]]:
    """The columns that this file really has, by table."""
    names = [name for (name,) in con.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {
        name: tuple(row[0] for row in con.execute("SELECT name FROM pragma_table_info(?)", (name,)))
        for name in names
    }


def _climb(con: apsw.Connection, after: int, to: int) -> None:
    for step in range(after + 1, to + 1):
        for statement in _STEPS.get(step, ()):
            if "session_uuid" in statement and "session_uuid" in columns(con)["tasks"]:
                continue
            con.execute(statement)
