"""A process that has no files left to open, and a thousand strangers who want some: who is here notices nothing."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import sys
import time

import psutil
import pytest
from installation import Installation
from processes import CHECKOUT, Running
from servers import EventStream, RawWebSocket, eventually, read_head, request_bytes

from amiga_ws import state
from amiga_ws.auth.tokens import Authority
from amiga_ws.config import load

FILES = 256
VIEWERS = 40
STRANGERS = 1000
UPDATES = 4  # under fire, for all; AMIGA's file is read for each
WITHIN_S = 30.0


class Server:
    """What EventStream wants to know of a server."""

    def __init__(self, running, folder):
        self.port = int(running.url.rpartition(":")[2])
        self.process = psutil.Process(running.process.pid)
        settings = load(None, [f"state_dir={folder / 'state'}"], {}, folder)
        self._authority = Authority(state.load_secret(settings.state_dir), settings.auth)

    def token(self):
        return self._authority.issue(subject="ada", scope="metrics:read", ttl_s=3600, now=time.time())

    def cpu_s(self):
        return sum(self.process.cpu_times()[:2])


class Viewer:
    """Notes the position of every state, and keeps the newest one."""

    def __init__(self, peer):
        self.peer = peer
        self.positions = []
        self.state = None

    @classmethod
    async def come(cls, server, transport):
        if transport is EventStream:
            return cls(await EventStream.open(server, "?interval=1"))
        peer = await RawWebSocket.open(server)
        await peer.say("subscribe", {"update_interval": 1})
        return cls(peer)

    async def watch(self):
        while True:
            state = await self._state()
            self.positions.append(int(state["position"].rpartition(".")[2]))
            self.state = state

    async def _state(self):
        if isinstance(self.peer, RawWebSocket):
            return (await self.peer.until("metrics_update", within_s=60))["data"]
        return (await self.peer.until(None, within_s=60)).data


async def work(amiga):
    """AMIGA goes on: a new task each half second, so that there is news at every tick."""
    for number in itertools.count():
        amiga.task(f"{number:06x}", "running", time.time())
        await asyncio.sleep(0.5)


async def health(port):
    """Seconds until /health answers a newcomer."""
    began = time.monotonic()
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(request_bytes("GET", "/health", f"127.0.0.1:{port}"))
                assert (await read_head(reader)).status == 200
                return time.monotonic() - began
            finally:
                writer.close()
        assert time.monotonic() - began < WITHIN_S, "/health does not answer"


@pytest.mark.promise(
    "Without descriptors (256 files, 1,000 connections) every viewer keeps every update, /health answers, the "
    "processor is not spun and the log not filled, and all is as before when they have gone"
)
def test_who_is_here_keeps_every_update_while_strangers_take_all_descriptors(tmp_path, figure):
    given = [f"state_dir={tmp_path / 'state'}", f"amiga.root={tmp_path / 'amiga'}", "server.port=0"]
    given += ["limits.connections_per_address=1000", "limits.connections_per_subject=1000"]
    given += ["limits.new_connections_burst=100000"]
    options = [word for each in given for word in ("--set", each)]
    command = ["prlimit", f"--nofile={FILES}:{FILES}", sys.executable, "-m", "amiga_ws", "serve", *options]
    with Running(command, CHECKOUT, tmp_path / "stderr") as running:
        asyncio.run(besieged(Server(running, tmp_path), tmp_path, figure))
        assert running.stop() == (0, "")
        log = running.stderr()
        assert log.count("\n") < 10, log
        assert "Traceback" not in log
        assert "limits.connections 2000 is lowered to" in log  # the cap lies below what the process may open


async def besieged(server, folder, figure):
    amiga = Installation(folder / "amiga")
    viewers = [
        await Viewer.come(server, (EventStream, RawWebSocket)[number % 2]) for number in range(VIEWERS)
    ]
    watchers = [asyncio.create_task(viewer.watch()) for viewer in viewers]
    working, strangers = asyncio.create_task(work(amiga)), []
    try:
        for _ in range(STRANGERS):
            stranger = socket.socket()
            stranger.setblocking(False)
            stranger.connect_ex(("127.0.0.1", server.port))
            strangers.append(stranger)
        began, spent = time.monotonic(), server.cpu_s()
        answered_s = await health(server.port)
        # Each who comes is given a state of its own; after the last of them only ticks make states, for all.
        await eventually(lambda: all(viewer.positions for viewer in viewers), WITHIN_S)
        first = max(viewer.positions[0] for viewer in viewers)
        tasks = max(total(viewer.state) for viewer in viewers)
        await eventually(lambda: all(each.positions[-1] >= first + UPDATES for each in viewers), WITHIN_S)
        # Files are opened for it at each reading.
        await eventually(lambda: all(total(viewer.state) > tasks for viewer in viewers), WITHIN_S)
        sources = {name: source["state"] for name, source in viewers[0].state["sources"].items()}
        share = (server.cpu_s() - spent) / (time.monotonic() - began)
        files = server.process.num_fds()
    finally:
        for stranger in strangers:
            stranger.close()
    back_s = await health(server.port)
    last = min(viewer.positions[-1] for viewer in viewers)
    kept = [[position for position in each.positions if first < position <= last] for each in viewers]
    newcomer = await EventStream.open(server, "?interval=1")
    assert (await newcomer.until(None)).data["hours"] == 24
    assert not working.done()
    assert not any(watcher.done() for watcher in watchers), "a viewer was lost"
    for task in (working, *watchers):
        task.cancel()
    await asyncio.gather(working, *watchers, return_exceptions=True)
    assert kept == [list(range(first + 1, last + 1))] * VIEWERS
    for peer in [*(viewer.peer for viewer in viewers), newcomer]:
        peer.close()
    assert (sources["amiga"], sources["history"]) == ("ok", "ok")
    assert files < FILES
    assert share < 0.2
    assert back_s < 1
    figure(
        f"{VIEWERS} viewers of both kinds, all of {last - first} updates each; /health in "
        f"{answered_s:.1f} s under fire and {back_s:.2f} s after; {share:.0%} of a core; {files} files open"
    )


def total(state):
    """How many tasks AMIGA has."""
    return state["overview"]["tasks"]["total"]
