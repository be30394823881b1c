"""`/metrics`: what an operator needs, in labels that nobody can make grow."""

from __future__ import annotations

import gzip
import time

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text_format
from servers import eventually

from amiga_ws.handlers import prometheus
from amiga_ws.measures import Histogram
from amiga_ws.wire import Close


async def scrape(server):
    """{(name, values of its labels in their names' order): value} of a scrape."""
    reply = await server.ask_as(server.token(), "/metrics")
    assert reply.status == 200
    samples = [sample for family in text_format(reply.body.decode()) for sample in family.samples]
    return {(each.name, *(each.labels[key] for key in sorted(each.labels))): each.value for each in samples}


async def test_it_tells_who_is_here_and_what_they_got(server):
    await server.events()
    peer = await server.websocket()
    await peer.say("subscribe", {"update_interval": 1})
    await peer.until("metrics_update")
    server.host.cpu_percent = 50.0
    await eventually(lambda: server.hub.delivered)  # by the server's own tick
    found = await scrape(server)
    assert found["amiga_ws_clients", "websocket"] == 1
    assert found["amiga_ws_clients", "sse"] == 1
    assert found["amiga_ws_clients_limit",] > 1
    assert found["amiga_ws_deliveries_total",] >= 1
    assert found["amiga_ws_tick_seconds_count",] >= 1
    assert found["amiga_ws_tick_seconds_bucket", "+Inf"] == found["amiga_ws_tick_seconds_count",]
    for client in list(server.hub.clients.values()):
        server.hub.close(client, Close.EVICTED, "a test")
    found = await scrape(server)
    assert found["amiga_ws_clients", "sse"] == 0
    assert found["amiga_ws_clients_ended_total", "4505"] == 2
    assert found["amiga_ws_clients_ended_total", "4002"] == 0


async def test_it_tells_how_amiga_and_its_sources_stand(server):
    found = await scrape(server)
    assert found["amiga_tasks", "running"] == 1
    assert ("amiga_tasks", "failed") not in found  # unknown is absent, not 0
    assert found["amiga_up",] == 0
    assert found["amiga_ws_source_state", "amiga", "ok"] == 1
    assert found["amiga_ws_source_state", "amiga", "missing"] == 0
    assert 0 <= found["amiga_ws_source_age_seconds", "amiga"] < 5
    assert found["process_resident_memory_bytes",] > 1e6
    assert found["process_open_fds",] > 3
    assert abs(found["process_start_time_seconds",] - time.time()) < 1e6


async def test_it_is_gzipped_for_who_takes_that(server):
    reply = await server.ask_as(server.token(), "/metrics", {"Accept-Encoding": "gzip"})
    assert reply.header("Content-Encoding") == "gzip"
    assert any(
        family.name == "amiga_ws_clients" for family in text_format(gzip.decompress(reply.body).decode())
    )
    assert (await server.ask_as(server.token(), "/metrics")).header("Content-Encoding") is None


async def test_the_loop_says_how_late_it_was(server):
    await eventually(lambda: sum(server.measures.loop_lag.counts) > 0)
    assert (await scrape(server))["amiga_ws_loop_lag_seconds_count",] >= 1


async def test_no_peer_can_make_the_labels_grow(start):
    """Names, origins, paths and tokens that a peer makes up are counted, not listed."""
    server = await start("limits.requests_burst=1000")
    server.services.rates.sign_in_failures.set_limit(1e6, 1e6)
    for i in range(30):
        await server.ask("/health", host=f"evil{i}.example")
        await server.ask("/health", {"Origin": f"http://evil{i}.example"})
        await server.ask_as(f"rubbish{i}", f"/api/tasks/{i}")
        await server.ask(f"/{i}?token=eyJ{i}")
    found = await scrape(server)
    refusals = {
        labels[1:]: value for labels, value in found.items() if labels[0] == "amiga_ws_refusals_total"
    }
    assert refusals == {
        ("host", "421"): 30,
        ("origin", "403"): 30,
        ("credential", "401"): 30,
        ("request", "400"): 30,
    }


async def test_a_limit_that_refuses_is_named(start):
    server = await start("limits.requests_burst=2", "limits.requests_per_second=0.01")
    for _ in range(4):
        await server.ask("/no-such-path")
    assert server.services.refusals.counts[429, "limits.requests_per_second"] == 2


async def test_openmetrics_is_spoken_to_who_asks_for_it(server):
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    reply = await server.ask_as(server.token(), "/metrics", accept)
    assert reply.header("Content-Type").startswith("application/openmetrics-text")
    names = {family.name for family in openmetrics(reply.body.decode())}
    assert {"amiga_ws_clients", "amiga_ws_tick_seconds", "amiga_tasks"} <= names


async def test_it_wants_the_scope(server):
    assert (await server.ask("/metrics")).status == 401
    assert (await server.ask_as(server.token(scope="admin"), "/metrics")).status == 403


async def test_without_the_package_it_says_what_to_install(server, monkeypatch):
    monkeypatch.setattr(prometheus, "CollectorRegistry", None)
    reply = await server.ask_as(server.token(), "/metrics")
    assert (reply.status, reply.json["code"]) == (501, "unavailable")
    assert "pip install prometheus-client" in reply.json["error"]
    assert server.services.refusals.counts == {(501, "extra"): 1}  # nobody has tried a credential


@pytest.mark.parametrize(("value", "bound"), [(0.0, "0.1"), (0.1, "0.1"), (0.11, "1.0"), (7.0, "+Inf")])
def test_a_histogram_counts_each_value_from_its_bound_on(value, bound):
    found = Histogram((0.1, 1.0))
    found.observe(value)
    assert next(name for name, count in found.cumulative() if count) == bound
    assert found.cumulative()[-1] == ("+Inf", 1)
    assert found.total == value
