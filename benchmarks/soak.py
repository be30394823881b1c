"""The whole server for a long time under all that happens to it: does anything grow?

    .venv/bin/python benchmarks/soak.py --minutes 20          # and then 20 cycles of 2,000 connects and resets
    .venv/bin/python benchmarks/soak.py --minutes 1 --cycles 2 --each 200

The simulated AMIGA is killed and started again once a minute. Viewers stay (half WebSockets, half event streams, all
with deltas), others come and go, by close and by reset, and some stop reading. A second server reads the same AMIGA and
nobody watches it: what its memory grows by is AMIGA's new rows, which are kept for eight days and have a limit each.
Every second both tell their memory, descriptors, tasks, clients and how late their loops were. A straight line is laid
through the difference of the two in the last two thirds of the time by least squares: what rises by more than its
limit, *and* by more than twice the slope's own error, is a leak. Exit code 1 when something leaks, a log line is not
expected (also in the cycles), or one of the viewers that stay had to come back.

The line goes through the means of a twentieth of the time each, not through all samples: memory comes and goes in
steps (an allocator's arena, a full collection every few minutes), so those of one minute are nearly one observation.
Taken for sixty, they made the error a sixth of what it is: 2.75 ± 0.10 MiB/h where it was 2.74 ± 0.60.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import contextlib
import json
import os
import random
import re
import resource
import signal
import socket
import sqlite3
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # this checkout, whatever is installed

import machine
from reconnect import Crowd, Lag, Viewer, free_port, masked, settings_for

from amiga_ws import log
from amiga_ws.app import Server, tune_the_interpreter
from amiga_ws.auth.tokens import Authority
from amiga_ws.state import load_secret

TREE = Path(__file__).resolve().parent.parent
SAMPLE_S = 1.0
PROBE_S = 0.2
PARTS = 20  # of a run, each with a mean and a p99 of its own
STEADY, CHURNERS, SLOW = 60, 12, 4  # clients of each kind at a time
AMIGA_LIFE_S = 60.0
TABLES = ("tool_usage", "agent_status")
ROW_BYTES = 200  # what a row of AMIGA's may take of our memory, with its task; 182 in 85 minutes
LEAK_MIB_PER_H = 1.0
DRIFT = 0.1  # of the p99 at the begin
AGAIN = 1.05  # what the last cycle may use of what the fifth one did
# What a server under such clients may say; anything else is unexpected.
EXPECTED = re.compile(
    r"^INFO .*(clos|cutt)ing \w+ of |^INFO .* read(ing)? AMIGA's history|^INFO .*SQLite is "
    r"|^INFO .* source \w+ is (read|missing): "
)
Samples = list[tuple[float, dict[str, Any]]]  # (monotonic, what a server's process told)
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close sends RST


# -- the server ----------------------------------------------------------------------------------


async def serve(folder: Path, port: int, amiga: Path) -> None:
    """A server until SIGTERM that writes one JSON line a second."""
    settings = settings_for(folder, port, amiga)
    log.configure("info")
    server, stopping = Server(settings), asyncio.Event()
    await server.start()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    tune_the_interpreter()
    lag = Lag()
    print("listening", flush=True)
    while not stopping.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), SAMPLE_S)
        told = {"rss_mib": machine.rss_bytes(os.getpid()) / 2**20, "fds": machine.descriptors(os.getpid())}
        told |= {"tasks": len(asyncio.all_tasks()), "clients": len(server.hub.clients)}
        print(json.dumps(told | lag.told()), flush=True)
    await server.stop()


# -- those who use it ----------------------------------------------------------------------------


@dataclass
class Seen:
    """What the viewers that stay noticed."""

    delays: list[tuple[float, float]] = field(
        default_factory=list
    )  # (when, ms from a question to its answer)
    lost: int = 0


class Steady(Viewer):
    """Stays: whoever has to come a second time was lost."""

    seen: Seen
    visits = 0

    async def _visit(self) -> None:
        self.visits += 1
        self.seen.lost += self.visits > 1
        await super()._visit()

    def _take(self, event: str, data: dict) -> None:
        super()._take(event, data)
        if event == "interval_updated":
            now = time.monotonic()
            self.seen.delays.append((now, (now - self.asked) * 1000))

    async def ask(self) -> None:
        """Five times a second, until cancelled: how long does an answer take?"""
        while True:
            await asyncio.sleep(PROBE_S)
            if self.counted:
                self.asked = time.monotonic()
                self.writer.write(masked(b'{"event":"set_interval","data":{"interval":1}}'))


async def churn(crowd: Crowd, tokens: list[str]) -> None:
    """Comes, looks for a moment, and leaves: by the door or by the window."""
    while True:
        viewer = Viewer(crowd, random.choice(tokens), sse=bool(random.getrandbits(1)))
        with contextlib.suppress(OSError, EOFError, asyncio.IncompleteReadError, TimeoutError):
            await asyncio.wait_for(viewer._visit(), random.uniform(0.2, 3))
        await asyncio.sleep(random.uniform(0, 0.5))


async def stop_reading(crowd: Crowd, tokens: list[str]) -> None:
    """Subscribes with the smallest of buffers and reads nothing more, until it is cut off; or resets."""
    loop = asyncio.get_running_loop()
    while True:
        with socket.socket() as peer:
            peer.setblocking(False)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            with contextlib.suppress(OSError, TimeoutError):
                await loop.sock_connect(peer, ("127.0.0.1", crowd.port))
                viewer = Viewer(crowd, random.choice(tokens), sse=True)
                await loop.sock_sendall(peer, viewer._request().replace(b"delta=true", b"interval=1"))
                await asyncio.sleep(random.uniform(5, 40))
                if random.getrandbits(1):
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


async def play_amiga(root: Path) -> None:
    """An AMIGA that is killed once a minute."""
    command = [sys.executable, "-m", "amiga_ws", "simulate", str(root), "--speed", "4", "--backfill", "2"]
    while True:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=TREE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            await asyncio.sleep(AMIGA_LIFE_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def rows_of(root: Path) -> int:
    """How many rows AMIGA has that are kept in memory."""
    file = root / "data" / "agentlab.db"
    if not file.exists():
        return 0
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        return sum(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES)  # noqa: S608 - ours


async def one_cycle(crowd: Crowd, tokens: list[str], each: int) -> None:
    """`each` connections that all have their state, reset at once."""
    peers: list[asyncio.StreamWriter] = []

    async def come(number: int) -> None:
        viewer = Viewer(crowd, tokens[number % len(tokens)], sse=number % 2 == 1)
        reader, writer = await asyncio.open_connection("127.0.0.1", crowd.port)
        peers.append(writer)
        writer.write(viewer._request())
        await reader.readuntil(b'"connected"')

    for start in range(0, each, 100):
        await asyncio.gather(*(come(number) for number in range(start, min(start + 100, each))))
    for writer in peers:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()


# -- judging -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A straight line laid through points by least squares."""

    start: float
    slope: float  # per second
    error: float  # of the slope

    @classmethod
    def through(cls, points: list[tuple[float, float]]) -> Line:
        """Raises statistics.StatisticsError for fewer than three points."""
        if len(points) < 3:  # noqa: PLR2004 - two have no error
            raise statistics.StatisticsError("too few points")
        x, y = [at for at, _ in points], [value for _, value in points]
        slope, intercept = statistics.linear_regression(x, y)
        left = sum((value - intercept - slope * at) ** 2 for at, value in points)
        mean = statistics.fmean(x)
        spread = sum((at - mean) ** 2 for at in x)
        return cls(intercept + slope * x[0], slope, (left / (len(x) - 2) / spread) ** 0.5)

    def rises(self, more_than: float) -> bool:
        """Whether the slope is above a limit, and that beyond its error."""
        return self.slope - 2 * self.error > more_than


