"""AMIGA acted out step by step: tasks, tool calls, chats, and the faults it is known for.

Every step takes its time from the given clock (or from `at`) and writes what AMIGA's server and hooks
would have left on disk. `tasks` and `calls` hold what really happened, to compare a reader with.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

from amiga_ws.simulate.hooks import HookSide
from amiga_ws.simulate.truth import Task

OVERWRITE_S = 0.009  # a stopped task is marked failed this much later
NO_OUTPUT = "Claude produced no output. The task may have failed silently or timed out."
STOPPED = "Task stopped by user"
RESTARTED = "Task stopped due to bot restart"


class Simulator(HookSide):
    """One AMIGA under `root`, opened at once: HookSide's constructor, tools and truth, and the server's steps."""

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
        """Write a pending task (or one of any status word). Raises apsw.ConstraintError on a used id."""
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
            known = self.tasks.get(str(task_id))
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

    # -- within -----------------------------------------------------------------------------------------

    def _new_task_id(self) -> str:
        while True:  # AMIGA's insert fails on a collision; a play goes on
            task_id = f"{self.rng.getrandbits(24):06x}"
            if not self.con.execute("SELECT 1 FROM tasks WHERE task_id = ?", (task_id,)).fetchone():
                return task_id

    def _requested(self, task: Task) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"agentlab.task.{task.task_id}"))

    def _end(self, task: Task, status: str, error: str | None, now: float, **values: object) -> None:
        task.status, task.error, task.ended = status, error, now
        self._change(task, now, status=status, error=error, **values)
        if not self.remember_ended:
            self.tasks.pop(task.task_id, None)
            self.calls = [call for call in self.calls if call.task is not task and call.ended is None]
        self.log(now, "tasks.manager", f"Updated task {task.task_id}: status={status}, pid={task.pid}")
