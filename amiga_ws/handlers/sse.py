"""`GET /api/stream/metrics`: the stream as Server-Sent Events, its query being the subscribe."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import ClassVar

from tornado.iostream import StreamClosedError
from tornado.web import HTTPError

from amiga_ws import spread
from amiga_ws.handlers.connect import welcome
from amiga_ws.handlers.frames import headers_set
from amiga_ws.handlers.guard import Guarded
from amiga_ws.handlers.parameters import flag, number
from amiga_ws.handlers.refusals import RefusedError
from amiga_ws.handlers.transport import SseTransport
from amiga_ws.wire import DEFAULT_HOURS, Bye, Close, Message, RequestError, Subscribe, clamp_hours

logger = logging.getLogger(__name__)

RETRY_RANGE_MS = (2000, 5000)  # an EventSource's wait before it comes back, drawn for each
MAX_LAST_EVENT_ID = 64
MOST_INPUT = 16 * 1024  # bytes after the request, all in all
EVENT_STREAM = "text/event-stream"
CONTENT_TYPE = f"{EVENT_STREAM}; charset=utf-8"


class MetricsEvents(Guarded):
    """One SSE viewer. The response has no length and ends with the connection."""

    stream: ClassVar[bool] = True

    async def get(self) -> None:
        request = self._subscription()
        if self.request.version != "HTTP/1.1":
            raise HTTPError(400, "an event stream needs HTTP/1.1")
        head = self._head()
        stream = self.detach()
        self.ui = None  # type: ignore[assignment]  # as finish() does, which is not called: it would be a cycle
        transport = SseTransport(stream)
        transport.write_now(head)
        try:
            client = welcome(self, transport)
        except Exception:
            stream.close()  # detached: nobody else would
            raise
        transport.on_drained = client.drained
        hub = self.services.hub

        def leave() -> None:
            hub.remove(client)
            transport.forget()

        stream.set_close_callback(leave)
        if stream.closed():
            leave()  # while we wrote; a callback set after that is never called
            return
        with suppress(StreamClosedError):
            # Tornado notices that a peer has left while it reads, or nothing has been read that nobody wants: an empty
            # line too many would keep its slot. Who goes on and on is let go.
            asyncio.ensure_future(stream.read_bytes(MOST_INPUT)).add_done_callback(lambda _: stream.close())
        try:
            await self.services.dialogue.subscribe(client, request)
        except Exception:
            logger.exception("the subscription of %s failed", client.client_id)
            hub.close(client, Close.SERVER_ERROR, "server error: see the server's log")

    def _subscription(self) -> Subscribe:
        last_id = self.request.headers.get("Last-Event-ID")
        request = Subscribe(
            hours=number(self, "hours", DEFAULT_HOURS),
            update_interval=number(self, "interval", self.services.settings.metrics.update_interval),
            delta=flag(self, "delta"),
            resume=last_id[:MAX_LAST_EVENT_ID] if last_id else None,
        )
        try:
            clamp_hours(request.hours)
        except RequestError as error:
            raise HTTPError(400, "%s", error.text) from error
        return request

    def _head(self) -> bytes:
        """The response's head, written by us: Tornado's chunks would cost a frame each and a buffer copy."""
        self.set_header("Content-Type", CONTENT_TYPE)
        self.set_header("X-Accel-Buffering", "no")
        self.set_header("Connection", "close")
        lines = [f"{name}: {value}" for name, value in headers_set(self).get_all()]
        retry = f"retry: {spread.randint(*RETRY_RANGE_MS)}\n\n"
        return ("\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]) + retry).encode("latin-1")

    def finish_refusal(self, refusal: RefusedError, ref: str) -> None:
        """A native EventSource gives up for good on any status but 200: what passes is told as `bye`."""
        if refusal.retry_s is None or self.request.headers.get("Accept", "").strip() != EVENT_STREAM:
            super().finish_refusal(refusal, ref)
            return
        retry_ms = refusal.retry_s * 1000
        code = Close.SHUTTING_DOWN if refusal.code == "unavailable" else Close.RATE_LIMITED
        bye = Message.of(Bye(int(code), refusal.text, True, retry_ms, ref))
        self.set_status(200)
        self.set_header("Content-Type", CONTENT_TYPE)
        self.finish(f"retry: {retry_ms}\n\n".encode() + bye.sse())
