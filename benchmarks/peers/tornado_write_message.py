"""Tornado as its documentation shows a broadcast: `write_message` to each."""

from __future__ import annotations

import asyncio

from common import READY, Job, announce, listen, obey
from tornado.httpserver import HTTPServer
from tornado.web import Application
from tornado.websocket import WebSocketHandler

clients: set[WebSocketHandler] = set()


class Viewer(WebSocketHandler):
    def check_origin(self, origin: str) -> bool:
        return True

    def open(self) -> None:
        clients.add(self)
        self.write_message(READY)

    def on_close(self) -> None:
        clients.discard(self)


async def main() -> None:
    job = Job()
    listener = listen()
    HTTPServer(Application([("/ws", Viewer)])).add_sockets([listener])
    announce(listener)

    def tick() -> None:
        job.begin()
        for client in clients:
            client.write_message(job.text)

    await obey(tick)


asyncio.run(main())
