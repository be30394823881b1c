"""The browser's own EventSource on the stream: it knows nothing of our client, and recovers all the same."""

from __future__ import annotations

import json
import time

import pytest

LOST = r"ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET"
OPEN = """
([name, query]) => {
  const source = new EventSource("/api/stream/metrics" + query);
  const heard = (window[name] = {source, updates: [], byes: [], events: [], opened: 0});
  source.onopen = () => { heard.opened += 1; };
  source.onmessage = (event) => heard.updates.push({id: event.lastEventId, data: JSON.parse(event.data)});
  for (const name of ["connected", "subscribed", "metrics_patch", "heartbeat", "auth", "token_refreshed"])
    source.addEventListener(name, (event) => heard.events.push({name, data: JSON.parse(event.data)}));
  source.addEventListener("bye", (event) => heard.byes.push(JSON.parse(event.data)));
}
"""

STREAMS = "JSON.stringify([window.stream, window.first, window.second])"


@pytest.fixture
def quiet(look, own_site):
    """quiet("key=value", ...) → a signed-in page that opens no stream by itself."""

    def quiet(*overrides):
        viewer = look(own_site("limits.new_connections_burst=100", *overrides))
        viewer.arrive("/login")
        return viewer

    return quiet


def open_source(viewer, name="stream", query="?interval=1"):
    viewer.page.evaluate(OPEN, [name, query])


def wait(viewer, condition, within_s=10):
    deadline = time.monotonic() + within_s
    while not viewer.page.evaluate(
        condition
    ):  # Playwright's own waiting wants eval, which our policy forbids
        assert time.monotonic() < deadline, f"{condition}: {viewer.page.evaluate(STREAMS)}"
        viewer.page.wait_for_timeout(50)


def heard(viewer, name="stream"):
    return json.loads(viewer.page.evaluate("(name) => JSON.stringify({...window[name], source: null})", name))


def test_native_event_source_gets_updates_and_recovers_after_a_restart(quiet):
    viewer = quiet()
    site = viewer.site
    viewer.forgive(LOST)
    open_source(viewer)
    wait(viewer, "stream.updates.length >= 1")
    assert [event["name"] for event in heard(viewer)["events"]] == ["connected", "subscribed"]
    site.sim.queue_task("Told to an EventSource")
    wait(viewer, "stream.updates.at(-1).data.overview.tasks.total === 5")
    before = heard(viewer)
    assert all(update["id"] == update["data"]["position"] for update in before["updates"])

    site.stop()
    wait(viewer, "stream.byes.length >= 1")
    [bye] = heard(viewer)["byes"]
    assert (bye["code"], bye["reconnect"]) == (4001, True)
    site.sim.queue_task("While nobody listened")
    site.start()
    wait(viewer, "stream.updates.at(-1).data.overview.tasks.total === 6", within_s=15)
    after = heard(viewer)
    assert after["opened"] == 2
    # It came back with its last position, and was told that this server cannot continue from there.
    subscribed = [event["data"] for event in after["events"] if event["name"] == "subscribed"][-1]
    assert (subscribed["resumed"], subscribed["why"]) == (False, "epoch")


@pytest.mark.parametrize("limit", ["limits.connections_per_address=1", "limits.connections=1"])
def test_temporary_refusal_is_told_softly_and_overcome(quiet, limit):
    """429 and 503 would kill an EventSource for ever."""
    viewer = quiet(limit)
    open_source(viewer, "first")
    wait(viewer, "first.updates.length >= 1")
    open_source(viewer, "second")
    wait(viewer, "second.byes.length >= 1")
    assert heard(viewer, "second")["byes"][0]["reconnect"] is True
    viewer.page.evaluate("first.source.close()")
    wait(viewer, "second.updates.length >= 1", within_s=20)


def test_one_that_comes_while_the_server_drains_finds_the_next_server(quiet):
    viewer = quiet("server.drain_s=60s")
    viewer.forgive(LOST)
    open_source(viewer, "first")
    wait(viewer, "first.updates.length >= 1")
    viewer.site.drain()
    open_source(viewer, "second")
    wait(viewer, "second.byes.length >= 1")
    assert heard(viewer, "second")["byes"][0]["code"] == 4001
    viewer.site.sim.queue_task("Seen by who was there before")
    wait(viewer, "first.updates.at(-1).data.overview.tasks.total === 5")
    viewer.site.stop()
    viewer.site.start()
    wait(viewer, "first.opened >= 2 && second.updates.length >= 1", within_s=20)
    viewer.site.drain()
    viewer.site.stop()  # the second signal: or it would drain for a minute


def test_permanent_refusal_ends_it(quiet):
    viewer = quiet()
    viewer.forgive("status of 401")
    viewer.page.context.clear_cookies()
    open_source(viewer)
    wait(viewer, "stream.source.readyState === 2")
    assert heard(viewer)["opened"] == 0


def test_deltas_come_as_named_events(quiet):
    viewer = quiet()
    open_source(viewer, query="?interval=1&delta=1")
    wait(viewer, "stream.updates.length >= 1")
    viewer.site.sim.queue_task("As a patch")
    wait(viewer, "stream.events.some((event) => event.name === 'metrics_patch')")
    assert len(heard(viewer)["updates"]) == 1


def test_renewal_of_the_session_extends_the_stream_without_a_reconnect(quiet):
    """Of the EventSource and of a WebSocket alike: both belong to the same sign-in."""
    viewer = quiet()
    open_source(viewer)
    wait(viewer, "stream.updates.length >= 1")
    viewer.page.evaluate(
        """() => { window.told = []; window.socket = new WebSocket(location.origin.replace("http", "ws") + "/ws");
          socket.onmessage = (event) => told.push(JSON.parse(event.data).event);
          return new Promise((resolve) => { socket.onopen = resolve; }); }"""
    )
    assert viewer.fetch("/api/session/renew", method="POST")["status"] == 200
    wait(viewer, "stream.events.at(-1).name === 'token_refreshed'")
    wait(viewer, "told.includes('token_refreshed')")
    assert heard(viewer)["opened"] == 1
    assert viewer.page.evaluate("socket.readyState") == 1


def test_signing_out_ends_it_for_good(quiet):
    viewer = quiet()
    viewer.forgive("status of 401")
    open_source(viewer)
    wait(viewer, "stream.updates.length >= 1")
    assert viewer.fetch("/api/session", method="DELETE")["status"] == 204
    wait(viewer, "stream.byes.length >= 1")
    assert heard(viewer)["byes"][0]["code"] == 4503
    wait(viewer, "stream.source.readyState === 2")  # it asked again by itself, once, and was refused
