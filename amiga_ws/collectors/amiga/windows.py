"""Counts and durations by minute, rolled up by hour: any window of 1-168 h is answered without a row.

A window is everything since a minute: `window_start(now, hours)`. What is stamped in the future is in
every window. Amounts may be negative, to take back what was added.
"""

from __future__ import annotations

import bisect
import itertools
import math
import struct
from collections.abc import Iterable
from typing import Generic, TypeVar

Bucket = TypeVar("Bucket")

MINUTE_S = 60
HOUR_MINUTES = 60
DAY_HOURS = 24
KEEP_MINUTES = 170 * HOUR_MINUTES  # the widest window and a little more
AHEAD_MINUTES = 24 * HOUR_MINUTES  # a stamp further in the future is counted here

# Neighbouring duration classes differ by 4 %, so the middle of one is at most 2 % off.
GROWTH = 1.04
_LOG_GROWTH = math.log(GROWTH)
_MIDDLE = math.sqrt(GROWTH)
_CLASSES = 480  # up to 1.04 ** 480 ms = 41 h
_LANE_BITS = 32
MAX_SPANS = 64  # windows in use are 16 at most
_NOTHING: dict[int, int] = {}
_LANES = tuple(1 << (lane * _LANE_BITS) for lane in range(_CLASSES + 1))


