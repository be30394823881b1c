"""The whole server on a simulated AMIGA, started as a person would: what it costs and sends by itself.

At rest (nothing moves but this host), then with a living installation, then row by row: how long from a
row in AMIGA's database to the frame at a client.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import machine
from cells import OURS, Cell
from children import START_S, Child, FailedError
from measure import LIMITS, Audience, load_command, request, subscription, write_tokens
from toolbox import Toolbox
from viewer import Viewer

INTERVAL_S = 2
WATCHERS = 50  # of each kind: full and delta
SETTLE_S = 3.0
STARTED_S = (
    20.0  # by then history has been filled with the week before: once in a quarter of an hour, 0.4 s of CPU
)
ROW_WITHIN_S = 5.0
READ_WITHIN_S = 60.0
BACKFILL_S = 120.0


def run(toolbox: Toolbox, seconds: float, rows: int) -> dict[str, Any]:
    """Measure for about 4 x `seconds`, and `rows` rows. Raises FailedError."""
    server_core, load_core = machine.cores()
    with tempfile.TemporaryDirectory(prefix="fanout-real-") as folder, ExitStack() as stack:
        scratch = Path(folder)
        amiga = scratch / "amiga"
        (scratch / "start").write_bytes(bytes(8))
        write_tokens(scratch)
        with _simulator(toolbox, amiga, scratch, load_core, seed=1):
            pass  # it leaves a history
        server = _server(toolbox, amiga, scratch, server_core)
        stack.callback(server.end)
        port = int(server.line(START_S).strip().rpartition(":")[2])
        (scratch / "request").write_text(request(Cell("real", OURS), port))
        _expect_amiga(scratch, port)
        time.sleep(STARTED_S)
        measured: dict[str, Any] = {"idle_cpu_percent": _cpu_percent(server, seconds)}
        measured["at_rest"] = _watched(toolbox, scratch, port, server, seconds)
        with _simulator(toolbox, amiga, scratch, load_core, seed=2):
            measured["busy"] = _watched(toolbox, scratch, port, server, seconds)
        measured["row_to_frame_ms"] = _rows(amiga, scratch, port, rows)
        return measured


def _server(toolbox: Toolbox, amiga: Path, scratch: Path, core: int) -> Child:
    settings = (f"state_dir={scratch}", "server.port=0", "log.level=warning", f"amiga.root={amiga}", *LIMITS)
    command = [sys.executable, "-m", "amiga_ws", "serve"]
    for setting in settings:
        command += ["--set", setting]
    return Child(command, core, scratch / "server.log", {"PYTHONPATH": str(toolbox.tree)})


@contextmanager
def _simulator(toolbox: Toolbox, amiga: Path, scratch: Path, core: int, *, seed: int) -> Iterator[None]:
    """A living installation, from when its history is written to the end of the block: the same at each run."""
    log = scratch / "simulator.log"
    command = [sys.executable, "-m", "amiga_ws", "simulate", "--seed", str(seed), str(amiga)]
    simulator = Child(command, core, log, {"PYTHONPATH": str(toolbox.tree)})
    try:
        until = time.monotonic() + BACKFILL_S
        while "is running" not in log.read_text() and time.monotonic() < until:
            time.sleep(0.1)
        yield
    finally:
        simulator.end()


def _viewer(scratch: Path, port: int) -> Viewer:
    """One client, updated every second."""
    token = (scratch / "tokens").read_text().splitlines()[0]
    asked = (scratch / "request").read_text().replace("@TOKEN@", token)
    return Viewer(port, asked, subscription(1, delta=False))


def _expect_amiga(scratch: Path, port: int) -> None:
    """Wait until the server has read the installation: without it these figures would be fine and mean nothing."""
    viewer = _viewer(scratch, port)
    until = time.monotonic() + READ_WITHIN_S
    try:
        while (source := viewer.snapshot()["sources"]["amiga"])["state"] != "ok":
            if source["state"] != "loading" or time.monotonic() > until:
                raise FailedError(f"the server does not read the simulated AMIGA: {source}")
    finally:
        viewer.close()


def _cpu_percent(server: Child, seconds: float) -> float:
    """Of one core, over a while."""
    before, begun = machine.cpu_s(server.pid), time.monotonic()
    time.sleep(seconds)
    return 100 * (machine.cpu_s(server.pid) - before) / (time.monotonic() - begun)


def _watched(toolbox: Toolbox, scratch: Path, port: int, server: Child, seconds: float) -> dict[str, Any]:
    """50 clients with full snapshots and 50 with deltas, every 2 s."""
    _, core = machine.cores()
    with ExitStack() as stack:
        loads: dict[str, Child] = {}
        for kind in ("full", "delta"):
            hello = subscription(INTERVAL_S, delta=kind == "delta")
            command = load_command(toolbox.load, scratch, port, Audience(WATCHERS, "ws", hello, '"metrics_'))
            loads[kind] = load = Child(command, core, scratch / f"{kind}.log")
            stack.callback(load.end)
            load.answer(START_S)
        time.sleep(SETTLE_S)
        for load in loads.values():
            load.say(f"watch {seconds}\n")
        measured: dict[str, Any] = {"cpu_percent": _cpu_percent(server, seconds)}
        for kind, load in loads.items():
            seen = load.answer(START_S)
            measured[kind] = {
                "bytes_per_client_minute": seen["bytes"] / WATCHERS * 60 / seconds,
                "updates_per_client_minute": seen["updates"] / WATCHERS * 60 / seconds,
                "median_bytes": seen["median_bytes"],
            }
        return measured


def _rows(amiga: Path, scratch: Path, port: int, rows: int) -> dict[str, float]:
    """Write a task at random moments; until a frame tells of it. The client is updated every second."""
    from amiga_ws.simulate import Simulator  # noqa: PLC0415 - SQLite is no use to the other parts

    viewer = _viewer(scratch, port)
    simulator = Simulator(amiga)
    took: list[float] = []
    try:
        for number in range(rows):
            time.sleep(random.random())
            mark = f"benchmark row {number} of {rows}"
            begun = time.monotonic()
            simulator.queue_task(mark)
            seen = viewer.wait_for(mark.encode(), ROW_WITHIN_S)
            if seen is not None:
                took.append((seen - begun) * 1000)
    finally:
        viewer.close()
        simulator.close()
    if not took:
        return {"seen": 0, "written": rows}
    return {
        "seen": len(took),
        "written": rows,
        "least": min(took),
        "median": statistics.median(took),
        "most": max(took),
    }
