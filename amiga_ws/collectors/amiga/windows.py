"""Counts and durations by minute, rolled up by hour: any window of 1-168 h is answered without a row.

A window is everything since a minute: `window_start(now, hours)`. What is stamped in the future is in
every window. Amounts may be negative, to take back what was added.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

MINUTE_S = 60
HOUR_MINUTES = 60
KEEP_MINUTES = 170 * HOUR_MINUTES  # the widest window and a little more
AHEAD_MINUTES = 24 * HOUR_MINUTES  # a stamp further in the future is counted here

# Neighbouring duration classes differ by 4 %, so the middle of one is at most 2 % off.
GROWTH = 1.04
_LOG_GROWTH = math.log(GROWTH)
_MIDDLE = math.sqrt(GROWTH)
_CLASSES = 480  # up to 1.04 ** 480 ms = 41 h
_LANE_BITS = 32


def window_start(now: float, hours: int) -> int:
    """The first minute (epoch minutes) of a window of `hours` that ends now."""
    return int(now // MINUTE_S) - hours * HOUR_MINUTES


class _Rollup:
    """The hours of a series, and the sum of those that hardly change any more."""

    def __init__(self) -> None:
        self._hours: dict[int, dict[int, int]] = {}
        self._newest_hour = 0
        self._old_revision = 0  # grows when an hour changes that a middle may have summed
        self._middles: dict[int, tuple[int, int, dict[int, int]]] = {}  # by first hour: state then, sums

    def add(self, hour: int, key: int, amount: int) -> None:
        bucket = self._hours.get(hour)
        if bucket is None:
            bucket = self._hours[hour] = {}
            self._newest_hour = max(self._newest_hour, hour)
        bucket[key] = bucket.get(key, 0) + amount
        if hour < self._newest_hour - 1:
            self._old_revision += 1

    def since(self, first: int) -> dict[int, int]:
        """Sums by key of hour `first` and later; the caller may change the answer."""
        total = dict(self._middle(first))
        for hour in range(max(first, self._newest_hour - 1), self._newest_hour + 1):
            if hour in self._hours:
                _merge(total, self._hours[hour])
        return total

    def prune(self, limit: int) -> None:
        for hour in [one for one in self._hours if one < limit]:
            del self._hours[hour]
        self._middles.clear()

    def _middle(self, first: int) -> dict[int, int]:
        known = self._middles.get(first)
        if known is not None and known[:2] == (self._old_revision, self._newest_hour):
            return known[2]
        total: dict[int, int] = {}
        for hour in range(first, self._newest_hour - 1):
            if hour in self._hours:
                _merge(total, self._hours[hour])
        if len(self._middles) > 2 * KEEP_MINUTES // HOUR_MINUTES:
            self._middles.clear()
        self._middles[first] = (self._old_revision, self._newest_hour, total)
        return total


class Buckets:
    """Counts by small integer key: `add` costs two dictionary updates, `since` about 230 merges at most."""

    def __init__(self) -> None:
        self._minutes: dict[int, dict[int, int]] = {}
        self._hours = _Rollup()

    def add(self, minute: int, key: int, amount: int = 1) -> None:
        """Count `amount` of `key` in an epoch minute."""
        bucket = self._minutes.get(minute)
        if bucket is None:
            bucket = self._minutes[minute] = {}
        bucket[key] = bucket.get(key, 0) + amount
        self._hours.add(minute // HOUR_MINUTES, key, amount)

    def since(self, minute: int) -> dict[int, int]:
        """Sums by key of all that lies in `minute` or later."""
        first = -(-minute // HOUR_MINUTES)
        total = self._hours.since(first)
        for one in range(minute, first * HOUR_MINUTES):
            if bucket := self._minutes.get(one):
                _merge(total, bucket)
        return total

    def prune(self, now_minute: int) -> None:
        """Forget what no window reaches any more."""
        _drop_before(self._minutes, now_minute - KEEP_MINUTES)
        self._hours.prune((now_minute - KEEP_MINUTES) // HOUR_MINUTES)


class Histograms:
    """Durations by small integer key, good for percentiles within 2 %.

    An hour's classes lie side by side in one big integer per key, 32 bits each: adding two hours is then
    one addition in C instead of a hundred in Python.
    """

    def __init__(self) -> None:
        self._minutes: dict[int, dict[int, list[int]]] = {}  # minute -> key -> classes, one an occurrence
        self._hours = _Rollup()

    def add(self, minute: int, key: int, seconds: float) -> None:
        """Note one duration; anything below 1 ms, negative too, counts as 1 ms."""
        lane = duration_class(seconds)
        self._minutes.setdefault(minute, {}).setdefault(key, []).append(lane)
        self._hours.add(minute // HOUR_MINUTES, key, 1 << (lane * _LANE_BITS))

    def since(self, minute: int) -> dict[int, int]:
        """Packed classes by key of all that ended in `minute` or later; see `percentiles`."""
        first = -(-minute // HOUR_MINUTES)
        total = self._hours.since(first)
        for one in range(minute, first * HOUR_MINUTES):
            for key, lanes in self._minutes.get(one, {}).items():
                total[key] = total.get(key, 0) + sum(1 << (lane * _LANE_BITS) for lane in lanes)
        return total

    def prune(self, now_minute: int) -> None:
        """Forget what no window reaches any more."""
        _drop_before(self._minutes, now_minute - KEEP_MINUTES)
        self._hours.prune((now_minute - KEEP_MINUTES) // HOUR_MINUTES)


def duration_class(seconds: float) -> int:
    """The class of a duration: 0 is up to 1 ms, each next one 4 % longer."""
    ms = seconds * 1000
    return 0 if ms <= 1 else min(_CLASSES, math.ceil(math.log(ms) / _LOG_GROWTH))


def percentiles(packed: int, shares: Iterable[float]) -> list[float | None]:
    """The durations (ms, three significant digits) below which each of the ascending `shares` (0-1) lies."""
    lanes = (packed.bit_length() + _LANE_BITS - 1) // _LANE_BITS
    counts = struct.unpack(f"<{lanes}I", packed.to_bytes(lanes * 4, "little"))
    total = sum(counts)
    wanted = [max(1, math.ceil(share * total)) for share in shares]
    if not total:
        return [None for _ in wanted]
    found: list[float | None] = []
    passed = 0
    lane = -1
    for rank in wanted:
        while passed < rank:
            lane += 1
            passed += counts[lane]
        found.append(float(f"{GROWTH**lane / _MIDDLE:.3g}") if lane else 1.0)
    return found


def _merge(total: dict[int, int], more: dict[int, int]) -> None:
    for key, amount in more.items():
        total[key] = total.get(key, 0) + amount


def _drop_before(minutes: dict[int, T], limit: int) -> None:
    for minute in [one for one in minutes if one < limit]:
        del minutes[minute]
