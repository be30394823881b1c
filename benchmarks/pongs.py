#!/usr/bin/env python3
"""How long a viewer waits for an answer while the server reads AMIGA.

    .venv/bin/python benchmarks/pongs.py                       # about two minutes
    .venv/bin/python benchmarks/pongs.py --switch-ms 5         # with Python's own switch interval
    .venv/bin/python benchmarks/pongs.py --only busy --seconds 10

Reading is computing in a thread, and the loop's thread must get the interpreter from it for each answer. Eight viewers
(those of floods.py) ping 80 times a second in all, in three scenes: nothing to read, 200 new rows a second, and a
first load of a million rows. The server has one core, all others share another; what writes the rows runs where nobody
else wants to. 127.0.0.1 only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from datetime import UTC
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # this checkout, whatever is installed

import machine
from children import Child
from collect import Worker
from floods import ROOT, Seen, served

from amiga_ws.app import SWITCH_S
from amiga_ws.simulate.bulk import generate

SCENES = {"quiet": 0, "busy": 10_000, "loading": 1_000_000}  # rows of history
ROWS_A_SECOND = 200
STARTED_S = 4.0  # what a start does, and the first answer, which waits for the first reading
LOADED = "read AMIGA's history"  # in the server's log
COLUMNS = ("ping p50", "ping p99", "ping max", "cpu %")
SERVE = (
    "import sys; from amiga_ws import app, __main__ as m; app.SWITCH_S = {}; sys.exit(m.main(sys.argv[1:]))"
)


async def measure(root: Path, seconds: float, switch_s: float, *, write: bool) -> dict[str, float]:
    """One scene on a server of its own."""
    async with served(["-c", SERVE.format(switch_s)], root) as target:
        writer = None
        try:
            if write:
                words = [sys.executable, sys.argv[0], "--write", str(root)]
                writer = Child(words, machine.cores()[1], target.log.with_name("writer.log"))
            await asyncio.sleep(STARTED_S)
            for viewer in target.viewers:
                viewer.waits_ms.clear()
            begun, before = time.monotonic(), machine.cpu_s(target.server.pid)
            await asyncio.sleep(seconds)
            seen = Seen(time.monotonic() - begun, machine.cpu_s(target.server.pid) - before)
            seen.pings_ms = [wait for viewer in target.viewers for wait in viewer.waits_ms]
        finally:
            if writer is not None:
                writer.end()
        if not write and LOADED in target.log.read_text():
            print("the history was loaded before the time was over: --seconds is too long", file=sys.stderr)
    return {name: value for name, value in seen.figures().items() if name in COLUMNS}


def write_rows(root: Path) -> None:
    """The writer's process: AMIGA at work, until it is ended."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    worker = Worker(root, time.time)
    while True:
        begun = time.monotonic()
        worker.write(ROWS_A_SECOND)
        time.sleep(max(0.0, begun + 1 - time.monotonic()))


def main() -> int:
    """See the module's text."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--only", choices=list(SCENES), action="append", help="a scene; may repeat")
    options.add_argument("--seconds", type=float, default=20, help="of each scene (20)")
    options.add_argument(
        "--switch-ms", type=float, default=SWITCH_S * 1000, help="switch interval (the server's own)"
    )
    options.add_argument(
        "--json", type=Path, default=ROOT / ".bench" / "pongs.json", help="where the figures go"
    )
    options.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.write:
        write_rows(given.write)
    os.sched_setaffinity(0, {machine.cores()[1]})
    results: dict[str, Any] = {}
    print(f"{'':>12}" + "".join(f"{key:>12}" for key in COLUMNS))
    home = Path(tempfile.mkdtemp(prefix="amiga_ws-pongs-"))
    try:
        for scene in given.only or SCENES:
            root = home / scene
            root.mkdir()
            if SCENES[scene]:
                generate(root, SCENES[scene], days=6.9, zone=UTC)
            results[scene] = asyncio.run(
                measure(root, given.seconds, given.switch_ms / 1000, write=scene == "busy")
            )
            print(f"{scene:>12}" + "".join(f"{results[scene][key]:12.2f}" for key in COLUMNS), flush=True)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
