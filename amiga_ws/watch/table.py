"""The table a person watches: a snapshot in lines of styled text. Pure: the terminal is views.py's business."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from amiga_ws.snapshot import Activity, Attention, Snapshot, Task
from amiga_ws.watch.text import (
    NOTHING,
    Line,
    cell,
    clock,
    count,
    duration,
    money,
    percent,
    size,
)
from amiga_ws.watch.verdict import SOURCE_NAMES, Verdict

STATUS_STYLES = {"running": "cyan", "completed": "green", "failed": "red", "stopped": "yellow"}
MOST_ATTENTION = 5  # lines, while the terminal is not high enough for all
LEAST_ACTIVITY = 4
DESCRIPTION_COLUMNS = 26  # at least; narrower, and other columns go
HEADINGS = 2  # lines a section adds to its rows: a blank one and its title


@dataclass(frozen=True)
class Frame:
    """What surrounds the values. `now` is the server's time, `height` None for no limit."""

    verdict: Verdict
    connection: str  # how it is connected, for a person
    now: float
    columns: int
    height: int | None = None


class Column(NamedTuple):
    """One column of the tasks: `columns` wide; those with a higher `keep` stay longer on a narrow terminal."""

    title: str
    columns: int
    keep: int
    right: bool
    value: Callable[[Task, Snapshot, float], str]


def _tool(task: Task, _snapshot: Snapshot, now: float) -> str:
    tool = task.current_tool
    return "" if tool is None else f"{tool.name} {duration(now - tool.since)}"


def _calls(task: Task, _snapshot: Snapshot, _now: float) -> str:
    errors = f" ({task.tool_errors})" if task.tool_errors else ""
    return f"{count(task.tool_calls)}{errors}"


def _model(task: Task, _snapshot: Snapshot, _now: float) -> str:
    return NOTHING if task.model is None else task.model.removeprefix("claude-")


def _cost(task: Task, snapshot: Snapshot, _now: float) -> str:
    return money(task.cost, snapshot.overview.costs.currency)


def _time(task: Task, _snapshot: Snapshot, now: float) -> str:
    if task.created_at is None:
        return NOTHING
    if task.status in ("running", "pending"):
        return duration(now - task.created_at)
    return NOTHING if task.ended_at is None else duration(task.ended_at - task.created_at)


COLUMNS = (
    Column("TOOL", 22, 5, False, _tool),
    Column("MODEL", 12, 1, False, _model),
    Column("CALLS", 9, 3, True, _calls),
    Column("TOKENS", 7, 0, True, lambda task, _snapshot, _now: count(task.tokens)),
    Column("COST", 8, 2, True, _cost),
    Column("TIME", 7, 4, True, _time),
)
STATUS_COLUMNS = 10


