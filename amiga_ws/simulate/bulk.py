"""Large installations in one go, for benchmarks: a month's tasks, calls and statuses in their final state.

Same rows as `Simulator` would leave, in the order in which AMIGA would have written them, but made
without acting them out: 1 M tool rows (310 MB) took 31 s on one core of a small shared machine.
"""

from __future__ import annotations

import heapq
import json
import random
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import Any, Literal

from amiga_ws.simulate.hooks import REPORT_S
from amiga_ws.simulate.installation import Installation, set_file_time, utc_stamp
from amiga_ws.simulate.stored import category, stored
from amiga_ws.simulate.story import Story, Use

_CHUNK = 20_000  # rows a statement; 5 MB of Python objects
_CALLS_A_TASK = 30  # usually; fewer where there would be too few tasks for the hook logs
_SIDE_BY_SIDE = 3  # AMIGA's workers
_TOOL_COLUMNS = (
    "timestamp, task_id, tool_name, success, error, parameters, error_category, input_tokens, output_tokens"
)
_STATUS_COLUMNS = "timestamp, task_id, status, message, metadata"


@dataclass(frozen=True)
class Generated:
    """What an installation holds."""

    root: Path
    calls: int
    failed_calls: int
    tool_rows: int
    status_rows: int
    tasks: int
    hook_logs: int


@dataclass
class _Owner:
    """A task at work, or (task_id None) a session started by hand."""

    task_id: str | None
    session: str
    begun: float
    calls_left: int
    lines: list[str]

    @property
    def key(self) -> str:
        return self.task_id or self.session