def judge(samples: Samples, unwatched: Samples, seen: Seen, rows: int) -> dict[str, Any]:
    """Figures, and under `wrong` what is not as promised."""
    began, ended = samples[0][0], samples[-1][0]
    part_s = (ended - began) / PARTS
    told: dict[str, Any] = {"minutes": round((ended - began) / 60, 1), "wrong": []}
    for name, limit in (("rss_mib", LEAK_MIB_PER_H), ("fds", 2.0), ("tasks", 2.0)):
        beside = Line.through(means(late([(at, sample[name]) for at, sample in unwatched]), part_s))
        line = Line.through(means(late(apart(samples, unwatched, name)), part_s))
        told[name] = {
            "at_end": round(samples[-1][1][name], 1),
            "unwatched_per_hour": round(beside.slope * 3600, 2),
            "unwatched_error": round(beside.error * 3600, 2),
            "more_with_clients_per_hour": round(line.slope * 3600, 2),
            "error": round(line.error * 3600, 2),
        }
        if line.rises(limit / 3600):
            told["wrong"].append(f"{name} rises")
    told["cpu_lag_ms_max"] = max(sample["cpu_lag_ms"] for _, sample in samples)
    told["delay_ms"] = drift(seen, began, part_s, told["wrong"])
    told["rows_per_hour"] = round(rows / (ended - began) * 3600)
    beside = told["rss_mib"]["unwatched_per_hour"] - 2 * told["rss_mib"]["unwatched_error"]
    if beside > LEAK_MIB_PER_H + told["rows_per_hour"] * ROW_BYTES / 2**20:
        told["wrong"].append("memory for AMIGA's rows rises")
    told["lost_viewers"] = seen.lost
    if seen.lost:
        told["wrong"].append(f"steady viewers had to come back {seen.lost} times")
    return told


