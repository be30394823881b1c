"""A real server on a free port, fed by collectors the tests hold in their hands, and peers to speak to it."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import threading
import time
from dataclasses import dataclass, field

from amiga_ws import state
from amiga_ws.app import Server
from amiga_ws.auth.tokens import Authority
from amiga_ws.client import Clock
from amiga_ws.config import load
from amiga_ws.questions import (
    Calls,
    SessionDetail,
    SessionPage,
    TaskDetail,
    TaskPage,
    ToolCall,
)
from amiga_ws.snapshot import (
    AmigaFacts,
    AmigaWindow,
    HostFacts,
    Memory,
    Session,
    Source,
    System,
    Task,
    TaskTotals,
)

READ = "metrics:read"
WITHIN_S = 5.0


class HostInHand:
    """A host whose CPU the test sets."""

    name = "host"
    source_names = ("host",)

    def __init__(self):
        self.cpu_percent = 12.0
        self.closed = False

    def collect(self, windows):
        system = System(cpu_percent=self.cpu_percent, memory=Memory(total=2**30, used=2**29, percent=50.0))
        return HostFacts(sources={"host": Source(state="ok", as_of=time.time())}, system=system)

    def close(self):
        self.closed = True


class AmigaInHand:
    """An AMIGA whose task count the test sets; `gate` holds every answer back while it is cleared."""

    name = "amiga"
    source_names = ("amiga", "hooks", "transcripts")

    def __init__(self):
        self.total = 7
        self.tasks = [Task(task_id="task_1", status="running", description="<b>first</b>", tool_calls=3)]
        self.asked = []  # the windows of each reading
        self.queries = []
        self.gate = threading.Event()
        self.gate.set()
        self.by_minute = {}  # series -> epoch minute -> value
        self.ran = []  # TaskSpans
        self.fault = None  # raised by find_tasks

    def collect(self, windows):
        self.gate.wait(5)
        self.asked.append(windows)
        return AmigaFacts(
            sources={name: Source(state="ok", as_of=time.time()) for name in self.source_names},
            totals=TaskTotals(total=self.total, running=1),
            tasks=self.tasks,
            windows={hours: AmigaWindow() for hours in windows},
        )

    def find_tasks(self, query):
        self.queries.append(query)
        if self.fault is not None:
            raise self.fault
        return TaskPage(tasks=self.tasks, total=1, page=query.page, page_size=query.page_size)

    def all_tasks(self, wanted):
        self.queries.append(wanted)
        if self.fault is not None:
            raise self.fault
        return self.tasks

    def find_sessions(self, query):
        self.queries.append(query)
        sessions = [Session(session_id="s1", kind="cli", tools=2)]
        return SessionPage(sessions=sessions, total=1, page=query.page, page_size=query.page_size)

    def task_detail(self, task_id):
        found = next((task for task in self.tasks if task.task_id == task_id), None)
        work = Calls(calls=[ToolCall(tool="Bash", state="ok", started=1.0, ended=2.0)], total=1)
        return None if found is None else TaskDetail(task=found, description=found.description, work=work)

    def session_detail(self, session_id):
        return SessionDetail(session=Session(session_id="s1")) if session_id == "s1" else None

    def minutes(self, first, last):
        return {
            name: {minute * 60: value for minute, value in values.items() if first <= minute < last}
            for name, values in self.by_minute.items()
        }

    def spans(self, since, until):
        return [span for span in self.ran if span.began <= until and (span.ended or until) >= since]

    def close(self):
        pass


class ServerInHand(Server):
    """The product's server with collectors and a clock that the test moves."""

    def __init__(self, settings):
        self.ahead_s = 0.0  # how far the server's clocks run before ours
        clock = Clock(lambda: time.monotonic() + self.ahead_s, lambda: time.time() + self.ahead_s)
        super().__init__(settings, clock)
        self.host, self.amiga = HostInHand(), AmigaInHand()
        self._peers = []

    async def start(self):
        """Also wait for the first readings: what they bring is no change that a test has made."""
        self.loop = asyncio.get_running_loop()  # for tests that block on another thread
        await super().start()
        await asyncio.wait({self._first_tick}, timeout=WITHIN_S)
        await eventually(lambda: self.facts.amiga.facts.sources["amiga"].state != "loading")
        await eventually(lambda: self.history.source.state != "loading")

    async def leave(self):
        """Close what the test's peers have left open, then stop."""
        for peer in self._peers:
            peer.close()
        await self.stop()

    def collectors(self):
        return self.host, self.amiga

    @property
    def port(self):
        return int(self.url.rpartition(":")[2])

    @property
    def authority(self):
        return Authority(state.load_secret(self.settings.state_dir), self.settings.auth)

    def token(self, subject="ada", scope=READ, ttl_s=3600, typ="access"):
        """A token of the server's own secret, issued at the server's now."""
        return self.authority.issue(subject=subject, scope=scope, ttl_s=ttl_s, now=self.clock.wall(), typ=typ)

    def session(self, subject="ada", scope=READ):
        """The `Cookie` header of one who has signed in."""
        parent = self.authority.verify(
            self.token(subject, scope, typ="login", ttl_s=60), typ="login", now=self.clock.wall()
        )
        token, _ = self.authority.mint_session(parent, self.clock.wall())
        return f"amiga_session_{self.port}={token}"

    # -- peers -----------------------------------------------------------------------------------

    async def ask(self, target, headers=(), *, method="GET", body=b"", host=None):
        """One request with exactly these header lines (a dict, or pairs), on a connection of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request_bytes(method, target, host or f"127.0.0.1:{self.port}", headers, body))
            return parse_reply(await asyncio.wait_for(reader.read(), WITHIN_S))
        finally:
            writer.close()

    async def ask_as(self, token, target, headers=(), **more):
        """As `ask`, with a bearer token."""
        return await self.ask(target, [("Authorization", f"Bearer {token}"), *pairs(headers)], **more)

    async def events(self, query="", headers=None, **more):
        """An open event stream; a dict of headers, by default a fresh token's."""
        self._peers.append(stream := await EventStream.open(self, query, headers, **more))
        return stream

    async def websocket(self, headers=None, protocols=(), host=None):
        """An open WebSocket, or the Reply that refused it."""
        self._peers.append(peer := await RawWebSocket.open(self, headers, protocols, host))
        return peer


