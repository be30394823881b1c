"""One word for the whole installation, by the rules of the dashboard (static/verdict.js). Pure.

STALE: we cannot vouch for the values. DOWN: AMIGA is not there, cannot be read, or its process has ended.
DEGRADED: something critical needs a person, or a source is broken or stale. ATTENTION: something wants to
be looked at. OK: none of these.
"""

from __future__ import annotations

from typing import NamedTuple

from amiga_ws.snapshot import Snapshot

SOURCE_NAMES = {
    "host": "Host",
    "amiga": "AMIGA database",
    "hooks": "Hook logs",
    "transcripts": "Transcripts",
    "history": "History",
}


class Verdict(NamedTuple):
    """`style` is a name of text.STYLES."""

    word: str
    style: str
    reason: str


def verdict(snapshot: Snapshot | None, *, lost: bool) -> Verdict:
    """`lost`: the stream has been gone for a while."""
    if lost:
        return Verdict("STALE", "alarm", "no data yet" if snapshot is None else "not connected")
    if snapshot is None:
        return Verdict("LOADING", "dim", "waiting for the first values")
    if (down := _down(snapshot)) is not None:
        return Verdict("DOWN", "alarm", down)
    needed = len(snapshot.attention)
    words = "1 needs you" if needed == 1 else f"{needed} need you"
    if any(item.severity == "crit" for item in snapshot.attention):
        return Verdict("DEGRADED", "red", words)
    if (broken := _broken(snapshot)) is not None:
        return Verdict("DEGRADED", "red", broken)
    return Verdict("ATTENTION", "yellow", words) if needed else _calm(snapshot)


def _calm(snapshot: Snapshot) -> Verdict:
    amiga = snapshot.sources.get("amiga")
    if amiga is not None and amiga.state == "loading":
        return Verdict("LOADING", "dim", "AMIGA's database is being read")
    seen = snapshot.overview.system.processes.amiga is not None
    # Of a bot that was never seen nobody knows whether it is alive.
    return Verdict("OK", "green", "all clear" if seen else "all clear, but no AMIGA process is seen")


def _broken(snapshot: Snapshot) -> str | None:
    for name, source in snapshot.sources.items():
        if source.state in ("error", "stale"):
            return f"{SOURCE_NAMES.get(name, name)}: {source.state}"
    return None


def _down(snapshot: Snapshot) -> str | None:
    amiga = snapshot.sources.get("amiga")
    if amiga is not None and amiga.state == "missing":
        return "no AMIGA found"
    if amiga is not None and amiga.state == "error":
        return "AMIGA's database cannot be read"
    process = snapshot.overview.system.processes.amiga
    return "AMIGA's process has ended" if process is not None and not process.alive else None
