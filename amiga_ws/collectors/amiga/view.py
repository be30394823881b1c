"""The facts as the snapshot shows them, worked out from the model."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from typing import Literal

import msgspec

from amiga_ws.collectors.amiga.calls import UNRECORDED, CallWindow, Owner
from amiga_ws.collectors.amiga.hooks import HookSession
from amiga_ws.collectors.amiga.model import IDLE_S, Model
from amiga_ws.collectors.amiga.redact import one_line
from amiga_ws.collectors.amiga.tasks import TaskRecord
from amiga_ws.collectors.amiga.times import shown_time
from amiga_ws.collectors.amiga.windows import MINUTE_S, percentiles, window_start
from amiga_ws.snapshot import (
    Activity,
    AmigaWindow,
    CurrentTool,
    Durations,
    ErrorClass,
    Session,
    Sessions,
    Task,
    TaskTotals,
    TaskWindow,
    Tools,
)

MAX_TASKS = 50
MAX_ACTIVITY = 20
MAX_SESSIONS = 20
MAX_TYPES = 60  # tools by name; MCP servers bring dozens
ACTIVE_S = 300.0
MOVES_S = 10.0  # how finely a snapshot tells when a session that goes on has moved last
KNOWN = ("pending", "running", "completed", "failed", "stopped")
_SHARES = (0.5, 0.95)


@functools.lru_cache(maxsize=4096)  # the same few dozen ids are shown at each change
def shown_id(key: str) -> str:
    """A task's or session's id, which is foreign text too."""
    return one_line(key, 60)


@functools.lru_cache(maxsize=1024)
def shown_tool(name: str) -> str:
    """A tool's name as a status row has it: AMIGA's or that of an MCP server, so foreign text."""
    return one_line(name, 120)


def rate(completed: int, failed: int) -> float | None:
    """100 x completed / (completed + failed), None if there are none."""
    return round(100 * completed / (completed + failed), 1) if completed + failed else None


def totals(model: Model) -> TaskTotals:
    """All tasks by status."""
    counts = model.tasks.counts
    total = len(model.tasks.by_id)
    known = {name: counts[name] for name in KNOWN}
    return TaskTotals(
        total=total,
        other=total - sum(known.values()),
        success_rate=rate(counts["completed"], counts["failed"]),
        **known,
    )


def tasks(model: Model) -> list[Task]:
    """The tasks to show."""
    model.drop_moved()
    before = model.shown_tasks
    model.shown_tasks = shown = {}
    for record in itertools.islice(model.tasks.in_order(), MAX_TASKS):
        known = before.get(record.task_id)
        if known is None or known[0] is not record:
            known = (record, task(model, record))
        shown[record.task_id] = known
    return [one for _, one in shown.values()]


def task(model: Model, record: TaskRecord) -> Task:
    """One task with what its sessions did."""
    keys = model.owners_of(record.task_id)
    owners = [model.calls.owners[key] for key in keys if key in model.calls.owners]
    calls: int | None = sum(owner.calls + len(owner.open) for owner in owners)
    errors: int | None = sum(owner.errors for owner in owners)
    if not owners and (record.created_at or 0.0) < model.begins:
        calls, errors = model.old_calls.get(record.task_id, (None, None))
    tokens, cost = model.ledger.of_owners(keys)
    tool = _current_tool(model, owners) if record.status == "running" else None
    return Task(
        task_id=shown_id(record.task_id),
        status=record.status,
        description=record.description,
        agent_type=record.agent_type,
        phase=record.phase,
        model=record.model,
        created_at=shown_time(record.created_at),
        updated_at=shown_time(record.updated_at),
        ended_at=shown_time(record.ended_at),
        current_tool=tool,
        tool_calls=calls,
        tool_errors=errors,
        error_class=record.error_class,
        tokens=tokens,
        cost=cost,
    )


@functools.lru_cache(maxsize=256)
def _task_text(status: str, description: str) -> str:
    """What the list says of a task that began or ended."""
    return one_line(f"{status}: {description}", 160)


def _current_tool(model: Model, owners: Iterable[Owner]) -> CurrentTool | None:
    newest = max((one for owner in owners for one in owner.open), default=None)
    if newest is None:
        return None
    return CurrentTool(name=model.calls.tools[newest[1]], since=shown_time(newest[0]))


def activity(model: Model) -> list[Activity]:
    """The newest events of all kinds."""
    items: list[Activity] = []
    for when, _, subject, what, tool in model.events.newest()[:MAX_ACTIVITY]:
        if tool:
            record = model.task_of(subject)
            items.append(
                Activity(
                    timestamp=shown_time(when),
                    kind="tool",
                    description=shown_tool(tool),
                    task_id=shown_id(record.task_id if record else subject),
                    status=what,
                )
            )
        elif (record := model.tasks.by_id.get(subject)) is not None:
            status = record.status if what == "ended" else "created"
            items.append(
                Activity(
                    timestamp=shown_time(when),
                    kind="task",
                    description=_task_text(status, record.description),
                    task_id=shown_id(record.task_id),
                    status=status,
                )
            )
    for owner in model.calls.newest_owners()[:MAX_SESSIONS]:
        if model.task_of(owner.key) is None:
            text = f"CLI session {owner.key[:8]} began"
            items.append(
                Activity(timestamp=shown_time(owner.first), kind="session", description=one_line(text, 80))
            )
    items.sort(key=lambda item: (-item.timestamp, item.kind, item.description))
    return items[:MAX_ACTIVITY]


def window(model: Model, now: float, hours: int) -> AmigaWindow:
    """Everything that depends on the window."""
    minute = window_start(now, hours)
    since = minute * MINUTE_S
    ended = model.tasks.window(minute)
    calls = model.calls.window(minute)
    running = model.calls.running()
    costs, api = model.ledger.window(minute, now)
    by_type: dict[str, int] = {}
    for part in (calls.ok, calls.failed, calls.orphaned, running):
        for name, count in part.items():
            by_type[name] = by_type.get(name, 0) + count
    total = sum(by_type.values())
    shown_types, shown_failed = _largest(by_type), _largest(calls.failed)
    failures = sorted(model.tasks.failures(since).items(), key=lambda item: (-item[1][0], item[0]))
    return AmigaWindow(
        tasks=TaskWindow(**ended, success_rate=rate(ended["completed"], ended["failed"])),
        costs=costs,
        claude_api=api,
        tools=Tools(
            total_calls=total,
            raw_rows=calls.raw_rows,
            running=sum(running.values()),
            failed=sum(calls.failed.values()),
            orphaned=sum(calls.orphaned.values()),
            suspect=sum(calls.suspects.values()),
            estimated=calls.estimated,
            by_type=shown_types,
            errors=shown_failed,
            error_rates=_error_rates(calls, shown_failed),
            error_categories=_categories(calls, shown_failed),
            suspects=_largest(calls.suspects),
            durations=_durations(calls),
        ),
        sessions=_sessions(model, now, since, calls.owners, total, shown_types),
        errors=[
            ErrorClass(error_class=name, count=count, first=shown_time(first), last=shown_time(last))
            for name, (count, first, last) in failures
        ],
    )


def _error_rates(calls: CallWindow, failed: dict[str, int]) -> dict[str, float]:
    """Failed ones among a tool's ended calls, percent."""
    return {tool: round(100 * count / (count + calls.ok.get(tool, 0)), 1) for tool, count in failed.items()}


