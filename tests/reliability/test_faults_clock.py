"""The wall clock jumps by a day, forth and back, under a running server (libfaketime)."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from installation import Installation
from processes import CHECKOUT, Running, clean_environment
from websockets.sync.client import connect

from amiga_ws import state
from amiga_ws.auth.tokens import Authority
from amiga_ws.config import load

DAY_S = 86_400
LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


class Clock:
    """The wall clock of a process; its monotonic one goes on as it is."""

    def __init__(self, folder):
        self._offset = folder / "offset"
        self.set(0)
        self.environment = clean_environment(
            LD_PRELOAD=str(LIBRARY),
            FAKETIME_TIMESTAMP_FILE=str(self._offset),
            FAKETIME_NO_CACHE="1",
            FAKETIME_DONT_FAKE_MONOTONIC="1",
        )

    def set(self, seconds):
        aside = self._offset.with_suffix(".new")
        aside.write_text(f"{seconds:+d}s")
        aside.replace(self._offset)


class Watcher:
    """A WebSocket that must live through it all."""

    def __init__(self, url, token):
        self._opening = connect(url.replace("http", "ws") + "/ws", additional_headers=bearer(token))
        self.positions = []

    def __enter__(self):
        self._socket = self._opening.__enter__()
        self._socket.send(json.dumps({"event": "subscribe", "data": {"update_interval": 1}}))
        self.until_total(None)
        return self

    def __exit__(self, *error):
        self._opening.__exit__(*error)

    def until_total(self, wanted):
        """Wait for the state with so many tasks; every position on the way is later than the last."""
        ends = time.monotonic() + 30
        while time.monotonic() < ends:
            message = json.loads(self._socket.recv(timeout=30))
            if message["event"] == "metrics_update":
                self.positions.append(int(message["data"]["position"].rpartition(".")[2]))
                assert self.positions == sorted(set(self.positions))
                if wanted in (None, message["data"]["overview"]["tasks"]["total"]):
                    return
            assert message["event"] not in ("bye", "error"), message
        raise AssertionError(f"{wanted} tasks were never shown")


@pytest.mark.timeout(180)
@pytest.mark.promise("A clock that jumps a day forth or back ends nothing but what has expired by it")
def test_a_clock_that_jumps_a_day_ends_only_what_expires(tmp_path, figure):
    if LIBRARY is None:
        reason = "no libfaketime (apt: libfaketime; scripts/test installs it)"
        if os.environ.get("CI") == "true" and os.geteuid() == 0:
            pytest.fail(reason)
        pytest.skip(reason)
    clock, amiga = Clock(tmp_path), Installation(tmp_path / "amiga")
    given = [f"state_dir={tmp_path / 'state'}", f"amiga.root={amiga.root}", "server.port=0"]
    settings = load(None, given, {}, tmp_path)
    authority = Authority(state.load_secret(settings.state_dir), settings.auth)

    def token(ttl_s, at=0.0):
        now = time.time() + at
        return authority.issue(subject="ada", scope="metrics:read", ttl_s=ttl_s, now=now, typ="access")

    words = [sys.executable, "-m", "amiga_ws", "serve", *(word for each in given for word in ("--set", each))]
    with (
        Running(words, CHECKOUT, tmp_path / "stderr", env=clock.environment) as running,
        ExitStack() as living,
    ):
        watcher = living.enter_context(Watcher(running.url, token(20 * DAY_S)))
        short = token(3600)
        assert running.request("GET", "/api/session", bearer(short))[0] == 200
        for tasks, jump in enumerate((DAY_S, 0, -DAY_S, 0), 1):
            clock.set(jump)
            amiga.task(f"{tasks:06x}", at=time.time() + jump)
            watcher.until_total(tasks)
            # An hour's token ends with the day that is gone; what was issued "tomorrow" is not valid yet.
            assert running.request("GET", "/api/session", bearer(short))[0] == (200 if jump == 0 else 401)
            assert running.request("GET", "/health")[0] == 200
            with Watcher(running.url, token(3600, at=jump)):
                pass  # who comes now gets the state
        living.close()
        assert running.stop() == (0, "")
    assert "Traceback" not in running.stderr()
    figure(f"4 jumps, {len(watcher.positions)} states in order on one connection")


def bearer(token):
    return {"Authorization": f"Bearer {token}"}
