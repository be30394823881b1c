"""Starting our commands as real processes, from a copy of the checkout where that matters."""

from __future__ import annotations

import http.client
import os
import selectors
import shutil
import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

CHECKOUT = Path(__file__).parent.parent
START_S = 20.0


def copy_checkout(target):
    """What a clone of the checkout would hold, with changes that are not committed yet."""
    listed = completed(["git", "ls-files", "-coz", "--exclude-standard"], cwd=CHECKOUT).stdout
    for name in filter(None, listed.split("\0")):
        if (CHECKOUT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, target / name)
    return target


def clean_environment(**more):
    """The environment without what would configure us by accident; PYTHONPATH too, so installs are proved."""
    ours = ("AMIGA_WS_", "AGENTLAB_", "PYTHONPATH", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | more


def completed(command, *, cwd=None, env=None, within_s=60):
    """Run to the end: `returncode`, `stdout` and `stderr` as text."""
    return subprocess.run(  # noqa: S603 - the tests' own commands
        [str(word) for word in command],
        cwd=cwd,
        env=env or clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=within_s,
    )


class Running:
    """A server process that has said where it listens. `stop` ends it; a context manager kills it at last."""

    def __init__(self, command, cwd, stderr, within_s=START_S, env=None):
        self.stderr_path = Path(stderr)
        with self.stderr_path.open("wb") as log:
            self.process = subprocess.Popen(  # noqa: S603 - the tests' own commands
                [str(word) for word in command],
                cwd=cwd,
                env=env or clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                # A group of its own: what it starts can be ended with it.
                start_new_session=True,
            )
        self.first_line = self._line(within_s)
        self.url = self.first_line.removeprefix("listening on ").strip()

    def _line(self, within_s):
        deadline, found = time.monotonic() + within_s, b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while not found.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self.kill()
                    raise AssertionError(f"it did not say where it listens in {within_s} s:\n{self.stderr()}")
                byte = os.read(self.process.stdout.fileno(), 1)
                if not byte:
                    code = self.process.wait()
                    raise AssertionError(f"it ended with {code} before it listened:\n{self.stderr()}")
                found += byte
        return found.decode()

    def stderr(self):
        return self.stderr_path.read_text("utf-8", errors="replace")

    def wait_for(self, text, within_s=START_S):
        """Until stderr holds `text`; returns all of it."""
        deadline = time.monotonic() + within_s
        while text not in (found := self.stderr()):
            assert time.monotonic() < deadline, f"no {text!r} on stderr:\n{found}"
            time.sleep(0.02)
        return found

    def request(self, method, path, headers=None, body=None):
        """(status, headers, body) of one request."""
        where = urlsplit(self.url)
        connection = http.client.HTTPConnection(where.hostname, where.port, timeout=10)
        try:
            connection.request(method, path, body, headers or {})
            reply = connection.getresponse()
            return reply.status, reply.headers, reply.read()
        finally:
            connection.close()

    def stop(self, signum=signal.SIGTERM, within_s=10.0):
        """(exit code, what else it wrote to stdout)."""
        self.process.send_signal(signum)
        rest, _ = self.process.communicate(timeout=within_s)
        return self.process.returncode, rest.decode()

    def kill(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self.process.stdout.close()
