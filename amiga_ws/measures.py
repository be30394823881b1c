"""What is counted about ourselves, for who operates us: a histogram, and those that have no better home. Pure."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Histogram:
    """How often a value was at most each of `bounds`; `counts` has one more, for all beyond."""

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, int]]:
        """(bound, how many were at most that), up to `+Inf`: all."""
        found, sum_so_far = [], 0
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            sum_so_far += count
            found.append((bound, sum_so_far))
        return found


@dataclass(frozen=True, slots=True)
class Measures:
    """Seconds."""

    ticks: Histogram = field(default_factory=Histogram)  # from its beginning until the last viewer was served
    loop_lag: Histogram = field(default_factory=Histogram)  # how late the loop comes to what is due