def _categories(calls: CallWindow, failed: dict[str, int]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for tool, count in failed.items():
        known = {name: of_it for name, of_it in calls.categories.get(tool, {}).items() if of_it}
        missing = count - sum(known.values())
        if missing > 0:
            known[UNRECORDED] = missing
        found[tool] = dict(sorted(known.items(), key=lambda item: (-item[1], item[0])))
    return found


def _durations(calls: CallWindow) -> dict[str, Durations]:
    found: dict[str, Durations] = {}
    for tool in sorted(calls.durations)[:MAX_TYPES]:
        p50, p95 = percentiles(calls.durations[tool], _SHARES)
        if p50 is not None:
            found[tool] = Durations(p50_ms=p50, p95_ms=p95)
    return found


def _largest(counts: dict[str, int]) -> dict[str, int]:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {name: count for name, count in ranked[:MAX_TYPES] if count}


def _sessions(
    model: Model, now: float, since: float, total: int, calls: int, by_type: dict[str, int]
) -> Sessions:
    rows = [session(model, owner, now) for owner in model.calls.newest_owners()[:MAX_SESSIONS]]
    unrecorded = hook_only(model, since)
    rows += [hook_session(model, log, last, now) for log, last in unrecorded[:MAX_SESSIONS]]
    rows = [row for row in rows if (row.last_activity or 0.0) >= since]
    rows.sort(key=lambda row: (-(row.last_activity or 0.0), row.session_id))
    live = [_calm(row) for row in rows if row.state != "ended"][:MAX_SESSIONS]
    live.sort(key=lambda row: row.session_id)
    return Sessions(
        total_sessions=total + len(unrecorded),
        total_tools=calls,
        tools_by_type=by_type,
        active=live,
        recent=[row for row in rows if row.state == "ended"][:MAX_SESSIONS],
    )


def _calm(row: Session) -> Session:
    """A session that goes on moves with each call: in whole steps, and without changing places at each."""
    last = row.last_activity
    return row if last is None else msgspec.structs.replace(row, last_activity=last // MOVES_S * MOVES_S)


def session(model: Model, owner: Owner, now: float) -> Session:
    """A task or session whose calls are in the database."""
    record = model.task_of(owner.key)
    return Session(
        session_id=shown_id(owner.key),
        task_id=None if record is None else shown_id(record.task_id),
        kind="cli" if record is None else "task",
        state=_state(record, owner.last, now),
        last_activity=shown_time(owner.last),
        tools=owner.calls + len(owner.open),
        errors=owner.errors,
    )


def hook_only(model: Model, since: float) -> list[tuple[HookSession, float]]:
    """Sessions that the hook logs know and the database does not, with when each moved last, if that is not before
    `since`; the newest first."""
    found = [(log, log.last) for log in model.unrecorded() if log.last is not None and log.last >= since]
    found.sort(key=lambda item: (-item[1], item[0].session_id))
    return found


def hook_session(model: Model, log: HookSession, last: float, now: float) -> Session:
    """A session as its hook log tells of it."""
    record = model.task_of(log.session_id)
    return Session(
        session_id=shown_id(log.session_id),
        task_id=None if record is None else shown_id(record.task_id),
        kind="cli" if record is None else "task",
        state=_state(record, last, now),
        last_activity=shown_time(last),
        tools=log.lines if log.counted else None,
    )


def _state(record: TaskRecord | None, last: float, now: float) -> Literal["active", "idle", "ended"]:
    if record is not None and record.status != "running":
        return "ended"
    if now - last <= ACTIVE_S:
        return "active"
    return "idle" if record is not None or now - last <= IDLE_S else "ended"
