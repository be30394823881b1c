"""The disk of our own files is full, and has room again: who looks on sees the one as well as the other."""

from __future__ import annotations

from contextlib import closing

import apsw
import pytest
from disks import fill, small_disk

from amiga_ws.app import HISTORY_FILE
from amiga_ws.history import thread

FLUSH_S = 0.2


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk") as folder:
        yield folder


def points(path):
    """How many have been stored; the file must be whole."""
    with closing(apsw.Connection(str(path))) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return database.execute("SELECT count(*) FROM points").fetchone()[0]


@pytest.mark.promise(
    "Our disk full: the live view goes on, history says so, and goes on writing by itself when there is room"
)
@pytest.mark.timeout(180)
async def test_a_full_disk_costs_nobody_the_live_view(disk, start, monkeypatch, caplog, figure):
    monkeypatch.setattr(thread, "FLUSH_S", FLUSH_S)
    server = await start(f"state_dir={disk}", "history.enabled=true")
    stream = await server.events("?interval=1")
    states = 0

    async def history_is(state):
        nonlocal states
        for _ in range(60):
            server.host.cpu_percent = (server.host.cpu_percent + 7) % 100
            seen = (await stream.until(None)).data
            states += 1
            assert seen["sources"]["host"]["state"] == "ok"
            if (source := seen["sources"]["history"])["state"] == state:
                return source
        raise AssertionError(source)

    await history_is("ok")
    ballast = fill(disk)
    full = await history_is("error")
    assert full["error"] == "the disk is full"
    assert "the live view goes on" in full["hint"]
    assert (await server.ask("/ready")).status == 200
    while_full, states = states, 0
    for _ in range(3):
        await history_is("error")
    ballast.unlink()
    await history_is("ok")
    told = [record.getMessage() for record in caplog.records if record.getMessage().startswith("history ")]
    assert told == ["history cannot be written: the disk is full", "history is written again"]
    before = points(disk / HISTORY_FILE)
    await server.stop()
    assert points(disk / HISTORY_FILE) >= before > 0
    figure(f"{while_full} states until it was said, {states} more until it was written again")
    await server.start()
