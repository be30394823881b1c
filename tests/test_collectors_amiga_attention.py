"""What needs the owner, with its evidence; and nothing else."""

from __future__ import annotations

import shutil

import pytest
from installation import CLI_SESSION, Installation
from reading import NOW, Clock, collector_of, read

from amiga_ws.collectors.amiga import attention as module
from amiga_ws.snapshot import AmigaProcess

WEEK = frozenset({168})
DEAD_PID = 2**22 + 5  # above the kernel's largest


@pytest.fixture(autouse=True)
def _roomy_disk(monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 0, 10**12))


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def amiga(tmp_path):
    return Installation(tmp_path / "amiga")


@pytest.fixture
def collector(amiga, tmp_path, clock):
    made = collector_of(amiga.root, tmp_path / "private", clock)
    made._processes._listed = float("inf")  # an AMIGA on the test's host is no part of the test
    yield made
    made.close()


def found(collector):
    return {item.kind: item for item in read(collector).attention}


def test_a_quiet_healthy_amiga_needs_nobody(amiga, collector):
    amiga.task("aaaaaa", at=NOW - 30)
    amiga.tool("aaaaaa", "Bash", NOW - 10)
    amiga.task("bbbbbb", "completed", NOW - 500)
    amiga.task("cccccc", "pending", NOW - 60)
    assert found(collector) == {}


def test_a_task_without_events_is_stuck_and_names_the_open_tool(amiga, collector, clock):
    amiga.task("aaaaaa", at=NOW)
    amiga.tool("aaaaaa", "Bash", NOW + 1)
    clock.now = NOW + 299
    assert "stuck" not in found(collector)
    clock.now = NOW + 310
    item = found(collector)["stuck"]
    assert (item.severity, item.subject, item.since) == ("warn", "aaaaaa", NOW + 1)
    assert "Bash" in item.evidence
    clock.now = NOW + 910
    assert found(collector)["stuck"].severity == "crit"


def test_a_hook_line_is_a_sign_of_life(amiga, collector):
    amiga.task("aaaaaa", at=NOW - 900)
    amiga.hook(CLI_SESSION, "Read", NOW - 100, task_id="aaaaaa")
    assert "stuck" not in found(collector)


def test_a_busy_task_nears_amigas_kill_although_its_tools_run(amiga, collector):
    amiga.task("aaaaaa", at=NOW - 21 * 60)
    amiga.tool("aaaaaa", "Bash", NOW - 10)
    item = found(collector)["near_kill"]
    assert (item.severity, item.since) == ("warn", NOW - 21 * 60)
    assert "tools still run" in item.evidence
    assert "stuck" not in found(collector)
    amiga.update("aaaaaa", updated_at="2026-11-18T10:38:40")  # 28 min before
    assert found(collector)["near_kill"].severity == "crit"


def test_a_running_task_whose_process_is_gone_is_told_and_its_call_is_orphaned(amiga, collector):
    amiga.task("aaaaaa", at=NOW - 60, pid=DEAD_PID)
    amiga.tool("aaaaaa", "Bash", NOW - 50)
    facts = read(collector)
    assert [item.kind for item in facts.attention] == ["dead_process"]
    assert str(DEAD_PID) in facts.attention[0].evidence
    assert facts.windows[24].tools.orphaned == 1


def test_pending_tasks_that_nobody_takes_are_one_item(amiga, collector):
    amiga.task("aaaaaa", "pending", NOW - 700)
    assert found(collector)["pending"].subject == "aaaaaa"
    amiga.task("bbbbbb", "pending", NOW - 4000)
    item = found(collector)["pending"]
    assert (item.subject, item.since, item.severity) == ("2 tasks", NOW - 4000, "warn")


