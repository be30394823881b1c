"""Claude Code's transcripts, DIR/SESSION.jsonl and DIR/SESSION/subagents/*.jsonl: the only full record of tokens.

Only model, ids, time and usage of a line are looked at. One answer stands on 2-10 lines, the first of which may
have been written before all of it was there, and again in a resumed session's file: one per (message id, request id)
counts, with the most that its lines tell. A line without a request id is of the answer that has its message id.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from amiga_ws.collectors.amiga.jsonl import Follower, load_object
from amiga_ws.collectors.amiga.ledger import Answer, Ledger
from amiga_ws.collectors.amiga.prices import Tokens
from amiga_ws.collectors.amiga.times import AHEAD_S, Times

logger = logging.getLogger(__name__)

KEEP_S = 33 * 86400.0
SCAN_EVERY_S = 20.0  # from one round through all files to the next
FILES_PER_READING = 500  # of a round: each costs about 2 us
HOT_S = 900.0
MAX_FILES = 20_000
MAX_DEPTH = 4
BUDGET_BYTES = 6 << 20  # per reading
MAX_SEEN = 1_000_000
MAX_BOOKED = 10_000  # answers that may still grow: the lines of one lie close together
SYNTHETIC = "<synthetic>"  # Claude Code's own lines: no model was asked


@dataclass(slots=True)
class _File:
    follower: Follower[dict[str, Any]]
    session: str
    mtime: float
    round: int = 0  # in which it was last seen


class Transcripts:
    """Follows every transcript below a directory; books answers into the ledger."""

    def __init__(self, root: Path, times: Times, ledger: Ledger) -> None:
        self.root = root
        self.state = "loading"
        self.error: str | None = None
        self.sessions: set[str] = set()  # whose tokens are known from here
        self._times = times
        self._ledger = ledger
        self._files: dict[str, _File] = {}
        self._unread: dict[str, _File] = {}  # those with something new, and those written to lately
        self._round = 0
        self._walk: Iterator[tuple[str, str]] | None = None  # the rest of the current round
        self._listed = False  # the first round has ended
        self._scanned = float("-inf")  # when the current round began
        self._seen: dict[int, int | None] = {}  # the request of each answer, both as hashes
        self._booked: OrderedDict[int, Answer] = OrderedDict()  # the newest in the ledger, by the same key

    @property
    def complete(self) -> bool:
        """Everything there was has been read, or there is nothing to read."""
        return self.state in ("ok", "missing", "error")

    def poll(self, now: float) -> bool:
        """Read what is new, at most 6 MiB; True if anything was booked."""
        try:
            if self._walk is None and not 0 <= now - self._scanned < SCAN_EVERY_S:
                self.root.stat()
                self._walk = self._paths(str(self.root), 0, None)
                self._scanned = now
                self._round += 1
            if self._walk is not None:
                self._scan(self._walk, now)
        except FileNotFoundError:
            self.state, self.error, self._walk = "missing", None, None
            return False
        except OSError as error:
            self.state, self.error, self._walk = "error", error.strerror or str(error), None
            return False
        budget = BUDGET_BYTES
        booked = False
        for path, file in list(self._unread.items()):
            if budget <= 0:
                self.state = "loading"
                return booked
            try:
                objects, _, more = file.follower.read(min(budget, 1 << 20))
            except OSError:
                del self._unread[path]
                continue
            # A look that finds nothing is cheap: a demonstration has 800 files that were written just now.
            budget -= 1 << 20 if more else 1 << 14 if objects else 1 << 11
            # A file being written to is looked at each time.
            if not more and now - file.mtime >= HOT_S:
                del self._unread[path]
            for line in objects:
                booked = self._line(line, file.session, now) or booked
        self.state, self.error = ("ok" if self._listed else "loading"), None
        return booked

    def _scan(self, walk: Iterator[tuple[str, str]], now: float) -> None:
        """A part of a round; at its end, forget what was not met any more."""
        part = list(itertools.islice(walk, FILES_PER_READING))
        for path, session in part:
            self._look(path, session, now)
        if len(part) < FILES_PER_READING:
            self._walk, self._listed = None, True
            self._files = {path: file for path, file in self._files.items() if file.round == self._round}
            self.sessions = {file.session for file in self._files.values()}

    def _look(self, path: str, session: str, now: float) -> None:
        try:
            mtime = os.stat(path).st_mtime  # noqa: PTH116 - thousands of paths, as strings
        except OSError:
            return
        if now - mtime >= KEEP_S:
            return
        known = self._files.get(path)
        if known is None:
            if len(self._files) >= MAX_FILES:
                return
            known = self._files[path] = _File(Follower(path, load_object), session, mtime)
            self._unread[path] = known
            self.sessions.add(session)
        elif mtime != known.mtime:
            known.mtime = mtime
            self._unread[path] = known
        known.round = self._round

    def _paths(self, folder: str, depth: int, session: str | None) -> Iterator[tuple[str, str]]:
        """(path, session) of every .jsonl; below a session's own folder all belong to it."""
        try:
            with os.scandir(folder) as found:
                entries = list(itertools.islice(found, MAX_FILES))
        except OSError:
            if depth == 0:
                raise
            return
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if depth < MAX_DEPTH:
                    # DIR, then SESSION, then subagents
                    inner = session if session is not None else entry.name if depth == 1 else None
                    yield from self._paths(entry.path, depth + 1, inner)
            elif entry.name.endswith(".jsonl"):
                yield entry.path, session or entry.name.removesuffix(".jsonl")

    def _line(self, line: dict[str, Any], session: str, now: float) -> bool:
        message = line.get("message")
        if line.get("type") != "assistant" or not isinstance(message, dict):
            return False
        usage, model = message.get("usage"), message.get("model")
        when = self._times.parse_utc(line.get("timestamp"))
        if not isinstance(usage, dict) or when is None or now - when > KEEP_S or model == SYNTHETIC:
            return False
        hour = usage.get("cache_creation")
        tokens = Tokens(
            input=_count(usage.get("input_tokens")),
            output=_count(usage.get("output_tokens")),
            cache_write=_count(usage.get("cache_creation_input_tokens")),
            cache_read=_count(usage.get("cache_read_input_tokens")),
            cache_write_1h=_count(hour.get("ephemeral_1h_input_tokens")) if isinstance(hour, dict) else 0,
        )
        key, known = self._known(message.get("id"), line.get("requestId"))
        booked = None if key is None else self._booked.get(key)
        if booked is not None:
            tokens = _most(booked.tokens, tokens)
            if tokens == booked.tokens:
                return False
            self._ledger.book(booked, -1)
            answer = replace(booked, tokens=tokens)
        elif known:
            return False
        else:
            answer = Answer(min(when, now + AHEAD_S), str(model or "unknown"), tokens, session)
        self._ledger.book(answer)
        if key is not None:
            self._booked[key] = answer
            if len(self._booked) > MAX_BOOKED:
                self._booked.popitem(last=False)
        return True

    def _known(self, message_id: object, request_id: object) -> tuple[int | None, bool]:
        """The key of an answer, None if it has no id, and whether it was seen before; from now on it was."""
        message, request = (one if isinstance(one, str) else None for one in (message_id, request_id))
        if message is None and request is None:
            return None, False
        key, asked = hash(message), None if request is None else hash(request)
        if None not in (first := self._seen.get(key), asked) and first != asked:
            key = hash((message, request))  # two requests with one message id
        known = key in self._seen
        if not known and len(self._seen) >= MAX_SEEN:
            self._seen.clear()
        if self._seen.get(key) is None:
            self._seen[key] = asked
        return key, known


def _most(one: Tokens, other: Tokens) -> Tokens:
    """The larger count of each class."""
    return Tokens(
        input=max(one.input, other.input),
        output=max(one.output, other.output),
        cache_write=max(one.cache_write or 0, other.cache_write or 0),
        cache_read=max(one.cache_read or 0, other.cache_read or 0),
        cache_write_1h=max(one.cache_write_1h, other.cache_write_1h),
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40 else 0
