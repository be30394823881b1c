"""The demonstration: a simulated AMIGA, run beside the server and watched like a real one."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from amiga_ws import state
from amiga_ws.config import Settings

END_S = 3.0  # for the simulator to end its own processes


class Demo:
    """A simulator process writing into `state_dir/demo`.

    Raises:
        StateError: that folder cannot be made.
    """

    def __init__(self, settings: Settings) -> None:
        self._root: Path = (settings.state_dir / "demo").absolute()
        try:
            state.make_private_dir(settings.state_dir)  # the simulator's own would be open to others
        except OSError as error:
            raise state.StateError(
                f"cannot use state_dir {settings.state_dir}: {state.reason(error)}"
            ) from error
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
