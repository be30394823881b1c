"""A slow line: a relay that hands on what the server sends only while it is told to."""

from __future__ import annotations

import selectors
import socket
import threading

SMALL = 4096  # bytes; what the kernel would take for a peer that reads nothing


class SlowLine:
    """Listens on `port` and relays to `target`, set later; `hold()` stops what comes back, `release()` lets it flow."""

    def __init__(self):
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.target = 0
        self._flows = threading.Event()
        self._flows.set()
        self._sockets = []
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self):
        self._flows.clear()

    def release(self):
        self._flows.set()

    def close(self):
        self._flows.set()
        for each in (self._listening, *self._sockets):
            each.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.socket()
            server.setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL
            )  # before connecting, or it is not told
            self._sockets += [client, server]
            try:
                server.connect(("127.0.0.1", self.target))
            except OSError:  # it has gone, and the page tries to come back
                client.close()
                server.close()
                continue
            threading.Thread(target=self._relay, args=(client, server), daemon=True).start()

    def _relay(self, client, server):
        with selectors.DefaultSelector() as selector, client, server:
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            while True:
                try:
                    for key, _ in selector.select():
                        if key.fileobj is server:
                            self._flows.wait()
                        data = key.fileobj.recv(65536)
                        if not data:
                            return
                        key.data.sendall(data)
                except (OSError, ValueError):
                    return
