"""The arithmetic of history: tiers, the step of an answer, and many rows brought down to few points. Pure.

A point is what is left of the samples in one slot of time: how many, the lowest, the highest, their sum.
Slots begin at whole multiples of their length since the epoch. Where nothing was sampled there is no
point, and none is made up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NotRequired, TypedDict

from amiga_ws.questions import TaskSpan

MAX_POINTS = 300
HOURS_RANGE = (1, 9600)
HOUR_S = 3600
DAY_S = 24 * HOUR_S


@dataclass(frozen=True)
class Tier:
    """Points of `step` seconds, kept for `keep` seconds."""

    step: int
    keep: int


MEMORY = Tier(2, HOUR_S)
TIERS = (Tier(10, DAY_S), Tier(60, 14 * DAY_S), Tier(HOUR_S, 400 * DAY_S))
FINEST, MINUTES, HOURS = TIERS

# Lengths people can read off an axis; the longest makes 9600 hours fit. Below 12 s a step may be shorter
# than the time between two readings, so only who looks closer at a time gets one of these.
_FINE_STEPS = (2, 4, 10)
_STEPS = (12, 30, 60, 120, 180, 300, 600, 900, 1200, 1800, 2400, 3600, 7200, 10800, 14400, 21600, 28800)
_LONG_STEPS = (43200, 64800, 86400, 129600)

Row = tuple[int, int, int, float, float, float]  # time (epoch), series, count, lowest, highest, sum


def step_of(hours: int) -> int:
    """Seconds between the points of an answer over `hours`: at most 300 of them."""
    least = math.ceil(hours * HOUR_S / MAX_POINTS)
    return next(step for step in _STEPS + _LONG_STEPS if step >= least)


def step_between(start: float, end: float, now: float) -> int:
    """Seconds between the points of an answer over [start, end): as fine as what is kept of that time allows."""
    kept = next((tier.step for tier in (MEMORY, *TIERS) if start >= now - tier.keep), HOURS.step)
    # One slot less: both ends lie within one.
    least = max(kept, math.ceil((end - start) / (MAX_POINTS - 1)))
    return next(step for step in _FINE_STEPS + _STEPS + _LONG_STEPS if step >= least)


def tier_of(step: int) -> Tier:
    """The tier on disk to make points of `step` seconds from: the coarsest that fits."""
    return next((tier for tier in reversed(TIERS) if step >= tier.step and step % tier.step == 0), FINEST)


@dataclass(slots=True)
class Tally:
    """The samples of one slot."""

    count: int = 0
    low: float = math.inf
    high: float = -math.inf
    total: float = 0.0

    def add(self, count: int, low: float, high: float, total: float) -> None:
        """Take in the samples of another point."""
        self.count += count
        self.low = min(self.low, low)
        self.high = max(self.high, high)
        self.total += total


Tallies = dict[tuple[int, int], Tally]  # by (slot's start, series)


def gather(into: Tallies, rows: Iterable[Row], step: int) -> None:
    """Add rows to the slots of `step` seconds in which they lie."""
    for time, series, count, low, high, total in rows:
        key = (time // step * step, series)
        tally = into.get(key)
        if tally is None:
            tally = into[key] = Tally()
        tally.add(count, low, high, total)


def rows_of(tallies: Tallies) -> list[Row]:
    """The rows of what was gathered."""
    return [(t, s, one.count, one.low, one.high, one.total) for (t, s), one in tallies.items()]


@dataclass(frozen=True)
class Grid:
    """The slots of an answer."""

    step: int
    start: int
    end: int

    @classmethod
    def over(cls, hours: int, step: int, now: float) -> Grid:
        """As many slots of `step` seconds as cover `hours` up to now, at most 300."""
        end = (math.floor(now / step) + 1) * step
        count = min(math.ceil(hours * HOUR_S / step), MAX_POINTS)
        return cls(step, end - count * step, end)

    @classmethod
    def between(cls, start: float, end: float, step: int) -> Grid:
        """The slots in which [start, end) lies."""
        return cls(step, math.floor(start / step) * step, math.ceil(end / step) * step)

    def widened(self, step: int) -> Grid:
        """The same time in slots of at least `step` seconds, which the step is a divisor of."""
        return self if self.step >= step else Grid.between(self.start, self.end, step)

    @property
    def times(self) -> range:
        """The beginnings of all slots."""
        return range(self.start, self.end, self.step)


@dataclass
class Column:
    """One series on the wire. All lists are as long as `t`; None where nothing is known."""

    step: int
    t: list[int] = field(default_factory=list)
    min: list[float | None] = field(default_factory=list)
    max: list[float | None] = field(default_factory=list)
    avg: list[float | None] = field(default_factory=list)


class Points(TypedDict):
    """A Column as it is sent."""

    t: list[int]
    min: list[float | None]
    max: list[float | None]
    avg: list[float | None]
    step: int


Answer = TypedDict(
    "Answer",
    {
        "hours": int | None,
        "from": int,
        "to": int,
        "step": int,
        "unit": dict[str, str],
        "series": dict[str, Points],
        "gaps": list[list[int]],
        "spans": NotRequired[list[TaskSpan]],
    },
)
Answer.__doc__ = "What was: docs/protocol.md explains each field."


def column(grid: Grid, tallies: Tallies, series: int, times: Sequence[int] | None = None) -> Column:
    """One series on a grid, or on those of its slots that are to be shown."""
    found = Column(grid.step, list(grid.times if times is None else times))
    for time in found.t:
        tally = tallies.get((time, series))
        found.min.append(None if tally is None else _short(tally.low))
        found.max.append(None if tally is None else _short(tally.high))
        found.avg.append(None if tally is None else _short(tally.total / tally.count))
    return found


def gaps(grid: Grid, known: set[int], now: float) -> list[list[int]]:
    """[from, to] of every run of slots whose start is not among `known`; the slot of now is not over yet.

    Slots may be shorter than the time between two readings: nothing shorter than that is a gap.
    """
    found: list[list[int]] = []
    for time in grid.times:
        if time in known or time + grid.step > now:
            continue
        if found and found[-1][1] == time:
            found[-1][1] = time + grid.step
        else:
            found.append([time, time + grid.step])
    return [gap for gap in found if gap[1] - gap[0] >= _STEPS[0]]


def shown(grid: Grid, known: set[int], missing: list[list[int]]) -> list[int]:
    """The slots to tell of: all, but for short ones that merely lie between two readings."""
    if grid.step >= _STEPS[0]:
        return list(grid.times)
    return [
        time for time in grid.times if time in known or any(start <= time < end for start, end in missing)
    ]


def _short(value: float) -> float:
    """Five digits: a chart shows three, and every page that is opened loads ten thousand of these."""
    return float(f"{value:.5g}")
