"""The only room that knows all: routes, timers, signals, the order of start-up and shutdown."""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tornado.httpserver import HTTPServer
from tornado.httputil import ParseBodyConfig, ParseMultipartConfig, set_parse_body_config
from tornado.ioloop import PeriodicCallback
from tornado.netutil import bind_sockets
from tornado.web import Application

from amiga_ws import log, state
from amiga_ws.auth.gate import Gate
from amiga_ws.auth.origins import OriginPolicy
from amiga_ws.auth.tokens import Authority
from amiga_ws.broadcaster import TICK_S, Broadcaster
from amiga_ws.client import Clock, Transport
from amiga_ws.collectors import Collector, TaskCollector
from amiga_ws.collectors.amiga import AmigaCollector, AmigaConfig
from amiga_ws.collectors.host import HostCollector
from amiga_ws.config import Settings
from amiga_ws.dialogue import Dialogue
from amiga_ws.facts import Facts
from amiga_ws.handlers import admin, pages, rest
from amiga_ws.handlers.guard import Services, Unknown, log_request
from amiga_ws.handlers.peer import networks
from amiga_ws.handlers.refusals import RefusalBook
from amiga_ws.handlers.sse import MetricsEvents
from amiga_ws.handlers.websocket import MetricsSocket
from amiga_ws.hub import Hub
from amiga_ws.ratelimit import BucketTable
from amiga_ws.snapshot import HostFacts
from amiga_ws.wire import Close

logger = logging.getLogger(__name__)

EXIT_CONFIG = 2
EXIT_FAILED = 1
NEXT_PORTS = range(3001, 3011)  # AMIGA's own server uses 3000
RESERVED_DESCRIPTORS = 64  # for SQLite, logs, static files, and connections being refused
WANTED_DESCRIPTORS = 65_536
CLOSE_DEADLINE_S = 2.0  # for close handshakes; SIGTERM ends in 5 s in all
POLL_S = 0.02
SIGN_IN_FAILURES = 5  # a minute and address
FOLLOW_S = 0.5  # how often the revocations' file is looked at
BACKLOG = 1024
# Tornado's defaults are an hour, none, 100 MiB and 100 MiB.
HTTP_LIMITS = {
    "idle_connection_timeout": 15.0,
    "body_timeout": 10.0,
    "max_body_size": 64 * 1024,
    "max_header_size": 16 * 1024,
    "max_buffer_size": 1024 * 1024,
}
PING_INTERVAL_S, PING_TIMEOUT_S = 25, 10


class StartError(Exception):
    """The server cannot start; the text says why and what to do."""


