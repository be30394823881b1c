"""Our own server as the benchmark drives it: `ours.py START BYTES [--profile] [key=value ...]`.

It is the real `Server` with its guard, tokens and limits; only the collectors are synthetic, and beside the
server's own tick of a second there is a second broadcaster that ticks at each `t` on stdin, with new facts;
between two `b`, every other tick is a bare send loop instead.
All else (pings, heartbeats, limits) goes by the real clock. Words on stdin and stdout are those of
peers/common.py.
"""

from __future__ import annotations

import asyncio
import cProfile
import io
import itertools
import json
import mmap
import os
import pstats
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from synthetic import Changing, SyntheticAmiga, SyntheticHost

from amiga_ws import log
from amiga_ws.app import Server
from amiga_ws.broadcaster import Broadcaster
from amiga_ws.client import Clock
from amiga_ws.config import load
from amiga_ws.hub import Hub
from amiga_ws.window import State, Window

STDIN = 0
PROBE_S = 0.001
READINGS = 400
TOP = 25  # lines of a profile


class Driven(Server):
    """A server whose facts and seconds we hold in our hands."""

    def __init__(self, overrides: list[str], source: Changing) -> None:
        self.source = source
        self.second = 0.0
        # Made beforehand: inventing facts is no work of the server's.
        self._readings = itertools.cycle([source.step() for _ in range(READINGS)])
        settings = load(None, overrides, {}, Path(tempfile.gettempdir()))
        log.configure(settings.log.level)
        super().__init__(settings)

    def collectors(self) -> tuple[SyntheticHost, SyntheticAmiga]:
        return SyntheticHost(self.source), SyntheticAmiga(self.source)

    async def start(self) -> None:
        await super().start()
        self.driven = Broadcaster(self.facts, self.hub, Clock(lambda: self.second, time.time))

    async def step(self) -> None:
        """A second later for those who are due, with new facts."""
        # Given at once: the collectors' threads are asked once in 0.9 s of real time, ticks come faster.
        self.source.host, self.source.amiga = self.facts.host.facts, self.facts.amiga.facts = next(
            self._readings
        )
        self.second += 1.0
        await self.driven.tick()


class Stopwatch:
    """Loop-thread CPU spent in `Hub.publish` but for composing and encoding: the fan-out."""

    def __init__(self) -> None:
        self.spent_ns = self.ticks = 0

    def install(self) -> None:
        """Wrap the public methods, for one pair of clock readings a tick each."""
        publish, advance = Hub.publish, Hub.advance

        async def timed_publish(hub: Hub, due: list[tuple[int, int]]) -> None:
            begun = time.thread_time_ns()
            await publish(hub, due)
            self.spent_ns += time.thread_time_ns() - begun
            self.ticks += 1

        def timed_advance(hub: Hub, window: Window) -> State:
            begun = time.thread_time_ns()
            state = advance(hub, window)
            self.spent_ns -= time.thread_time_ns() - begun
            return state

        Hub.publish, Hub.advance = timed_publish, timed_advance


class BareTicks:
    """Every second tick is a bare loop of `socket.send` over the same sockets: what others do to the machine
    meanwhile is done to both. CPU of the loop's thread.
    """

    def __init__(self, server: Driven) -> None:
        self._server = server
        self._sends: list[Callable[[bytes], int]] = []
        self._spent_ns = {"own": 0, "bare": 0}
        self._next = "own"
        self._before = b""  # a frame of ours that is not the last one

    async def tick(self) -> None:
        """One of ours, then one bare, and so on."""
        begun = time.thread_time_ns()
        if self._next == "own":
            self._before = self._frame()
            await self._server.step()
        else:
            self._send_to_all()
        self._spent_ns[self._next] += time.thread_time_ns() - begun
        self._next = "bare" if self._next == "own" else "own"

    def _frame(self) -> bytes:
        client = next(iter(self._server.hub.clients.values()))
        return client.transport.frame(client.window.newest.message)

    def _send_to_all(self) -> None:
        clients = self._server.hub.clients.values()
        self._sends = self._sends or [client.transport.stream.socket.send for client in clients]
        # Of another length than the frame before: where two segments are of one length Linux acknowledges the second
        # late, and the next tick, which would be ours, would have that to do.
        frame = self._before
        for send in self._sends:
            if send(frame) != len(frame):
                raise RuntimeError("a socket buffer was full: a bare loop has no answer to that")

    def ratio(self) -> float | None:
        """Ours to bare; None before both have been."""
        return self._spent_ns["own"] / self._spent_ns["bare"] if self._spent_ns["bare"] else None


