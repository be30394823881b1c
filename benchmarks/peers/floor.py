"""The floor: frames made beforehand and a tight loop of `socket.send`. No server, nothing is checked."""

from __future__ import annotations

import base64
import hashlib
import os
import selectors
import socket
import time

from common import READY, STDIN, Job, announce, listen, report

SHORT = 126  # RFC 6455, 5.2: below it the length is in the second byte
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3


def frame(text: str) -> bytes:
    """An unmasked text frame (RFC 6455, 5.2)."""
    data = text.encode()
    if len(data) < SHORT:
        return bytes((0x81, len(data))) + data
    if len(data) < 1 << 16:
        return b"\x81\x7e" + len(data).to_bytes(2, "big") + data
    return b"\x81\x7f" + len(data).to_bytes(8, "big") + data


def shake_hands(peer: socket.socket, request: bytes) -> None:
    """Answer an upgrade, and say that the client is present."""
    key = next(
        line.split(b":", 1)[1].strip()
        for line in request.split(b"\r\n")
        if line.lower().startswith(b"sec-websocket-key:")
    )
    accept = base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    peer.send(head + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + frame(READY))


def main() -> None:
    """Serve until stdin says otherwise."""
    job = Job()
    data = frame(job.text)
    size = len(data)
    clients: list[socket.socket] = []
    spent_ns = ticks = 0
    listener = listen()
    selector = selectors.EpollSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(STDIN, selectors.EVENT_READ)
    announce(listener)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                peer, _ = listener.accept()
                peer.setblocking(False)
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(peer, selectors.EVENT_READ)
            elif key.fileobj != STDIN:
                shake_hands(key.fileobj, key.fileobj.recv(8192))
                selector.unregister(key.fileobj)
                clients.append(key.fileobj)
                sends = [client.send for client in clients]
            else:
                for byte in os.read(STDIN, 64) or b"q":
                    if byte == ord("t"):
                        job.begin()
                        begun = time.thread_time_ns()
                        for send in sends:
                            if send(data) != size:
                                raise RuntimeError(
                                    "a socket buffer was full: the floor has no answer to that"
                                )
                        spent_ns += time.thread_time_ns() - begun
                        ticks += 1
                    elif byte == ord("m"):
                        spent_ns = ticks = 0
                    elif byte == ord("q"):
                        report(fanout_us_per_tick=spent_ns / 1000 / max(ticks, 1))
                        os._exit(0)


if __name__ == "__main__":
    main()
