"""AMIGA's last week minute by minute, and when its tasks ran: what the charts are filled with."""

from __future__ import annotations

from collections.abc import Mapping

from amiga_ws.collectors.amiga.model import Model
from amiga_ws.collectors.amiga.redact import one_line
from amiga_ws.collectors.amiga.tasks import TaskRecord
from amiga_ws.collectors.amiga.view import shown_id
from amiga_ws.collectors.amiga.windows import MINUTE_S, percentiles
from amiga_ws.questions import TaskSpan

MAX_SPANS = 500
SPAN_CHARS = 80  # of a task's description: 500 of them come with the charts

Minutes = dict[str, dict[int, float]]


def minutes(model: Model, first: int, last: int) -> Minutes:
    """By series, then by the minute's start (epoch seconds): all minutes in [first, last) (epoch minutes).

    Minutes without anything are 0 from the first one on of which the installation knows anything; a
    percentile or a price that does not exist is absent.
    """
    found: Minutes = {}
    oldest = _least(model.calls.first_minute(), model.tasks.first_minute())
    for minute in range(max(first, oldest), last) if oldest is not None else ():
        time = minute * MINUTE_S
        ended = model.tasks.minute(minute)
        _put(found, time, {f"tasks.{name}": ended[name] for name in ("completed", "failed", "stopped")})
        calls, failed, durations = model.calls.minute(minute)
        _put(found, time, {"tools.calls": calls, "tools.errors": failed})
        if durations:
            p50, p95 = percentiles(durations, (0.5, 0.95))
            _put(found, time, {"tools.p50": p50, "tools.p95": p95})
    oldest = model.ledger.first_minute()
    for minute in range(max(first, oldest), last) if oldest is not None else ():
        spent = model.ledger.minute(minute)
        _put(found, minute * MINUTE_S, spent)
    return found


def spans(model: Model, since: float, until: float, now: float) -> list[TaskSpan]:
    """500 tasks that ran at any time between `since` and `until`, running ones and then the newest; oldest first."""
    found: list[TaskRecord] = []
    for record in model.tasks.in_order():
        if len(found) >= MAX_SPANS:
            break
        if record.created_at is None or record.status == "pending" or record.created_at > until:
            continue
        ended = now if record.status == "running" else record.ended_at
        if ended is not None and ended >= since:
            found.append(record)
    found.sort(key=lambda record: record.created_at or 0.0)
    return [
        TaskSpan(
            task_id=shown_id(record.task_id),
            began=round(record.created_at or 0.0, 1),
            ended=None if record.ended_at is None else round(record.ended_at, 1),
            status=record.status,
            description=one_line(record.description, SPAN_CHARS),
        )
        for record in found
    ]


def _least(*known: int | None) -> int | None:
    return min((one for one in known if one is not None), default=None)


def _put(found: Minutes, time: int, values: Mapping[str, float | None]) -> None:
    for name, value in values.items():
        if value is not None:
            found.setdefault(name, {})[time] = float(value)
