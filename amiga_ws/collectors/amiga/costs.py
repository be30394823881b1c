"""Where tokens are recorded, and which record counts when several tell of the same answer.

- Rows of the Task tool in tool_usage: a sub-agent's use. AMIGA may write one twice (the completed row and
  its report), so one per (task, parameters, tokens) counts, and none at all where Claude Code's own
  transcript of that session is read.
- Assistant rows in messages: AMIGA's chat.
- usage.json of older versions: the same chats again, so a record counts only if no message has its
  time and tokens, and only until one has.
- Claude Code's transcripts (transcripts.py), if a directory is configured: everything Claude Code did.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from amiga_ws.collectors.amiga.database import Database, id_list
from amiga_ws.collectors.amiga.files import read_regular
from amiga_ws.collectors.amiga.ledger import UNKNOWN_MODEL, Answer, Ledger
from amiga_ws.collectors.amiga.prices import Tokens
from amiga_ws.collectors.amiga.times import AHEAD_S, REPEATED_S, Times

logger = logging.getLogger(__name__)

HORIZON_S = 33 * 86400.0  # the longest sum is 30 days, a budget's month has 31
CHUNK_ROWS = 4_000
BACKLOG_IDS = 50_000  # old tool rows looked through per query
USAGE_LIMIT_BYTES = (
    8 << 20
)  # 55,000 chats; parsing it holds all threads for 0.05 s, for 0.2 s if it was made to
USAGE_SMALL_BYTES, USAGE_EVERY_S = 1 << 20, 10.0  # a larger one is read at most so often
MAX_RECORDS = 100_000  # of usage.json that are looked at: it can hold two million empty ones
MAX_SEEN = 100_000
MAX_BOOKED = 5_000  # Task rows that may still be taken back, the newest
_CACHE = ("cache_creation_tokens", "cache_read_tokens")


class Costs:
    """Feeds the ledger from the database and usage.json."""

    def __init__(self, ledger: Ledger, times: Times, usage_file: Path) -> None:
        self._ledger = ledger
        self._times = times
        self._usage_file = usage_file
        self._usage_stamp: tuple[int, int] | None = None
        self._usage_read = float("-inf")  # when that was, by the given clock
        self._usage: list[tuple[float, Answer]] = []  # what is booked from usage.json, with its time there
        self._message_sql: str | None = None
        self.message_id = 0  # newest row of messages read
        # Second and tokens of each, to know it again. By the clock on the wall: in the hour that a clock change
        # repeats, the two files need not be read alike.
        self._messages: set[tuple[int, int, int]] = set()
        self._written = float("-inf")  # time of the last message
        self._told_since = math.inf  # the oldest time of the messages that usage.json was not compared with
        self._seen: set[int] = set()  # Task rows booked or waiting
        self._waiting: list[Answer] = []  # Task rows whose model is still to be found out
        self._booked: deque[Answer] = deque(maxlen=MAX_BOOKED)  # Task rows in the ledger
        self._backlog: tuple[int, int] = (0, 0)  # tool rows between these ids are still to be looked through
        self._tool_sql: str | None = None
        self.has_tokens = "0"  # SQL: whether a row of tool_usage has any
        self._oldest = 0.0

    def use(self, columns: Mapping[str, frozenset[str]]) -> None:
        """Take note of the columns that the tables have."""
        self._message_sql, self._tool_sql, self.has_tokens = None, None, "0"
        have = columns["messages"]
        if {"id", "timestamp", "role", "tokens_input", "tokens_output"} <= have:
            extra = [name if name in have else "NULL" for name in (*_CACHE, "model")]
            self._message_sql = (
                f"SELECT id, timestamp, tokens_input, tokens_output, {', '.join(extra)} FROM messages"  # noqa: S608 - names from this module
                " WHERE id > ? AND role = 'assistant' ORDER BY id LIMIT ?"
            )
        tools = columns["tool_usage"]
        if {"input_tokens", "output_tokens"} <= tools:
            extra = [name if name in tools else "NULL" for name in _CACHE]
            self._tool_sql = (
                f"SELECT id, timestamp, task_id, input_tokens, output_tokens, {', '.join(extra)},"  # noqa: S608 - names from this module
                " substr(parameters, 1, 400) FROM tool_usage"
            )
            self.has_tokens = "(input_tokens IS NOT NULL OR output_tokens IS NOT NULL)"

    def begin(self, database: Database, now: float, before_id: int) -> None:
        """Find where to begin; rows of tool_usage up to `before_id` are not fed by the tail."""
        self._oldest = now - HORIZON_S
        since = self._times.text(self._oldest - 86400)[:10]
        if self._message_sql is not None:
            first = database.query("SELECT min(id) FROM messages WHERE timestamp >= ?", (since,))[0][0]
            newest = database.query("SELECT max(id) FROM messages")[0][0]
            self.message_id = (first - 1) if first is not None else (newest or 0)
        if self._tool_sql is not None and before_id:
            first = database.query("SELECT min(id) FROM tool_usage WHERE timestamp >= ?", (since,))[0][0]
            self._backlog = (first - 1 if first is not None else before_id, before_id)

    def read(self, database: Database, now: float, until: float, since: float) -> bool:
        """What is new in the database, written after `since`; False if there is more to read."""
        while self._backlog[0] < self._backlog[1]:
            self._read_backlog(database, now)
            if time.monotonic() > until:
                return False
        while self._message_sql is not None:
            rows = database.query(self._message_sql, (self.message_id, CHUNK_ROWS))
            for row_id, stamp, read_in, out, write, cached, model in rows:
                self.message_id = row_id
                when = self._times.parse(stamp, max(self._written, since))
                if when is not None:
                    self._written = when
                    self._message(when, (read_in, out, write, cached), model, now)
            if len(rows) < CHUNK_ROWS:
                break
            if time.monotonic() > until:
                return False
        return True

    def read_tool_rows(self, database: Database, times: Mapping[int, float]) -> None:
        """Rows of tool_usage with tokens, by id with their times; they are booked by `resolve`."""
        if not times:
            return
        for row_id, _, owner, *rest in database.query(f"{self._tool_sql} WHERE id IN ({id_list(times)})"):
            self._tool_row(times[row_id], str(owner), rest[:4], rest[4])

    def resolve(
        self,
        model_of: Callable[[str], str | None],
        covered: Callable[[str], bool],
        moved: Collection[str] | None,
    ) -> bool:
        """Book the waiting Task rows: `model_of` an owner, None if unknown; not those that are `covered`.

        A link or a transcript may be found later than the row of which it tells: where one of the owners in
        `moved` (None: anyone) has something booked, that is judged again. True if anything was booked or taken
        back. Call it when tasks, links and transcripts have been read once.
        """
        waiting, self._waiting = self._waiting, []
        if moved is None or any(owner in self._ledger.owners for owner in moved):
            waiting = [*self._doubtful(model_of, covered), *waiting]
        for answer in waiting:
            owner = answer.owner or ""
            if not covered(owner):
                booked = Answer(answer.when, model_of(owner) or UNKNOWN_MODEL, answer.tokens, owner)
                self._ledger.book(booked)
                self._booked.append(booked)
        return bool(waiting)

    def _doubtful(
        self, model_of: Callable[[str], str | None], covered: Callable[[str], bool]
    ) -> list[Answer]:
        """The booked rows of which more is known by now, taken back."""
        found: list[Answer] = []
        booked, self._booked = self._booked, deque(maxlen=MAX_BOOKED)
        for answer in booked:
            owner = answer.owner or ""
            if covered(owner) or (answer.model == UNKNOWN_MODEL and model_of(owner) is not None):
                self._ledger.book(answer, -1)
                found.append(answer)
            else:
                self._booked.append(answer)
        return found

    def read_usage(self, now: float) -> bool:
        """Read usage.json again if it changed, a large one at most every 10 s; True if what counts did."""
        changed = self._compare_usage()
        return self._read_usage_file(now) or changed

    # -- within --------------------------------------------------------------------------------

    def _compare_usage(self) -> bool:
        """Take back the records of which messages have told since; True if there were any."""
        if self._told_since == math.inf:
            return False
        since, self._told_since = self._told_since - REPEATED_S - 1.0, math.inf
        usage, self._usage = self._usage, []
        for when, answer in usage:
            if when >= since and self._is_told(when, answer.tokens):
                self._ledger.book(answer, -1)
            else:
                self._usage.append((when, answer))
        return len(self._usage) < len(usage)

    def _read_usage_file(self, now: float) -> bool:
        try:
            found = self._usage_file.stat()
            stamp = (found.st_mtime_ns, found.st_size)
            if stamp == self._usage_stamp or found.st_size > USAGE_LIMIT_BYTES:
                return False
            if found.st_size > USAGE_SMALL_BYTES and 0 <= now - self._usage_read < USAGE_EVERY_S:
                return False
            self._usage_read = now
            content = json.loads(read_regular(self._usage_file, USAGE_LIMIT_BYTES))
        except FileNotFoundError:
            if self._usage_stamp is None:
                return False
            stamp, content = None, {}
        except OSError:
            return False
        except (ValueError, RecursionError):
            self._usage_stamp = stamp  # being rewritten, or no JSON at all: when it has changed again
            return False
        self._usage_stamp = stamp
        for _, answer in self._usage:
            self._ledger.book(answer, -1)
        self._usage = self._usage_answers(content, now)
        for _, answer in self._usage:
            self._ledger.book(answer)
        return True

    def _tool_row(self, when: float, owner: str, tokens: Sequence[Any], parameters: object) -> None:
        counts = _tokens(*tokens)
        if counts is None or when < self._oldest:
            return
        key = hash((owner, parameters, counts))
        if key in self._seen:
            return
        if len(self._seen) >= MAX_SEEN:
            self._seen.clear()  # only rows of one call, minutes apart, must be known again
        self._seen.add(key)
        self._waiting.append(Answer(when, UNKNOWN_MODEL, counts, owner))

    def _read_backlog(self, database: Database, now: float) -> None:
        after, end = self._backlog
        upto = min(after + BACKLOG_IDS, end)
        if self._tool_sql is not None:
            sql = f"{self._tool_sql} WHERE id > ? AND id <= ? AND {self.has_tokens}"
            for _, stamp, owner, *rest in database.query(sql, (after, upto)):
                when = self._times.parse(stamp)
                if when is not None:
                    self._tool_row(min(when, now + AHEAD_S), str(owner), rest[:4], rest[4])
        # The next row there is: ids may have gaps of any size.
        found = database.query("SELECT min(id) FROM tool_usage WHERE id > ?", (upto,))[0][0]
        self._backlog = (end if found is None else min(found - 1, end), end)

    def _message(self, when: float, values: Sequence[Any], model: object, now: float) -> None:
        counts = _tokens(*values)
        if counts is None or when < self._oldest:
            return
        if len(self._messages) < MAX_SEEN:
            self._messages.add((math.floor(self._times.wall(when)), counts.input, counts.output))
            self._told_since = min(self._told_since, when)
        self._ledger.book(Answer(min(when, now + AHEAD_S), str(model or UNKNOWN_MODEL), counts))

    def _is_told(self, when: float, tokens: Tokens) -> bool:
        """Whether a message has this time, but for half a second, and these tokens."""
        wall = self._times.wall(when)
        seconds = {math.floor(wall - 0.5), math.floor(wall + 0.5)}
        return any((second, tokens.input, tokens.output) in self._messages for second in seconds)

    def _usage_answers(self, content: object, now: float) -> list[tuple[float, Answer]]:
        answers: list[tuple[float, Answer]] = []
        for record in itertools.islice(_records(content), MAX_RECORDS):
            when = self._times.parse(record.get("timestamp"))
            counts = _tokens(record.get("input_tokens"), record.get("output_tokens"), None, None)
            if when is None or counts is None or when < self._oldest:
                continue
            if not self._is_told(when, counts):
                model = str(record.get("model") or UNKNOWN_MODEL)
                answers.append((when, Answer(min(when, now + AHEAD_S), model, counts)))
        return answers


def _records(content: object) -> Iterator[dict[str, Any]]:
    """Those of usage.json, of all its users."""
    for user in content.values() if isinstance(content, dict) else ():
        records = user.get("records") if isinstance(user, dict) else None
        for record in records if isinstance(records, list) else ():
            if isinstance(record, dict):
                yield record


def _tokens(read_in: object, out: object, write: object, cached: object) -> Tokens | None:
    """Token counts of a row, None if it has none."""
    values = [_count(one) for one in (read_in, out, write, cached)]
    if values[0] is None and values[1] is None:
        return None
    return Tokens(values[0] or 0, values[1] or 0, values[2], values[3])


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40 else None