def test_tasks_queued_before_the_server_started_are_lost(amiga, collector):
    amiga.task("aaaaaa", "pending", NOW - 700)
    server = AmigaProcess(pid=1, alive=True, since=NOW - 100)
    collector._processes.server = lambda: server
    item = found(collector)["pending"]
    assert item.severity == "crit"
    assert "since then" in item.evidence
    amiga.task("bbbbbb", "pending", NOW - 800)
    assert "since 2 of them were queued" in found(collector)["pending"].evidence


def test_while_all_workers_are_busy_waiting_is_no_fault(amiga, collector):
    for place in range(3):
        amiga.task(f"aaaaa{place}", at=NOW - 30)
    amiga.task("bbbbbb", "pending", NOW - 900)
    assert "pending" not in found(collector)


def test_running_tasks_without_a_process_keep_no_worker_busy(amiga, collector):
    for place in range(3):
        amiga.task(f"aaaaa{place}", at=NOW - 30, pid=DEAD_PID if place else None)
    amiga.task("bbbbbb", "pending", NOW - 700)
    assert "pending" in found(collector)


def test_a_burst_of_failures_is_told_with_its_classes(amiga, collector):
    for place in range(3):
        amiga.task(f"aaaaa{place}", "failed", NOW - 400 + place, error="Task execution error: boom")
    item = found(collector)["failure_burst"]
    assert (item.subject, item.since) == ("3 tasks", NOW - 400)
    assert "3 execution error" in item.evidence


def test_a_burst_is_told_for_an_hour_whatever_fails_after_it(amiga, collector, clock):
    for place in range(6):
        amiga.task(f"aaaaa{place}", "failed", NOW - 120 + place * 20, error="Task execution error: boom")
    told = found(collector)["failure_burst"]
    assert (told.subject, told.since, told.severity) == ("6 tasks", NOW - 120, "crit")
    for place in range(3):  # one, then a smaller burst
        clock.now = NOW + 780 + place * 30
        amiga.task(f"bbbbb{place}", "failed", clock.now, error="Failed to start Claude session")
        assert found(collector)["failure_burst"] == told
    clock.now = NOW + 3590  # the larger one's hour is over
    item = found(collector)["failure_burst"]
    assert (item.subject, item.since, item.severity) == ("3 tasks", NOW + 780, "warn")
    clock.now = NOW + 840 + 3610
    assert "failure_burst" not in found(collector)


def test_all_failures_of_a_burst_are_counted(amiga, collector):
    for place in range(30):
        amiga.task(f"aaaa{place:02}", "failed", NOW - 150 + place * 5, error="Task execution error: boom")
    item = found(collector)["failure_burst"]
    assert (item.subject, item.since) == ("30 tasks", NOW - 150)
    assert "30 execution error" in item.evidence


def test_old_or_scattered_failures_are_no_burst(amiga, collector):
    for place in range(9):
        amiga.task(f"aaaaa{place}", "failed", NOW - 300 - place * 700, error="Failed to start Claude session")
    for place in range(5):
        amiga.task(f"bbbbb{place}", "failed", NOW - 9000 - place, error="Failed to start Claude session")
    assert "failure_burst" not in found(collector)


@pytest.mark.parametrize("rows", [1, 3])
def test_the_same_call_again_and_again_is_a_loop(amiga, collector, rows):
    amiga.task("aaaaaa", at=NOW - 300)
    for place in range(6):
        at = NOW - 200 + place * 10
        row = amiga.tool("aaaaaa", "Bash", at, parameters='{"command": "make secret=hunter2"}')
        if rows > 1:
            row = amiga.tool("aaaaaa", "Bash", at + 0.1, parameters='{"command": "make secret=hunter2"}')
        amiga.finish(row, 1)
        amiga.ended("aaaaaa", "Bash", at + 3)
        if rows > 1:
            amiga.tool("aaaaaa", "Bash", at + 3.1, 1, parameters='{"command": "make secret=hunter2"}')
        assert ("loop" in found(collector)) == (place >= 4)
    item = found(collector)["loop"]
    assert (item.subject, item.severity) == ("aaaaaa", "warn")
    assert "Bash with the same arguments 6 times" in item.evidence
    assert "hunter2" not in item.evidence
    amiga.finish(amiga.tool("aaaaaa", "Bash", NOW - 5, parameters='{"command": "ls"}'), 1)
    amiga.ended("aaaaaa", "Bash", NOW - 4)
    assert "loop" not in found(collector)


