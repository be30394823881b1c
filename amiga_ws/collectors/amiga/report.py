"""What an owner runs when a number looks odd: everything of one installation, with what it means.

Reads like the collector (nothing is written or left behind) but looks at all rows, so it takes seconds on
a large one.
"""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from amiga_ws.collectors.amiga.attention import SILENT_HOOKS, Surroundings, attention, of_rows
from amiga_ws.collectors.amiga.database import Database, DatabaseError, Row
from amiga_ws.collectors.amiga.hooks import HookLogs
from amiga_ws.collectors.amiga.installed import hooks_installed
from amiga_ws.collectors.amiga.model import Model
from amiga_ws.collectors.amiga.options import AmigaConfig
from amiga_ws.collectors.amiga.processes import Processes
from amiga_ws.collectors.amiga.redact import one_line
from amiga_ws.collectors.amiga.times import Times, zone_named
from amiga_ws.collectors.amiga.view import window

Level = Literal["ok", "note", "warn", "bad"]
NEWEST_SCHEMA = 14
WEEK_H = 168
MAX_POLLS = 10_000  # of transcripts, 6 MiB each: those that are written to meanwhile have no end
TASK_ID = re.compile(r"[0-9a-f]{6}")  # a session has a uuid
TABLES = ("tasks", "tool_usage", "agent_status", "messages")
_SIGNS: dict[str, str] = {"ok": "ok  ", "note": "    ", "warn": "WARN", "bad": "BAD "}


@dataclass(frozen=True)
class Finding:
    """One line of the report. `meaning` says what follows from it, empty where nothing does."""

    area: str
    level: Level
    text: str
    meaning: str = ""


def report(config: AmigaConfig, clock: Callable[[], float] = time.time) -> list[Finding]:
    """All findings about one installation. Raises zoneinfo.ZoneInfoNotFoundError."""
    times = Times(zone_named(config.timezone))
    database = Database(config.database, config.private_dir)
    hooks = HookLogs(config.sessions, times)
    now = clock()
    try:
        database.changed()
        database.open()
    except DatabaseError as error:
        text = one_line(f"{config.database}: {error}", 300)
        return [Finding("database", "bad", text, f"without it there are no tasks and no calls; {error.hint}")]
    try:
        findings = list(_files(config, database, now))
        findings += _tables(database, times, now)
        while hooks.state == "loading":
            hooks.poll(now)
        model = Model(config, times, hooks)
        while not model.loaded:
            model.read(database, now)
        processes = Processes(config.root)
        server = processes.server()
        model.set_dead_tasks(one.task_id for one in processes.tasks(model.processes()) if not one.alive)
        for _ in range(MAX_POLLS):
            model.poll_files(now)
            if model.transcripts is None or model.transcripts.complete:
                break
        model.settle(now)
        findings += _calls(model, now)
        findings += _links(database, model)
        findings += _hooks(config, hooks, now)
        findings += _costs(model, now)
        around = Surroundings(config.root, config.database)
        around.look(now)
        # One look cannot wait for what must hold for a while.
        noticed = {SILENT_HOOKS: float("-inf")}
        told = of_rows(model, now, server, noticed)
        for item in attention(told, now, processes, server, around, None, noticed):
            level: Level = "bad" if item.severity == "crit" else "warn"
            findings.append(Finding("attention", level, f"{item.kind}: {item.subject}", item.evidence))
    except DatabaseError as error:
        findings.append(
            Finding("database", "bad", one_line(error, 300), f"the report ends here; {error.hint}")
        )
    finally:
        database.close()
    return findings


def lines(findings: list[Finding]) -> Iterator[str]:
    """The report for a terminal."""
    area = ""
    for finding in findings:
        if finding.area != area:
            area = finding.area
            yield f"\n{area}"
        yield f"  {_SIGNS[finding.level]} {finding.text}"
        if finding.meaning:
            yield f"         {finding.meaning}"


# -- the parts -------------------------------------------------------------------------------------


def _age(seconds: float) -> str:
    where = "ago" if seconds >= 0 else "in the future"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if abs(seconds) >= 2 * size:
            return f"{abs(seconds) / size:.0f} {unit} {where}"
    return f"{abs(seconds):.0f} s {where}"


def _zone(times: Times, now: float) -> str:
    """Its name where one is set, else what this machine's is now."""
    here = dt.datetime.fromtimestamp(now, times.zone).astimezone(times.zone)
    return f"this machine's: {here:%Z, UTC%z}" if times.zone is None else f"{times.zone}: UTC{here:%z}"


