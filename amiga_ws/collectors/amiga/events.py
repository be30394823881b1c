"""The newest things that happened, for the activity list."""

from __future__ import annotations

import functools
from collections import deque
from typing import NamedTuple

from amiga_ws.collectors.amiga.redact import one_line
from amiga_ws.collectors.amiga.tasks import ENDED, TaskRecord

KEEP = 30
_TRIM_AT = 120


class Event(NamedTuple):
    """`subject` is a task id or session; for a task, `what` is created or ended."""

    time: float
    order: int
    subject: str
    what: str  # created | ended | ok | failed
    tool: str


class Events:
    """The newest by their own time, whenever they came in."""

    def __init__(self) -> None:
        # The calls that were read last; their times are nearly in that order.
        self._calls: deque[tuple[float, str, str, bool]] = deque(maxlen=KEEP)
        self._events: list[Event] = []  # of tasks
        self._floor = float("-inf")  # nothing older can be among the newest
        self._order = 0

    def tool(self, when: float, subject: str, tool: str, *, ok: bool) -> None:
        """A call ended."""
        self._calls.append((when, subject, tool, ok))

    def task(self, record: TaskRecord) -> None:
        """A task as it is now; what was noted of it before is replaced."""
        if record.created_at is not None and record.created_at > self._floor:
            self._add(Event(record.created_at, self._order, record.task_id, "created", ""))
        if record.ended_at is not None and record.status in ENDED and record.ended_at > self._floor:
            self._add(Event(record.ended_at, self._order, record.task_id, "ended", ""))

    def newest(self) -> list[Event]:
        """At most 30, newest first."""
        self._trim()
        calls = [
            Event(when, place, subject, "ok" if ok else "failed", tool)
            for place, (when, subject, tool, ok) in enumerate(self._calls)
        ]
        return sorted(self._events + calls, key=_newest_first)[:KEEP]

    def _add(self, event: Event) -> None:
        self._order += 1
        self._events.append(event)
        if len(self._events) > _TRIM_AT:
            self._trim()

    def _trim(self) -> None:
        latest: dict[tuple[str, str], Event] = {}
        for event in self._events:
            known = latest.get((event.subject, event.what))
            if known is None or known.order < event.order:
                latest[event.subject, event.what] = event
        kept = sorted(latest.values(), key=_newest_first)
        self._events = kept[:KEEP]
        if len(kept) > KEEP:
            self._floor = self._events[-1].time


def _newest_first(event: Event) -> tuple[float, int]:
    return -event.time, -event.order


@functools.lru_cache(maxsize=1024)
def tool_text(tool: str, what: str) -> str:
    """What the list says of an ended call."""
    return one_line(f"{tool} {'completed' if what == 'ok' else 'failed'}", 120)