def table(snapshot: Snapshot | None, frame: Frame) -> list[Line]:
    """All lines, at most `frame.height`: the tasks and the activity share what the rest leaves."""
    lines: list[Line] = [_headline(snapshot, frame)]
    if snapshot is None:
        return lines
    lines += [_host(snapshot), _work(snapshot, frame.now), _use(snapshot), *_sources(snapshot)]
    left = None if frame.height is None else frame.height - len(lines)
    attention = _attention(snapshot, frame, left)
    lines += attention
    rows_of_activity = len(snapshot.activity)
    rows_of_tasks = len(snapshot.tasks)
    if left is not None:
        left -= len(attention) + 2 * HEADINGS + 1  # 1: the heads of the tasks' columns
        rows_of_activity = min(rows_of_activity, max(LEAST_ACTIVITY, left // 4, left - rows_of_tasks))
        rows_of_tasks = min(rows_of_tasks, max(1, left - rows_of_activity))
    lines += _tasks(snapshot, frame, rows_of_tasks)
    lines += _activity(snapshot, rows_of_activity)
    return lines if frame.height is None else lines[: frame.height]


def _headline(snapshot: Snapshot | None, frame: Frame) -> Line:
    word, style, reason = frame.verdict
    name = [] if snapshot is None else [(f"{snapshot.instance}  ", "bold")]
    return [*name, (word, style), (f" {reason}", ""), (f"  {frame.connection}", "dim")]


def _host(snapshot: Snapshot) -> Line:
    system = snapshot.overview.system
    memory, network = system.memory, system.network
    parts = [
        f"CPU {percent(system.cpu_percent)}",
        f"RAM {percent(memory.percent)} of {size(memory.total)}",
        f"swap {percent(system.swap.percent)}",
        *(f"{disk.mount} {percent(disk.percent)}" for disk in system.disks),
        "load " + (NOTHING if system.load is None else " ".join(f"{value:.1f}" for value in system.load)),
        f"net in {size(network.rx_bytes_s)}/s out {size(network.tx_bytes_s)}/s",
    ]
    return [("Host    ", "bold"), (" · ".join(parts), "")]


def _work(snapshot: Snapshot, now: float) -> Line:
    tasks, process = snapshot.overview.tasks, snapshot.overview.system.processes.amiga
    bot = "no process"
    if process is not None:
        since = "" if process.since is None else f" up {duration(now - process.since)}"
        bot = f"pid {process.pid}{since}" if process.alive else f"pid {process.pid} ended"
    parts = [
        bot,
        f"{count(tasks.running)} running",
        f"{count(tasks.pending)} pending",
        f"{snapshot.hours} h: {count(tasks.window.completed)} done, {count(tasks.window.failed)} failed",
    ]
    return [("AMIGA   ", "bold"), (" · ".join(parts), "")]


def _use(snapshot: Snapshot) -> Line:
    costs, tools = snapshot.overview.costs, snapshot.overview.tools
    spent = f"{snapshot.hours} h: {money(costs.total_cost, costs.currency)}"
    if costs.unpriced_calls:
        spent += f" + {count(costs.unpriced_calls)} unpriced"
    failed = f" ({count(tools.failed)} failed)" if tools.failed else ""
    parts = [
        f"today {money(costs.today, costs.currency)}",
        spent,
        f"{count(tools.total_calls)} tool calls{failed}",
    ]
    return [("Spend   ", "bold"), (" · ".join(parts), "")]


def _sources(snapshot: Snapshot) -> list[Line]:
    """A line for each source that is not to be believed: what it is, and what to do."""
    lines: list[Line] = []
    for name, source in snapshot.sources.items():
        if source.state in ("ok", "loading"):
            continue
        told = [text for text in (source.error, source.path, source.hint) if text]
        words = f"{SOURCE_NAMES.get(name, name)} {source.state}"
        lines.append([(f"{words}: " if told else words, "yellow"), (" · ".join(told), "")])
    return lines


def _attention(snapshot: Snapshot, frame: Frame, left: int | None) -> list[Line]:
    items = snapshot.attention
    if not items:
        return []
    most = len(items) if left is None else max(1, min(MOST_ATTENTION, left // 3))
    lines: list[Line] = [[], [("NEEDS YOU", "bold")]]
    lines += [_needed(item, frame.now) for item in items[:most]]
    if len(items) > most:
        lines.append([(f"and {len(items) - most} more", "dim")])
    return lines


def _needed(item: Attention, now: float) -> Line:
    style = "alarm" if item.severity == "crit" else "yellow"
    since = "" if item.since is None else f" for {duration(now - item.since)}"
    return [
        (cell(item.severity, 5), style),
        (f"{item.kind} {item.subject}{since}  ", ""),
        (item.evidence, "dim"),
    ]


def _tasks(snapshot: Snapshot, frame: Frame, rows: int) -> list[Line]:
    shown = snapshot.tasks[:rows]
    hidden = len(snapshot.tasks) - len(shown)
    title = "TASKS" if not hidden else f"TASKS ({len(shown)} of {len(snapshot.tasks)})"
    lines: list[Line] = [[], [(title, "bold")]]
    if not snapshot.tasks:
        return [*lines, [("none", "dim")]]
    columns = _fitting(frame.columns)
    wide = frame.columns - STATUS_COLUMNS - 1 - sum(column.columns + 1 for column in columns)
    heads = [cell("STATUS", STATUS_COLUMNS), cell("DESCRIPTION", wide)]
    heads += [cell(column.title, column.columns, right=column.right) for column in columns]
    lines.append([(" ".join(heads), "dim")])
    for task in shown:
        style = STATUS_STYLES.get(task.status, "")
        values = [cell(task.description, wide)]
        for column in columns:
            value = column.value(task, snapshot, frame.now)
            values.append(cell(value, column.columns, right=column.right))
        lines.append([(cell(task.status, STATUS_COLUMNS), style), (" " + " ".join(values), "")])
    return lines


def _fitting(width: int) -> list[Column]:
    """The columns there is room for beside a description that can be read."""
    kept = list(COLUMNS)
    while (
        kept and width - STATUS_COLUMNS - 1 - sum(column.columns + 1 for column in kept) < DESCRIPTION_COLUMNS
    ):
        kept.remove(min(kept, key=lambda column: column.keep))
    return kept


def _activity(snapshot: Snapshot, rows: int) -> list[Line]:
    lines: list[Line] = [[], [("ACTIVITY", "bold")]]
    if not snapshot.activity:
        return [*lines, [("none", "dim")]]
    for line in snapshot.activity[:rows]:
        style = STATUS_STYLES.get(line.status or "", "")
        lines.append([(f"{clock(line.timestamp)} ", "dim"), (cell(line.kind, 8), style), (told(line), "")])
    return lines


def told(line: Activity) -> str:
    """A line of the activity in words; its status where the description does not say it. Of a call that is its tool."""
    status = "" if line.status in (None, "ok") else str(line.status)
    said = not status or (line.kind != "tool" and status in line.description)
    return line.description if said else f"{line.description} ({status})"
