#!/usr/bin/env python3
"""What one delivery costs: our server against a bare send loop and other servers, in one run.

    .venv/bin/python benchmarks/fanout.py

Servers run on one core and the load on another, every repetition starts anew and goes through all cells,
figures are medians. Packages of the peers are put below --cache at the first run. See README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the package need not be installed

import machine
import measure
import real
import report
import toolbox
from cells import CELLS, WEBSOCKET, Cell
from children import FailedError

ROOT = Path(__file__).resolve().parent.parent
QUICK_CLIENTS = 100
DISTURBED = 0.1  # share of the server's core that others used


def main() -> int:
    """Measure, print, write; 0, or 1 when a cell failed."""
    args = parser().parse_args()
    try:
        made = toolbox.prepare(args.cache, peers=not (args.profile or args.list))
    except toolbox.MissingToolError as error:
        sys.exit(f"fanout.py: {error}")
    server_core, load_core = machine.cores()
    os.sched_setaffinity(0, {load_core})
    files = machine.raise_file_limit()
    cells, skipped = chosen(args, made, files)
    plan = measure.Plan(args.ticks, args.warm_up, round(args.gap_ms * 1000), args.profile)
    if server_core == load_core:
        print("one core only: server and load disturb each other, latencies mean little")
    begun, load_before = time.monotonic(), os.getloadavg()
    runs, failures = repeat(cells, plan, made, args)
    if args.profile:
        for name, own in runs.items():
            print(f"\n{name}: {own[0]['cpu_us']:.1f} us a delivery under the profiler\n{own[0]['profile']}")
        return 1 if failures else 0
    found: dict[str, Any] = {}
    if not args.no_real:
        try:
            found = real.run(made, args.real_seconds, args.rows)
        except (FailedError, OSError) as error:
            failures["simulated AMIGA"] = str(error)
    result = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - begun),
        "machine": describe(load_before, runs),
        "plan": {**vars(plan), "repetitions": args.repetitions, "retries": args.retries, "quick": args.quick},
        "cells": report.summary(runs),
        "real": found,
        "promises": report.verdicts(runs, found),
        "skipped": skipped,
        "failures": failures,
        "runs": runs,
    }
    show(result)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\nwritten: {args.json}")
    return 1 if failures else 0


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    options.add_argument("--repetitions", type=int, default=5, help="of every cell (5)")
    options.add_argument("--ticks", type=int, default=30, help="measured in a repetition (30)")
    options.add_argument("--warm-up", type=int, default=10, metavar="N", help="ticks before them (10)")
    options.add_argument("--gap-ms", type=float, default=10, help="pause after each tick (10)")
    options.add_argument("--retries", type=int, default=0, help="of a run that others disturbed (0)")
    options.add_argument(
        "--calm", type=float, default=0, metavar="S", help="wait so long for quiet cores (0)"
    )
    options.add_argument(
        "--only", action="append", metavar="TEXT", help="cells whose name holds TEXT; may repeat"
    )
    options.add_argument("--no-real", action="store_true", help="leave the simulated AMIGA out")
    options.add_argument("--real-seconds", type=float, default=60, help="for each part of it (60)")
    options.add_argument("--rows", type=int, default=30, help="rows timed to their frame (30)")
    options.add_argument(
        "--cache", type=Path, default=ROOT / ".bench", help="peers' packages and the load (.bench)"
    )
    options.add_argument(
        "--json", type=Path, default=ROOT / ".bench" / "fanout.json", help="where the figures go"
    )
    options.add_argument(
        "--quick", action="store_true", help="does it run at all: few clients and ticks, no meaning"
    )
    options.add_argument(
        "--profile", action="store_true", help="profile our server in one cell (or those of --only)"
    )
    options.add_argument("--list", action="store_true", help="name the cells and end")
    return options


def chosen(args: argparse.Namespace, made: toolbox.Toolbox, files: int) -> tuple[list[Cell], dict[str, str]]:
    """The cells to run, cut down for --quick, and why others are not."""
    if args.list:
        print("\n".join(cell.name for cell in CELLS))
        sys.exit(0)
    if args.quick:
        args.repetitions, args.ticks, args.warm_up = 1, 5, 2
        args.real_seconds, args.rows = min(args.real_seconds, 6.0), min(args.rows, 3)
    if args.profile:
        args.repetitions = 1
    wanted = args.only or ([WEBSOCKET.name] if args.profile else [""])
    cells, skipped = [], {}
    for cell in CELLS:
        if not named(cell, wanted) or (args.profile and not cell.ours):
            continue
        few = replace(cell, clients=min(cell.clients, QUICK_CLIENTS), ticks=1) if args.quick else cell
        why = measure.why_skipped(few, made)
        if few.clients + measure.INFLIGHT > files:
            why = f"{cell.clients} clients need more than the {files} files a process may open here"
        if why is None:
            cells.append(few)
        else:
            skipped[cell.name] = why
            print(f"skipped: {cell.name}: {why}")
    return cells, skipped


def named(cell: Cell, wanted: list[str]) -> bool:
    """Whether --only means this cell: by its whole name, else by a part of it."""
    names = {other.name for other in CELLS}
    return any(
        text == cell.name or (text not in names and text.lower() in cell.name.lower()) for text in wanted
    )


def repeat(
    cells: list[Cell], plan: measure.Plan, made: toolbox.Toolbox, args: argparse.Namespace
) -> tuple[report.Runs, dict[str, str]]:
    """All cells, again and again, each time beginning with another one."""
    runs: report.Runs = {}
    failures: dict[str, str] = {}
    for repetition in range(args.repetitions):
        first = repetition * len(cells) // args.repetitions
        for cell in cells[first:] + cells[:first]:
            if cell.once and repetition:
                continue
            print(f"[{repetition + 1}/{args.repetitions}] {cell.name:<30}", end=" ", flush=True)
            try:
                run = calmest(cell, plan, made, args)
            except FailedError as error:
                failures[cell.name] = str(error)
                print("FAILED:", str(error).splitlines()[-1], flush=True)
                continue
            runs.setdefault(cell.name, []).append({"repetition": repetition, **run})
            noise = run["noise"]
            print(
                f"{run['cpu_us']:8.1f} us  last {run['last_ms']:8.1f} ms  foreign {noise['foreign']:5.1%}"
                f"  load {noise['load_busy']:4.0%}",
                flush=True,
            )
    return runs, failures


def calmest(cell: Cell, plan: measure.Plan, made: toolbox.Toolbox, args: argparse.Namespace) -> report.Run:
    """A run; where others disturbed it, the least disturbed of a few. Judged by the noise, not by the figures."""
    best: report.Run | None = None
    for _ in range(1 + args.retries):
        machine.wait_for_calm(args.calm)
        run = measure.run(cell, plan, made)
        if best is None or run["noise"]["foreign"] < best["noise"]["foreign"]:
            best = run
        if best["noise"]["foreign"] <= DISTURBED:
            break
    return best


def describe(load_before: tuple[float, float, float], runs: report.Runs) -> dict[str, Any]:
    """The machine and the noise that was seen."""
    every = [run for own in runs.values() for run in own]
    spins = [run["spin_ms"] for run in every]
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "cpu": model,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cores": machine.cores(),
        "load_average": [load_before, os.getloadavg()],
        "spin_ms": [min(spins, default=0), max(spins, default=0)],
        "most_foreign": max((run["noise"]["foreign"] for run in every), default=0),
        "most_steal": max((run["noise"]["steal"] for run in every), default=0),
        "most_load_busy": max((run["noise"]["load_busy"] for run in every), default=0),
    }


def show(result: dict[str, Any]) -> None:
    """Tables and noise."""
    print(
        "\nCPU and bytes per delivery, RSS per connection, times from the tick's begin to the whole frame\n"
    )
    print(report.table(result["cells"]))
    if result["real"]:
        print("\n" + report.real_table(result["real"]))
    print("\n" + report.promises_table(result["promises"]))
    seen = result["machine"]
    print(
        f"\n{seen['cpu']}, Linux {seen['kernel']}, Python {seen['python']}, {result['seconds']} s.\n"
        f"Noise: others used up to {seen['most_foreign']:.0%} of the server's core during a measurement, the "
        f"hypervisor {seen['most_steal']:.0%};\nthe load generator was busy up to {seen['most_load_busy']:.0%}; "
        f"a fixed piece of work took {seen['spin_ms'][0]:.1f}-{seen['spin_ms'][1]:.1f} ms; "
        f"load average {seen['load_average'][0][0]:.1f} before, {seen['load_average'][1][0]:.1f} after."
    )
    for name, why in {**result["skipped"], **result["failures"]}.items():
        print(f"not measured: {name}: {why}")
    if result["plan"]["quick"]:
        print("A quick run: these figures mean nothing.")


if __name__ == "__main__":
    sys.exit(main())
