"""The terminal client against real servers: ours, and ones that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time

import pytest
from servers import ServerInHand, eventually, settings_in

from amiga_ws.watch import client as following
from amiga_ws.watch.address import Address
from amiga_ws.watch.client import Client, SignInError, WatchError
from amiga_ws.watch.session import Options, opener
from amiga_ws.watch.streams import Access, Wanted
from amiga_ws.wire import Close

TRANSPORTS = pytest.mark.parametrize("sse", [False, True], ids=["websocket", "sse"])


class Recorder:
    """A listener that keeps all it hears."""

    def __init__(self):
        self.events, self.phases = [], []

    def received(self, event, document):
        self.events.append(event)

    def entered(self, phase):
        self.phases.append(phase)

    def names(self):
        return [event.event for event in self.events]

    def last(self, name):
        return [event for event in self.events if event.event == name][-1].data

    def waiting(self):
        return [phase for phase in self.phases if phase.name == "waiting"]


class Followed:
    """A client at work: `client`, what it `heard`, and the `task` that runs it."""

    def __init__(self, url, token, *, sse, delta=True, hours=24):
        options = Options(Access(Address.parse(url), token), Wanted(hours, 1.0, delta), sse=sse)
        self.heard = Recorder()
        self.client = Client(opener(options), options.wanted, self.heard, jitter=lambda: 0.0)
        self.task = None

    async def __aenter__(self):
        self.task = asyncio.ensure_future(self.client.run())
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError, WatchError):
            await self.task

    async def until(self, condition, within_s=8.0):
        """Until the client has got there; its own end is an error."""
        deadline = time.monotonic() + within_s
        while not condition():
            assert not self.task.done(), self.task.exception()
            assert time.monotonic() < deadline, (self.heard.names(), self.heard.phases)
            await asyncio.sleep(0.01)

    async def states(self, count=1):
        await self.until(lambda: self.heard.names().count("metrics_update") >= count)

    async def subscriptions(self, count):
        await self.until(lambda: self.heard.names().count("subscribed") >= count)

    async def end(self):
        """The error it ends with."""
        done, _ = await asyncio.wait({self.task}, timeout=8)
        assert done, (self.heard.names(), self.heard.phases)
        return self.task.exception()


def follow(server, **more):
    return Followed(server.url, more.pop("token", None) or server.token(), **more)


def peer(server):
    """The one client the server has."""
    (found,) = server.hub.clients.values()
    return found


def content(document):
    """A document without what moves with every look."""
    sources = {name: source | {"as_of": None} for name, source in document["sources"].items()}
    return document | {"timestamp": None, "position": None, "sources": sources}


# -- following ------------------------------------------------------------------------------------


@TRANSPORTS
async def test_patches_keep_the_document_equal_to_the_servers_own(server, sse):
    async with follow(server, sse=sse) as followed:
        await followed.states()
        server.host.cpu_percent, server.amiga.total = 77.0, 8
        await followed.until(lambda: followed.client.document["overview"]["tasks"]["total"] == 8)
        assert "metrics_patch" in followed.heard.names()
        assert followed.heard.names().count("metrics_update") == 1
        told = await server.ask_as(server.token(), "/api/metrics/overview?hours=24")
        assert content(followed.client.document) == content(told.json)
        assert followed.client.document["position"] == followed.heard.last("metrics_patch")["position"]


@TRANSPORTS
async def test_without_delta_every_state_is_whole(server, sse):
    async with follow(server, sse=sse, delta=False) as followed:
        await followed.states()
        server.amiga.total = 8
        await followed.states(2)
        assert followed.client.document["overview"]["tasks"]["total"] == 8
        assert "metrics_patch" not in followed.heard.names()


@TRANSPORTS
async def test_what_was_asked_for_is_what_the_server_hears(server, sse):
    async with follow(server, sse=sse, hours=7) as followed:
        await followed.subscriptions(1)
        config = {"hours": 7, "update_interval": 1, "delta": True, "clamped": []}
        assert followed.heard.last("subscribed")["config"] == config


@TRANSPORTS
async def test_letting_go_ends_the_connection_at_the_server(server, sse):
    async with follow(server, sse=sse) as followed:
        await followed.states()
        assert server.hub.connections_of() == 1
    await eventually(lambda: not server.hub.connections_of())


# -- coming back ------------------------------------------------------------------------------------


@TRANSPORTS
async def test_a_lost_connection_is_resumed_with_nothing_sent_twice(server, sse):
    async with follow(server, sse=sse) as followed:
        await followed.states()
        position = followed.client.document["position"]
        peer(server).transport.abort()
        await followed.subscriptions(2)
        assert followed.heard.last("subscribed")["resumed"] is True
        assert followed.client.document["position"] == position
        assert followed.heard.names().count("metrics_update") == 1


@TRANSPORTS
async def test_what_changed_while_it_was_away_comes_as_one_patch(server, sse):
    async with follow(server, sse=sse) as followed:
        await followed.states()
        server.amiga.total = 9
        peer(server).transport.abort()
        await followed.until(lambda: followed.client.document["overview"]["tasks"]["total"] == 9)
        assert followed.heard.names().count("metrics_update") == 1


@TRANSPORTS
async def test_after_a_restart_it_returns_when_told_to_and_gets_the_state_anew(start, tmp_path, sse):
    server = ServerInHand(settings_in(tmp_path))
    await server.start()
    async with follow(server, sse=sse) as followed:
        await followed.states()
        await server.stop()
        again = await start(f"state_dir={server.settings.state_dir}", f"server.port={server.port}")
        again.amiga.total = 10
        await followed.subscriptions(2)
        await followed.states(2)
        bye, subscribed = followed.heard.last("bye"), followed.heard.last("subscribed")
        assert bye["code"] == Close.SHUTTING_DOWN
        assert followed.heard.waiting()[0].reason == bye["reason"]
        assert (subscribed["resumed"], subscribed["why"]) == (False, "epoch")
        assert followed.client.document["overview"]["tasks"]["total"] == 10


@TRANSPORTS
async def test_it_stays_away_as_long_as_the_server_says(server, sse):
    async with follow(server, sse=sse) as followed:
        await followed.states()
        server.hub.close(peer(server), Close.RATE_LIMITED, "too much")
        await followed.until(followed.heard.waiting)
        told_s = followed.heard.last("bye")["retry_ms"] / 1000
        (phase,) = followed.heard.waiting()
        assert phase.reason == "too much"
        assert told_s - 0.5 < phase.again_at - time.monotonic() <= told_s
        await followed.subscriptions(2)
        assert time.monotonic() >= phase.again_at


@TRANSPORTS
async def test_a_refusal_that_passes_is_waited_out(start, sse):
    server = await start("limits.connections_per_address=1")
    other = await server.websocket()
    async with follow(server, sse=sse) as followed:
        await followed.until(followed.heard.waiting)
        (phase,) = followed.heard.waiting()
        assert "too many connections" in phase.reason
        assert 0 < phase.again_at - time.monotonic() < 10
        assert not followed.client.greeted
    other.close()


def test_the_waits_of_lost_connections_grow_to_twenty_seconds_and_are_spread():
    ceilings = [following.backoff_s(attempt, lambda: 1.0) for attempt in (1, 2, 3, 5, 6, 7, 100)]
    assert ceilings == [1.0, 2.0, 4.0, 16.0, 20.0, 20.0, 20.0]
    assert following.backoff_s(100, lambda: 0.0) == 0.5


# -- not coming back -----------------------------------------------------------------------------


@TRANSPORTS
@pytest.mark.parametrize(
    ("code", "error"),
    [
        (Close.TOKEN_EXPIRED, SignInError),
        (Close.REVOKED, SignInError),
        (Close.SCOPE_LOST, SignInError),
        (Close.EVICTED, WatchError),
        (Close.UNPARSABLE, WatchError),
    ],
)
async def test_it_stops_where_the_server_says_so_and_gives_its_reason(server, sse, code, error):
    async with follow(server, sse=sse) as followed:
        await followed.states()
        server.hub.close(peer(server), code, "for this reason")
        ended = await followed.end()
        assert type(ended) is error
        assert str(ended) == "for this reason"
        assert not followed.heard.waiting()


@TRANSPORTS
async def test_a_token_the_server_does_not_know_is_no_reason_to_try_again(server, sse):
    async with follow(server, sse=sse, token=server.token()[:-6] + "AAAAAA") as followed:
        ended = await followed.end()
        assert type(ended) is SignInError
        assert "the token is not accepted" in str(ended)


@TRANSPORTS
async def test_a_token_without_the_scope_is_told_so(server, sse):
    async with follow(server, sse=sse, token=server.token(scope="admin")) as followed:
        ended = await followed.end()
        assert type(ended) is SignInError
        assert "metrics:read" in str(ended)


@TRANSPORTS
async def test_nobody_there_is_told_at_once(unused_port, sse):
    async with Followed(f"http://127.0.0.1:{unused_port}", "t", sse=sse) as followed:
        ended = await followed.end()
        assert type(ended) is WatchError
        assert "refused" in str(ended)


@pytest.fixture
def unused_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# -- servers that are not ours ---------------------------------------------------------------------


class Strange:
    """A server that answers every request with the same bytes; `requests` are the heads it was sent."""

    def __init__(self, *answers, stay=False):
        self._answers, self._stay = list(answers), stay
        self.requests, self.left = [], 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(self._answers.pop(0) if len(self._answers) > 1 else self._answers[0])
        with contextlib.suppress(ConnectionError):
            await writer.drain()
            if self._stay:
                await reader.read()  # until the client hangs up
                self.left += 1
        writer.close()


def events(*blocks):
    """An event stream of (name, data)."""
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    lines = [(f"event: {name}\n" if name else "") + f"data: {json.dumps(data)}\n\n" for name, data in blocks]
    return (head + "".join(lines)).encode()


def page(status, body="<h1>hello</h1>", headers=""):
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n{headers}\r\n{body}"
    ).encode()


@TRANSPORTS
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (page("200 OK"), "what answers there"),
        (page("404 Not Found"), "the answer was 404"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "gives no HTTP answer"),
        (b"", "gives no HTTP answer"),
    ],
)
async def test_another_server_is_no_place_to_come_back_to(sse, answer, words):
    async with Strange(answer) as strange, Followed(strange.url, "t", sse=sse) as followed:
        ended = await followed.end()
        assert type(ended) is WatchError
        assert words in str(ended)


@TRANSPORTS
async def test_a_redirect_is_told_and_not_followed_with_the_token(sse):
    async with Strange(page("200 OK")) as target:
        answer = page("307 Temporary Redirect", headers=f"Location: {target.url}/\r\n")
        async with Strange(answer) as strange, Followed(strange.url, "t", sse=sse) as followed:
            assert target.url in str(await followed.end())
        assert target.requests == []


async def test_a_stream_that_falls_silent_is_left_after_two_and_a_half_heartbeats():
    silent = events(("connected", {"heartbeat_interval": 0.2}))
    async with Strange(silent, stay=True) as strange, Followed(strange.url, "t", sse=True) as followed:
        before = time.monotonic()
        await followed.until(followed.heard.waiting)
        assert followed.heard.waiting()[0].reason == "the server fell silent"
        assert time.monotonic() - before >= 0.5
        await followed.until(lambda: strange.left)


PATCH = {"timestamp": 2.0, "position": "e.24.2", "patch": [{"op": "replace", "path": "/hours", "value": 24}]}


@pytest.mark.parametrize(
    "patch",
    [
        PATCH | {"from": "e.24.0"},
        PATCH | {"from": "e.24.1", "patch": [{"op": "remove", "path": "/none"}]},
        PATCH | {"from": "e.24.1", "patch": "x"},
        PATCH | {"from": "e.24.1", "patch": [{"op": "replace", "path": "", "value": []}]},
    ],
)
async def test_a_patch_that_does_not_fit_is_answered_by_asking_for_the_whole_state(patch):
    greeting = ("connected", {"heartbeat_interval": 15.0})
    state = (None, {"hours": 24, "timestamp": 1.0, "position": "e.24.1"})
    broken = events(greeting, state, ("metrics_patch", patch))
    async with (
        Strange(broken, events(greeting, state), stay=True) as strange,
        Followed(strange.url, "t", sse=True) as followed,
    ):
        await followed.states(2)
        assert followed.heard.waiting()[0].reason == "a patch did not fit what it was meant for"
        assert "Last-Event-ID" not in strange.requests[1]
        assert followed.client.document == state[1]


async def test_a_fitting_patch_of_the_same_stream_is_applied():
    greeting = ("connected", {"heartbeat_interval": 15.0})
    state = (None, {"hours": 1, "timestamp": 1.0, "position": "e.24.1"})
    sent = events(greeting, state, ("metrics_patch", PATCH | {"from": "e.24.1"}))
    async with Strange(sent, stay=True) as strange, Followed(strange.url, "t", sse=True) as followed:
        await followed.until(lambda: "metrics_patch" in followed.heard.names())
        assert followed.client.document == {"hours": 24, "timestamp": 2.0, "position": "e.24.2"}


async def test_a_position_is_what_the_next_stream_starts_from():
    greeting = ("connected", {"heartbeat_interval": 15.0})
    state = (None, {"hours": 24, "timestamp": 1.0, "position": "e.24.1"})
    async with (
        Strange(events(greeting, state), stay=False) as strange,
        Followed(strange.url, "t", sse=True) as followed,
    ):
        await followed.until(lambda: len(strange.requests) > 1)
        assert "Last-Event-Id: e.24.1" in strange.requests[1].replace("-ID", "-Id")
