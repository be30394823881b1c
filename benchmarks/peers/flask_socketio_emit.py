"""Flask-SocketIO on eventlet: `emit` to all at once, or with the option `each` to every client by itself."""

from __future__ import annotations

import eventlet

eventlet.monkey_patch()

import json  # noqa: E402 - after the patch, as eventlet asks
import os  # noqa: E402 - likewise
import sys  # noqa: E402 - likewise

import eventlet.wsgi  # noqa: E402 - likewise
from common import BACKLOG, READY, STDIN, Job, announce, report  # noqa: E402 - likewise
from eventlet.hubs import trampoline  # noqa: E402 - likewise
from flask import Flask, request  # noqa: E402 - likewise
from flask_socketio import SocketIO  # noqa: E402 - likewise

EACH = sys.argv[3:] == ["each"]
app = Flask(__name__)
socketio = SocketIO(app, async_mode="eventlet", cors_allowed_origins="*", ping_interval=300)
clients: list[str] = []


@socketio.on("connect")
def connect() -> None:
    clients.append(request.sid)
    socketio.emit(READY, to=request.sid)


def obey(job: Job) -> None:
    """Ticks on command. The data is an object, as an application has it: Socket.IO encodes it."""
    message = json.loads(job.text)
    name, data = message["event"], message["data"]
    while True:
        trampoline(STDIN, read=True)
        for byte in os.read(STDIN, 64) or b"q":
            if byte == ord("t"):
                job.begin()
                if EACH:
                    for sid in clients:
                        socketio.emit(name, data, to=sid)
                else:
                    socketio.emit(name, data)
            elif byte == ord("q"):
                report()
                os._exit(0)


listener = eventlet.listen(("127.0.0.1", 0), backlog=BACKLOG)
announce(listener)
eventlet.spawn(obey, Job())
eventlet.wsgi.server(listener, app, max_size=20_000, log_output=False)
