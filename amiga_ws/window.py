"""One window (hours) in use: its newest state and the position that counts its changes. Pure."""

from __future__ import annotations

import msgspec

from amiga_ws.snapshot import Snapshot, same_content
from amiga_ws.wire import METRICS_UPDATE, Message, encode


class Window:
    """The states of one window. `position` is `<epoch>.<hours>.<seq>`; seq grows with each change.

    `epoch` is random per life of the server: a position of an earlier life is recognised as foreign.
    """

    def __init__(self, hours: int, epoch: str) -> None:
        self.hours = hours
        self._epoch = epoch
        self._seq = 0
        self.newest: Snapshot | None = None  # None until the first `advance`
        self.message: Message | None = None  # `newest` as metrics_update, encoded once

    @property
    def position(self) -> str:
        """The position of the newest state."""
        return f"{self._epoch}.{self.hours}.{self._seq}"

    def advance(self, snapshot: Snapshot, now: float) -> bool:
        """Take the newest composition; False (and nothing kept) when its content has not changed."""
        if self.newest is not None and same_content(self.newest, snapshot):
            return False
        self._seq += 1
        self.newest = msgspec.structs.replace(snapshot, timestamp=now, position=self.position)
        self.message = Message(METRICS_UPDATE, encode(self.newest), position=self.position)
        return True
