"""AMIGA acted out step by step: tasks, tool calls, chats, and the faults it is known for.

Every step takes its time from the given clock (or from `at`) and writes what AMIGA's server and hooks
would have left on disk. `tasks` and `calls` hold what really happened, to compare a reader with.

One tool call leaves, in the table `tool_usage` (`rows_per_call`):
- 1 row with the hooks alone: the pre hook's, completed in place when the call ends;
- 3 rows while AMIGA's server is up: the pre hook's stays open for ever, its report to the server adds a
  second, which the post hook completes, and the post hook's report adds a third, stamped at the END;
- 4 rows where the post hook misses its start (hosts west of Greenwich in the evening): both starts stay
  open, the post hook adds a finished row and its report another.
In each mode `agent_status` gets one `tool_call` row per ended call.
"""

from __future__ import annotations

import itertools
import json
import random
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import tzinfo
from pathlib import Path
from typing import Any, Literal

from amiga_ws.simulate import schema as schemas
from amiga_ws.simulate.hooks import category, stored
from amiga_ws.simulate.installation import Installation, Stamps, set_file_time, utc_stamp
from amiga_ws.simulate.truth import Call, Task

REPORT_S = 0.1  # from a hook's own row to the row its report to the server makes
OVERWRITE_S = 0.009  # a stopped task is marked failed this much later
NO_OUTPUT = "Claude produced no output. The task may have failed silently or timed out."
STOPPED = "Task stopped by user"
RESTARTED = "Task stopped due to bot restart"


