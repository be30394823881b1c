"""All that is known of one AMIGA installation, kept up to date from its files."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from pathlib import Path

from amiga_ws.collectors.amiga.calls import Calls
from amiga_ws.collectors.amiga.costs import Costs
from amiga_ws.collectors.amiga.database import Database
from amiga_ws.collectors.amiga.events import Events
from amiga_ws.collectors.amiga.hooks import HookLogs, HookSession
from amiga_ws.collectors.amiga.ledger import Ledger
from amiga_ws.collectors.amiga.loops import Loops
from amiga_ws.collectors.amiga.options import AmigaConfig
from amiga_ws.collectors.amiga.prices import PriceTable
from amiga_ws.collectors.amiga.tail import HORIZON_S, Tail
from amiga_ws.collectors.amiga.tasks import ENDED, TaskRecord, Tasks
from amiga_ws.collectors.amiga.times import Times
from amiga_ws.collectors.amiga.transcripts import Transcripts
from amiga_ws.collectors.amiga.windows import window_start
from amiga_ws.snapshot import Task

IDLE_S = 1800.0  # a session without a task is over after this, as AMIGA sees it
PRUNE_EVERY_S = 3600.0
OLD_EVERY_S = 5.0
OLD_COUNTS = 500


class Model:
    """One database file's content, with the hook logs and transcripts around it.

    `revision` grows with every change that a reader could see.
    """

    def __init__(self, config: AmigaConfig, times: Times, hooks: HookLogs) -> None:
        self.revision = 0
        self.hooks = hooks
        self.calls = Calls()
        self.tasks = Tasks(times)
        self.events = Events()
        self.loops = Loops()
        self.ledger = Ledger(PriceTable(config.prices), times, config.budget, config.currency)
        usage: Path = config.database.parent / "usage.json"
        self.costs = Costs(self.ledger, times, usage)
        self.transcripts = (
            None if config.transcripts is None else Transcripts(config.transcripts, times, self.ledger)
        )
        self.tail = Tail(times, self.calls, self.tasks, self.costs, self.events, self.owners_of)
        self.dead_tasks: frozenset[str] = frozenset()  # running ones whose process is gone
        # What view.py made of tasks, each with its record; good until something happens to one.
        self.shown_tasks: dict[str, tuple[TaskRecord, Task]] = {}
        self.old_calls: dict[
            str, tuple[int, int]
        ] = {}  # (calls, errors) of tasks older than what is in memory
        self.begins = float("-inf")  # what happened before is not in memory
        self._unrecorded: set[str] = set(hooks.sessions)  # see unrecorded()
        self._resolved_with: int | None = None  # how many transcripts there were; None before all is known
        self._summed = False
        self._pruned = float("-inf")
        self._counted = float("-inf")  # when tasks were last looked through for old ones

    @property
    def loaded(self) -> bool:
        """Whether everything that was there at the start has been read."""
        return self.tail.caught_up

    @property
    def settled(self) -> bool:
        """Whether nothing is left to look at until the file changes."""
        return self.tail.settled and not self.loops.waiting

    def read(self, database: Database, now: float) -> bool:
        """Read what is new; False if the database is another one than before."""
        self.begins = now - HORIZON_S
        if not self.tail.read(database, now):
            return False
        if self.loaded:
            self.loops.look(database, self, now)
            self._count_old(database, now)
        self.revision += 1
        return True

    def poll_files(self, now: float) -> None:
        """usage.json and transcripts, once the database is loaded; and what the hook logs have told since."""
        for task_id in self.hooks.moved:
            self.calls.reconsider(self.owners_of(task_id))
        changed = self.costs.read_usage(now)
        if self.transcripts is not None:
            changed = self.transcripts.poll(now) or changed
        if self.hooks.state == "loading" or not (self.transcripts is None or self.transcripts.complete):
            self._resolved_with = None
        else:
            sessions = 0 if self.transcripts is None else len(self.transcripts.sessions)
            learnt = {
                owner
                for task_id in self.hooks.moved | self.tasks.models_moved
                for owner in self.owners_of(task_id)
            }
            moved = learnt if sessions == self._resolved_with else None
            self._resolved_with = sessions
            self.tasks.models_moved.clear()
            changed = self.costs.resolve(self.model_of, self._has_transcript, moved) or changed
        self.revision += changed

    def settle(self, now: float) -> None:
        """Judge by the clock what is orphaned, and forget what is too old."""
        self.revision += self.calls.settle(lambda owner: self.has_ended(owner.key, owner.last, now))
        if not self._summed and self._resolved_with is not None:
            # Sums up hours and days once, so that the first viewer does not wait for it.
            self._summed = True
            self.calls.window(window_start(now, 168))
            self.tasks.window(window_start(now, 168))
            self.ledger.window(window_start(now, 168), now)
            gc.freeze()  # as after loading: what has been booked since stays too
        if now - self._pruned > PRUNE_EVERY_S or now < self._pruned:
            self._pruned = now
            self.calls.prune(now, HORIZON_S)
            self.tasks.prune(now)
            self.ledger.prune(now)
            self._unrecorded = set(self.hooks.sessions)  # for calls were forgotten
            self.revision += 1

    def has_ended(self, key: str, last: float, now: float) -> bool:
        """Whether nobody is left to end the open calls of a task or session that last moved at `last`."""
        record = self.task_of(key)
        if record is not None:
            if record.status in ENDED or record.task_id in self.dead_tasks:
                return True
            if record.status in ("running", "pending"):
                return False
        return now - last > IDLE_S

    def processes(self) -> list[tuple[str, int, float | None]]:
        """(task id, pid, when its row last moved) of the running tasks that have one."""
        return sorted(
            (record.task_id, record.pid, record.updated_at)
            for record in self.tasks.at_work.values()
            if record.status == "running" and record.pid is not None
        )

    def set_dead_tasks(self, task_ids: Iterable[str]) -> None:
        """Running tasks whose process is gone."""
        dead = frozenset(task_ids)
        if dead != self.dead_tasks:
            changed, self.dead_tasks = dead ^ self.dead_tasks, dead
            self.calls.reconsider([owner for one in changed for owner in self.owners_of(one)])
            self.revision += 1

    # -- who belongs to whom -------------------------------------------------------------------

    def task_of(self, key: str) -> TaskRecord | None:
        """The task behind tool_usage.task_id, which may be its own id or a session's."""
        record = self.tasks.by_id.get(key)
        if record is None and key in self.hooks.links:
            record = self.tasks.by_id.get(self.hooks.links[key])
        return record

    def owners_of(self, task_id: str) -> list[str]:
        """The task's id and the sessions that worked on it."""
        return [task_id, *self.hooks.sessions_of.get(task_id, ())]

    def model_of(self, key: str) -> str | None:
        """The model alias of the task behind a task id or session."""
        record = self.task_of(key)
        return None if record is None else record.model

    def unrecorded(self) -> list[HookSession]:
        """Sessions that the hook logs know and the database does not. Those it knows are asked for once."""
        self._unrecorded |= self.hooks.written
        self.hooks.written.clear()
        logs = [self.hooks.sessions.get(key) for key in self._unrecorded]
        found = [log for log in logs if log is not None and not self._has_rows(log)]
        self._unrecorded = {log.session_id for log in found}
        return found

    def drop_moved(self) -> None:
        """Forget what was made of the tasks to which anything has happened since the last call."""
        for moved in (self.calls.moved, self.ledger.moved, self.hooks.moved):
            for key in moved:
                record = self.task_of(key)
                if record is not None:
                    self.shown_tasks.pop(record.task_id, None)
            moved.clear()

    def last_sign(self, record: TaskRecord) -> float | None:
        """When anything of a task was last seen to move: its row, a tool, a hook line."""
        signs = [record.updated_at, record.created_at]
        for key in self.owners_of(record.task_id):
            owner = self.calls.owners.get(key)
            session = self.hooks.sessions.get(key)
            signs += [owner.last if owner else None, session.last if session else None]
        known = [sign for sign in signs if sign is not None]
        return max(known) if known else None

    def _has_rows(self, log: HookSession) -> bool:
        owners = self.calls.owners
        return log.session_id in owners or (log.task_id is not None and log.task_id in owners)

    def _has_transcript(self, key: str) -> bool:
        if self.transcripts is None:
            return False
        sessions = self.transcripts.sessions
        return key in sessions or any(one in sessions for one in self.hooks.sessions_of.get(key, ()))

    def _count_old(self, database: Database, now: float) -> None:
        """Calls of shown tasks that ended before what is kept in memory: counted once from the file."""
        if not self.tail.has("agent_status") or 0 <= now - self._counted < OLD_EVERY_S:
            return
        self._counted = now
        for count, record in enumerate(self.tasks.in_order()):
            if count >= 50:  # noqa: PLR2004 - as many as are shown
                break
            created = record.created_at
            if record.task_id in self.old_calls or created is None or now - created < HORIZON_S:
                continue
            calls, failed = database.query(
                "SELECT count(*), total(metadata LIKE '%\"success\": false%') FROM agent_status"
                " WHERE task_id = ? AND status = 'tool_call'",
                (record.task_id,),
            )[0]
            if len(self.old_calls) < OLD_COUNTS:
                self.old_calls[record.task_id] = (int(calls), int(failed))
                self.shown_tasks.pop(record.task_id, None)
