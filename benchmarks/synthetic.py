"""Facts of an AMIGA that does not exist, of a wanted size, with a little change at each tick.

The collectors here have the server's own Protocol; composition, comparison, encoding and everything after
it is the server's. What reading a real AMIGA costs is measured elsewhere (real.py).
"""

from __future__ import annotations

import random

import msgspec

from amiga_ws.questions import TaskPage, TaskQuery, TaskSpan
from amiga_ws.snapshot import (
    Activity,
    AmigaFacts,
    AmigaProcess,
    AmigaWindow,
    ClaudeApi,
    Costs,
    CurrentTool,
    Disk,
    DiskIo,
    Durations,
    HostFacts,
    Memory,
    ModelCost,
    MonitorProcess,
    Network,
    Processes,
    Session,
    Sessions,
    Source,
    System,
    Task,
    TaskTotals,
    TaskWindow,
    Tools,
    compose,
)

HOURS = 24
EPOCH = 1_760_000_000.0
TOOLS = ("Read", "Bash", "Edit", "Grep", "Glob", "Write", "Task", "TodoWrite", "WebFetch", "WebSearch")
SOURCES = ("amiga", "hooks", "transcripts")
POSITION = "0123abcd.24.10"
LIVELY = 3  # tasks whose row moves at a tick
TASK_BYTES = 330  # of one row without its description, to find how many rows make a size


