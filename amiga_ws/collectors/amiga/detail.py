"""One task or session in full, read from the database when somebody asks.

The rows of its calls go through the same `Group` as the collector's, so that a call is counted once here as
there; this room only keeps what the counts need not: each call's start, end, parameters and error.
"""

from __future__ import annotations

import bisect
import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from amiga_ws.collectors.amiga import view
from amiga_ws.collectors.amiga.database import Database, DatabaseError, Row
from amiga_ws.collectors.amiga.groups import REPORT_WITHIN_S, TWIN_S, Group, Sign
from amiga_ws.collectors.amiga.model import Model
from amiga_ws.collectors.amiga.redact import one_line, redact, redact_json
from amiga_ws.collectors.amiga.tail import succeeded
from amiga_ws.collectors.amiga.tasks import TaskRecord
from amiga_ws.collectors.amiga.times import REPEATED_S
from amiga_ws.questions import Calls, LogEntry, SessionDetail, TaskDetail, ToolCall
from amiga_ws.snapshot import Session

WITHIN_S = 0.8  # of reading; who asks waits 2 s, and the next tick waits for us
REDACT_S = 0.4  # of redacting errors, and again of redacting parameters, the newest calls first
MAX_ROWS = 5_000  # of each table, the newest: a call leaves 1 to 4 and one
MAX_CALLS = 500
MAX_LOG = 100
MAX_LOG_CHARS = 1_000_000
MAX_MESSAGE = 2_000  # characters looked at of one entry, as of one call's error
MAX_TEXT = 4_000
MAX_PARAMETERS = 6_000  # characters read of one call's; AMIGA cuts each string in them at 500
MAX_RAW_PARAMETERS = 2_000  # shown where they are no JSON, as they are when cut
MAX_SESSIONS = 20

Parse = Callable[[object, float], float | None]  # Times.parse


def task_detail(
    model: Model, database: Database, record: TaskRecord, now: float, *, hide: bool
) -> TaskDetail:
    """Everything about one task as of `now`, an epoch. A database that cannot be read is told in `work.problem`."""
    keys = model.owners_of(record.task_id)
    task = view.task(model, record)
    detail = TaskDetail(
        task=task,
        description=record.description,
        sessions=[view.shown_id(key) for key in keys[1 : MAX_SESSIONS + 1]],
    )
    try:
        database.look()
        database.open(WITHIN_S)
        try:
            texts = _texts(database, record, model.tail.parse)
            work = _work(database, model, keys, now, hide=hide)
        finally:
            database.close()
    except DatabaseError as error:
        return msgspec.structs.replace(detail, work=_unread(error, task.tool_calls, hide=hide))
    if work.total <= MAX_CALLS:
        # Of an old task the model no longer has the rows.
        failed = sum(call.state == "failed" for call in work.calls)
        task = msgspec.structs.replace(task, tool_calls=work.total, tool_errors=failed)
    else:
        work = msgspec.structs.replace(work, total=max(work.total, task.tool_calls or 0))
    return msgspec.structs.replace(detail, **texts, task=task, work=work)


def session_detail(
    model: Model, database: Database, session: Session, key: str, now: float, *, hide: bool
) -> SessionDetail:
    """Everything about one session; `key` is its id as it stands in the database."""
    record, owner = model.task_of(key), model.calls.owners.get(key)
    tokens, cost = model.ledger.of_owners([key])
    try:
        database.look()
        database.open(WITHIN_S)
        try:
            work = _work(database, model, [key], now, hide=hide)
        finally:
            database.close()
    except DatabaseError as error:
        work = _unread(error, session.tools, hide=hide)
    return SessionDetail(
        session=session,
        task=None if record is None else view.task(model, record),
        began=None if owner is None else owner.first,
        tokens=tokens,
        cost=cost,
        work=work,
    )


def _unread(error: DatabaseError, total: int | None, *, hide: bool) -> Calls:
    problem = one_line(f"AMIGA's database {error}", 300)
    return Calls(total=total or 0, parameters_hidden=hide, problem=problem)


# -- the task's own texts ------------------------------------------------------------------------


