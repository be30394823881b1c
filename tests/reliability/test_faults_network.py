"""A network that cuts, delays, goes black and returns."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time

import jsonpatch
import pytest
from network import Cable, Proxy
from servers import EventStream, RawWebSocket, eventually

from amiga_ws import listening


class Through:
    """The server as it is reached through a proxy."""

    def __init__(self, server, port):
        self._server, self.port = server, port
        self.host = f"127.0.0.1:{server.port}"  # what the server is called, whatever lies between

    async def socket(self):
        return await RawWebSocket.open(self, host=self.host)

    async def stream(self, query, headers):
        return await EventStream.open(self, query, headers, self.host)

    def token(self):
        return self._server.token(f"subject {random.randrange(10**9)}", ttl_s=86400)


class TornError(Exception):
    """A client was told something that does not follow from what it was told before."""


def holds(condition, what):
    if not condition:
        raise TornError(what)


class Viewer:
    """Comes back whenever it is cut off, resumes, and notes what it was told each time."""

    def __init__(self, where):
        self.where = where
        self.document = self.position = None
        self.resumed = self.replaced = 0

    async def run(self):
        while True:
            try:
                await self.visit()
            except (OSError, asyncio.IncompleteReadError, AssertionError, TimeoutError):
                await asyncio.sleep(0.05)

    def subscribed(self, data):
        if self.position is None:
            return
        holds(data["resumed"] is (data["why"] is None), f"half an answer: {data}")
        if data["resumed"]:
            self.resumed += 1
        else:
            self.replaced += 1
            self.document = None  # a full state must come

    def update(self, data):
        if "patch" in data:
            holds(self.document is not None, "a patch where the whole was due")
            holds(data["from"] == self.position, "a gap nobody told of")
            jsonpatch.apply_patch(self.document, data["patch"], in_place=True)
        else:
            self.document = {key: data[key] for key in data if key not in ("timestamp", "position")}
        epoch, _, seq = data["position"].rpartition(".")
        if self.position is not None and self.position.startswith(epoch):
            holds(int(seq) > int(self.position.rpartition(".")[2]), "an older state after a newer one")
        self.position = data["position"]


class SocketViewer(Viewer):
    async def visit(self):
        peer = await self.where.socket()
        try:
            resume = {"resume": self.position} if self.position else {}
            await peer.say("subscribe", {"update_interval": 1, "delta": True, **resume})
            while True:
                message = await peer.next(60)
                if message["event"] == "subscribed":
                    self.subscribed(message["data"])
                elif message["event"] in ("metrics_update", "metrics_patch"):
                    self.update(message["data"])
        finally:
            peer.close()


class StreamViewer(Viewer):
    async def visit(self):
        headers = {"Authorization": f"Bearer {self.where.token()}"}
        if self.position:
            headers["Last-Event-ID"] = self.position
        stream = await self.where.stream("?interval=1&delta=1", headers)
        try:
            while (event := await stream.next(60)) is not None:
                if event.name == "subscribed":
                    self.subscribed(event.data)
                elif event.name in (None, "metrics_patch"):
                    holds(event.id == event.data["position"], "an id that is no position")
                    self.update(event.data)
        finally:
            stream.close()


MANY = (
    "limits.connections_per_address=1000",
    "limits.new_connections_burst=100000",
    "limits.connections=1000",
)


@pytest.mark.timeout(240)
@pytest.mark.promise(
    "Clients cut off again and again resume without a gap, or are told and get the whole state"
)
def test_a_storm_of_cuts_loses_nobody_anything(threaded, full, figure):
    each, seconds = (50, 60) if full else (8, 5)
    with threaded(*MANY) as server:
        figure(asyncio.run(storm(server, each, seconds)))


async def storm(server, each, seconds):
    async with Proxy(server.port) as proxy:
        where = Through(server, proxy.port)
        viewers = [kind(where) for kind in (SocketViewer, StreamViewer) for _ in range(each)]
        tasks = [asyncio.create_task(viewer.run()) for viewer in viewers]
        cuts, ends = 0, time.monotonic() + seconds
        while time.monotonic() < ends:
            server.amiga.total += 1
            server.host.cpu_percent = float(random.randrange(100))
            proxy.delay_s = random.choice([0, 0, 0.01, 0.05])
            for pair in random.sample(proxy.pairs(), len(proxy.pairs()) // 4):
                proxy.cut_one(pair, reset=random.random() < 0.5)
                cuts += 1
            await asyncio.sleep(0.3)
        proxy.delay_s = 0
        server.amiga.total = final = 1_000_000

        def shown(viewer):
            return viewer.document and viewer.document["overview"]["tasks"]["total"]

        def all_know():
            for task in tasks:
                assert not task.done() or task.result()  # whatever ended it is told
            return all(shown(viewer) == final for viewer in viewers)

        await eventually(all_know, 20)
        # One more reading that changes nothing: all hold the same, wherever they were cut.
        first = viewers[0].document
        await eventually(lambda: all(viewer.document == first for viewer in viewers), 20)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        resumed, replaced = (sum(getattr(v, name) for v in viewers) for name in ("resumed", "replaced"))
        assert resumed > each
    await eventually(lambda: server.hub.connections_of() == 0)
    return f"{len(viewers)} clients, {cuts} cuts: {resumed} resumed, {replaced} replaced and told why, no gap"


@pytest.mark.promise("A WebSocket peer whose network goes black is found by its missing pong (25 + 10 s)")
async def test_a_black_network_frees_the_socket(server):
    async with Proxy(server.port) as proxy:
        peer = await Through(server, proxy.port).socket()
        await peer.next()
        proxy.black = True
        server.ahead_s += 26
        await eventually(lambda: all(client.pinged for client in server.hub.clients.values()))
        assert server.hub.connections_of() == 1
        server.ahead_s += 11
        await eventually(lambda: server.hub.connections_of() == 0)
        peer.close()


@pytest.mark.promise("A network that comes back before that costs nobody the connection")
async def test_a_black_network_that_returns_in_time_costs_nothing(server):
    async with Proxy(server.port) as proxy:
        peer = await Through(server, proxy.port).socket()
        await peer.say("subscribe", {"update_interval": 1})
        await peer.until("metrics_update")
        proxy.black = True
        server.ahead_s += 26
        await eventually(lambda: all(client.pinged for client in server.hub.clients.values()))
        server.amiga.total = 99
        proxy.black = False
        while True:
            opcode, payload = await peer.frame()
            if opcode == 0x9:
                await peer.send(0xA, payload)
                break
        await eventually(lambda: not any(client.pinged for client in server.hub.clients.values()))
        server.ahead_s += 11
        while (await peer.until("metrics_update"))["data"]["overview"]["tasks"]["total"] != 99:
            pass
        peer.close()


LISTENER = """
import socket, sys, time
peer = socket.create_connection((sys.argv[1], int(sys.argv[2])))
peer.sendall(sys.stdin.buffer.read())
while peer.recv(65536):
    print("heard", flush=True)
