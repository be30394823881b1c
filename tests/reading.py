"""What the AMIGA collector's tests share: a clock to lead, a collector, a reading that has finished loading."""

from __future__ import annotations

from pathlib import Path

from amiga_ws.collectors.amiga import AmigaCollector, AmigaConfig
from amiga_ws.snapshot import AmigaFacts

NOW = 1_795_000_000.0
DAY = frozenset({24})


class Clock:
    """A wall clock that stands still until told otherwise."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def collector_of(root: Path, private: Path, clock: Clock | None = None, **options: object) -> AmigaCollector:
    """A collector of the installation at `root`, in UTC."""
    given: dict = {"timezone": "UTC"} | options
    config = AmigaConfig(
        root=root,
        database=root / "data" / "agentlab.db",
        sessions=root / "logs" / "sessions",
        private_dir=private,
        **given,
    )
    return AmigaCollector(config, clock=clock or Clock())


def read(collector: AmigaCollector, windows: frozenset[int] = DAY) -> AmigaFacts:
    """The collector's facts once it has read everything (a busy machine may need several slices)."""
    for _ in range(500):
        facts = collector.collect(windows)
        if "loading" not in {source.state for source in facts.sources.values()}:
            return facts
    raise AssertionError("never loaded")
