"""How many calls the rows of one tool of one task stand for, and when they started.

AMIGA leaves 1 to 4 tool_usage rows per call, and one `tool_call` row in agent_status when it has ended.
With E of the latter, F finished and K open tool_usage rows (open ones within 0.5 s of each other counted
once: the hook's own and the one its report makes):

    open calls = max(0, K - max(0, F - E)), the newest starts;  calls = E + open

for every ended call leaves at most as many open rows too many as it has finished rows too many. Where there
is no `tool_call` row at all (old files, hooks without them) `Group.estimate` pairs rows by time instead.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

TWIN_S = 0.5  # hook row and report row lie about 0.1 s apart
REPORT_WITHIN_S = 1.0  # the row stamped at the end follows the status row within this
LONGEST_S = 12 * 3600.0  # a start older than this is no start of what ends now
MAX_OPEN = 256  # open rows kept one by one; older ones only as a number
MAX_STARTS = 32
MAX_DONE = 256

# A row of tool_usage: (time, (owner, tool), id, success, error, category). Or what agent_status says of a call's end:
# no id, and whether it succeeded. A plain tuple, for one is made for every row.
Sign = tuple[float, tuple[str, str], int | None, object, str | None, str | None]
# Rows within 0.5 s that may be the start of one call: (first time, more than one, one was open when first seen).
# A plain tuple: one is made for most rows, and a NamedTuple takes three times as long to make.
Start = tuple[float, bool, bool]


class Ended(NamedTuple):
    """One ended call that was found by pairing."""

    time: float
    ok: bool


class Group:
    """The rows of one (task or session, tool). Times are epoch seconds."""

    __slots__ = (
        "absorb",
        "done",
        "ended",
        "estimates",
        "failures",
        "finished",
        "frozen",
        "last_end",
        "open_ids",
        "open_times",
        "starts",
        "unexplained",
    )

    def __init__(self) -> None:
        self.ended = 0  # E
        self.finished = 0  # F
        self.frozen = 0  # clusters of open rows that are no longer kept one by one
        self.open_times: list[float] = []  # of the open rows, ascending
        self.open_ids: list[int] = []  # their ids, in the same order
        self.starts: list[Start] | None = None  # that no end has been matched with yet
        self.last_end = 0.0  # time of the newest status row
        self.absorb = False  # the call it ended had two start rows, so one more row follows
        self.done: list[Ended] | None = None  # finished rows, as long as there is no status row
        self.estimates: list[tuple[int, bool]] | None = None  # (minute, ok) of what pairing has counted
        self.failures: list[int] | None = None  # error keys of failed rows whose status row is still to come
        self.unexplained: list[int] | None = None  # minutes of failed status rows without an error text yet

    # -- rows ----------------------------------------------------------------------------------

    def take(self, signs: Iterable[Sign]) -> Iterator[tuple[Sign, float | None]]:
        """What came in, in the order of its times: nothing is taken in that the caller does not go through.

        Gives back each end of a call, with when it began if that is known, and each failed row, but not those that
        AMIGA's server stamps at the end.
        """
        starts = self.starts
        for sign in signs:
            when, _, row_id, success, _, _ = sign
            if row_id is None:
                began = self._end(when)
                starts = self.starts
                yield sign, began
                continue
            is_open = success is None
            if is_open:
                self._open(when, row_id)
            elif self.ended:
                self.finished += 1
            else:
                self._finish(when, ok=bool(success))
            # For the durations: is it a start?
            if starts and -TWIN_S <= when - starts[-1][0] <= TWIN_S:
                first, has_twin, was_open = starts[-1]
                if not has_twin or is_open > was_open:
                    starts[-1] = (first, True, was_open or is_open)
            elif not is_open and self.absorb and 0 <= when - self.last_end <= REPORT_WITHIN_S:
                self.absorb = False
                continue
            elif starts:
                starts.append((when, False, is_open))
                if len(starts) > MAX_STARTS:
                    del starts[0]
            else:
                starts = self.starts = [(when, False, is_open)]
            if not is_open and not success:
                yield sign, None

    def complete(self, row_id: int, *, ok: bool) -> float | None:
        """An open row was completed in place; its time, None if it is not known."""
        try:
            at = self.open_ids.index(row_id)
        except ValueError:
            return None
        del self.open_ids[at]
        when = self.open_times.pop(at)
        self._finish(when, ok=ok)
        return when

    def newest_open(self, upto: int, count: int) -> list[int]:
        """The ids of the newest open rows, so many and none above `upto`."""
        return list(itertools.islice((one for one in reversed(self.open_ids) if one <= upto), count))

    # -- the count -----------------------------------------------------------------------------

    def clusters(self) -> list[float]:
        """First times of the open rows, those within 0.5 s of one taken together."""
        firsts: list[float] = []
        last = float("-inf")
        for when in self.open_times:
            if when - last > TWIN_S:
                firsts.append(when)
                last = when
        return firsts

    def open_starts(self) -> list[float]:
        """When the calls that have no end yet started."""
        firsts = self.clusters()
        if self.ended == 0 and self.done:
            return self.estimate(firsts)[1]
        count = len(firsts) + self.frozen - max(0, self.finished - self.ended)
        return firsts[-count:] if count > 0 else []

    def estimate(self, firsts: list[float]) -> tuple[list[Ended], list[float]]:
        """(ended calls, open starts) without status rows, paired by time.

        A finished row with an open twin is a start that AMIGA's server completed: the next lone finished
        row is the same call's end. Two finished rows together end a call whose start stayed open.
        """
        left = list(firsts)
        waiting: list[Ended] = []  # completed starts whose end row is still to come
        ended: list[Ended] = []
        for size, when, ok in _bunches(self.done or []):
            twin = next((first for first in left if abs(first - when) <= TWIN_S), None)
            if twin is not None:
                left.remove(twin)
                waiting.append(Ended(when, ok))
            elif waiting:
                waiting.pop(0)
                ended.append(Ended(when, ok))
            else:
                ended.append(Ended(when, ok))
                if size > 1 and left and left[0] < when:
                    left.pop(max(i for i, first in enumerate(left) if first < when))
        return ended + waiting, left

    # -- within --------------------------------------------------------------------------------

    def _open(self, when: float, row_id: int) -> None:
        times = self.open_times
        if times and when < times[-1]:  # hardly ever
            at = bisect.bisect_right(times, when)
            times.insert(at, when)
            self.open_ids.insert(at, row_id)
        else:
            times.append(when)
            self.open_ids.append(row_id)
        if len(times) > MAX_OPEN:
            self._freeze()

    def _end(self, when: float) -> float | None:
        """The start of the call that a status row ends, the newest before it; None if there is none."""
        self.ended += 1
        self.done = None
        self.last_end = when
        self.absorb = False
        starts = self.starts
        if not starts:
            return None
        at = len(starts) - 1
        while at >= 0 and starts[at][0] > when:
            at -= 1
        if at < 0 or when - starts[at][0] > LONGEST_S:
            return None
        began, has_twin, was_open = starts.pop(at)
        if not was_open and when - began <= TWIN_S:
            # A hook that misses its start writes a finished row just before the status row.
            older = [i for i in range(at) if starts[i][2] and starts[i][1]]
            if older:
                began, has_twin, _ = starts.pop(older[-1])
        self.absorb = has_twin
        if not starts:
            self.starts = None
        return began

    def _finish(self, when: float, *, ok: bool) -> None:
        self.finished += 1
        if self.ended == 0:
            if self.done is None:
                self.done = []
            bisect.insort(self.done, Ended(when, ok))
            del self.done[:-MAX_DONE]

    def _freeze(self) -> None:
        keep_from = self.clusters()[-MAX_OPEN // 4 :][0]
        at = bisect.bisect_left(self.open_times, keep_from)
        before = len(self.clusters())
        del self.open_times[:at]
        del self.open_ids[:at]
        self.frozen += before - len(self.clusters())


def _bunches(done: list[Ended]) -> list[tuple[int, float, bool]]:
    """(how many, first time, last result) of finished rows within 0.5 s of each other."""
    bunches: list[tuple[int, float, bool]] = []
    for when, ok in done:
        if bunches and when - bunches[-1][1] <= TWIN_S:
            bunches[-1] = (bunches[-1][0] + 1, bunches[-1][1], ok)
        else:
            bunches.append((1, when, ok))
    return bunches
