"""The guard: one `prepare()` for every route and both transports, before any stream or queue exists.

Order: Host (421), address limits (429), Origin (403), credential (401), scope (403), subject limits (429).
It is synchronous on purpose: with an async `prepare` a peer that leaves early gets `on_close` before `open`.
"""

from __future__ import annotations

import ipaddress
import logging
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from tornado.httputil import HTTPServerRequest
from tornado.web import HTTPError, RequestHandler

from amiga_ws import __version__
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
from amiga_ws.hub import Hub
from amiga_ws.ratelimit import BucketTable

logger = logging.getLogger(__name__)

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


@dataclass(frozen=True, slots=True)
class Services:
    """What handlers work with; given to each route as `initialize(services)`."""

    settings: Settings
    gate: Gate
    policy: OriginPolicy
    hub: Hub
    dialogue: Dialogue
    facts: Facts
    clock: Clock
    new_connections: BucketTable  # by address
    requests: BucketTable  # REST, by address
    ready: Callable[[], bool]
    max_connections: int  # limits.connections as the descriptor limit carries it
    demo: bool = False


class RefusedError(Exception):
    """A request that must not pass. `text` is for the peer, `reason` for the log.

    `retry_s` is set where the refusal passes by itself. A handler may raise it before it has answered.
    """

    def __init__(
        self,
        status: int,
        code: str,
        text: str,
        reason: str,
        *,
        headers: dict[str, str] | None = None,
        retry_s: int | None = None,
    ) -> None:
        super().__init__(reason)
        self.status, self.code, self.text, self.reason = status, code, text, reason
        self.headers = headers or {}
        self.retry_s = retry_s
        if retry_s is not None:
            self.headers["Retry-After"] = str(retry_s)


def temporary(status: Literal[429, 503], limit: str, text: str, wait_s: float = 0.0) -> RefusedError:
    """A refusal that passes: Retry-After is drawn for each peer, so that they do not come back as one."""
    retry_s = max(1, round(wait_s + random.uniform(1, 5)))  # noqa: S311 - spread, no secret
    return RefusedError(
        status, "rate_limited", f"{text} ({limit}); try again in {retry_s} s", limit, retry_s=retry_s
    )


def unavailable(text: str) -> RefusedError:
    """503: what was asked for does not answer just now."""
    retry_s = random.randint(2, 6)  # noqa: S311 - spread, no secret
    return RefusedError(503, "unavailable", f"{text}; try again in {retry_s} s", text, retry_s=retry_s)


def unauthorized(text: str, reason: str, error: str = "") -> RefusedError:
    """401; `error` is RFC 6750's code, empty when nothing was presented."""
    parameter = f', error="{error}"' if error else ""
    headers = {"WWW-Authenticate": f'Bearer realm="amiga_ws"{parameter}'}
    return RefusedError(401, "unauthorized", text, reason, headers=headers)


