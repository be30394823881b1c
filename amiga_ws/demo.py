"""The demonstration: a simulated AMIGA, run beside the server and watched like a real one."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from amiga_ws.config import Settings

END_S = 3.0  # for the simulator to end its own processes


class Demo:
    """A simulator process writing into `state_dir/demo`."""

    def __init__(self, settings: Settings) -> None:
        self._root: Path = (settings.state_dir / "demo").absolute()
        self._root.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "amiga_ws", "simulate", str(self._root)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 - our own command

    def watched_by(self, settings: Settings) -> Settings:
        """The settings, with the simulated installation in place of the real one."""
        amiga = replace(
            settings.amiga,
            root=self._root,
            database=self._root / "data" / "agentlab.db",
            sessions=self._root / "logs" / "sessions",
            timezone=None,
            transcripts=self._root / "claude" / "projects",
            name="demo",
        )
        return replace(settings, amiga=amiga)

    def interrupt(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def end(self) -> None:
        """Wait for its end."""
        self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