def settings_in(folder, *overrides):
    """Settings of a server on a free port that keeps its files in `folder`.

    Without a history: its file's first write would be a change in between that no test asked for.
    """
    given = [f"state_dir={folder / 'state'}", f"amiga.root={folder / 'amiga'}", "server.port=0"]
    given.append("history.enabled=false")
    return load(None, [*given, *overrides], {}, folder)


# -- plain HTTP ----------------------------------------------------------------------------------


@dataclass
class Reply:
    status: int
    headers: dict[str, list[str]]  # names in lower case
    body: bytes

    def header(self, name):
        """The one value of a header, or None."""
        found = self.headers.get(name.lower(), [])
        assert len(found) <= 1, f"{name} stands there {len(found)} times"
        return found[0] if found else None

    @property
    def json(self):
        return json.loads(self.body)


def pairs(headers):
    return list(headers.items() if isinstance(headers, dict) else headers)


def request_bytes(method, target, host, headers=(), body=b"", *, close=True):
    lines = [f"{method} {target} HTTP/1.1", *([f"Host: {host}"] if host else [])]
    lines += [f"{name}: {value}" for name, value in pairs(headers)]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode() + body


def parse_reply(raw):
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers.setdefault(name.strip().lower(), []).append(value.strip())
    return Reply(int(first.split()[1]), headers, body)


async def read_head(reader):
    return parse_reply(await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WITHIN_S))


# -- Server-Sent Events --------------------------------------------------------------------------


@dataclass
class Event:
    """One block of an event stream; `name` is None for the unnamed event."""

    name: str | None
    data: dict
    raw: str  # the data: line
    id: str | None = None


async def answered(reader, writer, status):
    """The head of an answer. Of one with another status the body, too; after that, and where it breaks off, nobody
    needs the connection."""
    reply = None
    try:
        reply = await read_head(reader)
        if reply.status != status:
            size = int(reply.header("Content-Length") or 0)
            reply.body = await asyncio.wait_for(reader.readexactly(size), WITHIN_S)
        return reply
    finally:
        if reply is None or reply.status != status:
            writer.close()


@dataclass
class EventStream:
    reply: Reply
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    retry_ms: int | None = None
    seen: list[Event] = field(default_factory=list)

    @classmethod
    async def open(cls, server, query="", headers=None, host=None):
        headers = {"Authorization": f"Bearer {server.token()}"} if headers is None else headers
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        target = f"/api/stream/metrics{query}"
        writer.write(request_bytes("GET", target, host or f"127.0.0.1:{server.port}", headers, close=False))
        reply = await answered(reader, writer, 200)
        return cls(reply, reader, writer)

    async def next(self, within_s=WITHIN_S):
        """The next event; None at the end of the stream."""
        while True:
            try:
                block = await asyncio.wait_for(self.reader.readuntil(b"\n\n"), within_s)
            except asyncio.IncompleteReadError:
                return None
            fields = dict(line.split(": ", 1) for line in block.decode().strip().split("\n"))
            if "retry" in fields:
                self.retry_ms = int(fields["retry"])
            if "data" in fields:
                event = Event(
                    fields.get("event"), json.loads(fields["data"]), fields["data"], fields.get("id")
                )
                self.seen.append(event)
                return event

    async def until(self, name, within_s=WITHIN_S):
        """The next event of that name, others skipped."""
        while (event := await self.next(within_s)) is not None:
            if event.name == name:
                return event
        raise AssertionError(f"the stream ended without {name}; before: {self.seen}")

    def close(self):
        self.writer.close()


