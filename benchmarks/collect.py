"""What watching an AMIGA costs, by how long its history is.

    python benchmarks/collect.py [--rows 10000 100000 1000000] [--json FILE] [--keep DIR]

For each size an installation is made (three tool_usage rows a call, their status rows, 500 session logs,
all within the last seven days, so that every row is in some window) and read in a process of its own:
first load (CPU and wall seconds, peak memory), the time to answer windows of 1, 24 and 168 h, and what a
plain query of the same numbers costs, done as AMIGA's own overview does it.

Then CPU per tick of the AMIGA collector when nothing happens and at 10 and 200 new rows a second, in rounds
in which the sizes take turns: machines change their pace within seconds, and only what was measured side by
side can be compared. Of each the median of the rounds is told, and the quickest one. Last, how long
AMIGA's writer takes to commit with and without us reading.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # the checkout, installed or not

import apsw

from amiga_ws.collectors.amiga import AmigaCollector, AmigaConfig
from amiga_ws.simulate import ManualClock, Simulator
from amiga_ws.simulate.bulk import generate

HOURS = (1, 24, 168)
RATES = {"idle": 0, "busy_10": 10, "busy_200": 200}  # new rows a second
ROUNDS, ROUND_TICKS = 12, 20
TARGETS = (
    "targets: load <= 15 s and 250 MB at 1 M rows, idle <= 0.2 ms, busy <= 3 ms, window <= 2 ms;"
    " a tick at 1 M rows <= 1.3 x one at 10 k"
)


def collector_of(root: Path, clock: Callable[[], float]) -> AmigaCollector:
    """The collector as the server makes it."""
    config = AmigaConfig(
        root=root,
        database=root / "data" / "agentlab.db",
        sessions=root / "logs" / "sessions",
        private_dir=root / "private",
        timezone="UTC",
    )
    collector = AmigaCollector(config, clock)
    collector._processes._listed = float("inf")  # the host's processes are no part of this
    return collector


def load(collector: AmigaCollector) -> tuple[float, float, int]:
    """(CPU seconds, wall seconds, slices) until everything is read."""
    cpu, wall, slices = time.process_time(), time.perf_counter(), 0
    while True:
        slices += 1
        facts = collector.collect(frozenset({24}))
        if "loading" not in {source.state for source in facts.sources.values()}:
            return time.process_time() - cpu, time.perf_counter() - wall, slices


def tick_ms(
    collector: AmigaCollector, clock: ManualClock, ticks: int, before: Callable[[], None]
) -> list[float]:
    """CPU of each reading of the 24 h window, a second apart, each after `before`."""
    spent: list[float] = []
    for _ in range(ticks):
        clock.advance(1.0)
        before()
        began = time.thread_time()
        collector.collect(frozenset({24}))
        spent.append((time.thread_time() - began) * 1000)
    return spent


def settle(collector: AmigaCollector, clock: ManualClock) -> None:
    """Until nothing is left to look at: after each change all known tasks are, some at a time."""
    while collector._model is not None and not collector._model.settled:
        tick_ms(collector, clock, 1, lambda: None)


def window_ms(collector: AmigaCollector, hours: int) -> tuple[float, float]:
    """(first, repeated) CPU of answering one window that was not asked for since the last change."""
    times = []
    for _ in range(6):
        collector._windows.clear()
        began = time.thread_time()
        collector.collect(frozenset({hours}))
        times.append((time.thread_time() - began) * 1000)
    return times[0], statistics.median(times[1:])


class Worker:
    """AMIGA at work: three tasks whose calls last a few ticks; three rows a call."""

    def __init__(self, root: Path, clock: ManualClock) -> None:
        self.sim = Simulator(root, clock=clock, zone=UTC, seed=1)
        self.sim.remember_ended = False
        self.tasks = [self.sim.start_task() for _ in range(3)]
        self.open: list[Any] = []
        self.calls = 0

    def write(self, rows: int) -> None:
        """About `rows` rows of tool_usage in one go, and a new task now and then; nothing for 0."""
        if not rows:
            return
        sim = self.sim
        with sim.batch():
            for _ in range(rows // 3):
                self.calls += 1
                if self.calls % 30 == 0:
                    sim.complete_task(self.tasks.pop(0))
                    self.tasks.append(sim.start_task())
                    self.open = [call for call in self.open if call.task in self.tasks]
                tool = ("Bash", "Read", "Edit", "Grep")[self.calls % 4]
                self.open.append(
                    sim.start_tool(self.tasks[self.calls % 3], tool, {"command": f"run {self.calls}"})
                )
                if len(self.open) > len(self.tasks):
                    sim.end_tool(self.open.pop(0), ok=self.calls % 9 > 0)


def as_amiga_does(root: Path, now: float) -> None:
    """The overview of AMIGA's own page: all statuses, all of agent_status, a query a task, every session log."""
    con = apsw.Connection(str(root / "data" / "agentlab.db"), flags=apsw.SQLITE_OPEN_READONLY)
    since = datetime.fromtimestamp(now - 86400, UTC).replace(tzinfo=None).isoformat()
    con.execute("SELECT status, count(*) FROM tasks GROUP BY status").fetchall()
    con.execute(
        "SELECT tool_name, count(*), sum(success = 1), avg(duration_ms) FROM tool_usage WHERE timestamp >= ?"
        " GROUP BY tool_name",
        (since,),
    ).fetchall()
    con.execute(
        "SELECT count(*), count(DISTINCT task_id) FROM tool_usage WHERE timestamp >= ?", (since,)
    ).fetchall()
    Counter(row[3] for row in con.execute("SELECT * FROM agent_status"))
    recent = con.execute("SELECT task_id FROM tasks ORDER BY created_at DESC LIMIT 20").fetchall()
    for (task_id,) in recent:
        con.execute("SELECT * FROM tool_usage WHERE task_id = ? AND success IS NULL", (task_id,)).fetchall()
    con.close()
    for path in (root / "logs" / "sessions").glob("*/pre_tool_use.jsonl"):
        for line in path.read_text("utf-8").splitlines():
            json.loads(line)