class Server:
    """One running server: `await start()`, then `await stop()`. `url` is set by start."""

    def __init__(self, settings: Settings, clock: Clock | None = None, demo: bool = False) -> None:
        self.settings = settings
        self.clock = clock or Clock(time.monotonic, time.time)
        self.demo = demo
        self.url = ""
        self._ready = False
        self._first_reads: asyncio.Task[None] | None = None

    # -- start -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bind, announce and begin to tick.

        Raises:
            StartError, StateError: with one sentence; nothing is left half started.
        """
        settings = self.settings
        try:
            self._lock = state.StateLock(settings.state_dir)
        except OSError as error:
            raise StartError(_unusable(settings.state_dir, error)) from error
        try:
            authority = Authority(state.load_secret(settings.state_dir), settings.auth)
            self.gate = Gate(authority, settings.auth, settings.state_dir, self.clock.wall)
            sockets = self._bind()
        except OSError as error:
            self._lock.release()
            raise StartError(_unusable(settings.state_dir, error)) from error
        except (StartError, state.StateError):
            self._lock.release()
            raise
        host, amiga = self.collectors()
        self.facts = Facts(settings.amiga.name, host, amiga)
        self.hub = Hub(self.facts, self.clock)
        dialogue = Dialogue(
            self.hub, self.facts, self.clock, settings.metrics.update_interval, self.gate.verify
        )
        self.broadcaster = Broadcaster(self.facts, self.hub, self.clock)
        limits, origins, server = settings.limits, settings.origins, settings.server
        services = Services(
            settings=settings,
            gate=self.gate,
            policy=OriginPolicy.build(
                server.public_url, server.allowed_hosts, origins.allowed, origins.allow_null
            ),
            hub=self.hub,
            dialogue=dialogue,
            facts=self.facts,
            clock=self.clock,
            new_connections=BucketTable(limits.new_connections_per_second, limits.new_connections_burst),
            requests=BucketTable(limits.requests_per_second, limits.requests_burst),
            sign_in_failures=BucketTable(SIGN_IN_FAILURES / 60, SIGN_IN_FAILURES),
            refusals=RefusalBook(),
            pending=Counter(),
            trusted_proxies=networks(server.trusted_proxies),
            ready=lambda: self._ready,
            max_connections=carried_connections(limits.connections),
            demo=self.demo,
        )
        set_parse_body_config(ParseBodyConfig(multipart=ParseMultipartConfig(enabled=False)))
        self._http = HTTPServer(application(services), **HTTP_LIMITS)
        self._http.add_sockets(sockets)
        self._ticker = PeriodicCallback(self.broadcaster.tick, TICK_S * 1000)
        self._ticker.start()
        self._follower = PeriodicCallback(self._follow_revocations, FOLLOW_S * 1000)
        self._follower.start()
        self._first_reads = asyncio.create_task(self.facts.refresh(frozenset()))
        self._announce(sockets)
        self._ready = True

    def _follow_revocations(self) -> None:
        """A command line tool may have revoked something: its streams end within a second."""
        if self.gate.revocations.follow():
            self.hub.close_unwelcome(self.gate.still_good)

    def collectors(self) -> tuple[Collector[HostFacts], TaskCollector]:
        """What is watched: this host, and the AMIGA installation of the settings."""
        amiga = self.settings.amiga
        config = AmigaConfig(
            root=amiga.root,
            database=amiga.database,
            sessions=amiga.sessions,
            timezone=amiga.timezone,
            private_dir=self.settings.state_dir / "private",
        )
        return HostCollector(), AmigaCollector(config)

    def _bind(self) -> list[socket.socket]:
        server = self.settings.server
        ports = [server.port]
        if not self.settings.is_set("server.port"):
            ports += NEXT_PORTS
        for port in ports:
            try:
                sockets = bind_sockets(port, server.host, backlog=BACKLOG)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                raise StartError(
                    f"cannot listen on {server.host}:{port}: {error.strerror or error}"
                ) from error
            if port != server.port:
                logger.warning("port %d is taken; listening on %d instead", server.port, port)
            return sockets
        if len(ports) > 1:
            raise StartError(
                f"ports {ports[0]}-{ports[-1]} are all taken; set server.port to a free one (0 = any)"
            )
        raise StartError(f"port {server.port} is taken; set server.port to a free one (0 = any)")

    def _announce(self, sockets: list[socket.socket]) -> None:
        port = sockets[0].getsockname()[1]
        self.url = f"http://{_bracketed(self.settings.server.host)}:{port}"
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - compared, not bound
        host = reachable.get(self.settings.server.host, self.settings.server.host)
        state.announce_server(self.settings.state_dir, f"http://{_bracketed(host)}:{port}")

    # -- stop ------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Not ready, stop accepting, `bye` to all, close, collectors; within 5 s."""
        self._ready = False
        self._http.stop()
        self._ticker.stop()
        self._follower.stop()
        clients = list(self.hub.clients.values())
        for client in clients:
            self.hub.close(client, Close.SHUTTING_DOWN, "the server is shutting down")
        await self._http.close_all_connections()
        await _all_closed([client.transport for client in clients], CLOSE_DEADLINE_S)
        if self._first_reads is not None:
            self._first_reads.cancel()
        await asyncio.to_thread(self.facts.stop)
        state.withdraw_server(self.settings.state_dir)
        self._lock.release()