"""


@pytest.mark.timeout(120)
@pytest.mark.promise("An event stream whose network goes black is freed by the socket's user timeout (35 s)")
def test_a_pulled_cable_frees_an_event_stream(threaded, monkeypatch, full, figure):
    if not full:
        monkeypatch.setattr(listening, "USER_TIMEOUT_MS", 2000)
    promised_s = listening.USER_TIMEOUT_MS / 1000
    with Cable() as cable, threaded(f"server.host={cable.here}") as server:
        request = (
            f"GET /api/stream/metrics?interval=1 HTTP/1.1\r\nHost: {cable.here}:{server.port}\r\n"
            f"Authorization: Bearer {server.token()}\r\n\r\n"
        )
        words = cable.inside(sys.executable, "-c", LISTENER, cable.here, str(server.port))
        peer = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 - ours
        try:
            peer.stdin.write(request.encode())
            peer.stdin.close()
            assert peer.stdout.readline() == b"heard\n"
            while not server.hub.watched():
                time.sleep(0.01)
            cable.pull()
            pulled = time.monotonic()
            while server.hub.connections_of():
                server.amiga.total += 1
                assert time.monotonic() - pulled < promised_s + 20
                time.sleep(0.1)
            took = time.monotonic() - pulled
        finally:
            peer.kill()
            peer.wait()
            peer.stdout.close()
    assert took > promised_s / 2
    figure(f"freed {took:.1f} s after the cable was pulled; the limit was {promised_s:.0f} s")
