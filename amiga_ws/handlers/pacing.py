"""When a connection and a request are begun, and which connections have brought no request.

Who comes faster than the limits of an address allow waits, and the loop is free meanwhile. Requests are worked at in
pieces, of which one is done in each pass of the loop, so that streams get their turn. Connections whose next request is
not whole yet are known, in the order of their silence: where an address has too many of them, or descriptors run out,
the first gives way to a newcomer, which may be an honest one.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import IOStream
from tornado.web import Application

from amiga_ws.handlers.guard import Services
from amiga_ws.handlers.peer import key_of
from amiga_ws.handlers.queues import Queues, take_first
from amiga_ws.handlers.rates import MAX_WAIT_S, UNPROVEN
from amiga_ws.turnstile import Turnstile


class PacedApplication(Application):
    """Tornado's, but for when a request is begun and gone on with."""

    def __init__(self, services: Services, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._services = services
        self._silent: WeakKeyDictionary[IOStream, None] = WeakKeyDictionary()  # of all addresses
        self._silent_of = Queues()
        self._proven: WeakSet[IOStream] = WeakSet()  # have brought a request

    def connection_wait_s(self, remote: str, room: bool) -> float | None:
        """Seconds until a new connection is looked at, None if not at all; a trusted proxy's at once.

        Without `room` to wait in, one that would have to costs its address nothing.
        """
        services = self._services
        key = key_of(remote, services.trusted_proxies)
        if key is None:
            return 0.0
        return services.rates.connects.reserve(
            key, services.clock.monotonic(), UNPROVEN, MAX_WAIT_S if room else 0.0
        )

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        """Called by the HTTPServer when it begins to wait for a request."""
        connection: Any = request_conn  # an HTTP1Connection, the only kind
        stream: IOStream = connection.stream
        services = self._services
        key = key_of(str(connection.context.remote_ip), services.trusted_proxies)
        self._silent.pop(stream, None)  # to the end
        self._silent[stream] = None
        if key is not None:
            self._silent_of.add(key, stream, services.crowd)
        return _InTurn(super().start_request(server_conn, request_conn), self, stream, key, services.pieces)

    def whole(self, stream: IOStream, key: str | None) -> None:
        """All of a request is here."""
        self._silent.pop(stream, None)
        if key is not None:
            self._silent_of.discard(key, stream)

    async def turn(self, stream: IOStream, key: str | None) -> bool:
        """Wait for one's turn; False where the request is not to be looked at, and the connection is closed."""
        self._services.answering.add(stream)
        # A closed stream may have more requests in its buffer: nobody waits for them.
        if not stream.closed() and await self._in_pace(key) and not stream.closed():
            return True
        stream.close()
        return False

    def proven(self, stream: IOStream, key: str | None) -> None:
        """It brought a request, and not one that is refused as none."""
        if stream not in self._proven:
            self._proven.add(stream)
            self._services.rates.connects.give_back(key, UNPROVEN - 1)

    async def _in_pace(self, key: str | None) -> bool:
        """False where it would take too long, or else waiting requests would fill memory."""
        services = self._services
        if key is not None:
            wait_s = services.rates.begun.reserve(key, services.clock.monotonic(), 1, MAX_WAIT_S)
            if wait_s is None:
                return False
            if wait_s:
                await services.turns.wait(wait_s)
        await services.pieces.turn()
        return True

    def drop_silent(self) -> bool:
        """Close the connection whose next request has been waited for longest; False when there is none."""
        while self._silent:
            stream = take_first(self._silent)
            if not stream.closed():
                stream.close()
                return True
        return False


class _InTurn(HTTPMessageDelegate):
    """Hands a request on when its turn has come; Tornado waits for `headers_received`."""

    def __init__(
        self,
        inner: HTTPMessageDelegate,
        application: PacedApplication,
        stream: IOStream,
        key: str | None,
        pieces: Turnstile,
    ) -> None:
        self._inner = inner
        self._application = application
        self._peer = stream, key
        self._pieces = pieces
        self._begun = False  # to be handed on
        self._body = False  # some of it has come

    async def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> None:
        if "Content-Length" not in headers and "Transfer-Encoding" not in headers:
            self._application.whole(*self._peer)
        self._begun = await self._application.turn(*self._peer)
        if not self._begun:
            return
        answer = self._inner.headers_received(start_line, headers)
        self._application.proven(*self._peer)
        if answer is not None:
            await answer

    async def data_received(self, chunk: bytes) -> None:
        if self._begun and not self._body:
            # Once, or one who sends a byte at a time would have a place in the line for each.
            self._body = True
            await self._pieces.turn()
        if not self._begun:  # by now: it may have ended while we waited
            return
        answer = self._inner.data_received(chunk)
        if answer is not None:
            await answer

    def finish(self) -> None:
        self._application.whole(*self._peer)
        if self._begun:
            self._inner.finish()

    def on_connection_close(self) -> None:
        if self._begun:
            self._begun = False
            self._inner.on_connection_close()
