"""The only room that knows all: timers, signals, the order of start-up, reload and shutdown."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
import ssl
import sys
import termios
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from tornado.httpserver import HTTPServer
from tornado.httputil import ParseBodyConfig, ParseMultipartConfig, set_parse_body_config
from tornado.ioloop import IOLoop, PeriodicCallback

from amiga_ws import log, state
from amiga_ws.auth.gate import Gate
from amiga_ws.auth.keys import BadKeyError, load_keys
from amiga_ws.auth.origins import OriginPolicy
from amiga_ws.auth.tokens import Authority
from amiga_ws.broadcaster import TICK_S, Broadcaster
from amiga_ws.client import Clock, Transport
from amiga_ws.collectors import Collector, TaskCollector
from amiga_ws.collectors.amiga import AmigaCollector, AmigaConfig
from amiga_ws.collectors.host import HostCollector
from amiga_ws.config import ROWS, ConfigError, Settings
from amiga_ws.demo import Demo
from amiga_ws.dialogue import Dialogue
from amiga_ws.facts import Facts
from amiga_ws.handlers.guard import Services
from amiga_ws.handlers.peer import networks
from amiga_ws.handlers.rates import Rates
from amiga_ws.handlers.refusals import RefusalBook
from amiga_ws.handlers.routes import application, missing_files
from amiga_ws.history import History
from amiga_ws.hub import Hub
from amiga_ws.listening import (
    HEAD_BYTES,
    Listener,
    MisconfiguredError,
    StartError,
    bind,
    carried_connections,
    load_certificate,
    tls_context,
)
from amiga_ws.measures import Measures
from amiga_ws.recorder import Recorder
from amiga_ws.snapshot import HostFacts
from amiga_ws.wire import Close

logger = logging.getLogger(__name__)

EXIT_FAILED = 1  # another start may do better: a port is taken, a disk is full, rights are missing
EXIT_MISCONFIGURED = 2  # none will until somebody changes something
EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)  # a clock that says less has not been set since the power came
NEXT_PORTS = range(3001, 3011)  # AMIGA's own server uses 3000
CLOSE_SLICE, CLOSE_PAUSE_S = 100, 0.05  # closing 2,000 streams is spread over a second
CLOSE_DEADLINE_S = 2.0  # for close handshakes and the answers still due; SIGTERM ends in 5 s in all
HISTORY_DEADLINE_S = 1.5  # for its last write
HISTORY_FILE = "history.db"
POLL_S = 0.02
LAG_S = 0.5  # between two looks at how late the loop is
FOLLOW_S = 0.5  # how often the revocations' file is looked at
# Until a thread that computes gives the interpreter to another that wants it (sys.setswitchinterval). The loop gives it
# up with each send: with Python's 5 ms who asks while AMIGA is read waits twice as long (benchmarks/pongs.py).
SWITCH_S = 0.0005
# Tornado's defaults are an hour, none, 100 MiB and 100 MiB.
HTTP_LIMITS = {
    "idle_connection_timeout": 15.0,
    "body_timeout": 10.0,
    "max_body_size": 64 * 1024,
    "max_header_size": HEAD_BYTES,
    "max_buffer_size": 1024 * 1024 + 128 * 1024,  # the largest message, and what is read along with it
}
# What a reload takes in: the rest stands in open connections and running collectors.
RELOADED = (
    "auth.",
    "limits.connections_per_",
    "limits.deflate_",
    "limits.messages_",
    "limits.misuses_",
    "limits.new_connections_",
    "limits.refreshes_",
    "limits.requests_",
    "log.",
    "origins.",
    "server.allowed_hosts",
    "server.deflate",
    "server.drain_s",
    "server.public_url",
    "server.tls.",
    "server.trusted_proxies",
)


def amiga_config(settings: Settings) -> AmigaConfig:
    """The AMIGA installation of the settings, as its collector wants it described."""
    amiga, costs = settings.amiga, settings.costs
    return AmigaConfig(
        root=amiga.root,
        database=amiga.database,
        sessions=amiga.sessions,
        timezone=amiga.timezone,
        transcripts=amiga.transcripts,
        hide_parameters=amiga.hide_parameters,
        prices=costs.prices,
        currency=costs.currency,
        budget=costs.budget,
        private_dir=settings.state_dir / "private",
    )


class Server:
    """One running server: `await start()`, then `await stop()`. `url` is set by start."""

    def __init__(self, settings: Settings, clock: Clock | None = None, demo: bool = False) -> None:
        self.settings = settings
        self.clock = clock or Clock(time.monotonic, time.time)
        self.demo = demo
        self.url = ""
        self.hurry = asyncio.Event()  # set: stop without waiting for anybody
        self._ready = False
        self._tls: ssl.SSLContext | None = None
        self._lag_timer: asyncio.Handle
        self._unfollowed = False  # the revocations' file could not be read at the last look

    # -- start -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bind, announce and begin to tick.

        Raises:
            StartError, StateError, BadKeyError: with one sentence; nothing is left half started.
        """
        settings = self.settings
        _look_around(self.clock.wall())
        run_by_monotonic_time(IOLoop.current())
        try:
            self._lock = state.StateLock(settings.state_dir)
        except OSError as error:
            raise StartError(_unusable(settings, error)) from error
        try:
            self.gate = Gate(_authority(settings), settings.auth, settings.state_dir, self.clock.wall)
            self._tls = _tls(settings)
            ports = [settings.server.port]
            sockets = bind(
                settings.server.host, ports if settings.is_set("server.port") else [*ports, *NEXT_PORTS]
            )
            self._announce(sockets[0].getsockname()[1])
        except OSError as error:
            self._lock.release()
            raise StartError(_unusable(settings, error)) from error
        except (StartError, state.StateError, BadKeyError):
            self._lock.release()
            raise
        self._assemble()
        set_parse_body_config(ParseBodyConfig(multipart=ParseMultipartConfig(enabled=False)))
        routes = application(self.services)
        self._http = HTTPServer(routes, ssl_options=self._tls, **HTTP_LIMITS)
        self._listener = Listener(
            sockets, self._http, self._tls, routes.connection_wait_s, routes.drop_silent
        )
        self._timers = [
            PeriodicCallback(self.broadcaster.tick, TICK_S * 1000),
            PeriodicCallback(self._follow_revocations, FOLLOW_S * 1000),
        ]
        for timer in self._timers:
            timer.start()
        self._lag_timer = asyncio.get_running_loop().call_soon(self._measure_lag, None)
        self._first_tick = asyncio.create_task(self.broadcaster.tick())
        self._ready = True

    def _assemble(self) -> None:
        settings, clock = self.settings, self.clock
        host, amiga = self.collectors()
        self.facts = Facts(settings.amiga.name, host, amiga)
        rates = Rates(settings.limits)
        self.hub = Hub(self.facts, clock, rates.misuses)
        kept = settings.state_dir / HISTORY_FILE if settings.history.enabled else None
        self.history = History(kept, settings.history.max_mb, clock.wall)
        self.facts.history_source = lambda: self.history.source
        self.recorder = Recorder(self.facts, self.history, clock.wall)
        self.measures = Measures()
        self.broadcaster = Broadcaster(self.facts, self.hub, clock, self.recorder.note, self.measures.ticks)
        interval = settings.metrics.update_interval
        self.services = Services(
            settings=settings,
            gate=self.gate,
            policy=_policy(settings),
            hub=self.hub,
            dialogue=Dialogue(self.hub, self.facts, clock, interval, self.gate.verify),
            facts=self.facts,
            history=self.history,
            clock=clock,
            rates=rates,
            refusals=RefusalBook(),
            measures=self.measures,
            pending=Counter(),
            trusted_proxies=networks(settings.server.trusted_proxies),
            ready=lambda: self._ready,
            max_connections=carried_connections(settings.limits.connections),
            demo=self.demo,
        )

    def collectors(self) -> tuple[Collector[HostFacts], TaskCollector]:
        """What is watched: this host, and the AMIGA installation of the settings."""
        return HostCollector(), AmigaCollector(amiga_config(self.settings))

    def _announce(self, port: int) -> None:
        host, tls = self.settings.server.host, self._tls is not None
        self.url = state.url_of(host, port, tls=tls)
        state.announce_server(self.settings.state_dir, state.reachable_url(host, port, tls=tls))

    def _measure_lag(self, due: float | None) -> None:
        """How late the loop comes to a timer (its own time; None: the first) is what everybody waits for it."""
        loop = asyncio.get_running_loop()
        if due is not None:
            self.measures.loop_lag.observe(max(0.0, loop.time() - due))
        due = loop.time() + LAG_S
        self._lag_timer = loop.call_at(due, self._measure_lag, due)

    def _follow_revocations(self) -> None:
        """A command line tool may have revoked something: its streams end within a second."""
        try:
            news = self.gate.revocations.follow()
        except OSError as error:
            if not self._unfollowed:
                logger.error("cannot read what has been revoked by command: %s", error)
            self._unfollowed = True
            return
        self._unfollowed = False
        if news:
            self.hub.close_unwelcome(self.gate.still_good)

    # -- reload ----------------------------------------------------------------------------------

    def reload(self, load: Callable[[], Settings]) -> bool:
        """Take in configuration, keys and certificate anew, without losing a connection.

        Whatever is wrong with them is logged, and all of the old stays.
        """
        try:
            settings = load()
            changed = [key for key in ROWS if settings.get(key) != self.settings.get(key)]
            later = [key for key in changed if not key.startswith(RELOADED)]
            settings = settings.keeping(self.settings, later)
            authority = _authority(settings)
            certificate = _certificate(settings)
            if (certificate is None) != (self._tls is None):
                raise StartError("server.tls cannot be switched on or off without a restart")
            if certificate is not None and self._tls is not None:
                load_certificate(self._tls, *certificate)
        except (ConfigError, StartError, state.StateError, BadKeyError) as error:
            logger.error("not reloaded, the former configuration stays in force: %s", error)
            return False
        for key in later:
            logger.warning("%s has changed: that takes effect at the next start", key)
        self.settings = self.services.settings = settings
        self.services.policy = _policy(settings)
        self.services.trusted_proxies = networks(settings.server.trusted_proxies)
        self.services.rates.follow(settings.limits)
        self.hub.judge_again(self.gate.change_keys(authority, settings.auth))
        log.configure(settings.log.level)
        logger.info("configuration, keys and certificate reloaded")
        return True

    # -- stop ------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Not ready (for `server.drain_s`), stop accepting, `bye` to all, answer, close, collectors, history.

        Within 5 s after the drain; setting `hurry` cuts every wait short.
        """
        self._ready = False
        await self._pause(self.settings.server.drain_s)
        self._listener.stop()
        self.services.turns.end()
        self.services.held.end()
        self._lag_timer.cancel()
        for timer in self._timers:
            timer.stop()
        clients = list(self.hub.clients.values())
        for start in range(0, len(clients), CLOSE_SLICE):
            for client in clients[start : start + CLOSE_SLICE]:
                self.hub.close(client, Close.SHUTTING_DOWN, "the server is shutting down")
            await self._pause(CLOSE_PAUSE_S if len(clients) > CLOSE_SLICE else 0)
        await self._all_closed([client.transport for client in clients])
        await self._http.close_all_connections()
        self._first_tick.cancel()
        await self.recorder.stop()
        await asyncio.to_thread(self.facts.stop)
        await asyncio.to_thread(self.history.stop, HISTORY_DEADLINE_S)
        state.withdraw_server(self.settings.state_dir)
        self._lock.release()

    async def _pause(self, seconds: float) -> None:
        if seconds > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.hurry.wait(), seconds)

    async def _all_closed(self, transports: list[Transport]) -> None:
        """Wait for the close handshakes and the answers of ours that are due, and cut who does not answer."""
        # Polled: a stream has one close callback, and its handler has it.
        for _ in range(round(CLOSE_DEADLINE_S / POLL_S)):
            due = any(not stream.closed() for stream in self.services.answering)
            if self.hurry.is_set() or not (due or any(not transport.closed() for transport in transports)):
                break
            await asyncio.sleep(POLL_S)
        for transport in transports:
            transport.abort()


def run_by_monotonic_time(loop: IOLoop) -> None:
    """Make the loop's timers measure intervals.

    Tornado's loop tells the wall clock's time, and PeriodicCallback trusts it: set back by a day, the clock
    would hold every tick, and every look at what has been revoked, for that day. All of Tornado's own
    timeouts ask the same method, so they stay consistent.
    """
    loop.time = time.monotonic  # type: ignore[method-assign]  # on this one loop


def _look_around(now: float) -> None:
    """Whether there is what no setting names. Raises StartError."""
    if now < EARLIEST.timestamp():
        says = datetime.fromtimestamp(now, UTC).date()
        raise StartError(f"the clock of this machine says {says}: set it, or no token can be judged")
    if lost := missing_files():
        raise StartError(f"this installation is not complete: there is no {lost[0]}; install amiga_ws anew")


def _authority(settings: Settings) -> Authority:
    secret = state.load_secret(settings.state_dir)
    return Authority(secret, settings.auth, load_keys(settings.auth.keys, settings.state_dir))


def _policy(settings: Settings) -> OriginPolicy:
    server, origins = settings.server, settings.origins
    return OriginPolicy.build(server.public_url, server.allowed_hosts, origins.allowed, origins.allow_null)


def _tls(settings: Settings) -> ssl.SSLContext | None:
    certificate = _certificate(settings)
    return None if certificate is None else tls_context(*certificate)


def _certificate(settings: Settings) -> tuple[Path, Path] | None:
    cert, key = settings.server.tls.cert, settings.server.tls.key
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise MisconfiguredError("server.tls.cert and server.tls.key go together: one of them is not set")
    return cert, key


def _unusable(settings: Settings, error: OSError) -> str:
    return f"cannot use state_dir {settings.state_dir}: {state.reason(error)}"


# -- the process ---------------------------------------------------------------------------------


def run(
    settings: Settings,
    demo: bool = False,
    on_listening: Callable[[], None] | None = None,
    load: Callable[[], Settings] | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code: 0, or EXIT_… with one line on stderr.

    `on_listening` is called once, after the line `listening on ...` was written; `load` reads the
    configuration again at SIGHUP.
    """
    log.configure(settings.log.level)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the secret would be in a dump
    shown = None
    try:
        shown = Demo(settings) if demo else None
        watching = shown.watched_by(settings) if shown else settings
        server = Server(watching, demo=demo)
        reread = None if load is None else (lambda: shown.watched_by(load()) if shown else load())
        return asyncio.run(_serve(server, shown, on_listening, reread))
    except (StartError, state.StateError, BadKeyError) as error:
        sys.stderr.write(f"amiga_ws: {error}\n")
        final = isinstance(error, MisconfiguredError | state.BadSecretError | BadKeyError)
        return EXIT_MISCONFIGURED if final else EXIT_FAILED
    finally:
        if shown is not None:
            shown.end()


