"""Token buckets, and a bounded table of them by key. Pure: the (monotonic) clock is given."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Hashable


class TokenBucket:
    """Allows `burst` at once and `rate` a second after that."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate  # tokens gained each second
        self._burst = burst  # the most there can be
        self._tokens = burst  # as of _at
        self._at = now

    def take(self, now: float, tokens: float = 1.0) -> float:
        """Take tokens; 0.0 when they were there, else the seconds until they are (nothing is taken)."""
        if wait_s := self.wait_s(now, tokens):
            return wait_s
        self._tokens -= tokens
        return 0.0

    def reserve(self, now: float, tokens: float, within_s: float) -> float | None:
        """Take tokens, also such as are still to come; the seconds until they do.

        None, and nothing is taken, where that would be longer than `within_s`: a debt must have a bound.
        """
        wait_s = self.wait_s(now, tokens)
        if wait_s > within_s:
            return None
        self._tokens -= tokens
        return wait_s

    def give_back(self, tokens: float) -> None:
        """They were not needed."""
        self._tokens = min(self._burst, self._tokens + tokens)

    def wait_s(self, now: float, tokens: float = 1.0) -> float:
        """Seconds until there are so many tokens; 0.0 when there are."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._tokens >= tokens:
            return 0.0
        return (tokens - self._tokens) / self._rate if self._rate else math.inf


class Strikes:
    """Tells when something has happened `most` times within `within_s` seconds."""

    __slots__ = ("_times", "_within_s")

    def __init__(self, most: int, within_s: float) -> None:
        self._times: deque[float] = deque(maxlen=most)
        self._within_s = within_s

    def strike(self, now: float) -> bool:
        """One more; True when that was too many."""
        self._times.append(now)
        return len(self._times) == self._times.maxlen and now - self._times[0] <= self._within_s


class BucketTable:
    """One bucket a key, for at most `capacity` keys: the key longest unseen is forgotten first.

    Forgetting is safe towards the peer (a new bucket is full) and bounds what a scan of addresses can
    make grow: 10,000 keys are about 3 MB. Without a rate and a burst nothing may pass until `set_limit`.
    """

    def __init__(self, rate: float = 0.0, burst: float = 0.0, capacity: int = 10_000) -> None:
        self._rate, self._burst, self._capacity = rate, burst, capacity
        self._buckets: OrderedDict[Hashable, TokenBucket] = OrderedDict()

    def take(self, key: Hashable, now: float) -> float:
        """As TokenBucket.take, for this key."""
        return self._bucket(key, now).take(now)

    def reserve(self, key: Hashable, now: float, tokens: float, within_s: float) -> float | None:
        """As TokenBucket.reserve, for this key."""
        return self._bucket(key, now).reserve(now, tokens, within_s)

    def give_back(self, key: Hashable, tokens: float) -> None:
        """As TokenBucket.give_back, for this key, if it is known."""
        if bucket := self._buckets.get(key):
            bucket.give_back(tokens)

    def wait_s(self, key: Hashable, now: float) -> float:
        """Seconds until `take` would succeed, taking nothing; an unknown key need not wait."""
        bucket = self._buckets.get(key)
        return 0.0 if bucket is None else bucket.wait_s(now)

    def set_limit(self, rate: float, burst: float) -> None:
        """Another limit from now on; every key starts with a full bucket."""
        if (rate, burst) != (self._rate, self._burst):
            self._rate, self._burst = rate, burst
            self._buckets.clear()

    def _bucket(self, key: Hashable, now: float) -> TokenBucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(self._rate, self._burst, now)
            if len(self._buckets) > self._capacity:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket

    def __len__(self) -> int:
        return len(self._buckets)


class Pace:
    """When something may begin, by key: so much on the whole, and what has been saved up not all in one moment.

    Begun at once, an allowed burst would hold everybody else up while it lasts: it is spread over some seconds, but for
    the first few.
    """

    def __init__(self) -> None:
        self._whole, self._peak = BucketTable(), BucketTable()

    def set_limit(self, rate: float, burst: float, spread_s: float, together: float) -> None:
        """As BucketTable.set_limit; `together` may begin in one moment, and all of the burst in `spread_s`."""
        self._whole.set_limit(rate, burst)
        self._peak.set_limit(max(rate, burst / spread_s), together)

    def reserve(self, key: Hashable, now: float, tokens: float, within_s: float) -> float | None:
        """As BucketTable.reserve."""
        wait_s = self._whole.reserve(key, now, tokens, within_s)
        if wait_s is None:
            return None
        peak_s = self._peak.reserve(key, now, tokens, within_s)
        if peak_s is None:
            self._whole.give_back(key, tokens)
            return None
        return max(wait_s, peak_s)

    def give_back(self, key: Hashable, tokens: float) -> None:
        """As BucketTable.give_back."""
        self._whole.give_back(key, tokens)
        self._peak.give_back(key, tokens)
