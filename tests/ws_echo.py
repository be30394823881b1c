#!/usr/bin/env python3
"""An echo at ws://127.0.0.1:PORT/ws-echo on the product's own WebSocket base class, for conformance suites.

    .venv/bin/python tests/ws_echo.py --port 9001 [--deflate]

Without credentials, without the product's budgets: text and binary, messages to 16 MiB.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import suppress
from pathlib import Path

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketClosedError

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the package need not be installed

from amiga_ws.handlers.frames import StrictSocket
from amiga_ws.handlers.refusals import RefusedError

MESSAGE_BYTES = 16 * 2**20


class Echo(StrictSocket):
    """Sends back what it is sent."""

    max_fragments = MESSAGE_BYTES  # suites send 4 MiB in fragments of 64 bytes

    def initialize(self, *, deflate):
        self._deflate = deflate

    def check_origin(self, origin):
        return True

    def get_compression_options(self):
        return {} if self._deflate else None

    async def on_message(self, message):
        with suppress(WebSocketClosedError):  # it has left meanwhile
            await self.write_message(message, binary=isinstance(message, bytes))

    def write_error(self, status_code, **more):
        error = more["exc_info"][1]
        if not isinstance(error, RefusedError):
            super().write_error(status_code, **more)
            return
        self.set_status(error.status)
        for name, value in error.headers.items():
            self.set_header(name, value)
        self.finish(error.text)

    def log_exception(self, typ, value, tb):
        if not isinstance(value, RefusedError):
            super().log_exception(typ, value, tb)


def application(*, deflate):
    routes = [("/ws-echo", Echo, {"deflate": deflate})]
    return Application(routes, websocket_max_message_size=MESSAGE_BYTES, log_function=lambda _: None)


async def serve(port, *, deflate):
    (listening,) = bind_sockets(port, "127.0.0.1")
    HTTPServer(application(deflate=deflate)).add_socket(listening)
    print(f"listening on ws://127.0.0.1:{listening.getsockname()[1]}/ws-echo", flush=True)  # noqa: T201 - a command
    await asyncio.Event().wait()


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--port", type=int, default=9001, help="0 takes any free one")
    options.add_argument("--deflate", action="store_true", help="offer permessage-deflate")
    given = options.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(given.port, deflate=given.deflate))