def tune_the_interpreter() -> None:
    """Make it fit for a loop beside threads that compute: once per process, when all is imported."""
    sys.setswitchinterval(SWITCH_S)
    # What was imported goes out of the garbage collector's sight. A full collection walks it all: with 2,000
    # connections coming at once it held the loop for 170 ms.
    gc.collect()
    gc.freeze()


def _has_terminal() -> bool:
    """Whether there is one to type into, and it has not been closed."""
    try:
        termios.tcgetattr(0)
    except termios.error:
        return False
    return True


async def _serve(
    server: Server,
    shown: Demo | None,
    on_listening: Callable[[], None] | None,
    load: Callable[[], Settings] | None,
) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    await server.start()
    tune_the_interpreter()

    def stop() -> None:
        """The first signal begins the drain, a second one ends it."""
        if stopping.is_set():
            server.hurry.set()
        stopping.set()

    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop)
    if load is not None:
        on_terminal = _has_terminal()

        def reload_or_end() -> None:
            """A closed terminal sends the same signal: who cannot be stopped there any more must not stay."""
            if on_terminal and not _has_terminal():
                stop()
            else:
                server.reload(load)

        loop.add_signal_handler(signal.SIGHUP, reload_or_end)
    sys.stdout.write(f"listening on {server.url}\n")
    sys.stdout.flush()
    if on_listening is not None:
        on_listening()
    await stopping.wait()
    if shown is not None:
        shown.interrupt()
    await server.stop()
    return 0
