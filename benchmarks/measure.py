"""One cell, once: start its server, connect, warm up, tick, ask what it has cost."""

from __future__ import annotations

import base64
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
from cells import KIB, Cell
from children import START_S, Child
from synthetic import HOURS, Changing
from toolbox import HERE, MissingToolError, Toolbox

from amiga_ws import state
from amiga_ws.auth.tokens import Authority
from amiga_ws.config import load as load_settings
from amiga_ws.config.table import ROWS
from amiga_ws.wire import METRICS_UPDATE, Message

INFLIGHT = 64  # handshakes at once
TOKENS = 200  # different ones, of as many subjects
STALL_TICKS = 10
# Between the first ticks. A client that has just spoken acknowledges late (`pingpong` in Linux), until one such
# acknowledgement has become due (40 ms): with ticks a second apart that is the first, with ticks in quick succession
# never, and then acknowledgements are made at every second send, on the core of the server.
ACK_LATE_US = 100_000
REST_S = 3.0  # without a tick of ours
CONNECT_S = 130.0
TICKS_S = 900.0
KEY = base64.b64encode(b"0123456789abcdef").decode()
# Nothing of the guard is switched off; only its numbers are out of the way.
LIMITS = tuple(
    f"limits.{name}={most}"
    for name, most in (
        ("connections", 1_000_000),
        ("connections_per_subject", 1_000_000),
        ("connections_per_address", 1_000_000),
        ("deflate_connections", 1_000_000),
        ("new_connections_per_second", 100_000),
        ("new_connections_burst", 100_000),
    )
)


@dataclass(frozen=True)
class Plan:
    """How thoroughly to measure."""

    ticks: int
    warm_up: int
    gap_us: int
    profile: bool = False


@dataclass(frozen=True)
class Audience:
    """The clients of one load generator; `hello` is what they say first, `ready` what they hear when present."""

    clients: int
    mode: str
    hello: str
    ready: str
    tls: bool = False
    stalled: int = 0


def why_skipped(cell: Cell, toolbox: Toolbox) -> str | None:
    """The reason why this cell cannot be measured here, or None."""
    if lacking := [key for key in cell.requires if key not in ROWS]:
        return f"the server has no setting {lacking[0]} yet"
    if cell.tls and not toolbox.load_speaks_tls:
        return "the load generator was built without OpenSSL's headers"
    if not cell.ours:
        try:
            toolbox.peer_command(cell.server)
        except MissingToolError as error:
            return str(error)
    return None


def run(cell: Cell, plan: Plan, toolbox: Toolbox) -> dict[str, Any]:
    """Measure. Raises FailedError with what a process said last."""
    server_core, load_core = machine.cores()
    with tempfile.TemporaryDirectory(prefix="fanout-") as folder:
        scratch = Path(folder)
        (scratch / "start").write_bytes(bytes(8))
        calm = machine.spin_ms(server_core)
        server = Child(
            _server_command(cell, plan, toolbox, scratch),
            server_core,
            scratch / "server.log",
            {
                "PYTHONPATH": str(toolbox.tree) if cell.ours else "",
                "NODE_MODULES": str(toolbox.node_modules or ""),
                "PYTHONUNBUFFERED": "1",
            },
        )
        try:
            port = int(server.line(START_S).split()[1])
            load = Child(
                _load_command(cell, toolbox, scratch, port, server.stdin),
                load_core,
                scratch / "load.log",
                inherit=[server.stdin],
            )
            try:
                return {"spin_ms": calm, **_measure(cell, plan, server, load, server_core)}
            finally:
                load.end()
        finally:
            server.end()


def _measure(cell: Cell, plan: Plan, server: Child, load: Child, core: int) -> dict[str, Any]:
    empty_rss, idle_cpu = machine.rss_bytes(server.pid), machine.cpu_s(server.pid)
    connected = load.answer(CONNECT_S)
    connect_cpu = machine.cpu_s(server.pid) - idle_cpu
    full_rss = machine.rss_bytes(server.pid)
    for count, gap_us in ((2, ACK_LATE_US), (max(2, round(plan.warm_up * min(cell.ticks, 1))), plan.gap_us)):
        load.say(f"ticks {count} {gap_us}\n")
        load.answer(TICKS_S)
    ticks = max(3, round(plan.ticks * cell.ticks))
    server.say("m")
    before, cpu = machine.core_times(core), machine.cpu_s(server.pid)
    load.say(f"ticks {ticks} {plan.gap_us}\n")
    done = load.answer(TICKS_S)
    cpu = machine.cpu_s(server.pid) - cpu
    grown = machine.rss_bytes(server.pid) - full_rss
    noise = machine.noise_between(before, machine.core_times(core), cpu, done["cpu_s"])
    if cell.ours:
        if cell.plain:
            server.say("b")
            load.say(f"ticks {2 * ticks} {plan.gap_us}\n")
            load.answer(TICKS_S)
            server.say("b")
        server.say("p")
        load.say(f"ticks {STALL_TICKS} {plan.gap_us}\n")
        load.answer(TICKS_S)
        server.say("p")
        rest_cpu = machine.cpu_s(server.pid)
        load.say(f"watch {REST_S}\n")  # it answers pings meanwhile
        load.answer(START_S)
        rest_cpu = machine.cpu_s(server.pid) - rest_cpu
    server.say("q")
    inside = server.answer(START_S)
    deliveries = (cell.clients - cell.stalled) * ticks
    measured = {
        "clients": cell.clients,
        "ticks": ticks,
        "cpu_us": cpu * 1e6 / deliveries,
        "bytes": done["bytes"] / deliveries,
        "extra_updates": done["extra"],
        "rss_kib": (full_rss - empty_rss) / 1024 / cell.clients,
        "rss_grown_mib": grown / 2**20,  # warm-up and ticks
        "connects_per_s": cell.clients / connected["seconds"],
        "connect_cpu_us": connect_cpu * 1e6 / cell.clients,
        "noise": vars(noise),
        **_latencies(done["ticks"]),
    }
    if cell.ours:
        measured["rest_us_s"] = rest_cpu * 1e6 / REST_S / cell.clients
    if "fanout_us_per_tick" in inside:
        measured["fanout_us"] = inside["fanout_us_per_tick"] / cell.clients
    return measured | {
        name: inside[name] for name in ("times_bare", "stall_ms", "stall_cpu_ms", "profile") if name in inside
    }


