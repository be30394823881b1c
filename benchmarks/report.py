"""From runs to a table, to ratios, and to what was promised."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from cells import CELLS, FLOOR, SSE, STALLED, WEBSOCKET, Cell

Run = dict[str, Any]
Runs = dict[str, list[Run]]  # by cell, in the order of the repetitions
MIDDLES = (
    "cpu_us",
    "fanout_us",
    "times_bare",
    "p50_ms",
    "p99_ms",
    "last_ms",
    "worst_ms",
    "bytes",
    "rss_kib",
    "rss_grown_mib",
    "connects_per_s",
    "connect_cpu_us",
    "rest_us_s",
    "stall_ms",
    "stall_cpu_ms",
)


def middle(runs: Runs, cell: str, key: str) -> float | None:
    """The median over the repetitions."""
    values = [run[key] for run in runs.get(cell, ()) if key in run]
    return statistics.median(values) if values else None


def ratio(runs: Runs, cell: str, base: str, key: str = "cpu_us") -> float | None:
    """The median of the ratios of each repetition: what drifts drifts in both."""
    pairs = {run["repetition"]: run for run in runs.get(base, ())}
    values = [
        run[key] / pairs[run["repetition"]][key]
        for run in runs.get(cell, ())
        if key in run and run["repetition"] in pairs and key in pairs[run["repetition"]]
    ]
    return statistics.median(values) if values else None


def floor_of(cell: Cell) -> Cell:
    """The send loop over as many clients and bytes, or the usual one."""
    alike = (
        other
        for other in CELLS
        if other.server == FLOOR.server and (other.clients, other.kib) == (cell.clients, cell.kib)
    )
    return next(alike, FLOOR)


def summary(runs: Runs) -> dict[str, Run]:
    """Medians of every cell, the spread of its CPU, and its ratio to the floor."""
    found: dict[str, Run] = {}
    for cell in CELLS:
        if not (own := runs.get(cell.name)):
            continue
        values = {key: middle(runs, cell.name, key) for key in MIDDLES}
        cpu = [run["cpu_us"] for run in own]
        found[cell.name] = {
            "clients": own[0]["clients"],
            "kib": cell.kib,
            **{key: round(value, 3) for key, value in values.items() if value is not None},
            "cpu_us_range": [round(min(cpu), 2), round(max(cpu), 2)],
            "times_floor": ratio(runs, cell.name, floor_of(cell).name),
            "worst_foreign": max(run["noise"]["foreign"] for run in own),
            "most_load_busy": max(run["noise"]["load_busy"] for run in own),
            "repetitions": len(own),
        }
    return found


# -- tables ----------------------------------------------------------------------------------------

COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("clients", "clients", "d"),
    ("KiB", "kib", "d"),
    ("CPU us", "cpu_us", ".1f"),
    ("x floor", "times_floor", ".2f"),
    ("x bare", "times_bare", ".2f"),
    ("fan-out us", "fanout_us", ".1f"),
    ("p50 ms", "p50_ms", ".1f"),
    ("p99 ms", "p99_ms", ".1f"),
    ("last ms", "last_ms", ".1f"),
    ("bytes", "bytes", ".0f"),
    ("RSS KiB", "rss_kib", ".1f"),
    ("conn/s", "connects_per_s", ".0f"),
    ("conn us", "connect_cpu_us", ".0f"),
    ("rest us/s", "rest_us_s", ".1f"),
    ("stall ms", "stall_cpu_ms", ".1f"),
)


def table(found: dict[str, Run]) -> str:
    """One line a cell. CPU and bytes are per delivery, RSS per connection, times from the tick's begin."""
    lines = [["", *(title for title, _, _ in COLUMNS), "CPU least-most"]]
    for name, values in found.items():
        cells = [_shown(values.get(key), form) for _, key, form in COLUMNS]
        lines.append([name, *cells, "{:.1f}-{:.1f}".format(*values["cpu_us_range"])])
    return aligned(lines)


