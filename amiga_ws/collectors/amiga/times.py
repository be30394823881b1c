"""AMIGA's times turned into epoch seconds.

Its TEXT columns hold naive local time of the AMIGA host ("2026-11-21T03:18:28.248341", microseconds left
out when exactly 0); old rows end in "Z" and are UTC; some have a space for the "T". The two sort wrongly as
strings, so everything is parsed before it is compared.
"""

from __future__ import annotations

import datetime as dt
import math
import operator
import zoneinfo
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

# What lies further ahead of now counts as so far ahead: no clock is a day off, and sums go to the newest hour there is.
AHEAD_S = 86400.0
REPEATED_S = 3600.0  # what a clock change in autumn has twice
_CACHE_LIMIT = 20_000  # minutes: two weeks; then it starts anew
_MINUTE_CHARS = 16  # "2026-11-21T03:18"
_USUAL_CHARS = 26  # "2026-11-21T03:18:28.248341"
_USUAL_MARKS = {16: ":", 19: "."}  # what stands where in it, behind a minute and within the seconds
_ORDERLY_S = 60.0  # rows are written nearly in the order of their times
_UTC_CHARS = 27  # "2026-11-21T03:18:28.248341Z"
_UTC_MARKS = {7: "-", 10: "T", 26: "Z"}  # texts of this form sort as their times do
_EARLIEST = dt.datetime(1971, 1, 1)  # noqa: DTZ001 - compared with naive values only
_LATEST = dt.datetime(2200, 1, 1)  # noqa: DTZ001 - compared with naive values only
_decode_floats = msgspec.json.Decoder(list[float]).decode

Epoch = TypeVar("Epoch", float, float | None)
Row = TypeVar("Row", bound=tuple[Any, ...])


def zone_named(name: str | None) -> dt.tzinfo | None:
    """The time zone called `name`; None (the host's own zone) for None. Raises ZoneInfoNotFoundError."""
    return None if name is None else zoneinfo.ZoneInfo(name)


def shown_time(epoch: Epoch) -> Epoch:
    """A time as a snapshot tells it: to the millisecond, for AMIGA's microseconds are 2 % of all its bytes."""
    return None if epoch is None else round(epoch * 1000) / 1000  # round(epoch, 3) takes three times as long


