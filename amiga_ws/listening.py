"""What we listen with: sockets, accepting, the descriptor limit, TLS. Errors are told as one sentence."""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPInputError
from tornado.iostream import BaseIOStream, IOStream, SSLIOStream, StreamClosedError
from tornado.netutil import bind_sockets, ssl_wrap_socket

logger = logging.getLogger(__name__)

BACKLOG = 1024
# What the kernel takes that cannot leave yet: for a peer that reads nothing 10-17 snapshots of 16 KiB, and not 245, or
# half a megabyte of answers.
NOTSENT_BYTES = 64 * 1024
# Data that nobody acknowledges or takes for so long: the network or the peer is gone (RFC 5482). Of connections that we
# have closed, too: what they hold the kernel else keeps for as long as the peer says that it has no room.
USER_TIMEOUT_MS = 35_000
# Tornado accepts 128 in one go: when 2,000 viewers came back at once, their handshakes held the loop for 0.9 s.
ACCEPT_SLICE = 8
HEAD_BYTES = 16 * 1024
MAX_LINES = 100  # of a head, as Apache takes: two thousand are 5 ms of parsing
# Read at once: Tornado's 64 KiB are made for each read. With the one more, a head that is too long is known for one
# after the first read.
READ_BYTES = HEAD_BYTES + 1
# Where Tornado looks for the end of a head, and a pattern that ends at the same place. It begins with one letter, which
# is looked for with memchr: 10 us instead of 280 for 16 KiB without an end.
HEAD_END, QUICK_HEAD_END = b"\r?\n\r?\n", b"\n\r?\n"
NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
FILES = 32  # descriptors no connection gets: for SQLite, revocations, static files
ACCEPT_PAUSE_S = 0.1  # while there is no descriptor; the socket stays readable, and the loop would spin
CROWDED_PAUSE_S = 0.01  # between two slices for which others had to give way: 800 connections a second
MAX_WAITING = 1024  # accepted connections of addresses that open too many at a time
ACCEPT_LOG_S = 10.0  # between two lines about that
RESERVED_DESCRIPTORS = 64  # at least, for SQLite, logs, static files, and connections being refused
STREAMS_SHARE = 0.8  # of the descriptors, at most: of many, more come to be refused
WANTED_DESCRIPTORS = 65_536
# Forward secrecy and authenticated encryption only; TLS 1.3 has nothing else anyway.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


class StartError(Exception):
    """The server cannot start; the text says why and what to do."""


class MisconfiguredError(StartError):
    """What was configured cannot be used: no later start will like it better."""


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
        for each in sockets:
            # Connections have these from the socket that they came to.
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOTSENT_BYTES)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        if port != ports[0]:
            logger.warning("port %d is taken; listening on %d instead", ports[0], port)
        return sockets
    taken = f"port {ports[0]} is" if len(ports) == 1 else f"ports {ports[0]}-{ports[-1]} are all"
    raise StartError(f"{taken} taken; set server.port to a free one (0 = any)")


class _Accepted(BaseIOStream):
    """Heads, which are all that an HTTPServer reads by a pattern, have a bounded number of lines.

    One that was closed is gone at once, without the garbage collector.
    """

    def close(self, exc_info: Any = False) -> None:  # noqa: ANN401 - as Tornado's
        """As Tornado's."""
        super().close(exc_info)
        if self.error is not None:
            self.error.__traceback__ = None  # its frames hold this stream, a cycle

    async def read_until_regex(self, regex: bytes, max_bytes: int | None = None) -> bytes:
        """As Tornado's. Raises HTTPInputError, which is answered with 400 and ends the connection."""
        head = await super().read_until_regex(QUICK_HEAD_END if regex == HEAD_END else regex, max_bytes)
        if self.closed():
            raise StreamClosedError  # by the timeout for heads, which expects nothing else any more
        if head.count(b"\n") > MAX_LINES:
            raise HTTPInputError(f"a head of more than {MAX_LINES} lines")
        return head


class _Stream(_Accepted, IOStream):
    pass


class _SecuredStream(_Accepted, SSLIOStream):
    pass


