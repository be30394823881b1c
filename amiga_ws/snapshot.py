"""The snapshot: what one window of AMIGA and its host looks like now.

Here live its shape (the structs below, in wire order), how it is composed from the collectors' facts
and how two of them are compared. Pure: no I/O, no clock, no Tornado. docs/protocol.md explains every field.

Units: times are epoch seconds (float, UTC), sizes bytes, percentages 0-100, money in the configured
currency; `None` means unknown and is never written as 0.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec

SourceState = Literal["ok", "loading", "missing", "stale", "error"]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every piece of a snapshot: immutable, compared by value, encoded in field order."""


class Source(Part, frozen=True, kw_only=True):
    """Where a section comes from and whether it can be believed."""

    state: SourceState = "loading"
    as_of: float | None = None
    path: str | None = None
    error: str | None = None
    hint: str | None = None


def shown_path(path: str | Path) -> str:
    """A path as text that can be sent: any bytes may name a file or folder."""
    return os.fsencode(path).decode("utf-8", "replace")


# -- overview ------------------------------------------------------------------------------------


class TaskWindow(Part, frozen=True, kw_only=True):
    """Tasks created, and ended (by the time they ended, where that is known), inside the window."""

    created: int | None = None
    completed: int | None = None
    failed: int | None = None
    stopped: int | None = None
    success_rate: float | None = None


class TaskTotals(Part, frozen=True, kw_only=True):
    """All-time task counts. `success_rate` is 100 x completed / (completed + failed)."""

    total: int | None = None
    pending: int | None = None
    running: int | None = None
    completed: int | None = None
    failed: int | None = None
    stopped: int | None = None
    other: int | None = None
    success_rate: float | None = None


class OverviewTasks(TaskTotals, frozen=True, kw_only=True):
    window: TaskWindow = TaskWindow()


class ModelCost(Part, frozen=True, kw_only=True):
    cost: float | None = None
    calls: int = 0


class Budget(Part, frozen=True, kw_only=True):
    """`share` is 0-1 of `limit` used this month; `projected_day` the epoch at which it will be used up."""

    limit: float
    share: float | None = None
    projected_day: float | None = None


class Costs(Part, frozen=True, kw_only=True):
    total_cost: float | None = None
    haiku_cost: float | None = None
    sonnet_cost: float | None = None
    opus_cost: float | None = None
    by_model: dict[str, ModelCost] = {}
    currency: str = "USD"
    unpriced_calls: int | None = None
    prices_dated: str | None = None
    today: float | None = None
    d7: float | None = None
    d30: float | None = None
    utc_offset_s: int | None = None
    budget: Budget | None = None


class ClaudeApi(Part, frozen=True, kw_only=True):
    total_requests: int | None = None
    total_input_tokens: int | None = None
    total_output_tokens: int | None = None
    cache_creation_tokens: int | None = None
    cache_read_tokens: int | None = None


class Durations(Part, frozen=True, kw_only=True):
    p50_ms: float | None = None
    p95_ms: float | None = None


class Tools(Part, frozen=True, kw_only=True):
    """`total_calls` = ended + running + orphaned; `raw_rows` are AMIGA's tool_usage rows (1-4 per call).

    `suspect` of the failed ones probably did not fail (the words were in what the tool showed);
    `estimated` of the ended ones were paired by time, for want of status rows.
    """

    total_calls: int | None = None
    raw_rows: int | None = None
    running: int | None = None
    failed: int | None = None
    orphaned: int | None = None
    suspect: int | None = None
    estimated: int | None = None
    by_type: dict[str, int] = {}
    errors: dict[str, int] = {}
    error_rates: dict[str, float] = {}
    error_categories: dict[str, dict[str, int]] = {}
    suspects: dict[str, int] = {}
    durations: dict[str, Durations] = {}


class Memory(Part, frozen=True, kw_only=True):
    total: int | None = None
    used: int | None = None
    percent: float | None = None


class Disk(Part, frozen=True, kw_only=True):
    mount: str
    total: int
    used: int
    percent: float


class Network(Part, frozen=True, kw_only=True):
    rx_bytes_s: float | None = None
    tx_bytes_s: float | None = None


class DiskIo(Part, frozen=True, kw_only=True):
    read_bytes_s: float | None = None
    write_bytes_s: float | None = None


class MonitorProcess(Part, frozen=True, kw_only=True):
    pid: int
    rss: int | None = None
    cpu_percent: float | None = None


class AmigaProcess(Part, frozen=True, kw_only=True):
    pid: int
    alive: bool
    since: float | None = None
    rss: int | None = None
    cpu_percent: float | None = None
    threads: int | None = None


class TaskProcess(Part, frozen=True, kw_only=True):
    task_id: str
    pid: int
    alive: bool
    rss: int | None = None
    cpu_percent: float | None = None


class Processes(Part, frozen=True, kw_only=True):
    monitor: MonitorProcess | None = None
    amiga: AmigaProcess | None = None
    tasks: list[TaskProcess] = []


class System(Part, frozen=True, kw_only=True):
    cpu_percent: float | None = None
    per_cpu: list[float] = []
    load: list[float] | None = None
    memory: Memory = Memory()
    swap: Memory = Memory()
    disks: list[Disk] = []
    network: Network = Network()
    disk_io: DiskIo = DiskIo()
    boot_time: float | None = None
    processes: Processes = Processes()