@pytest.mark.parametrize("tool", ["BashOutput", "TaskOutput"])
def test_to_ask_a_background_shell_again_and_again_is_no_loop(amiga, collector, tool):
    amiga.task("aaaaaa", at=NOW - 300)
    for place in range(12):
        at = NOW - 200 + place * 10
        amiga.finish(amiga.tool("aaaaaa", tool, at, parameters='{"bash_id": "b1"}'), 1)
        amiga.ended("aaaaaa", tool, at + 1)
    assert found(collector) == {}


@pytest.mark.parametrize("lost", ["INDEX idx_tool_task", "TABLE agent_status"])
def test_a_loop_is_seen_in_a_file_that_lacks_an_index_or_the_status_rows(amiga, collector, lost):
    amiga.task("aaaaaa", at=NOW - 300)
    for place in range(15):  # three rows a call, where nothing tells of the calls
        at = NOW - 200 + place
        amiga.tool("aaaaaa", "Bash", at, 1, parameters='{"command": "make"}')
        amiga.ended("aaaaaa", "Bash", at + 0.5)
    amiga.db.execute(f"DROP {lost}")
    facts = read(collector)
    assert facts.sources["amiga"].state == "ok"
    assert "loop" in {item.kind for item in facts.attention}


def test_a_long_loop_keeps_its_beginning_and_says_that_it_is_longer_than_was_looked_at(
    amiga, collector, clock
):
    amiga.task("aaaaaa", at=NOW - 300)
    for place in range(100):
        at = NOW - 250 + place * 2
        amiga.finish(amiga.tool("aaaaaa", "Bash", at, parameters='{"command": "make"}'), 1)
        amiga.ended("aaaaaa", "Bash", at + 1)
        if place % 20 == 19:
            clock.now += 4
            item = found(collector)["loop"]
            assert item.since == NOW - 250
            assert ("at least 64 times" in item.evidence) == (place > 64)


def test_a_loop_is_over_with_its_task_or_its_time_also_where_nothing_comes_after(amiga, collector, clock):
    for owner in ("aaaaaa", CLI_SESSION):
        for place in range(5):
            at = NOW - 100 + place * 10
            amiga.finish(amiga.tool(owner, "Bash", at, parameters='{"command": "make"}'), 1)
            amiga.ended(owner, "Bash", at + 3)
    amiga.task("aaaaaa", at=NOW - 300)
    items = [item for item in read(collector).attention if item.kind == "loop"]
    assert {item.subject for item in items} == {"aaaaaa", CLI_SESSION}
    clock.now += 1  # sooner than it is looked for again
    amiga.update("aaaaaa", status="completed")
    assert found(collector)["loop"].subject == CLI_SESSION
    clock.now += 1000
    assert "loop" not in found(collector)


def test_a_loop_that_goes_on_between_two_looks_is_seen_at_the_next(amiga, collector, clock):
    amiga.task("aaaaaa", at=NOW - 300)
    for place in range(5):
        if place == 4:
            read(collector)
            clock.now += 1
        at = NOW - 100 + place * 10
        amiga.finish(amiga.tool("aaaaaa", "Bash", at, parameters='{"command": "make"}'), 1)
        amiga.ended("aaaaaa", "Bash", at + 3)
    read(collector)
    clock.now += 4
    read(collector)
    assert "5 times" in found(collector)["loop"].evidence