class Probe:
    """How long the loop left others waiting: a callback that wants to run every millisecond.

    `worst_s` is how late it came, which counts what other processes took of the core; `worst_cpu_s` is the
    loop's own CPU between two of them.
    """

    def __init__(self) -> None:
        self.worst_s = self.worst_cpu_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._wanted = self._cpu = 0.0

    def toggle(self) -> None:
        """Start or stop."""
        if self._timer is None:
            self._cpu = time.thread_time()
            self._arm()
        else:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        loop = asyncio.get_running_loop()
        self._wanted = loop.time() + PROBE_S
        self._timer = loop.call_at(self._wanted, self._fire)

    def _fire(self) -> None:
        cpu, before = time.thread_time(), self._cpu
        self._cpu = cpu
        self.worst_cpu_s = max(self.worst_cpu_s, cpu - before)
        self.worst_s = max(self.worst_s, asyncio.get_running_loop().time() - self._wanted)
        self._arm()


class Profiles:
    """What connecting costs, up to the first tick, and what ticks cost, from `m` on. Off unless asked for."""

    def __init__(self, *, wanted: bool) -> None:
        self._found = {"connecting": cProfile.Profile(), "ticks": cProfile.Profile()} if wanted else {}

    def go(self, phase: str) -> None:
        """Profile this phase and no other (`none`: stop)."""
        for profile in self._found.values():
            profile.disable()
        if phase in self._found:
            self._found[phase].enable()

    def text(self) -> str | None:
        """Of each, the dearest functions: by themselves, then with all they call."""
        parts = []
        for phase, profile in self._found.items():
            text = io.StringIO()
            stats = pstats.Stats(profile, stream=text).strip_dirs()
            stats.sort_stats("tottime").print_stats(TOP).sort_stats("cumulative").print_stats(2 * TOP)
            parts.append(f"{phase}\n{text.getvalue()}")
        return "".join(parts) or None


async def serve(start: Path, server: Driven, profiles: Profiles) -> None:
    """Until `q`."""
    with start.open("r+b") as file:
        begin = mmap.mmap(file.fileno(), 8)
    watch, probe = Stopwatch(), Probe()
    watch.install()
    await server.start()
    bare, compare = BareTicks(server), False
    print("listening", server.url.rpartition(":")[2], flush=True)
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    tasks: set[asyncio.Task[None]] = set()

    async def tick() -> None:
        struct.pack_into("=Q", begin, 0, time.monotonic_ns())
        await (bare.tick() if compare else server.step())

    def read() -> None:
        nonlocal compare
        for word in os.read(STDIN, 64).decode() or "q":
            if word == "t":
                if not server.second:
                    profiles.go("none")
                task = asyncio.create_task(tick())
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            elif word == "m":
                watch.spent_ns = watch.ticks = 0
                profiles.go("ticks")
            elif word == "b":
                compare = not compare
            elif word == "p":
                profiles.go("none")
                probe.toggle()
            elif not ended.done():
                ended.set_result(None)

    loop.add_reader(STDIN, read)
    profiles.go("connecting")
    await ended
    measured: dict[str, object] = {
        "fanout_us_per_tick": watch.spent_ns / 1000 / max(watch.ticks, 1),
        "stall_ms": probe.worst_s * 1000,
        "stall_cpu_ms": probe.worst_cpu_s * 1000,
    }
    if ratio := bare.ratio():
        measured["times_bare"] = ratio
    if text := profiles.text():
        measured["profile"] = text
    print(json.dumps(measured), flush=True)
    os._exit(0)  # thousands of orderly closes are not what is measured


def main() -> None:
    """See the module's text."""
    start, wanted, *options = sys.argv[1:]
    overrides = [option for option in options if option != "--profile"]
    server = Driven(overrides, Changing(int(wanted)))
    asyncio.run(serve(Path(start), server, Profiles(wanted="--profile" in options)))


if __name__ == "__main__":
    main()
