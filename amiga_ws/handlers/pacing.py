"""When a request is begun, and which connections have none.

Requests that arrive together are begun a few in one pass of the loop, so that streams get their turn.
Connections that have no request under way are known, in the order of their silence: where descriptors run
out, the first of them gives way to a newcomer, which may be an honest one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from weakref import WeakKeyDictionary

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import IOStream
from tornado.web import Application

from amiga_ws.turnstile import Turnstile

BEGUN_AT_ONCE = 16  # a handshake with its token is 0.8 ms


class PacedApplication(Application):
    """Tornado's, but for when a request is begun: between its head and its handler lies a turnstile."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._turnstile = Turnstile(BEGUN_AT_ONCE)
        # Weak: nobody tells us of a connection that ends before its first request.
        self._silent: WeakKeyDictionary[IOStream, None] = WeakKeyDictionary()

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        """Called by the HTTPServer when it begins to wait for a request."""
        stream: IOStream = request_conn.stream  # type: ignore[attr-defined]  # HTTP1Connection's, the only kind
        self._silent.pop(stream, None)  # to the end of the queue
        self._silent[stream] = None
        inner = super().start_request(server_conn, request_conn)
        return _InTurn(inner, self._turnstile, lambda: self._silent.pop(stream, None))

    def drop_silent(self) -> bool:
        """Close the connection that has waited longest without a request; False when there is none."""
        while self._silent:
            stream, _ = next(iter(self._silent.items()))
            del self._silent[stream]
            if not stream.closed():
                stream.close()
                return True
        return False


class _InTurn(HTTPMessageDelegate):
    """Hands a request on when its turn has come; Tornado waits for `headers_received`."""

    def __init__(self, inner: HTTPMessageDelegate, turnstile: Turnstile, begun: Callable[[], object]) -> None:
        self._inner = inner
        self._turnstile = turnstile
        self._begun = begun  # to be told when the head of the request is here

    async def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> None:
        self._begun()
        await self._turnstile.turn()
        answer = self._inner.headers_received(start_line, headers)
        if answer is not None:
            await answer

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return self._inner.data_received(chunk)

    def finish(self) -> None:
        self._inner.finish()

    def on_connection_close(self) -> None:
        self._inner.on_connection_close()
