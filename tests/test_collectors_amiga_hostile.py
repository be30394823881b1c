"""AMIGA's files as somebody would make them who wants to hurt who reads them: said, bounded, and never waited for.

An agent of AMIGA's can write to all of them, and what it reads may tell it to.
"""

from __future__ import annotations

import json
import os

import pytest
from installation import Installation, local
from reading import DAY, NOW, Clock, collector_of, read

from amiga_ws.collectors.amiga import costs
from amiga_ws.collectors.amiga import database as module
from amiga_ws.collectors.amiga.database import Database, DatabaseError
from amiga_ws.collectors.amiga.files import open_regular, read_regular
from amiga_ws.history.keeper import Keeper
from amiga_ws.questions import SessionQuery
from amiga_ws.snapshot import HostFacts, compose
from amiga_ws.wire import encode

HOOKS, TRANSCRIPT = "logs/sessions/s1/pre_tool_use.jsonl", "projects/p/s1.jsonl"
FOLLOWED = ["data/usage.json", HOOKS, TRANSCRIPT]
DATABASE = ["data/agentlab.db", "data/agentlab.db-wal", "data/agentlab.db-shm"]


@pytest.fixture
def amiga(tmp_path):
    amiga = Installation(tmp_path / "amiga")
    amiga.task("aaaaaa", "completed", NOW - 60)
    amiga.tool("aaaaaa", "Read", NOW - 50, success=1)
    yield amiga
    amiga.db.close()


@pytest.fixture
def collector(amiga, tmp_path):
    collector = collector_of(amiga.root, tmp_path / "private", transcripts=amiga.root / "projects")
    yield collector
    collector.close()