def test_hook_logs_that_grow_while_the_table_does_not_are_told(amiga, collector, clock):
    amiga.tool(CLI_SESSION, "Read", NOW - 400)
    amiga.hook(CLI_SESSION, "Read", NOW - 400)
    assert "hooks_without_rows" not in found(collector)
    amiga.hook(CLI_SESSION, "Bash", NOW - 10)
    assert "hooks_without_rows" not in found(collector)
    clock.now += 20
    amiga.hook(CLI_SESSION, "Bash", NOW + 20)
    assert "hooks_without_rows" not in found(collector)
    clock.now += 10
    item = found(collector)["hooks_without_rows"]
    assert (item.severity, item.since) == ("crit", NOW - 400)


def test_a_hook_line_that_comes_before_its_row_is_no_fault(amiga, collector, clock):
    amiga.tool(CLI_SESSION, "Read", NOW - 400)
    for _ in range(3):  # after a pause each time
        amiga.hook(CLI_SESSION, "Bash", clock.now - 1)
        assert found(collector) == {}
        clock.now += 1
        amiga.finish(amiga.tool(CLI_SESSION, "Bash", clock.now), 1)
        amiga.ended(CLI_SESSION, "Bash", clock.now)
        assert found(collector) == {}
        clock.now += 200


def test_while_the_database_cannot_be_read_nothing_new_is_said_of_its_rows(amiga, collector, clock):
    amiga.task("aaaaaa", at=NOW - 400)
    amiga.task("bbbbbb", at=NOW - 10)
    amiga.task("cccccc", "pending", NOW - 500)
    amiga.tool("bbbbbb", "Bash", NOW - 5)
    before = read(collector).attention
    assert [item.kind for item in before] == ["stuck"]
    amiga.close()
    whole = amiga.database.read_bytes()
    amiga.database.write_bytes(b"garbage" * 1000)
    for later in (700, 740):
        clock.now = NOW + later
        amiga.hook(CLI_SESSION, "Bash", clock.now)
        facts = read(collector)
        assert facts.sources["amiga"].state == "error"
        assert facts.attention == before
    collector._processes._servers = [object(), object()]  # what the rows do not tell is told
    assert set(found(collector)) == {"stuck", "two_servers"}
    collector._processes._servers = []
    amiga.database.write_bytes(whole)
    items = read(collector).attention
    assert sorted((item.kind, item.severity) for item in items if item.kind != "replaced") == [
        ("pending", "warn"),
        ("stuck", "crit"),
        ("stuck", "warn"),
    ]


def test_rows_from_the_future_point_to_the_time_zone(amiga, collector):
    amiga.tool(CLI_SESSION, "Read", NOW + 3600)
    assert "amiga.timezone" in found(collector)["clock"].evidence


def test_a_second_database_is_named_and_a_link_to_the_first_is_none(amiga, collector, clock):
    amiga.task("aaaaaa", "completed", NOW)
    other = amiga.root / "telegram_bot" / "data" / "agentlab.db"
    other.parent.mkdir(parents=True)
    other.symlink_to(amiga.database)
    assert found(collector) == {}
    other.unlink()
    other.write_bytes(b"SQLite format 3\0")
    clock.now += 61
    assert found(collector)["second_database"].subject == "telegram_bot/data/agentlab.db"


def test_two_amigas_are_told(amiga, collector):
    collector._processes._servers = [object(), object()]
    collector._processes.server = lambda: None
    assert found(collector)["two_servers"].severity == "crit"


def test_a_server_that_ended_is_told(amiga, collector):
    gone = AmigaProcess(pid=7, alive=False, since=NOW - 50)
    collector._processes.server = lambda: gone
    assert found(collector)["server_gone"].severity == "crit"


