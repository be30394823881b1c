"""Questions that a snapshot does not answer, and their answers: lists, details, parts, exports.

A `…Query` struct says what may be asked: its fields are the route's query parameters, with their defaults,
ranges (`Meta`: a number outside is clamped) and words. An answer is sent as it stands. Pure: no I/O, no clock.
Units are those of the snapshot.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from amiga_ws.snapshot import ErrorClass, OverviewTasks, Part, Session, Source, System, Task, Tools

MAX_SEARCH = 200  # characters
MAX_PAGE_SIZE = 100

Search = Annotated[
    str, Meta(max_length=MAX_SEARCH, description="every word, without regard to case; empty: all")
]
Words = Annotated[
    tuple[str, ...], Meta(max_length=MAX_SEARCH, description="any of these, separated by commas; empty: all")
]
Page = Annotated[int, Meta(ge=1, le=1_000_000)]
PageSize = Annotated[int, Meta(ge=1, le=MAX_PAGE_SIZE)]
Hours = Annotated[int, Meta(ge=1, le=168)]
TaskSort = Literal[
    "-created_at",
    "created_at",
    "-updated_at",
    "updated_at",
    "-ended_at",
    "ended_at",
    "-status",
    "status",
    "-description",
    "description",
    "-model",
    "model",
    "-agent_type",
    "agent_type",
    "-tool_calls",
    "tool_calls",
    "-tool_errors",
    "tool_errors",
    "-tokens",
    "tokens",
    "-cost",
    "cost",
    "-duration",
    "duration",
]


# -- parts of the snapshot -----------------------------------------------------------------------


class WindowQuery(Part, frozen=True, kw_only=True):
    hours: Hours = 24


class ToolsPart(Part, frozen=True, kw_only=True):
    """`source` is the database's: whether the numbers can be believed."""

    hours: int
    timestamp: float
    source: Source
    tools: Tools


class TasksPart(Part, frozen=True, kw_only=True):
    hours: int
    timestamp: float
    source: Source
    tasks: OverviewTasks
    errors: list[ErrorClass]


class SystemPart(Part, frozen=True, kw_only=True):
    timestamp: float
    source: Source
    system: System


# -- lists ---------------------------------------------------------------------------------------


class TaskFilter(Part, frozen=True, kw_only=True):
    """Which tasks, in which order. `search` looks in id, description, model, agent, phase, error class
    and the tools it has used."""

    status: Words = ()
    search: Search = ""
    sort: TaskSort = "-created_at"


class TaskQuery(TaskFilter, frozen=True, kw_only=True):
    page: Page = 1
    page_size: PageSize = 20


class TaskPage(Part, frozen=True, kw_only=True):
    """One page of the tasks that match, `total` of all that do."""

    tasks: list[Task]
    total: int
    page: int
    page_size: int


class TaskExport(TaskFilter, frozen=True, kw_only=True):
    format: Literal["csv", "json"] = "csv"


class SessionQuery(Part, frozen=True, kw_only=True):
    """Sessions of the last eight days, the one that moved last first. `search` looks in both ids."""

    state: Annotated[Literal["", "active", "idle", "ended"], Meta(description="empty: all")] = ""
    kind: Annotated[Literal["", "task", "cli"], Meta(description="empty: all")] = ""
    search: Search = ""
    page: Page = 1
    page_size: PageSize = 20


class SessionPage(Part, frozen=True, kw_only=True):
    sessions: list[Session]
    total: int
    page: int
    page_size: int


class TaskSpan(Part, frozen=True, kw_only=True, rename={"began": "from", "ended": "to"}):
    """When a task ran, from its creation; `ended` is None while it still does."""

    task_id: str
    began: float
    ended: float | None
    status: str
    description: str = ""  # its beginning


# -- details -------------------------------------------------------------------------------------


class ToolCall(Part, frozen=True, kw_only=True):
    """One tool call, counted as everywhere: however many rows AMIGA left of it.

    `started` is None where no row tells it, `ended` while there is no end. `orphaned`: it has no end, and
    nobody is left to end it. `parameters` are redacted JSON, None when unknown or hidden by the owner.
    """

    tool: str
    state: Literal["ok", "failed", "running", "orphaned"]
    started: float | None = None
    ended: float | None = None
    parameters: Any = None
    error: str | None = None
    error_category: str | None = None


class Calls(Part, frozen=True, kw_only=True):
    """The calls of a task or session, in the order of their times; at most the newest 500 of `total`.

    `problem` says why they could not be read; `parameters_hidden`, that `amiga.hide_parameters` is set.
    """

    calls: list[ToolCall] = field(default_factory=list)
    total: int = 0
    parameters_hidden: bool = False
    problem: str | None = None


class LogEntry(Part, frozen=True, kw_only=True):
    timestamp: float | None
    message: str


class TaskDetail(Part, frozen=True, kw_only=True):
    """A task and all that is known of it. Texts are redacted and cut, `log` is the newest 100 entries."""

    task: Task
    description: str = ""
    error: str | None = None
    result: str | None = None
    sessions: list[str] = field(default_factory=list)
    log: list[LogEntry] = field(default_factory=list)
    work: Calls = Calls()


class SessionDetail(Part, frozen=True, kw_only=True):
    """A session, the task it worked on where one is known, and its calls.

    A session that only the hook log knows has no calls here: its lines hold whole, unredacted inputs.
    """

    session: Session
    task: Task | None = None
    began: float | None = None
    tokens: int | None = None
    cost: float | None = None
    work: Calls = Calls()