class Changing:
    """The newest facts; `step` changes what a second of a busy installation changes."""

    def __init__(self, wanted_bytes: int) -> None:
        self._rng = random.Random(1)
        self._ticks = 0
        rows = max(1, min(50, (wanted_bytes - 1900) // (2 * TASK_BYTES)))
        self._tasks = [self._task(number) for number in range(rows)]
        lines = 20 if rows > LIVELY else 0
        self._activity = [self._line(number) for number in range(lines)]
        self.host = self._host()
        self.amiga = self._amiga()
        self._pad(wanted_bytes)

    def step(self) -> tuple[HostFacts, AmigaFacts]:
        """One tick later."""
        self._ticks += 1
        now = EPOCH + self._ticks
        for number in self._rng.sample(range(len(self._tasks)), min(LIVELY, len(self._tasks))):
            task = self._tasks[number]
            self._tasks[number] = msgspec.structs.replace(
                task,
                updated_at=now,
                tool_calls=(task.tool_calls or 0) + 1,
                tokens=(task.tokens or 0) + self._rng.randrange(100, 999),
                current_tool=CurrentTool(name=self._rng.choice(TOOLS), since=now),
            )
        # As long as the line it pushes out, so that the size stays.
        for last in self._activity[-1:]:
            line = msgspec.structs.replace(last, timestamp=now, task_id=f"{self._ticks:06x}")
            self._activity = [line, *self._activity[:-1]]
        self.host, self.amiga = self._host(), self._amiga()
        return self.host, self.amiga

    # -- parts -----------------------------------------------------------------------------------

    def _task(self, number: int) -> Task:
        return Task(
            task_id=f"{number:06x}",
            status="running" if number < 2 * LIVELY else "completed",
            description=f"Task {number}: ",
            agent_type="orchestrator",
            phase="implementation",
            model="sonnet",
            created_at=EPOCH - 60 * number,
            updated_at=EPOCH,
            current_tool=CurrentTool(name="Bash", since=EPOCH),
            tool_calls=100 + number,
            tool_errors=2,
            tokens=100_000 + number,
            cost=1.25,
        )

    def _line(self, number: int) -> Activity:
        text = f"Bash finished after {number + 10} s"
        return Activity(
            timestamp=EPOCH - number, kind="tool", description=text, task_id="00002a", status="ok"
        )

    def _host(self) -> HostFacts:
        draw = self._rng.randint
        system = System(
            cpu_percent=float(draw(10, 90)),
            per_cpu=[float(draw(10, 90)), float(draw(10, 90))],
            load=[1.2, 1.1, 0.9],
            memory=Memory(total=2**34, used=2**33 + draw(0, 9) * 2**20, percent=50.1),
            swap=Memory(total=2**31, used=0, percent=0.0),
            disks=[Disk(mount="/", total=2**39, used=2**38, percent=50.0)]
            if len(self._tasks) > LIVELY
            else [],
            network=Network(rx_bytes_s=draw(10, 99) * 1000.0, tx_bytes_s=draw(10, 99) * 1000.0),
            disk_io=DiskIo(read_bytes_s=0.0, write_bytes_s=draw(10, 99) * 1000.0),
            boot_time=EPOCH - 1e6,
            processes=Processes(monitor=MonitorProcess(pid=4242, rss=60 * 2**20, cpu_percent=1.0)),
        )
        return HostFacts(sources={"host": Source(state="ok", as_of=EPOCH)}, system=system)

    def _amiga(self) -> AmigaFacts:
        calls = {name: 1000 + self._ticks * (index < LIVELY) for index, name in enumerate(TOOLS)}
        few = len(self._tasks) <= LIVELY
        used = {"Bash": calls["Bash"]} if few else calls
        session = Session(session_id="5f0c9a52", task_id="00002a", kind="task", last_activity=EPOCH, tools=9)
        window = AmigaWindow(
            tasks=TaskWindow(created=40, completed=30, failed=4, stopped=1, success_rate=88.2),
            costs=Costs(
                total_cost=12.5 + self._ticks / 100,
                by_model={} if few else {"sonnet": ModelCost(cost=12.5, calls=400 + self._ticks)},
            ),
            claude_api=ClaudeApi(total_requests=400 + self._ticks, total_input_tokens=10**6),
            tools=Tools(
                total_calls=sum(used.values()),
                raw_rows=3 * sum(used.values()),
                running=LIVELY,
                failed=12,
                orphaned=0,
                by_type=used,
                durations={} if few else {name: Durations(p50_ms=210.0, p95_ms=2400.0) for name in used},
            ),
            sessions=Sessions(total_sessions=12, total_tools=900, active=[] if few else [session] * LIVELY),
        )
        return AmigaFacts(
            sources={name: Source(state="ok", as_of=EPOCH) for name in SOURCES[: 1 if few else None]},
            totals=TaskTotals(total=400, pending=2, running=6, completed=350, failed=40, stopped=2),
            tasks=list(self._tasks),
            activity=list(self._activity),
            amiga_process=None
            if few
            else AmigaProcess(pid=4000, alive=True, since=EPOCH, rss=2**27, threads=12),
            windows={HOURS: window},
        )

    def _pad(self, wanted_bytes: int) -> None:
        """Lengthen the descriptions until the JSON of the snapshot has the wanted size."""
        missing = max(
            0, wanted_bytes - len(self.encoded())
        )  # the smallest may grow with the snapshot's fields
        share, rest = divmod(missing, len(self._tasks))
        for number, task in enumerate(self._tasks):
            text = (
                task.description
                + ("lorem ipsum dolor sit amet " * (share // 27 + 2))[: share + (number < rest)]
            )
            self._tasks[number] = msgspec.structs.replace(task, description=text)
        self.amiga = self._amiga()

    def encoded(self) -> bytes:
        """The JSON of the composed snapshot, with stamps as long as the server's."""
        snapshot = compose(HOURS, "benchmark", self.host, self.amiga)
        return msgspec.json.encode(
            msgspec.structs.replace(snapshot, timestamp=EPOCH + 0.123456, position=POSITION)
        )


class SyntheticHost:
    """A Collector that reads nothing."""

    name = "host"
    source_names = ("host",)

    def __init__(self, source: Changing) -> None:
        self._source = source

    def collect(self, windows: frozenset[int]) -> HostFacts:
        return self._source.host

    def close(self) -> None:
        """Nothing is open."""


class SyntheticAmiga:
    """A TaskCollector that reads nothing."""

    name = "amiga"
    source_names = SOURCES

    def __init__(self, source: Changing) -> None:
        self._source = source

    def collect(self, windows: frozenset[int]) -> AmigaFacts:
        return self._source.amiga

    def find_tasks(self, query: TaskQuery) -> TaskPage:
        return TaskPage(tasks=[], total=0, page=query.page, page_size=query.page_size)

    def minutes(self, first: int, last: int) -> dict[str, dict[int, float]]:
        return {}

    def spans(self, since: float, until: float) -> list[TaskSpan]:
        return []

    def close(self) -> None:
        """Nothing is open."""
