"""Everything read at once and counted with plain loops, whenever the database has changed.

Right, but its cost grows with AMIGA's history.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import dataclass, field

from amiga_ws.collectors.amiga.database import Database
from amiga_ws.collectors.amiga.redact import one_line
from amiga_ws.collectors.amiga.times import Times

TERMINAL = frozenset({"completed", "failed", "stopped"})
TWIN_S = 0.5  # the hook's row and the row of its POST lie about 0.1 s apart


@dataclass
class TaskRow:
    task_id: str
    status: str
    description: str
    agent_type: str | None
    phase: str | None
    model: str | None
    created_at: float | None
    updated_at: float | None
    ended_at: float | None
    error: str | None
    pid: int | None


@dataclass
class Call:
    """One tool call; `ended` is None while it is open, `ok` None while unknown."""

    owner: str
    tool: str
    started: float | None
    ended: float | None
    ok: bool | None


@dataclass
class Reading:
    tasks: list[TaskRow] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    rows: list[tuple[str, float]] = field(default_factory=list)  # (task_id, time) of each tool_usage row
    newest: float | None = None


def read(database: Database, times: Times) -> Reading:
    reading = Reading()
    ends = _read_status(database, times, reading)
    _read_tasks(database, times, reading, ends)
    return reading


def _read_tasks(
    database: Database, times: Times, reading: Reading, ends: dict[str, list[tuple[float, str]]]
) -> None:
    have = database.columns("tasks")
    wanted: tuple[str, ...] = (
        "task_id",
        "status",
        "description",
        "agent_type",
        "current_phase",
        "model",
        "created_at",
    )
    wanted += ("updated_at", "error", "pid")
    columns = ", ".join(name if name in have else f"NULL AS {name}" for name in wanted)
    for row in database.query(f"SELECT {columns} FROM tasks"):  # noqa: S608 - names from the tuple above
        task_id, status, text, agent, phase, model, created, updated, error, pid = row
        status = one_line(status, 40).lower()
        marks = ends.get(str(task_id), [])
        updated_at = times.parse(updated)
        ended = None
        if status in TERMINAL:
            ended = max((t for t, name in marks if name == status), default=updated_at)
        if status == "failed" and any(name == "stopped" for _, name in marks):
            status = "stopped"  # AMIGA overwrites a stop with "no output" a moment later
        reading.tasks.append(
            TaskRow(
                task_id=one_line(task_id, 40),
                status=status,
                description=one_line(text),
                agent_type=one_line(agent, 60) or None,
                phase=one_line(phase, 60) or None,
                model=one_line(model, 60) or None,
                created_at=times.parse(created),
                updated_at=updated_at,
                ended_at=ended,
                error=error if isinstance(error, str) else None,
                pid=pid if isinstance(pid, int) else None,
            )
        )


def _read_status(database: Database, times: Times, reading: Reading) -> dict[str, list[tuple[float, str]]]:
    ends: dict[str, list[tuple[float, str]]] = defaultdict(list)
    ended: dict[tuple[str, str], list[tuple[float, bool]]] = defaultdict(list)
    if database.columns("agent_status"):
        rows = database.query("SELECT timestamp, task_id, status, message, metadata FROM agent_status")
        for stamp, task_id, status, message, metadata in rows:
            when = times.parse(stamp)
            if when is None:
                continue
            if status == "tool_call":
                tool = str(message or "").removesuffix(" completed")
                ended[str(task_id), tool].append((when, _succeeded(metadata)))
            elif status in TERMINAL:
                ends[str(task_id)].append((when, status))
    _pair(database, times, reading, ended)
    return ends


def _pair(
    database: Database, times: Times, reading: Reading, ended: dict[tuple[str, str], list[tuple[float, bool]]]
) -> None:
    finished: dict[tuple[str, str], int] = defaultdict(int)
    open_rows: dict[tuple[str, str], list[float]] = defaultdict(list)
    if database.columns("tool_usage"):
        rows = database.query("SELECT timestamp, task_id, tool_name, success FROM tool_usage")
        for stamp, task_id, tool, success in rows:
            when = times.parse(stamp)
            if when is None:
                continue
            key = (str(task_id), str(tool))
            reading.rows.append((key[0], when))
            if success is None:
                open_rows[key].append(when)
            else:
                finished[key] += 1
                if key not in ended:
                    reading.calls.append(Call(*key, started=when, ended=when, ok=bool(success)))
    reading.newest = max((when for _, when in reading.rows), default=None)
    for key, ends in ended.items():
        reading.calls.extend(Call(*key, started=None, ended=when, ok=ok) for when, ok in ends)
    for key, stamps in open_rows.items():
        starts: list[float] = []
        last = -math.inf
        for when in sorted(stamps):
            if when - last > TWIN_S:
                starts.append(when)
                last = when
        # Rows that a finished one stands for too; see the count of calls in the documentation.
        surplus = max(0, finished[key] - len(ended[key])) if key in ended else 0
        if count := max(0, len(starts) - surplus):
            reading.calls.extend(Call(*key, started=when, ended=None, ok=None) for when in starts[-count:])


def _succeeded(metadata: object) -> bool:
    try:
        value = json.loads(metadata) if isinstance(metadata, str) else None
    except ValueError:
        return True
    return not isinstance(value, dict) or bool(value.get("success", True))