class Times:
    """Parses times of one installation, whose naive ones mean `zone` (None: this host's zone).

    A local time that a clock change repeats is read as its first occurrence, unless it is known to have been
    written `after` that; one that the change skips as if it had not happened. Who computes a duration must
    clamp it at 0.
    """

    def __init__(self, zone: dt.tzinfo | None = None) -> None:
        self.zone = zone
        self._minutes: dict[str, float | None] = {}  # "2026-11-21T03:18" as naive local -> epoch
        self._utc: Times | None = None  # reads the usual form with a Z

    def parse(self, text: object, after: float = float("-inf")) -> float | None:
        """Epoch seconds of one AMIGA time, None if it is none. Fast for the usual form (about 0.4 µs).

        `after`: it was written no more than a minute before this.
        """
        if not isinstance(text, str):
            return None
        # The usual form by slicing: parsing each minute once and adding the seconds is 5x faster.
        if len(text) == _USUAL_CHARS and text[16] == ":" and text[19] == ".":
            start = self._start(text[:_MINUTE_CHARS])
            if start is not None:
                try:
                    value = float(text[17:])
                except ValueError:
                    return None
                if 0.0 <= value < 60.0:  # noqa: PLR2004 - seconds of a minute
                    return start + value
        return self._slow(text, after)

    def timed(
        self, rows: Sequence[Row], column: int, after: float, since: float
    ) -> tuple[Sequence[Row], list[float]]:
        """The rows with a time in this column, and these times.

        They were written in this order, the first of them `after` this and all after `since`. Where all are of one
        minute, as what has come in within a second mostly is, they take half the time.
        """
        times = self._parse_minute(list(map(operator.itemgetter(column), rows)))
        if times is not None:
            return rows, times
        kept, times = [], []
        for row in rows:
            when = self.parse(row[column], max(after, since))
            if when is not None:
                after = when
                kept.append(row)
                times.append(when)
        return kept, times

    def parse_utc(self, text: object) -> float | None:
        """As `parse`, but a naive time means UTC (hook lines, transcripts)."""
        if not isinstance(text, str):
            return None
        if len(text) == _UTC_CHARS and text[-1] == "Z":  # as AMIGA's hooks and old rows have it
            if self._utc is None:
                self._utc = Times(dt.UTC)
            return self._utc.parse(text[:-1])
        return _epoch(_read(text.strip()), dt.UTC)

    def newest_utc(self, texts: Sequence[Any]) -> float | None:
        """The latest `parse_utc` of these, None if none is a time."""
        newest = None if _joined(texts, _UTC_CHARS, _UTC_MARKS) is None else self.parse_utc(max(texts))
        if newest is not None:
            return newest
        return max((when for when in map(self.parse_utc, texts) if when is not None), default=None)

    def day(self, epoch: float) -> dt.date:
        """The local calendar day of `epoch`."""
        return dt.datetime.fromtimestamp(epoch, self.zone).date()

    def day_start(self, day: dt.date) -> float:
        """The epoch at which the local `day` begins."""
        start = _epoch(dt.datetime.combine(day, dt.time()), self.zone)
        return 0.0 if start is None else start

    def wall(self, epoch: float) -> float:
        """What a clock on the wall shows at `epoch`, as if that were UTC: a clock change repeats some of them."""
        return dt.datetime.fromtimestamp(epoch, self.zone).replace(tzinfo=dt.UTC).timestamp()

    def text(self, epoch: float) -> str:
        """`epoch` as AMIGA would write it now: for comparing with its columns in SQL."""
        return dt.datetime.fromtimestamp(epoch, self.zone).replace(tzinfo=None).isoformat()

    def _start(self, minute: str) -> float | None:
        """When a minute begins; None if it is none, or a repeated one, of which the row tells which is meant."""
        known = self._minutes.get(minute, -1.0)
        if known != -1.0:
            return known
        if len(self._minutes) >= _CACHE_LIMIT:
            self._minutes.clear()
        moment = _read(minute)
        start = _epoch(moment, self.zone)
        if (
            start is not None
            and moment is not None
            and start < (_epoch(moment.replace(fold=1), self.zone) or 0.0)
        ):
            return None
        self._minutes[minute] = start
        return start

    def _parse_minute(self, texts: Sequence[Any]) -> list[float] | None:
        """`parse` of texts of the usual form that all lie in one minute, which is not a repeated one; else None."""
        joined = _joined(texts, _USUAL_CHARS, _USUAL_MARKS)
        if joined is None or (start := self._start(texts[0][:_MINUTE_CHARS])) is None:
            return None
        # As one list of numbers that is read at once; a 1 before each, for in JSON they begin with no 0.
        numbers = joined.replace(texts[0][: _MINUTE_CHARS + 1], ",1")
        try:
            seconds = _decode_floats(f"[{numbers[1:]}]")
        except (msgspec.MsgspecError, ValueError):
            return None
        if len(seconds) != len(texts) or not 100.0 <= min(seconds) <= max(seconds) < 160.0:  # noqa: PLR2004 - a minute's
            return None
        start -= 100.0
        return [start + one for one in seconds]

    def _slow(self, text: str, after: float) -> float | None:
        if text.endswith("Z"):
            return self.parse_utc(text)
        moment = _read(text.strip())
        first = _epoch(moment, self.zone)
        if first is None or moment is None or first >= after - _ORDERLY_S:
            return first
        second = _epoch(moment.replace(fold=1), self.zone)
        # In the hour that a clock change skips, the second reading is the earlier one.
        return first if second is None or second < max(first, after - _ORDERLY_S) else second


def _joined(texts: Sequence[Any], chars: int, marks: Mapping[int, str]) -> str | None:
    """The texts in one, if there are any and all have so many characters with these at these places."""
    try:
        if set(map(len, texts)) != {chars}:
            return None
        joined = "".join(texts)
    except TypeError:
        return None
    alike = all(joined[place::chars] == mark * len(texts) for place, mark in marks.items())
    return joined if alike else None


def _read(text: str) -> dt.datetime | None:
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        return None


def _epoch(moment: dt.datetime | None, zone: dt.tzinfo | None) -> float | None:
    if moment is None or not _EARLIEST <= moment.replace(tzinfo=None) <= _LATEST:
        return None
    if moment.tzinfo is None and zone is not None:
        moment = moment.replace(tzinfo=zone)
    try:
        value = moment.timestamp()  # a naive one means the host's zone
    except (OverflowError, OSError, ValueError):
        return None
    return value if math.isfinite(value) else None
