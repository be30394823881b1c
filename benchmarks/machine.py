"""The machine: which core runs what, what a process has used, and how quiet it was meanwhile."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

WANTED_FILES = 20_000
CALM_LOOK_S, CALM_SHARE = 0.5, 0.1
SPIN = 200_000
CPU_CLOCK = 2  # CPUCLOCK_SCHED of linux/posix-timers.h: nanoseconds, all threads of a process


@cache
def cores() -> tuple[int, int]:
    """The core of the servers and the core of the load (one and the same where there is only one).

    Asked once: the benchmark binds itself to the second of them.
    """
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Run, and start processes, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raise_file_limit() -> int:
    """As many files as allowed, up to what the largest cell needs; children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, WANTED_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft


def cpu_s(pid: int) -> float:
    """CPU seconds a process has used, all threads, user and system."""
    return time.clock_gettime((~pid << 3) | CPU_CLOCK)


def rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def descriptors(pid: int) -> int:
    """Open files of a process."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


@dataclass(frozen=True)
class CoreTimes:
    """Seconds of one core since boot."""

    busy: float
    steal: float
    at: float


def core_times(core: int) -> CoreTimes:
    """What /proc/stat says of a core, in steps of 10 ms."""
    tick = os.sysconf("SC_CLK_TCK")
    for line in Path("/proc/stat").read_text().splitlines():
        name, *numbers = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = (int(n) / tick for n in numbers[:8])
            return CoreTimes(user + nice + system + irq + softirq, steal, time.monotonic())
    raise LookupError(f"no core {core}")


@dataclass(frozen=True)
class Noise:
    """Shares (0-1) of the time of a measurement."""

    foreign: float  # the server's core was busy for somebody else
    steal: float  # the hypervisor had the core
    load_busy: float  # the load generator used of its core


def noise_between(before: CoreTimes, after: CoreTimes, server_cpu_s: float, load_cpu_s: float) -> Noise:
    """What disturbed the server's core, and how near to its end the load generator was."""
    wall = max(after.at - before.at, 1e-9)
    foreign = max(0.0, after.busy - before.busy - server_cpu_s) / wall
    return Noise(
        round(foreign, 3), round((after.steal - before.steal) / wall, 3), round(load_cpu_s / wall, 3)
    )


def wait_for_calm(most_s: float) -> None:
    """Wait until both cores have been nearly idle for a moment, or so long."""
    until = time.monotonic() + most_s
    while time.monotonic() < until:
        before = [core_times(core) for core in cores()]
        time.sleep(CALM_LOOK_S)
        after = [core_times(core) for core in cores()]
        if all(b.busy - a.busy <= CALM_SHARE * (b.at - a.at) for a, b in zip(before, after, strict=True)):
            return


def spin_ms(core: int) -> float:
    """How long the core takes for a fixed piece of work: the best of three."""
    best = float("inf")
    with on_core(core):
        for _ in range(3):
            begun = time.perf_counter()
            total = 0
            for number in range(SPIN):
                total += number
            best = min(best, time.perf_counter() - begun)
    return round(best * 1000, 3)
