"""Token buckets, and a bounded table of them by key. Pure: the (monotonic) clock is given."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable


class TokenBucket:
    """Allows `burst` at once and `rate` a second after that."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate  # tokens gained each second
        self._burst = burst  # the most there can be
        self._tokens = burst  # as of _at
        self._at = now

    def take(self, now: float) -> float:
        """Take one token; 0.0 when it was there, else the seconds until there is one (nothing is taken)."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._rate


class BucketTable:
    """One bucket a key, for at most `capacity` keys: the key longest unseen is forgotten first.

    Forgetting is safe towards the peer (a new bucket is full) and bounds what a scan of addresses can
    make grow: 10,000 keys are about 3 MB.
    """

    def __init__(self, rate: float, burst: float, capacity: int = 10_000) -> None:
        self._rate, self._burst, self._capacity = rate, burst, capacity
        self._buckets: OrderedDict[Hashable, TokenBucket] = OrderedDict()

    def take(self, key: Hashable, now: float) -> float:
        """As TokenBucket.take, for this key."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(self._rate, self._burst, now)
            if len(self._buckets) > self._capacity:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket.take(now)

    def __len__(self) -> int:
        return len(self._buckets)