def window_start(now: float, hours: int) -> int:
    """The first minute (epoch minutes) of a window of `hours` that ends now."""
    return int(now // MINUTE_S) - hours * HOUR_MINUTES


class _Series(Generic[Bucket]):
    """What Buckets and Histograms share: minutes, and the sums of the hours that hardly change any more.

    Only minutes are written. What windows are made of is summed when one first needs it and forgotten
    when something late falls into it: hours, days of hours, the sum of all full hours but the newest two,
    and spans of minutes (a window's first part, the newest hour up to the last minute but one).
    """

    def __init__(self) -> None:
        self._minutes: dict[int, Bucket] = {}
        self._hours: dict[int, dict[int, int]] = {}
        self._days: dict[int, dict[int, int]] = {}
        self._spans: dict[tuple[int, int], dict[int, int]] = {}  # [first, end) in minutes
        self._summed_to = 0  # what is older than this minute may be in a sum
        self._newest_hour = 0
        self._newest_minute = 0
        self._revision = 0  # grows when an hour that was summed changes
        self._middles: dict[int, tuple[int, int, dict[int, int]]] = {}  # by first hour: state then, sums

    def since(self, minute: int) -> dict[int, int]:
        """Sums by key of all that lies in `minute` or later; the caller may change the answer."""
        first = -(-minute // HOUR_MINUTES)
        newest = self._newest_hour
        total = dict(self._middle(first))
        if first <= newest - 1:
            _merge(total, self._hour(newest - 1))
        _merge(total, self._span(minute, first * HOUR_MINUTES))
        start = max(first, newest) * HOUR_MINUTES
        settled = max(start, self._newest_minute - 1)
        if settled > start:
            _merge(total, self._span(start, settled))
        self._add_minutes(total, settled, self._newest_minute + 1)
        return total

    def minute(self, minute: int) -> dict[int, int]:
        """Sums by key of one minute; the caller may change the answer."""
        total: dict[int, int] = {}
        self._add_minutes(total, minute, minute + 1)
        return total

    def first_minute(self) -> int | None:
        """The oldest minute in which there is anything."""
        return min(self._minutes, default=None)

    def prune(self, now_minute: int) -> None:
        """Forget what no window reaches any more."""
        limit = now_minute - KEEP_MINUTES
        for minute in [one for one in self._minutes if one < limit]:
            del self._minutes[minute]
        for hour in [one for one in self._hours if one < limit // HOUR_MINUTES]:
            del self._hours[hour]
        self._days.clear()
        self._middles.clear()
        self._spans.clear()

    def _add_minutes(self, total: dict[int, int], first: int, end: int) -> None:
        raise NotImplementedError

    def _touch(self, minute: int) -> None:
        """A bucket was made, or one that may be in a sum has changed."""
        hour = minute // HOUR_MINUTES
        self._newest_hour = max(self._newest_hour, hour)
        self._newest_minute = max(self._newest_minute, minute)
        if minute < self._summed_to:
            self._spans.clear()
            if self._hours.pop(hour, None) is not None and hour < self._newest_hour - 1:
                self._days.pop(hour // DAY_HOURS, None)
                self._revision += 1

    def _span(self, first: int, end: int) -> dict[int, int]:
        """The sum of minutes [first, end), from that of one minute less where it is known."""
        known = self._spans.get((first, end))
        if known is None:
            known = dict(self._spans.pop((first, end - 1), _NOTHING))
            self._add_minutes(known, end - 1 if known else first, end)
            if len(self._spans) >= MAX_SPANS:
                self._spans.clear()
            self._spans[first, end] = known
            self._summed_to = max(self._summed_to, end)
        return known

    def _middle(self, first: int) -> dict[int, int]:
        known = self._middles.get(first)
        if known is not None and known[:2] == (self._revision, self._newest_hour):
            return known[2]
        total: dict[int, int] = {}
        hour, end = first, self._newest_hour - 1
        while hour < end:
            if hour % DAY_HOURS == 0 and hour + DAY_HOURS <= end:
                _merge(total, self._day(hour // DAY_HOURS))
                hour += DAY_HOURS
            else:
                _merge(total, self._hour(hour))
                hour += 1
        if len(self._middles) > 2 * KEEP_MINUTES // HOUR_MINUTES:
            self._middles.clear()
        self._middles[first] = (self._revision, self._newest_hour, total)
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
            self._summed_to = max(self._summed_to, (hour + 1) * HOUR_MINUTES)
        return known


class Buckets(_Series[dict[int, int]]):
    """Counts by small integer key."""

    def add(self, minute: int, key: int, amount: int = 1) -> None:
        """Count `amount` of `key` in an epoch minute."""
        bucket = self._minutes.get(minute)
        if bucket is None:
            bucket = self._minutes[minute] = {}
            self._touch(minute)
        elif minute < self._summed_to:
            self._touch(minute)
        bucket[key] = bucket.get(key, 0) + amount

    def _add_minutes(self, total: dict[int, int], first: int, end: int) -> None:
        minutes = self._minutes
        for minute in range(first, end):
            if minute in minutes:
                for key, amount in minutes[minute].items():
                    total[key] = total.get(key, 0) + amount


class Histograms(_Series[dict[int, list[int]]]):
    """Durations by small integer key, good for percentiles within 2 %.

    Sums hold a key's classes side by side in one big integer, 32 bits each: adding two hours is then one
    addition in C instead of a hundred in Python. Minutes hold lists, one class an occurrence.
    """

    def add(self, minute: int, key: int, seconds: float) -> None:
        """Note one duration; anything below 1 ms, negative too, counts as 1 ms."""
        bucket = self._minutes.get(minute)
        if bucket is None:
            bucket = self._minutes[minute] = {}
            self._touch(minute)
        elif minute < self._summed_to:
            self._touch(minute)
        lanes = bucket.get(key)
        if lanes is None:
            bucket[key] = [duration_class(seconds)]
        else:
            lanes.append(duration_class(seconds))

    def _add_minutes(self, total: dict[int, int], first: int, end: int) -> None:
        minutes = self._minutes
        for minute in range(first, end):
            if minute in minutes:
                for key, lanes in minutes[minute].items():
                    packed = total.get(key, 0)
                    for lane in lanes:
                        packed += _LANES[lane]
                    total[key] = packed


def duration_class(seconds: float) -> int:
    """The class of a duration: 0 is up to 1 ms, each next one 4 % longer."""
    ms = seconds * 1000
    return 0 if ms <= 1 else min(_CLASSES, math.ceil(math.log(ms) / _LOG_GROWTH))


def percentiles(packed: int, shares: Iterable[float]) -> list[float | None]:
    """The durations (ms, three significant digits) below which each of the ascending `shares` (0-1) lies."""
    lanes = (packed.bit_length() + _LANE_BITS - 1) // _LANE_BITS
    counts = struct.unpack(f"<{lanes}I", packed.to_bytes(lanes * 4, "little"))
    passed = list(itertools.accumulate(counts))
    if not passed:
        return [None for _ in shares]
    found: list[float | None] = []
    for share in shares:
        lane = bisect.bisect_left(passed, max(1, math.ceil(share * passed[-1])))
        found.append(float(f"{GROWTH**lane / _MIDDLE:.3g}") if lane else 1.0)
    return found


def _merge(total: dict[int, int], more: dict[int, int]) -> None:
    for key, amount in more.items():
        total[key] = total.get(key, 0) + amount