def application(services: Services) -> Application:
    """Every route there is; each passes the guard (tests/test_guard.py walks this table)."""
    given = {"services": services}

    def page(name: str) -> dict[str, object]:
        return {"services": services, "template": name}

    return Application(
        [
            (r"/", pages.Page, page("dashboard.html")),
            (r"/login", pages.LoginPage, page("login.html")),
            (r"/websocket-test", pages.Page, page("websocket_dashboard.html")),
            (r"/static/(.*)", pages.Static, given),
            (r"/favicon\.ico", pages.Favicon, given),
            (r"/health", rest.Health, given),
            (r"/ready", rest.Ready, given),
            (r"/ws", MetricsSocket, given),
            (r"/api/stream/metrics", MetricsEvents, given),
            (r"/api/metrics/overview", rest.Overview, given),
            (r"/api/tasks", rest.Tasks, given),
            (r"/api/admin/connections", admin.Connections, given),
            (r"/api/admin/connections/([0-9a-f]{16})", admin.OneConnection, given),
            (r"/api/admin/revocations", admin.Revocations, given),
            (r"/api/admin/refusals", admin.Refusals, given),
            (r"/api/session", rest.Session, given),
            (r"/api/session/renew", rest.SessionRenewal, given),
        ],
        default_handler_class=Unknown,
        default_handler_args=given,
        log_function=log_request,
        template_path=str(pages.templates_dir()),
        websocket_ping_interval=PING_INTERVAL_S,
        websocket_ping_timeout=PING_TIMEOUT_S,
        websocket_max_message_size=services.settings.limits.message_bytes,
    )


def carried_connections(wanted: int) -> int:
    """`limits.connections` as the descriptor limit carries it; the soft limit is raised first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ceiling = WANTED_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, WANTED_DESCRIPTORS)
    if soft < ceiling and soft < wanted + RESERVED_DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, hard))
        soft = ceiling
    carried = max(1, min(wanted, soft - RESERVED_DESCRIPTORS))
    if carried < wanted:
        logger.warning(
            "limits.connections %d is lowered to %d: the process may open %d files (raise ulimit -n)",
            wanted,
            carried,
            soft,
        )
    return carried


async def _all_closed(transports: list[Transport], within_s: float) -> None:
    """Wait for the close handshakes, and cut who does not answer."""
    for _ in range(
        round(within_s / POLL_S)
    ):  # polled: a stream has one close callback, and its handler has it
        if all(transport.closed() for transport in transports):
            return
        await asyncio.sleep(POLL_S)
    for transport in transports:
        transport.abort()


def _unusable(state_dir: Path, error: OSError) -> str:
    return f"cannot use state_dir {state_dir}: {error.strerror or error}; check its owner and rights"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


# -- the process ---------------------------------------------------------------------------------


def run(settings: Settings, demo: bool = False, on_listening: Callable[[], None] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code: 0, or 1 with one line on stderr.

    `on_listening` is called once, after the line `listening on ...` was written.
    """
    log.configure(settings.log.level)
    simulator = None
    if demo:
        root = (settings.state_dir / "demo").absolute()
        settings = _watching(settings, root)
        simulator = _start_simulator(root)
    try:
        return asyncio.run(_serve(settings, demo, on_listening))
    except (StartError, state.StateError) as error:
        sys.stderr.write(f"amiga_ws: {error}\n")
        return EXIT_FAILED
    finally:
        if simulator is not None:
            _end(simulator)


async def _serve(settings: Settings, demo: bool, on_listening: Callable[[], None] | None) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    server = Server(settings, demo=demo)
    await server.start()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopping.set)
    sys.stdout.write(f"listening on {server.url}\n")
    sys.stdout.flush()
    if on_listening is not None:
        on_listening()
    await stopping.wait()
    await server.stop()
    return 0


def _watching(settings: Settings, root: Path) -> Settings:
    amiga = replace(
        settings.amiga,
        root=root,
        database=root / "data" / "agentlab.db",
        sessions=root / "logs" / "sessions",
        timezone=None,
        name="demo",
    )
    return replace(settings, amiga=amiga)


def _start_simulator(root: Path) -> subprocess.Popen[bytes]:
    root.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "amiga_ws", "simulate", str(root)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 - our own command


def _end(simulator: subprocess.Popen[bytes]) -> None:
    simulator.terminate()
    try:
        simulator.wait(3)
    except subprocess.TimeoutExpired:
        simulator.kill()
        simulator.wait()
