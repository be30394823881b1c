"""The same tool with the same arguments again and again: an agent that goes in circles.

Looked up in the file for who is at work, when something new has come in; arguments are compared, not kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from amiga_ws.collectors.amiga.database import Database

if TYPE_CHECKING:
    from amiga_ws.collectors.amiga.model import Model

LOOP_CALLS = 5
MAX_OWNERS = 12  # AMIGA runs three tasks at a time
POLLS = frozenset({"BashOutput", "TaskOutput"})  # ask what a background shell or agent has said since
RECENT_S = 900.0
EVERY_S = 3.0
_ROWS = 64  # newest rows of a task looked at: 16 calls at up to 4 rows


class Loop(NamedTuple):
    """One call, made again and again."""

    tool: str
    calls: int
    since: float  # epoch
    whole: bool  # its beginning was seen; else there were at least so many calls


class Loops:
    """`found` holds the loops by owner."""

    def __init__(self) -> None:
        self.found: dict[str, Loop] = {}
        self.waiting = False  # something new came in and has not been looked at yet
        self._looked = float("-inf")
        self._seen: dict[str, tuple[int, int]] = {}  # (calls, open calls) of an owner when last looked at

    def look(self, database: Database, model: Model, now: float) -> None:
        """Bring `found` up to date, every few seconds."""
        self.waiting = 0 < now - self._looked < EVERY_S
        if self.waiting:
            return
        self._looked = now
        looked: set[str] = set()
        for owner in model.calls.newest_owners()[:MAX_OWNERS]:
            if not at_work(model, owner.key, now):
                continue
            looked.add(owner.key)
            state = (owner.calls, len(owner.open))
            if owner.calls + len(owner.open) < LOOP_CALLS or self._seen.get(owner.key) == state:
                continue
            self._seen[owner.key] = state
            run = self._run(database, owner.key, ends=model.tail.has("agent_status"))
            known = self.found.pop(owner.key, None)
            if run is None or run[1] < LOOP_CALLS:
                continue
            tool, calls, first, whole = run
            when = model.tail.parse(first)
            if not whole and known is not None and known.tool == tool:
                when = known.since  # the rows of the last look are among those of this one
            self.found[owner.key] = Loop(tool, calls, owner.first if when is None else when, whole)
        for key in [key for key in self._seen if key not in looked]:
            del self._seen[key]
            self.found.pop(key, None)

    def current(self, model: Model, now: float) -> dict[str, Loop]:
        """What was found of those who are still at work: time ends a loop too, without anything new."""
        return {key: run for key, run in self.found.items() if at_work(model, key, now)}

    @staticmethod
    def _run(database: Database, key: str, *, ends: bool) -> tuple[str, int, object, bool] | None:
        """(tool, calls, timestamp of the first, whether it is the first) of the equal calls at the end.

        `ends`: the file has status rows, which tell of the calls that have ended.
        """
        for limit in (LOOP_CALLS, _ROWS):  # mostly a few rows tell that there is no loop
            rows = database.query(
                "SELECT tool_name, parameters, timestamp, success FROM tool_usage"
                " WHERE task_id = ? ORDER BY id DESC LIMIT ?",
                (key, limit),
            )
            if not rows:
                return None
            tool, parameters = rows[0][:2]
            length = next((i for i, row in enumerate(rows) if row[:2] != (tool, parameters)), len(rows))
            if parameters is None or length < LOOP_CALLS or tool in POLLS:
                return None
        first = rows[length - 1][2]
        ended = 0
        if ends:
            ended = database.query(
                "SELECT count(*) FROM (SELECT message, timestamp FROM agent_status WHERE task_id = ?"
                " AND status = 'tool_call' ORDER BY id DESC LIMIT ?) WHERE message = ? AND timestamp >= ?",
                (key, _ROWS, f"{tool} completed", first),
            )[0][0]
        # Without status rows every equal row may be a call of its own, or a quarter of one.
        calls = int(ended) or length // 3
        return str(tool), calls + (rows[0][3] is None and bool(ended)), first, length < _ROWS


def at_work(model: Model, key: str, now: float) -> bool:
    """Whether a task or session runs and showed a sign lately."""
    record, owner = model.task_of(key), model.calls.owners.get(key)
    return (
        owner is not None and now - owner.last <= RECENT_S and (record is None or record.status == "running")
    )