def measure(root: Path, asked: Connection) -> None:
    """Everything about one installation: sends what was found, and then the CPU of some ticks for each rate it gets."""
    clock = ManualClock((root / "data" / "agentlab.db").stat().st_mtime)
    collector = collector_of(root, clock)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu, wall, slices = load(collector)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"load_cpu_s": cpu, "load_wall_s": wall, "slices": slices}
    found |= {"peak_mb": peak / 1000, "grown_mb": (peak - before) / 1000}
    settle(collector, clock)
    for hours in HOURS:
        found[f"window_{hours}_first_ms"], found[f"window_{hours}_ms"] = window_ms(collector, hours)
    began = time.process_time()
    for _ in range(2):
        as_amiga_does(root, clock())
    found["as_amiga_ms"] = (time.process_time() - began) / 2 * 1000
    asked.send(found)
    worker = Worker(root, clock)
    while (rate := asked.recv()) is not None:
        tick_ms(collector, clock, 2, lambda rate=rate: worker.write(rate))  # what another rate left is done
        if not rate:
            settle(collector, clock)
        asked.send(tick_ms(collector, clock, ROUND_TICKS, lambda rate=rate: worker.write(rate)))


class Child:
    """The process that reads one installation."""

    def __init__(self, root: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, its_end = context.Pipe()
        self._process = context.Process(target=measure, args=(root, its_end), daemon=True)
        self._process.start()
        its_end.close()
        self.found: dict[str, float] = self._pipe.recv()  # EOFError where it has ended, after what it printed

    def ticks(self, rate: int) -> list[float]:
        """CPU in ms of some readings while so many rows a second come in."""
        self._pipe.send(rate)
        spent: list[float] = self._pipe.recv()
        return spent

    def close(self) -> None:
        """End it."""
        self._pipe.send(None)
        self._process.join()


def take_turns(children: Sequence[Child]) -> list[float]:
    """Adds what a tick costs to what is known of each size, by rate: in the median of the rounds and in the quickest,
    and how many times what the first size costs. Returns how fast the machine was after each round."""
    paces: list[float] = []
    # One rate after the other, the quiet one first: after a busy one there is more to look at for a while.
    for name, rate in RATES.items():
        rounds: list[list[float]] = []  # means by size
        for number in range(ROUNDS):
            order = children if number % 2 else children[::-1]
            means = {child: statistics.mean(child.ticks(rate)) for child in order}
            rounds.append([means[child] for child in children])
            paces.append(empty_loop_s())
        for child, its in zip(children, zip(*rounds, strict=True), strict=True):
            child.found[f"{name}_ms"] = statistics.median(its)
            child.found[f"{name}_best_ms"] = min(its)
            child.found[f"{name}_ratio"] = statistics.median(
                mean / first for mean, (first, *_) in zip(its, rounds, strict=True)
            )
    return paces


def empty_loop_s() -> float:
    """How fast this machine is just now: CPU seconds of ten million turns of an empty loop."""
    began = time.process_time()
    for _ in range(10_000_000):
        pass
    return time.process_time() - began


def writer_ms(root: Path, *, read: bool) -> tuple[float, float, int]:
    """(median, 99th percentile) of AMIGA's commit in ms and how many found the database locked."""
    clock = time.time
    collector = collector_of(root, clock)
    load(collector)
    ended = threading.Event()

    def reader() -> None:
        while not ended.wait(0.02):  # fifty times as often as the server
            collector.collect(frozenset({24}))
        collector.close()

    thread = threading.Thread(target=reader)
    con = apsw.Connection(str(root / "data" / "agentlab.db"))
    con.execute("PRAGMA journal_mode=WAL")
    con.execute("PRAGMA synchronous=FULL")
    if read:
        thread.start()
    times, locked = [], 0
    for number in range(1500):
        began = time.perf_counter()
        try:
            con.execute(
                "INSERT INTO tool_usage (timestamp, task_id, tool_name, success) VALUES (?, 'aaaaaa', 'Bash', 1)",
                (datetime.now(UTC).replace(tzinfo=None).isoformat(),),
            )
        except apsw.BusyError:
            locked += 1
        times.append((time.perf_counter() - began) * 1000)
        if number % 10 == 0:
            time.sleep(0.01)
    ended.set()
    if read:
        thread.join()
    con.close()
    times.sort()
    return statistics.median(times), times[len(times) * 99 // 100], locked


def main() -> int:
    """Make, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="make the installations here and use them again"
    )
    args = parser.parse_args()
    home = args.keep or Path(tempfile.mkdtemp(prefix="amiga_ws-collect-"))
    results: dict[str, Any] = {}
    children: list[Child] = []
    try:
        for rows in args.rows:
            root = home / str(rows)
            # Made anew each time: the measurement writes to it.
            shutil.rmtree(root, ignore_errors=True)
            made = generate(root, rows, days=6.9, zone=UTC)
            print(
                f"{made.tool_rows} tool rows, {made.status_rows} status rows, {made.tasks} tasks",
                file=sys.stderr,
            )
            children.append(Child(root))
        results["empty_loop_s"] = take_turns(children)
        for rows, child in zip(args.rows, children, strict=True):
            child.close()
            results[str(rows)] = child.found
        for name, read in (("alone", False), ("watched", True)):
            results[f"writer_{name}"] = writer_ms(home / str(args.rows[0]), read=read)
    finally:
        if not args.keep:
            shutil.rmtree(home, ignore_errors=True)
    results["load_average"] = os.getloadavg()
    show(results, args.rows)
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    return 0


def show(results: dict[str, Any], sizes: list[int]) -> None:
    """The table."""
    names = list(results[str(sizes[0])])
    print(f"{'':<22}" + "".join(f"{rows:>14,}" for rows in sizes))
    for name in names:
        print(f"{name:<22}" + "".join(f"{results[str(rows)][name]:>14.2f}" for rows in sizes))
    for name in ("alone", "watched"):
        median, worst, locked = results[f"writer_{name}"]
        print(f"AMIGA's commit, {name:<8} median {median:.2f} ms, 99 % {worst:.2f} ms, locked {locked} times")
    print(TARGETS)
    paces = results["empty_loop_s"]
    print(f"ten million turns of an empty loop, after each round: {min(paces):.2f} to {max(paces):.2f} s")
    print("load average at the end: " + " ".join(f"{one:.1f}" for one in results["load_average"]))


if __name__ == "__main__":
    sys.exit(main())
