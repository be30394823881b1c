"""Which host names are ours, and which pages may speak to us. Pure.

Everything is compared exactly, as (scheme, host, port): no wildcard, no pattern, no suffix.
docs/protocol.md has the table this follows.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}
SAFE_METHODS = frozenset({"GET", "HEAD"})


_NAME_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(:(0|[1-9][0-9]{0,4}))?")


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host (lower case, IPv6 without brackets) and port of a page or of us."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + (
            "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        )


def parse_origin(text: str) -> Origin | None:
    """`https://a.example:8443` → Origin; None for `null`, a path, a user name, or anything malformed."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or parts.path:
        return None
    # urlsplit takes `0[::1]:080` for `::1` at port 80.
    if not _NAME_AND_PORT.fullmatch(parts.netloc):
        return None
    # It forgives spaces around, an empty query or fragment; an `@` brings a user name.
    if any(c in text for c in " ?#@\\") or not text.isascii() or not text.isprintable():
        return None
    return Origin(parts.scheme, parts.hostname, DEFAULT_PORTS[parts.scheme] if port is None else port)


def parse_host(header: str, scheme: str) -> Origin | None:
    """A Host header (`name`, `name:port`, `[::1]:port`) under `scheme`."""
    if any(c in header for c in "/?#@\\ \t,"):
        return None
    return parse_origin(f"{scheme}://{header}")


@dataclass(frozen=True)
class OriginPolicy:
    """The hosts that are ours and the foreign origins that are welcome."""

    public: Origin | None = None
    allowed_hosts: frozenset[str] = frozenset()
    allowed: frozenset[Origin] = frozenset()
    allow_null: bool = False
    loopback: frozenset[str] = field(default=frozenset({"127.0.0.1", "localhost", "::1"}))

    @classmethod
    def build(
        cls, public_url: str | None, allowed_hosts: Iterable[str], allowed: Iterable[str], allow_null: bool
    ) -> OriginPolicy:
        """From settings that have been validated before: each origin parses."""
        origins = frozenset(o for o in map(parse_origin, allowed) if o is not None)
        hosts = frozenset(host.lower() for host in allowed_hosts)
        return cls(parse_origin(public_url) if public_url else None, hosts, origins, allow_null)

    def is_own(self, origin: Origin, local: tuple[str, int], scheme: str) -> bool:
        """Whether `origin` is us.

        `local` is the address and port this connection arrived at (getsockname), `scheme` what we speak
        on it. A name is only believed from the configuration: a rebinding DNS name never is.
        """
        if origin == self.public:
            return True
        address, port = local
        if origin.scheme == scheme and origin.port == port:
            return origin.host in self.loopback or _same_address(origin.host, address)
        return False

    def host_allowed(self, header: str | None, local: tuple[str, int], scheme: str) -> bool:
        """Whether a request's Host header names us (`server.allowed_hosts` entries: `name` or `name:port`)."""
        host = parse_host(header, scheme) if header else None
        if host is None or header is None:
            return False
        if self.is_own(host, local, scheme):
            return True
        if self.public is not None and (host.host, host.port) == (self.public.host, self.public.port):
            return True
        # Behind a proxy that ends TLS the name comes without a port though we speak http on another one.
        if self.public is not None and header.lower() == str(self.public).partition("://")[2]:
            return True
        return header.lower() in self.allowed_hosts or f"{host.host}:{host.port}" in self.allowed_hosts

    def foreign_allowed(self, origin: str) -> bool:
        """Whether a page that is not ours may speak to us, with an explicit token (`cookie_refusal` sees to that).

        `null` (a page from a file, a sandboxed frame) only where the owner has allowed it.
        """
        if origin == "null":
            return self.allow_null
        return parse_origin(origin) in self.allowed


def cookie_refusal(
    *,
    method: str,
    websocket: bool,
    page: bool,
    origin: str | None,
    own: bool,
    site: str | None,
    mode: str | None,
) -> str | None:
    """Why a request whose credential is the cookie must be refused; None when it may pass.

    A browser sends the cookie whoever asks, so the page that asks has to be ours.
    `site` and `mode` are Sec-Fetch-Site and Sec-Fetch-Mode, `page` tells a page from an API route.
    """
    if websocket or method not in SAFE_METHODS:
        return None if origin is not None and own else "the cookie is accepted from our own pages only"
    if origin is not None and not own:
        return "the cookie is accepted from our own pages only"
    if site in (None, "same-origin", "none"):
        return None
    # A link in a chat opens the dashboard: a top-level navigation shows nothing to the page it came from.
    if site in ("cross-site", "same-site") and mode == "navigate" and page:
        return None
    return "another site asked for this with your cookie"


def _same_address(host: str, address: str) -> bool:
    try:
        local = ipaddress.ip_address(address.partition("%")[0])
        # A dual-stack socket shows an IPv4 peer's side as ::ffff:a.b.c.d.
        mapped = getattr(local, "ipv4_mapped", None)
        return ipaddress.ip_address(host) in {local, mapped}
    except ValueError:
        return False
