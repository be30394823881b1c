"""Answers a TaskQuery from tasks that are already in memory."""

from __future__ import annotations

from collections.abc import Iterable

from amiga_ws.snapshot import Task, TaskPage, TaskQuery


def page_of(tasks: Iterable[Task], query: TaskQuery) -> TaskPage:
    """The tasks that match, sorted, one page of them. Unknown values come last either way."""
    wanted, words = frozenset(query.status), query.search.casefold()
    found = [
        task
        for task in tasks
        if (not wanted or task.status in wanted)
        and (not words or words in task.description.casefold() or words in task.task_id.casefold())
    ]
    name, descending = query.sort.removeprefix("-"), query.sort.startswith("-")
    known = [task for task in found if getattr(task, name) is not None]
    unknown = [task for task in found if getattr(task, name) is None]
    known.sort(key=lambda task: (getattr(task, name), task.task_id), reverse=descending)
    start = (query.page - 1) * query.page_size
    page = [*known, *unknown][start : start + query.page_size]
    return TaskPage(tasks=page, total=len(found), page=query.page, page_size=query.page_size)
