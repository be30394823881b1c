"""Where a server is: what a person types, and the addresses of its streams. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

STREAM_PATHS = ("/ws", "/api/stream/metrics", "/")  # a pasted stream's address means its server
WEB_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
HOST = re.compile(r"[A-Za-z0-9._~:%-]+")  # names (IDNA in its ASCII form), IPv4, IPv6 with its zone
DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Address:
    """A server's address. `prefix` is the path under which a reverse proxy serves it: empty, or `/path`."""

    scheme: str  # http or https
    host: str  # IPv6 without brackets
    port: int
    prefix: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """`http://host:port`, also https, ws, wss, without a scheme, or with a stream's path.

        Raises:
            ValueError: with a sentence; the text itself is not in it where it may hold a secret.
        """
        parts = urlsplit(text if "://" in text else f"http://{text}")
        scheme = WEB_SCHEMES.get(parts.scheme)
        if scheme is None:
            raise ValueError("expected an address that starts with http://, https://, ws:// or wss://")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("expected an address without credentials, ? and #: the token has its own ways")
        if not parts.hostname or not HOST.fullmatch(parts.hostname):
            raise ValueError("expected an address with a host, such as http://127.0.0.1:3000")
        port = parts.port  # ValueError with a sentence of its own
        path = parts.path
        for known in STREAM_PATHS:
            path = path.removesuffix(known)
        return cls(scheme, parts.hostname, port or DEFAULT_PORTS[scheme], quote(path, safe="/%"))

    @property
    def authority(self) -> str:
        """`host:port` as in a `Host` header: without the port where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def websocket(self) -> str:
        """The address of the WebSocket."""
        return f"{'wss' if self.scheme == 'https' else 'ws'}://{self.authority}{self.prefix}/ws"

    @property
    def events_target(self) -> str:
        """The path of the event stream."""
        return f"{self.prefix}/api/stream/metrics"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.prefix}"