def generate(
    root: Path,
    rows: int,
    *,
    seed: int = 0,
    now: float | None = None,
    days: float = 30.0,
    hook_logs: int = 500,
    rows_per_call: Literal[1, 3, 4] = 3,
    zone: tzinfo | None = None,
) -> Generated:
    """Make an installation of at most `rows` tool rows that ends at `now` (epoch seconds) below `root`.

    Of one call in 20 the owner is a session started by hand. The newest `hook_logs` tasks and sessions
    have a hook log. No writer is left open: open a `Simulator` on `root` to go on.
    """
    end = time.time() if now is None else now
    bulk = _Bulk(root, random.Random(seed), end, hook_logs, rows_per_call, zone)  # noqa: S311 - invented data
    return bulk.run(rows // rows_per_call, end - days * 86400)


class _Bulk:
    def __init__(
        self, root: Path, rng: random.Random, end: float, hook_logs: int, mode: int, zone: tzinfo | None
    ) -> None:
        self._files = Installation(root, zone=zone)
        self._rng = rng
        self._end = end
        self._hook_logs = hook_logs
        self._mode = mode
        self._calls_a_task = _CALLS_A_TASK
        story = Story(rng)
        # Inventing each call anew would take most of the time.
        self._uses = [story.use("/srv/code/ledger-api") for _ in range(2_000)]
        self._parameters = [stored(use.parameters) for use in self._uses]
        self._story = story
        self._tool: list[tuple[Any, ...]] = []  # rows waiting for the next statement
        self._status: list[tuple[Any, ...]] = []
        self._tasks: list[tuple[Any, ...]] = []
        self._messages: list[tuple[Any, ...]] = []
        self._recent: list[_Owner] = []
        self._counts = dict.fromkeys(("tool", "status", "tasks", "failed"), 0)

    def run(self, calls: int, begin: float) -> Generated:
        files = self._files
        files.open(self._end)
        self._calls_a_task = max(2, min(_CALLS_A_TASK, calls * 4 // 5 // max(1, self._hook_logs)))
        con = files.con
        indexes = con.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
            " AND tbl_name IN ('tool_usage', 'agent_status', 'tasks', 'messages')"
        ).fetchall()
        for name, _ in indexes:  # sorting once at the end is faster than keeping order all along
            con.execute(f"DROP INDEX {name}")
        with files.batch():
            self._act(calls, begin, (self._end - begin) / max(1, calls))
            self._write()
            for _, statement in indexes:
                con.execute(str(statement))
        files.close()
        for owner in self._recent:
            path = files.hook_log(owner.session)
            files.append_raw(path, "".join(owner.lines))
            set_file_time(path, owner.begun)
        return Generated(
            files.root,
            calls,
            self._counts["failed"],
            self._counts["tool"],
            self._counts["status"],
            self._counts["tasks"],
            len(self._recent),
        )

    def _act(self, calls: int, begin: float, step_s: float) -> None:
        """Starts come in even steps with some play; endings wait in a heap until it is their time."""
        rng, owners = self._rng, [self._new_owner(begin) for _ in range(_SIDE_BY_SIDE)]
        endings: list[tuple[float, int, _Owner, int]] = []
        for number in range(calls):
            at = begin + (number + rng.random()) * step_s
            while endings and endings[0][0] <= at:
                self._call_ends(*heapq.heappop(endings))
            place = rng.randrange(_SIDE_BY_SIDE)
            owner = owners[place]
            if owner.calls_left == 0:
                self._owner_ends(owner, at)
                owner = owners[place] = self._new_owner(at)
            owner.calls_left -= 1
            index = rng.randrange(len(self._uses))
            self._call_starts(owner, index, at)
            seconds = max(REPORT_S, self._uses[index].seconds)
            heapq.heappush(endings, (min(at + seconds, self._end), number, owner, index))
            if len(self._tool) >= _CHUNK:
                self._write()
        while endings:
            self._call_ends(*heapq.heappop(endings))
        for owner in owners:
            self._owner_ends(owner, self._end)

    def _call_starts(self, owner: _Owner, index: int, at: float) -> None:
        use, parameters = self._uses[index], self._parameters[index]
        stamp = self._files.stamp
        start = (owner.key, use.tool, None, None, parameters, None, None, None)
        if self._mode > 1:
            self._tool.append((stamp(at), *start))
        if self._mode == 4:  # noqa: PLR2004 - the mode's name
            self._tool.append((stamp(at + REPORT_S), *start))
        else:
            report_s = REPORT_S if self._mode > 1 else 0.0
            self._tool.append((stamp(at + report_s), *self._finished(owner, use, parameters, use.tokens)))
        line: dict[str, object] = {"timestamp": utc_stamp(at), "tool": use.tool, "parameters": use.parameters}
        line |= {"status": "starting", "task_id": owner.task_id, "session_uuid": owner.session}
        owner.lines.append(json.dumps(line) + "\n")

    def _call_ends(self, at: float, number: int, owner: _Owner, index: int) -> None:
        use, parameters = self._uses[index], self._parameters[index]
        stamp = self._files.stamp(at)
        if self._mode == 4:  # noqa: PLR2004 - the mode's name
            self._tool.append((stamp, *self._finished(owner, use, parameters, use.tokens)))
        details = json.dumps({"tool": use.tool, "success": use.error is None})
        self._status.append((stamp, owner.key, "tool_call", f"{use.tool} completed", details))
        if self._mode > 1:
            report = self._files.stamp(at + REPORT_S / 2)
            self._tool.append((report, *self._finished(owner, use, parameters, None)))
        self._counts["failed"] += use.error is not None
        if number % 20 == 0:
            self._messages.append((stamp, "user", "How far is it?", None, None, None))
            self._messages.append((stamp, "assistant", "Nearly done.", 5_000, 120, "claude-haiku-4-5"))

    def _finished(
        self, owner: _Owner, use: Use, parameters: str | None, tokens: tuple[int, int] | None
    ) -> tuple[Any, ...]:
        kind = None if use.error is None else category(use.error)
        read, written = tokens or (None, None)
        return owner.key, use.tool, use.error is None, use.error, parameters, kind, read, written

    def _new_owner(self, at: float) -> _Owner:
        rng = self._rng
        session = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        by_hand = rng.randrange(20) == 0
        # Counted, not drawn: 24 random bits collide among 10,000 tasks.
        task_id = None if by_hand else f"{self._counts['tasks'] * 7919 % 2**24:06x}"
        self._counts["tasks"] += not by_hand
        calls = rng.randint(self._calls_a_task // 2, self._calls_a_task * 3 // 2)
        owner = _Owner(task_id, session, at, calls, [])
        if task_id is not None:
            details = json.dumps({"pid": 4_200_000, "session_uuid": session})
            stamp = self._files.stamp(at)
            self._status.append((stamp, task_id, "started", "Starting Claude interactive session", None))
            self._status.append((stamp, task_id, "started", "Session started with PID 4200000", details))
        self._recent.append(owner)
        del self._recent[: -self._hook_logs or len(self._recent)]
        return owner

    def _owner_ends(self, owner: _Owner, at: float) -> None:
        if owner.task_id is None:
            return
        status = self._rng.choices(("completed", "failed", "stopped"), (75, 17, 8))[0]
        error = None if status == "completed" else self._story.failure()
        stamp = self._files.stamp(at)
        job = self._story.job()
        self._status.append((stamp, owner.task_id, status, error or "Task completed successfully", None))
        self._tasks.append(
            (
                *(owner.task_id, job["user_id"], job["description"], status, self._files.stamp(owner.begun)),
                *(stamp, job["model"], job["workspace"], job["agent_type"], error, 4_200_000, "[]"),
                *(owner.session, "orchestrator"),
            )
        )

    def _write(self) -> None:
        self._many("tool_usage", _TOOL_COLUMNS, self._tool)
        self._many("agent_status", _STATUS_COLUMNS, self._status)
        self._many(
            "tasks",
            "task_id, user_id, description, status, created_at, updated_at, model, workspace, agent_type, error,"
            " pid, activity_log, session_uuid, workflow",
            self._tasks,
        )
        self._many(
            "messages",
            "timestamp, role, content, tokens_input, tokens_output, model, user_id",
            [(*row, 123456789) for row in self._messages],
        )
        self._counts["tool"] += len(self._tool)
        self._counts["status"] += len(self._status)
        for waiting in (self._tool, self._status, self._tasks, self._messages):
            waiting.clear()

    def _many(self, table: str, columns: str, rows: Iterable[tuple[Any, ...]]) -> None:
        marks = ", ".join("?" * (columns.count(",") + 1))
        self._files.con.executemany(
            f"INSERT INTO {table} ({columns}) VALUES ({marks})",  # noqa: S608 - names from this module
            rows,
        )
