"""All tasks in memory: counts by status, what ended when, the ones to show.

A task's row is changed in place and most changes leave no trace elsewhere, so rows are read again: those
at work at each change, the others in turns (`tail.py`).
"""

from __future__ import annotations

import bisect
import functools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from amiga_ws.collectors.amiga.errors import task_error_class
from amiga_ws.collectors.amiga.redact import one_line
from amiga_ws.collectors.amiga.times import Times
from amiga_ws.collectors.amiga.windows import MINUTE_S, Buckets

ENDED = frozenset({"completed", "failed", "stopped"})
AT_WORK = frozenset({"running", "pending"})
COLUMNS = (
    "task_id",
    "status",
    "description",
    "agent_type",
    "current_phase",
    "model",
    "created_at",
    "updated_at",
    "error",
    "pid",
)
_TEXT_LIMIT = 2_000  # characters of description and error that are looked at
_CREATED, _COMPLETED, _FAILED, _STOPPED = range(4)
_KEYS = {"completed": _COMPLETED, "failed": _FAILED, "stopped": _STOPPED}
_OVERWRITTEN_S = 60.0  # AMIGA overwrites a stop with a failure 9 ms later


@dataclass(slots=True)
class TaskRecord:
    """One task as it is shown. `status` is `stopped` where AMIGA overwrote a stop with a failure."""

    rowid: int
    task_id: str
    stamp: tuple[object, object]  # status and updated_at as they stand in the row
    fingerprint: int  # of the whole row
    status: str
    description: str
    agent_type: str | None
    phase: str | None
    model: str | None
    created_at: float | None
    updated_at: float | None
    ended_at: float | None
    error_class: str | None
    pid: int | None


class Marks:
    """When agent_status says that a task ended, by status word."""

    def __init__(self) -> None:
        self._marks: dict[str, dict[str, float]] = {}

    def add(self, task_id: str, status: str, when: float) -> None:
        """One row of agent_status; the newest of each word counts."""
        known = self._marks.setdefault(task_id, {})
        known[status] = max(known.get(status, when), when)

    def of(self, task_id: str) -> dict[str, float]:
        """Newest time by status word."""
        return self._marks.get(task_id, {})


