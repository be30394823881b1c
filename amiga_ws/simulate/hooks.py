"""The hooks' side of a simulated AMIGA: what every tool call leaves behind.

A call leaves, in the table `tool_usage` (`rows_per_call`):
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
from amiga_ws.simulate.installation import Installation, Stamps, set_file_time, utc_stamp
from amiga_ws.simulate.stored import category, stored
from amiga_ws.simulate.truth import Call, Task

REPORT_S = 0.1  # from a hook's own row to the row its report to the server makes


class HookSide(Installation):
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
        self.tasks: dict[str, Task] = {}  # filled by the server's side
        self.calls: list[Call] = []
        self.remember_ended = True  # False: a play without end keeps no truth of what is over
        self._numbers = itertools.count()
        self.open(clock())

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

    def _change(self, task: Task, now: float, **values: object) -> None:
        self.update("tasks", "task_id", task.task_id, values | {"updated_at": self.stamp(now)})

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
        rows = self.con.execute(
            "SELECT count(*) FROM tool_usage INDEXED BY idx_tool_task WHERE task_id = ? AND tool_name = 'Task'",
            (call.key,),
        ).get
        self._change(
            call.task,
            call.ended or call.started,
            current_phase=agent,
            phase_number=rows,
            last_agent_type=agent,
        )
