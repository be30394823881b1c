"""AMIGA's SQLite file is read in every state it can be in, and nothing is left beside it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from disks import fill, small_disk
from installation import Installation

from amiga_ws.collectors.amiga import database as module
from amiga_ws.collectors.amiga.database import CopyError, Database, DatabaseError, DatabaseMissingError


@pytest.fixture
def amiga(tmp_path):
    return Installation(tmp_path / "amiga")


@pytest.fixture
def database(amiga, tmp_path):
    return Database(amiga.database, tmp_path / "private")


def read(database):
    database.changed()
    database.open()
    try:
        return [row[0] for row in database.query("SELECT task_id FROM tasks ORDER BY task_id")]
    finally:
        database.close()


def test_a_closed_database_is_read_as_immutable_and_nothing_appears_beside_it(amiga, database):
    amiga.task("aaaaaa")
    amiga.close()
    assert read(database) == ["aaaaaa"]
    assert database.how == "immutable"
    assert amiga.files() == {"agentlab.db"}


def test_a_live_database_is_read_through_its_wal(amiga, database):
    amiga.task("aaaaaa")
    assert read(database) == ["aaaaaa"]
    assert database.how == "ro"


def test_a_writer_that_closes_cleanly_still_removes_its_files(amiga, database):
    amiga.task("aaaaaa")
    read(database)
    amiga.close()
    assert amiga.files() == {"agentlab.db"}


def test_a_killed_writers_wal_is_read(amiga, database):
    amiga.task("aaaaaa")
    amiga.crash()
    before = amiga.files()
    assert read(database) == ["aaaaaa"]
    assert amiga.files() == before


def test_a_wal_without_shm_is_read_from_a_private_copy(amiga, database, tmp_path):
    amiga.task("aaaaaa")
    amiga.crash(keep_shm=False)
    assert read(database) == ["aaaaaa"]
    assert database.how == "copy"
    assert amiga.files() == {"agentlab.db", "agentlab.db-wal"}
    copy = tmp_path / "private" / "agentlab-copy.db"
    assert copy.stat().st_mode & 0o077 == 0


def test_a_wal_without_shm_that_is_too_large_to_copy_is_an_error_with_advice(amiga, database, monkeypatch):
    amiga.task("aaaaaa")
    amiga.crash(keep_shm=False)
    monkeypatch.setattr(module, "COPY_LIMIT_BYTES", 10)
    with pytest.raises(DatabaseError, match="starting AMIGA mends it"):
        read(database)


def test_a_copy_that_does_not_fit_on_our_disk_leaves_nothing_and_is_made_when_it_does(
    amiga, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "COPY_EVERY_S", 0.0)
    amiga.task("aaaaaa")
    amiga.crash(keep_shm=False)
    with small_disk(tmp_path / "state") as disk:
        database = Database(amiga.database, disk / "private")
        ballast = fill(disk, leave=40_000)
        for _ in range(2):
            with pytest.raises(CopyError, match="private: No space left on device"):
                read(database)
            database.forget()
            assert not list((disk / "private").iterdir())
        ballast.unlink()
        assert read(database) == ["aaaaaa"]


def test_a_copy_that_failed_is_not_tried_again_at_once(amiga, database, tmp_path):
    """It may be gigabytes, each second."""
    amiga.task("aaaaaa")
    amiga.crash(keep_shm=False)
    (tmp_path / "private").write_text("in the way")
    for _ in range(2):
        with pytest.raises(CopyError, match="it is no folder"):
            read(database)
        database.forget()
        (tmp_path / "private").unlink(missing_ok=True)
    amiga.reopen()  # with its -shm it is read as it lies there
    amiga.task("bbbbbb")
    assert read(database) == ["aaaaaa", "bbbbbb"]


def test_an_unchanged_database_says_so_and_every_commit_is_seen(amiga, database):
    amiga.task("aaaaaa")
    old = amiga.database.with_name("agentlab.db-wal")
    os.utime(old, (1e9, 1e9))
    os.utime(amiga.database, (1e9, 1e9))
    assert database.changed()
    assert not database.changed()
    amiga.task("bbbbbb")
    assert database.changed()


def test_a_change_is_looked_at_again_until_its_clock_beat_is_over(amiga, tmp_path):
    amiga.task("aaaaaa")
    written = amiga.database.with_name("agentlab.db-wal").stat().st_mtime
    now = [written + 0.001]
    database = Database(amiga.database, tmp_path, clock=lambda: now[0])
    assert database.changed()
    assert database.changed()
    now[0] = written + 1.0
    assert database.changed()
    assert not database.changed()


def test_a_writer_that_begins_on_a_closed_database_is_followed(amiga, database):
    amiga.task("aaaaaa")
    amiga.close()
    assert read(database) == ["aaaaaa"]
    amiga.reopen()
    amiga.task("bbbbbb")
    assert database.changed()
    assert read(database) == ["aaaaaa", "bbbbbb"]
    assert database.how == "ro"


def test_another_file_in_its_place_is_a_new_generation(amiga, database, tmp_path):
    amiga.task("aaaaaa")
    amiga.close()
    read(database)
    first = database.generation
    other = Installation(tmp_path / "other")
    other.task("cccccc")
    other.close()
    shutil.copy(other.database, amiga.database.with_name("new.db"))
    amiga.database.with_name("new.db").replace(amiga.database)
    assert read(database) == ["cccccc"]
    assert database.generation == first + 1


def test_a_missing_file_and_a_file_that_is_no_database_are_told_apart(amiga, database):
    amiga.close()
    amiga.database.unlink()
    with pytest.raises(DatabaseMissingError):
        database.changed()
    amiga.database.write_bytes(b"this is not a database" * 100)
    with pytest.raises(DatabaseError, match="not a database"):
        read(database)


def test_text_that_is_not_utf8_does_not_lose_the_table(amiga, database):
    amiga.db.execute(
        "INSERT INTO tasks VALUES (CAST(x'ff41' AS TEXT),1,'d','running','','','m','w','a'"
        + ",NULL" * 10
        + ")"
    )
    assert read(database) == ["\ufffdA"]


def test_a_row_looks_the_same_beside_one_whose_text_is_not_utf8(amiga, database):
    amiga.task("aaaaaa")
    amiga.task("bbbbbb")
    amiga.db.execute("UPDATE tasks SET workspace = x'42617368', error = 'caf\u00e9', user_id = 9")
    asked = "SELECT * FROM tasks WHERE task_id = 'aaaaaa' OR ?"
    database.changed()
    database.open()
    alone = database.query(asked, (0,))
    amiga.db.execute("UPDATE tasks SET description = CAST(x'ff' AS TEXT) WHERE task_id = 'bbbbbb'")
    beside = database.query(asked, (1,))
    database.close()
    assert beside[:1] == alone
    assert b"Bash" in beside[0]


def test_what_changes_between_the_look_and_the_opening_is_told_as_an_error_of_the_database(amiga, database):
    amiga.task("aaaaaa")
    amiga.close()
    database.changed()
    amiga.database.unlink()
    amiga.database.with_name("agentlab.db-wal").mkdir()
    with pytest.raises(DatabaseError, match="cannot be opened"):
        database.open()


def test_a_path_of_two_slashes_names_no_host(amiga, tmp_path):
    amiga.task("aaaaaa")
    private = tmp_path / "private"
    amiga.crash(keep_shm=False)  # so that it is read from a copy
    assert read(Database(Path(f"/{amiga.database}"), Path(f"/{private}"))) == ["aaaaaa"]


def test_reads_leave_no_transaction_open(amiga, database):
    amiga.task("aaaaaa")
    database.changed()
    database.open()
    database.query("SELECT * FROM tasks")
    # A checkpoint that truncates needs every reader gone.
    assert amiga.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    database.close()


def test_a_writer_that_died_in_the_middle_of_a_write_loses_only_that(amiga, database):
    amiga.task("aaaaaa")
    amiga.crash()
    wal = amiga.database.with_name(amiga.database.name + "-wal")
    whole = wal.read_bytes()
    amiga.reopen()
    amiga.task("bbbbbb")
    amiga.crash()
    grown = wal.read_bytes()
    for length in range(len(whole), len(grown), 1000):  # cut anywhere in the last commit
        wal.write_bytes(grown[:length])
        assert read(database) == ["aaaaaa"]
