"""Answers questions for lists from what is already in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amiga_ws.collectors.amiga import view
from amiga_ws.collectors.amiga.model import Model
from amiga_ws.collectors.amiga.tail import HORIZON_S
from amiga_ws.collectors.amiga.tasks import TaskRecord
from amiga_ws.questions import SessionPage, SessionQuery, TaskFilter, TaskPage, TaskQuery
from amiga_ws.snapshot import Session, Task

MAX_TASKS = 10_000  # in one answer


def matching(model: Model, wanted: TaskFilter, now: float) -> list[Task]:
    """The tasks that match, sorted. Unknown values come last either way."""
    words, statuses = wanted.search.casefold().split(), frozenset(wanted.status)
    found = [
        (view.task(model, record), record)
        for record in model.tasks.in_order()
        if (not statuses or record.status in statuses) and (not words or _has(model, record, words))
    ]
    name, descending = wanted.sort.removeprefix("-"), wanted.sort.startswith("-")
    value: Callable[[Task], Any] = lambda task: getattr(task, name)  # noqa: E731 - one of two
    if name == "duration":
        value = lambda task: _duration(task, now)  # noqa: E731 - one of two
    # Equal ones by their age, to the microsecond that is not shown.
    known = [
        (one, record.created_at or 0.0, task.task_id, task)
        for task, record in found
        if (one := value(task)) is not None
    ]
    unknown = [task for task, _ in found if value(task) is None]
    known.sort(key=lambda item: item[:3], reverse=descending)
    return [*(task for *_, task in known), *unknown]


def page_of(model: Model, query: TaskQuery, now: float) -> TaskPage:
    """One page of the tasks that match."""
    found = matching(model, query, now)
    start = (query.page - 1) * query.page_size
    page = found[start : start + query.page_size]
    return TaskPage(tasks=page, total=len(found), page=query.page, page_size=query.page_size)


def sessions(model: Model, query: SessionQuery, now: float) -> SessionPage:
    """One page of the sessions that match."""
    found = [view.session(model, owner, now) for owner in model.calls.owners.values()]
    found += [
        view.hook_session(model, log, last, now) for log, last in view.hook_only(model, now - HORIZON_S)
    ]
    words = query.search.casefold().split()
    found = [
        one
        for one in found
        if (not query.state or one.state == query.state)
        and (not query.kind or one.kind == query.kind)
        and all(word in f"{one.session_id} {one.task_id or ''}".casefold() for word in words)
    ]
    found.sort(key=_newest_first)
    start = (query.page - 1) * query.page_size
    page = found[start : start + query.page_size]
    return SessionPage(sessions=page, total=len(found), page=query.page, page_size=query.page_size)


def _has(model: Model, record: TaskRecord, words: list[str]) -> bool:
    texts = [
        view.shown_id(record.task_id),
        record.description,
        record.model,
        record.agent_type,
        record.phase,
        record.error_class,
    ]
    for key in model.owners_of(record.task_id):
        owner = model.calls.owners.get(key)
        texts += [model.calls.tools[tool] for tool in owner.groups] if owner is not None else []
    text = " ".join(one for one in texts if one).casefold()
    return all(word in text for word in words)


def _duration(task: Task, now: float) -> float | None:
    if task.created_at is None:
        return None
    if task.status in ("running", "pending"):
        return now - task.created_at
    return None if task.ended_at is None else task.ended_at - task.created_at


def _newest_first(session: Session) -> tuple[float, str]:
    return -(session.last_activity or 0.0), session.session_id
