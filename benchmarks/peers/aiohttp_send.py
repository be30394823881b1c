"""aiohttp: `send_str` to each."""

from __future__ import annotations

import asyncio

from aiohttp import web
from common import READY, Job, announce, listen, obey

clients: set[web.WebSocketResponse] = set()


async def viewer(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    clients.add(socket)
    try:
        await socket.send_str(READY)
        async for _ in socket:
            pass
    finally:
        clients.discard(socket)
    return socket


async def main() -> None:
    job = Job()
    listener = listen()
    app = web.Application()
    app.router.add_get("/ws", viewer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    announce(listener)

    async def tick() -> None:
        job.begin()
        for client in clients:
            await client.send_str(job.text)

    await obey(tick)


asyncio.run(main())
