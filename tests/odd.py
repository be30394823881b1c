"""A server that is not ours: its WebSocket, event stream and answers are what a test says, good or bad."""

from __future__ import annotations

import asyncio
import json
import threading

from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketClosedError, WebSocketHandler

SUBSCRIBED = {"event": "subscribed", "data": {"status": "subscribed", "config": {"hours": 24}}}
GREETING = {"event": "connected", "data": {"status": "connected", "heartbeat_interval": 15}}


def snapshot(**change):
    """The smallest state a page takes."""
    return {
        "hours": 24,
        "instance": "odd",
        "timestamp": 1.0,
        "position": "odd.24.1",
        "overview": {"tasks": {"total": 7}},
        "tasks": [],
        "sessions": {},
        "activity": [],
        "errors": [],
        "attention": [],
        "sources": {},
        **change,
    }


def update(**change):
    return {"event": "metrics_update", "data": snapshot(**change)}


def patch(*operations, **change):
    data = {
        "from": "odd.24.1",
        "position": "odd.24.2",
        "timestamp": 2.0,
        "hours": 24,
        "patch": list(operations),
    }
    return {"event": "metrics_patch", "data": data | change}


class Socket(WebSocketHandler):
    """Sends the `opening`, answers each message by `answer`."""

    def initialize(self, odd):
        self.odd = odd

    def check_origin(self, origin):
        return True

    def select_subprotocol(self, subprotocols):
        return "amiga.v1" if "amiga.v1" in subprotocols else None

    async def get(self, *args, **kwargs):
        self.odd.attempts.append("ws")
        if self.odd.upgrades:
            await super().get(*args, **kwargs)
        else:
            self.set_status(502)

    def open(self, *args, **kwargs):
        self.odd.sockets.append(self)
        self.say(self.odd.opening)

    def on_message(self, message):
        message = json.loads(message)
        self.odd.heard.append(message)
        self.say(self.odd.answer(message))

    def say(self, frames):
        for frame in frames:
            binary = isinstance(frame, bytes)
            try:
                self.write_message(frame if binary or isinstance(frame, str) else json.dumps(frame), binary)
            except WebSocketClosedError:
                return


class Stream(RequestHandler):
    """Sends the `events`, as they are, then heartbeats; without any, nothing at all."""

    def initialize(self, odd):
        self.odd = odd

    async def get(self):
        self.odd.attempts.append("sse")
        self.set_header("Content-Type", "text/event-stream")
        await self.flush()
        for text in self.odd.events:
            self.write(text)
            await self.flush()
        while self.odd.events and not self.odd.over.is_set():
            self.write("event: heartbeat\ndata: {}\n\n")
            await self.flush()
            await asyncio.sleep(0.2)
        await self.odd.over.wait()


class Answer(RequestHandler):
    """A JSON answer to anything."""

    def initialize(self, odd):
        self.odd = odd

    def get(self):
        if self.request.path.endswith("overview"):
            self.odd.attempts.append("poll")
            self.write(snapshot())
        else:
            self.write({"subject": "ada", "scopes": [], "expires_in": 3600})


class Odd:
    """A context manager; `attempts` tells which transports were tried, `heard` what the sockets were sent."""

    def __init__(self, opening=(), *, answer=lambda _: (), upgrades=True, events=()):
        self.opening, self.answer, self.upgrades, self.events = opening, answer, upgrades, events
        self.attempts, self.heard, self.sockets = [], [], []
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    async def _serve(self):
        self._loop, self.over = asyncio.get_running_loop(), asyncio.Event()
        routes = [(r"/ws", Socket), (r"/api/stream/metrics", Stream), (r".*", Answer)]
        server = HTTPServer(Application([(path, handler, {"odd": self}) for path, handler in routes]))
        server.listen(0, "127.0.0.1")
        self.url = "http://127.0.0.1:{}".format(*next(iter(server._sockets.values())).getsockname()[1:])
        self._started.set()
        await self.over.wait()
        server.stop()
        await server.close_all_connections()

    def say(self, *frames):
        """To every socket that is open."""
        self._loop.call_soon_threadsafe(lambda: [socket.say(frames) for socket in self.sockets])

    def hang_up(self, code):
        """Close every socket."""
        self._loop.call_soon_threadsafe(lambda: [socket.close(code) for socket in self.sockets])

    def __enter__(self):
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self.over.set)
        self._thread.join(10)
        assert not self._thread.is_alive()
