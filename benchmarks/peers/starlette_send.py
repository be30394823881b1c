"""Starlette on uvicorn: `send_text` to each."""

from __future__ import annotations

import asyncio

import uvicorn
from common import READY, Job, announce, listen, obey
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

clients: set[WebSocket] = set()


async def viewer(socket: WebSocket) -> None:
    await socket.accept()
    clients.add(socket)
    try:
        await socket.send_text(READY)
        while True:
            await socket.receive_text()
    except WebSocketDisconnect:
        pass
    finally:
        clients.discard(socket)


async def main() -> None:
    job = Job()
    listener = listen()
    app = Starlette(routes=[WebSocketRoute("/ws", viewer)])
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, ws_per_message_deflate=False, ws_ping_interval=None
    )
    server = asyncio.create_task(uvicorn.Server(config).serve(sockets=[listener]))

    async def tick() -> None:
        job.begin()
        for client in clients:
            await client.send_text(job.text)

    announce(listener)
    await obey(tick)
    await server


asyncio.run(main())