def _texts(database: Database, record: TaskRecord, parse: Parse) -> dict[str, Any]:
    have = database.columns("tasks")
    wanted = [
        f"substr({name}, 1, {4 * MAX_TEXT})" if name in have else "NULL"
        for name in ("description", "error", "result")
    ]
    log = f"CASE WHEN length(activity_log) <= {MAX_LOG_CHARS} THEN activity_log END"
    rows = database.query(
        f"SELECT {', '.join(wanted)}, {log if 'activity_log' in have else 'NULL'}"  # noqa: S608 - constants
        " FROM tasks WHERE task_id = ?",
        (record.task_id,),
    )
    if not rows:
        return {}
    description, error, result, entries = rows[0]
    return {
        "description": _text(description) or "",
        "error": _text(error),
        "result": _text(result),
        "log": _log(entries, parse, record.created_at or float("-inf")),
    }


def _text(value: object) -> str | None:
    """Redacted before it is cut: half a credential would not be recognised."""
    shown = redact(str(value)) if value else ""
    return (shown if len(shown) <= MAX_TEXT else f"{shown[: MAX_TEXT - 1]}…") or None


def _log(text: object, parse: Parse, after: float) -> list[LogEntry]:
    try:
        entries = json.loads(text) if isinstance(text, str) else []
    except (ValueError, RecursionError):
        return []
    if not isinstance(entries, list):
        return []
    timed: list[tuple[float | None, Any]] = []
    for entry in entries:
        when = parse(entry.get("timestamp"), after) if isinstance(entry, dict) else None
        after = after if when is None else when
        timed.append((when, entry))
    return [
        LogEntry(timestamp=when, message=one_line(str(entry.get("message") or "")[:MAX_MESSAGE], 300))
        for when, entry in timed[-MAX_LOG:]
        if isinstance(entry, dict)
    ]


# -- calls ---------------------------------------------------------------------------------------


class _Lane:
    """The rows of one tool of one owner."""

    def __init__(self, tool: str, signs: list[Sign]) -> None:
        self.tool = one_line(tool, 80) or "unknown"
        self.rows = [sign for sign in signs if sign[2] is not None]
        self.times = [sign[0] for sign in self.rows]  # ascending
        self.group = Group()
        self.ended: list[tuple[float | None, float, bool]] = [  # start, end, ok
            (began, when, bool(success))
            for (when, _, row_id, success, _, _), began in self.group.take(signs)
            if row_id is None
        ]
        self.last = signs[-1][0]

    def row_of(self, started: float | None) -> int | None:
        """The id of a row that was written when a call started."""
        if started is None:
            return None
        at = bisect.bisect_left(self.times, started - 1e-6)
        return self.rows[at][2] if at < len(self.rows) and self.times[at] - started <= TWIN_S else None

    def failure(self, started: float | None, ended: float) -> tuple[str | None, str | None]:
        """(error, category) of a failed call as they stand in its row: a failed one at its start or at its end."""
        first = bisect.bisect_left(self.times, (ended if started is None else started) - TWIN_S)
        last = bisect.bisect_right(self.times, ended + REPORT_WITHIN_S)
        for _, _, _, success, error, category in reversed(self.rows[first:last]):
            if success is not None and not success and (error or category):
                return error, category
        return None, None


def _work(database: Database, model: Model, keys: Sequence[str], now: float, *, hide: bool) -> Calls:
    found: list[tuple[ToolCall, int | None]] = []
    for key in keys:
        owner = model.calls.owners.get(key)
        lanes = _lanes(database, key, model.tail.parse, None if owner is None else owner.first)
        # Not what the model knows to be open: the file may be a call ahead of it.
        last = max((lane.last for lane in lanes), default=now)
        open_state = "orphaned" if model.has_ended(key, last, now) else "running"
        for lane in lanes:
            found += _calls(lane, open_state)
    found.sort(key=lambda item: (item[0].started or item[0].ended or 0.0, item[0].ended or 0.0))
    newest = _with_errors(found[-MAX_CALLS:])
    calls = [call for call, _ in newest]
    if not hide:
        calls = _with_parameters(database, newest)
    return Calls(calls=calls, total=len(found), parameters_hidden=hide)


