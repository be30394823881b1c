"""AMIGA's writer does not notice that it is watched."""

from __future__ import annotations

import sqlite3
import threading

import pytest
from installation import CLI_SESSION, Installation
from reading import NOW, collector_of, read


@pytest.fixture
def watched(tmp_path):
    """An installation that is read again and again from another thread."""
    amiga = Installation(tmp_path / "amiga")
    amiga.task("aaaaaa", at=NOW)
    ended = threading.Event()
    readings: list[int] = []

    def watch():
        collector = collector_of(amiga.root, tmp_path / "private")
        while not ended.is_set():
            readings.append(read(collector).windows[24].tools.raw_rows)
        readings.append(read(collector).windows[24].tools.raw_rows)
        collector.close()

    thread = threading.Thread(target=watch)
    thread.start()
    yield amiga, readings, lambda: (ended.set(), thread.join())
    ended.set()
    thread.join()


def test_a_writer_that_never_waits_is_never_locked_out(watched):
    amiga, readings, stop = watched
    writer = sqlite3.connect(amiga.database, isolation_level=None, timeout=0)
    for place in range(400):
        writer.execute("BEGIN IMMEDIATE")
        writer.execute(
            "INSERT INTO tool_usage (timestamp, task_id, tool_name, success) VALUES (?, ?, 'Read', 1)",
            ("2026-11-18T11:00:00", CLI_SESSION),
        )
        writer.execute("COMMIT")
        if place % 50 == 0:
            writer.execute("PRAGMA wal_checkpoint(PASSIVE)")
    writer.close()
    stop()
    assert readings == sorted(readings)
    assert readings[-1] == 400


def test_between_two_readings_the_whole_wal_can_be_folded_in(tmp_path):
    amiga = Installation(tmp_path / "amiga")
    collector = collector_of(amiga.root, tmp_path / "private")
    for place in range(20):
        amiga.tool(CLI_SESSION, "Read", NOW - place, 1)
        assert read(collector).windows[24].tools.raw_rows == place + 1
        assert amiga.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
    amiga.close()
    assert amiga.files() == {"agentlab.db"}
    assert read(collector).windows[24].tools.raw_rows == 20
    assert amiga.files() == {"agentlab.db"}
