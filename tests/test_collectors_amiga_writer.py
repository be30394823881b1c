"""AMIGA's writer does not notice that it is watched."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import contextmanager

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


# As AMIGA writes: a process of its own, with the SQLite of its Python. It ends when its stdin does.
WRITER = """
import sqlite3, sys
writer = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0)
for place in range(400):
    writer.execute("BEGIN IMMEDIATE")
    writer.execute(
        "INSERT INTO tool_usage (timestamp, task_id, tool_name, success) VALUES (?, ?, 'Read', 1)",
        ("2026-11-18T11:00:00", sys.argv[2]),
    )
    writer.execute("COMMIT")
    if place % 50 == 0:
        writer.execute("PRAGMA wal_checkpoint(PASSIVE)")
print("written", flush=True)
sys.stdin.read()
writer.close()
"""


@contextmanager
def writer(amiga):
    """One that has written 400 rows and still has the database open; the last one who has."""
    amiga.close()
    words = [sys.executable, "-c", WRITER, str(amiga.database), CLI_SESSION]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own
        assert process.stdout.readline() == "written\n"
        yield
        process.communicate()
    assert process.returncode == 0


def test_a_writer_that_never_waits_is_never_locked_out(watched):
    amiga, readings, stop = watched
    with writer(amiga):
        stop()
    assert readings == sorted(readings)
    assert readings[-1] == 400


def test_a_writer_that_ends_finds_nobody_in_its_way(tmp_path):
    amiga = Installation(tmp_path / "amiga")
    collector = collector_of(amiga.root, tmp_path / "private")
    read(collector)
    with writer(amiga):
        assert amiga.files() == {"agentlab.db", "agentlab.db-wal", "agentlab.db-shm"}
        assert read(collector).windows[24].tools.raw_rows == 400
    assert amiga.files() == {"agentlab.db"}
    assert read(collector).windows[24].tools.raw_rows == 400
    collector.close()


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