def _latencies(ticks: list[list[float]]) -> dict[str, float]:
    """Medians over the ticks, in ms, and the worst tick's last."""
    _first, p50, p99, last = zip(*ticks, strict=True)
    return {
        "p50_ms": statistics.median(p50) / 1000,
        "p99_ms": statistics.median(p99) / 1000,
        "last_ms": statistics.median(last) / 1000,
        "worst_ms": max(last) / 1000,
    }


# -- commands --------------------------------------------------------------------------------------


def _server_command(cell: Cell, plan: Plan, toolbox: Toolbox, scratch: Path) -> list[str]:
    start, size = str(scratch / "start"), cell.kib * KIB
    if not cell.ours:
        payload = scratch / "payload.json"
        payload.write_bytes(message_text(size))
        name, *options = toolbox.peer_command(cell.server)
        return [name, options[0], str(payload), start, *options[1:]]
    overrides = [f"state_dir={scratch}", "server.port=0", "log.level=warning", *LIMITS, *cell.settings]
    if cell.tls:
        overrides += [f"{key}={path}" for key, path in zip(cell.requires, certificate(scratch), strict=True)]
    write_tokens(scratch)
    profile = ["--profile"] if plan.profile else []
    return [sys.executable, str(HERE / "ours.py"), start, str(size), *profile, *overrides]


def message_text(size: int) -> bytes:
    """The message of which our frames are made, as peers send it: the same number of bytes."""
    source = Changing(size)
    source.step()
    return Message(METRICS_UPDATE, source.encoded()).websocket()[4:]


def write_tokens(state_dir: Path) -> None:
    """A line a token in `tokens`, good for an hour, signed with the secret of `state_dir`."""
    settings = load_settings(None, [f"state_dir={state_dir}"], {}, state_dir)
    authority = Authority(state.load_secret(state_dir), settings.auth)
    now = time.time()
    lines = (
        authority.issue(subject=f"viewer-{number}", scope="metrics:read", ttl_s=3600, now=now)
        for number in range(TOKENS)
    )
    (state_dir / "tokens").write_text("\n".join(lines) + "\n")


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate of an hour and its key, made by the openssl command."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=127.0.0.1"
    words = [*command.split(), "-keyout", str(key), "-out", str(cert)]
    subprocess.run(words, check=True, capture_output=True)  # noqa: S603 - our own words
    return cert, key


def _load_command(cell: Cell, toolbox: Toolbox, scratch: Path, port: int, control: int) -> list[str]:
    (scratch / "request").write_text(request(cell, port))
    hello = subscription(1, delta=cell.delta) if cell.ours and cell.mode == "ws" else ""
    ready = "ready"  # peers say so; ours is there when its first state is
    if cell.ours:
        ready = "data:" if cell.mode == "sse" else '"metrics_'
    audience = Audience(cell.clients, cell.mode, hello, ready, cell.tls, cell.stalled)
    return load_command(toolbox.load, scratch, port, audience, control)


def load_command(load: Path, scratch: Path, port: int, audience: Audience, control: int = 0) -> list[str]:
    """The load generator's words; `scratch` holds `request`, `start` and, for our server, `tokens`."""
    tokens = scratch / "tokens"
    words = [port, audience.clients, audience.mode, scratch / "request", audience.hello, audience.ready]
    words += [
        tokens if tokens.exists() else "",
        scratch / "start",
        INFLIGHT,
        control,
        int(audience.tls),
        audience.stalled,
    ]
    return [str(load), *map(str, words)]


def subscription(interval_s: int, *, delta: bool) -> str:
    """The first message to our server."""
    data = {"hours": HOURS, "update_interval": interval_s, "delta": delta}
    return json.dumps({"event": "subscribe", "data": data})


def request(cell: Cell, port: int) -> str:
    """What a client asks for, @TOKEN@ where its token goes."""
    bearer = ["Authorization: Bearer @TOKEN@"] if cell.ours else []
    lines = [f"Host: 127.0.0.1:{port}", *bearer]
    if cell.mode == "sse":
        delta = "&delta=1" if cell.delta else ""
        path = f"/api/stream/metrics?hours={HOURS}&interval=1{delta}"
        lines.append("Accept: text/event-stream")
    else:
        path = "/socket.io/?EIO=4&transport=websocket" if cell.mode == "sio" else "/ws"
        lines += [
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {KEY}",
        ]
        if cell.deflate:
            lines.append("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
    return "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""])
