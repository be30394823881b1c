"""A bug in our own code, or a collector that hangs: one request, or one section, pays for it, and nobody else.

The faults are put in from here: the product has no switch for them.
"""

from __future__ import annotations

import pytest
from routes import every_route
from servers import eventually

from amiga_ws.dialogue import Dialogue
from amiga_ws.handlers import sse
from amiga_ws.handlers.websocket import MetricsSocket

KNOWN = "what the bug knew"
STREAMS = ("/ws", "/api/stream/metrics")


def broken(*_args, **_kwargs):
    raise RuntimeError(KNOWN)


def routes():
    """(path, handler, method) of every method of every route but the streams'."""
    for path, handler in every_route():
        if path not in STREAMS:
            for method in ("GET", "POST", "DELETE"):
                if vars_of(handler).get(method.lower()) is not None:
                    yield path, handler, method


def vars_of(handler):
    """The methods a handler has of its own or from a base of ours."""
    ours = [each for each in reversed(handler.__mro__) if each.__module__.startswith("amiga_ws")]
    return {name: value for each in ours for name, value in vars(each).items()}


@pytest.mark.promise(
    "An exception in any handler is a 500 that tells nothing, and the next request is answered"
)
async def test_a_bug_in_any_handler_costs_one_request(start, monkeypatch, caplog, figure):
    server = await start("limits.requests_burst=1000")
    everything = server.token(scope="metrics:read admin")
    watcher = await server.websocket()
    await watcher.say("subscribe")
    await watcher.until("metrics_update")
    cookie = {"Cookie": server.session(scope="metrics:read admin"), "Origin": server.url}
    tried = 0
    for path, handler, method in routes():
        headers = (
            cookie
            if handler.page or not handler.explicit_types
            else {"Authorization": f"Bearer {everything}"}
        )
        if path == "/api/session" and method == "POST":
            headers = {"Authorization": f"Bearer {server.token(typ='login', ttl_s=60)}"}
        elif path.startswith("/api/session"):
            headers = cookie
        with monkeypatch.context() as patched:
            patched.setattr(handler, method.lower(), broken)
            reply = await server.ask(path, headers, method=method)
        assert reply.status == 500, (method, path)
        assert set(reply.json) == {"error", "code", "ref"}
        assert KNOWN not in reply.body.decode()
        assert reply.json["ref"] in caplog.text
        assert (await server.ask("/health")).status == 200
        tried += 1
    assert tried >= 15
    caplog.clear()
    server.amiga.total += 1
    assert (await watcher.until("metrics_update"))["data"]["overview"]["tasks"]["total"] == server.amiga.total
    figure(f"{tried} handlers broken one by one; the open stream kept its updates")


@pytest.mark.promise("A bug while a message is obeyed, or a stream begun, closes that stream with 4006 alone")
async def test_a_bug_in_a_stream_costs_that_stream(server, monkeypatch, caplog):
    watcher = await server.websocket()
    await watcher.say("subscribe", {"update_interval": 1})
    await watcher.until("metrics_update")
    with monkeypatch.context() as patched:
        patched.setattr(Dialogue, "subscribe", broken)
        victim = await server.websocket()
        await victim.say("subscribe")
        assert (await victim.until("bye"))["data"]["code"] == 4006
        assert (await victim.closed())[0] == 4006
        stream = await server.events()
        assert (await stream.until("bye")).data["code"] == 4006
        assert await stream.next() is None
    with monkeypatch.context() as patched:
        patched.setattr(MetricsSocket, "_begin", broken)
        victim = await server.websocket()
        assert (await victim.closed())[0] in (1006, 1011)
    with monkeypatch.context() as patched:
        patched.setattr(sse, "welcome", broken)
        victim = await server.events()
        assert await victim.next() is None
    assert KNOWN in caplog.text
    caplog.clear()
    await eventually(lambda: server.hub.connections_of() == 1)
    server.amiga.total += 1
    assert (await watcher.until("metrics_update"))["data"]["overview"]["tasks"]["total"] == server.amiga.total
    await (await server.events()).until(None)  # the state


@pytest.mark.promise("A tick that fails is logged and the next one comes")
async def test_a_bug_in_a_tick_costs_that_tick(server, monkeypatch, caplog):
    watcher = await server.websocket()
    await watcher.say("subscribe", {"update_interval": 1})
    await watcher.until("metrics_update")
    server.amiga.total += 1
    with monkeypatch.context() as patched:
        patched.setattr(server.hub, "advance", broken)
        await eventually(lambda: KNOWN in caplog.text)
    caplog.clear()
    assert (await watcher.until("metrics_update"))["data"]["overview"]["tasks"]["total"] == server.amiga.total


@pytest.mark.promise("A collector that hangs or raises degrades its own section; the others stay live")
async def test_a_hung_or_broken_collector_holds_up_nobody_else(server, caplog):
    watcher = await server.websocket()
    await watcher.say("subscribe", {"update_interval": 1})
    await watcher.until("metrics_update")
    server.amiga.gate.clear()
    for cpu in (31.0, 47.0):
        server.host.cpu_percent = cpu
        while (await watcher.until("metrics_update"))["data"]["overview"]["system"]["cpu_percent"] != cpu:
            pass
    server.amiga.gate.set()
    server.host.collect = broken
    server.amiga.total = 11
    seen = {}
    while (
        seen.get("overview", {}).get("tasks", {}).get("total") != 11
        or seen["sources"]["host"]["state"] != "error"
    ):
        seen = (await watcher.until("metrics_update"))["data"]
    assert seen["overview"]["system"]["cpu_percent"] == 47.0  # the last good one
    assert KNOWN in caplog.text
    assert KNOWN not in str(seen)
    caplog.clear()
    del server.host.collect
    while seen["sources"]["host"]["state"] != "ok":
        seen = (await watcher.until("metrics_update"))["data"]
