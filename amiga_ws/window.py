"""One window (hours) in use: its newest state, the position that counts its changes, and patches. Pure."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

import msgspec

from amiga_ws.patch import diff
from amiga_ws.snapshot import Snapshot, Source, same_content
from amiga_ws.wire import METRICS_PATCH, METRICS_UPDATE, Message, Patch, encode

NOTHING_SENT = -1  # before any seq
MAX_BASES = 64  # states kept as delta bases
MAX_BASES_BYTES = 2 * 1024 * 1024  # of their JSON; as structs that share what did not change they are less
AS_OF_STEP_S = 60.0  # how far a source's `as_of` may lag behind while nothing else about it changes

Why = Literal["epoch", "window", "evicted"] | None


@dataclass(frozen=True, slots=True)
class State:
    """One state of a window, encoded once."""

    seq: int
    snapshot: Snapshot
    message: Message  # metrics_update


class Window:
    """The states of one window. `position` is `<epoch>.<hours>.<seq>`; seq grows with each change.

    `epoch` is random per life of the server: a position of an earlier life is recognised as foreign.
    """

    def __init__(self, hours: int, epoch: str, after: int = 0) -> None:
        self.hours = hours
        self._epoch = epoch
        self._after = after  # the first seq is the next one
        self.newest: State | None = None  # None until the first `advance`
        # By seq, oldest first, the newest among them: a state and the bytes of its JSON. Not its message, which nobody
        # is sent any more: with its frames it is three times those bytes.
        self._bases: OrderedDict[int, tuple[Snapshot, int]] = OrderedDict()
        self._bases_bytes = 0
        self._updates: dict[int, Message] = {}  # base seq → what brings it to the newest; made on demand

    def position_at(self, seq: int) -> str | None:
        """The position of a state; None for NOTHING_SENT."""
        return None if seq == NOTHING_SENT else f"{self._epoch}.{self.hours}.{seq}"

    def advance(self, snapshot: Snapshot, now: float) -> State:
        """Take the newest composition and return the newest state: the old one when nothing has changed."""
        old = self.newest
        if old is not None:
            if same_content(old.snapshot, snapshot):
                return old
            snapshot = _steady_as_of(old.snapshot, snapshot)
        seq = 1 + (self._after if old is None else old.seq)
        position = self.position_at(seq)
        stamped = msgspec.structs.replace(snapshot, timestamp=now, position=position or "")
        self.newest = State(seq, stamped, Message(METRICS_UPDATE, encode(stamped), position=position))
        self._keep(self.newest)
        self._updates.clear()
        return self.newest

    def _keep(self, state: State) -> None:
        size = len(state.message.data)
        self._bases[state.seq] = (state.snapshot, size)
        self._bases_bytes += size
        while len(self._bases) > MAX_BASES or (self._bases_bytes > MAX_BASES_BYTES and len(self._bases) > 1):
            _, (_, dropped) = self._bases.popitem(last=False)
            self._bases_bytes -= dropped

    def update_from(self, base_seq: int) -> Message:
        """What brings a delta client from `base_seq` to the newest state, made once for all of them.

        A patch, or the full state when the base is unknown or the patch would not be smaller.
        """
        found = self._updates.get(base_seq)
        if found is None:
            found = self._updates[base_seq] = self._make_update(base_seq)
        return found

    def patches(self, base_seq: int) -> bool:
        """Whether it is a patch that brings `base_seq` to the newest state."""
        return self.update_from(base_seq).event == METRICS_PATCH

    def _make_update(self, base_seq: int) -> Message:
        newest, base = self.newest, self._bases.get(base_seq)
        assert newest is not None  # noqa: S101 - clients are subscribed after the first advance
        if base is None or base_seq == newest.seq:
            return newest.message
        data = encode(
            Patch(
                hours=self.hours,
                base=self.position_at(base_seq) or "",
                position=newest.snapshot.position,
                timestamp=newest.snapshot.timestamp,
                patch=diff(base[0], newest.snapshot),
            )
        )
        if len(data) >= len(newest.message.data):
            return newest.message
        return Message(METRICS_PATCH, data, position=newest.snapshot.position)

    def find(self, position: str) -> tuple[int, Why]:
        """The seq of a position a client remembers, or NOTHING_SENT and why it cannot be continued."""
        epoch, _, rest = position.partition(".")
        hours, _, seq = rest.partition(".")
        if epoch != self._epoch:
            return NOTHING_SENT, "epoch"
        if hours != str(self.hours):
            return NOTHING_SENT, "window"
        known = {str(kept): kept for kept in self._bases}
        return (known[seq], None) if seq in known else (NOTHING_SENT, "evicted")


def _steady_as_of(old: Snapshot, new: Snapshot) -> Snapshot:
    """Keep each source's former `as_of` for a while: four clocks a second would be half of a quiet patch."""
    sources = {name: _steady(old.sources.get(name), source) for name, source in new.sources.items()}
    return msgspec.structs.replace(new, sources=sources)


def _steady(old: Source | None, new: Source) -> Source:
    if old is None or old.as_of is None or new.as_of is None or old.state != new.state:
        return new
    if not 0 <= new.as_of - old.as_of < AS_OF_STEP_S:
        return new
    return msgspec.structs.replace(new, as_of=old.as_of)
