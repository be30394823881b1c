"""AmigaCollector: one reading of an AMIGA installation, from its files and its processes."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

from amiga_ws.collectors.amiga import plain
from amiga_ws.collectors.amiga.database import Database, DatabaseError, DatabaseMissingError
from amiga_ws.collectors.amiga.errors import task_error_class
from amiga_ws.collectors.amiga.listing import page_of
from amiga_ws.collectors.amiga.options import AmigaConfig
from amiga_ws.collectors.amiga.processes import Processes
from amiga_ws.collectors.amiga.redact import one_line
from amiga_ws.collectors.amiga.times import Times, zone_named
from amiga_ws.snapshot import (
    Activity,
    AmigaFacts,
    AmigaWindow,
    CurrentTool,
    ErrorClass,
    Session,
    Sessions,
    Source,
    Task,
    TaskPage,
    TaskQuery,
    TaskTotals,
    TaskWindow,
    Tools,
)

logger = logging.getLogger(__name__)

MAX_TASKS = 50
MAX_ACTIVITY = 20
MAX_SESSIONS = 20
ACTIVE = frozenset({"pending", "running"})
ACTIVE_SESSION_S = 300.0
KNOWN = ("pending", "running", "completed", "failed", "stopped")


class AmigaCollector:
    """Reads AMIGA's database, hook logs and processes; writes nothing near them."""

    name = "amiga"
    source_names: tuple[str, ...] = ("amiga", "hooks", "transcripts")

    def __init__(self, config: AmigaConfig, clock: Callable[[], float] = time.time) -> None:
        self._config = config
        self._clock = clock
        self._times = Times(zone_named(config.timezone))
        self._database = Database(config.database, config.private_dir, clock)
        self._processes = Processes()
        self._reading: plain.Reading | None = None
        self._source = Source()

    def collect(self, windows: frozenset[int]) -> AmigaFacts:
        """Read what is new. See the Collector protocol."""
        now = self._clock()
        self._update(now)
        sources = {"amiga": self._source, "hooks": self._hooks(now), "transcripts": self._transcripts()}
        server = self._processes.server()
        reading = self._reading
        if reading is None:
            return AmigaFacts(sources=sources, amiga_process=server)
        running = [(t.task_id, t.pid, t.updated_at) for t in reading.tasks if t.status == "running" and t.pid]
        return AmigaFacts(
            sources=sources,
            totals=_totals(reading.tasks),
            tasks=_tasks(reading),
            activity=_activity(reading),
            amiga_process=server,
            task_processes=self._processes.tasks(running),
            windows={hours: _window(reading, now, hours) for hours in windows},
        )

    def find_tasks(self, query: TaskQuery) -> TaskPage:
        """All tasks, filtered, sorted and paged. See the TaskCollector protocol."""
        return page_of([] if self._reading is None else _tasks(self._reading, None), query)

    def close(self) -> None:
        """Release the database."""
        self._database.close()

    def _update(self, now: float) -> None:
        path = str(self._config.database)
        try:
            if not self._database.changed() and self._reading is not None:
                self._source = Source(state="ok", as_of=now, path=path)
                return
            self._database.open()
            try:
                self._reading = plain.read(self._database, self._times)
            finally:
                self._database.close()
            self._source = Source(state="ok", as_of=now, path=path)
        except DatabaseMissingError:
            self._database.forget()
            self._reading = None
            self._source = Source(
                state="missing",
                path=path,
                error="no AMIGA database at this path",
                hint=(
                    f"looked at {path}; set `amiga.root: /path/to/amiga` in config.yaml "
                    "(or --set amiga.root=/path/to/amiga), or try `scripts/run --demo`"
                ),
            )
        except DatabaseError as error:
            self._database.forget()
            self._source = Source(
                state="error",
                as_of=self._source.as_of,
                path=path,
                error=one_line(f"AMIGA's database {error}", 300),
                hint="it must be readable for the user that runs this server, and be an SQLite database",
            )

    def _hooks(self, now: float) -> Source:
        path = self._config.sessions
        if not path.is_dir():
            return Source(
                state="missing",
                path=str(path),
                hint="no hook has written here yet; AMIGA's hooks log below the directory they run in",
            )
        return Source(state="ok", as_of=now, path=str(path))

    def _transcripts(self) -> Source:
        path = self._config.transcripts
        if path is None:
            return Source(
                state="missing",
                hint="set `amiga.transcripts` to Claude Code's projects directory to count all tokens",
            )
        return Source(state="missing", path=str(path))


def _rate(completed: int, failed: int) -> float | None:
    return round(100 * completed / (completed + failed), 1) if completed + failed else None


def _totals(tasks: list[plain.TaskRow]) -> TaskTotals:
    counts = Counter(task.status for task in tasks)
    known = {name: counts[name] for name in KNOWN}
    return TaskTotals(
        total=len(tasks),
        **known,
        other=len(tasks) - sum(known.values()),
        success_rate=_rate(counts["completed"], counts["failed"]),
    )