def fifo(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def endless(path):
    path.symlink_to("/proc/self/pagemap")  # of no size by its stat, of 256 GB when read


def circle(path):
    path.symlink_to(path.name)


def folder(path):
    path.mkdir()


def in_place_of(amiga, name, make):
    path = amiga.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    make(path)


# -- what is no file ------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [fifo, device, endless, circle, folder])
@pytest.mark.parametrize("name", FOLLOWED)
def test_what_is_no_file_in_place_of_a_log_is_passed_over(amiga, collector, name, make):
    in_place_of(amiga, name, make)
    for _ in range(3):
        facts = read(collector)
        assert {facts.sources[one].state for one in ("amiga", "hooks")} == {"ok"}
        assert facts.totals.completed == 1


@pytest.mark.parametrize("make", [fifo, device, folder])
@pytest.mark.parametrize("name", DATABASE)
def test_what_is_no_file_in_place_of_the_database_is_told(amiga, collector, name, make):
    amiga.crash()
    in_place_of(amiga, name, make)
    for _ in range(3):
        source = collector.collect(DAY).sources["amiga"]
        assert (source.state, source.error) == (
            "error",
            "AMIGA's database cannot be read: not a regular file",
        )


@pytest.mark.parametrize("there", [True, False])
def test_folders_whose_names_are_no_text_can_be_told_to_viewers(tmp_path, there):
    """Of an older disk, say, whose names are in Latin-1."""
    root = tmp_path / "b\udcfcro"
    if there:
        made = Installation(root)
        made.task("aaaaaa", "completed", NOW - 60)
        made.hook("s\udcfc", "Read", NOW - 50)
        (root / "projects").mkdir()
        made.close()
    collector = collector_of(root, tmp_path / "private", transcripts=root / "projects")
    keeper = Keeper(root / "history.db", 100)
    keeper.open(NOW)
    facts = read(collector)
    sources = facts.sources | {"history": keeper.source}
    assert {source.state for source in facts.sources.values()} == ({"ok"} if there else {"missing"})
    for source in sources.values():
        assert source.path.startswith(f"{tmp_path}/b\ufffdro")
        assert encode(source)
    assert encode(compose(24, "test", HostFacts(sources={}), facts))
    keeper.close(NOW)
    collector.close()


def test_a_file_that_has_no_end_is_not_read_to_it(tmp_path):
    with pytest.raises(OSError, match="too large"):
        read_regular("/proc/self/pagemap", 8 * 1000 - 1)  # it is read by eights
    (tmp_path / "file").write_bytes(b"x" * 100)
    assert read_regular(tmp_path / "file", 100) == b"x" * 100
    with open_regular(tmp_path / "file") as file:
        assert file.read(3) == b"xxx"


def test_files_with_holes_of_terabytes_cost_what_is_in_them(amiga, collector):
    amiga.close()
    for name in ("data/agentlab.db", *FOLLOWED):
        path = amiga.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            try:
                file.truncate(1 << 40)
            except OSError:
                pytest.skip("this file system has no files so large")
    for _ in range(5):
        assert collector.collect(DAY).sources["amiga"].state == "ok"


def test_a_link_to_a_live_database_is_read_with_its_wal(amiga, tmp_path):
    """SQLite looks for -wal and -shm beside the file itself."""
    link = tmp_path / "elsewhere.db"
    link.symlink_to(amiga.database)
    database = Database(link, tmp_path / "private")
    database.changed()
    database.open()
    assert database.how == "ro"
    assert database.query("SELECT task_id FROM tasks") == [("aaaaaa",)]
    database.close()


def test_the_wal_of_another_database_is_a_sentence_at_most(amiga, collector, tmp_path):
    other = Installation(tmp_path / "other")
    for number in range(200):
        other.task(f"{number:06x}", "running", NOW)
    other.crash()
    amiga.close()
    for suffix in ("-wal", "-shm"):
        wal = other.database.with_name(other.database.name + suffix)
        amiga.database.with_name(amiga.database.name + suffix).write_bytes(wal.read_bytes())
    assert collector.collect(DAY).sources["amiga"].state in ("ok", "error")


# -- tables that are none, ids that are none ------------------------------------------------------

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"
COLUMNS = "timestamp, task_id, tool_name, success, error, parameters"
NO_TABLES = {
    "endless view": f"CREATE VIEW tool_usage (id, {COLUMNS}) AS {ENDLESS} SELECT x, x, x, x, x, x, x FROM n",  # noqa: S608 - constants
    "virtual table": f"CREATE VIRTUAL TABLE tool_usage USING fts4(id, {COLUMNS})",
    "column that is worked out": "CREATE TABLE tool_usage (id INTEGER PRIMARY KEY, timestamp, task_id,"
    " tool_name AS (printf('%.*c', 900000000, 'x')), success, error, parameters)",
    "rowid of its own": f"CREATE TABLE tool_usage (id INTEGER PRIMARY KEY, rowid TEXT, {COLUMNS})",
    "ids of any type": f"CREATE TABLE tool_usage (id, {COLUMNS})",
    "ids of text": f"CREATE TABLE tool_usage (id TEXT PRIMARY KEY, {COLUMNS})",
    "key of two columns": f"CREATE TABLE tool_usage (id INTEGER, {COLUMNS}, PRIMARY KEY (task_id, id))",
    "nothing but ids": "CREATE TABLE tool_usage (id INTEGER PRIMARY KEY)",
    "more columns than there may be": None,
}


@pytest.mark.parametrize("name", NO_TABLES)
def test_a_table_that_is_not_as_amiga_makes_it_is_told_and_none_of_it_is_run(amiga, collector, name):
    sql = NO_TABLES[name]
    if sql is None:
        more = ", ".join(f"c{number}" for number in range(1900))
        sql = f"CREATE TABLE tool_usage (id INTEGER PRIMARY KEY, {more})"
    amiga.db.execute("DROP TABLE tool_usage")
    amiga.db.execute(sql)
    for _ in range(3):
        source = collector.collect(DAY).sources["amiga"]
        assert source.state == "error"
        assert source.error.startswith("AMIGA's database cannot be read: ")
    amiga.db.execute(f"DROP {'VIEW' if 'VIEW' in sql else 'TABLE'} tool_usage")
    amiga.db.execute(f"CREATE TABLE tool_usage (id INTEGER PRIMARY KEY, {COLUMNS})")
    assert read(collector).sources["amiga"].state == "ok"


def test_a_trigger_with_the_name_of_a_table_takes_nothing_from_it(amiga, collector):
    amiga.db.execute("CREATE TRIGGER tool_usage AFTER INSERT ON tasks BEGIN SELECT 1; END")
    assert read(collector).windows[24].tools.total_calls == 1


@pytest.mark.parametrize("table", ["tool_usage", "agent_status"])
def test_a_gap_of_all_ids_is_one_step(amiga, collector, table):
    """Old rows are looked through by their ids, so many at a time."""
    column = "tool_name" if table == "tool_usage" else "status"
    amiga.db.execute(
        f"INSERT INTO {table} (id, timestamp, task_id, {column}) VALUES (?, ?, ?, ?)",  # noqa: S608 - names from here
        (2**63 - 10, "2020-01-01T00:00:00", "aaaaaa", "completed"),
    )
    amiga.db.execute("UPDATE tasks SET rowid = ?", (2**63 - 10,))
    for file in (amiga.database, amiga.database.with_name("agentlab.db-wal")):
        os.utime(file, (1e9, 1e9))  # or it would count as just written
    assert read(collector).sources["amiga"].state == "ok"
    for _ in range(3):
        collector.collect(DAY)
    assert collector._model.tail.settled


FAR = 7_000_000_000.0  # 2191


@pytest.mark.parametrize("column", ["created_at", "updated_at"])
def test_a_task_of_a_far_future_is_in_every_window_and_sums_end_tomorrow(amiga, collector, column):
    amiga.update("aaaaaa", **{column: local(FAR)})
    for hours in (1, 168):
        tasks = read(collector, frozenset({hours})).windows[hours].tasks
        assert (tasks.created, tasks.completed) == (1, 1)
    assert len(collector._model.tasks._buckets._hours) < 24 * 9


def test_old_rows_of_a_far_future_make_no_longer_sums(amiga, collector):
    """A blank before its time makes a row sort as an old one."""
    amiga.db.execute("DELETE FROM tool_usage")
    task = {"success": 1, "parameters": "{}", "input_tokens": 5, "output_tokens": 7}
    amiga.tool("aaaaaa", "Task", NOW - 20 * 86400)
    for table, row in (
        ("tool_usage", amiga.tool("aaaaaa", "Task", FAR, **task)),
        ("agent_status", amiga.status("aaaaaa", "completed", FAR)),
    ):
        amiga.db.execute(f"UPDATE {table} SET timestamp = ' ' || timestamp WHERE id = ?", (row,))  # noqa: S608 - names from here
    amiga.tool("aaaaaa", "Read", NOW - 50, success=1)
    amiga.ended("aaaaaa", "Read", NOW - 50)
    window = read(collector, frozenset({168})).windows[168]
    assert (window.tasks.completed, window.claude_api.total_output_tokens) == (1, 7)
    for room in (collector._model.tasks, collector._model.ledger):
        assert len(room._buckets._hours) < 24 * 9


# -- what a query may cost ------------------------------------------------------------------------


@pytest.mark.promise(
    "A query of AMIGA's database that has no end is stopped, and not asked again for a minute"
)
def test_a_query_without_an_end_is_stopped_and_not_asked_again_for_a_while(amiga, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PROCESSOR_S", 0.05)
    database = Database(amiga.database, tmp_path / "private")
    database.changed()
    database.open()
    with pytest.raises(DatabaseError, match="takes more than"):
        database.query(f"{ENDLESS} SELECT max(x) FROM n")  # noqa: S608 - from here
    database.close()
    for _ in range(3):
        database.forget()
        assert database.changed()
        with pytest.raises(DatabaseError, match="takes more than"):
            database.open()
    late = module.time.monotonic() + module.PAUSE_S
    monkeypatch.setattr(module.time, "monotonic", lambda: late)
    database.open()
    assert database.query("SELECT task_id FROM tasks") == [("aaaaaa",)]
    database.close()


def test_rows_that_are_longer_than_memory_are_not_all_taken(amiga, collector, monkeypatch):
    """A default stands once in the file and in each of its rows."""
    monkeypatch.setattr(module, "RESULT_BYTES", 1 << 20)
    for _ in range(50):
        amiga.tool("aaaaaa", "Read", NOW - 50, success=1)
    amiga.db.execute("ALTER TABLE tool_usage DROP COLUMN error_category")
    amiga.db.execute(f"ALTER TABLE tool_usage ADD COLUMN error_category TEXT DEFAULT '{'x' * 100_000}'")
    for _ in range(3):
        source = collector.collect(DAY).sources["amiga"]
        assert (source.state, source.error) == (
            "error",
            "AMIGA's database holds texts that are too long to be read",
        )


def test_a_value_of_a_gigabyte_is_a_sentence(amiga, collector):
    amiga.db.execute("UPDATE tool_usage SET tool_name = zeroblob(100000000)")
    source = collector.collect(DAY).sources["amiga"]
    assert (source.state, "too big" in source.error) == ("error", True)


def test_a_usage_file_that_is_no_json_is_read_once(amiga, collector, monkeypatch):
    reads = []
    monkeypatch.setattr(costs, "read_regular", lambda *given: reads.append(given) or read_regular(*given))
    (amiga.root / "data/usage.json").write_text("[" * 1000)
    for _ in range(3):
        read(collector)
    assert len(reads) == 1


def test_a_large_usage_file_is_read_now_and_then(amiga, collector, monkeypatch):
    reads = []
    monkeypatch.setattr(costs, "read_regular", lambda *given: reads.append(given) or read_regular(*given))
    many = '{"1": {"records": [' + ",".join(["{}"] * 400_000) + "]}}"
    clock = collector._clock
    for _ in range(4):
        (amiga.root / "data/usage.json").write_text(f"{many}{' ' * len(reads)}")
        read(collector)
        clock.now += 0.4 * costs.USAGE_EVERY_S
    assert len(reads) == 2


# -- what JSON can hold ---------------------------------------------------------------------------


def used(model):
    """A record of usage.json, and a line of a transcript."""
    usage = {"input_tokens": 5, "output_tokens": 7}
    record = {"timestamp": local(NOW - 40), "model": model, **usage}
    message = {"id": model, "model": model, "usage": usage}
    return record, {"type": "assistant", "timestamp": local(NOW - 40) + "Z", "message": message}


@pytest.mark.parametrize("model", ["\ud800", "x\udfff", "\x1b[2J", "m" * 1_000_000])
def test_a_name_that_is_no_text_is_no_obstacle_to_a_snapshot(amiga, collector, model):
    """One half of a surrogate pair, and no viewer would hear of anything any more."""
    record, line = used(model)
    (amiga.root / "data/usage.json").write_text(json.dumps({"1": {"records": [record]}}))
    (amiga.root / TRANSCRIPT).parent.mkdir(parents=True)
    (amiga.root / TRANSCRIPT).write_text(json.dumps(line) + "\n")
    hostile = json.dumps({model: model, "n": 10**100})
    amiga.tool("aaaaaa", "Bash", NOW - 30, success=0, parameters=hostile)
    amiga.db.execute("UPDATE tasks SET activity_log = ?", (json.dumps([{"message": model}]),))
    facts = read(collector)
    told = encode(compose(24, "here", HostFacts(sources={}), facts))
    assert json.loads(told)["overview"]["costs"]["by_model"]
    assert encode(collector.task_detail("aaaaaa"))


# -- names ----------------------------------------------------------------------------------------


def test_names_that_are_no_text_are_not_followed(amiga, tmp_path):
    collector = collector_of(amiga.root, tmp_path / "private", Clock())
    line = json.dumps({"timestamp": local(NOW - 40) + "Z", "task_id": "aaaaaa"})
    for name in ("\udcff\udcfe", "\x1b[2J", "a\nb", "s1"):  # the first is two bytes that are no UTF-8
        (amiga.sessions / name).mkdir()
        (amiga.sessions / name / "pre_tool_use.jsonl").write_text(line + "\n")
    read(collector)
    assert collector.task_detail("aaaaaa").sessions == ["s1"]
    assert [one.session_id for one in collector.find_sessions(SessionQuery()).sessions] == ["aaaaaa"]
    collector.close()
