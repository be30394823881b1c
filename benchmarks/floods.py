#!/usr/bin/env python3
"""What a peer can make the server do: floods against it as it is shipped, one after another.

    .venv/bin/python benchmarks/floods.py                      # 12 s for each
    .venv/bin/python benchmarks/floods.py --only ping --seconds 5
    .venv/bin/python benchmarks/floods.py --rounds 5           # quiet and flood by turns, five times each

Each flood comes from a few attackers with a good token, who come back as soon as they are let in. Beside them 99 honest
viewers take an update a second of an installation of AMIGA (load.c). Eight more, from the attackers' address, ping 80
times a second in all and tell how long the answers took. The server (timed.py) tells what it used of the processor from
when an update was due until all viewers had it ("p50 ms", "p99 ms"; measured by a fixed piece of work after each, for
machines change their pace), and how long its loop was busy at a time; from that comes how long at most 99 % of all who
come at any moment wait for it ("p99 wait"). There is no time in these in which others had the core, as there is in the
times of the pings. Before each flood comes a quiet time of the same length, so that every figure stands beside its own.
Several rounds take both by turns and count them together: what the machine does meanwhile is in both ("p99 x": that of
updates in floods to that of quiet times). A flood has a few dozen updates, so its p99 is its slowest; the last line is
of all floods together, and "nothing" is no flood: what it seems to cost is the error of each of the others.

The server has one core, all others share another, which is never idle: two cores may be one that takes turns. Attackers
run where nobody else wants to, or the viewers' times would be those of their own core. 127.0.0.1 only.

It ends with 1 where a flood takes more than BOUNDS allow, of what the machine's noise does not touch.

A new flood is a function with `@flood(...)` here: a coroutine that attacks once and returns, given where and as whom.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import ssl
import statistics
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # this checkout, whatever is installed

import machine
import toolbox
from cells import OURS, Cell
from children import START_S, Child, FailedError
from measure import Audience, load_command, request, subscription

from amiga_ws.auth.tokens import Authority
from amiga_ws.config import load
from amiga_ws.simulate.bulk import generate
from amiga_ws.state import load_secret

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".bench"
ATTACKERS = 4
AT_ONCE = 500  # frames in one write
WATCHERS = 99
ROWS = 3_000  # of tools, that AMIGA has written
VIEWERS = 8
# Of each: no more than messages_per_second allows, and at no beat of its own, which would come upon the tick of each
# second in the same way again and again.
PING_EACH_S = (0.08, 0.12)
WAIT_ERROR_S = 1e-6
FIXED_MS = 0.4  # what updates are told in: the fixed piece of work of timed.py takes that, more or less
IDLE = "import os; os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nwhile True: pass"
AGAIN_S = 0.05  # before an attacker that was turned away comes back
STARTED_S = 3.0  # what a start does
SETTLE_S = 13.0  # after a flood: refusals are told 2 s late, answers that nobody takes lie for up to 12 s
MASK = b"\x0f\xf0\x55\xaa"
SETTINGS = ("server.port=0", "server.deflate=true")
QUIET = ("cpu %", "p99 wait", "ping p50", "ping p99", "RSS +MiB", "log lines", "p50 ms", "p99 ms")
COLUMNS = (*QUIET, "p99 x", "let in", "turned away", "frames")
# Of a flood: percent of a core, MiB, lines a round, and milliseconds more than before it.
BOUNDS = {"cpu %": 20.0, "RSS +MiB": 8.0, "log lines": 60.0, "p99 wait": 1.0}


@dataclass
class Target:
    """Where, as whom, and what has been done there so far."""

    port: int
    token: str
    until: float  # monotonic; when to stop
    done: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)  # close code → connections that ended with it

    def going(self) -> bool:
        """Whether there is time left."""
        return time.monotonic() < self.until


Attack = Callable[[Target], Awaitable[None]]
FLOODS: dict[str, Attack] = {}


def flood(name: str) -> Callable[[Attack], Attack]:
    """Register an attack."""

    def register(attack: Attack) -> Attack:
        FLOODS[name] = attack
        return attack

    return register


# -- WebSocket -------------------------------------------------------------------------------------


def frame(first: int, payload: bytes = b"") -> bytes:
    """A client's frame; `first` is FIN, reserved bits and opcode."""
    size = len(payload)
    head = bytes((first, 0x80 | size)) if size < 126 else bytes((first, 0xFE)) + size.to_bytes(2, "big")  # noqa: PLR2004 - RFC 6455, 5.2
    whole = (MASK * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")
    return head + MASK + masked.to_bytes(size, "big")


async def socket_to(
    port: int, token: str, tls: ssl.SSLContext | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bool]:
    """A WebSocket, and whether it was let in."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    lines = [
        f"Host: 127.0.0.1:{port}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
    ]
    lines += ["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", f"Authorization: Bearer {token}"]
    lines += ["Sec-WebSocket-Extensions: permessage-deflate"]
    writer.write("\r\n".join(["GET /ws HTTP/1.1", *lines, "", ""]).encode())
    return reader, writer, (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")


async def frames_of(reader: asyncio.StreamReader, take: Callable[[int, bytes], None]) -> None:
    """Hand on each frame (first byte, payload) until the end."""
    while True:
        first, size = await reader.readexactly(2)
        if size > 125:  # noqa: PLR2004 - RFC 6455, 5.2
            size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")  # noqa: PLR2004 - likewise
        take(first, await reader.readexactly(size))


def websocket_flood(name: str, each: bytes, before: bytes = b"", *, deaf: bool = False) -> None:
    """Register: after `before`, `each` frame as fast as it is taken; a deaf attacker reads no answers."""

    @flood(name)
    async def attack(target: Target) -> None:
        reader, writer, let_in = await socket_to(target.port, target.token)
        target.done["let in" if let_in else "turned away"] += 1
        ended = ["no close frame"]

        def take(first: int, payload: bytes) -> None:
            if first == 0x88:  # noqa: PLR2004 - close
                ended[0] = str(int.from_bytes(payload[:2], "big"))

        reading = None if deaf else asyncio.ensure_future(frames_of(reader, take))
        try:
            if not let_in:
                return
            writer.write(before)
            while target.going() and not writer.transport.is_closing():
                writer.write(each * AT_ONCE)
                await asyncio.wait_for(writer.drain(), max(0.1, target.until - time.monotonic()))
                await asyncio.sleep(0)
                target.done["frames"] += AT_ONCE
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.wait({reading})
                if not reading.cancelled():
                    reading.exception()
            writer.transport.abort()
            if let_in:
                target.codes[ended[0]] += 1


def deflated(data: bytes) -> bytes:
    """As a compressed message goes over the wire."""
    compressor = zlib.compressobj(9, wbits=-15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


NOTHING = "nothing"


@flood(NOTHING)
async def nothing(target: Target) -> None:
    await asyncio.sleep(target.until - time.monotonic())


websocket_flood("messages", frame(0x81, b'{"event":"unsubscribe"}'))
websocket_flood("messages that do not parse", frame(0x81, b"{"))
websocket_flood("deeply nested messages", frame(0x81, b'{"event":' + b"[" * 15_000))
websocket_flood("messages of 16 KiB", frame(0x81, b" " * 16_384))
websocket_flood("pings", frame(0x89))
websocket_flood("pings of 125 bytes, pongs unread", frame(0x89, b"x" * 125), deaf=True)
websocket_flood("empty messages", frame(0x81))
websocket_flood("empty fragments", frame(0x00), frame(0x01, b"{"))
websocket_flood("messages of 500 fragments", frame(0x01) + frame(0x00) * 498 + frame(0x80))
websocket_flood("malformed frames", frame(0x83))
websocket_flood("deflate bombs", frame(0xC1, deflated(bytes(12_000_000))))


# -- the honest viewers ----------------------------------------------------------------------------


class Viewer:
    """Subscribes, and pings all the time."""

    def __init__(self) -> None:
        self.waits_ms: list[float] = []
        self._sent: dict[bytes, float] = {}
        self._tasks: list[asyncio.Future[None]] = []

    async def come(self, port: int, token: str, tls: ssl.SSLContext | None) -> None:
        reader, self._writer, let_in = await socket_to(port, token, tls)
        if not let_in:
            raise FailedError("the viewer was not let in")
        self._writer.write(frame(0x81, b'{"event":"subscribe","data":{"update_interval":1}}'))
        self._tasks = [
            asyncio.ensure_future(frames_of(reader, self._take)),
            asyncio.ensure_future(self._ping()),
        ]

    def _take(self, first: int, payload: bytes) -> None:
        if first == 0x8A:  # noqa: PLR2004 - pong
            self.waits_ms.append((time.perf_counter() - self._sent.pop(payload)) * 1000)
        elif first == 0x89:  # noqa: PLR2004 - ping
            self._writer.write(frame(0x8A, payload))

    async def _ping(self) -> None:
        number = 0
        while True:
            name = b"%d" % number
            self._sent[name] = time.perf_counter()
            self._writer.write(frame(0x89, name))
            number += 1
            await asyncio.sleep(random.uniform(*PING_EACH_S))

    def leave(self) -> None:
        """Raises FailedError where the connection had ended before."""
        gone = [task for task in self._tasks if task.done()]
        for task in self._tasks:
            task.cancel()
        self._writer.close()
        if gone:
            raise FailedError(f"the viewer's connection ended: {gone[0].exception()}")


@dataclass
class Served:
    """A server on a core of its own, and its honest viewers, who have subscribed."""

    server: Child
    log: Path
    port: int
    authority: Authority
    viewers: list[Viewer]
    calm_at: float = field(default_factory=lambda: time.monotonic() + STARTED_S)  # monotonic

    def token(self, subject: str, scope: str = "metrics:read") -> str:
        """A good token."""
        return self.authority.issue(subject=subject, scope=scope, ttl_s=3600, now=time.time())


@contextlib.asynccontextmanager
async def served(
    program: list[str], amiga: Path | None = None, tls: ssl.SSLContext | None = None, more: Sequence[str] = ()
) -> AsyncIterator[Served]:
    """`program` is what Python runs as the server; without an installation of AMIGA it finds none.

    `more` are settings; with those of a certificate goes `tls`, by which viewers know it.
    Raises FailedError where it did not start, or a viewer's connection ended before this is left.
    """
    core, _ = machine.cores()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        overrides = [f"state_dir={folder / 'state'}", f"amiga.root={amiga or folder}", *SETTINGS, *more]
        words = [sys.executable, *program, "serve", *(f"--set={each}" for each in overrides)]
        server = Child(words, core, folder / "log", {"PYTHONPATH": str(ROOT)})
        try:
            port = int(server.line(START_S).rpartition(":")[2])
            settings = load(None, overrides, {}, folder)
            authority = Authority(load_secret(settings.state_dir), settings.auth)
            found = Served(server, folder / "log", port, authority, [Viewer() for _ in range(VIEWERS)])
            for viewer in found.viewers:
                await viewer.come(port, found.token("viewer"), tls)
                await asyncio.sleep(0.01)  # one after another
            yield found
            for viewer in found.viewers:
                viewer.leave()
        finally:
            server.end()


# -- measuring -------------------------------------------------------------------------------------


async def attackers(name: str, target: Target) -> None:
    """The attackers' process: come again and again."""

    async def one() -> None:
        while target.going():
            before = target.done["turned away"]
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                await FLOODS[name](target)
            if target.done["turned away"] != before:
                await asyncio.sleep(AGAIN_S)

    await asyncio.gather(*(one() for _ in range(ATTACKERS)))
    print(json.dumps({**target.done, "codes": target.codes}))


@dataclass
class Seen:
    """What the server and the viewers had of some seconds, in one piece or several."""

    seconds: float = 0.0
    cpu_s: float = 0.0
    updates_ms: list[float] = field(default_factory=list)
    pings_ms: list[float] = field(default_factory=list)
    busy_s: list[float] = field(default_factory=list)
    grown_bytes: int = 0
    log_lines: int = 0

    def updates_p99_ms(self) -> float:
        """Not a number where there were none."""
        updates = sorted(self.updates_ms) or [float("nan")]
        return updates[int(len(updates) * 0.99)]

    def figures(self) -> dict[str, float]:
        """By column."""
        pings = sorted(self.pings_ms) or [float("nan")]
        return {
            "cpu %": self.cpu_s / self.seconds * 100,
            "p50 ms": statistics.median(self.updates_ms or [float("nan")]),
            "p99 ms": self.updates_p99_ms(),
            "ping p50": statistics.median(pings),
            "ping p99": pings[int(len(pings) * 0.99)],
            "ping max": pings[-1],
            "p99 wait": wait_s(self.busy_s, self.seconds, 0.99) * 1000,
            "RSS +MiB": self.grown_bytes / 2**20,
            "log lines": self.log_lines,
        }


@contextlib.contextmanager
def watchers(on: Served, folder: Path, *, tls: bool) -> Iterator[None]:
    """The load generator, all of whose clients have subscribed.

    Raises FailedError, and toolbox.MissingToolError where it cannot be made.
    """
    program, speaks_tls = toolbox.build_load(CACHE)
    if tls and not speaks_tls:
        raise toolbox.MissingToolError("the load generator was built without OpenSSL's headers")
    (folder / "start").write_bytes(bytes(8))
    (folder / "request").write_text(request(Cell("flooded", OURS), on.port))
    (folder / "tokens").write_text("".join(f"{on.token(f'watcher-{n}')}\n" for n in range(WATCHERS)))
    audience = Audience(WATCHERS, "ws", subscription(1, delta=False), '"metrics_', tls)
    _, core = machine.cores()
    child = Child(load_command(program, folder, on.port, audience), core, folder / "load.log")
    try:
        child.answer(START_S)
        yield
    finally:
        child.end()


async def watch(on: Served, seconds: float, seen: Seen) -> None:
    """Add what the next seconds bring to `seen`."""
    pid = on.server.pid
    for viewer in on.viewers:
        viewer.waits_ms.clear()
    told(on.server)
    before = machine.cpu_s(pid), machine.rss_bytes(pid), lines(on.log)
    begun = time.monotonic()
    await asyncio.sleep(seconds)
    seen.cpu_s += machine.cpu_s(pid) - before[0]
    seen.seconds += time.monotonic() - begun
    seen.pings_ms += [wait for viewer in on.viewers for wait in viewer.waits_ms]
    more = told(on.server)
    seen.busy_s += [passed / 1e6 for passed in more["passes"]]
    seen.updates_ms += [took / fixed * FIXED_MS for took, fixed in more["updates"]]
    seen.grown_bytes += machine.rss_bytes(pid) - before[1]
    seen.log_lines += lines(on.log) - before[2]


def told(server: Child) -> dict[str, list[Any]]:
    """What the server tells since this was last asked: see timed.py."""
    os.kill(server.pid, signal.SIGUSR1)
    return server.answer(START_S)


def wait_s(busy: list[float], seconds: float, share: float) -> float:
    """How long at most that `share` waits for the loop of all who come at any moment of so many seconds."""
    low, high = 0.0, max(busy, default=0.0)
    while high - low > WAIT_ERROR_S:
        middle = (low + high) / 2
        if sum(max(0.0, each - middle) for each in busy) > (1 - share) * seconds:
            low = middle
        else:
            high = middle
    return high


def lines(log: Path) -> int:
    """Of the server's log, so far."""
    return log.read_bytes().count(b"\n")


async def run(
    names: list[str], seconds: float, rounds: int, tls: ssl.SSLContext | None, more: Sequence[str]
) -> tuple[dict[str, dict[str, Any]], dict[str, float]]:
    """All of them, one after another; and the updates of all together."""
    _, load_core = machine.cores()
    os.sched_setaffinity(0, {load_core})
    results: dict[str, dict[str, Any]] = {}
    quiet, flooded = Seen(), Seen()  # of all floods
    with tempfile.TemporaryDirectory() as name:
        folder, amiga = Path(name), Path(name) / "amiga"
        amiga.mkdir()
        generate(amiga, ROWS, days=6.9, zone=UTC)
        async with served([str(ROOT / "benchmarks" / "timed.py")], amiga, tls, more) as target:
            with watchers(target, folder, tls=tls is not None):
                idler = Child([sys.executable, "-c", IDLE], machine.cores()[1], folder / "idler.log")
                try:
                    for each in names:
                        before, during = Seen(), Seen()
                        done = await turns(each, target, seconds, rounds, before, during)
                        results[each] = compared(before, during, rounds) | done
                        show(each, results[each])
                        if each != NOTHING:
                            quiet.updates_ms += before.updates_ms
                            flooded.updates_ms += during.updates_ms
                finally:
                    idler.end()
    p99s = quiet.updates_p99_ms(), flooded.updates_p99_ms()
    return results, {
        "updates": len(flooded.updates_ms),
        "quiet p99 ms": p99s[0],
        "p99 ms": p99s[1],
        "p99 x": p99s[1] / p99s[0],
    }


async def turns(
    name: str, on: Served, seconds: float, rounds: int, quiet: Seen, flooded: Seen
) -> dict[str, Any]:
    """Quiet and flood by turns; what the attackers did."""
    done: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    attack = [sys.executable, sys.argv[0]]  # this file, or one with more floods
    attack += ["--attack", name, str(on.port), on.token("attacker", "metrics:read admin"), str(seconds)]
    for _ in range(rounds):
        await asyncio.sleep(max(0.0, on.calm_at - time.monotonic()))
        await watch(on, seconds, quiet)
        child = Child(attack, machine.cores()[1], on.log.with_name("attack.log"))
        try:
            await watch(on, seconds, flooded)
            answer = await asyncio.to_thread(child.answer, START_S)
        finally:
            child.end()
        on.calm_at = time.monotonic() + SETTLE_S
        codes.update(answer.pop("codes"))
        done.update(answer)
    return {**done, "codes": codes}


def compared(quiet: Seen, flooded: Seen, rounds: int) -> dict[str, Any]:
    """Figures of a flood, those of the quiet times, and in which it took too much."""
    figures, before = flooded.figures(), quiet.figures()
    figures["p99 x"] = figures["p99 ms"] / before["p99 ms"]
    return {"quiet": before, **figures, "over": over_bounds(before, figures, rounds)}


def over_bounds(before: dict[str, float], figures: dict[str, float], rounds: int) -> list[str]:
    """The columns in which a flood took more than it may."""
    taken = dict(figures)
    taken["p99 wait"] -= before["p99 wait"]
    taken["log lines"] /= rounds
    return [name for name, bound in BOUNDS.items() if taken[name] > bound]


def show(name: str, found: dict[str, Any]) -> None:
    """Two rows of the table."""
    print(f"{'before':>36}" + "".join(f"{found['quiet'].get(key, 0):12.2f}" for key in QUIET))
    codes = " ".join(f"{code} x{count}" for code, count in found["codes"].items())
    print(f"{name:>36}" + "".join(f"{found.get(key, 0):12.2f}" for key in COLUMNS) + f"  {codes}", flush=True)


def main(tls: ssl.SSLContext | None = None, more: Sequence[str] = ()) -> int:
    """See the module's text; `tls` and `more` as in `served`."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument(
        "--only", action="append", metavar="TEXT", help="floods whose name holds TEXT; may repeat"
    )
    options.add_argument("--seconds", type=float, default=12, help="of each flood (12)")
    options.add_argument("--rounds", type=int, default=1, help="quiet times and floods of each (1)")
    options.add_argument("--json", type=Path, default=CACHE / "floods.json", help="where the figures go")
    options.add_argument("--attack", nargs=4, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.attack:
        name, port, token, seconds = given.attack
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        asyncio.run(attackers(name, Target(int(port), token, time.monotonic() + float(seconds))))
        return 0
    names = [name for name in FLOODS if not given.only or any(text in name for text in given.only)]
    print(f"{'':>36}" + "".join(f"{key:>12}" for key in COLUMNS) + "  how they ended")
    try:
        results, together = asyncio.run(run(names, given.seconds, given.rounds, tls, more))
    except toolbox.MissingToolError as error:
        sys.exit(f"floods: {error}")
    print(
        f"all floods: p99 of {together['updates']} updates {together['p99 ms']:.2f} ms, quiet "
        f"{together['quiet p99 ms']:.2f} ms, x {together['p99 x']:.2f}"
    )
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps({"floods": results, "together": together}, indent=1) + "\n")
    over = [
        f"{name}: too much of {', '.join(found['over'])}" for name, found in results.items() if found["over"]
    ]
    print("\n".join(over), file=sys.stderr, end="\n" if over else "")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
