"""Connections in the order in which they began to wait, by address; beyond so many of one the first gives way."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from tornado.iostream import IOStream

MAX_ADDRESSES = 1024  # before those are forgotten of which none waits


class Queues:
    """One queue an address. Weak: nobody tells us of a connection that ends."""

    def __init__(self) -> None:
        self._queues: dict[str, WeakKeyDictionary[IOStream, None]] = {}

    def add(self, address: str, stream: IOStream, most: int) -> None:
        """To the end; where more than `most` of the address wait now, the first ones are closed."""
        queue = self._queues.get(address)
        if queue is None:
            if len(self._queues) >= MAX_ADDRESSES:
                self._queues = {known: queue for known, queue in self._queues.items() if queue}
            queue = self._queues[address] = WeakKeyDictionary()
        queue.pop(stream, None)
        queue[stream] = None
        if len(queue) > most:
            for gone in [each for each in queue if each.closed()]:
                del queue[gone]
        while len(queue) > most:
            take_first(queue).close()

    def discard(self, address: str, stream: IOStream) -> None:
        """It waits no more."""
        if queue := self._queues.get(address):
            queue.pop(stream, None)


def take_first(queue: WeakKeyDictionary[IOStream, None]) -> IOStream:
    """Of a queue that is not empty."""
    stream = next(iter(queue.keys()))
    del queue[stream]
    return stream
