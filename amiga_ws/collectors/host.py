"""The host, read with psutil: `overview.system` but for AMIGA's own processes.

Every value is quantised as soon as it is read, so that two readings of a quiet host compare equal and a
tick that shows nothing new sends nothing. What a platform does not tell is None, never 0.
"""

from __future__ import annotations

import logging
import math
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil

from amiga_ws.snapshot import (
    Disk,
    DiskIo,
    HostFacts,
    Memory,
    MonitorProcess,
    Network,
    Processes,
    Source,
    System,
    shown_path,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

MIB = 1 << 20
LOOPBACK = re.compile(r"lo\d*|Loopback.*")
MAX_DISKS = 12  # a container host can show hundreds of bind mounts
DISKS_EVERY_S = 10.0  # a statvfs may hang on a dead network mount; disks fill slowly
# What a rate and our own CPU are the mean of, and how often memory is read: second by second they flicker, and each
# flicker is news for all.
CALM_S = 5.0
FIRST_SPAN_S = 0.2  # enough for the first one, and for CPU; over less it would be noise
PSEUDO = frozenset({"squashfs", "overlay", "tmpfs", "devtmpfs", "ramfs", "iso9660", "nsfs", "fuse.snapfuse"})


def two_digits(value: float) -> float:
    """`value` rounded to two significant digits: 12_345.0 -> 12_000.0."""
    if value <= 0:
        return 0.0
    return float(round(value, 1 - math.floor(math.log10(value))))


def told_percent(told: float | None, read: float) -> float:
    """`read` percent in whole points, or what was `told` before while that is no more than one point off.

    An idle core is at 0, then at 1, then at 0 again: each would be news for all.
    """
    return told if told is not None and abs(read - told) <= 1 else float(round(read))


def used_share(total: int, used: int) -> tuple[int, float]:
    """(`used` bytes in steps of 0.1 % of `total`, the same in percent)."""
    per_mille = round(used * 1000 / total) if total > 0 else 0
    return per_mille * total // 1000, per_mille / 10


class _Rates:
    """Two byte counters turned into bytes per second between readings."""

    def __init__(self) -> None:
        self._last: tuple[float, int, int] | None = None  # monotonic time and counters of the last reading
        self._rates: tuple[float | None, float | None] = (None, None)
        self._known = False  # whether there has been a rate

    def update(self, now: float, first: int, second: int) -> tuple[float | None, float | None]:
        if self._last is not None:
            span = now - self._last[0]
            if span < (CALM_S if self._known else FIRST_SPAN_S):
                return self._rates
            self._known = True
            grown = (first - self._last[1], second - self._last[2])
            # A counter that went back was reset (interface gone, 32-bit wrap): no rate for this span.
            self._rates = (
                two_digits(grown[0] / span) if grown[0] >= 0 else None,
                two_digits(grown[1] / span) if grown[1] >= 0 else None,
            )
        self._last = (now, first, second)
        return self._rates


def _traffic() -> tuple[int, int] | None:
    """Bytes received and sent so far, but over the loopback: that is no network, and we are busy there ourselves."""
    counters = psutil.net_io_counters(pernic=True)
    real = [counter for name, counter in counters.items() if not LOOPBACK.fullmatch(name)]
    if not real:
        return None
    return sum(counter.bytes_recv for counter in real), sum(counter.bytes_sent for counter in real)


def _prime() -> None:
    """psutil's first answers in a thread are 0 and mean nothing: have them, and wait for what they grow to."""
    psutil.cpu_percent(interval=None)
    psutil.cpu_percent(interval=None, percpu=True)
    time.sleep(FIRST_SPAN_S)


class HostCollector:
    """Reads CPU, memory, disks, network and this process.

    `disks` are the mount points to show; empty means every mounted file system of a real device, at most
    12. `clock` gives wall time (epoch seconds) for `as_of`; rates use the monotonic clock.
    """

    name = "host"
    source_names: tuple[str, ...] = ("host",)

    def __init__(self, disks: tuple[str, ...] = (), clock: Callable[[], float] = time.time) -> None:
        self._mounts = disks
        self._clock = clock
        self._process: psutil.Process | None = None
        self._disks: list[Disk] = []
        self._disks_read = -math.inf  # monotonic
        self._calm: tuple[Memory, Memory, MonitorProcess | None] = (Memory(), Memory(), None)
        self._calm_read = -math.inf  # monotonic
        self._cpu_read = -math.inf  # monotonic
        self._cpu: float | None = None
        self._per_cpu: list[float] = []
        self._network = _Rates()
        self._disk_io = _Rates()
        self._primed = False  # psutil has something to compare its first answer with
        self._silent: set[str] = set()  # readings that failed once and were logged

    def collect(self, windows: frozenset[int]) -> HostFacts:
        """One reading; `windows` do not matter. See the Collector protocol."""
        del windows
        now = time.monotonic()
        self._read_cpu()
        net = self._try("network", _traffic)
        # psutil leaves out the functions that a system has not: they are looked up within.
        disk_io = self._try("disk_io", lambda: psutil.disk_io_counters())  # noqa: PLW0108 - may be missing
        rates = self._network.update(now, *net) if net else (None, None)
        io = self._disk_io.update(now, disk_io.read_bytes, disk_io.write_bytes) if disk_io else (None, None)
        memory, swap, monitor = self._read_calm(now)
        system = System(
            cpu_percent=self._cpu,
            per_cpu=self._per_cpu,
            load=self._try("load", lambda: [round(one, 1) for one in psutil.getloadavg()]),
            memory=memory,
            swap=swap,
            disks=self._read_disks(now),
            network=Network(rx_bytes_s=rates[0], tx_bytes_s=rates[1]),
            disk_io=DiskIo(read_bytes_s=io[0], write_bytes_s=io[1]),
            # Linux derives it from the clock: whole seconds still flicker when NTP slews, minutes do not.
            boot_time=self._try("boot", lambda: float(round(psutil.boot_time() / 60) * 60)),
            processes=Processes(monitor=monitor),
        )
        return HostFacts(sources={"host": Source(state="ok", as_of=self._clock())}, system=system)

    def close(self) -> None:
        """Nothing is held open."""

    def _try(self, what: str, read: Callable[[], T]) -> T | None:
        """`read()`, or None where this platform or its permissions do not allow it."""
        try:
            return read()
        except (psutil.Error, OSError, RuntimeError, NotImplementedError, AttributeError) as error:
            if what not in self._silent:
                self._silent.add(what)
                logger.warning("host: %s cannot be read here: %r", what, error)
            return None

    def _read_cpu(self) -> None:
        if not self._primed:
            self._primed = True
            self._try("cpu", _prime)
        elif time.monotonic() - self._cpu_read < FIRST_SPAN_S:
            return
        self._cpu_read = time.monotonic()
        cpu = self._try("cpu", lambda: psutil.cpu_percent(interval=None))
        per_cpu = self._try("cpu", lambda: psutil.cpu_percent(interval=None, percpu=True))
        self._cpu = None if cpu is None else told_percent(self._cpu, cpu)
        self._per_cpu = list(map(told_percent, (*self._per_cpu, *[None] * len(per_cpu or ())), per_cpu or ()))

    def _read_calm(self, now: float) -> tuple[Memory, Memory, MonitorProcess | None]:
        """Memory, swap and our own process."""
        if now - self._calm_read >= CALM_S:
            self._calm_read = now
            self._calm = (self._memory(), self._swap(), self._try("self", self._monitor))
        return self._calm

    def _memory(self) -> Memory:
        reading = self._try("memory", lambda: psutil.virtual_memory())  # noqa: PLW0108 - may be missing
        if reading is None:
            return Memory()
        # "used" as total - available: what psutil's own percent means.
        used, percent = used_share(reading.total, reading.total - reading.available)
        return Memory(total=reading.total, used=used, percent=percent)

    def _swap(self) -> Memory:
        reading = self._try("swap", lambda: psutil.swap_memory())  # noqa: PLW0108 - may be missing
        if reading is None:
            return Memory()
        used, percent = used_share(reading.total, reading.used)
        return Memory(total=reading.total, used=used, percent=percent)

    def _read_disks(self, now: float) -> list[Disk]:
        if now - self._disks_read >= DISKS_EVERY_S:
            self._disks_read = now
            self._disks = [disk for mount in self._mount_points() if (disk := self._disk(mount)) is not None]
        return self._disks

    def _mount_points(self) -> list[str]:
        if self._mounts:
            return list(self._mounts)[:MAX_DISKS]
        parts = self._try("disks", lambda: psutil.disk_partitions(all=False)) or []
        by_device: dict[str, str] = {}
        for part in parts:
            # One device bound to many places is one disk; a file mounted over a file is no place to look, nor is what
            # we may not enter: another user's stick, a share that is gone.
            if part.fstype not in PSEUDO and self._try(
                f"disk {part.mountpoint}", Path(part.mountpoint).is_dir
            ):
                known = by_device.setdefault(part.device, part.mountpoint)
                if len(part.mountpoint) < len(known):
                    by_device[part.device] = part.mountpoint
        return sorted(by_device.values())[:MAX_DISKS] or ["/"]

    def _disk(self, mount: str) -> Disk | None:
        usage = self._try(f"disk {mount}", lambda: psutil.disk_usage(mount))
        if usage is None:
            return None
        # As df: reserved blocks are not ours, so percent is of what could be used.
        reachable = usage.used + usage.free
        per_mille = round(usage.used * 1000 / reachable) if reachable else 0
        return Disk(
            mount=shown_path(mount),
            total=usage.total,
            used=used_share(usage.total, usage.used)[0],
            percent=per_mille / 10,
        )

    def _monitor(self) -> MonitorProcess:
        if self._process is None:
            self._process = psutil.Process(os.getpid())
        with self._process.oneshot():
            return MonitorProcess(
                pid=self._process.pid,
                rss=self._process.memory_info().rss // MIB * MIB,
                cpu_percent=float(round(self._process.cpu_percent(interval=None))),
            )
