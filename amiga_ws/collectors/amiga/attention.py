"""What needs the owner: each item with its evidence and since when.

The texts hold no clock reading, so that an item stays equal as long as nothing new is known.
"""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from amiga_ws.collectors.amiga.model import Model
from amiga_ws.collectors.amiga.processes import Processes
from amiga_ws.collectors.amiga.redact import one_line
from amiga_ws.collectors.amiga.tasks import TaskRecord
from amiga_ws.collectors.amiga.times import shown_time
from amiga_ws.snapshot import AmigaProcess, Attention

MINUTE_S = 60.0
STUCK_WARN_S, STUCK_CRIT_S = 5 * MINUTE_S, 15 * MINUTE_S
KILL_S = 30 * MINUTE_S  # AMIGA ends a task this long after its row last moved
KILLS = "AMIGA ends a task it has not updated for 30 min"
KILL_WARN_S, KILL_CRIT_S = 20 * MINUTE_S, 27 * MINUTE_S
PENDING_S = 10 * MINUTE_S
WORKERS = 3
BURST_S, BURST_WARN, BURST_CRIT = 10 * MINUTE_S, 3, 6
BURST_SHOWN_S = 3600.0
LOOP_CRIT = 10
SILENT_S = 120.0  # hook lines this much newer than the newest row
SILENT_HELD_S = 30.0  # a hook writes its line first and its row about a second later
SILENT_HOOKS = ("hooks_without_rows", "hooks")
AHEAD_S = 5 * MINUTE_S
REPLACED_SHOWN_S = 3600.0
GB = 1_000_000_000
DISK_WARN, DISK_CRIT = 15 * GB, 10 * GB  # AMIGA's own thresholds
SLOW_EVERY_S = 60.0
MAX_ITEMS = 40
OTHER_DATABASES = ("telegram_bot/data/agentlab.db", "agentlab.db", "data/amiga.db")


class Surroundings:
    """What lies around the database, looked at once a minute."""

    def __init__(self, root: Path, database: Path) -> None:
        self._root = root
        self._database = database
        self._looked = float("-inf")
        self.second: list[tuple[str, float]] = []  # (path below the root, mtime) of other databases
        self.free: int | None = None  # bytes, on the database's file system

    def look(self, now: float) -> bool:
        """True if it was time to look."""
        if 0 <= now - self._looked < SLOW_EVERY_S:
            return False
        self._looked = now
        self.second = list(self._find_second())
        try:
            self.free = shutil.disk_usage(self._database.parent).free
        except OSError:
            self.free = None
        return True

    def _find_second(self) -> Iterator[tuple[str, float]]:
        try:
            own = self._database.stat()
        except OSError:
            return
        for name in OTHER_DATABASES:
            path = self._root / name
            try:
                found = path.stat()
            except OSError:
                continue
            if not os.path.samestat(own, found) and found.st_size:
                yield name, found.st_mtime


def of_rows(
    model: Model, now: float, server: AmigaProcess | None, noticed: dict[tuple[str, str], float]
) -> list[Attention]:
    """What the rows tell, judged by the clock: only rows that can be read may be asked.

    `noticed`: see attention().
    """
    items: list[Attention] = []
    for record in model.tasks.at_work.values():
        if record.status == "running":
            items += _of_running(model, record, now)
    items += _pending(model, now, server)
    items += _burst(model, now)
    items += _loops(model, now)
    items += _silent_hooks(model, now, noticed)
    items += _ahead(model, now)
    return items


def attention(
    rows: list[Attention],
    now: float,
    processes: Processes,
    server: AmigaProcess | None,
    around: Surroundings,
    replaced_at: float | None,
    noticed: dict[tuple[str, str], float],
) -> list[Attention]:
    """All items, those of the rows among them, critical ones first, at most 40.

    `noticed` is kept from call to call: when items were first seen of which nothing tells since when they are, or
    which must hold for a while.
    """
    items = [*rows, *_replaced(now, replaced_at), *_host(processes, server, around)]
    items = _dated(items, now, noticed)
    items.sort(key=lambda item: (item.severity != "crit", item.since or 0.0, item.kind, item.subject))
    return items[:MAX_ITEMS]


def _dated(items: list[Attention], now: float, noticed: dict[tuple[str, str], float]) -> list[Attention]:
    undated = {(item.kind, item.subject) for item in items if item.since is None}
    for gone in noticed.keys() - undated - {SILENT_HOOKS}:
        del noticed[gone]
    return [
        msgspec.structs.replace(item, since=noticed.setdefault((item.kind, item.subject), now))
        if item.since is None
        else item
        for item in items
    ]


_shown = functools.lru_cache(maxsize=8 * MAX_ITEMS)(one_line)  # an item stays as it is for many readings


def _item(kind: str, subject: str, since: float | None, evidence: str, *, crit: bool = False) -> Attention:
    return Attention(
        kind=kind,
        severity="crit" if crit else "warn",
        subject=_shown(subject, 80),
        since=shown_time(since),
        evidence=_shown(evidence, 240),
    )


