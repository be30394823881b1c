"""`GET /metrics`: what an operator watches, for Prometheus. Put together when it is asked for, from counters
that are kept anyway.

No label takes a value from outside: transports, close codes, statuses and kinds of refusals, sources and
states are fixed sets, so that neither a peer nor AMIGA's data can make the number of series grow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from amiga_ws import __version__
from amiga_ws.handlers.compression import finish_compressed
from amiga_ws.handlers.guard import Services
from amiga_ws.handlers.operations import answers
from amiga_ws.handlers.refusals import Problem, RefusedError
from amiga_ws.handlers.rest import Api
from amiga_ws.measures import Histogram
from amiga_ws.snapshot import Snapshot, SourceState
from amiga_ws.wire import Close

try:
    from prometheus_client import CollectorRegistry, ProcessCollector
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        InfoMetricFamily,
        Metric,
    )
    from prometheus_client.exposition import choose_encoder
except ImportError:  # the extra `metrics` is not installed
    CollectorRegistry = None  # type: ignore[assignment,misc]  # asked before use

WINDOW_H = 24  # of what is counted by a window
STATES: tuple[SourceState, ...] = ("ok", "loading", "missing", "stale", "error")
TASK_STATES = ("pending", "running", "completed", "failed", "stopped", "other")
CALL_STATES = ("running", "failed", "orphaned")
TEXT = "text/plain"


class Metrics(Api):
    """`GET /metrics`: for Prometheus, in its text format or as OpenMetrics."""

    @answers(str, media=(TEXT,), also={501: Problem})
    async def get(self) -> None:
        if CollectorRegistry is None:
            text = (
                "/metrics needs the package prometheus-client: "
                "`python -m pip install prometheus-client` with this server's Python, and restart"
            )
            reason = "prometheus-client is not installed"
            raise RefusedError(501, "unavailable", text, reason, kind="extra")
        snapshot = await self.services.facts.current(self.services.hub.hours_in_use(), WINDOW_H)
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(_Exposition(self.services, snapshot))
        encode, content_type = choose_encoder(self.request.headers.get("Accept", ""))
        self.set_header("Content-Type", content_type)
        finish_compressed(self, encode(registry))


class _Exposition:
    """Speaks prometheus_client's protocol of a collector."""

    def __init__(self, services: Services, snapshot: Snapshot) -> None:
        self._services = services
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """All families."""
        yield InfoMetricFamily("amiga_ws", "This server.", {"version": __version__})
        yield from _viewers(self._services)
        yield from _work(self._services)
        yield from _sources(self._snapshot, self._services.clock.wall())
        yield from _amiga(self._snapshot)


def _viewers(services: Services) -> Iterator[Metric]:
    hub = services.hub
    clients = Counter(client.transport.kind for client in hub.clients.values())
    yield _gauges(
        "amiga_ws_clients",
        "Open streams.",
        "transport",
        {kind: clients[kind] for kind in ("websocket", "sse")},
    )
    yield _gauge("amiga_ws_clients_limit", "Open streams there may be.", services.max_connections)
    yield _gauge(
        "amiga_ws_clients_pending",
        "Sockets that have not brought a credential yet.",
        services.pending.total(),
    )
    yield _gauge(
        "amiga_ws_clients_lagging",
        "Streams whose peer is slow: it is owed a state.",
        sum(client.owed for client in hub.clients.values()),
    )
    ended = CounterMetricFamily(
        "amiga_ws_clients_ended",
        "Streams that we ended, by close code (docs/protocol.md): 4002 slow, 4505 evicted.",
        labels=["code"],
    )
    for code in Close:
        ended.add_metric([str(int(code))], hub.ended[code])
    yield ended
    refusals = CounterMetricFamily(
        "amiga_ws_refusals", "Requests that were refused.", labels=["status", "kind"]
    )
    for (status, kind), count in sorted(services.refusals.counts.items()):
        refusals.add_metric([str(status), kind], count)
    yield refusals


def _work(services: Services) -> Iterator[Metric]:
    hub, measures = services.hub, services.measures
    yield CounterMetricFamily("amiga_ws_deliveries", "States given to viewers by ticks.", hub.delivered)
    yield CounterMetricFamily(
        "amiga_ws_coalesced", "States that came while a viewer was busy with an earlier one.", hub.coalesced
    )
    yield _histogram(
        "amiga_ws_tick_seconds", "Ticks: from their beginning to the last viewer.", measures.ticks
    )
    yield _histogram("amiga_ws_loop_lag_seconds", "How late the event loop was.", measures.loop_lag)


def _sources(snapshot: Snapshot, now: float) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "amiga_ws_source_state", "1 for the state a source is in.", labels=["source", "state"]
    )
    age = GaugeMetricFamily(
        "amiga_ws_source_age_seconds", "Since the last good look at a source.", labels=["source"]
    )
    for name, source in sorted(snapshot.sources.items()):
        for each in STATES:
            state.add_metric([name, each], float(source.state == each))
        if source.as_of is not None:
            age.add_metric([name], max(0.0, now - source.as_of))
    yield state
    yield age


def _amiga(snapshot: Snapshot) -> Iterator[Metric]:
    """What is unknown is absent."""
    overview, attention = snapshot.overview, Counter(each.severity for each in snapshot.attention)
    yield _gauges("amiga_tasks", "AMIGA's tasks, ever.", "status", _known(overview.tasks, TASK_STATES))
    calls = _known(overview.tools, CALL_STATES)
    if (total := overview.tools.total_calls) is not None:
        calls["ended"] = total - sum(calls.get(name, 0) for name in ("running", "orphaned"))
    yield _gauges("amiga_tool_calls_24h", "Tool calls; the failed ones have ended, too.", "state", calls)
    costs = {"24h": overview.costs.total_cost} | {
        name: getattr(overview.costs, name) for name in ("today", "d7", "d30")
    }
    yield _gauges(
        "amiga_cost",
        f"What is known to have been spent ({overview.costs.currency}).",
        "window",
        {name: cost for name, cost in costs.items() if cost is not None},
    )
    if overview.costs.unpriced_calls is not None:
        yield _gauge("amiga_unpriced_calls_24h", "API calls without a price.", overview.costs.unpriced_calls)
    yield _gauges(
        "amiga_attention",
        "What wants a person's eye.",
        "severity",
        {severity: attention[severity] for severity in ("warn", "crit")},
    )
    process = overview.system.processes.amiga
    yield _gauge(
        "amiga_up", "Whether AMIGA's process is there.", float(process is not None and process.alive)
    )


def _known(part: Any, names: tuple[str, ...]) -> dict[str, float]:
    return {name: value for name in names if (value := getattr(part, name)) is not None}


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)


def _gauges(name: str, text: str, label: str, values: dict[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for each, value in values.items():
        family.add_metric([each], value)
    return family


def _histogram(name: str, text: str, found: Histogram) -> Metric:
    family = HistogramMetricFamily(name, text)
    family.add_metric([], found.cumulative(), found.total)
    return family