def judge_log(lines: Counter[str], wrong: list[str]) -> dict[str, Any]:
    """How much was logged, and what should not have been."""
    unexpected = {line: number for line, number in lines.items() if not EXPECTED.search(line)}
    wrong += [f"unexpected: {line}" for line in list(unexpected)[:3]]
    return {"all": lines.total(), "unexpected": dict(list(unexpected.items())[:10])}


def apart(samples: Samples, unwatched: Samples, name: str) -> list[tuple[float, float]]:
    """By how much the watched server has more, at each of its samples that has one of the other beside it."""
    other = [at for at, _ in unwatched]
    pairs = ((at, sample, bisect.bisect(other, at) - 1) for at, sample in samples)
    return [(at, sample[name] - unwatched[place][1][name]) for at, sample, place in pairs if place >= 0]


def late(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The last two thirds of the time."""
    since = points[0][0] + (points[-1][0] - points[0][0]) / 3
    return [point for point in points if point[0] >= since]


def means(points: list[tuple[float, float]], part_s: float) -> list[tuple[float, float]]:
    """One point for each part of the time: the mean of those in it."""
    parts: dict[int, list[tuple[float, float]]] = {}
    for at, value in points:
        parts.setdefault(int((at - points[0][0]) // part_s), []).append((at, value))
    return [
        (statistics.fmean(at for at, _ in each), statistics.fmean(value for _, value in each))
        for each in parts.values()
    ]


def drift(seen: Seen, began: float, part_s: float, wrong: list[str]) -> dict[str, float]:
    """The p99 of each part of the run, and what the line through them rises by in all."""
    parts: dict[int, list[float]] = {}
    for at, ms in seen.delays:
        parts.setdefault(int((at - began) // part_s), []).append(ms)
    worst = [
        (float(part), statistics.quantiles(all_, n=100)[98]) for part, all_ in sorted(parts.items())[1:-1]
    ]
    line = Line.through(worst)
    length = worst[-1][0] - worst[0][0]
    if line.rises(DRIFT * line.start / max(length, 1)):
        wrong.append("p99 drifts")
    return {
        "p50": round(statistics.median(ms for _, ms in seen.delays), 1),
        "p99": round(statistics.median(ms for _, ms in worst), 1),
        "p99_drift": round(line.slope * length / max(line.start, 0.1), 2),
        "p99_drift_error": round(line.error * length / max(line.start, 0.1), 2),
    }


# -- the run -------------------------------------------------------------------------------------


class ServerProcess:
    """`serve` in a process of its own; its lines are collected while the block lasts."""

    def __init__(self, folder: Path, port: int, amiga: Path) -> None:
        self._command = [sys.executable, __file__, "--serve", str(folder), str(port), str(amiga)]
        self._errors = folder / "stderr"
        self.samples: Samples = []
        self._empty: asyncio.Future[dict[str, Any]] | None = None  # somebody waits for it

    async def __aenter__(self) -> ServerProcess:
        with self._errors.open("wb") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdout=asyncio.subprocess.PIPE, stderr=errors
            )
        if await self._process.stdout.readline() != b"listening\n":
            raise RuntimeError(f"the server did not start: {self._errors.read_text()}")
        self._collecting = asyncio.create_task(self._collect())
        return self

    async def _collect(self) -> None:
        async for line in self._process.stdout:
            sample = json.loads(line)
            self.samples.append((time.monotonic(), sample))
            if sample["clients"] == 0 and self._empty and not self._empty.done():
                self._empty.set_result(sample)

    async def __aexit__(self, *_: object) -> None:
        self._process.terminate()
        await asyncio.wait_for(self._collecting, 30)
        await self._process.wait()

    async def empty(self) -> dict[str, Any]:
        """The first sample without clients."""
        self._empty = asyncio.get_running_loop().create_future()
        return await self._empty

    def lines(self) -> Counter[str]:
        """What it logged, numbers and names taken out, and how often."""
        text = self._errors.read_text(errors="replace")
        return Counter(re.sub(r"\d+", "0", line[24:]) for line in text.splitlines())


async def run(folder: Path, minutes: float, cycles: int, each: int) -> dict[str, Any]:
    port, amiga = free_port(), folder / "amiga"
    settings = settings_for(folder, port)
    authority = Authority(load_secret(settings.state_dir), settings.auth)
    tokens = [
        authority.issue(subject=f"viewer{n}", scope="metrics:read", ttl_s=86_400, now=time.time())
        for n in range(100)
    ]
    seen, crowd = Seen(), Crowd(port)
    beside = folder / "unwatched"
    beside.mkdir()
    async with (
        ServerProcess(folder, port, amiga) as server,
        ServerProcess(beside, free_port(), amiga) as unwatched,
    ):
        tasks = [asyncio.create_task(play_amiga(amiga))]
        viewers = [Steady(crowd, tokens[n % len(tokens)], sse=n % 2 == 1) for n in range(STEADY)]
        for viewer in viewers:
            viewer.seen = seen
        tasks += [asyncio.create_task(viewer.run()) for viewer in viewers]
        tasks.append(asyncio.create_task(viewers[0].ask()))
        tasks += [asyncio.create_task(churn(crowd, tokens)) for _ in range(CHURNERS)]
        tasks += [asyncio.create_task(stop_reading(crowd, tokens)) for _ in range(SLOW)]
        rows_before = rows_of(amiga)
        ends = time.monotonic() + minutes * 60
        while (left := ends - time.monotonic()) > 0:
            await asyncio.sleep(min(left, 30))
            latest = server.samples[-1][1]
            print(f"soak: {left / 60:.1f} min left, {latest}", file=sys.stderr, flush=True)
        for task in tasks:
            task.cancel()
        ends_with = await asyncio.gather(*tasks, return_exceptions=True)
        broken = [repr(end) for end in ends_with if not isinstance(end, asyncio.CancelledError)]
        told = judge(list(server.samples), list(unwatched.samples), seen, rows_of(amiga) - rows_before)
        told["wrong"] += broken
        baseline = await server.empty()
        rounds = []
        for number in range(cycles):
            await one_cycle(crowd, tokens, each)
            rounds.append(await server.empty())
            print(f"soak: cycle {number + 1} of {cycles}: {rounds[-1]}", file=sys.stderr, flush=True)
    told["log_lines"] = judge_log(server.lines(), told["wrong"])
    if rounds:
        told["cycles"] = back_at(baseline, rounds, each, told["wrong"])
    return told


def back_at(
    baseline: dict[str, Any], rounds: list[dict[str, Any]], each: int, wrong: list[str]
) -> dict[str, Any]:
    """Whether the last round left what there was before the first (memory: what the fifth one left)."""
    last, settled = rounds[-1], rounds[min(4, len(rounds) - 1)]
    wrong += [
        f"{name}: {baseline[name]} before the cycles, {last[name]} after"
        for name in ("fds", "tasks")
        if last[name] > baseline[name]
    ]
    if last["rss_mib"] > AGAIN * settled["rss_mib"]:
        wrong.append("memory grows from cycle to cycle")
    return {
        "number": len(rounds),
        "each": each,
        "rss_mib": [round(each_["rss_mib"], 1) for each_ in (baseline, settled, last)],
        "fds": [baseline["fds"], last["fds"]],
        "tasks": [baseline["tasks"], last["tasks"]],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--cycles", type=int, default=20, help="of connects and resets, after the soak")
    parser.add_argument("--each", type=int, default=2000, help="connections in a cycle")
    parser.add_argument("--json", help="write the result there too")
    parser.add_argument("--serve", nargs=3, metavar=("FOLDER", "PORT", "AMIGA"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if args.serve:
        folder, port, amiga = args.serve
        asyncio.run(serve(Path(folder), int(port), Path(amiga)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        told = asyncio.run(run(Path(folder), args.minutes, args.cycles, args.each))
    text = json.dumps(told, indent=1)
    if args.json:
        Path(args.json).write_text(text + "\n")
    print(text)
    return 1 if told["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