class Overview(Part, frozen=True, kw_only=True):
    tasks: OverviewTasks = OverviewTasks()
    costs: Costs = Costs()
    claude_api: ClaudeApi = ClaudeApi()
    tools: Tools = Tools()
    system: System = System()


# -- lists ---------------------------------------------------------------------------------------


class CurrentTool(Part, frozen=True, kw_only=True):
    name: str
    since: float


class Task(Part, frozen=True, kw_only=True):
    """One row of the task table. `tokens` is the sum of the four token classes."""

    task_id: str
    status: str
    description: str
    agent_type: str | None = None
    phase: str | None = None
    model: str | None = None
    created_at: float | None = None
    updated_at: float | None = None
    ended_at: float | None = None
    current_tool: CurrentTool | None = None
    tool_calls: int | None = None
    tool_errors: int | None = None
    error_class: str | None = None
    tokens: int | None = None
    cost: float | None = None


class Session(Part, frozen=True, kw_only=True):
    session_id: str
    task_id: str | None = None
    kind: Literal["task", "cli"] = "cli"
    state: Literal["active", "idle", "ended"] = "ended"
    last_activity: float | None = None
    tools: int | None = None
    errors: int | None = None


class Sessions(Part, frozen=True, kw_only=True):
    total_sessions: int | None = None
    total_tools: int | None = None
    tools_by_type: dict[str, int] = {}
    active: list[Session] = []
    recent: list[Session] = []


class Activity(Part, frozen=True, kw_only=True):
    timestamp: float
    kind: Literal["task", "tool", "session"]
    description: str
    task_id: str | None = None
    status: str | None = None


class ErrorClass(Part, frozen=True, kw_only=True, rename={"error_class": "class"}):
    error_class: str
    count: int
    first: float | None = None
    last: float | None = None


class Attention(Part, frozen=True, kw_only=True):
    kind: str
    severity: Literal["warn", "crit"]
    subject: str
    since: float | None
    evidence: str


class Snapshot(Part, frozen=True, kw_only=True):
    """One window. `timestamp` and `position` are stamped by the broadcaster when the content has changed."""

    hours: int
    instance: str
    timestamp: float = 0.0
    position: str = ""
    overview: Overview = Overview()
    tasks: list[Task] = []
    sessions: Sessions = Sessions()
    activity: list[Activity] = []
    errors: list[ErrorClass] = []
    attention: list[Attention] = []
    sources: dict[str, Source] = {}


# -- what collectors deliver ---------------------------------------------------------------------


class HostFacts(Part, frozen=True, kw_only=True):
    """One reading of psutil. `system.processes` carries `monitor` only; AMIGA's come from AmigaFacts."""

    sources: dict[str, Source]
    system: System = System()


class AmigaWindow(Part, frozen=True, kw_only=True):
    """The part of AMIGA's facts that depends on the window."""

    tasks: TaskWindow = TaskWindow()
    costs: Costs = Costs()
    claude_api: ClaudeApi = ClaudeApi()
    tools: Tools = Tools()
    sessions: Sessions = Sessions()
    errors: list[ErrorClass] = []


class AmigaFacts(Part, frozen=True, kw_only=True):
    """One reading of an AMIGA installation; `windows` holds exactly the hours that were asked for.

    `sources` has the keys `amiga` (database), `hooks` (JSONL) and `transcripts`.
    """

    sources: dict[str, Source]
    totals: TaskTotals = TaskTotals()
    tasks: list[Task] = []
    activity: list[Activity] = []
    attention: list[Attention] = []
    amiga_process: AmigaProcess | None = None
    task_processes: list[TaskProcess] = []
    windows: dict[int, AmigaWindow] = {}


# -- composition ---------------------------------------------------------------------------------


def compose(hours: int, instance: str, host: HostFacts, amiga: AmigaFacts) -> Snapshot:
    """The snapshot of one window from the newest facts; a window AMIGA was not asked for is unknown."""
    window = amiga.windows.get(hours, AmigaWindow())
    totals = {name: getattr(amiga.totals, name) for name in TaskTotals.__struct_fields__}
    processes = Processes(
        monitor=host.system.processes.monitor, amiga=amiga.amiga_process, tasks=amiga.task_processes
    )
    return Snapshot(
        hours=hours,
        instance=instance,
        overview=Overview(
            tasks=OverviewTasks(**totals, window=window.tasks),
            costs=window.costs,
            claude_api=window.claude_api,
            tools=window.tools,
            system=msgspec.structs.replace(host.system, processes=processes),
        ),
        tasks=amiga.tasks,
        sessions=window.sessions,
        activity=amiga.activity,
        errors=window.errors,
        attention=amiga.attention,
        sources=host.sources | amiga.sources,
    )


def same_content(one: Snapshot, other: Snapshot) -> bool:
    """Whether a viewer would see no difference: all but `timestamp`, `position` and the sources' `as_of`.

    `as_of` moves with every look at a source; whether it *may* be old is in the source's `state`.
    """
    return _content(one) == _content(other)


def _content(snapshot: Snapshot) -> Snapshot:
    sources = {name: msgspec.structs.replace(s, as_of=None) for name, s in snapshot.sources.items()}
    return msgspec.structs.replace(snapshot, timestamp=0.0, position="", sources=sources)
