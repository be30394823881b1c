"""The guard: one `prepare()` for every route and both transports, before any stream or queue exists.

Order: Host (421), address limits (429), Origin (403), credential (401), scope (403), misuse of the token (429). The
number of its connections refuses nobody: see connect.py.
Streams pass without waiting: with an async `prepare` a peer that leaves early gets `on_close` before `open`. Of any
request that counts as one by the limits judging is one piece of work and answering another, and whoever else is due
gets a turn between them. Who has closed his half of the connection meanwhile has gone, for Tornado and so for us.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from asyncio import Future
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import responses
from typing import Any, ClassVar
from urllib.parse import quote
from weakref import WeakSet

from tornado.httputil import HTTPServerRequest
from tornado.iostream import IOStream
from tornado.web import HTTPError, RequestHandler

from amiga_ws import __version__, commands
from amiga_ws.auth.gate import Gate
from amiga_ws.auth.origins import OriginPolicy, cookie_refusal, parse_origin
from amiga_ws.auth.tokens import Identity, TokenError, TokenType
from amiga_ws.client import Clock
from amiga_ws.config import Settings
from amiga_ws.dialogue import Dialogue
from amiga_ws.facts import Facts
from amiga_ws.handlers.credentials import (
    AmbiguousCredentialError,
    Credential,
    find_credential,
    token_in_query,
)
from amiga_ws.handlers.frames import answered
from amiga_ws.handlers.peer import Network, Peer, peer_of
from amiga_ws.handlers.queues import Queues
from amiga_ws.handlers.rates import Rates
from amiga_ws.handlers.refusals import (
    Problem,
    Refusal,
    RefusalBook,
    RefusedError,
    not_kept,
    printable,
    temporary,
    unauthorized,
    unavailable,
)
from amiga_ws.history import History
from amiga_ws.hub import REQUIRED_SCOPE, Hub
from amiga_ws.measures import Measures
from amiga_ws.state import NotKeptError
from amiga_ws.turnstile import Turnstile, Waits
from amiga_ws.wire import ErrorCode, encode

logger = logging.getLogger(__name__)

JSON_TYPE = "application/json; charset=UTF-8"
HSTS = "max-age=31536000"
TAKEN_S, TAKEN_BYTES_S = 10.0, 32 * 1024  # what an answer may take on its way: so long, and at least so fast
HOLD_S = 2.0  # a 429 is told so late: who asks again at once does so every two seconds
MAX_HELD = 32  # of them at a time; they take from the descriptors that are reserved
CROWD = 40  # at least, see Services.crowd: a browser has six connections
MAX_PENDING = 10  # sockets of one address that have not brought a credential yet
MAX_MESSAGE = 600  # characters of what a request that is wrong is told; the values a parameter may have fit
METHODS = ("GET", "HEAD", "POST", "DELETE")
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
    "Vary": "Origin",
}
QUERY_ADVICE = (
    "a token in the address would end up in logs and histories: send it as 'Authorization: Bearer …', as the "
    "WebSocket subprotocols 'amiga.v1, amiga.bearer.<token>', or sign in and use the cookie"
)


@dataclass(slots=True)
class Services:
    """What handlers work with; given to each route as `initialize(services)`.

    A reload replaces `settings`, `policy` and `trusted_proxies`.
    """

    settings: Settings
    gate: Gate
    policy: OriginPolicy
    hub: Hub
    dialogue: Dialogue
    facts: Facts
    history: History
    clock: Clock
    rates: Rates
    refusals: RefusalBook
    measures: Measures
    pending: Counter[str]  # sockets without a credential yet, by address
    trusted_proxies: tuple[Network, ...]
    ready: Callable[[], bool]
    max_connections: int  # limits.connections as the descriptor limit carries it
    demo: bool = False
    deflating: int = 0  # WebSockets with compression
    held: Waits = field(default_factory=Waits)  # refusals that are told late
    turns: Waits = field(default_factory=Waits)  # requests that came too fast
    pieces: Turnstile = field(default_factory=lambda: Turnstile(1))  # of requests
    untaken: Queues = field(default_factory=Queues)  # answers on their way that the kernel does not take
    answering: WeakSet[IOStream] = field(default_factory=WeakSet)  # owe an answer; streams of events do not

    @property
    def crowd(self) -> int:
        """How many connections of an address may wait for a request, and as many for their answer to be taken."""
        return max(CROWD, 2 * self.settings.limits.connections_per_address)


class Guarded(RequestHandler):
    """Base of every handler. Class attributes say who may pass; no route passes without one."""

    __slots__ = ("identity", "peer", "services")  # see MetricsSocket
    public: ClassVar[bool] = False  # anybody; ambient credentials are ignored
    scope: ClassVar[str] = REQUIRED_SCOPE
    stream: ClassVar[bool] = False  # a long-lived connection: connection limits instead of the request rate
    page: ClassVar[bool] = False  # a document a person navigates to: session only, else 303 to sign-in
    explicit_types: ClassVar[tuple[TokenType, ...]] = ("access",)  # of a token in header or subprotocol
    cookie: ClassVar[bool] = True  # whether the session cookie counts
    late_credential: ClassVar[bool] = False  # whether one may still come in the first message
    late_s: ClassVar[float] = 0.0  # how long after its end a credential still counts
    signs_in: bool = False  # whether this request is a sign-in: any failure then counts, not only a forgery
    rate_limited: ClassVar[bool] = True
    etag: str | None = None  # of an answer that may be asked for again with If-None-Match
    may_wait: bool = True  # whether the answer may come later than now

    services: Services
    peer: Peer  # set by prepare
    identity: Identity  # set by prepare, except on public routes and where one may still be brought
    foreign_origin: str | None = None  # set by prepare where the owner has allowed the asking page

    def initialize(self, services: Services) -> None:
        """`services` comes from the route's third element."""
        self.services = services

    def set_default_headers(self) -> None:
        """Also called for an error, when everything set so far has been dropped."""
        for name, value in SECURITY_HEADERS.items():
            self.set_header(name, value)
        self.clear_header("Server")  # no version of anything is told
        if self.foreign_origin is not None:
            self.set_header("Access-Control-Allow-Origin", self.foreign_origin)
            self.set_header("Access-Control-Expose-Headers", "Retry-After, WWW-Authenticate")
            self.set_header("Cross-Origin-Resource-Policy", "cross-origin")
        self._promise_tls()

    def _promise_tls(self) -> None:
        if hasattr(self, "peer") and self.secure:
            self.set_header("Strict-Transport-Security", HSTS)

    # -- who and from where ----------------------------------------------------------------------

    @property
    def address(self) -> str:
        """What limits count this peer by."""
        return self.peer.key

    @property
    def cookie_name(self) -> str:
        """Cookies are shared by all ports of a host, so over http the port is in the name."""
        return "__Host-amiga_session" if self.secure else f"amiga_session_{self.peer.local[1]}"

    @property
    def secure(self) -> bool:
        """Whether this request came over TLS, ours or a trusted proxy's."""
        return self.peer.scheme == "https"

    @property
    def lacking(self) -> str:
        """What one is told whose token has not the scope, and how to make one that has."""
        scopes = " ".join(dict.fromkeys([REQUIRED_SCOPE, self.scope]))
        make = f'{commands.token_command()} --subject NAME --scope "{scopes}"'
        return f"this needs the scope {self.scope}; make a token that has it: `{make}`"

    @property
    def gone(self) -> bool:
        """Whether the peer has left: what is done for it alone is done for nobody."""
        connection: Any = self.request.connection
        return bool(connection.stream.closed())

    # -- the guard -------------------------------------------------------------------------------

    def prepare(self) -> Awaitable[None] | None:
        peer = peer_of(self.request, self.services.trusted_proxies)
        if peer is None:
            self.finish()  # reset between its last byte and here: nobody is left to answer
            return None
        self.peer = peer
        if self.stream:
            connection: Any = self.request.connection
            self.services.answering.discard(connection.stream)
        self._promise_tls()
        refusal = None
        try:
            self._admit()
        except RefusedError as error:
            refusal = error
        waiting = self._waiting(refusal)
        if refusal is None:
            return waiting
        ref = self.note_refusal(refusal)
        if waiting is not None:
            return self._refuse_later(refusal, ref, waiting)
        self._say_refused(refusal, ref)
        return None

    def _waiting(self, refusal: RefusedError | None) -> Awaitable[None] | None:
        """What the answer waits for, if for anything."""
        if not self.may_wait or answered(self):
            return None
        too_fast = refusal is not None and refusal.status == HTTPStatus.TOO_MANY_REQUESTS
        if too_fast and len(self.services.held) < MAX_HELD:
            return self.services.held.wait(HOLD_S)
        return None if self.stream or not self.rate_limited else self.services.pieces.turn()

    def _admit(self) -> None:
        self._check_host()
        if self.request.version == "HTTP/1.0" and "Transfer-Encoding" in self.request.headers:
            # Its framing is faulty (RFC 9112, 6.1): a proxy of 1.0 would have read another request.
            raise RefusedError(400, "invalid_request", "HTTP/1.0 knows no transfer coding", "framing")
        if token_in_query(self.request):
            raise RefusedError(400, "invalid_request", QUERY_ADVICE, "token in the query")
        self._check_address()
        origin, own = self._check_origin()
        if self.request.method == "OPTIONS":
            self._preflight()
            return
        if self.public:
            return
        credential = self._credential(origin, own)
        upgrade = self.request.headers.get("Upgrade", "").lower() == "websocket"
        if credential is None and self.late_credential and upgrade:
            self._check_pending()
            return
        self.identity = self._identify(credential)
        if self.scope not in self.identity.scopes:
            header = {
                "WWW-Authenticate": f'Bearer realm="amiga_ws", error="insufficient_scope", scope="{self.scope}"'
            }
            raise RefusedError(403, "forbidden", self.lacking, "scope", headers=header, kind="scope")
        if self.stream:
            self.check_misuses(self.identity)

    def _check_host(self) -> None:
        hosts = self.request.headers.get_list("Host")
        host = hosts[0] if len(hosts) == 1 else None
        if not self.services.policy.host_allowed(host, self.peer.local, self.peer.scheme):
            name = printable(host or "")
            text = (
                f"this server does not answer to the name '{name}'. If it is one of yours, add it to config.yaml - "
                f'server: {{allowed_hosts: ["{name}"]}} - or set server.public_url, and reload (SIGHUP) or restart'
            )
            raise RefusedError(421, "forbidden", text, f"host {name}")

    def _check_address(self) -> None:
        now, address = self.services.clock.monotonic(), self.address
        limits, hub, pending = self.services.settings.limits, self.services.hub, self.services.pending
        if not self.stream:
            if self.rate_limited and (wait := self.services.rates.requests.take(address, now)):
                raise temporary(
                    429, "limits.requests_per_second", "too many requests from your address", wait
                )
            return
        if not self.services.ready():
            raise unavailable("the server is shutting down")
        if wait := self.services.rates.new_connections.take(address, now):
            raise temporary(429, "limits.new_connections_per_second", "too many new connections", wait)
        # Who has not brought a credential yet may, at any moment.
        if hub.connections_of(address=address) + pending[address] >= limits.connections_per_address:
            raise temporary(429, "limits.connections_per_address", "too many connections from your address")
        if hub.connections_of() + pending.total() >= self.services.max_connections:
            raise temporary(503, "limits.connections", "the server has all the connections it may have")

    def _check_origin(self) -> tuple[str | None, bool]:
        """The Origin header and whether it is ours; refuses one that is neither ours nor allowed."""
        origins = self.request.headers.get_list("Origin") or self.request.headers.get_list(
            "Sec-WebSocket-Origin"
        )
        if not origins:
            return None, False
        origin, policy = origins[0], self.services.policy
        parsed = parse_origin(origin) if len(origins) == 1 else None
        own = parsed is not None and policy.is_own(parsed, self.peer.local, self.peer.scheme)
        if not own and not policy.foreign_allowed(origin if len(origins) == 1 else ""):
            name = printable(origin)
            text = (
                f"pages of '{name}' may not speak to this server. If that page is yours, add it to config.yaml - "
                f'origins: {{allowed: ["{name}"]}} - and reload (SIGHUP) or restart'
            )
            if origin == "null":
                text = (
                    "a page opened from a file has the origin 'null', which is refused by default; "
                    "origins: {allow_null: true} in config.yaml lets such pages in with an explicit token"
                )
            raise RefusedError(403, "forbidden", text, f"origin {name}")
        if not own:
            self.foreign_origin = origin
            self.set_default_headers()
        return origin, own

    def _preflight(self) -> None:
        """CORS for explicit tokens only: never Allow-Credentials. OPTIONS needs no credential."""
        self.set_status(204)
        self.set_header("Allow", self.allowed_methods)
        self.set_header("Access-Control-Allow-Methods", self.allowed_methods)
        self.set_header("Access-Control-Allow-Headers", "Authorization, Content-Type, Last-Event-ID")
        self.set_header("Access-Control-Max-Age", "600")
        self.finish()

    def _credential(self, origin: str | None, own: bool) -> Credential | None:
        """What the request carries; a cookie only where the asking page is ours."""
        try:
            credential = find_credential(self.request, self.cookie_name if self.cookie else None)
        except AmbiguousCredentialError as error:
            raise RefusedError(400, "invalid_request", str(error), "ambiguous credential") from error
        if credential is not None and credential.place == "cookie":
            headers = self.request.headers
            refusal = cookie_refusal(
                method=self.request.method or "",
                websocket=headers.get("Upgrade", "").lower() == "websocket",
                page=self.page,
                origin=origin,
                own=own,
                site=headers.get("Sec-Fetch-Site"),
                mode=headers.get("Sec-Fetch-Mode"),
            )
            if refusal is not None:
                reason = f"cookie with origin {printable(origin or 'none')}"
                raise RefusedError(403, "forbidden", refusal, reason)
        return credential

    def _identify(self, credential: Credential | None) -> Identity:
        if credential is None:
            text = f"sign in, or send a token ({commands.token_command()} makes one)"
            raise unauthorized(text, "none presented")
        explicit = credential.place != "cookie"
        types = self.explicit_types if explicit else ("session",)
        if self.page and explicit:
            types = ()
        try:
            return self.services.gate.verify(credential.token, types, late_s=self.late_s)
        except TokenError as error:
            make = commands.token_command()
            text = f"the token is not accepted: it may have expired; make a new one with {make}"
            raise self.not_accepted(
                error, text, counts=explicit and (error.forged or self.signs_in)
            ) from error

    def not_accepted(self, error: TokenError, text: str, *, counts: bool) -> RefusedError:
        """401; 429 where the address has brought too many bad ones that count.

        After the verdict, for a good token must pass wherever it comes from: a household or a company has one
        address. What guesses cost us is bounded by the limits that come before, and 256 bits are not guessed.
        """
        failures, now = self.services.rates.sign_in_failures, self.services.clock.monotonic()
        if counts and (wait := failures.take(self.address, now)):
            return temporary(429, "failed sign-ins", "too many failed sign-ins from your address", wait)
        return unauthorized(text, error.reason, "invalid_token")

    def _check_pending(self) -> None:
        if self.services.pending[self.address] >= MAX_PENDING:
            raise temporary(429, "connections without a credential", f"at most {MAX_PENDING} at a time")

    def check_misuses(self, identity: Identity) -> None:
        """No new stream for a token whose connections had to be ended again and again. Raises RefusedError.

        Not for its subject: who has stolen a token must not keep its owner out, who signs in with another one.
        """
        if wait := self.services.rates.misuses.wait_s(identity.root_jti, self.services.clock.monotonic()):
            text = "too many connections with this token had to be ended for what they sent"
            raise temporary(429, "limits.misuses_per_minute", text, wait)

    # -- the answer ------------------------------------------------------------------------------

    def finish(self, chunk: str | bytes | dict[str, Any] | None = None) -> Future[None]:
        """As Tornado's; a peer that does not take its answer in time is cut (it would keep all of it here)."""
        connection: Any = self.request.connection
        stream, services = connection.stream, self.services
        size = len(chunk) if isinstance(chunk, bytes) else 0
        done = super().finish(chunk)
        if not done.done() and hasattr(self, "peer"):
            address = self.address
            timer = asyncio.get_running_loop().call_later(TAKEN_S + size / TAKEN_BYTES_S, stream.close)

            def taken(_: Future[None]) -> None:
                timer.cancel()
                services.untaken.discard(address, stream)
                services.answering.discard(stream)

            done.add_done_callback(taken)
            services.untaken.add(address, stream, services.crowd)
        else:
            services.answering.discard(stream)
        return done

    # -- the log ---------------------------------------------------------------------------------

    def note_deed(self, deed: str) -> None:
        """Log who did what: signing in and out, and what an administrator does to others."""
        logger.info("%s by %r from %s", deed, self.identity.subject, self.peer.ip)

    # -- refusals --------------------------------------------------------------------------------

    def note_refusal(self, refusal: RefusedError) -> str:
        """Log it and keep it for the owner; the `ref` to tell the peer."""
        ref = secrets.token_hex(4)
        method, path = printable(self.request.method or ""), printable(self.request.path)
        address, wall = self.peer.ip, self.services.clock.wall()
        logger.info(
            "refused %d %s %s from %s ref=%s: %s", refusal.status, method, path, address, ref, refusal.reason
        )
        noted = Refusal(ref, wall, refusal.status, method, path, address, refusal.reason)
        self.services.refusals.add(noted, refusal.kind)
        return ref

    async def _refuse_later(self, refusal: RefusedError, ref: str, waiting: Awaitable[None]) -> None:
        await waiting
        self._say_refused(refusal, ref)

    def _say_refused(self, refusal: RefusedError, ref: str) -> None:
        if refusal.status == 401 and self.page:  # noqa: PLR2004 - a person: to the sign-in page
            # With its query: a view is a link. A token in it has been refused before.
            self.redirect("/login?next=" + quote(self.request.uri or "/", safe="/"), status=303)
            return
        self.set_status(refusal.status)
        for name, value in refusal.headers.items():
            self.set_header(name, value)
        self.finish_refusal(refusal, ref)

    def finish_refusal(self, refusal: RefusedError, ref: str) -> None:
        """The body of a refusal; status and headers have been set."""
        self.finish_problem(Problem(refusal.text, refusal.code, ref))

    def finish_problem(self, problem: Problem) -> None:
        """End with an error as JSON; a browser that was sent here by a person shows it as a page."""
        if "text/html" in self.request.headers.get("Accept", ""):
            self.finish(self.render_string("problem.html", static="/static/", problem=problem))
            return
        self.set_header("Content-Type", JSON_TYPE)
        self.finish(encode(problem))

    @property
    def allowed_methods(self) -> str:
        """The methods this route has, for `Allow`."""
        names = [
            name
            for name in METHODS
            if getattr(type(self), name.lower()) is not getattr(RequestHandler, name.lower())
        ]
        if "GET" not in names and "HEAD" in names:  # inherited: it answers as GET would
            names.remove("HEAD")
        return ", ".join([*names, "OPTIONS"])

    def compute_etag(self) -> str | None:
        """Nothing is hashed for it, as Tornado would each answer: most are never stored."""
        return self.etag

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Every error has a `ref`; its cause stands in the log alone."""
        if not hasattr(self, "peer"):
            # Tornado looks at method, body and path first. What is wrong with them is for who may pass.
            self.may_wait = False  # Tornado ends the answer when we return
            with suppress(HTTPError):  # Unknown's
                self.prepare()
            if answered(self):
                return
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, NotKeptError):
            logger.error("what was asked for cannot be kept: %s", error)
            error = not_kept(full=error.full)
        if isinstance(error, RefusedError):
            self._say_refused(error, self.note_refusal(error))
            return
        ref, text = secrets.token_hex(4), responses.get(status_code, "error")
        code: ErrorCode = "internal"
        if isinstance(error, HTTPError) and status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
            text, code = (error.get_message() or text)[:MAX_MESSAGE], "invalid_request"
        elif not self.gone:  # who has left reads no ref, and is cut short where the process ends
            path = printable(self.request.path)
            logger.error("error %d %s %s ref=%s", status_code, self.request.method, path, ref)
        if status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            self.set_header("Allow", self.allowed_methods)
        self.finish_problem(Problem(text, code, ref))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """A traceback for a bug only, and never the query (Tornado's own would print it)."""
        if isinstance(value, HTTPError | RefusedError | NotKeptError):
            return
        path = printable(self.request.path)
        logger.error("uncaught in %s %s", self.request.method, path, exc_info=(typ, value, tb))


class Unknown(Guarded):
    """Any path there is no route for."""

    public = True

    def prepare(self) -> Awaitable[None] | None:
        waiting = super().prepare()
        if waiting is not None:
            return self._after(waiting)
        self._refuse_unknown()
        return None

    async def _after(self, waiting: Awaitable[None]) -> None:
        await waiting
        self._refuse_unknown()

    def _refuse_unknown(self) -> None:
        if not answered(self):
            raise HTTPError(404, "there is nothing here")


def log_request(handler: RequestHandler) -> None:
    """One line a request, without its query (a secret may be in it) and at debug level: refusals have theirs."""
    request: HTTPServerRequest = handler.request
    logger.debug(
        "%d %s %s %s %.1f ms",
        handler.get_status(),
        request.method,
        printable(request.path),
        request.remote_ip,
        request.request_time() * 1000,
    )


SERVER_VERSION = __version__
