"""The stream over WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import msgspec
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.simple_httpclient import HTTPTimeoutError
from tornado.websocket import (
    WebSocketClientConnection,
    WebSocketClosedError,
    WebSocketError,
    websocket_connect,
)

from amiga_ws.watch.streams import (
    MAX_MESSAGE_BYTES,
    MAX_REFUSAL_BYTES,
    NO_ANSWER,
    NO_CONTRACT,
    OPEN_S,
    Access,
    LostError,
    Received,
    Wanted,
    refusal,
    spoken,
)
from amiga_ws.wire import SUBPROTOCOL

TORNADO_FAILED = 599  # Tornado's own status for what is no answer: a timeout, a lost connection


class WebSocketStream:
    """`/ws`."""

    def __init__(self) -> None:
        self.code: int | None = None
        self.reason = ""
        self.retry_ms = None  # a WebSocket says it in `bye` alone
        self._incoming: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self._connection: WebSocketClientConnection  # set by open

    @classmethod
    async def open(cls, access: Access) -> WebSocketStream:
        """Raises LostError, RefusedError."""
        stream = cls()
        request = HTTPRequest(
            access.address.websocket,
            headers=access.headers,
            connect_timeout=OPEN_S,
            request_timeout=2 * OPEN_S,
            ca_certs=str(access.ca) if access.ca else None,
        )
        opening = asyncio.ensure_future(
            websocket_connect(
                request,
                on_message_callback=stream._incoming.put_nowait,
                max_message_size=MAX_MESSAGE_BYTES,
                subprotocols=[SUBPROTOCOL],
            )
        )
        try:
            # Shielded: a connection that comes up after we have gone must still be closed.
            stream._connection = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_late)
            raise
        except HTTPClientError as error:
            raise _refusal_or_loss(error) from error
        except WebSocketError as error:
            raise LostError("what answers there speaks no WebSocket") from error
        except OSError as error:
            raise LostError(spoken(error)) from error
        return stream

    async def subscribe(self, wanted: Wanted, resume: str | None) -> None:
        """As Stream.subscribe."""
        data: dict[str, Any] = {"hours": wanted.hours, "delta": wanted.delta}
        if wanted.interval_s is not None:
            data["update_interval"] = wanted.interval_s
        if resume is not None:
            data["resume"] = resume
        # A connection that has just been lost says so to `receive`.
        with contextlib.suppress(WebSocketClosedError):
            await self._connection.write_message({"event": "subscribe", "data": data, "id": "subscribe"})

    async def receive(self) -> Received | None:
        """As Stream.receive."""
        message = await self._incoming.get()
        if message is None:
            self.code, self.reason = self._connection.close_code, self._connection.close_reason or ""
            return None
        try:
            return _decode_frame(message)
        except msgspec.DecodeError as error:
            raise LostError(NO_CONTRACT) from error

    def close(self) -> None:
        """As Stream.close."""
        self._connection.close()


def _close_late(opening: asyncio.Future[WebSocketClientConnection]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _refusal_or_loss(error: HTTPClientError) -> Exception:
    if isinstance(error, HTTPTimeoutError):
        return LostError("no answer in time")
    if error.code == TORNADO_FAILED or error.response is None:
        return LostError(NO_ANSWER)
    return refusal(error.code, error.response.headers, error.response.body[:MAX_REFUSAL_BYTES])


_decode_frame = msgspec.json.Decoder(Received).decode
