"""All viewers at once: the server is stopped (or killed) under thousands of streams and started again.

    .venv/bin/python benchmarks/reconnect.py                    # 2,000 clients, SIGTERM, then kill -9
    .venv/bin/python benchmarks/reconnect.py --clients 200 --how term --json -

Half of the clients are WebSockets, half event streams. They come back as the pages do: after the `retry_ms` they
were told, else after a backoff of their own. Each must be told why its position cannot be continued and get the
state. Exit code 1 when not all are back within 30 s, or the new server's loop was late by 250 ms or more.

`lag` is how late a callback came that wants to run every 10 ms, `cpu lag` what of that the loop's own thread
spent: on a machine that is busy with other things only the second says something about the server.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # this checkout, whatever is installed

from amiga_ws import log
from amiga_ws.app import Server, tune_the_interpreter
from amiga_ws.auth.tokens import Authority
from amiga_ws.config import Settings, load
from amiga_ws.state import load_secret

WITHIN_S = 30.0
MOST_LAG_MS = 250.0
PROBE_S = 0.01
SUBJECTS = 100
FIRST_WAVE = 100  # of the first connections at once: they are not what is measured
BACKOFF_MS = (500, 30_000)  # as amiga_ws/static/closing.js
SUBSCRIBE = b'{"event":"subscribe","data":{"hours":24,"update_interval":2,"delta":true%s}}'


# -- the server ----------------------------------------------------------------------------------


class Lag:
    """How late the loop comes to what is due, in ms."""

    def __init__(self) -> None:
        self.wall_ms = self.cpu_ms = 0.0
        self.again()

    def again(self) -> None:
        self._wanted = time.monotonic() + PROBE_S
        self._cpu = time.thread_time()
        asyncio.get_running_loop().call_later(PROBE_S, self._look)

    def _look(self) -> None:
        self.wall_ms = max(self.wall_ms, (time.monotonic() - self._wanted) * 1000)
        self.cpu_ms = max(self.cpu_ms, (time.thread_time() - self._cpu) * 1000)
        self.again()

    def told(self) -> dict[str, float]:
        """What it was since the last time."""
        told = {"lag_ms": round(self.wall_ms, 1), "cpu_lag_ms": round(self.cpu_ms, 1)}
        self.wall_ms = self.cpu_ms = 0.0
        return told


def settings_for(folder: Path, port: int, amiga: Path | None = None) -> Settings:
    """All that one server keeps is below `folder`; so is the AMIGA it reads, unless that is given."""
    many = "1000000"
    limits = {
        "limits.connections": "10000",
        "limits.connections_per_subject": many,
        "limits.connections_per_address": many,
        "limits.new_connections_per_second": "100000",
        "limits.new_connections_burst": "100000",
        "log.level": "warning",
    }
    given = [
        f"state_dir={folder / 'state'}",
        f"amiga.root={amiga or folder / 'amiga'}",
        f"server.port={port}",
    ]
    return load(None, [*given, *(f"{key}={value}" for key, value in limits.items())], {}, folder)


async def serve(folder: Path, port: int) -> None:
    """A server until SIGTERM; one line of JSON for its life and one for its end."""
    settings = settings_for(folder, port)
    log.configure(settings.log.level)
    server, stopping = Server(settings), asyncio.Event()
    await server.start()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    tune_the_interpreter()
    lag = Lag()
    print("listening", flush=True)
    await stopping.wait()
    print(json.dumps({**lag.told(), "clients": len(server.hub.clients)}), flush=True)
    began = time.monotonic()
    await server.stop()
    print(json.dumps({**lag.told(), "stop_s": round(time.monotonic() - began, 2)}), flush=True)


class ServerProcess:
    """`serve` in a process of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        command = [sys.executable, __file__, "--serve", str(folder), str(port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ourselves
        if self.process.stdout is None or self.process.stdout.readline() != "listening\n":
            raise RuntimeError("the server did not start")

    def stop(self) -> list[dict[str, float]]:
        """End it in order; what it has to tell about its life and its end."""
        self.process.terminate()
        told, _ = self.process.communicate(timeout=60)
        return [json.loads(line) for line in told.splitlines()]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


# -- the clients ---------------------------------------------------------------------------------


@dataclass
class Crowd:
    """What all clients have in common."""

    port: int
    here: int = 0  # clients that have their state
    all_here: asyncio.Event = field(default_factory=asyncio.Event)
    wanted: int = 0
    attempts: int = 0
    told_when: int = 0  # clients that were told when to come back
    resumed: dict[str, int] = field(default_factory=dict)  # `why` → how often
    waiting: asyncio.Semaphore | None = None  # only for the first wave

    def arrived(self) -> None:
        self.here += 1
        if self.here == self.wanted:
            self.all_here.set()


class Viewer:
    """One client: comes, reads until the end, comes back."""

    def __init__(self, crowd: Crowd, token: str, *, sse: bool) -> None:
        self.crowd, self.token, self.sse = crowd, token, sse
        self.position: str | None = None
        self.retry_ms: int | None = None
        self.counted = False
        self.failures = 0
        self.writer: asyncio.StreamWriter | None = None  # of the present visit

    async def run(self) -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, EOFError):
                await self._visit()
            if self.counted:
                self.counted, self.failures = False, 0
                self.crowd.here -= 1
                self.crowd.all_here.clear()
            self.failures += 1
            ceiling = min(BACKOFF_MS[1], BACKOFF_MS[0] * 2 ** min(self.failures, 10))
            ms = self.retry_ms if self.retry_ms is not None else random.uniform(BACKOFF_MS[0], ceiling)
            self.retry_ms = None
            await asyncio.sleep(ms / 1000)

    async def _visit(self) -> None:
        async with self.crowd.waiting or contextlib.nullcontext():
            self.crowd.attempts += 1
            reader, writer = await asyncio.open_connection("127.0.0.1", self.crowd.port)
            self.writer = writer
            try:
                writer.write(self._request())
                head = await reader.readuntil(b"\r\n\r\n")
                if not head.startswith((b"HTTP/1.1 101", b"HTTP/1.1 200")):
                    return
                if not self.sse:
                    resume = b"" if self.position is None else b',"resume":"%s"' % self.position.encode()
                    writer.write(masked(SUBSCRIBE % resume))
                read = self._event if self.sse else self._frame
                while not self.counted:
                    self._take(*await read(reader))
            except BaseException:
                writer.close()
                raise
        try:
            while True:
                self._take(*await read(reader))
        finally:
            writer.close()

    def _request(self) -> bytes:
        lines = [f"Host: 127.0.0.1:{self.crowd.port}", f"Authorization: Bearer {self.token}"]
        if self.sse:
            target = "/api/stream/metrics?delta=true"
            lines += [] if self.position is None else [f"Last-Event-ID: {self.position}"]
        else:
            target = "/ws"
            key = base64.b64encode(os.urandom(16)).decode()
            lines += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
            lines += [f"Sec-WebSocket-Key: {key}"]
        return "\r\n".join([f"GET {target} HTTP/1.1", *lines, "", ""]).encode()

    async def _frame(self, reader: asyncio.StreamReader) -> tuple[str, dict]:
        first, size = await reader.readexactly(2)
        if size == 126:  # noqa: PLR2004 - RFC 6455, 5.2
            size = int.from_bytes(await reader.readexactly(2), "big")
        elif size == 127:  # noqa: PLR2004 - RFC 6455, 5.2
            size = int.from_bytes(await reader.readexactly(8), "big")
        payload = await reader.readexactly(size)
        if first & 0x0F == 0x8:  # noqa: PLR2004 - close
            raise EOFError
        if first & 0x0F == 0x9:  # noqa: PLR2004 - ping
            self.writer.write(masked(payload, 0x8A))
        if first & 0x0F != 1:
            return "", {}
        message = json.loads(payload)
        return message["event"], message["data"]

    async def _event(self, reader: asyncio.StreamReader) -> tuple[str, dict]:
        lines = (await reader.readuntil(b"\n\n")).decode().strip().split("\n")
        fields = dict(line.split(": ", 1) for line in lines if ": " in line)
        return fields.get("event", "metrics_update"), json.loads(fields.get("data", "{}"))

    def _take(self, event: str, data: dict) -> None:
        if event == "subscribed" and self.position is not None:
            why = str(data["why"])
            self.crowd.resumed[why] = self.crowd.resumed.get(why, 0) + 1
        elif event in ("metrics_update", "metrics_patch") and "position" in data:
            self.position = data["position"]
            if not self.counted:
                self.counted = True
                self.crowd.arrived()
        elif event == "bye":
            self.retry_ms = data["retry_ms"]
            self.crowd.told_when += self.retry_ms is not None


def masked(payload: bytes, first: int = 0x81) -> bytes:
    """A frame (by default of text) of a client of less than 126 bytes."""
    mask = os.urandom(4)
    body = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return bytes((first, 0x80 | len(payload))) + mask + body


# -- the measurement -----------------------------------------------------------------------------


@dataclass
class Result:
    how: str
    clients: int
    back: int
    back_s: float  # from the drop until all were back, the new start included
    start_s: float  # of that, the new server's start
    told_when: int
    attempts: int
    resumed: dict[str, int]
    lag_ms: float  # of the new server's loop
    cpu_lag_ms: float
    drain_lag_ms: float | None  # of the old server's loop, at its end
    stop_s: float | None

    @property
    def good(self) -> bool:
        return self.back == self.clients and self.back_s < WITHIN_S and self.lag_ms < MOST_LAG_MS


async def measure(folder: Path, clients: int, how: str) -> Result:
    port = free_port()
    settings = settings_for(folder, port)
    authority = Authority(load_secret(settings.state_dir), settings.auth)
    issue = lambda subject: authority.issue(  # noqa: E731 - once
        subject=f"viewer{subject}", scope="metrics:read", ttl_s=3600, now=time.time()
    )
    tokens = [issue(number) for number in range(min(SUBJECTS, clients))]
    crowd = Crowd(port, wanted=clients)
    crowd.waiting = asyncio.Semaphore(FIRST_WAVE)
    server = await asyncio.to_thread(ServerProcess, folder, port)
    viewers = [Viewer(crowd, tokens[number % len(tokens)], sse=number % 2 == 1) for number in range(clients)]
    tasks = [asyncio.create_task(viewer.run()) for viewer in viewers]
    try:
        await asyncio.wait_for(crowd.all_here.wait(), 120)
        crowd.waiting, crowd.attempts = None, 0
        dropped = time.monotonic()
        if how == "term":
            _, end = await asyncio.to_thread(server.stop)
        else:
            await asyncio.to_thread(server.kill)
            end = {}
        starts = time.monotonic()
        server = await asyncio.to_thread(ServerProcess, folder, port)
        start_s = time.monotonic() - starts
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(crowd.all_here.wait(), 2 * WITHIN_S)
        back_s, back, told_when = time.monotonic() - dropped, crowd.here, crowd.told_when
        life, _ = await asyncio.to_thread(server.stop)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        server.kill()
    return Result(
        how,
        clients,
        back,
        round(back_s, 2),
        round(start_s, 2),
        told_when,
        crowd.attempts,
        crowd.resumed,
        life["lag_ms"],
        life["cpu_lag_ms"],
        end.get("lag_ms"),
        end.get("stop_s"),
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--how", choices=["term", "kill"], action="append", help="default: both")
    parser.add_argument("--json", help="write the results there, or to stdout with -")
    parser.add_argument("--serve", nargs=2, metavar=("FOLDER", "PORT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if args.serve:
        asyncio.run(serve(Path(args.serve[0]), int(args.serve[1])))
        return 0
    results = []
    for how in args.how or ["term", "kill"]:
        with tempfile.TemporaryDirectory() as folder:
            results.append(asyncio.run(measure(Path(folder), args.clients, how)))
    told = json.dumps([asdict(result) | {"good": result.good} for result in results], indent=1)
    if args.json and args.json != "-":
        Path(args.json).write_text(told + "\n")
    print(told)
    return 0 if all(result.good for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