def _files(config: AmigaConfig, database: Database, now: float) -> Iterator[Finding]:
    found = config.database.stat()
    wal = config.database.with_name(config.database.name + "-wal")
    wal_size = wal.stat().st_size if wal.exists() else 0
    written = max(found.st_mtime, wal.stat().st_mtime if wal.exists() else 0)
    size = (found.st_size + wal_size) / 1e6
    yield Finding(
        "database",
        "ok",
        f"{config.database}: {size:.1f} MB, {wal_size / 1e6:.1f} MB of them in -wal; written {_age(now - written)}",
    )
    ways = {
        "immutable": ("ok", "no writer has it open", ""),
        "ro": ("ok", "a writer has it open, or was killed", ""),
        "copy": (
            "warn",
            "there is a -wal without -shm: read from a private copy, at most every 30 s",
            "starting AMIGA mends it",
        ),
    }
    level, text, meaning = ways[database.how]
    yield Finding("database", level, text, meaning)  # type: ignore[arg-type]  # one of the three levels above


def _tables(database: Database, times: Times, now: float) -> Iterator[Finding]:
    version = None
    if database.columns("schema_version"):
        version = database.query("SELECT max(version) FROM schema_version")[0][0]
    level: Level = "ok" if version == NEWEST_SCHEMA else "note"
    meaning = "" if version == NEWEST_SCHEMA else "columns that this file lacks are shown as unknown"
    yield Finding("schema", level, f"version {version} (newest known: {NEWEST_SCHEMA})", meaning)
    yield Finding(
        "rows",
        "note",
        f"times are read as {_zone(times, now)}",
        "AMIGA writes what the clock of its host shows; amiga.timezone names that host's zone",
    )
    for table in TABLES:
        if not database.columns(table):
            lost = {"agent_status": "calls are paired by time", "messages": "chats cost nothing known"}
            yield Finding("rows", "warn", f"{table}: no such table", lost.get(table, "nothing to show of it"))
            continue
        column = "updated_at" if table == "tasks" else "timestamp"
        yield from _times_of(database, times, table, column, now)
    if database.columns("tasks"):
        counts = database.query("SELECT status, count(*) FROM tasks GROUP BY status ORDER BY 2 DESC")
        told = ", ".join(f"{one_line(status, 30)} {count}" for status, count in counts[:12])
        yield Finding("rows", "note", f"tasks by status: {told or 'none'}")


def _times_of(database: Database, times: Times, table: str, column: str, now: float) -> Iterator[Finding]:
    count, utc, bad, newest = 0, 0, 0, None
    after = -1
    while rows := database.query(
        f"SELECT rowid, {column} FROM {table} WHERE rowid > ? ORDER BY rowid LIMIT 20000",  # noqa: S608 - TABLES
        (after,),
    ):
        after = rows[-1][0]
        count += len(rows)
        for _, stamp in rows:
            when = times.parse(stamp)
            if when is None:
                bad += 1
            else:
                newest = when if newest is None else max(newest, when)
                utc += isinstance(stamp, str) and stamp.endswith("Z")
    told = f"{table}: {count} rows" + (f", newest {_age(now - newest)}" if newest is not None else "")
    yield Finding("rows", "ok", told)
    if utc:
        yield Finding(
            "rows", "note", f"{table}: {utc} times end in Z", "older AMIGA wrote UTC; they are read as UTC"
        )
    if bad:
        yield Finding("rows", "warn", f"{table}: {bad} times cannot be read", "these rows are in no number")
    if newest is not None and newest - now > 300:  # noqa: PLR2004 - five minutes
        yield Finding(
            "rows",
            "bad",
            f"{table}: the newest row lies {(newest - now) / 3600:.1f} h in the future",
            "set amiga.timezone to the zone of AMIGA's host, or mend one of the clocks",
        )


def _calls(model: Model, now: float) -> Iterator[Finding]:
    tools = window(model, now, WEEK_H).tools
    calls, rows = tools.total_calls or 0, tools.raw_rows or 0
    share = f", {rows / calls:.1f} rows a call" if calls else ""
    meaning = ""
    if calls and rows / calls > 1.5:  # noqa: PLR2004 - between one row and three
        meaning = "AMIGA's server and hooks each write rows for a call; AMIGA's own page counts them all"
    yield Finding("calls, 7 days", "ok", f"{calls} calls in {rows} tool_usage rows{share}", meaning)
    yield Finding(
        "calls, 7 days",
        "note",
        f"{tools.failed} failed ({tools.suspect} of them suspect), {tools.running} running, {tools.orphaned} orphaned",
        "suspect: the error words were only in what the tool showed; orphaned: no end, and nobody left to end it",
    )
    if tools.estimated:
        yield Finding(
            "calls, 7 days",
            "warn",
            f"{tools.estimated} calls have no status row",
            "they are paired by time instead, which is not exact when a tool runs twice at once",
        )
    unrecorded = sum(kinds.get("unrecorded", 0) for kinds in tools.error_categories.values())
    if unrecorded:
        yield Finding("calls, 7 days", "note", f"{unrecorded} failed calls have no error text in tool_usage")


