"""Node.js for the tests that need it, and a node process whose every line of stdout is one thing it has to tell."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest
from processes import clean_environment

HERE = Path(__file__).parent / "node"
NODE = os.environ.get("NODE") or shutil.which("node")
INSTALLED = (HERE / "node_modules" / "ws" / "package.json").is_file()
WITHIN_S = 20.0

needs_node = pytest.mark.skipif(
    not (NODE and INSTALLED) and os.environ.get("CI") != "true",
    reason="no node, or its packages are not installed (scripts/test installs them)",
)


def comes_true(condition):
    """Wait until something in a server on another thread has come true."""
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


class Peer:
    """A node process; each line it writes is one thing that has happened to it."""

    def __init__(self, script, *words):
        assert NODE, "no node on this machine"
        self.process = subprocess.Popen(  # noqa: S603 - the tests' own commands
            [NODE, str(HERE / script), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=clean_environment(),
        )
        self._lines = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.seen = []

    def _read(self):
        for line in self.process.stdout:
            self._lines.put(json.loads(line))
        self._lines.put(None)

    def until(self, what, value=None):
        """The next line that has the key `what` (with that value, if one is given), others skipped."""
        deadline = time.monotonic() + WITHIN_S
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            assert line is not None, f"no {what} {value or ''}; before: {self.seen}"
            self.seen.append(line)
            if what in line and (value is None or line[what] == value):
                return line

    def say(self, event="", data=None):
        self.process.stdin.write(json.dumps({"event": event, "data": {} if data is None else data}) + "\n")
        self.process.stdin.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(10)
        self._reader.join(10)
        self.process.stdin.close()
        self.process.stdout.close()
