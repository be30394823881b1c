"""picows, a WebSocket library in Cython: `transport.send` to each."""

from __future__ import annotations

import asyncio

from common import READY, Job, announce, listen, obey
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

clients: set[WSTransport] = set()


class Viewer(WSListener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        clients.add(transport)
        transport.send(WSMsgType.TEXT, READY.encode())

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        pass

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        clients.discard(transport)


def accept(_request: WSUpgradeRequest) -> Viewer:
    return Viewer()


async def main() -> None:
    job = Job()
    data = job.text.encode()
    listener = listen()
    await ws_create_server(accept, sock=listener)
    announce(listener)

    def tick() -> None:
        job.begin()
        for client in clients:
            client.send(WSMsgType.TEXT, data)

    await obey(tick)


asyncio.run(main())