# -- WebSocket, by hand: frames no library would send ---------------------------------------------


@dataclass
class RawWebSocket:
    reply: Reply
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    compressed: bool = False  # whether the last frame said so

    @classmethod
    async def open(cls, server, headers=None, protocols=(), host=None, path="/ws"):
        headers = {"Authorization": f"Bearer {server.token()}"} if headers is None else headers
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            request_bytes(
                "GET",
                path,
                host or f"127.0.0.1:{server.port}",
                [*handshake(protocols), *pairs(headers)],
                close=False,
            )
        )
        reply = await answered(reader, writer, 101)
        return cls(reply, reader, writer)

    async def frame(self, within_s=WITHIN_S):
        """(opcode, payload) of the next frame; None when the socket has ended."""
        try:
            first, second = await asyncio.wait_for(self.reader.readexactly(2), within_s)
            self.compressed = bool(first & 0x40)
            size = second & 0x7F
            if size == 126:
                size = int.from_bytes(await self.reader.readexactly(2), "big")
            elif size == 127:
                size = int.from_bytes(await self.reader.readexactly(8), "big")
            return first & 0x0F, await asyncio.wait_for(self.reader.readexactly(size), within_s)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def next(self, within_s=WITHIN_S):
        """The next message as {"event", "data", "id"?}; pings and pongs are passed over."""
        while (found := await self.frame(within_s)) is not None and found[0] in (0x9, 0xA):
            pass
        assert found is not None, "the socket ended"
        opcode, payload = found
        assert opcode == 0x1, f"frame of opcode {opcode}: {payload!r}"
        return json.loads(payload)

    async def until(self, event, within_s=WITHIN_S):
        """The next message of that event, others skipped."""
        while (message := await self.next(within_s))["event"] != event:
            pass
        return message

    async def closed(self):
        """(code, reason) of the close frame, messages before it skipped; (1006, "") when there is none."""
        while (found := await self.frame()) is not None:
            opcode, payload = found
            if opcode == 0x8:
                return int.from_bytes(payload[:2], "big"), payload[2:].decode()
        return 1006, ""

    async def say(self, event, data=None, **more):
        """Send one command."""
        message = {"event": event, **({} if data is None else {"data": data}), **more}
        await self.send(0x1, json.dumps(message).encode())

    async def send(self, opcode, payload, *, final=True):
        """Send one masked frame."""
        await self.send_raw(masked_frame((0x80 if final else 0) | opcode, payload))

    async def send_raw(self, data):
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def ended(self):
        """Whether nothing more comes: the server has closed the socket."""
        try:
            return await asyncio.wait_for(self.reader.read(1), WITHIN_S) == b""
        except ConnectionError:
            return True

    def close(self):
        self.writer.close()


def masked_frame(first, payload=b"", mask=b"\x0f\xf0\x55\xaa"):
    """A client's frame; `first` is FIN, reserved bits and opcode."""
    size = len(payload)
    if size < 126:
        head = bytes([first, 0x80 | size])
    elif size < 1 << 16:
        head = bytes([first, 0xFE]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, 0xFF]) + size.to_bytes(8, "big")
    whole = (mask * (size // 4 + 1))[:size]
    return head + mask + bytes(a ^ b for a, b in zip(payload, whole, strict=True))


def handshake(protocols=()):
    """The header lines of a WebSocket handshake."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [("Upgrade", "websocket"), ("Connection", "Upgrade")]
    lines += [("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", key)]
    return lines + ([("Sec-WebSocket-Protocol", ", ".join(protocols))] if protocols else [])


# -- waiting -------------------------------------------------------------------------------------


async def eventually(condition, within_s=WITHIN_S):
    """Wait until something in the server has come true."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        await asyncio.sleep(0.01)


class InThread:
    """A server on a loop of its own, for clients that block."""

    def __init__(self, settings):
        self.server = ServerInHand(settings)
        self._started, self._stop = threading.Event(), None
        self._failure = None
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)

    def _run(self):
        asyncio.run(self._serve())

    async def _serve(self):
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        try:
            await self.server.start()
        except Exception as error:
            self._failure = error
            raise
        finally:
            self._started.set()
        await self._stop.wait()
        await self.server.stop()

    def __enter__(self):
        self._thread.start()
        assert self._started.wait(10)
        assert self._failure is None, self._failure
        return self.server

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()


JWT = re.compile(r"eyJ[\w-]+\.[\w-]+")
