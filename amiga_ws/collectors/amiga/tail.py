"""Follows the database: what is new by row id, and what was changed in place where that can be.

The first reading is the same as every later one, only longer: it goes on in slices, call by call, until
all is read. Rows older than eight days are left alone, but for the tokens in them (costs.py) and how tasks ended.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import operator
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from amiga_ws.collectors.amiga.calls import Calls
from amiga_ws.collectors.amiga.costs import Costs
from amiga_ws.collectors.amiga.database import Database, Row, id_list
from amiga_ws.collectors.amiga.events import Events, ToolEvent
from amiga_ws.collectors.amiga.groups import Sign
from amiga_ws.collectors.amiga.tasks import COLUMNS, ENDED, Tasks
from amiga_ws.collectors.amiga.times import AHEAD_S, Times

logger = logging.getLogger(__name__)

HORIZON_S = 8 * 86400.0  # the widest window and a day
CHUNK_ROWS = 4_000  # rows per query; with their Python objects about 4 MB
SLICE_S = 0.35  # of work per reading while loading: a reading has a deadline of 0.8 s
PROGRESS_EVERY_S = 2.0
MARK_ROWS = 200_000  # old status rows looked through per query
TASK_ROWS = 1_000
SWEEP_ROWS = 60  # known tasks looked at again per reading
ASIDE_EVERY = 4  # readings: so often that is done while rows come in, and so are messages read in a flood
FLOOD_ROWS = 60  # more than these in a reading are one
LAST_ROWID = (1 << 63) - 1  # there can be (SQLite)
AT_WORK_LIMIT = 400  # tasks read again at each change
NEAR_ROWS = 40  # at most so many rows that stayed as they were are read with those at work


_TIME = operator.itemgetter(0)  # of a Sign or ToolEvent


class Tail:
    """One database file from the first row that matters to the newest."""

    def __init__(
        self,
        times: Times,
        calls: Calls,
        tasks: Tasks,
        costs: Costs,
        events: Events,
        owners_of: Callable[[str], Iterable[str]],
    ) -> None:
        self.caught_up = False
        self.settled = False  # nothing left to look at until the file changes
        self.since = float("-inf")  # what is new was written after this; set before each reading
        self._latest = float("inf")  # what is later counts as this; set at each reading
        self.loaded_rows = 0
        self.parse = times.parse
        self._times = times
        self._calls = calls
        self._tasks = tasks
        self._costs = costs
        self._events = events
        self._owners_of = owners_of  # a task's id and its sessions
        self._columns: dict[str, frozenset[str]] = {}
        self._file_stamp: tuple[int, ...] = ()  # of the file when it was last known to be the same
        self._schema = -1  # SQLite's own counter of schema changes
        self._same_sql = ""
        self._tool_sql = ""
        self._told_sql = ""  # what may be known of a row later
        self._task_sql = ""
        self._last = {"tool_usage": 0, "agent_status": 0}
        self._first = {"tool_usage": 0, "agent_status": 0}
        self._written = {"tool_usage": float("-inf"), "agent_status": float("-inf")}  # time of the last row
        self._born: object = None  # when AMIGA made this file, to the microsecond
        self._witness: Row | None = None  # of the last tool row read: is it still the same file?
        # In the order of reading: a call whose end is known has its row completed when that is read.
        self._buffers: dict[str, list[Sign]] = {"agent_status": [], "tool_usage": []}
        self._marked: set[str] = set()  # tasks with a new ending, to be read again
        self._mark_id = 0  # old status rows below this are still to be looked through
        self._task_rowid = 0  # newest task row read
        self._put_off = 0  # readings since all was looked at that is put off while rows come in
        self._messages_since = math.inf  # what is new among the messages was written after this
        self._sweep_rowid = 0
        self._sweep_left = 0  # readings that the current round of looking at known tasks still takes
        self._started = time.monotonic()
        self._reported = float("-inf")  # monotonic; when progress was last logged
        self._begun = False

    def read(self, database: Database, now: float) -> bool:
        """Read on; False if the file turned out to be another one, so that all must begin anew."""
        if not self._begun:
            self._begin(database, now)
        else:
            self._look_at_schema(database)
            if database.file_stamp != self._file_stamp and not self._is_same(database):
                return False
        self._file_stamp = database.file_stamp
        until = time.monotonic() + SLICE_S
        self._latest = now + AHEAD_S
        read_before, rows_before = self._last["tool_usage"], self.loaded_rows
        done = self._read_marks(database, until)
        done = done and self._read_rows(database, until)
        new_rows = self.loaded_rows - rows_before
        self._put_off += 1
        in_turn = self._put_off >= ASIDE_EVERY
        # What is put off was written after the reading before it.
        self._messages_since = min(self._messages_since, self.since)
        if in_turn or new_rows <= FLOOD_ROWS or not self.caught_up:
            done = done and self._costs.read(database, now, until, self._messages_since)
            if done:
                self._messages_since = math.inf
        self._recheck(database, read_before)
        done = done and self._read_tasks(database, until)
        if not done:
            self._report_progress()
            return True
        if not self.caught_up:
            self._report_loaded()
            self.caught_up = True
        if in_turn or not new_rows:
            self._put_off = 0
            self._sweep(database)
        self._calls.flush()
        return True

    def note_change(self) -> None:
        """The file changed: known tasks are worth another round."""
        self._sweep_left = 1 + len(self._tasks.by_id) // SWEEP_ROWS
        self.settled = False

    def has(self, table: str) -> bool:
        """Whether the file had this table when it was first read."""
        return bool(self._columns.get(table))

    # -- beginning -----------------------------------------------------------------------------

    def _begin(self, database: Database, now: float) -> None:
        self._look_at_schema(database)
        if self._columns["tool_usage"]:
            self._born = database.query(self._same_sql)[0][2]
        for table in self._last:
            self._last[table] = self._horizon(database, table, now)
            self._first[table] = self._last[table]
        self._mark_id = self._last["agent_status"]
        self._costs.begin(database, now, self._last["tool_usage"])
        self._begun = True

    def _look_at_schema(self, database: Database) -> None:
        """Which columns there are; again when AMIGA has changed its schema while we watch."""
        version = int(database.query("PRAGMA schema_version")[0][0])
        if version == self._schema:
            return
        for table in ("tasks", "tool_usage", "agent_status", "messages", "schema_version"):
            self._columns[table] = database.columns(table)
        self._schema = version
        self._costs.use(self._columns)
        category = "error_category" if "error_category" in self._columns["tool_usage"] else "NULL"
        born = "SELECT applied_at FROM schema_version ORDER BY version LIMIT 1"
        self._same_sql = (
            # Questions of their own, for SQLite looks max and min up one by one and scans for both together.
            "SELECT (SELECT max(id) FROM tool_usage), (SELECT min(id) FROM tool_usage),"  # noqa: S608 - constants
            f" ({born if 'applied_at' in self._columns['schema_version'] else 'NULL'}),"
            f" ({'SELECT max(id) FROM agent_status' if self._columns['agent_status'] else '0'}),"
            f" ({'SELECT max(id) FROM messages' if self._columns['messages'] else '0'})"
        )
        told = f"success, CASE WHEN success = 0 THEN substr(error, 1, 300) END, {category}, {self._costs.has_tokens}"
        self._tool_sql = f"SELECT id, timestamp, task_id, tool_name, {told} FROM tool_usage"  # noqa: S608 - names from here
        self._told_sql = f"SELECT id, {told} FROM tool_usage"  # noqa: S608 - names from here
        shown = [
            f"substr({name}, 1, 2000)"
            if name in ("description", "error")
            else name
            if name in self._columns["tasks"]
            else "NULL"
            for name in COLUMNS
        ]
        self._task_sql = f"SELECT rowid, {', '.join(shown)} FROM tasks"  # noqa: S608 - names from this module

    def _horizon(self, database: Database, table: str, now: float) -> int:
        """The id after which rows can matter: all up to it are older than eight days."""
        if not self._columns[table]:
            return 0
        # A day more for the two ways of writing times; ten characters are a date in all of them.
        oldest = self._times.text(now - HORIZON_S - 86400)[:10]
        found = database.query(f"SELECT min(id) FROM {table} WHERE timestamp >= ?", (oldest,))  # noqa: S608 - as below
        if found and found[0][0] is not None:
            return int(found[0][0]) - 1
        newest = database.query(f"SELECT max(id) FROM {table}")  # noqa: S608 - a name from this module
        return int(newest[0][0] or 0)

    def _is_same(self, database: Database) -> bool:
        """The newest rows that we know must still be there; the oldest ones somebody may have deleted.

        A restored backup keeps the inode, and a new file may get the one that was just set free.
        """
        if not self._columns["tool_usage"]:
            return True
        last = self._last["tool_usage"]
        newest, oldest, born, status, message = database.query(self._same_sql)[0]
        if born != self._born or (newest or 0) < last:
            return False
        if (status or 0) < self._last["agent_status"] or (message or 0) < self._costs.message_id:
            return False
        if self._witness is None:
            return not (oldest or 0) > self._first["tool_usage"] + 1 > 1
        found = database.query("SELECT timestamp, task_id, tool_name FROM tool_usage WHERE id = ?", (last,))
        return found == [self._witness]

    # -- calls ---------------------------------------------------------------------------------

    def _read_marks(self, database: Database, until: float) -> bool:
        """The endings among the status rows before the horizon: how old tasks really ended."""
        while self._mark_id > 0:
            after = max(0, self._mark_id - MARK_ROWS)
            rows = database.query(
                "SELECT task_id, status, timestamp FROM agent_status WHERE id > ? AND id <= ?"
                " AND status IN ('completed', 'failed', 'stopped')",
                (after, self._mark_id),
            )
            for task_id, status, stamp in rows:
                when = self._times.parse(stamp)
                if when is not None:
                    self._tasks.marks.add(str(task_id), status, min(when, self._latest))
            # The next row there is: ids may have gaps of any size.
            self._mark_id = (
                database.query("SELECT max(id) FROM agent_status WHERE id <= ?", (after,))[0][0] or 0
            )
            if time.monotonic() > until:
                break
        return self._mark_id <= 0

    def _read_rows(self, database: Database, until: float) -> bool:
        """New rows of both tables in the order of their times, for an end must meet its start."""
        more = [table for table in self._buffers if self._columns[table]]
        while True:
            for table in tuple(more):
                while not self._buffers[table] and table in more:
                    if not self._fetch(database, table):
                        more.remove(table)
                    elif not self._buffers[table] and time.monotonic() > until:
                        return False  # status rows that tell of no call
            if not any(self._buffers.values()):
                return True
            self._feed(more)
            if time.monotonic() > until:  # after some work, however slow the machine is
                return False

    def _feed(self, more: Collection[str]) -> None:
        """Take in what is buffered, but for rows later than what tables with `more` rows have told yet."""
        known = min((self._buffers[table][-1][0] for table in more if self._buffers[table]), default=math.inf)
        ready: list[Sign] = []
        for buffer in self._buffers.values():
            later = [sign for sign in buffer if sign[0] > known] if known < math.inf else []
            ready += [sign for sign in buffer if sign[0] <= known] if later else buffer
            buffer[:] = later
        ready.sort(key=_TIME)  # two ascending runs, which sort() merges in C
        self._calls.take(ready)

    def _fetch(self, database: Database, table: str) -> bool:
        """Read one chunk into the table's buffer; False if it was the last."""
        sql = self._tool_sql
        if table == "agent_status":
            sql = "SELECT id, timestamp, task_id, status, message, metadata FROM agent_status"
        rows = database.query(
            f"{sql} WHERE id > ? ORDER BY id LIMIT ?",
            (self._last[table], CHUNK_ROWS),
        )
        if not rows:
            return False
        self._last[table] = rows[-1][0]
        if table == "tool_usage":
            self._witness = rows[-1][1:4]
        timed, times = self._times.timed(rows, 1, self._written[table], self.since)
        if times:
            self._written[table] = times[-1]
            if max(times) > self._latest:
                times = [min(when, self._latest) for when in times]
            if table == "tool_usage":
                self._take_rows(database, times, timed)
            else:
                self._take_ends(times, timed)
        self.loaded_rows += len(rows)
        return len(rows) == CHUNK_ROWS

    def _take_rows(self, database: Database, times: list[float], rows: Sequence[Row]) -> None:
        """Rows of tool_usage."""
        ids, _, owners, tools, successes, errors, categories, has_tokens = zip(*rows, strict=True)
        named = zip(_texts(owners), _texts(tools), strict=True)
        self._buffers["tool_usage"] += zip(times, named, ids, successes, errors, categories, strict=True)
        self._calls.latest_row = max(self._calls.latest_row, times[-1])
        self._costs.read_tool_rows(
            database, dict(itertools.compress(zip(ids, times, strict=True), has_tokens))
        )

    def _take_ends(self, times: list[float], rows: Sequence[Row]) -> None:
        """Rows of agent_status: what they tell of the ends of calls and tasks."""
        ended: list[ToolEvent] = []
        for when, (_, _, owner, status, message, metadata) in zip(times, rows, strict=True):
            if status == "tool_call":
                tool = str(message or "unknown").removesuffix(" completed")
                ended.append((when, str(owner), tool, succeeded(metadata)))
            elif status in ENDED:
                self._tasks.marks.add(str(owner), status, when)
                self._marked.add(str(owner))
        self._buffers["agent_status"] += [
            (when, (owner, tool), None, ok, None, None) for when, owner, tool, ok in ended
        ]
        ended.sort(key=_TIME)  # the last ones are kept
        self._events.tools(ended)

    def _recheck(self, database: Database, read_before: int) -> None:
        """Open rows that may have been completed in place since they were read: not those just read."""
        wanted = self._calls.to_recheck(read_before)
        if not wanted:
            return
        rows = database.query(f"{self._told_sql} WHERE id IN ({id_list(wanted)}) AND success IS NOT NULL")
        with_tokens: dict[int, float] = {}
        for row_id, success, error, category, has_tokens in rows:
            when = self._calls.flip(*wanted[row_id], row_id, success, (error, category))
            if has_tokens and when is not None:
                with_tokens[row_id] = when
        self._costs.read_tool_rows(database, with_tokens)

    # -- tasks ---------------------------------------------------------------------------------

    def _read_tasks(self, database: Database, until: float) -> bool:
        """New ones, and again those at work and those that agent_status speaks of; False if there are more."""
        if not self._columns["tasks"]:
            self._marked.clear()
            return True
        by_id = self._tasks.by_id
        at_work = itertools.islice(self._tasks.at_work, AT_WORK_LIMIT)
        again = dict.fromkeys(itertools.chain((one for one in self._marked if one in by_id), at_work))
        # With the newest row that is known, for it may be another's by now: SQLite gives the newest ids anew. And with
        # those to read again that lie near it, as most do: a query of their own costs more than some rows that stayed.
        near = [rowid for one in again if (rowid := by_id[one].rowid) > self._task_rowid - NEAR_ROWS]
        first = min([*near, self._task_rowid])
        while True:
            rows = database.query(
                f"{self._task_sql} WHERE rowid >= ? ORDER BY rowid LIMIT ?",
                (first, TASK_ROWS),
            )
            self._put(rows)
            for row in rows:
                again.pop(row[1], None)
            if rows:
                first = self._task_rowid = rows[-1][0]
            elif self._task_rowid:  # deleted, and perhaps some before it; more than a few the sweep finds
                newest = database.query("SELECT max(rowid) FROM tasks")[0][0] or 0
                first = self._task_rowid = max(0, newest - SWEEP_ROWS)
                continue
            if len(rows) < TASK_ROWS:
                break
            if time.monotonic() > until:
                return False
        left = list(again)
        for at in range(0, len(left), 200):
            part = left[at : at + 200]
            marks = ",".join("?" * len(part))
            self._put(database.query(f"{self._task_sql} WHERE task_id IN ({marks})", part))
        self._marked.clear()
        return True

    def _sweep(self, database: Database) -> None:
        """Look at some of the other tasks: any may be changed, or deleted, by hand."""
        if self._sweep_left <= 0 or not self._columns["tasks"]:
            self.settled = True
            return
        self._sweep_left -= 1
        after = self._sweep_rowid
        rows = database.query(
            "SELECT rowid, status, updated_at FROM tasks WHERE rowid > ? ORDER BY rowid LIMIT ?",
            (after, SWEEP_ROWS),
        )
        upto = rows[-1][0] if len(rows) == SWEEP_ROWS else LAST_ROWID
        known = self._tasks.stamps(after, upto)
        different = [row[0] for row in rows if known.pop(row[0], None) != (row[1], row[2])]
        for rowid in known:  # what is left was not found in the file
            gone = self._tasks.drop(rowid)
            if gone is not None:
                self._calls.reconsider(self._owners_of(gone.task_id))
        if different:
            sql = f"{self._task_sql} WHERE rowid IN ({id_list(different)})"
            self._put(database.query(sql))
        self._sweep_rowid = upto if len(rows) == SWEEP_ROWS else 0

    def _put(self, rows: Sequence[Row]) -> None:
        for row in rows:
            marked = str(row[1]) in self._marked
            record = self._tasks.put(row[0], row[1:], marked=marked, since=self.since, latest=self._latest)
            if record is not None:
                self._events.task(record)
                self._calls.reconsider(self._owners_of(record.task_id))

    # -- progress ------------------------------------------------------------------------------

    def _report_progress(self) -> None:
        if time.monotonic() - self._reported >= PROGRESS_EVERY_S:
            self._reported = time.monotonic()
            logger.info("reading AMIGA's history: %d rows so far", self.loaded_rows)

    def _report_loaded(self) -> None:
        logger.info(
            "read AMIGA's history: %d rows, %d tasks in %.1f s",
            self.loaded_rows,
            len(self._tasks.by_id),
            time.monotonic() - self._started,
        )


def _texts(values: Sequence[Any]) -> Sequence[str]:
    """The values as texts, which all are but for what AMIGA did not write."""
    return values if set(map(type, values)) == {str} else [str(value) for value in values]


def succeeded(metadata: Any) -> bool:  # noqa: ANN401 - whatever the column holds
    """What a `tool_call` row says of the call; one that says nothing is taken for a success."""
    if not isinstance(metadata, str):
        return True
    if '"success": true' in metadata:  # as json.dumps writes it
        return True
    if metadata.endswith('"success": false}'):
        return False
    try:
        value = json.loads(metadata)
    except (ValueError, RecursionError):
        return True
    return not isinstance(value, dict) or bool(value.get("success", True))
