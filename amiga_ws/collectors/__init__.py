"""Collectors read the outside world and return facts; this is what the rest of the server knows of them.

A collector lives in one thread of its own for its whole life (psutil keeps CPU deltas per thread, SQLite
connections are bound to theirs), so it needs no locks. It may block; its runner (`facts.py`) keeps a
deadline and the last good reading.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from amiga_ws.questions import (
    SessionDetail,
    SessionPage,
    SessionQuery,
    TaskDetail,
    TaskFilter,
    TaskPage,
    TaskQuery,
    TaskSpan,
)
from amiga_ws.snapshot import AmigaFacts, Task

FactsT_co = TypeVar("FactsT_co", covariant=True)


class Collector(Protocol[FactsT_co]):
    """One source of facts."""

    @property
    def name(self) -> str:
        """Short name for logs and the thread, e.g. `host`."""

    @property
    def source_names(self) -> tuple[str, ...]:
        """The keys of `sources` that this collector answers for."""

    def collect(self, windows: frozenset[int]) -> FactsT_co:
        """Read what is new and return immutable facts for `windows` (hours, each 1-168).

        A broken or absent source is no error: it is told in the facts' `sources`. An exception means a
        bug; the runner logs it once, keeps the last good facts and marks the sources `error`.
        """

    def close(self) -> None:
        """Release files and connections; called once, in the collector's own thread."""


class TaskCollector(Collector[AmigaFacts], Protocol):
    """The collector of AMIGA's facts; it can also list tasks."""

    def find_tasks(self, query: TaskQuery) -> TaskPage:
        """All tasks that match, one page of them; an empty page while there is no database."""

    def all_tasks(self, wanted: TaskFilter) -> list[Task]:
        """All tasks that match, sorted, at most 10,000."""

    def find_sessions(self, query: SessionQuery) -> SessionPage:
        """Sessions of the last eight days that match, one page of them."""

    def task_detail(self, task_id: str) -> TaskDetail | None:
        """Everything about one task, read now; None if there is no such task."""

    def session_detail(self, session_id: str) -> SessionDetail | None:
        """Everything about one session, read now; None if there is none in the last eight days."""

    def minutes(self, first: int, last: int) -> dict[str, dict[int, float]]:
        """What happened in each minute of [first, last) (epoch minutes): series -> start of minute -> value.

        Series and units are those of history (`amiga_ws.history.SERIES`) that come by minute. A minute of
        which nothing is known is absent; empty while there is no database.
        """

    def spans(self, since: float, until: float) -> list[TaskSpan]:
        """The newest tasks that ran at any time between two epochs, at most 500, oldest first."""
