"""What a person or a program sees of a server: the live table, plain lines, one table, or JSON lines.

Each view is a client.Listener. Values go to `out`, what is said about the connection to `err`.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from typing import Any, Protocol, TextIO

import msgspec

from amiga_ws.snapshot import Activity, Attention, Snapshot
from amiga_ws.watch.client import Listener, Phase, WatchError
from amiga_ws.watch.streams import Received
from amiga_ws.watch.table import Frame, table, told
from amiga_ws.watch.text import Line, clean, clock, count, duration, money, painted, percent
from amiga_ws.watch.verdict import verdict
from amiga_ws.wire import METRICS_PATCH, METRICS_UPDATE

STALE_S = 5.0  # without a stream before values are called stale
REDRAW_S = 0.1  # at most so often, whatever arrives
WIDE, HIGH = 120, 24  # columns and lines where nobody says how many
UNLIMITED = 10_000

# What a terminal is told (ECMA-48; the private modes are xterm's): another screen, no cursor, no wrapping.
ENTER, LEAVE = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J", "\x1b[?7h\x1b[?25h\x1b[?1049l"
HOME, LINE_END, BELOW = "\x1b[H", "\x1b[K", "\x1b[J"


class View(Listener, Protocol):
    """A listener that owns its output for a while."""

    def open(self) -> None:
        """Before anything else."""

    def tick(self) -> None:
        """About once a second: time passes in what is shown."""

    def close(self) -> None:
        """At last, whatever happened."""


class _Quiet:
    """Needs neither beginning, time nor end; tells `err` when the connection is away."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self.out, self.err = out, err
        self._away = False

    def open(self) -> None:
        """Nothing."""

    def tick(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""

    def entered(self, phase: Phase) -> None:
        """As Listener.entered."""
        if phase.name == "waiting":
            self._away = True
            self.note(f"{phase.reason}; coming back in {_left(phase):.1f} s")
        elif phase.name == "live" and self._away:
            self._away = False
            self.note("connected again")

    def note(self, text: str) -> None:
        """One line for a person."""
        self.err.write(f"amiga_ws: {clean(text)}\n")
        self.err.flush()


class JsonLines(_Quiet):
    """Every event of the server as one line of ASCII: `{"event": …, "data": …}`. With `once`, the first state."""

    def __init__(self, out: TextIO, err: TextIO, *, once: bool) -> None:
        super().__init__(out, err)
        self._once, self._written = once, False

    def received(self, event: Received, document: dict[str, Any] | None) -> None:
        """As Listener.received."""
        if self._once and (event.event != METRICS_UPDATE or self._written):
            return
        self._written = True
        # ASCII: a line must be harmless where somebody looks at it, too.
        self.out.write(json.dumps({"event": event.event, "data": event.data}, separators=(",", ":")) + "\n")
        self.out.flush()


class Once(_Quiet):
    """The first state as a table."""

    def __init__(self, out: TextIO, err: TextIO, *, colours: bool) -> None:
        super().__init__(out, err)
        self._colours, self._written = colours, False

    def received(self, event: Received, document: dict[str, Any] | None) -> None:
        """As Listener.received."""
        if (text := notice(event)) is not None:
            self.note(text)
        if document is None or self._written:
            return
        self._written = True
        snapshot = read(document)
        columns = shutil.get_terminal_size((WIDE, 0)).columns
        words = f"{snapshot.hours} h window, {clock(snapshot.timestamp)}"
        frame = Frame(verdict(snapshot, lost=False), words, snapshot.timestamp, columns)
        lines = (painted(line, columns, colours=self._colours).rstrip() for line in table(snapshot, frame))
        self.out.write("\n".join(lines) + "\n")
        self.out.flush()


class Lines(_Quiet):
    """A line for what is new: the summary, what needs somebody, the activity. For a pipe, or a dumb terminal."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        super().__init__(out, err)
        self._summary = ""
        self._activity: set[Activity] = set()
        self._attention: set[Attention] = set()

    def received(self, event: Received, document: dict[str, Any] | None) -> None:
        """As Listener.received."""
        if (text := notice(event)) is not None:
            self.note(text)
        if document is None or event.event not in (METRICS_UPDATE, METRICS_PATCH):
            return
        snapshot = read(document)
        lines: list[Line] = []
        summary = summary_of(snapshot)
        if summary != self._summary:
            lines.append([(f"{clock(snapshot.timestamp)} {summary}", "")])
        lines += [
            [
                (f"{clock(snapshot.timestamp)} needs you: {item.severity} {item.kind} {item.subject} ", ""),
                (item.evidence, ""),
            ]
            for item in snapshot.attention
            if item not in self._attention
        ]
        lines += [
            [(f"{clock(item.timestamp)} {item.kind}: {told(item)}", "")]
            for item in reversed(snapshot.activity)
            if item not in self._activity
        ]
        self._summary = summary
        self._activity, self._attention = set(snapshot.activity), set(snapshot.attention)
        for line in lines:
            self.out.write(painted(line, UNLIMITED, colours=False).rstrip() + "\n")
        self.out.flush()


class Screen:
    """The live table on a terminal's other screen; what stood there before comes back at the end."""

    def __init__(self, out: TextIO, *, transport: str, colours: bool) -> None:
        self._out, self._transport, self._colours = out, transport, colours
        self._snapshot: Snapshot | None = None
        self._phase = Phase("connecting")
        self._gone_at: float | None = time.monotonic()  # since when there is no stream; None while there is
        self._heard_at = 0.0  # monotonic, of the last event, or of the beginning of the stream
        self._drawn_at = 0.0
        self._ahead_s: float | None = None  # how far the server's clock is ahead of ours
        self._notice = ""

    def open(self) -> None:
        """As View.open."""
        self._out.write(ENTER)
        self.tick()

    def close(self) -> None:
        """As View.close."""
        self._out.write(LEAVE)
        self._out.flush()

    def entered(self, phase: Phase) -> None:
        """As Listener.entered."""
        self._phase = phase
        if phase.name == "live":
            self._gone_at = None
            self._heard_at = time.monotonic()
        elif self._gone_at is None:
            self._gone_at = time.monotonic()
        self.tick()

    def received(self, event: Received, document: dict[str, Any] | None) -> None:
        """As Listener.received."""
        self._heard_at = time.monotonic()
        if event.event == "connected":
            self._notice = ""
        self._notice = notice(event) or self._notice
        if event.event in (METRICS_UPDATE, METRICS_PATCH) and document is not None:
            self._snapshot = read(document)
            self._set_clock(event.data.get("timestamp"))
        elif event.event == "heartbeat":
            self._set_clock(event.data.get("server_time"))
        if self._heard_at - self._drawn_at >= REDRAW_S:
            self.tick()

    def tick(self) -> None:
        """Draw all of it anew."""
        self._drawn_at = time.monotonic()
        columns, height = self._size()
        lost = self._gone_at is not None and self._drawn_at - self._gone_at > STALE_S
        now = time.time() + (self._ahead_s or 0.0)
        frame = Frame(verdict(self._snapshot, lost=lost), self._connection(), now, columns, height)
        lines = [painted(line, columns, colours=self._colours) for line in table(self._snapshot, frame)]
        self._out.write(HOME + f"{LINE_END}\r\n".join(lines) + LINE_END + BELOW)
        self._out.flush()

    def _set_clock(self, server_time: object) -> None:
        """The newest time the server has told is the least it can be there now."""
        if isinstance(server_time, int | float):
            ahead = server_time - time.time()
            self._ahead_s = ahead if self._ahead_s is None else max(self._ahead_s, ahead)

    def _connection(self) -> str:
        phase = self._phase
        if phase.name == "connecting":
            return "connecting"
        if phase.name == "waiting":
            return f"{phase.reason}; coming back in {_left(phase):.0f} s"
        words = f"{self._transport}, heard {duration(self._drawn_at - self._heard_at)} ago"
        return f"{words}, {self._notice}" if self._notice else words

    def _size(self) -> tuple[int, int]:
        try:
            columns, height = os.get_terminal_size(self._out.fileno())
        except OSError:  # it has just gone
            columns, height = 0, 0
        return columns or WIDE, height or HIGH  # a serial line says 0 x 0


def read(document: dict[str, Any]) -> Snapshot:
    """A snapshot from the wire. Raises WatchError: it is none."""
    try:
        return msgspec.convert(document, Snapshot)
    except msgspec.ValidationError as error:
        raise WatchError(f"the snapshot is not what amiga.v1 says: {error}") from error


def summary_of(snapshot: Snapshot) -> str:
    """The state in one line."""
    word, _, reason = verdict(snapshot, lost=False)
    overview = snapshot.overview
    tasks, costs = overview.tasks, overview.costs
    parts = [
        f"{word}: {reason}",
        f"{count(tasks.running)} running",
        f"{count(tasks.pending)} pending",
        f"{count(tasks.window.failed)} failed in {snapshot.hours} h",
        f"CPU {percent(overview.system.cpu_percent)}",
        f"RAM {percent(overview.system.memory.percent)}",
        f"today {money(costs.today, costs.currency)}",
    ]
    return " · ".join(parts)


def notice(event: Received) -> str | None:
    """What a person should know of an event beside the state; None for most."""
    data = event.data
    if event.event == "auth":
        left = data.get("expires_in")
        return f"the token expires in {duration(left)}" if isinstance(left, int | float) else None
    if event.event == "lag":
        return f"we were slow: {data.get('coalesced')} states merged"
    if event.event == "error":
        return str(data.get("error"))
    if event.event == "subscribed" and isinstance(config := data.get("config"), dict):
        moved = config.get("clamped")
        if isinstance(moved, list) and moved:
            return ", ".join(f"{name} is {config.get(str(name))}, not as asked" for name in moved)
    return None


def _left(phase: Phase) -> float:
    return max(0.0, (phase.again_at or 0.0) - time.monotonic())