class Guarded(RequestHandler):
    """Base of every handler. Class attributes say who may pass; no route passes without one."""

    public: ClassVar[bool] = False  # anybody; ambient credentials are ignored
    scope: ClassVar[str] = "metrics:read"
    stream: ClassVar[bool] = False  # a long-lived connection: connection limits instead of the request rate
    page: ClassVar[bool] = False  # a document a person navigates to: session only, else 303 to sign-in
    explicit_types: ClassVar[tuple[TokenType, ...]] = ("access",)  # of a token in header or subprotocol
    cookie: ClassVar[bool] = True  # whether the session cookie counts
    rate_limited: ClassVar[bool] = True

    services: Services
    local: tuple[str, int]  # the address and port this connection arrived at; set by prepare
    identity: Identity  # set by prepare, except on public routes
    credential: Credential | None
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

    # -- who and from where ----------------------------------------------------------------------

    @property
    def address(self) -> str:
        """The key under which a peer's address is limited: IPv4 as it is, IPv6 by its /64 (one household)."""
        remote = str(self.request.remote_ip)
        try:
            ip = ipaddress.ip_address(remote.partition("%")[0])
        except ValueError:
            return remote
        if isinstance(ip, ipaddress.IPv6Address):
            return str(ip.ipv4_mapped or ipaddress.ip_network((ip, 64), strict=False).network_address)
        return str(ip)

    @property
    def cookie_name(self) -> str:
        """Cookies are shared by all ports of a host, so over http the port is in the name."""
        secure = self.request.protocol == "https"
        return "__Host-amiga_session" if secure else f"amiga_session_{self.local[1]}"

    # -- the guard -------------------------------------------------------------------------------

    def prepare(self) -> None:
        connection: Any = self.request.connection
        if connection.stream.closed():
            self.finish()  # reset between its last byte and here: nobody is left to answer
            return
        address = connection.stream.socket.getsockname()
        self.local = str(address[0]), int(address[1])
        try:
            self._admit()
        except RefusedError as refusal:
            self._refuse(refusal)

    def _admit(self) -> None:
        self._check_host()
        if token_in_query(self.request):
            raise RefusedError(400, "invalid_request", QUERY_ADVICE, "token in the query")
        self._check_address()
        origin, own = self._check_origin()
        if self.request.method == "OPTIONS":
            self._preflight()
            return
        if self.public:
            return
        self._check_credential(origin, own)
        if self.scope not in self.identity.scopes:
            header = {
                "WWW-Authenticate": f'Bearer realm="amiga_ws", error="insufficient_scope", scope="{self.scope}"'
            }
            text = f"this needs the scope {self.scope}"
            raise RefusedError(403, "forbidden", text, "scope", headers=header)
        self._check_subject()

    def _check_host(self) -> None:
        hosts = self.request.headers.get_list("Host")
        host = hosts[0] if len(hosts) == 1 else None
        if not self.services.policy.host_allowed(host, self.local, self.request.protocol):
            name = printable(host or "")
            text = (
                f"this server does not answer to the name '{name}'. If it is one of yours, add it to config.yaml - "
                f'server: {{allowed_hosts: ["{name}"]}} - or set server.public_url, and restart'
            )
            raise RefusedError(421, "forbidden", text, f"host {name}")

    def _check_address(self) -> None:
        now, address = self.services.clock.monotonic(), self.address
        limits, hub = self.services.settings.limits, self.services.hub
        if not self.stream:
            if self.rate_limited and (wait := self.services.requests.take(address, now)):
                raise temporary(
                    429, "limits.requests_per_second", "too many requests from your address", wait
                )
            return
        if not self.services.ready():
            raise unavailable("the server is shutting down")
        if wait := self.services.new_connections.take(address, now):
            raise temporary(429, "limits.new_connections_per_second", "too many new connections", wait)
        if hub.connections_of(address=address) >= limits.connections_per_address:
            raise temporary(429, "limits.connections_per_address", "too many connections from your address")
        if hub.connections_of() >= self.services.max_connections:
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
        own = parsed is not None and policy.is_own(parsed, self.local, self.request.protocol)
        if not own and not policy.foreign_allowed(origin if len(origins) == 1 else ""):
            name = printable(origin)
            text = (
                f"pages of '{name}' may not speak to this server. If that page is yours, add it to config.yaml - "
                f'origins: {{allowed: ["{name}"]}} - and restart'
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

    def _check_credential(self, origin: str | None, own: bool) -> None:
        try:
            credential = find_credential(self.request, self.cookie_name if self.cookie else None)
        except AmbiguousCredentialError as error:
            raise RefusedError(400, "invalid_request", str(error), "ambiguous credential") from error
        self.credential = credential
        if credential is None:
            raise unauthorized("sign in, or send a token (scripts/mktoken.py makes one)", "none presented")
        if credential.place == "cookie":
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
                raise RefusedError(
                    403, "forbidden", refusal, f"cookie with origin {printable(origin or 'none')}"
                )
        types = ("session",) if credential.place == "cookie" else self.explicit_types
        if self.page and credential.place != "cookie":
            types = ()
        try:
            self.identity = self.services.gate.verify(credential.token, types)
        except TokenError as error:
            text = "the token is not accepted: it may have expired; make a new one with scripts/mktoken.py"
            raise unauthorized(text, error.reason, "invalid_token") from error

    def _check_subject(self) -> None:
        most = self.services.settings.limits.connections_per_subject
        if self.stream and self.services.hub.connections_of(subject=self.identity.subject) >= most:
            raise temporary(
                429, "limits.connections_per_subject", f"you have {most} connections open already; close one"
            )

    # -- refusals --------------------------------------------------------------------------------

    def _refuse(self, refusal: RefusedError) -> None:
        ref = secrets.token_hex(4)
        path = printable(self.request.path)
        logger.info(
            "refused %d %s %s from %s ref=%s: %s",
            refusal.status,
            self.request.method,
            path,
            self.request.remote_ip,
            ref,
            refusal.reason,
        )
        if refusal.status == 401 and self.page:  # noqa: PLR2004 - a person: to the sign-in page
            self.redirect("/login?next=" + self.request.path, status=303)
            return
        self.set_status(refusal.status)
        for name, value in refusal.headers.items():
            self.set_header(name, value)
        self.finish_refusal(refusal, ref)

    def finish_refusal(self, refusal: RefusedError, ref: str) -> None:
        """The body of a refusal; status and headers have been set."""
        self.finish({"error": refusal.text, "code": refusal.code, "ref": ref})

    @property
    def allowed_methods(self) -> str:
        """The methods this route has, for `Allow`."""
        unimplemented = RequestHandler._unimplemented_method
        names = [name for name in METHODS if getattr(type(self), name.lower()) is not unimplemented]
        return ", ".join([*names, "OPTIONS"])

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Every error is JSON with a `ref`; its cause stands in the log alone."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, RefusedError):
            self._refuse(error)
            return
        ref, text, code = secrets.token_hex(4), self._reason, "internal"
        if isinstance(error, HTTPError) and status_code < 500:  # noqa: PLR2004
            text, code = (error.get_message() or text)[:200], "invalid_request"
        else:
            path = printable(self.request.path)
            logger.error("error %d %s %s ref=%s", status_code, self.request.method, path, ref)
        if status_code == 405:  # noqa: PLR2004
            self.set_header("Allow", self.allowed_methods)
        self.finish({"error": text, "code": code, "ref": ref})

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """A traceback for a bug only, and never the query (Tornado's own would print it)."""
        if isinstance(value, HTTPError | RefusedError):
            return
        path = printable(self.request.path)
        logger.error("uncaught in %s %s", self.request.method, path, exc_info=(typ, value, tb))


class Unknown(Guarded):
    """Any path there is no route for."""

    public = True

    def prepare(self) -> None:
        super().prepare()
        if not self._finished:
            raise HTTPError(404, "there is nothing here")


def printable(text: str) -> str:
    """Text from a peer made fit for a log line or a reply: ASCII, no control characters, at most 200."""
    return text[:200].encode("ascii", "backslashreplace").decode().translate(_CONTROLS)


_CONTROLS = {code: f"\\x{code:02x}" for code in [*range(32), 127]}


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
