"""kill -9 again and again, under load: what was acknowledged stays, and what we keep is never torn."""

from __future__ import annotations

import http.client
import json
import random
import sys
import threading
import time
from contextlib import closing, suppress

import apsw
import pytest
from installation import Installation
from processes import CHECKOUT, Running
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from amiga_ws import state
from amiga_ws.app import HISTORY_FILE
from amiga_ws.auth.tokens import Authority
from amiga_ws.config import load
from amiga_ws.history.points import FINEST

LOST_AT_MOST_S = 10.0  # no more than this is lost of what history stores


class Owner:
    """Signs in by link, revokes and signs out until the server is gone; knows what was acknowledged."""

    def __init__(self, folder, given):
        settings = load(None, given, {}, folder)
        self._authority = Authority(state.load_secret(settings.state_dir), settings.auth)
        self.refused = []  # (method, headers) that must be 401 for ever
        self.acknowledged = 0

    def issue(self, typ="access", scope="metrics:read admin"):
        # Short: what is kept of it is read again at each start.
        token = self._authority.issue(subject="ada", scope=scope, ttl_s=1800, now=time.time(), typ=typ)
        return token, {"Authorization": f"Bearer {token}"}

    def act(self, running):
        _, admin = self.issue()
        # Killed between two requests, or amid an answer: what was answered in part was acknowledged to nobody.
        with suppress(OSError, http.client.HTTPException):
            while True:
                token, header = self.issue()
                body = json.dumps({"token": token}).encode()
                if running.request("POST", "/api/admin/revocations", admin, body)[0] == 201:
                    self._now_refused("GET", header)
                _, login = self.issue("login")
                status, headers, _ = running.request("POST", "/api/session", login)
                if status == 201:
                    self._now_refused("POST", login)
                    cookie = {"Cookie": headers["Set-Cookie"].partition(";")[0], "Origin": running.url}
                    if running.request("DELETE", "/api/session", cookie)[0] == 204:
                        self._now_refused("GET", {"Cookie": cookie["Cookie"]})

    def _now_refused(self, method, headers):
        self.refused.append((method, headers))
        self.acknowledged += 1

    def check(self, running, how_many):
        """A sample of all, and the newest in any case: a used link tried often would throttle us."""
        newest, older = self.refused[-6:], self.refused[:-6]
        links = 0
        for method, headers in [*newest, *random.sample(older, min(how_many, len(older)))]:
            links += method == "POST"
            if method == "POST" and links > 3:  # the fifth failed sign-in in a minute is throttled
                continue
            assert running.request(method, "/api/session", headers)[0] == 401


def view(url, headers, stopped):
    """A viewer that comes back at once."""
    while not stopped.is_set():
        with (
            suppress(OSError, WebSocketException, TimeoutError),
            connect(
                url.replace("http", "ws") + "/ws", additional_headers=headers, open_timeout=2, close_timeout=1
            ) as peer,
        ):
            peer.send(json.dumps({"event": "subscribe", "data": {"update_interval": 1, "delta": True}}))
            while not stopped.is_set():
                with suppress(TimeoutError):
                    peer.recv(timeout=0.2)


def stored(path):
    """How much history holds, and when it ends; it must be whole, however it was left."""
    if not path.exists():
        return 0, None
    with closing(apsw.Connection(str(path))) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'points'").fetchone():
            return 0, None
        return database.execute(
            "SELECT count(*), max(time) FROM points WHERE step = ?", (FINEST.step,)
        ).fetchone()


@pytest.mark.timeout(900)
@pytest.mark.promise(
    "No kill -9 forgets an acknowledged revocation, a used sign-in link or a sign-out, nor tears history"
)
def test_killed_under_load_again_and_again_it_forgets_nothing(tmp_path, full, figure):
    lives = 100 if full else 5
    amiga = Installation(tmp_path / "amiga")
    given = [f"state_dir={tmp_path / 'state'}", f"amiga.root={amiga.root}", "server.port=0"]
    given += ["limits.requests_burst=100000", "limits.requests_per_second=10000"]
    given += ["limits.new_connections_burst=1000", "limits.connections_per_address=100"]
    words = [sys.executable, "-m", "amiga_ws", "serve", *(word for each in given for word in ("--set", each))]
    owner, kept, chosen = Owner(tmp_path, given), 0, random.Random(9)
    _, reader = owner.issue(scope="metrics:read")
    for life in range(lives):
        with Running(words, CHECKOUT, tmp_path / "stderr") as running:
            owner.check(running, 4)
            stopped = threading.Event()
            others = [threading.Thread(target=owner.act, args=(running,))]
            others += [threading.Thread(target=view, args=(running.url, reader, stopped)) for _ in range(3)]
            for each in others:
                each.start()
            amiga.task(f"{life:06x}", at=time.time())
            long = life % 10 == 4  # long enough for history to be written
            time.sleep(chosen.uniform(9.0, 12.0) if long else chosen.uniform(0.05, 1.5))
            killed = time.time()
            running.kill()
            stopped.set()
            for each in others:
                each.join(10)
                assert not each.is_alive()
        assert "Traceback" not in running.stderr()
        found, newest = stored(tmp_path / "state" / HISTORY_FILE)
        assert found >= kept, "history lost what it had stored"
        assert not long or newest + FINEST.step >= killed - LOST_AT_MOST_S
        kept = found
    assert owner.acknowledged >= lives
    figure(f"{lives} kills, {owner.acknowledged} acknowledgements, {kept} stored points, none lost or torn")
