"""What really happened in a simulated AMIGA, for comparing a reader with; and a clock to lead it by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Task:
    """What really became of one task. Times are epoch seconds."""

    task_id: str
    user_id: int | str
    description: str
    session: str  # the Claude session that really works on it; the hook log's directory
    created: float
    status: str = "pending"
    started: float | None = None  # set when a worker takes it
    ended: float | None = None  # set by complete, fail, stop
    error: str | None = None
    pid: int | None = None
    activity: list[dict[str, object]] = field(default_factory=list)


@dataclass
class Call:
    """What really became of one tool call. Times are epoch seconds."""

    number: int
    key: str  # tool_usage.task_id: the task's id, or the session's uuid where AMIGA could not tell
    session: str
    task: Task | None  # None: a session started by hand
    tool: str
    parameters: Mapping[str, Any]
    started: float
    ended: float | None = None
    ok: bool | None = None
    error: str | None = None
    tokens: tuple[int, int] | None = None  # input, output; of the Task tool only
    recorded: bool = True  # False: hook-only, the start is in the hook log and nowhere else
    row_ids: list[int] = field(default_factory=list)  # its rows in tool_usage, oldest first


class ManualClock:
    """A clock that stands still until told otherwise."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> float:
        """Move on and return the new time; negative for a clock that was set back."""
        self.now += seconds
        return self.now
