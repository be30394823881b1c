"""What we listen with: sockets, the descriptor limit, TLS. Errors are told as one sentence."""

from __future__ import annotations

import errno
import logging
import resource
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

from tornado.netutil import bind_sockets

logger = logging.getLogger(__name__)

BACKLOG = 1024
RESERVED_DESCRIPTORS = 64  # for SQLite, logs, static files, and connections being refused
WANTED_DESCRIPTORS = 65_536
# Forward secrecy and authenticated encryption only; TLS 1.3 has nothing else anyway.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
# How a wildcard address is reached from this machine.
REACHABLE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - compared, not bound


class StartError(Exception):
    """The server cannot start; the text says why and what to do."""


def bind(host: str, ports: Sequence[int]) -> list[socket.socket]:
    """Listen on the first free one of `ports`.

    Raises:
        StartError: none is free, or the address is not ours.
    """
    for port in ports:
        try:
            sockets = bind_sockets(port, host, backlog=BACKLOG)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            raise StartError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
        if port != ports[0]:
            logger.warning("port %d is taken; listening on %d instead", ports[0], port)
        return sockets
    taken = f"port {ports[0]} is" if len(ports) == 1 else f"ports {ports[0]}-{ports[-1]} are all"
    raise StartError(f"{taken} taken; set server.port to a free one (0 = any)")


def url_of(host: str, port: int, scheme: str) -> str:
    """`http://[::1]:3000`."""
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


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


def tls_context(cert: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 and later, AEAD ciphers, HTTP/1.1 only (RFC 8441 is not for us). Raises StartError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    load_certificate(context, cert, key)
    return context


def load_certificate(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    """Put a (new) certificate into a context; handshakes from now on use it. Raises StartError."""
    try:
        # Tried on the side: a context must not be left with a new certificate and an old key.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise StartError(f"server.tls: cannot use {cert} with {key}: {reason}") from error
