"""What an AmigaCollector must be told. app.py fills it from the settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from amiga_ws.config.prices import DEFAULT_PRICES, Price


@dataclass(frozen=True, kw_only=True)
class AmigaConfig:
    """One AMIGA installation.

    `timezone` names the zone of its naive times and of its days (None: this host's). `private_dir` is a
    directory of ours for copies of a database that cannot be read in place without leaving files beside it.
    `transcripts` is Claude Code's projects directory. `budget` is money per calendar month, `currency` the
    one of `prices` and `budget`.
    """

    root: Path
    database: Path
    sessions: Path
    private_dir: Path
    timezone: str | None = None
    hide_parameters: bool = False
    transcripts: Path | None = None
    prices: tuple[Price, ...] = DEFAULT_PRICES
    currency: str = "USD"
    budget: float | None = None
