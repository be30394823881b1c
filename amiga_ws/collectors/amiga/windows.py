"""Counts and durations by minute, rolled up by hour: any window of 1-168 h is answered without a row.

A window is everything since a minute: `window_start(now, hours)`. What is stamped in the future is in
every window; who adds it sees to it that it is no more than `times.AHEAD_S` ahead. Amounts may be negative, to
take back what was added.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import math
import struct
from typing import Any, Generic, TypeVar

Bucket = TypeVar("Bucket")

MINUTE_S = 60
HOUR_MINUTES = 60
DAY_HOURS = 24
KEEP_MINUTES = 170 * HOUR_MINUTES  # the widest window and a little more

# Neighbouring duration classes differ by 4 %, so the middle of one is at most 2 % off.
GROWTH = 1.04
_LOG_GROWTH = math.log(GROWTH)
_MIDDLE = math.sqrt(GROWTH)
_CLASSES = 480  # up to 1.04 ** 480 ms = 41 h
_LANE_BITS = 32
MAX_WINDOWS = 32  # in use are 16 at most
_LANES = tuple(1 << (lane * _LANE_BITS) for lane in range(_CLASSES + 1))
_SHOWN = (1.0, *(float(f"{GROWTH**lane / _MIDDLE:.3g}") for lane in range(1, _CLASSES + 1)))  # ms by class


def window_start(now: float, hours: int) -> int:
    """The first minute (epoch minutes) of a window of `hours` that ends now."""
    return int(now // MINUTE_S) - hours * HOUR_MINUTES


class _Series(Generic[Bucket]):
    """What Buckets and Histograms share: minutes, and the sums that windows are made of.

    Sums of hours, of days of hours and of windows are made when one first needs them. From then on what comes
    in is added to them, whenever it happened, and a window that moves on gives back the minutes it leaves: an
    answer costs what is new, however much there is.
    """

    def __init__(self) -> None:
        self._fresh: dict[int, Bucket] = {}  # by minute: what came since the last answer
        self._minutes: dict[int, Bucket] = {}
        self._hours: dict[int, dict[int, int]] = {}
        self._days: dict[int, dict[int, int]] = {}
        self._windows: dict[int, dict[int, int]] = {}  # by first minute, the one made last at the end
        self._newest = 0  # minute

    def since(self, minute: int) -> dict[int, int]:
        """Sums by key of all that lies in `minute` or later; the caller may change the answer."""
        self._fold()
        total = self._windows.get(minute)
        if total is None:
            total = self._moved(minute) or self._summed(minute)
            if len(self._windows) >= MAX_WINDOWS:
                del self._windows[next(iter(self._windows))]
            self._windows[minute] = total
        return dict(total)

    def minute(self, minute: int) -> dict[int, int]:
        """Sums by key of one minute; the caller may change the answer."""
        self._fold()
        total: dict[int, int] = {}
        self._add_minutes(total, minute, minute + 1)
        return total

    def first_minute(self) -> int | None:
        """The oldest minute in which there is anything."""
        self._fold()
        return min(self._minutes, default=None)

    def prune(self, now_minute: int) -> None:
        """Forget what no window reaches any more."""
        self._fold()
        limit = now_minute - KEEP_MINUTES
        _drop_below(self._minutes, limit)
        # An hour or day that has lost a minute is part of no window any more.
        _drop_below(self._hours, -(-limit // HOUR_MINUTES))
        _drop_below(self._days, -(-limit // (HOUR_MINUTES * DAY_HOURS)))
        self._windows.clear()  # also of those that nobody asks for any more

    def _sums(self, bucket: Bucket) -> dict[int, int]:
        raise NotImplementedError

    def _join(self, known: Bucket, more: Bucket) -> None:
        raise NotImplementedError

    def _fold(self) -> None:
        """Take what is fresh into minutes and sums."""
        fresh, self._fresh = self._fresh, {}
        for minute, bucket in fresh.items():
            hour = minute // HOUR_MINUTES
            totals = [total for first, total in self._windows.items() if first <= minute]
            totals += [
                one for one in (self._hours.get(hour), self._days.get(hour // DAY_HOURS)) if one is not None
            ]
            if totals:
                amounts = self._sums(bucket)
                for total in totals:
                    _merge(total, amounts)
            known = self._minutes.get(minute)
            if known is None:
                self._minutes[minute] = bucket
                self._newest = max(self._newest, minute)
            else:
                self._join(known, bucket)

    def _moved(self, minute: int) -> dict[int, int] | None:
        """The sum of a window that began less than an hour earlier: most likely the same one, a minute ago."""
        first = next((one for one in self._windows if minute - HOUR_MINUTES < one < minute), None)
        if first is None:
            return None
        total = self._windows.pop(first)
        left: dict[int, int] = {}
        self._add_minutes(left, first, minute)
        for key, amount in left.items():
            rest = total.get(key, 0) - amount
            if rest:
                total[key] = rest
            else:
                total.pop(key, None)
        return total

    def _summed(self, minute: int) -> dict[int, int]:
        hour, end = -(-minute // HOUR_MINUTES), self._newest // HOUR_MINUTES + 1
        total: dict[int, int] = {}
        self._add_minutes(total, minute, min(hour, end) * HOUR_MINUTES)
        while hour < end:
            if hour % DAY_HOURS == 0:
                _merge(total, self._day(hour // DAY_HOURS))
                hour += DAY_HOURS
            else:
                _merge(total, self._hour(hour))
                hour += 1
        return total

    def _day(self, day: int) -> dict[int, int]:
        """The sum of 24 hours, which makes a window that was not asked for before three times cheaper."""
        known = self._days.get(day)
        if known is None:
            known = self._days[day] = {}
            for hour in range(day * DAY_HOURS, (day + 1) * DAY_HOURS):
                _merge(known, self._hour(hour))
        return known

    def _hour(self, hour: int) -> dict[int, int]:
        known = self._hours.get(hour)
        if known is None:
            known = self._hours[hour] = {}
            self._add_minutes(known, hour * HOUR_MINUTES, (hour + 1) * HOUR_MINUTES)
        return known

    def _add_minutes(self, total: dict[int, int], first: int, end: int) -> None:
        for minute in range(first, end):
            bucket = self._minutes.get(minute)
            if bucket is not None:
                _merge(total, self._sums(bucket))


class Buckets(_Series[dict[int, int]]):
    """Counts by small integer key."""

    def add(self, minute: int, key: int, amount: int = 1) -> None:
        """Count `amount` of `key` in an epoch minute."""
        bucket = self._fresh.get(minute)
        if bucket is None:
            bucket = self._fresh[minute] = {}
        bucket[key] = bucket.get(key, 0) + amount

    def _sums(self, bucket: dict[int, int]) -> dict[int, int]:
        return bucket

    def _join(self, known: dict[int, int], more: dict[int, int]) -> None:
        _merge(known, more)


class Histograms(_Series[dict[int, list[int]]]):
    """Durations by small integer key, good for percentiles within 2 %.

    Sums hold a key's classes side by side in one big integer, 32 bits each: adding two hours is then one
    addition in C instead of a hundred in Python. Minutes hold lists, one class an occurrence.
    """

    def add(self, minute: int, key: int, seconds: float) -> None:
        """Note one duration; anything below 1 ms, negative too, counts as 1 ms."""
        bucket = self._fresh.get(minute)
        if bucket is None:
            bucket = self._fresh[minute] = {}
        lanes = bucket.get(key)
        if lanes is None:
            bucket[key] = [duration_class(seconds)]
        else:
            lanes.append(duration_class(seconds))

    def _sums(self, bucket: dict[int, list[int]]) -> dict[int, int]:
        return {key: sum([_LANES[lane] for lane in lanes]) for key, lanes in bucket.items()}

    def _join(self, known: dict[int, list[int]], more: dict[int, list[int]]) -> None:
        for key, lanes in more.items():
            known.setdefault(key, []).extend(lanes)


def duration_class(seconds: float) -> int:
    """The class of a duration: 0 is up to 1 ms, each next one 4 % longer."""
    ms = seconds * 1000
    return 0 if ms <= 1 else min(_CLASSES, math.ceil(math.log(ms) / _LOG_GROWTH))


@functools.lru_cache(maxsize=256)  # from one answer to the next most tools have no new duration
def percentiles(packed: int, shares: tuple[float, ...]) -> tuple[float | None, ...]:
    """The durations (ms, three significant digits) below which each of the ascending `shares` (0-1) lies."""
    if not packed:
        return tuple(None for _ in shares)
    first = ((packed & -packed).bit_length() - 1) // _LANE_BITS  # the lowest class that occurs
    lanes = (packed.bit_length() - 1) // _LANE_BITS + 1 - first
    counts = struct.unpack(f"<{lanes}I", (packed >> first * _LANE_BITS).to_bytes(lanes * 4, "little"))
    passed = list(itertools.accumulate(counts))
    ranks = [max(1, math.ceil(share * passed[-1])) for share in shares]
    return tuple(_SHOWN[first + bisect.bisect_left(passed, rank)] for rank in ranks)


def _drop_below(known: dict[Any, Any], limit: object) -> None:
    for key in [one for one in known if one < limit]:
        del known[key]


def _merge(total: dict[int, int], more: dict[int, int]) -> None:
    for key, amount in more.items():
        total[key] = total.get(key, 0) + amount
