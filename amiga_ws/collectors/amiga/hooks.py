"""AMIGA's hook logs, logs/sessions/ID/pre_tool_use.jsonl: which session belongs to which task, and whether hooks run.

A line holds the whole, unredacted input of a tool; nothing of it but tool name, time and ids is kept.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from amiga_ws.collectors.amiga.jsonl import Follower
from amiga_ws.collectors.amiga.times import Times

logger = logging.getLogger(__name__)

LINES = "pre_tool_use.jsonl"
MAX_SESSIONS = 5_000  # directories followed, the newest
HOT_S = 3600.0  # a file written to within this is looked at each time
HOT_LIMIT = 12  # AMIGA runs three tasks at a time, people a few sessions
COLD_PER_READING = 5  # of the others, in turns: sessions can be resumed after days
FIRST_BYTES = 64 << 10  # of a long file, its first lines and its last ones tell all we need
TAIL_BYTES = 256 << 10
NEW_PER_READING = 60  # files opened for the first time per reading
_TASK_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


@dataclass(slots=True)
class HookSession:
    """One directory. Times are epoch seconds."""

    session_id: str
    follower: Follower
    mtime: float = 0.0
    size: int = -1
    task_id: str | None = None
    last: float | None = None  # time of the newest line
    lines: int = 0  # seen by us; for a long file not all
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
        self.newest: float | None = None  # time of the newest line of all
        self.truncated = False  # there are more sessions than we follow
        self._times = times
        self._root_mtime: int | None = None
        self._new: list[str] = []
        self._cold = 0
        self._turn: list[str] = []  # sessions in the order in which quiet ones are looked at

    def poll(self, now: float) -> bool:
        """Read what is new; True if anything was."""
        try:
            mtime = self.root.stat().st_mtime_ns
            if mtime != self._root_mtime:
                self._scan()
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
        self.state, self.error = ("loading" if self._new else "ok"), None
        return changed

    def _scan(self) -> None:
        known = set(self._new)
        with os.scandir(self.root) as entries:
            names = sorted(
                (entry.stat(follow_symlinks=False).st_mtime, entry.name)
                for entry in entries
                if entry.name not in self.sessions
                and entry.name not in known
                and entry.is_dir(follow_symlinks=False)
            )
        room = MAX_SESSIONS - len(self.sessions) - len(self._new)
        if len(names) > room:
            self.truncated = True
            names = names[-max(room, 50) :]
        self._new += [name for _, name in names]

    def _read_new(self) -> bool:
        part, self._new = self._new[-NEW_PER_READING:], self._new[:-NEW_PER_READING]
        changed = False
        for name in reversed(part):
            session = HookSession(name, Follower(self.root / name / LINES))
            newest = next(reversed(self.sessions.values()), None)
            changed = self._look(session, first=True) or changed
            self.sessions[name] = session
            # In the order of the last writing: while loading, older and older ones come before the others.
            self.sessions.move_to_end(name, last=newest is None or session.mtime >= newest.mtime)
        while len(self.sessions) > MAX_SESSIONS:
            self.sessions.popitem(last=False)
        return changed

    def _read_known(self, now: float) -> bool:
        changed = False
        hot: list[HookSession] = []
        for session in itertools.islice(reversed(self.sessions.values()), HOT_LIMIT):
            if now - session.mtime > HOT_S:
                break
            hot.append(session)
        if len(self.sessions) > len(hot):
            if len(self._turn) != len(self.sessions):
                self._turn = list(self.sessions)
            for _ in range(min(COLD_PER_READING, len(self._turn))):
                self._cold = (self._cold + 1) % len(self._turn)
                if (cold := self.sessions.get(self._turn[self._cold])) is not None:
                    hot.append(cold)
        for session in hot:
            changed = self._look(session) or changed
        return changed

    def _look(self, session: HookSession, *, first: bool = False) -> bool:
        path = session.follower.path
        try:
            found = path.stat()
            if (found.st_size, found.st_mtime) == (session.size, session.mtime):
                return False
            session.size, session.mtime = found.st_size, found.st_mtime
            if first and found.st_size > FIRST_BYTES + TAIL_BYTES:
                self._take(session, *Follower(path).read(FIRST_BYTES)[:2])
                session.follower = Follower(path, found.st_size - TAIL_BYTES)
            objects, bad, more = session.follower.read()
            self._take(session, objects, bad)
        except OSError:
            return False  # no file yet, or gone: looked at again in its turn
        if more:
            session.size = -1
        if session.session_id in self.sessions:
            self.sessions.move_to_end(session.session_id)
        return True

    def _take(self, session: HookSession, objects: list[dict[str, object]], bad: int) -> None:
        session.bad_lines += bad
        for line in objects:
            session.lines += 1
            when = self._times.parse_utc(line.get("timestamp"))
            if when is not None:
                session.last = max(session.last or when, when)
                self.newest = max(self.newest or when, when)
            task_id = line.get("task_id")
            if isinstance(task_id, str) and _TASK_ID.fullmatch(task_id) and task_id != session.session_id:
                self._link(session, task_id)

    def _link(self, session: HookSession, task_id: str) -> None:
        if session.task_id == task_id:
            return
        if session.task_id is not None:
            self.sessions_of[session.task_id].remove(session.session_id)
        session.task_id = task_id
        self.links[session.session_id] = task_id
        self.sessions_of.setdefault(task_id, []).append(session.session_id)
