"""`WS /ws`: the stream over WebSocket."""

from __future__ import annotations

import base64
import logging
from typing import Any, ClassVar

from tornado.httputil import HTTPServerRequest
from tornado.websocket import WebSocketHandler

from amiga_ws.client import Client
from amiga_ws.handlers.connect import welcome
from amiga_ws.handlers.credentials import offered_subprotocols
from amiga_ws.handlers.guard import Guarded, RefusedError
from amiga_ws.handlers.transport import StreamWriter, WebSocketTransport
from amiga_ws.wire import SUBPROTOCOL, Close

logger = logging.getLogger(__name__)

UNSUPPORTED_DATA = 1003  # RFC 6455, 7.4.1
KEY_BYTES = 16  # RFC 6455, 4.1


class MetricsSocket(Guarded, WebSocketHandler):
    """One WebSocket viewer. Text messages go to the hub in order, each after the peer has read the answers."""

    stream: ClassVar[bool] = True
    client: Client | None = None  # set by open, once the handshake is done
    _writer: StreamWriter

    def _admit(self) -> None:
        super()._admit()
        if not self._finished:
            _check_handshake(self.request)

    def check_origin(self, origin: str) -> bool:
        """True: the guard has judged. Tornado does not even ask where Origin equals Host (DNS rebinding)."""
        return True

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """Only the fixed name is ever echoed, never the one that carries the token."""
        return SUBPROTOCOL if SUBPROTOCOL in offered_subprotocols(self.request) else None

    def open(self, *args: str, **kwargs: str) -> None:
        """The handshake is done."""
        connection: Any = self.ws_connection
        if connection.stream.closed():
            return  # it left during the handshake: Tornado finds out when it reads
        self._writer = StreamWriter(connection.stream)
        self.client = welcome(self, WebSocketTransport(self, connection, self._writer))
        self._writer.on_drained = self.client.drained

    async def on_message(self, message: str | bytes) -> None:
        """Tornado reads the next frame when this is done: a peer that does not read is not read from."""
        if self.client is None or self.ws_connection is None:
            return
        if isinstance(message, bytes):
            self.close(UNSUPPORTED_DATA, "binary messages are not part of amiga.v1")
            return
        await self._writer.drained()
        try:
            await self.services.dialogue.obey(self.client, message)
        except Exception:
            logger.exception("a message of %s failed", self.client.client_id)
            self.services.hub.close(self.client, Close.SERVER_ERROR, "server error: see the server's log")

    def on_close(self) -> None:
        if self.client is not None:
            self.services.hub.remove(self.client)


def _check_handshake(request: HTTPServerRequest) -> None:
    """RFC 6455, 4.2.1. Tornado's own refusals would be plain text, and it takes any key."""
    headers = request.headers
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    if headers.get("Upgrade", "").lower() != "websocket":
        text = "this is a WebSocket: upgrade"
        raise RefusedError(426, "invalid_request", text, "no upgrade", headers=upgrade)
    if headers.get("Sec-WebSocket-Version") != "13":
        text = "this server speaks version 13 of WebSocket"
        raise RefusedError(426, "invalid_request", text, "WebSocket version", headers=upgrade)
    options = [option.strip().lower() for option in headers.get("Connection", "").split(",")]
    if "upgrade" not in options or request.version != "HTTP/1.1":
        text = "expected HTTP/1.1 with 'Connection: Upgrade'; a proxy in between may drop it"
        raise RefusedError(400, "invalid_request", text, "no connection upgrade")
    if not _is_key(headers.get("Sec-WebSocket-Key", "")):
        text = "Sec-WebSocket-Key is 16 bytes in base64"
        raise RefusedError(400, "invalid_request", text, "bad WebSocket key")


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == KEY_BYTES
    except ValueError:
        return False