def _links(database: Database, model: Model) -> Iterator[Finding]:
    hooks = model.hooks
    linked = sum(task_id in model.tasks.by_id for task_id in hooks.links.values())
    yield Finding(
        "links", "note", f"{linked} of {len(hooks.sessions)} sessions name their task in the hook log"
    )
    yield from _broken(model)
    if "session_uuid" in database.columns("tasks"):
        stored = database.query("SELECT task_id, session_uuid FROM tasks WHERE session_uuid IS NOT NULL")
        wrong, absent = _stored_links(stored, hooks)
        if stored:
            yield Finding(
                "links",
                "warn" if wrong or absent else "ok",
                f"tasks.session_uuid: {len(stored)} stored, {absent} without a hook log, {wrong} of another task",
                "AMIGA guesses this column; it is used for nothing here" if wrong or absent else "",
            )
    pairs = sum(
        record.status == "stopped" and record.stamp[0] == "failed" for record in model.tasks.by_id.values()
    )
    if pairs:
        yield Finding(
            "links",
            "note",
            f"{pairs} tasks were stopped and then overwritten as failed",
            "they are shown as stopped; AMIGA shows them as failed",
        )


def _broken(model: Model) -> Iterator[Finding]:
    """Calls of nobody, and hook lines that name a task that is not there."""
    hooks = model.hooks
    unknown = [key for key in model.calls.owners if model.task_of(key) is None]
    tasks = [key for key in unknown if TASK_ID.fullmatch(key)]
    if tasks:
        yield Finding(
            "links",
            "warn",
            f"calls of {len(tasks)} tasks that are not in tasks, one is {one_line(tasks[0], 40)}",
            "their rows were deleted, or another database has them; shown as sessions started by hand",
        )
    silent = sum(key not in hooks.sessions for key in unknown) - sum(
        key not in hooks.sessions for key in tasks
    )
    if silent and hooks.sessions:
        yield Finding(
            "links",
            "note",
            f"{silent} sessions have calls and no hook log",
            "if one worked on a task, its calls are counted as a session's started by hand",
        )
    astray = sum(task_id not in model.tasks.by_id for task_id in hooks.links.values())
    if astray:
        yield Finding(
            "links",
            "warn",
            f"{astray} sessions name a task that is not in tasks",
            "the task was deleted, or the hooks write for another AMIGA",
        )


def _stored_links(stored: list[Row], hooks: HookLogs) -> tuple[int, int]:
    wrong = sum(hooks.links.get(str(session), task_id) != task_id for task_id, session in stored)
    absent = sum(str(session) not in hooks.sessions for _, session in stored)
    return wrong, absent


def _hooks(config: AmigaConfig, hooks: HookLogs, now: float) -> Iterator[Finding]:
    for level, text, meaning in hooks_installed(config.root):
        yield Finding("hooks", level, text, meaning)
    if hooks.state != "ok":
        yield Finding(
            "hooks",
            "warn",
            f"{config.sessions}: {one_line(hooks.error or hooks.state, 200)}",
            "sessions cannot be linked to tasks; hooks log below the directory in which they run",
        )
        return
    bad = sum(session.bad_lines for session in hooks.sessions.values())
    newest = "" if hooks.newest is None else f", newest line {_age(now - hooks.newest)}"
    yield Finding("hooks", "ok", f"{len(hooks.sessions)} session logs{newest}")
    if hooks.truncated:
        yield Finding(
            "hooks", "note", "there are more session directories than are followed", "the newest count"
        )
    if bad:
        yield Finding("hooks", "note", f"{bad} lines could not be read", "each lost itself alone")


def _costs(model: Model, now: float) -> Iterator[Finding]:
    costs = window(model, now, WEEK_H).costs
    calls = sum(one.calls for one in costs.by_model.values())
    yield Finding(
        "tokens, 7 days", "note", f"{calls} answers recorded, {costs.unpriced_calls} of them unpriced"
    )
    if model.transcripts is None:
        yield Finding(
            "tokens, 7 days",
            "note",
            "no transcripts are read",
            "AMIGA records a small part only; amiga.transcripts tells the rest",
        )
