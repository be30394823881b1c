"""The smallest WebSocket client that can watch our server: blocking, one connection."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

SHORT, LONG, PING = 126, 127, 9  # RFC 6455, 5.2


class Viewer:
    """Subscribed once a second; `wait_for` returns when a frame holds some bytes."""

    def __init__(self, port: int, request: str, hello: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._socket.sendall(request.encode())
        self._data = b""
        while b"\r\n\r\n" not in self._data:
            self._more()
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            raise ConnectionError(head.decode(errors="replace"))
        text = hello.encode()
        size = bytes((0x80 | len(text),)) if len(text) < SHORT else b"\xfe" + len(text).to_bytes(2, "big")
        self._socket.sendall(b"\x81" + size + bytes(4) + text)

    def wait_for(self, needle: bytes, timeout_s: float) -> float | None:
        """Monotonic seconds at which a whole frame with `needle` was here; None: not in time."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            frame = self._frame()
            if needle in frame:
                return time.monotonic()
        return None

    def snapshot(self) -> dict[str, Any]:
        """The next full snapshot."""
        while True:
            message = json.loads(self._frame())
            if message["event"] == "metrics_update":
                return message["data"]

    def close(self) -> None:
        """Without a word."""
        self._socket.close()

    def _frame(self) -> bytes:
        head = self._take(2)
        length = head[1] & LONG
        if length >= SHORT:
            length = int.from_bytes(self._take(2 if length == SHORT else 8), "big")
        payload = self._take(length)
        if head[0] & 15 == PING:
            self._socket.sendall(b"\x8a" + bytes((0x80 | length,)) + bytes(4) + payload)
        return payload

    def _take(self, size: int) -> bytes:
        while len(self._data) < size:
            self._more()
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def _more(self) -> None:
        data = self._socket.recv(1 << 18)
        if not data:
            raise ConnectionError("the server hung up")
        self._data += data
