"""What the Python peers share: the payload, the tick's begin, and the bytes that command a server.

Every peer is started as `peer.py PAYLOAD START [option]`, prints `listening PORT`, and reads single bytes
on stdin: `t` a tick, `m` forget what was measured so far, `p` probe on or off, `q` report and end. A peer
ignores what it has no use for. PAYLOAD is the text of one message, START the file of the tick's begin.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

STDIN = 0
BACKLOG = 4096
READY = "ready"  # the text each client is sent when it counts as present


class Job:
    """The payload and the shared clock of one peer."""

    def __init__(self) -> None:
        self.text = Path(sys.argv[1]).read_text()
        with Path(sys.argv[2]).open("r+b") as file:
            self._start = mmap.mmap(file.fileno(), 8)

    def begin(self) -> None:
        """A tick begins: the load generator counts from here."""
        struct.pack_into("=Q", self._start, 0, time.monotonic_ns())


def listen() -> socket.socket:
    """A listening socket on a free port of the loopback."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    listener.setblocking(False)
    return listener


def announce(listener: socket.socket) -> None:
    """Tell the benchmark where we are."""
    print("listening", listener.getsockname()[1], flush=True)


def report(**measured: object) -> None:
    """One JSON line of what the server measured in itself."""
    print(json.dumps(measured), flush=True)


async def obey(tick: Callable[[], Awaitable[None] | None]) -> None:
    """Run `tick` for each `t` on stdin, in a running asyncio loop, until `q` or the end of it."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    tasks: set[asyncio.Future[None]] = set()

    def read() -> None:
        for byte in os.read(STDIN, 64) or b"q":
            if byte == ord("t"):
                running = tick()
                if running is not None:
                    task = asyncio.ensure_future(running)
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
            elif byte == ord("q") and not ended.done():
                ended.set_result(None)

    loop.add_reader(STDIN, read)
    await ended
    report()
    os._exit(0)  # thousands of orderly closes are not what is measured
