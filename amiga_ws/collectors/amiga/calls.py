"""All tool calls of the last week in memory: fed row by row, asked for any window.

What a row costs does not depend on how many came before it. `groups.py` has the rule of counting.
"""

from __future__ import annotations

import itertools
import operator
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from amiga_ws.collectors.amiga.errors import suspect
from amiga_ws.collectors.amiga.groups import Group, Sign
from amiga_ws.collectors.amiga.redact import one_line
from amiga_ws.collectors.amiga.windows import MINUTE_S, Buckets, Histograms

MAX_TOOLS = 400  # distinct names; later ones are counted as OTHER_TOOLS
OTHER_TOOLS = "(other tools)"
MAX_OWNERS = 50_000  # tasks and sessions remembered; a week of AMIGA has hundreds
MAX_UNMATCHED = 8  # failed rows and failed status rows that have not met each other
NEWEST_OWNERS = 20
# Open rows that are looked at again, for they may have been completed in place; see to_recheck.
RECHECK_LIMIT = 40  # per reading, more or less: each may lie in a page of its own
RECHECK_LEAST = 2  # of a group in which a call runs or has ended; if there is room, one more for each end
RECHECK_IDS = 24  # of a group at most
RECHECK_SOME = 8  # of a group in its turn, where there is no room
RECHECK_OWNERS = 12  # that run, and as many that moved last
RECHECK_LATER = 64  # groups in which a call has ended that wait for the next reading

OK, FAILED, ORPHANED, RAW, ESTIMATED = range(5)  # kinds of counts
KINDS = 8
CATEGORIES = (
    "permission_error",
    "file_not_found",
    "timeout",
    "syntax_error",
    "network_error",
    "git_error",
    "validation_error",
    "resource_error",
    "command_not_found",
    "unknown_error",
)
UNRECORDED = "unrecorded"  # the status row says failed and no tool_usage row says why
_CATEGORY_KEYS = {name: index for index, name in enumerate(CATEGORIES)}
_ERROR_KEYS = 32  # per tool: category x 2 + suspect
_KEY, _LAST = operator.attrgetter("key"), operator.attrgetter("last")  # of an owner


class Owner:
    """A task or session: whatever tool_usage.task_id says."""

    __slots__ = ("calls", "errors", "first", "groups", "key", "last", "open", "present", "settled")

    def __init__(self, key: str, when: float) -> None:
        self.key = key
        self.first = when
        self.last = when
        self.groups: dict[int, Group] = {}  # by tool
        self.calls = 0  # ended ones
        self.errors = 0
        self.open: list[tuple[float, int]] = []  # (start, tool) of calls without an end
        self.settled: list[tuple[int, int]] | None = None  # (minute, tool) counted as orphaned
        self.present: int | None = None  # minute in which it is counted as present


@dataclass
class CallWindow:
    """Counts of one window by tool name; `running` is not in it, for it does not depend on the window."""

    ok: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    orphaned: dict[str, int] = field(default_factory=dict)
    raw_rows: int = 0
    estimated: int = 0
    categories: dict[str, dict[str, int]] = field(default_factory=dict)
    suspects: dict[str, int] = field(default_factory=dict)  # of the failed ones by tool
    durations: dict[str, int] = field(default_factory=dict)  # packed, see windows.percentiles
    owners: int = 0


