"""What an AmigaCollector must be told. app.py fills it from the settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class AmigaConfig:
    """One AMIGA installation.

    `timezone` names the zone of its naive times (None: this host's). `private_dir` is a directory of ours
    for copies of a database that cannot be read in place without leaving files beside it.
    """

    root: Path
    database: Path
    sessions: Path
    private_dir: Path
    timezone: str | None = None
    hide_parameters: bool = False
    transcripts: Path | None = None
