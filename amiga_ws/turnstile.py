"""Waiting: many who became ready together go on a few at a time; waits that a stop can end. No Tornado, no clock."""

from __future__ import annotations

import asyncio
from collections import deque


class Turnstile:
    """Lets so many pass in each pass of the loop, in order; nobody goes on in the pass he came in.

    After a restart all viewers are there at once, and would hold the loop in one piece of 1,000 x 0.8 ms.
    """

    def __init__(self, each_pass: int) -> None:
        self._each_pass = each_pass
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._turning = False  # a call of _turn is scheduled

    async def turn(self) -> None:
        """Wait for one's turn: the next pass, while there are few."""
        loop = asyncio.get_running_loop()
        place = loop.create_future()
        self._waiting.append(place)
        if not self._turning:
            self._turning = True
            loop.call_soon(self._turn, loop)
        await place

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        left = self._each_pass
        while left and self._waiting:
            place = self._waiting.popleft()
            if not place.done():  # else cancelled
                place.set_result(None)
                left -= 1
        self._turning = bool(self._waiting)
        if self._turning:
            loop.call_soon(self._turn, loop)


class Waits:
    """Waits that can be counted, and ended all at once and for ever."""

    def __init__(self) -> None:
        self._pending: set[asyncio.Future[None]] = set()
        self._ended = False

    def __len__(self) -> int:
        return len(self._pending)

    async def wait(self, seconds: float) -> None:
        """Return after so many seconds, or when all waits are ended."""
        if self._ended:
            return
        loop = asyncio.get_running_loop()
        waiting = loop.create_future()
        self._pending.add(waiting)
        timer = loop.call_later(seconds, _release, waiting)
        try:
            await waiting
        finally:
            timer.cancel()
            self._pending.discard(waiting)

    def end(self) -> None:
        """Everybody goes on now, and nobody waits any more."""
        self._ended = True
        for waiting in self._pending:
            _release(waiting)


def _release(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
