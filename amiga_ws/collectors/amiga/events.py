"""The newest things that happened, for the activity list."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from amiga_ws.collectors.amiga.tasks import ENDED, TaskRecord

KEEP = 30
_TRIM_AT = 60
ToolEvent = tuple[float, str, str, bool]  # a call that ended: time, subject, tool, whether it succeeded


# (time, order, subject, what, tool): `subject` is a task id or session; a call, which has a tool, is ok or failed, a
# task created or ended. A plain tuple: thirty are made at each change, and sorted as they are.
Event = tuple[float, int, str, str, str]


class Events:
    """The newest by their own time, whenever they came in."""

    def __init__(self) -> None:
        # The calls that were read last; their times are nearly in that order.
        self._calls: deque[ToolEvent] = deque(maxlen=KEEP)
        self._tasks: dict[tuple[str, str], Event] = {}  # by task and whether it began or ended
        self._floor = float("-inf")  # nothing older can be among the newest
        self._order = 0

    def tools(self, ended: Iterable[ToolEvent]) -> None:
        """Calls that ended."""
        self._calls.extend(ended)

    def task(self, record: TaskRecord) -> None:
        """A task as it is now; what was noted of it before is replaced."""
        if record.created_at is not None and record.created_at > self._floor:
            self._add((record.created_at, self._order, record.task_id, "created", ""))
        if record.ended_at is not None and record.status in ENDED and record.ended_at > self._floor:
            self._add((record.ended_at, self._order, record.task_id, "ended", ""))

    def newest(self) -> list[Event]:
        """At most 30, newest first."""
        calls = [
            (when, place, subject, "ok" if ok else "failed", tool)
            for place, (when, subject, tool, ok) in enumerate(self._calls)
        ]
        return sorted([*self._tasks.values(), *calls], reverse=True)[:KEEP]

    def _add(self, event: Event) -> None:
        self._order += 1
        self._tasks[event[2:4]] = event
        if len(self._tasks) > _TRIM_AT:
            kept = sorted(self._tasks.values(), reverse=True)[:KEEP]
            self._tasks = {event[2:4]: event for event in kept}
            self._floor = kept[-1][0]
