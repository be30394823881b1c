"""What is measured: one row of the table each. A new cell is a new line here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

KIB = 1024
OURS = "ours"
TLS = ("server.tls.cert", "server.tls.key")


@dataclass(frozen=True)
class Cell:
    """One server, one way of delivery, one size, one number of clients."""

    name: str
    server: str  # `ours`, or a file of peers/ with its option behind a blank
    clients: int = 1000
    kib: int = 16
    mode: Literal["ws", "sse", "sio"] = "ws"
    delta: bool = False
    deflate: bool = False
    tls: bool = False
    stalled: int = 0  # of the clients: connected, reading nothing
    # Keys of the configuration without which our server cannot do this yet: the cell is skipped, and says so.
    requires: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()  # `key=value` for our server
    ticks: float = 1.0  # of the ticks that were asked for: more where a tick is short, less where it is long
    once: bool = False  # not in every repetition

    @property
    def ours(self) -> bool:
        """Whether it is our own server."""
        return self.server == OURS

    @property
    def plain(self) -> bool:
        """Whether a bare loop over the same sockets could do it: whole snapshots to clients that all read."""
        return self.ours and not (self.delta or self.deflate or self.tls or self.stalled or self.once)


FLOOR = Cell("floor: socket.send loop", "floor.py")
WEBSOCKET = Cell("ours WebSocket", OURS)
SSE = Cell("ours SSE", OURS, mode="sse")
STALLED = Cell("ours, 50 read nothing", OURS, stalled=50)

CELLS: tuple[Cell, ...] = (
    FLOOR,
    WEBSOCKET,
    SSE,
    Cell("ours delta", OURS, delta=True),
    Cell("ours TLS", OURS, tls=True, requires=TLS),
    Cell("ours deflate", OURS, deflate=True, settings=("server.deflate=true",)),
    STALLED,
    Cell("floor x10", "floor.py", clients=10, ticks=10),
    Cell("ours x10", OURS, clients=10, ticks=10),
    Cell("floor x100", "floor.py", clients=100, ticks=3),
    Cell("ours x100", OURS, clients=100, ticks=3),
    Cell("floor x4000", "floor.py", clients=4000),
    Cell("ours x4000", OURS, clients=4000),
    Cell("ours x10000 at rest", OURS, clients=10_000, ticks=0.1, once=True),
    Cell("floor 2 KiB", "floor.py", kib=2),
    Cell("ours 2 KiB", OURS, kib=2),
    Cell("floor 50 KiB", "floor.py", kib=50),
    Cell("ours 50 KiB", OURS, kib=50),
    Cell("picows", "picows_send.py"),
    Cell("aiohttp send_str", "aiohttp_send.py"),
    Cell("websockets.broadcast", "websockets_broadcast.py"),
    Cell("node ws", "node_ws.mjs"),
    Cell("starlette/uvicorn send_text", "starlette_send.py"),
    Cell("node socket.io", "node_socketio.mjs", mode="sio"),
    Cell("Tornado write_message", "tornado_write_message.py"),
    Cell("Flask-SocketIO emit to all", "flask_socketio_emit.py", mode="sio"),
    Cell("Flask-SocketIO emit to each", "flask_socketio_emit.py each", mode="sio", ticks=0.15),
)
