"""Lists and details of AMIGA's tasks and sessions, and tasks as a file to keep."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
from tornado.web import HTTPError

from amiga_ws.handlers.compression import LEVEL, finish_compressed
from amiga_ws.handlers.guard import JSON_TYPE
from amiga_ws.handlers.operations import JSON, answers
from amiga_ws.handlers.parameters import read
from amiga_ws.handlers.refusals import Problem, unavailable
from amiga_ws.handlers.rest import Api
from amiga_ws.handlers.tables import csv_table
from amiga_ws.questions import (
    SessionDetail,
    SessionPage,
    SessionQuery,
    TaskDetail,
    TaskExport,
    TaskPage,
    TaskQuery,
)
from amiga_ws.snapshot import Task
from amiga_ws.wire import encode

CSV_TYPE = "text/csv; charset=utf-8; header=present"
MAX_ID = 200  # characters
AnswerT = TypeVar("AnswerT")

COLUMNS = (
    "task_id",
    "status",
    "description",
    "agent_type",
    "phase",
    "model",
    "created_at",
    "updated_at",
    "ended_at",
    "tool_calls",
    "tool_errors",
    "error_class",
    "tokens",
    "cost",
)
_TIMES = frozenset({"created_at", "updated_at", "ended_at"})


class Export(msgspec.Struct, frozen=True):
    """The file as JSON."""

    exported_at: float
    currency: str
    filter: TaskExport
    tasks: list[Task]


class Lists(Api):
    """What needs the collector's thread."""

    async def answer(self, question: Awaitable[AnswerT]) -> AnswerT:
        """Raises RefusedError 503 while AMIGA's database does not answer."""
        try:
            return await question
        except TimeoutError as error:
            raise unavailable("AMIGA's database does not answer") from error


class Tasks(Lists):
    """`GET /api/tasks`: AMIGA's tasks, page by page."""

    @answers(TaskPage, query=TaskQuery, also={503: Problem})
    async def get(self) -> None:
        self.reply(await self.answer(self.services.facts.find_tasks(read(self, TaskQuery))))


class OneTask(Lists):
    """`GET /api/tasks/{id}`: a task with its calls, log and texts."""

    @answers(TaskDetail, also={404: Problem, 503: Problem})
    async def get(self, task_id: str) -> None:
        found = None
        if len(task_id) <= MAX_ID:
            found = await self.answer(self.services.facts.task_detail(task_id))
        if found is None:
            raise HTTPError(404, "there is no such task")
        self.reply(found)


class Sessions(Lists):
    """`GET /api/sessions`: sessions of the last eight days, page by page."""

    @answers(SessionPage, query=SessionQuery, also={503: Problem})
    async def get(self) -> None:
        self.reply(await self.answer(self.services.facts.find_sessions(read(self, SessionQuery))))


class OneSession(Lists):
    """`GET /api/sessions/{id}`: a session with its calls."""

    @answers(SessionDetail, also={404: Problem, 503: Problem})
    async def get(self, session_id: str) -> None:
        found = None
        if len(session_id) <= MAX_ID:
            found = await self.answer(self.services.facts.session_detail(session_id))
        if found is None:
            raise HTTPError(404, "there is no such session in the last eight days")
        self.reply(found)


class ExportTasks(Lists):
    """`GET /api/export/tasks?format=`: every task that matches, at most 10,000, as a file."""

    @answers(Export, query=TaskExport, also={503: Problem}, media=(JSON, "text/csv"))
    async def get(self) -> None:
        wanted = read(self, TaskExport)
        tasks = await self.answer(self.services.facts.all_tasks(wanted))
        now = datetime.fromtimestamp(self.services.clock.wall(), UTC)
        currency = self.services.settings.costs.currency
        body, zipped = await asyncio.to_thread(_packed, tasks, wanted, currency, now)
        self.set_header("Content-Type", CSV_TYPE if wanted.format == "csv" else JSON_TYPE)
        name = f"amiga-tasks-{now:%Y%m%dT%H%M%SZ}.{wanted.format}"
        self.set_header("Content-Disposition", f'attachment; filename="{name}"')
        finish_compressed(self, body, zipped)


def _packed(tasks: list[Task], wanted: TaskExport, currency: str, now: datetime) -> tuple[bytes, bytes]:
    """10,000 tasks are 4 MB: not on the loop."""
    if wanted.format == "json":
        body = encode(Export(now.timestamp(), currency, wanted, tasks))
    else:
        rows = ([*(_cell(task, name) for name in COLUMNS), currency] for task in tasks)
        body = csv_table((*COLUMNS, "currency"), rows)
    return body, gzip.compress(body, LEVEL, mtime=0)


def _cell(task: Task, name: str) -> str | int | float | None:
    value: str | int | float | None = getattr(task, name)
    if name in _TIMES and value is not None:
        return (
            datetime.fromtimestamp(float(value), UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z")
        )
    return value