class Simulator(Installation):
    """One AMIGA under `root`, opened at once; the keyword arguments not named here are Installation's.

    The attributes `rows_per_call`, `status_rows`, `hook_only` and `stamps` may be changed between steps.
    Equal seeds and equal steps make equal files.
    """

    def __init__(  # noqa: PLR0913 - every one a way in which AMIGAs differ
        self,
        root: Path,
        *,
        seed: int = 0,
        clock: Callable[[], float] = time.time,
        schema: int = schemas.NEWEST,
        zone: tzinfo | None = None,
        rows_per_call: Literal[1, 3, 4] = 3,
        status_rows: bool = True,
        hook_only: bool = False,
        stamps: Stamps | Literal["mixed"] = "local",
        wal_only: bool = False,
        messages: bool = True,
        session_uuid_from_start: bool = True,
    ) -> None:
        super().__init__(
            root,
            schema=schema,
            zone=zone,
            wal_only=wal_only,
            messages=messages,
            session_uuid_from_start=session_uuid_from_start,
        )
        self.clock = clock
        self.rng = random.Random(seed)  # noqa: S311 - names for a play, nothing secret
        self.rows_per_call: Literal[1, 3, 4] = rows_per_call
        self.status_rows = status_rows  # False: old files, whose hooks wrote no agent_status
        self.hook_only = hook_only  # True: the hooks cannot find AMIGA's code and reach no database
        self.stamps: Stamps | Literal["mixed"] = stamps  # of tool_usage; "mixed": some rows old, some new
        self.tasks: dict[str, Task] = {}
        self.calls: list[Call] = []
        self.remember_ended = True  # False: a play without end keeps no truth of what is over
        self._numbers = itertools.count()
        self.open(clock())

    # -- tasks ------------------------------------------------------------------------------------------

    def queue_task(  # noqa: PLR0913 - one argument a column
        self,
        description: str = "Fix flaky login test in ledger-api",
        *,
        task_id: str | None = None,
        user_id: int | str = 123456789,
        model: str = "sonnet",
        workspace: str = "/srv/code/ledger-api",
        agent_type: str = "orchestrator",
        context: str | None = None,
        status: str = "pending",
        at: float | None = None,
    ) -> Task:
        """Write a pending task (or one of any status word). Raises sqlite3.IntegrityError on a used id."""
        now = self._time(at)
        task_id = task_id or self._new_task_id()
        task = Task(task_id, user_id, description, self.new_uuid(), created=now, status=status)
        row = {
            "task_id": task.task_id,
            "user_id": user_id,
            "description": description,
            "status": status,
            "created_at": self.stamp(now),
            "updated_at": self.stamp(now),
            "model": model,
            "workspace": workspace,
            "agent_type": agent_type,
            "activity_log": "[]",
            "workflow": "orchestrator",
            "context": context,
            "phase_number": 0,
        }
        self.insert("tasks", row)
        self.tasks[task.task_id] = task
        self.log(now, "tasks.database", f"Created task {task.task_id} for user {user_id}")
        return task

    def start_task(
        self,
        task: Task | None = None,
        *,
        pid: int | None = None,
        stored_session: str | None = None,
        at: float | None = None,
        **columns: Any,  # noqa: ANN401 - queue_task's own
    ) -> Task:
        """A worker takes `task` (None: a new one, `columns` as for queue_task).

        `stored_session`: what AMIGA guesses as tasks.session_uuid; often another task's or an invented one.
        """
        now = self._time(at)
        if task is None:
            task = self.queue_task(at=now, **columns)
        stored = stored_session or task.session
        task.status, task.started, task.pid = "running", now, pid
        self._status(task.task_id, "started", "Starting Claude interactive session", None, now)
        self._change(task, now, status="running", pid=pid, session_uuid=stored)
        details = {"pid": pid, "session_uuid": stored, "requested_uuid": self._requested(task)}
        text = f"Session started with PID {pid}"
        self._status(task.task_id, "started", text, details | {"actual_uuid": stored}, now + 0.1)
        self.log(now, "tasks.manager", f"Updated task {task.task_id}: status=running, pid={pid}")
        return task

    def add_activity(
        self, task: Task, message: str, output_lines: int | None = None, *, at: float | None = None
    ) -> None:
        """Append to the task's activity log, which AMIGA rewrites whole; moves updated_at."""
        now = self._time(at)
        entry: dict[str, object] = {"timestamp": self.stamp(now), "message": message}
        if output_lines is not None:
            entry["output_lines"] = output_lines
        task.activity.append(entry)
        self._change(task, now, activity_log=json.dumps(task.activity))

    def complete_task(self, task: Task, result: str = "Done.", *, at: float | None = None) -> None:
        """The task ended well."""
        now = self._time(at)
        self.add_activity(task, f"Completed in {now - (task.started or task.created):.0f}s", at=now)
        self._end(task, "completed", None, now, result=result)
        self._status(task.task_id, "completed", "Task completed successfully", None, now)

    def fail_task(self, task: Task, error: str = NO_OUTPUT, *, at: float | None = None) -> None:
        """The task failed. AMIGA's monitor (`[dead_process]`, `[timeout]`) leaves no agent_status row."""
        now = self._time(at)
        self._end(task, "failed", error, now)
        if not error.startswith("["):
            self._status(task.task_id, "failed", error, None, now)

    def stop_task(
        self, task: Task, error: str = STOPPED, *, then_fails: bool = False, at: float | None = None
    ) -> None:
        """The task was stopped; with `then_fails`, AMIGA overwrites that 9 ms later as it usually does.

        The truth keeps `stopped` either way.
        """
        now = self._time(at)
        self._end(task, "stopped", error, now)
        self._status(task.task_id, "stopped", STOPPED, None, now)
        if then_fails:
            self._change(task, now + OVERWRITE_S, status="failed", error=NO_OUTPUT)
            self._status(task.task_id, "failed", NO_OUTPUT, None, now + OVERWRITE_S)

    def set_status(self, task: Task, word: str, *, at: float | None = None) -> None:
        """Any status word, also one that nobody knows."""
        task.status = word
        self._change(task, self._time(at), status=word)

    def restart(self, *, killed: bool = False) -> None:
        """AMIGA goes down and comes back: what ran is stopped, what waited waits for ever."""
        self.kill() if killed else self.close()
        self.open(self.clock())
        self.stop_running(RESTARTED)

    def stop_running(self, error: str, *, at: float | None = None) -> None:
        """Mark every running task stopped, also those of an earlier run that we know only from the file."""
        now = self._time(at)
        for (task_id,) in self.con.execute("SELECT task_id FROM tasks WHERE status = 'running'").fetchall():
            known = self.tasks.get(task_id)
            if known is not None:
                self._end(known, "stopped", error, now)
            else:
                values = {"status": "stopped", "error": error, "updated_at": self.stamp(now)}
                self.update("tasks", "task_id", task_id, values)

    def swap_database(self) -> None:
        """Put a new, empty database in the place of the old; the truth starts anew with it."""
        self.remove_database()
        self.tasks.clear()
        self.calls.clear()
        self.open(self.clock())

    # -- tools ------------------------------------------------------------------------------------------

    def start_tool(
        self,
        owner: Task | str,
        tool: str = "Bash",
        parameters: Mapping[str, Any] | None = None,
        *,
        by_session: bool = False,
        half_line: bool = False,
        at: float | None = None,
    ) -> Call:
        """A tool starts. `owner` is a task, or the uuid of a session that was started by hand.

        `by_session`: AMIGA cannot tell the task (no TASK_ID in the hook's environment), so rows carry the
        session's uuid. `half_line`: the hook line is still being written; see `finish_hook_line`.
        """
        now = self._time(at)
        task = owner if isinstance(owner, Task) else None
        session = owner.session if isinstance(owner, Task) else owner
        task_id = None if task is None or by_session else task.task_id
        given = {"command": "pytest -q"} if parameters is None else parameters
        call = Call(next(self._numbers), task_id or session, session, task, tool, given, started=now)
        self.calls.append(call)
        line: dict[str, object] = {
            "timestamp": utc_stamp(now),
            "tool": tool,
            "parameters": given,
            "status": "starting",
        }
        line |= {"task_id": task_id, "session_uuid": session}
        self.append_hook_line(session, line, half=half_line)
        if self.hook_only:
            call.recorded = False
            return call
        call.row_ids.append(self._tool_row(call, now))
        if self.rows_per_call > 1:
            call.row_ids.append(self._tool_row(call, now + REPORT_S))
        return call

    def end_tool(
        self,
        call: Call,
        *,
        ok: bool = True,
        error: str | None = None,
        tokens: tuple[int, int] | None = None,
        at: float | None = None,
    ) -> None:
        """The tool answered. Not before the start's last row, for the tool runs after its hook."""
        earliest = call.started + (REPORT_S if len(call.row_ids) > 1 else 0)
        call.ended, call.ok = max(self._time(at), earliest), ok
        call.error = None if ok else error or "Error: String not found"
        call.tokens = tokens
        if not call.recorded or self.hook_only:
            call.recorded = False
            return
        finished = {
            "success": ok,
            "error": call.error,
            "error_category": None if call.error is None else category(call.error),
            "input_tokens": tokens[0] if tokens else None,
            "output_tokens": tokens[1] if tokens else None,
        }
        open_row = None if self.rows_per_call == 4 else self._newest_open_row(call)  # noqa: PLR2004 - a mode
        if open_row is None:
            call.row_ids.append(self._tool_row(call, call.ended, finished))
        else:
            self.update("tool_usage", "id", open_row, finished)
        if self.status_rows:
            details = {"tool": call.tool, "success": ok}
            self._status(call.key, "tool_call", f"{call.tool} completed", details, call.ended)
        self._advance_phase(call)
        if self.rows_per_call > 1:
            no_tokens = finished | {"input_tokens": None, "output_tokens": None}
            call.row_ids.append(self._tool_row(call, call.ended + REPORT_S / 2, no_tokens))

    def add_message(
        self,
        role: str,
        content: str,
        *,
        user_id: int | str = 123456789,
        tokens: tuple[int, int] | None = None,
        model: str | None = None,
        at: float | None = None,
    ) -> None:
        """A line of the web chat: a row of `messages`, and sessions.json rewritten."""
        now = self._time(at)
        row = {
            "user_id": user_id,
            "timestamp": self.stamp(now),
            "role": role,
            "content": content,
            "tokens_input": tokens[0] if tokens else None,
            "tokens_output": tokens[1] if tokens else None,
            "input_method": "text",
            "has_image": 0,
            "model": model,
        }
        self.insert("messages", row)
        self.add_chat(user_id, "default", role, content, now)

    def date_hook_logs(self) -> None:
        """Give every hook log the time of its last line, for a history that was written in one go."""
        last = {call.session: call.started for call in self.calls}
        for session, at in last.items():
            set_file_time(self.hook_log(session), at)

    def new_uuid(self) -> str:
        """A uuid that depends on the seed alone."""
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    # -- within -----------------------------------------------------------------------------------------

    def _time(self, at: float | None) -> float:
        return self.clock() if at is None else at

    def _new_task_id(self) -> str:
        while True:  # AMIGA's insert fails on a collision; a play goes on
            task_id = f"{self.rng.getrandbits(24):06x}"
            if not self.con.execute("SELECT 1 FROM tasks WHERE task_id = ?", (task_id,)).fetchone():
                return task_id

    def _requested(self, task: Task) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"agentlab.task.{task.task_id}"))

    def _change(self, task: Task, now: float, **values: object) -> None:
        self.update("tasks", "task_id", task.task_id, values | {"updated_at": self.stamp(now)})

    def _end(self, task: Task, status: str, error: str | None, now: float, **values: object) -> None:
        task.status, task.error, task.ended = status, error, now
        self._change(task, now, status=status, error=error, **values)
        if not self.remember_ended:
            self.tasks.pop(task.task_id, None)
            self.calls = [call for call in self.calls if call.task is not task and call.ended is None]
        self.log(now, "tasks.manager", f"Updated task {task.task_id}: status={status}, pid={task.pid}")

    def _status(
        self, key: str, status: str, message: str, details: Mapping[str, object] | None, now: float
    ) -> None:
        row = {"timestamp": self.stamp(now), "task_id": key, "status": status, "message": message}
        self.insert("agent_status", row | {"metadata": json.dumps(details) if details else None})

    def _tool_row(self, call: Call, now: float, values: Mapping[str, object] | None = None) -> int:
        how: Stamps = self.rng.choice(("local", "utc")) if self.stamps == "mixed" else self.stamps
        row = {"timestamp": self.stamp(now, how), "task_id": call.key, "tool_name": call.tool}
        return self.insert("tool_usage", row | {"parameters": stored(call.parameters)} | dict(values or {}))

    def _newest_open_row(self, call: Call) -> int | None:
        """What AMIGA's post hook takes for its start: the newest by text, whichever call's it is."""
        row = self.con.execute(
            "SELECT id FROM tool_usage INDEXED BY idx_tool_task"  # left alone, SQLite walks the time index
            " WHERE task_id = ? AND tool_name = ? AND success IS NULL ORDER BY timestamp DESC, id DESC LIMIT 1",
            (call.key, call.tool),
        ).fetchone()
        return None if row is None else int(row[0])

    def _advance_phase(self, call: Call) -> None:
        """After a Task tool: the phase number is the count of Task ROWS so far, so it grows too fast."""
        if call.tool != "Task" or not call.ok or call.task is None or call.key != call.task.task_id:
            return
        agent = call.parameters.get("subagent_type", "unknown")
        (rows,) = self.con.execute(
            "SELECT count(*) FROM tool_usage INDEXED BY idx_tool_task WHERE task_id = ? AND tool_name = 'Task'",
            (call.key,),
        ).fetchone()
        self._change(
            call.task,
            call.ended or call.started,
            current_phase=agent,
            phase_number=rows,
            last_agent_type=agent,
        )