class Listener:
    """Accepts connections for an HTTPServer, a few in one pass of the loop, so that others get their turn."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        server: HTTPServer,
        tls: ssl.SSLContext | None,
        wait_s: Callable[[str, bool], float | None],
        make_room: Callable[[], bool],
    ) -> None:
        self._sockets = list(sockets)
        self._server = server
        self._tls = tls
        # Until a connection of this peer is looked at, if there is room to wait in; None: it is closed.
        self._wait_s = wait_s
        self._waiting: set[socket.socket] = set()
        self._make_room = make_room  # closes a connection that nobody will miss; False when there is none
        self._loop = asyncio.get_running_loop()
        self._told_at = float("-inf")
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # The kernel gives the lowest free number, so a high one tells how few are left.
        self._highest = soft - FILES
        for each in self._sockets:
            each.setblocking(False)
            self._resume(each)

    def stop(self) -> None:
        """Accept no more; what was accepted stays."""
        for each in self._sockets:
            self._loop.remove_reader(each)
            each.close()
        self._sockets.clear()
        for each in self._waiting:
            each.close()
        self._waiting.clear()

    def _resume(self, listening: socket.socket) -> None:
        if listening in self._sockets:  # not stopped meanwhile
            self._loop.add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        crowded = False
        for _ in range(ACCEPT_SLICE):
            try:
                connection, address = listening.accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in NO_DESCRIPTOR:
                    self._pause(listening, ACCEPT_PAUSE_S)
                    self._tell("cannot accept connections: %s; trying again", error.strerror or error)
                    return
                continue  # it was gone before we came (accept(2))
            low = connection.fileno() <= self._highest
            wait_s = self._wait_s(str(address[0]), low and len(self._waiting) < MAX_WAITING)
            if wait_s is None:
                connection.close()
            elif low:
                if wait_s:
                    self._waiting.add(connection)
                    self._loop.call_later(wait_s, self._serve_later, connection, address)
                else:
                    self._serve(connection, address)
            elif self._make_room():
                # Moved to the number that has become free: the high ones stay free for files.
                moved = connection.dup()
                connection.close()
                self._serve(moved, address)
                crowded = True
            else:
                connection.close()
                self._pause(listening, ACCEPT_PAUSE_S)
                self._tell("cannot accept connections: nearly all files are open that may be; trying again")
                return
        if crowded:
            # Not faster: who comes again and again must not keep us busy.
            self._pause(listening, CROWDED_PAUSE_S)
            self._tell("nearly all files are open that may be: connections without a request give way")

    def _pause(self, listening: socket.socket, seconds: float) -> None:
        self._loop.remove_reader(listening)
        self._loop.call_later(seconds, self._resume, listening)

    def _tell(self, message: str, *more: object) -> None:
        if self._loop.time() - self._told_at >= ACCEPT_LOG_S:
            self._told_at = self._loop.time()
            logger.warning(message, *more)

    def _serve_later(self, connection: socket.socket, address: tuple[str, int]) -> None:
        if connection in self._waiting:  # not stopped meanwhile
            self._waiting.remove(connection)
            self._serve(connection, address)

    def _serve(self, connection: socket.socket, address: tuple[str, int]) -> None:
        size = self._server.max_buffer_size
        try:
            if self._tls is None:
                stream: IOStream = _Stream(connection, size, READ_BYTES)
            else:
                secured = ssl_wrap_socket(
                    connection, self._tls, server_side=True, do_handshake_on_connect=False
                )
                stream = _SecuredStream(secured, max_buffer_size=size, read_chunk_size=READ_BYTES)
        except OSError:  # closed right after it was made, as a port scan does
            connection.close()
            return
        self._server.handle_stream(stream, address)


def carried_connections(wanted: int) -> int:
    """`limits.connections` as the descriptor limit carries it; the soft limit is raised first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ceiling = WANTED_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, WANTED_DESCRIPTORS)
    if soft < ceiling and _carries(soft) < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, hard))
        soft = ceiling
    carried = max(1, min(wanted, _carries(soft)))
    if carried < wanted:
        logger.warning(
            "limits.connections %d is lowered to %d: the process may open %d files (raise ulimit -n)",
            wanted,
            carried,
            soft,
        )
    return carried


def _carries(descriptors: int) -> int:
    return min(descriptors - RESERVED_DESCRIPTORS, int(descriptors * STREAMS_SHARE))


def tls_context(cert: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 and later, AEAD ciphers, HTTP/1.1 only (RFC 8441 is not for us). Raises MisconfiguredError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    load_certificate(context, cert, key)
    return context


def load_certificate(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    """Put a (new) certificate into a context; handshakes from now on use it. Raises MisconfiguredError."""
    try:
        # Tried on the side: a context must not be left with a new certificate and an old key.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise MisconfiguredError(f"server.tls: cannot use {cert} with {key}: {reason}") from error