def _lanes(database: Database, key: str, parse: Parse, first: float | None) -> list[_Lane]:
    """The owner's rows, fed in the order of their times as `Tail` does; `first`: of its first row, if known."""
    ready: list[tuple[float, Row]] = []
    have = database.columns("tool_usage")
    if have:
        category = "error_category" if "error_category" in have else "NULL"
        sql = (
            f"SELECT id, timestamp, tool_name, success, substr(error, 1, {MAX_MESSAGE}), {category}"  # noqa: S608 - constants
            " FROM tool_usage WHERE task_id = ? ORDER BY id DESC LIMIT ?"
        )
        ready += _timed(database.query(sql, (key, MAX_ROWS)), parse, first)
    if database.columns("agent_status"):
        sql = (
            "SELECT id, timestamp, message, metadata FROM agent_status"
            " WHERE task_id = ? AND status = 'tool_call' ORDER BY id DESC LIMIT ?"
        )
        ready = _timed(database.query(sql, (key, MAX_ROWS)), parse, first) + ready
    ready.sort(key=lambda item: item[0])
    signs: defaultdict[str, list[Sign]] = defaultdict(list)
    for when, row in ready:
        if len(row) == 4:  # noqa: PLR2004 - the columns of agent_status above
            tool = str(row[2] or "unknown").removesuffix(" completed")
            signs[tool].append((when, (key, tool), None, succeeded(row[3]), None, None))
        else:
            row_id, _, name, *told = row
            signs[str(name)].append((when, (key, str(name)), row_id, *told))
    return [_Lane(tool, its) for tool, its in signs.items()]


def _timed(rows: list[Row], parse: Parse, first: float | None) -> list[tuple[float, Row]]:
    """The rows, which come newest first, in the order in which they were written, with their times.

    In an hour that a clock change repeats, the row before tells which one is meant, and of the oldest what the
    collector knew when it was new; of rows that were old when the collector began it knows nothing.
    """
    rows.reverse()
    after = float("-inf")
    if first is not None and rows and first - (parse(rows[0][1], after) or 0.0) < REPEATED_S + TWIN_S:
        after = first
    timed: list[tuple[float, Row]] = []
    for row in rows:
        when = parse(row[1], after)
        if when is not None:
            after = when
            timed.append((when, row))
    return timed


def _calls(lane: _Lane, open_state: Any) -> list[tuple[ToolCall, int | None]]:  # noqa: ANN401 - a word of ToolCall
    """The lane's calls, each with the id of a row that has its parameters."""
    ended, group = lane.ended, lane.group
    if group.ended == 0 and group.done:  # no status row at all: paired by time, as the collector does
        ended = [(None, one.time, one.ok) for one in group.estimate(group.clusters())[0]]
    found: list[tuple[ToolCall, int | None]] = []
    for started, end, ok in ended:
        error, category = (None, None) if ok else lane.failure(started, end)
        call = ToolCall(
            tool=lane.tool,
            state="ok" if ok else "failed",
            started=None if started is None else min(started, end),
            ended=end,
            error=error,
            error_category=category,
        )
        found.append((call, lane.row_of(end if started is None else started)))
    found.extend(
        (ToolCall(tool=lane.tool, state=open_state, started=start), lane.row_of(start))
        for start in group.open_starts()
    )
    return found


def _with_errors(found: Sequence[tuple[ToolCall, int | None]]) -> list[tuple[ToolCall, int | None]]:
    """The calls with their errors as they may be shown, as far as redacting them takes no longer than it may."""
    until = time.monotonic() + REDACT_S
    shown: list[tuple[ToolCall, int | None]] = []
    for call, row_id in reversed(found):
        error, category = call.error, call.error_category
        if error or category:
            in_time = time.monotonic() < until
            shown_call = msgspec.structs.replace(
                call,
                error=(one_line(error, 500) if in_time else "…") or None,
                error_category=(one_line(category, 60) if in_time else "") or None,
            )
            shown.append((shown_call, row_id))
        else:
            shown.append((call, row_id))
    shown.reverse()
    return shown


def _with_parameters(database: Database, found: Sequence[tuple[ToolCall, int | None]]) -> list[ToolCall]:
    """The calls with what they were called with, as far as redacting it takes no longer than it may."""
    ids = ",".join(str(int(row_id)) for _, row_id in found if row_id is not None)
    rows = database.query(
        f"SELECT id, substr(parameters, 1, {MAX_PARAMETERS + 1}) FROM tool_usage"  # noqa: S608 - numbers
        f" WHERE id IN ({ids})"
    )
    texts: dict[int | None, object] = dict(rows)
    until = time.monotonic() + REDACT_S
    calls: list[ToolCall] = []
    for call, row_id in reversed(found):
        text = texts.get(row_id)
        if isinstance(text, str) and time.monotonic() < until:
            calls.append(msgspec.structs.replace(call, parameters=_parameters(text)))
        else:
            calls.append(call)
    calls.reverse()
    return calls


def _parameters(text: str) -> Any:  # noqa: ANN401 - any JSON value
    value = redact_json(text[:MAX_PARAMETERS])
    return (
        f"{value[:MAX_RAW_PARAMETERS]}…"
        if isinstance(value, str) and len(value) > MAX_RAW_PARAMETERS
        else value
    )