def _of_running(model: Model, record: TaskRecord, now: float) -> Iterator[Attention]:
    task_id = record.task_id
    if task_id in model.dead_tasks:
        yield _item(
            "dead_process",
            task_id,
            model.last_sign(record),
            f"AMIGA counts it as running, but there is no process {record.pid} on this host",
            crit=True,
        )
        return
    sign = model.last_sign(record)
    if sign is not None and now - sign >= STUCK_WARN_S:
        open_calls = [start for key in model.owners_of(task_id) for start in _open_of(model, key)]
        tool = max(open_calls)[1] if open_calls else None
        evidence = f"no event since then; {tool} has not ended" if tool else "no event since then"
        if record.updated_at is not None and now - record.updated_at >= KILL_WARN_S:
            evidence += f"; {KILLS}"
        yield _item("stuck", task_id, sign, evidence, crit=now - sign >= STUCK_CRIT_S)
        return
    updated = record.updated_at
    if updated is not None and now - updated >= KILL_WARN_S:
        yield _item(
            "near_kill",
            task_id,
            updated,
            f"its tools still run, but {KILLS}, and tool calls are no update",
            crit=now - updated >= KILL_CRIT_S,
        )


def _open_of(model: Model, key: str) -> list[tuple[float, str]]:
    owner = model.calls.owners.get(key)
    return [(start, model.calls.tools[tool]) for start, tool in owner.open] if owner else []


def _pending(model: Model, now: float, server: AmigaProcess | None) -> Iterator[Attention]:
    work = model.tasks.at_work.values()
    alive = sum(record.status == "running" and record.task_id not in model.dead_tasks for record in work)
    busy = alive >= WORKERS
    waiting = [
        record
        for record in work
        if record.status == "pending"
        and record.created_at is not None
        and now - record.created_at >= (KILL_S if busy else PENDING_S)
    ]
    if not waiting:
        return
    since = min(record.created_at or 0.0 for record in waiting)
    subject = waiting[0].task_id if len(waiting) == 1 else f"{len(waiting)} tasks"
    begun = server.since if server is not None and server.alive else None
    lost = sum(begun is not None and (record.created_at or 0.0) < begun for record in waiting)
    evidence = "no worker took it up" if len(waiting) == 1 else "no worker took them up"
    if lost:
        since_when = "then" if len(waiting) == 1 else f"{lost} of them were queued"
        evidence += f"; AMIGA's server has started anew since {since_when}, and its queue is only in memory"
    yield _item("pending", subject, since, evidence, crit=bool(lost))


def _burst(model: Model, now: float) -> Iterator[Attention]:
    failed = model.tasks.failed_since(now - BURST_SHOWN_S - BURST_S)
    last = _newest_burst(failed, now, BURST_CRIT) or _newest_burst(failed, now, BURST_WARN)
    if last is not None:
        classes = model.tasks.failures(last - BURST_S, last)
        count = sum(one for one, _, _ in classes.values())
        named = ", ".join(f"{one} {name.replace('_', ' ')}" for name, (one, _, _) in sorted(classes.items()))
        yield _item(
            "failure_burst",
            f"{count} tasks",
            min(first for _, first, _ in classes.values()),
            f"failed within 10 min: {named}",
            crit=count >= BURST_CRIT,
        )


def _newest_burst(failed: list[float], now: float, least: int) -> float | None:
    """When the newest run of at least so many failures within 10 min ended, which was within the hour."""
    for first, last in zip(reversed(failed[: 1 - least]), reversed(failed), strict=False):
        if now - last > BURST_SHOWN_S:
            break
        if last - first <= BURST_S:
            return last
    return None


def _loops(model: Model, now: float) -> Iterator[Attention]:
    for key, loop in model.loops.current(model, now).items():
        record = model.task_of(key)
        times = loop.calls if loop.whole else f"at least {loop.calls}"
        evidence = f"{loop.tool} with the same arguments {times} times in a row"
        crit = loop.calls >= LOOP_CRIT
        yield _item("loop", record.task_id if record else key, loop.since, evidence, crit=crit)


def _silent_hooks(model: Model, now: float, noticed: dict[tuple[str, str], float]) -> Iterator[Attention]:
    newest = model.hooks.newest
    latest = model.calls.latest_row
    if newest is None or newest - latest <= SILENT_S or now - newest >= BURST_SHOWN_S:
        noticed.pop(SILENT_HOOKS, None)
    elif now - noticed.setdefault(SILENT_HOOKS, now) >= SILENT_HELD_S:
        yield _item(
            *SILENT_HOOKS,
            latest or None,
            "the hook logs grow but tool_usage does not: the hooks do not find AMIGA's code or its database",
            crit=True,
        )


def _ahead(model: Model, now: float) -> Iterator[Attention]:
    if model.calls.latest_row - now > AHEAD_S:
        yield _item(
            "clock",
            "database",
            None,
            "its newest rows lie in the future: set amiga.timezone, or one of the clocks is wrong",
        )


def _replaced(now: float, replaced_at: float | None) -> Iterator[Attention]:
    if replaced_at is not None and now - replaced_at < REPLACED_SHOWN_S:
        yield _item(
            "replaced", "database", replaced_at, "another database file took its place; counts began anew"
        )


def _host(processes: Processes, server: AmigaProcess | None, around: Surroundings) -> Iterator[Attention]:
    if server is not None and not server.alive:
        yield _item("server_gone", "AMIGA", None, f"its server process {server.pid} has ended", crit=True)
    if processes.server_count > 1:
        evidence = f"{processes.server_count} AMIGA servers run on this host"
        yield _item("two_servers", "AMIGA", None, evidence, crit=True)
    for path, mtime in around.second:
        yield _item("second_database", path, mtime, "another AMIGA database, which is not the one shown here")
    if around.free is not None and around.free < DISK_WARN:
        shown = around.free // GB + 1
        crit = around.free < DISK_CRIT
        yield _item("disk", "disk", None, f"less than {shown} GB free where AMIGA keeps its data", crit=crit)
