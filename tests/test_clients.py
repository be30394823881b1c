"""Clients that others wrote, against a real server: they get in, they get updates, they are refused rightly."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import threading

import aiohttp
import jwt
import pytest
import websocket
import websockets
from websockets.asyncio.client import connect
from websockets.sync.client import connect as connect_blocking

SUBPROTOCOL = "amiga.v1"
CURL = shutil.which("curl")


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def ws_url(server, query=""):
    return f"ws://127.0.0.1:{server.port}/ws{query}"


def sse_url(server, query=""):
    return f"{server.url}/api/stream/metrics{query}"


def refusals(server):
    """(what is wrong, query, headers, status), for the stream of either kind, from a minute on."""
    port, good = server.port, bearer(server.token())
    forged = jwt.encode({"sub": "ada"}, "k" * 32, algorithm="HS256")
    return [
        ("bad token", "", bearer(forged), 401),
        ("expired token", "", bearer(server.token(ttl_s=30)), 401),
        ("foreign page", "", good | {"Origin": "http://evil.example"}, 403),
        ("page of another port", "", good | {"Origin": f"http://127.0.0.1:{port + 1}"}, 403),
        ("rebound name", "", good | {"Host": f"evil:{port}", "Origin": f"http://evil:{port}"}, 421),
        ("token in the query", f"?token={server.token()}", {}, 400),
        ("token in the query beside a good one", f"?x={server.token()}", good, 400),
    ]


# -- websockets ---------------------------------------------------------------------------------


async def test_websockets_subscribes_and_gets_an_update(server):
    async with connect(ws_url(server), additional_headers=bearer(server.token())) as peer:
        assert json.loads(await peer.recv())["event"] == "connected"
        await peer.send(json.dumps({"event": "subscribe", "data": {"update_interval": 1}}))
        assert json.loads(await peer.recv())["event"] == "subscribed"
        assert json.loads(await peer.recv())["data"]["overview"]["tasks"]["total"] == 7
        server.amiga.total = 8
        assert json.loads(await peer.recv())["data"]["overview"]["tasks"]["total"] == 8


async def test_websockets_brings_the_token_as_a_subprotocol_as_a_browser_does(server):
    offered = [SUBPROTOCOL, f"amiga.bearer.{server.token()}"]
    async with connect(ws_url(server), subprotocols=offered, origin=server.url) as peer:
        assert peer.subprotocol == SUBPROTOCOL
        assert json.loads(await peer.recv())["data"]["subject"] == "ada"


async def test_websockets_brings_the_token_in_the_first_message(server):
    async with connect(ws_url(server)) as peer:
        await peer.send(json.dumps({"event": "authenticate", "data": {"token": server.token()}}))
        assert json.loads(await peer.recv())["event"] == "connected"
    async with connect(ws_url(server)) as peer:
        await peer.send(json.dumps({"event": "authenticate", "data": {"token": "rubbish"}}))
        assert json.loads(await peer.recv())["data"]["code"] == 4502
        with pytest.raises(websockets.ConnectionClosedError) as closed:
            await peer.recv()
        assert closed.value.rcvd.code == 4502
    async with connect(ws_url(server)) as peer:
        await peer.send(json.dumps({"event": "subscribe"}))
        assert json.loads(await peer.recv())["data"]["code"] == 4501


async def test_websockets_is_refused_rightly(server):
    for what, query, headers, status in refusals(server):
        server.ahead_s += 60
        host, origin = headers.pop("Host", f"127.0.0.1:{server.port}"), headers.pop("Origin", None)
        dial = {"host": "127.0.0.1", "port": server.port, "origin": origin, "additional_headers": headers}
        with pytest.raises(websockets.InvalidStatus) as refused:
            await connect(f"ws://{host}/ws{query}", **dial)
        reply = refused.value.response
        assert reply.status_code == status, what
        assert set(json.loads(reply.body)) == {"error", "code", "ref"}, what
    assert not server.hub.connections_of()


def test_blocking_websockets_subscribes_and_gets_an_update(threaded):
    with (
        threaded() as server,
        connect_blocking(ws_url(server), additional_headers=bearer(server.token())) as peer,
    ):
        assert json.loads(peer.recv(timeout=5))["event"] == "connected"
        peer.send(json.dumps({"event": "subscribe", "data": {"update_interval": 1}}))
        assert json.loads(peer.recv(timeout=5))["event"] == "subscribed"
        assert json.loads(peer.recv(timeout=5))["data"]["overview"]["tasks"]["total"] == 7
        server.amiga.total = 8
        assert json.loads(peer.recv(timeout=5))["data"]["overview"]["tasks"]["total"] == 8


# -- websocket-client ---------------------------------------------------------------------------


def test_websocket_client_subscribes_and_gets_an_update(threaded):
    with threaded() as server:
        header = [f"Authorization: Bearer {server.token()}"]
        # It sends an Origin of its own making, which is ours.
        peer = websocket.create_connection(ws_url(server), header=header, timeout=5)
        assert json.loads(peer.recv())["event"] == "connected"
        peer.send(json.dumps({"event": "subscribe", "data": {"update_interval": 1}}))
        assert json.loads(peer.recv())["event"] == "subscribed"
        assert json.loads(peer.recv())["event"] == "metrics_update"
        server.amiga.total = 8
        assert json.loads(peer.recv())["data"]["overview"]["tasks"]["total"] == 8
        peer.close()


def test_websocket_client_is_refused_rightly(threaded):
    with threaded() as server:
        for what, query, headers, status in refusals(server):
            server.ahead_s += 60
            more = {"origin": headers["Origin"]} if "Origin" in headers else {}
            more |= {"host": headers["Host"]} if "Host" in headers else {}
            lines = [f"Authorization: {headers['Authorization']}"] if "Authorization" in headers else []
            with pytest.raises(websocket.WebSocketBadStatusException) as refused:
                websocket.create_connection(ws_url(server, query), header=lines, timeout=5, **more)
            assert refused.value.status_code == status, what


# -- aiohttp ------------------------------------------------------------------------------------


async def test_aiohttp_subscribes_over_websocket_and_gets_an_update(server):
    async with (
        aiohttp.ClientSession(headers=bearer(server.token())) as session,
        session.ws_connect(ws_url(server), protocols=(SUBPROTOCOL,)) as peer,
    ):
        assert peer.protocol == SUBPROTOCOL
        assert (await peer.receive_json())["event"] == "connected"
        await peer.send_json({"event": "subscribe", "data": {"update_interval": 1}})
        assert (await peer.receive_json())["event"] == "subscribed"
        assert (await peer.receive_json())["event"] == "metrics_update"
        server.amiga.total = 8
        assert (await peer.receive_json())["data"]["overview"]["tasks"]["total"] == 8


async def test_aiohttp_reads_the_event_stream(server):
    async with (
        aiohttp.ClientSession(headers=bearer(server.token())) as session,
        session.get(sse_url(server, "?interval=1")) as reply,
    ):
        assert (reply.status, reply.content_type) == (200, "text/event-stream")
        totals = []
        server.amiga.total = 7
        async for line in reply.content:
            if line.startswith(b'data: {"hours"'):
                totals.append(json.loads(line[6:])["overview"]["tasks"]["total"])
                server.amiga.total = 8
            if 8 in totals:
                break
        assert totals == [7, 8]


async def test_aiohttp_is_refused_rightly_on_both(server):
    async with aiohttp.ClientSession() as session:
        for what, query, headers, status in refusals(server):
            server.ahead_s += 60
            async with session.get(sse_url(server, query), headers=headers) as reply:
                assert reply.status == status, what
                assert set(await reply.json()) == {"error", "code", "ref"}
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(ws_url(server, query), headers=headers)
            assert refused.value.status == status, what


async def test_without_a_token_everything_but_the_late_websocket_is_401(server):
    async with aiohttp.ClientSession() as session:
        for path in ("/api/stream/metrics", "/api/metrics/overview", "/api/tasks", "/api/session"):
            async with session.get(server.url + path) as reply:
                assert reply.status == 401, path
                assert reply.headers["WWW-Authenticate"] == 'Bearer realm="amiga_ws"'


async def test_aiohttp_signs_in_and_uses_its_cookie_jar(server):
    jar = aiohttp.CookieJar(unsafe=True)  # cookies of an IP address
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        async with session.post(f"{server.url}/api/session", headers=bearer(server.token())) as reply:
            assert reply.status == 201
        async with session.get(f"{server.url}/api/session") as reply:
            assert (await reply.json())["subject"] == "ada"
        async with session.ws_connect(ws_url(server), origin=server.url) as peer:
            assert (await peer.receive_json())["event"] == "connected"


# -- curl ---------------------------------------------------------------------------------------


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
def test_curl_reads_the_event_stream(threaded):
    with threaded() as server:
        command = [CURL, "-sSN", "--max-time", "10", sse_url(server, "?interval=1")]
        with subprocess.Popen(  # noqa: S603 - our own words
            [*command, "-H", f"Authorization: Bearer {server.token()}"], stdout=subprocess.PIPE
        ) as curl:
            threading.Timer(1.0, lambda: setattr(server.amiga, "total", 8)).start()
            lines = []
            while not lines or '"total":8' not in lines[-1]:
                lines.append(curl.stdout.readline().decode())
            curl.terminate()
        assert lines[0].startswith("retry: ")
        assert "event: connected\n" in lines
        assert "event: subscribed\n" in lines
        assert any(line.startswith("id: ") for line in lines)


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
def test_curl_is_refused_rightly(threaded):
    with threaded() as server:
        for what, query, headers, status in [("no token", "", {}, 401), *refusals(server)]:
            server.ahead_s += 60
            options = [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
            got = subprocess.run(  # noqa: S603 - our own words
                [CURL, "-sS", "-o", os.devnull, "-w", "%{http_code}", *options, sse_url(server, query)],
                check=True,
                capture_output=True,
                text=True,
                timeout=10,
            )
            assert got.stdout == str(status), what


# -- many at once -------------------------------------------------------------------------------


async def test_all_kinds_at_once_see_the_same_states(start):
    server = await start()
    async with (
        connect(ws_url(server), additional_headers=bearer(server.token())) as one,
        aiohttp.ClientSession(headers=bearer(server.token("bob"))) as session,
        session.ws_connect(ws_url(server)) as two,
    ):
        three = await server.events("?interval=1")
        command = {"event": "subscribe", "data": {"update_interval": 1}}
        await one.send(json.dumps(command))
        await two.send_json(command)
        for total in (7, 8, 9):
            server.amiga.total = total

            states = await asyncio.gather(
                state_of(total, one.recv, json.loads),
                state_of(total, two.receive_str, json.loads),
                state_of(total, three.next, lambda event: {"data": event.data}),
            )
            assert states[0] == states[1] == states[2]


async def state_of(total, receive, parse):
    """The first state with that many tasks."""
    while True:
        data = parse(await receive())["data"]
        if data.get("overview", {}).get("tasks", {}).get("total") == total:
            return data
