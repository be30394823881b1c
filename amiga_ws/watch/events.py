"""The stream over Server-Sent Events."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any
from urllib.parse import urlencode

import msgspec
from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine
from tornado.iostream import IOStream
from tornado.tcpclient import TCPClient

from amiga_ws.watch.sse import UNNAMED, EventParser
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
from amiga_ws.wire import METRICS_UPDATE

OK = 200
MOST_INTERVAL_S = 1e6  # far beyond what any server allows


class EventStream(HTTPMessageDelegate):
    """`/api/stream/metrics`, with Tornado's HTTP/1 connection: its clients cannot let go of a silent response."""

    def __init__(self) -> None:
        self.code: int | None = None
        self.reason = ""
        self._parser = EventParser()
        self._incoming: asyncio.Queue[Received | LostError | None] = asyncio.Queue()
        self._head: asyncio.Future[tuple[int, HTTPHeaders]] = asyncio.get_running_loop().create_future()
        self._refusal = bytearray()
        self._stream: IOStream  # set by open, as is _reading
        self._reading: asyncio.Future[bool]

    @classmethod
    async def open(cls, access: Access, wanted: Wanted, resume: str | None) -> EventStream:
        """Raises LostError, RefusedError."""
        stream = cls()
        try:
            async with asyncio.timeout(OPEN_S):
                stream._stream = await _connected(access)
        except TimeoutError as error:
            raise LostError("no connection in time") from error
        except OSError as error:
            raise LostError(spoken(error)) from error
        try:
            async with asyncio.timeout(OPEN_S):
                await stream._ask(access, wanted, resume)
        except TimeoutError as error:
            stream.close()
            raise LostError("no answer in time") from error
        except BaseException:
            stream.close()
            raise
        return stream

    @property
    def retry_ms(self) -> int | None:
        """What the stream has told about coming back."""
        return self._parser.retry_ms

    async def _ask(self, access: Access, wanted: Wanted, resume: str | None) -> None:
        address = access.address
        query = {"hours": wanted.hours, "delta": int(wanted.delta)}
        target = f"{address.events_target}?{urlencode(query)}"
        if wanted.interval_s is not None:
            # Never with an exponent, which the query has not; the server says what it makes of it.
            target += f"&interval={min(wanted.interval_s, MOST_INTERVAL_S):f}"
        headers = HTTPHeaders({"Host": address.authority, "Accept": "text/event-stream", **access.headers})
        if resume is not None:
            headers["Last-Event-ID"] = resume
        limits = HTTP1ConnectionParameters(no_keep_alive=True, max_body_size=1 << 62)
        connection = HTTP1Connection(self._stream, True, limits)
        self._reading = asyncio.ensure_future(connection.read_response(self))
        self._reading.add_done_callback(self._read)
        try:
            await connection.write_headers(RequestStartLine("GET", target, ""), headers)
            connection.finish()
        except OSError as error:
            raise LostError(spoken(error)) from error
        status, answer = await self._head
        if status != OK:
            await asyncio.wait({self._reading})
            raise refusal(status, answer, bytes(self._refusal))
        if answer.get("Content-Type", "").partition(";")[0].strip().lower() != "text/event-stream":
            raise LostError("what answers there is no event stream")

    # -- called by Tornado -----------------------------------------------------------------------

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> None:
        """The head of the answer."""
        if not self._head.done():
            self._head.set_result((getattr(start_line, "code", 0), headers))

    def data_received(self, chunk: bytes) -> None:
        """A piece of the body."""
        if self._head.result()[0] != OK:
            self._refusal += chunk[: MAX_REFUSAL_BYTES - len(self._refusal)]
            return
        try:
            for name, data in self._parser.feed(chunk):
                event = METRICS_UPDATE if name == UNNAMED else name
                self._incoming.put_nowait(Received(event, _decode_data(data)))
        except (ValueError, msgspec.DecodeError):  # DecodeError is a ValueError today, by no promise
            self._incoming.put_nowait(LostError(NO_CONTRACT))
            self._stream.close()

    def finish(self) -> None:
        """The end of the answer; `_read` follows."""

    def on_connection_close(self) -> None:
        """The end of the connection; `_read` follows."""

    def _read(self, reading: asyncio.Future[bool]) -> None:
        if not reading.cancelled():
            reading.exception()  # fetched, or it is reported as unhandled; what matters is whether a head came
        if not self._head.done():
            self._head.set_exception(LostError(NO_ANSWER))
        self._incoming.put_nowait(None)

    # --------------------------------------------------------------------------------------------

    async def subscribe(self, wanted: Wanted, resume: str | None) -> None:
        """The query was it."""

    async def receive(self) -> Received | None:
        """As Stream.receive."""
        found = await self._incoming.get()
        if isinstance(found, LostError):
            raise found
        return found

    def close(self) -> None:
        """As Stream.close."""
        self._stream.close()


async def _connected(access: Access) -> IOStream:
    address = access.address
    context = ssl.create_default_context(cafile=access.ca) if address.scheme == "https" else None
    return await TCPClient().connect(
        address.host, address.port, ssl_options=context, max_buffer_size=MAX_MESSAGE_BYTES
    )


_decode_data = msgspec.json.Decoder(dict[str, Any]).decode