class Tasks:
    """The model. `put` and `drop` feed it."""

    def __init__(self, times: Times) -> None:
        self.marks = Marks()
        self.by_id: dict[str, TaskRecord] = {}
        self.counts: Counter[str] = Counter()
        self.at_work: dict[str, TaskRecord] = {}
        self.models_moved: set[str] = set()  # tasks whose model has become known, for who asks to take out
        self._times = times
        self._rows: dict[int, TaskRecord] = {}
        self._newest: list[tuple[float, str]] = []  # (created, id), ascending
        self._buckets = Buckets()
        self._failures: dict[str, list[float]] = {}  # class -> ascending times of the end

    def put(
        self,
        rowid: int,
        values: tuple[object, ...],
        *,
        marked: bool = False,
        since: float = float("-inf"),
        latest: float = float("inf"),
    ) -> TaskRecord | None:
        """A row of `tasks` (COLUMNS) as it stands now; the record if anything shown changed.

        `marked`: what agent_status says of it changed, so it is worked out even if the row did not. `since`:
        what is new in it was written after this. `latest`: a time in it that is later counts as this.
        """
        known = self._rows.get(rowid)
        fingerprint = hash(values)
        if known is not None and known.fingerprint == fingerprint and not marked:
            return None
        task_id, status, text, agent, phase, model, created, updated, error, pid = values
        key = str(task_id)
        word = _status(status)
        if known is not None and known.stamp[1] == updated:
            updated_at = known.updated_at
        else:
            updated_at = _at_most(latest, self._times.parse(updated, since))
        shown, ended_at = self._outcome(key, word, updated_at)
        record = TaskRecord(
            rowid=rowid,
            task_id=key,
            stamp=(status, updated),
            fingerprint=fingerprint,
            status=shown,
            description=_shown(str(text or "")[:_TEXT_LIMIT]),
            agent_type=_word(agent),
            phase=_word(phase),
            model=_word(model),
            created_at=_at_most(
                latest, self._times.parse(created, since if known is None else known.created_at or since)
            ),
            updated_at=updated_at,
            ended_at=ended_at,
            error_class=_class_of(shown, error),
            pid=pid if isinstance(pid, int) and pid > 0 else None,
        )
        if record == known:
            return None
        if known is None or known.model != record.model:
            self.models_moved.add(key)
        # Written anew as another row; or ids that are alike as texts, of which the row read last has the task.
        other = self.by_id.get(key)
        if other is not None and other.rowid != rowid:
            self.drop(other.rowid)
        before = None if known is None else _begun(known)
        if before != _begun(record):
            if before is not None:
                _take_out(self._newest, before)
            bisect.insort(self._newest, _begun(record))
        if known is not None:
            self._remove(known)
        self._add(record)
        return record

    def drop(self, rowid: int) -> TaskRecord | None:
        """The row is gone."""
        known = self._rows.get(rowid)
        if known is not None:
            self._remove(known)
            _take_out(self._newest, _begun(known))
        return known

    def stamps(self, after: int, upto: int) -> dict[int, tuple[object, object]]:
        """(status, updated_at) of the known rows in (after, upto], to compare with the file."""
        if upto - after > 2 * len(self._rows) + 1000:
            return {rowid: one.stamp for rowid, one in self._rows.items() if after < rowid <= upto}
        return {rowid: self._rows[rowid].stamp for rowid in range(after + 1, upto + 1) if rowid in self._rows}

    def in_order(self) -> Iterator[TaskRecord]:
        """Running ones first, the longest at it on top, then pending ones and then the rest, newest first.

        So one that starts mostly stays in its place, and its row need not be sent again for that; pending ones that
        AMIGA has forgotten lie below.
        """
        yield from sorted(self.at_work.values(), key=_place)
        for _, task_id in reversed(self._newest):
            if task_id not in self.at_work:
                yield self.by_id[task_id]

    def window(self, minute: int) -> dict[str, int]:
        """How many were created and how many ended which way since an epoch minute."""
        found = self._buckets.since(minute)
        counts = {name: found.get(key, 0) for name, key in _KEYS.items()}
        return counts | {"created": found.get(_CREATED, 0)}

    def minute(self, minute: int) -> dict[str, int]:
        """As `window`, of one minute."""
        found = self._buckets.minute(minute)
        return {name: found.get(key, 0) for name, key in _KEYS.items()}

    def first_minute(self) -> int | None:
        """The oldest minute of which anything is known."""
        return self._buckets.first_minute()

    def failures(self, since: float, until: float = float("inf")) -> dict[str, tuple[int, float, float]]:
        """(count, first, last) of failed tasks by class, by the time they ended."""
        found: dict[str, tuple[int, float, float]] = {}
        for name, ended in self._failures.items():
            first, end = bisect.bisect_left(ended, since), bisect.bisect_right(ended, until)
            if first < end:
                found[name] = (end - first, ended[first], ended[end - 1])
        return found

    def failed_since(self, since: float) -> list[float]:
        """When tasks ended that failed, ascending."""
        found: list[float] = []
        for ended in self._failures.values():
            found += ended[bisect.bisect_left(ended, since) :]
        return sorted(found)

    def prune(self, now: float) -> None:
        """Forget minutes that no window reaches any more."""
        self._buckets.prune(int(now // MINUTE_S))

    # -- within --------------------------------------------------------------------------------

    def _outcome(self, task_id: str, word: str, updated_at: float | None) -> tuple[str, float | None]:
        if word not in ENDED:
            return word, None
        marks = self.marks.of(task_id)
        stopped = marks.get("stopped")
        if word == "failed" and stopped is not None:
            failed = marks.get("failed")
            if failed is None or 0 <= failed - stopped <= _OVERWRITTEN_S:
                return "stopped", stopped
        return word, marks.get(word, updated_at)

    def _add(self, record: TaskRecord) -> None:
        self._rows[record.rowid] = record
        self.by_id[record.task_id] = record
        self.counts[record.status] += 1
        if record.status in AT_WORK:
            self.at_work[record.task_id] = record
        self._count(record, 1)
        if record.error_class is not None and record.status == "failed" and record.ended_at is not None:
            bisect.insort(self._failures.setdefault(record.error_class, []), record.ended_at)

    def _remove(self, record: TaskRecord) -> None:
        del self._rows[record.rowid]
        if self.by_id.get(record.task_id) is record:
            del self.by_id[record.task_id]
        self.counts[record.status] -= 1
        self.at_work.pop(record.task_id, None)
        self._count(record, -1)
        if record.error_class is not None and record.status == "failed" and record.ended_at is not None:
            _take_out(self._failures[record.error_class], record.ended_at)

    def _count(self, record: TaskRecord, amount: int) -> None:
        if record.created_at is not None:
            self._buckets.add(int(record.created_at // MINUTE_S), _CREATED, amount)
        key = _KEYS.get(record.status)
        if key is not None and record.ended_at is not None:
            self._buckets.add(int(record.ended_at // MINUTE_S), key, amount)


@functools.lru_cache(maxsize=1024)  # a few dozen names, in every row
def _word(text: object) -> str | None:
    return one_line(text, 60) or None


@functools.lru_cache(maxsize=64)
def _status(text: object) -> str:
    return one_line(text, 40).lower()


@functools.lru_cache(maxsize=256)  # rows change, their description does not
def _shown(description: str) -> str:
    return one_line(description)


def _class_of(status: str, error: object) -> str | None:
    text = error[:_TEXT_LIMIT] if isinstance(error, str) else None
    if status == "failed":
        return task_error_class(text) or "unknown"
    if status == "stopped" and text:
        # An overwritten stop carries the failure's text, which is not why it ended.
        found = task_error_class(text)
        return "stopped_by_user" if found in ("no_output", "minimal_output", "dead_process") else found
    return None


def _at_most(latest: float, when: float | None) -> float | None:
    return None if when is None else min(when, latest)


def _begun(record: TaskRecord) -> tuple[float, str]:
    return (record.created_at or 0.0, record.task_id)


def _place(record: TaskRecord) -> tuple[bool, float, str]:
    """Of a task at work among its like."""
    if record.status == "running":
        return (False, math.inf if record.created_at is None else record.created_at, record.task_id)
    return (True, -(record.created_at or 0.0), record.task_id)


def _take_out(items: list[Any], item: object) -> None:
    at = bisect.bisect_left(items, item)
    if at < len(items) and items[at] == item:
        del items[at]
