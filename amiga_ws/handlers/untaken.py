"""Answers on their way: beyond so many of an address, the one that has lain longest is given up."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from tornado.iostream import IOStream

MAX_ADDRESSES = 1024  # with answers on their way, before those are forgotten that have none any more


class Untaken:
    """Connections that have been written more than the kernel takes, by address, in that order.

    Weak: where a connection has ended nobody need tell.
    """

    def __init__(self) -> None:
        self._lying: dict[str, WeakKeyDictionary[IOStream, None]] = {}

    def add(self, address: str, stream: IOStream, most: int) -> None:
        """An answer lies. More than `most` of the address: the first is closed, which may be one that nobody takes."""
        lying = self._lying.get(address)
        if lying is None:
            if len(self._lying) >= MAX_ADDRESSES:
                self._lying = {known: those for known, those in self._lying.items() if those}
            lying = self._lying[address] = WeakKeyDictionary()
        lying[stream] = None
        if len(lying) > most:
            for gone in [each for each in lying if each.closed()]:  # Tornado may tell nobody
                del lying[gone]
        while len(lying) > most:
            first = next(iter(lying.keys()))
            del lying[first]
            first.close()

    def discard(self, address: str, stream: IOStream) -> None:
        """It has been taken, or has gone."""
        if lying := self._lying.get(address):
            lying.pop(stream, None)