def test_what_has_no_time_of_its_own_is_since_it_was_noticed(amiga, collector, clock):
    collector._processes.server = lambda: AmigaProcess(pid=7, alive=False, since=NOW - 5000)
    collector._processes._servers = [object(), object()]
    amiga.tool(CLI_SESSION, "Read", NOW + 3600)
    for later in (0, 30, 60):
        clock.now = NOW + later
        items = found(collector)
        assert {items[kind].since for kind in ("server_gone", "two_servers", "clock")} == {NOW}
    collector._processes._servers = []
    assert "two_servers" not in found(collector)
    collector._processes._servers = [object(), object()]
    clock.now = NOW + 90
    assert found(collector)["two_servers"].since == NOW + 90


def test_a_dead_process_is_since_the_last_sign_of_its_task(amiga, collector):
    amiga.task("aaaaaa", at=NOW - 600, pid=DEAD_PID)
    amiga.tool("aaaaaa", "Bash", NOW - 50)
    assert found(collector)["dead_process"].since == NOW - 50


def test_a_replaced_database_is_told_for_an_hour_and_counted_anew(amiga, collector, clock, tmp_path):
    amiga.task("aaaaaa", "completed", NOW)
    assert found(collector) == {}
    amiga.close()
    amiga.database.unlink()
    other = Installation(amiga.root)
    other.db.execute("UPDATE schema_version SET applied_at = '2026-11-18T10:00:00.123456'")
    other.task("bbbbbb", "failed", NOW)
    facts = read(collector)
    assert [(item.kind, item.since) for item in facts.attention] == [("replaced", NOW)]
    assert (facts.totals.completed, facts.totals.failed) == (0, 1)
    clock.now += 3700
    assert found(collector) == {}


def test_old_rows_that_the_owner_deletes_make_no_other_database(amiga, collector):
    for days in range(40, 0, -1):
        row = amiga.tool(CLI_SESSION, "Bash", NOW - days * 86400, 1)
        amiga.ended(CLI_SESSION, "Bash", NOW - days * 86400 + 1)
    before = read(collector, WEEK).windows[168].tools
    assert before.total_calls == 7
    # Of a server that has been up for long, what is deleted had been read.
    for kept in (14, 7, 5):
        for table in ("tool_usage", "agent_status"):
            amiga.db.execute(f"DELETE FROM {table} WHERE id <= ?", (row - kept,))  # noqa: S608 - names from here
        amiga.db.execute("PRAGMA wal_checkpoint")  # into the file itself
        facts = read(collector, WEEK)
        assert facts.attention == []
        assert facts.windows[168].tools == before


def test_a_database_restored_into_the_same_file_is_counted_anew(amiga, collector, tmp_path):
    amiga.close()
    backup = amiga.database.read_bytes()
    amiga.reopen()
    for place in range(5):
        amiga.tool(CLI_SESSION, "Read", NOW - 50 + place, 1)
    assert read(collector).windows[24].tools.raw_rows == 5
    amiga.close()
    with amiga.database.open("r+b") as file:
        file.write(backup)
        file.truncate()
    facts = read(collector)
    assert facts.windows[24].tools.raw_rows == 0
    assert [item.kind for item in facts.attention] == ["replaced"]


@pytest.mark.parametrize(("free", "severity"), [(16e9, None), (12e9, "warn"), (9.5e9, "crit")])
def test_a_full_disk_is_told_at_amigas_own_thresholds(amiga, collector, monkeypatch, free, severity):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**11, 0, int(free)))
    item = found(collector).get("disk")
    assert (item.severity if item else None) == severity


def test_an_item_stays_equal_while_only_the_clock_moves(amiga, collector, clock):
    amiga.task("aaaaaa", at=NOW - 400)
    amiga.task("bbbbbb", "pending", NOW - 4000)
    first = read(collector).attention
    clock.now += 30
    assert read(collector).attention == first
    assert len(first) == 2


def test_items_are_capped_and_critical_ones_come_first(amiga, collector):
    for place in range(60):
        amiga.task(f"a{place:05}", at=NOW - 400 - (600 if place % 2 else 0))
    items = read(collector).attention
    assert len(items) == 40
    assert [item.severity for item in items[:30]] == ["crit"] * 30