def aligned(lines: list[list[str]]) -> str:
    """Columns of equal width, the first to the left."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


# -- what was promised -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Promise:
    """One line of the last table: `value` against `limit`."""

    text: str
    value: Callable[[Runs, Run], float | None]
    limit: float
    at_least: bool = False
    unit: str = "x"


def _ratio(cell: str, base: str, key: str = "cpu_us") -> Callable[[Runs, Run], float | None]:
    return lambda runs, _real: ratio(runs, cell, base, key)


def _middle(cell: str, key: str) -> Callable[[Runs, Run], float | None]:
    return lambda runs, _real: middle(runs, cell, key)


def _saved(part: str) -> Callable[[Runs, Run], float | None]:
    def value(_runs: Runs, real: Run) -> float | None:
        seen = real.get(part)
        return seen and seen["full"]["bytes_per_client_minute"] / seen["delta"]["bytes_per_client_minute"]

    return value


def _worst_stall(runs: Runs, _real: Run) -> float | None:
    return max(
        (run["stall_cpu_ms"] for run in runs.get(WEBSOCKET.name, ()) if "stall_cpu_ms" in run), default=None
    )


def _patch_share(_runs: Runs, real: Run) -> float | None:
    busy = real.get("busy")
    return busy and 100 * busy["delta"]["median_bytes"] / max(busy["full"]["median_bytes"], 1)


def _real(*path: str) -> Callable[[Runs, Run], float | None]:
    def value(_runs: Runs, real: Run) -> float | None:
        for name in path:
            real = real.get(name) or {}
        return real or None  # type: ignore[return-value]  # a number at the end of the path

    return value


PROMISES: tuple[Promise, ...] = (
    Promise("WebSocket to 1,000, CPU of the send loop", _ratio(WEBSOCKET.name, FLOOR.name), 1.35),
    Promise("SSE to 1,000, CPU of the send loop", _ratio(SSE.name, FLOOR.name), 1.35),
    Promise("WebSocket to 1,000, of a bare loop over the same", _middle(WEBSOCKET.name, "times_bare"), 1.35),
    Promise("SSE to 1,000, of a bare loop over the same", _middle(SSE.name, "times_bare"), 1.35),
    Promise(
        "WebSocket to 10, fan-out alone, of the send loop", _ratio("ours x10", "floor x10", "fanout_us"), 1.6
    ),
    Promise("WebSocket to 10, whole tick, of the send loop", _ratio("ours x10", "floor x10"), 1.6),
    Promise("less CPU than websockets.broadcast", _ratio("websockets.broadcast", WEBSOCKET.name), 1.4, True),
    Promise("less CPU than Tornado write_message", _ratio("Tornado write_message", WEBSOCKET.name), 3, True),
    Promise(
        "less CPU than Flask-SocketIO emit to each",
        _ratio("Flask-SocketIO emit to each", WEBSOCKET.name),
        50,
        True,
    ),
    Promise("last of 1,000, time of the send loop", _ratio(WEBSOCKET.name, FLOOR.name, "last_ms"), 1.4),
    Promise("longest stall of the loop at 1,000 (its CPU)", _worst_stall, 10, unit="ms"),
    Promise(
        "p99 beside 50 stalled clients, of p99 without", _ratio(STALLED.name, WEBSOCKET.name, "p99_ms"), 1.1
    ),
    Promise(
        "RSS growth over all ticks beside 50 stalled", _middle(STALLED.name, "rss_grown_mib"), 5, unit="MiB"
    ),
    Promise("delta, fewer bytes per client-minute (busy)", _saved("busy"), 10, True),
    Promise("median patch of the snapshot (busy)", _patch_share, 10, unit="%"),
    Promise("median patch (busy)", _real("busy", "delta", "median_bytes"), 2048, unit="bytes"),
    Promise("RSS per connection at 10,000", _middle("ours x10000 at rest", "rss_kib"), 18, unit="KiB"),
    Promise(
        "connections per second, token checked", _middle(WEBSOCKET.name, "connects_per_s"), 1000, True, "/s"
    ),
    Promise("CPU with no client", _real("idle_cpu_percent"), 0.5, unit="%"),
    Promise("CPU with 100 clients at 2 s, at rest", _real("at_rest", "cpu_percent"), 2, unit="%"),
)


def verdicts(runs: Runs, real: Run) -> list[Run]:
    """Each promise with what was measured; `met` is None where nothing was."""
    found: list[Run] = []
    for promise in PROMISES:
        value = promise.value(runs, real)
        met = (
            None if value is None else value >= promise.limit if promise.at_least else value <= promise.limit
        )
        sign = "at least" if promise.at_least else "at most"
        found.append(
            {
                "promise": promise.text,
                "value": value,
                "unit": promise.unit,
                "limit": f"{sign} {promise.limit:g}",
                "met": met,
            }
        )
    return found


def promises_table(found: Iterable[Run]) -> str:
    """Met, not met, or not measured."""
    lines = [["promise", "measured", "limit", ""]]
    words = {True: "met", False: "NOT MET", None: "not measured"}
    for each in found:
        value = "-" if each["value"] is None else f"{each['value']:.2f} {each['unit']}"
        lines.append([each["promise"], value, each["limit"], words[each["met"]]])
    return aligned(lines)


def real_table(real: Run) -> str:
    """What the whole server does by itself."""
    lines = [
        [
            "simulated AMIGA, every 2 s",
            "bytes/client-minute",
            "updates/min",
            "median bytes",
            "CPU %, 100 clients",
        ]
    ]
    for part in ("at_rest", "busy"):
        for kind in ("full", "delta"):
            seen = real[part][kind]
            lines.append(
                [
                    f"{part.replace('_', ' ')}, {kind}",
                    f"{seen['bytes_per_client_minute']:,.0f}",
                    f"{seen['updates_per_client_minute']:.1f}",
                    f"{seen['median_bytes']:,}",
                    f"{real[part]['cpu_percent']:.2f}",
                ]
            )
    rows = real["row_to_frame_ms"]
    text = f"{rows['seen']} of {rows['written']} rows seen"
    if rows["seen"]:
        text += f": median {rows['median']:.0f} ms, least {rows['least']:.0f}, most {rows['most']:.0f}"
    idle = f"CPU with no client: {real['idle_cpu_percent']:.2f} % of a core"
    return (
        f"{aligned(lines)}\nrow in AMIGA's database -> frame at a client updated every second: {text}\n{idle}"
    )