class Calls:
    """The model. `take` and `flip` feed it, `flush` brings the counts up to date."""

    def __init__(self) -> None:
        self.owners: OrderedDict[str, Owner] = OrderedDict()  # in the order of their last sign of life
        self.tools: list[str] = []
        self.latest_row = 0.0  # time of the newest tool_usage row
        # With open calls, not known to have ended; the one whose turn it is first.
        self.live: OrderedDict[str, Owner] = OrderedDict()
        self.moved: set[str] = set()  # owners to whom anything has happened, for who asks to take out
        self._settled: dict[str, Owner] = {}  # with open calls that are orphaned
        self._tool_ids: dict[str, int] = {}
        self._counts = Buckets()
        self._errors = Buckets()
        self._durations = Histograms()
        self._presence = Buckets()  # owners by the minute of their last sign of life
        self._dirty: dict[str, Owner] = {}
        self._newest: list[Owner] | None = None  # see newest_owners; None when anything came in
        self._turn = 0
        # By (owner, tool): how many calls have ended since its rows were looked at again.
        self._ended: dict[tuple[str, int], int] = {}

    # -- feeding -------------------------------------------------------------------------------

    def take(self, signs: Iterable[Sign]) -> None:
        """What came in, in the order of its times."""
        by_group: defaultdict[tuple[str, str], list[Sign]] = defaultdict(list)
        for sign in signs:
            by_group[sign[1]].append(sign)
        moved: dict[str, Owner] = {}
        for (key, tool_name), these in by_group.items():
            owner = self.owners.get(key)
            if owner is None:
                owner = self.owners[key] = Owner(key, these[0][0])
            owner.last = max(owner.last, these[-1][0])
            moved[key] = owner
            tool = self._tool_ids.get(tool_name)
            if tool is None:
                tool = self._tool(tool_name)
            group = owner.groups.get(tool)
            if group is None:
                group = owner.groups[tool] = Group()
            ended = failed = 0
            for (when, _, row_id, success, error, category), began in group.take(these):
                if row_id is None:
                    ended += 1
                    failed += not success
                    self._end(owner, group, tool, when, began, ok=bool(success))
                else:
                    self._failure(group, tool, error, category)
            if ended:
                self._ended[key, tool] = self._ended.get((key, tool), 0) + ended
            self._count(tool, these, ended, failed)
        for owner in sorted(moved.values(), key=_LAST):
            self.owners.move_to_end(owner.key)
        self._dirty.update(moved)
        while len(self.owners) > MAX_OWNERS:
            self._forget(next(iter(self.owners)))

    def flip(
        self, key: str, tool: int, row_id: int, success: object, reason: tuple[str | None, str | None]
    ) -> float | None:
        """An open row was completed in place; `reason` is its (error, category). Its time, None if unknown."""
        group = self._group(key, tool)
        when = group.complete(row_id, ok=bool(success)) if group is not None else None
        if group is None or when is None:
            return None
        if not success:
            self._failure(group, tool, *reason)
        self._dirty[key] = self.owners[key]
        return when

    def to_recheck(self, upto: int) -> dict[int, tuple[str, int]]:
        """Ids of open rows, none above `upto`, that may have been completed by now; of each its owner and tool.

        Where calls have ended, for AMIGA completes the newest row; then what seems to run, and in turns whatever moved
        lately, for an end may leave no sign. About 40 in all.
        """
        wanted: dict[int, tuple[str, int]] = {}
        ended, self._ended = self._ended, {}
        most = min(RECHECK_IDS, max(RECHECK_LEAST, RECHECK_LIMIT // max(1, len(ended))))
        for group, ends in ended.items():
            if len(wanted) < RECHECK_LIMIT:
                self._want(wanted, *group, upto, min(most, ends + RECHECK_LEAST))
            elif len(self._ended) < RECHECK_LATER:
                self._ended[group] = ends
        for key in list(itertools.islice(self.live, RECHECK_OWNERS)):
            if len(wanted) >= RECHECK_LIMIT:
                break
            self.live.move_to_end(key)
            tools = {tool for _, tool in self.live[key].open}
            for tool in itertools.islice(tools, RECHECK_LIMIT // RECHECK_LEAST):
                self._want(wanted, key, tool, upto, RECHECK_LEAST)
        groups = [
            (owner.key, tool)
            for owner in itertools.islice(reversed(self.owners.values()), RECHECK_OWNERS)
            for tool, group in owner.groups.items()
            if group.open_ids
        ]
        count = RECHECK_IDS if len(wanted) < RECHECK_LIMIT else RECHECK_SOME
        for _ in groups:  # one at least
            self._turn = (self._turn + 1) % len(groups)
            self._want(wanted, *groups[self._turn], upto, count)
            if len(wanted) >= RECHECK_LIMIT:
                break
        return wanted

    def flush(self) -> None:
        """Work out what is open wherever something came in."""
        dirty, self._dirty = self._dirty, {}
        if dirty:
            self._newest = None
            self.moved.update(dirty)
        for key, owner in dirty.items():
            self._unsettle(owner)
            minute = int(owner.last // MINUTE_S)
            if owner.present != minute:
                if owner.present is not None:
                    self._presence.add(owner.present, 0, -1)
                self._presence.add(minute, 0)
                owner.present = minute
            opened: list[tuple[float, int]] = []
            for tool, group in owner.groups.items():
                if group.ended == 0 and group.done:
                    self._take_back(owner, group, tool)
                    self._estimate(owner, group, tool)
                if group.open_times:
                    opened += [(start, tool) for start in group.open_starts()]
            owner.open = opened
            if opened:
                self.live[key] = owner
            else:
                self.live.pop(key, None)

    def settle(self, has_ended: Callable[[Owner], bool]) -> bool:
        """Count the open calls of whoever has ended as orphaned; True if that changed anything."""
        gone = [owner for owner in self.live.values() if has_ended(owner)]
        for owner in gone:
            del self.live[owner.key]
            self._settled[owner.key] = owner
            owner.settled = [(int(start // MINUTE_S), tool) for start, tool in owner.open]
            for minute, tool in owner.settled:
                self._counts.add(minute, tool * KINDS + ORPHANED)
        return bool(gone)

    def reconsider(self, keys: Iterable[str]) -> None:
        """These tasks changed: whether their open calls are orphaned must be judged anew."""
        for key in keys:
            owner = self.owners.get(key)
            if owner is not None and owner.settled is not None:
                self._unsettle(owner)
                self.live[key] = owner

    def prune(self, now: float, keep_s: float) -> None:
        """Forget what no window reaches any more; call it now and then."""
        minute = int(now // MINUTE_S)
        for series in (self._counts, self._errors, self._durations, self._presence):
            series.prune(minute)
        for key in [key for key, owner in self.owners.items() if owner.last < now - keep_s]:
            self._forget(key)

    # -- asking --------------------------------------------------------------------------------

    def running(self) -> dict[str, int]:
        """Open calls by tool whose task or session has not ended."""
        counts: dict[str, int] = {}
        for owner in self.live.values():
            for _, tool in owner.open:
                name = self.tools[tool]
                counts[name] = counts.get(name, 0) + 1
        return counts

    def window(self, minute: int) -> CallWindow:
        """Everything since an epoch minute."""
        found = CallWindow()
        by_kind = {OK: found.ok, FAILED: found.failed, ORPHANED: found.orphaned}
        for key, count in self._counts.since(minute).items():
            tool, kind = divmod(key, KINDS)
            if kind == RAW:
                found.raw_rows += count
            elif kind == ESTIMATED:
                found.estimated += count
            elif count:
                by_kind[kind][self.tools[tool]] = count
        for key, count in self._errors.since(minute).items():
            tool, rest = divmod(key, _ERROR_KEYS)
            category, is_suspect = divmod(rest, 2)
            by_category = found.categories.setdefault(self.tools[tool], {})
            name = CATEGORIES[category]
            by_category[name] = by_category.get(name, 0) + count
            if count and is_suspect:
                found.suspects[self.tools[tool]] = found.suspects.get(self.tools[tool], 0) + count
        found.durations = {self.tools[tool]: packed for tool, packed in self._durations.since(minute).items()}
        found.owners = self._presence.since(minute).get(0, 0)
        return found

    def minute(self, minute: int) -> tuple[int, int, int]:
        """(calls, failed ones, packed durations) of all tools that ended in one minute."""
        calls = failed = 0
        for key, count in self._counts.minute(minute).items():
            kind = key % KINDS
            calls += count if kind in (OK, FAILED) else 0
            failed += count if kind == FAILED else 0
        return calls, failed, sum(self._durations.minute(minute).values())

    def first_minute(self) -> int | None:
        """The oldest minute of which anything is known."""
        return self._counts.first_minute()

    def newest_owners(self) -> list[Owner]:
        """The 20 owners with the newest sign of life, newest first."""
        if self._newest is None:
            # Rows come nearly in the order of their times; looking at a few more mends the rest.
            latest = sorted(itertools.islice(reversed(self.owners.values()), 3 * NEWEST_OWNERS), key=_KEY)
            self._newest = sorted(latest, key=_LAST, reverse=True)[:NEWEST_OWNERS]
        return self._newest

    # -- within --------------------------------------------------------------------------------

    def _want(self, wanted: dict[int, tuple[str, int]], key: str, tool: int, upto: int, count: int) -> None:
        group = self._group(key, tool)
        if group is not None:
            wanted.update(dict.fromkeys(group.newest_open(upto, count), (key, tool)))

    def _group(self, key: str, tool: int) -> Group | None:
        owner = self.owners.get(key)
        return None if owner is None else owner.groups.get(tool)

    def _end(
        self, owner: Owner, group: Group, tool: int, when: float, began: float | None, *, ok: bool
    ) -> None:
        minute = int(when) // MINUTE_S
        if group.estimates is not None:
            self._take_back(owner, group, tool)
        owner.calls += 1
        if began is not None:
            self._durations.add(minute, tool, when - began)
        if not ok:
            owner.errors += 1
            if group.failures:
                self._errors.add(minute, group.failures.pop(0))
            else:
                group.unexplained = [*(group.unexplained or []), minute][-MAX_UNMATCHED:]

    def _count(self, tool: int, signs: Sequence[Sign], ended: int, failed: int) -> None:
        """The signs of a tool in the order of their times, so many of ended calls and so many of these failed."""
        minute = int(signs[0][0]) // MINUTE_S
        if minute == int(signs[-1][0]) // MINUTE_S:
            counts = {RAW: len(signs) - ended, OK: ended - failed, FAILED: failed}
            for kind, count in counts.items():
                if count:
                    self._counts.add(minute, tool * KINDS + kind, count)
        else:  # hardly ever
            for sign in signs:
                self._counts.add(int(sign[0]) // MINUTE_S, tool * KINDS + _kind(sign))

    def _tool(self, name: str) -> int:
        shown = one_line(name, 80) or "unknown"
        if len(self.tools) >= MAX_TOOLS:
            shown = OTHER_TOOLS
        if shown in self.tools:
            tool = self.tools.index(shown)
        else:
            tool = len(self.tools)
            self.tools.append(shown)
        if len(self._tool_ids) < 2 * MAX_TOOLS:
            self._tool_ids[name] = tool
        return tool

    def _failure(self, group: Group, tool: int, error: str | None, category: str | None) -> None:
        index = _CATEGORY_KEYS.get(category or "", _CATEGORY_KEYS["unknown_error"])
        key = tool * _ERROR_KEYS + index * 2 + suspect(self.tools[tool], error, category)
        if group.unexplained:
            self._errors.add(group.unexplained.pop(0), key)
        else:
            group.failures = [*(group.failures or []), key][-MAX_UNMATCHED:]

    def _estimate(self, owner: Owner, group: Group, tool: int) -> None:
        group.estimates = [(int(one.time // MINUTE_S), one.ok) for one in group.estimate(group.clusters())[0]]
        for minute, ok in group.estimates:
            self._count_estimate(owner, minute, tool, 1, ok=ok)

    def _take_back(self, owner: Owner, group: Group, tool: int) -> None:
        for minute, ok in group.estimates or ():
            self._count_estimate(owner, minute, tool, -1, ok=ok)
        group.estimates = None

    def _count_estimate(self, owner: Owner, minute: int, tool: int, amount: int, *, ok: bool) -> None:
        self._counts.add(minute, tool * KINDS + (OK if ok else FAILED), amount)
        self._counts.add(minute, tool * KINDS + ESTIMATED, amount)
        owner.calls += amount
        owner.errors += 0 if ok else amount

    def _unsettle(self, owner: Owner) -> None:
        for minute, tool in owner.settled or ():
            self._counts.add(minute, tool * KINDS + ORPHANED, -1)
        owner.settled = None
        self._settled.pop(owner.key, None)

    def _forget(self, key: str) -> None:
        del self.owners[key]
        self._newest = None
        self.live.pop(key, None)
        self._settled.pop(key, None)
        self._dirty.pop(key, None)


def _kind(sign: Sign) -> int:
    """As what a sign is counted."""
    return RAW if sign[2] is not None else OK if sign[3] else FAILED
