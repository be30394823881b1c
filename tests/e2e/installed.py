"""A whole installation for the browser: a simulated AMIGA, the real server beside it, and real sign-in links."""

from __future__ import annotations

import re
import signal
import sys
import time

from processes import CHECKOUT, Running, clean_environment, completed
from servers import JWT

from amiga_ws.simulate import Simulator

# Every test's requests come from 127.0.0.1, and a page asks for 20 files.
GENEROUS = (
    "limits.requests_per_second=500",
    "limits.requests_burst=500",
    "limits.new_connections_per_second=100",
    "limits.new_connections_burst=100",
    "limits.connections_per_address=100",
    "metrics.update_interval=1",
)
# psutil leaves out the functions that a system has not: so it looks from within.
LACKING = """
import psutil, runpy
for name in {names}: delattr(psutil, name)
runpy.run_module("amiga_ws", run_name="__main__")
"""
COMPLAINT = re.compile(r"Traceback|\bERROR\b|\bCRITICAL\b")


class Site:
    """One server process on files of its own; it keeps its port and its secret over a restart."""

    def __init__(self, folder, *overrides, amiga=True, demo=False, without=()):
        self.folder, self.demo = folder, demo
        self._without = without  # readings of psutil that this system shall not have
        self.state_dir, self.amiga_root = folder / "state", folder / "amiga"
        self._overrides = [f"amiga.root={self.amiga_root}", *GENEROUS, *overrides]
        self._starts = 0
        self._running = None
        self._tokens = {}
        self.port = 0
        self.sim = Simulator(self.amiga_root, seed=1) if amiga else None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        """Start the server, on the port it had before."""
        self._starts += 1
        given = [f"state_dir={self.state_dir}", f"server.port={self.port}", *self._overrides]
        run = ["-c", LACKING.format(names=list(self._without))] if self._without else ["-m", "amiga_ws"]
        command = [sys.executable, *run, "serve", *(["--demo"] if self.demo else [])]
        for each in given:
            command += ["--set", each]
        stderr = self.folder / f"stderr-{self._starts}"
        # The checkout under test, whatever the interpreter has installed.
        environment = clean_environment(PYTHONPATH=str(CHECKOUT))
        self._running = Running(command, self.folder, stderr, env=environment)
        self.port = int(self._running.url.rpartition(":")[2])

    def stop(self):
        """End the server as an owner would; it must have nothing to complain about."""
        running, self._running = self._running, None
        with running:
            assert running.stop() == (0, "")
        said = running.stderr()
        assert not COMPLAINT.search(said), said
        assert not JWT.search(said), said

    def drain(self):
        """Tell the server to stop, and wait until it says that it is not ready; `stop` ends the drain."""
        self._running.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 10
        while self.ask("GET", "/ready", {})[0] != 503:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def restart(self):
        self.stop()
        self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """End everything, also after a failed test."""
        if self.sim is not None:
            self.sim.close()
        if self._running is not None:
            self.stop()

    def log(self):
        """What the running server has said on stderr."""
        return self._running.stderr()

    def ask(self, method, path, headers):
        """(status, headers, body) of a request by no browser."""
        return self._running.request(method, path, headers)

    # -- credentials, by the script an owner uses ------------------------------------------------

    def login_link(self, *options):
        """What `scripts/mktoken.py --login` prints."""
        return self._mktoken("--login", *options)

    def token(self, subject="ada", *options):
        """What `scripts/mktoken.py --subject` prints."""
        return self._mktoken("--subject", subject, *options)

    def session(self, subject="owner", scope="metrics:read admin"):
        """(name, value) of the cookie that a sign-in with such a token sets."""
        options = (subject, "--scope", scope)
        if options not in self._tokens:
            self._tokens[options] = self.token(*options)
        headers = {"Authorization": f"Bearer {self._tokens[options]}", "Origin": self.url}
        status, reply, body = self.ask("POST", "/api/session", headers)
        assert status == 201, body
        name, _, value = reply["Set-Cookie"].partition(";")[0].partition("=")
        return name, value

    def _mktoken(self, *options):
        script = [sys.executable, CHECKOUT / "scripts" / "mktoken.py", *options]
        done = completed([*script, "--set", f"state_dir={self.state_dir}"], cwd=self.folder)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    # -- what happens in AMIGA -------------------------------------------------------------------

    def furnish(self):
        """Some history: two tasks that ended, one at work with a tool under way, one that waits."""
        sim, now = self.sim, time.time()
        done = sim.start_task(description="Write release notes", model="haiku", at=now - 900)
        sim.end_tool(sim.start_tool(done, "Read", at=now - 890), at=now - 889)
        sim.complete_task(done, at=now - 800)
        failed = sim.start_task(description="Upgrade the parser", at=now - 700)
        sim.end_tool(sim.start_tool(failed, "Edit", at=now - 690), ok=False, at=now - 688)
        sim.fail_task(failed, at=now - 600)
        busy = sim.start_task(description="Fix flaky login test", at=now - 60)
        sim.end_tool(sim.start_tool(busy, "Bash", at=now - 50), at=now - 48)
        sim.start_tool(busy, "Grep", at=now - 5)
        sim.queue_task("Translate the manual", at=now - 30)
        return self
