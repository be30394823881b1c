"""Who is at the other end: address and scheme, as told by the socket or by a proxy the owner trusts."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tornado.httputil import HTTPServerRequest

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Peer:
    """`key` is what limits count by: IPv4 as it is, IPv6 by its /64 (one household)."""

    ip: str
    key: str
    scheme: str
    local: tuple[str, int]  # the address and port the connection arrived at


def networks(trusted: Iterable[str]) -> tuple[Network, ...]:
    """`server.trusted_proxies` (addresses or CIDR networks), parsed."""
    return tuple(ipaddress.ip_network(text, strict=False) for text in trusted)


def peer_of(request: HTTPServerRequest, trusted: tuple[Network, ...]) -> Peer | None:
    """None when the connection has been reset already: nobody is left to answer.

    Only a trusted proxy may speak for somebody else: X-Forwarded-For is read from its right end, past
    further trusted proxies, to the first address that could have been written by none of them but the last.
    """
    connection: Any = request.connection
    if connection.stream.closed():
        return None
    host, port = connection.stream.socket.getsockname()[:2]
    ip, scheme = _address(str(request.remote_ip)), request.protocol
    if ip is not None and _within(ip, trusted):
        ip = _forwarded_for(request, trusted) or ip
        scheme = _forwarded_scheme(request) or scheme
    return Peer(
        str(ip or request.remote_ip), _key(ip, str(request.remote_ip)), scheme, (str(host), int(port))
    )


@functools.lru_cache(maxsize=1024)
def key_of(remote: str, trusted: tuple[Network, ...]) -> str | None:
    """What limits count a connection by before it has said anything: None for a trusted proxy, who speaks for many."""
    ip = _address(remote)
    return None if ip is not None and _within(ip, trusted) else _key(ip, remote)


def _forwarded_for(request: HTTPServerRequest, trusted: tuple[Network, ...]) -> Address | None:
    found = None
    for text in reversed(",".join(request.headers.get_list("X-Forwarded-For")).split(",")):
        address = _address(text.strip())
        if address is None:
            return found  # what stands left of something malformed is not believed either
        found = address
        if not _within(address, trusted):
            return found
    return found


def _forwarded_scheme(request: HTTPServerRequest) -> str | None:
    scheme = ",".join(request.headers.get_list("X-Forwarded-Proto")).rpartition(",")[2].strip().lower()
    return scheme if scheme in ("http", "https") else None


def _address(text: str) -> Address | None:
    try:
        ip = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip


def _within(ip: Address, trusted: tuple[Network, ...]) -> bool:
    return any(ip.version == network.version and ip in network for network in trusted)


def _key(ip: Address | None, remote: str) -> str:
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((ip, 64), strict=False).network_address)
    return remote if ip is None else str(ip)
