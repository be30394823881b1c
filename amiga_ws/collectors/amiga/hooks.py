"""AMIGA's hook logs, logs/sessions/ID/pre_tool_use.jsonl: which session belongs to which task, and whether hooks run.

A line holds the whole, unredacted input of a tool; nothing of it but tool name, time and ids is kept.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import stat
from collections import OrderedDict, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from amiga_ws.collectors.amiga.files import open_regular
from amiga_ws.collectors.amiga.jsonl import Follower, load_object
from amiga_ws.collectors.amiga.times import Times

logger = logging.getLogger(__name__)

LINES = "pre_tool_use.jsonl"
MAX_SESSIONS = 5_000  # directories followed, the newest
HOT_S = 3600.0  # a file written to within this is looked at each time
HOT_LIMIT = 12  # AMIGA runs three tasks at a time, people a few sessions
LOOKS_PER_READING = 16  # with others, in turns: sessions can be resumed after days
FIRST_BYTES = 64 << 10  # of a long file, its first lines and its last ones tell all we need
TAIL_BYTES = 256 << 10
COUNTED_BYTES = 8 << 20  # per reading, of what lies between the two: only the lines in it are counted
PIECE_BYTES = 1 << 20
SCANNED_PER_S = 100  # directories; with more there is a pause between two listings
MAX_PAUSE_S = 20.0
NEW_PER_READING = 60  # files opened for the first time per reading
_TASK_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


class HookLine(msgspec.Struct):
    """What is read of a line; the rest, up to whole files, is passed over without being made an object."""

    timestamp: Any = None
    task_id: Any = None


_decode = msgspec.json.Decoder(HookLine).decode


def load_line(line: bytes) -> HookLine | None:
    """A line of a hook log, None if it is none."""
    try:
        return _decode(line)
    except (msgspec.DecodeError, RecursionError):
        # `json` is less strict than msgspec, and AMIGA's hooks write what it writes.
        value = load_object(line)
        return None if value is None else HookLine(value.get("timestamp"), value.get("task_id"))


@dataclass(slots=True)
class HookSession:
    """One directory. Times are epoch seconds."""

    session_id: str
    follower: Follower[HookLine]
    mtime: float = 0.0
    size: int = -1
    task_id: str | None = None
    last: float | None = None  # time of the newest line
    lines: int = 0
    counted: bool = True  # `lines` is all of them, also those in the middle of a long file
    bad_lines: int = 0


class HookLogs:
    """Follows all sessions below a directory; `poll` costs a few dozen stats."""

    def __init__(self, root: Path, times: Times) -> None:
        self.root = root
        self.state: str = "loading"
        self.error: str | None = None
        self.sessions: OrderedDict[str, HookSession] = OrderedDict()  # the one written to last at the end
        self.links: dict[str, str] = {}  # session -> task, by the newest line that names one
        self.sessions_of: dict[str, list[str]] = {}  # task -> sessions
        self.moved: set[str] = set()  # tasks whose sessions have changed
        self.written: set[str] = set()  # sessions with something new, for who asks to take out
        self.newest: float | None = None  # time of the newest line of all
        self.truncated = False  # there are more sessions than we follow
        self._path = str(root)
        self._times = times
        self._root_mtime: int | None = None
        self._listed: set[bytes] = set()  # what was there when the directories were listed last
        self._new: list[str] = []
        self._scanned = float("-inf")  # when the directories were listed last
        self._middles: deque[tuple[HookSession, int, int]] = deque()  # bytes (from, to) to count lines in
        self._turn: deque[str] = deque()  # sessions in the order in which quiet ones are looked at

    def poll(self, now: float) -> bool:
        """Read what is new; True if anything was."""
        try:
            mtime = self.root.stat().st_mtime_ns
            # Each session that ever was costs 0.6 us: hundreds are not worth it every second.
            pause_s = min(len(self.sessions) / SCANNED_PER_S, MAX_PAUSE_S) - 1.0
            if mtime != self._root_mtime and not 0 <= now - self._scanned < pause_s:
                self._scan()
                self._scanned = now
                # Sessions made in the clock beat of this scan would not move the time again.
                settled = now - mtime / 1e9 > 1.0
                self._root_mtime = mtime if settled else None
        except FileNotFoundError:
            self.state, self.error, self._root_mtime = "missing", None, None
            return False
        except OSError as error:
            self.state, self.error, self._root_mtime = "error", error.strerror or str(error), None
            return False
        changed = self._read_new()
        changed = self._read_known(now) or changed
        changed = self._count_middles() or changed
        self.state, self.error = ("loading" if self._new else "ok"), None
        return changed

    def _scan(self) -> None:
        names: list[tuple[float, str]] = []
        # As bytes, which takes half the time: of thousands of names none may be new.
        listed = set(os.listdir(os.fsencode(self._path)))  # noqa: PTH208 - pathlib knows no bytes
        fresh, self._listed, waiting = listed - self._listed, listed, set(self._new)
        for encoded in fresh:
            name = os.fsdecode(encoded)
            # What does not print is no id of Claude Code's, and what is no UTF-8 cannot be told to anybody.
            if name.isprintable() and name not in self.sessions and name not in waiting:
                try:
                    found = os.lstat(f"{self._path}/{name}")
                except OSError:
                    listed.discard(encoded)  # gone again, or not to be seen yet
                    continue
                if stat.S_ISDIR(found.st_mode):
                    names.append((found.st_mtime, name))
                else:
                    listed.discard(encoded)  # it may give way to one
        names.sort()
        room = MAX_SESSIONS - len(self.sessions) - len(self._new)
        if len(names) > room:
            self.truncated = True
            names = names[-max(room, 50) :]
        self._new += [name for _, name in names]

    def _read_new(self) -> bool:
        part, self._new = self._new[-NEW_PER_READING:], self._new[:-NEW_PER_READING]
        changed = False
        for name in reversed(part):
            session = HookSession(name, Follower(f"{self._path}/{name}/{LINES}", load_line))
            newest = next(reversed(self.sessions.values()), None)
            changed = self._look(session, first=True) or changed
            self.sessions[name] = session
            self._turn.append(name)
            # In the order of the last writing: while loading, older and older ones come before the others.
            self.sessions.move_to_end(name, last=newest is None or session.mtime >= newest.mtime)
        while len(self.sessions) > MAX_SESSIONS:
            oldest, forgotten = self.sessions.popitem(last=False)
            self.links.pop(oldest, None)
            self.written.discard(oldest)
            if forgotten.task_id is not None:
                self._unlink(forgotten, forgotten.task_id)
        return changed

    def _read_known(self, now: float) -> bool:
        changed = False
        hot: list[HookSession] = []
        for session in itertools.islice(reversed(self.sessions.values()), HOT_LIMIT):
            if now - session.mtime > HOT_S:
                break
            hot.append(session)
        for _ in range(min(LOOKS_PER_READING - len(hot), len(self._turn))):
            cold = self.sessions.get(self._turn[0])
            if cold is None:  # forgotten
                self._turn.popleft()
                continue
            self._turn.rotate(-1)
            hot.append(cold)
        for session in hot:
            changed = self._look(session) or changed
        return changed

    def _look(self, session: HookSession, *, first: bool = False) -> bool:
        path = session.follower.path
        try:
            found = os.stat(path)  # noqa: PTH116 - a dozen each second, as strings
            if (found.st_size, found.st_mtime) == (session.size, session.mtime):
                return False
            session.size, session.mtime = found.st_size, found.st_mtime
            if first and found.st_size > FIRST_BYTES + TAIL_BYTES:
                self._take(session, *Follower(path, load_line).read(FIRST_BYTES)[:2])
                end = found.st_size - TAIL_BYTES
                session.follower = Follower(path, load_line, end)
                session.lines += 1  # the one in which the end begins, which the follower passes over
                session.counted = False
                self._middles.append((session, FIRST_BYTES, end))
            objects, bad, more = session.follower.read()
            self._take(session, objects, bad)
        except OSError:
            return False  # no file yet, or gone: looked at again in its turn
        self.written.add(session.session_id)
        if more:
            session.size = -1
        if session.session_id in self.sessions:
            self.sessions.move_to_end(session.session_id)
        return True

    def _count_middles(self) -> bool:
        """Count lines in what is not read of long files; True if anything was counted."""
        left, begun = COUNTED_BYTES, bool(self._middles)
        while self._middles and left > 0:
            session, at, end = self._middles.popleft()
            # Of a file that is gone or cut, what was counted is all there is.
            with contextlib.suppress(OSError), open_regular(session.follower.path) as file:
                file.seek(at)
                while at < end and left > 0 and (piece := file.read(min(PIECE_BYTES, end - at))):
                    session.lines += piece.count(b"\n")
                    at += len(piece)
                    left -= len(piece)
            session.counted = left > 0
            if not session.counted:
                self._middles.appendleft((session, at, end))
        return begun

    def _take(self, session: HookSession, lines: list[HookLine], bad: int) -> None:
        session.bad_lines += bad
        session.lines += len(lines)
        when = self._times.newest_utc([line.timestamp for line in lines])
        if when is not None:
            session.last = when if session.last is None else max(session.last, when)
            self.newest = when if self.newest is None else max(self.newest, when)
        for line in reversed(lines):
            task_id = line.task_id
            if isinstance(task_id, str) and task_id != session.session_id and _TASK_ID.fullmatch(task_id):
                self._link(session, task_id)
                break

    def _link(self, session: HookSession, task_id: str) -> None:
        if session.task_id == task_id:
            return
        if session.task_id is not None:
            self._unlink(session, session.task_id)
        self.moved.add(task_id)
        session.task_id = task_id
        self.links[session.session_id] = task_id
        self.sessions_of.setdefault(task_id, []).append(session.session_id)

    def _unlink(self, session: HookSession, task_id: str) -> None:
        sessions = self.sessions_of[task_id]
        sessions.remove(session.session_id)
        if not sessions:
            del self.sessions_of[task_id]
        self.moved.add(task_id)