def _tasks(reading: plain.Reading, most: int | None = MAX_TASKS) -> list[Task]:
    shown = sorted(reading.tasks, key=lambda t: (t.status not in ACTIVE, -(t.created_at or 0), t.task_id))
    shown = shown[:most]
    wanted = {task.task_id for task in shown}
    calls: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    current: dict[str, CurrentTool] = {}
    for call in reading.calls:
        if call.owner in wanted:
            calls[call.owner] += 1
            failures[call.owner] += call.ok is False
            if call.ended is None and call.started is not None:
                known = current.get(call.owner)
                if known is None or call.started > known.since:
                    current[call.owner] = CurrentTool(name=one_line(call.tool, 80), since=call.started)
    return [
        Task(
            task_id=task.task_id,
            status=task.status,
            description=task.description,
            agent_type=task.agent_type,
            phase=task.phase,
            model=task.model,
            created_at=task.created_at,
            updated_at=task.updated_at,
            ended_at=task.ended_at,
            current_tool=current.get(task.task_id) if task.status == "running" else None,
            tool_calls=calls[task.task_id],
            tool_errors=failures[task.task_id],
            error_class=task_error_class(task.error),
        )
        for task in shown
    ]


def _activity(reading: plain.Reading) -> list[Activity]:
    items = [
        Activity(
            timestamp=call.ended,
            kind="tool",
            description=one_line(f"{call.tool} {'completed' if call.ok else 'failed'}", 120),
            task_id=one_line(call.owner, 40),
            status="ok" if call.ok else "failed",
        )
        for call in sorted((c for c in reading.calls if c.ended is not None), key=lambda c: -(c.ended or 0))[
            :MAX_ACTIVITY
        ]
        if call.ended is not None
    ]
    for task in reading.tasks:
        when = task.ended_at or task.created_at
        if when is not None:
            items.append(
                Activity(
                    timestamp=when,
                    kind="task",
                    description=one_line(f"{task.status}: {task.description}", 120),
                    task_id=task.task_id,
                    status=task.status,
                )
            )
    return sorted(items, key=lambda a: -a.timestamp)[:MAX_ACTIVITY]


def _window(reading: plain.Reading, now: float, hours: int) -> AmigaWindow:
    start = (now - hours * 3600) // 60 * 60
    tasks = Counter(t.status for t in reading.tasks if t.ended_at is not None and t.ended_at >= start)
    ended_ids = {t.task_id for t in reading.tasks if t.status not in ACTIVE}
    calls = [c for c in reading.calls if (c.ended or c.started or 0) >= start]
    open_calls = [c for c in calls if c.ended is None]
    orphaned = sum(c.owner in ended_ids for c in open_calls)
    by_type = Counter(one_line(c.tool, 80) for c in calls)
    failed = Counter(one_line(c.tool, 80) for c in calls if c.ok is False)
    errors: dict[str, list[float]] = {}
    for task in reading.tasks:
        name = task_error_class(task.error) if task.status == "failed" else None
        if name and task.ended_at is not None and task.ended_at >= start:
            errors.setdefault(name, []).append(task.ended_at)
    return AmigaWindow(
        tasks=TaskWindow(
            created=sum(t.created_at is not None and t.created_at >= start for t in reading.tasks),
            completed=tasks["completed"],
            failed=tasks["failed"],
            stopped=tasks["stopped"],
            success_rate=_rate(tasks["completed"], tasks["failed"]),
        ),
        tools=Tools(
            total_calls=len(calls),
            raw_rows=sum(when >= start for _, when in reading.rows),
            running=len(open_calls) - orphaned,
            failed=sum(failed.values()),
            orphaned=orphaned,
            by_type=dict(by_type.most_common()),
            errors=dict(failed.most_common()),
        ),
        sessions=_sessions(reading, calls, start, now),
        errors=[
            ErrorClass(error_class=name, count=len(at), first=min(at), last=max(at))
            for name, at in sorted(errors.items(), key=lambda item: -len(item[1]))
        ],
    )


def _sessions(reading: plain.Reading, calls: list[plain.Call], start: float, now: float) -> Sessions:
    last: dict[str, float] = {}
    for owner, when in reading.rows:
        if when >= start:
            last[owner] = max(last.get(owner, 0.0), when)
    counts = Counter(c.owner for c in calls)
    failures = Counter(c.owner for c in calls if c.ok is False)
    task_ids = {task.task_id for task in reading.tasks}
    newest = sorted(last, key=lambda owner: -last[owner])[:MAX_SESSIONS]
    rows = [
        Session(
            session_id=one_line(owner, 60),
            task_id=owner if owner in task_ids else None,
            kind="task" if owner in task_ids else "cli",
            last_activity=last[owner],
            tools=counts[owner],
            errors=failures[owner],
        )
        for owner in newest
    ]
    by_type = Counter(one_line(c.tool, 80) for c in calls)
    return Sessions(
        total_sessions=len(last),
        total_tools=len(calls),
        tools_by_type=dict(by_type.most_common()),
        active=[row for row in rows if now - (row.last_activity or 0) <= ACTIVE_SESSION_S],
        recent=rows,
    )
