"""Answers questions for lists from what is already in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from amiga_ws.collectors.amiga import view
from amiga_ws.collectors.amiga.model import Model
from amiga_ws.questions import SessionPage, SessionQuery, TaskFilter, TaskPage, TaskQuery
from amiga_ws.snapshot import Session, Task

MAX_TASKS = 10_000  # in one answer


def matching(tasks: Iterable[Task], wanted: TaskFilter, now: float) -> list[Task]:
    """The tasks that match, sorted. Unknown values come last either way."""
    words, statuses = wanted.search.casefold().split(), frozenset(wanted.status)
    found = [task for task in tasks if (not statuses or task.status in statuses) and _has(task, words)]
    name, descending = wanted.sort.removeprefix("-"), wanted.sort.startswith("-")
    value: Callable[[Task], Any] = lambda task: getattr(task, name)  # noqa: E731 - one of two
    if name == "duration":
        value = lambda task: _duration(task, now)  # noqa: E731 - one of two
    known = [(one, task.task_id, task) for task in found if (one := value(task)) is not None]
    unknown = [task for task in found if value(task) is None]
    known.sort(key=lambda item: item[:2], reverse=descending)
    return [*(task for _, _, task in known), *unknown]


def page_of(tasks: Iterable[Task], query: TaskQuery, now: float) -> TaskPage:
    """One page of the tasks that match."""
    found = matching(tasks, query, now)
    start = (query.page - 1) * query.page_size
    page = found[start : start + query.page_size]
    return TaskPage(tasks=page, total=len(found), page=query.page, page_size=query.page_size)


def sessions(model: Model, query: SessionQuery, now: float) -> SessionPage:
    """One page of the sessions that match."""
    found = [view.session(model, owner, now) for owner in model.calls.owners.values()]
    found += view.hook_only(model, now, len(model.hooks.sessions))
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


def _has(task: Task, words: list[str]) -> bool:
    if not words:
        return True
    tool = task.current_tool.name if task.current_tool else None
    texts = (
        task.task_id,
        task.description,
        task.model,
        task.agent_type,
        task.phase,
        task.error_class,
        tool,
    )
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
