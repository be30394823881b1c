"""The library `websockets` with its own `broadcast`."""

from __future__ import annotations

import asyncio

from common import READY, Job, announce, listen, obey
from websockets.asyncio.server import ServerConnection, broadcast, serve

clients: set[ServerConnection] = set()


async def viewer(connection: ServerConnection) -> None:
    clients.add(connection)
    try:
        await connection.send(READY)
        await connection.wait_closed()
    finally:
        clients.discard(connection)


async def main() -> None:
    job = Job()
    listener = listen()

    def tick() -> None:
        job.begin()
        broadcast(clients, job.text)

    async with serve(viewer, sock=listener, compression=None, ping_interval=None):
        announce(listener)
        await obey(tick)


asyncio.run(main())
