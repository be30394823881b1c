"""The last hour of samples in slots of 2 s: one block, as large at the first sample as after a year.

With an object for each point a server grew by 4 MiB in the first hour in which somebody watched it: then there is
a reading every second, else every ten.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping, Set

from amiga_ws.history.points import MEMORY, Row
from amiga_ws.history.series import SERIES

SLOTS = MEMORY.keep // MEMORY.step + 2  # at both ends of the hour there is one that lies half in it
_NEVER = -(2**62)
_NUMBERS = [one.number for one in SERIES.values() if not one.by_minute]
_NO_SAMPLES = array("d", (0.0, math.inf, -math.inf, 0.0))  # a point: count, lowest, highest, sum
_SIZE = len(_NO_SAMPLES)
_EMPTY = _NO_SAMPLES * len(_NUMBERS)  # a slot: a point for each series
_WIDTH = len(_EMPTY)
_PLACES = {number: column * _SIZE for column, number in enumerate(_NUMBERS)}  # of a series' point in its slot


class Recent:
    """A ring: each slot takes the place of the one that began `SLOTS` slots before it."""

    def __init__(self) -> None:
        self._newest = 0  # when the newest slot began (epoch)
        self._times = array("q", [_NEVER]) * SLOTS  # when the slot at each place began
        self._points = _EMPTY * SLOTS

    def add(self, now: float, values: Mapping[str, float]) -> None:
        """Take in one reading, by name of series. A clock that has been set back ends what was here."""
        time = int(now) // MEMORY.step * MEMORY.step
        slot = time // MEMORY.step % SLOTS
        if self._times[slot] != time:
            if time < self._newest:
                self._times = array("q", [_NEVER]) * SLOTS
            self._times[slot] = self._newest = time
            self._points[slot * _WIDTH : (slot + 1) * _WIDTH] = _EMPTY
        for name, value in values.items():
            at = slot * _WIDTH + _PLACES[SERIES[name].number]
            count, low, high, total = self._points[at : at + _SIZE]
            point = (count + 1, min(low, value), max(high, value), total + value)
            self._points[at : at + _SIZE] = array("d", point)

    def first(self) -> int | None:
        """When the oldest slot began (epoch): of what was sampled since, all is here. None: there is nothing."""
        return min((time for time in self._times if time > self._newest - SLOTS * MEMORY.step), default=None)

    def rows(self, start: int, end: int, numbers: Set[int]) -> Iterator[Row]:
        """The points of these series in [start, end), in no order."""
        for slot, time in enumerate(self._times):
            if start <= time < end:
                for number in numbers:
                    at = slot * _WIDTH + _PLACES[number]
                    count, low, high, total = self._points[at : at + _SIZE]
                    if count:
                        yield time, number, int(count), low, high, total
