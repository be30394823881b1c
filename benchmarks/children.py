"""The two processes of a measurement: a server on its core and the load on another."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import machine

START_S = 30.0
END_S = 5.0


class FailedError(Exception):
    """A child did not do its part; the text is what it said last."""


class Child:
    """A process on one core that is spoken to in lines. Its stderr goes to a file, shown when it fails."""

    def __init__(
        self,
        command: Sequence[str],
        core: int,
        errors: Path,
        environment: Mapping[str, str] | None = None,
        inherit: Sequence[int] = (),
    ) -> None:
        self._errors = errors
        with errors.open("wb") as sink, machine.on_core(core):
            self.process = subprocess.Popen(  # noqa: S603 - our own words
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                env={**os.environ, **(environment or {})},
                pass_fds=inherit,
                bufsize=0,
            )
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.process.stdout, selectors.EVENT_READ)
        self._rest = b""

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    @property
    def stdin(self) -> int:
        """The descriptor that leads to it."""
        return self.process.stdin.fileno()

    def say(self, text: str) -> None:
        """Write to its stdin."""
        try:
            os.write(self.stdin, text.encode())
        except BrokenPipeError as error:
            raise FailedError(self.last_words()) from error

    def line(self, timeout_s: float) -> str:
        """Its next line. Raises FailedError at the end, or when none comes in time."""
        until = time.monotonic() + timeout_s
        while b"\n" not in self._rest:
            left = until - time.monotonic()
            if left <= 0 or not self._selector.select(left):
                raise FailedError(f"no answer within {timeout_s:.0f} s; {self.last_words()}")
            data = os.read(self.process.stdout.fileno(), 1 << 20)
            if not data:
                raise FailedError(self.last_words())
            self._rest += data
        text, _, self._rest = self._rest.partition(b"\n")
        return text.decode()

    def answer(self, timeout_s: float) -> dict[str, Any]:
        """Its next line as JSON."""
        return json.loads(self.line(timeout_s))

    def last_words(self) -> str:
        """The end of its stderr."""
        return self._errors.read_text(errors="replace")[-600:].strip() or "it ended without a word"

    def end(self) -> None:
        """Make sure it has gone."""
        self.process.stdin.close()
        self.process.terminate()
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self._selector.close()
