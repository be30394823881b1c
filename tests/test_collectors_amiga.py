"""What the AMIGA collector tells of an installation, and of one that comes and goes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from installation import CLI_SESSION, Installation
from reading import DAY, NOW, Clock, collector_of, read

from amiga_ws.questions import TaskQuery
from amiga_ws.simulate import Simulator


@pytest.fixture
def amiga(tmp_path):
    return Installation(tmp_path / "amiga")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def collector(amiga, tmp_path, clock):
    made = collector_of(amiga.root, tmp_path / "private", clock)
    yield made
    made.close()


def test_tasks_are_counted_by_status_and_unknown_words_are_other(amiga, collector):
    for index, status in enumerate(["completed", "completed", "failed", "stopped", "running", "in_progress"]):
        amiga.task(f"{index:06x}", status, NOW - 100)
    totals = read(collector).totals
    assert (totals.total, totals.completed, totals.failed, totals.stopped) == (6, 2, 1, 1)
    assert (totals.running, totals.pending, totals.other) == (1, 0, 1)
    assert totals.success_rate == 66.7


def test_a_missing_installation_is_unknown_everywhere_and_says_what_to_do(tmp_path):
    collector = collector_of(tmp_path / "none", tmp_path / "private")
    facts = read(collector)
    source = facts.sources["amiga"]
    assert source.state == "missing"
    assert source.path == str(tmp_path / "none" / "data" / "agentlab.db")
    assert "amiga.root" in (source.hint or "")
    assert "serve --demo" in (source.hint or "")
    assert facts.totals.total is None
    assert facts.windows.get(24) is None or facts.windows[24].tools.total_calls is None
    assert set(facts.sources) == set(collector.source_names)


def test_an_installation_may_appear_vanish_and_come_back(tmp_path):
    root = tmp_path / "amiga"
    collector = collector_of(root, tmp_path / "private")
    assert read(collector).sources["amiga"].state == "missing"
    amiga = Installation(root)
    amiga.task("aaaaaa", at=NOW)
    assert read(collector).totals.total == 1
    amiga.close()
    shutil.move(root, tmp_path / "away")
    gone = read(collector)
    assert gone.sources["amiga"].state == "missing"
    assert gone.totals.total is None
    shutil.move(tmp_path / "away", root)
    assert read(collector).totals.total == 1


def test_a_broken_database_is_an_error_of_its_source_alone(amiga, collector):
    amiga.close()
    amiga.database.write_bytes(b"garbage" * 1000)
    facts = read(collector)
    assert facts.sources["amiga"].state == "error"
    assert "not a database" in (facts.sources["amiga"].error or "")
    assert facts.sources["hooks"].state == "ok"


def test_three_rows_of_one_call_are_one_call(amiga, collector):
    amiga.task("aaaaaa", at=NOW - 60)
    amiga.tool("aaaaaa", "Bash", NOW - 50)
    twin = amiga.tool("aaaaaa", "Bash", NOW - 49.9)
    running = read(collector).windows[24].tools
    assert (running.total_calls, running.running, running.raw_rows) == (1, 1, 2)
    amiga.finish(twin, 1)
    amiga.ended("aaaaaa", "Bash", NOW - 20)
    amiga.tool("aaaaaa", "Bash", NOW - 19.9, 1)
    tools = read(collector).windows[24].tools
    assert (tools.total_calls, tools.running, tools.raw_rows, tools.failed) == (1, 0, 3, 0)
    assert tools.by_type == {"Bash": 1}


def test_an_open_call_of_an_ended_task_is_orphaned(amiga, collector):
    amiga.task("aaaaaa", at=NOW - 60)
    amiga.tool("aaaaaa", "Bash", NOW - 50)
    assert read(collector).tasks[0].current_tool.name == "Bash"
    amiga.update("aaaaaa", status="failed", error="[timeout] No updates for 30.3min (timeout: 30min)")
    facts = read(collector)
    assert (facts.windows[24].tools.running, facts.windows[24].tools.orphaned) == (0, 1)
    assert facts.tasks[0].current_tool is None
    assert facts.tasks[0].error_class == "timeout"


def test_a_stop_that_amiga_overwrote_with_a_failure_is_shown_as_stopped(amiga, collector):
    amiga.task("aaaaaa", "failed", NOW - 60, error="Claude produced no output. It may have failed.")
    amiga.status("aaaaaa", "stopped", NOW - 30.1, "Task stopped by user")
    amiga.status("aaaaaa", "failed", NOW - 30.0, "Claude produced no output.")
    facts = read(collector)
    assert facts.tasks[0].status == "stopped"
    assert (facts.totals.failed, facts.totals.stopped) == (0, 1)
    assert facts.windows[24].tasks.stopped == 1


def test_windows_count_tasks_by_the_time_they_ended(amiga, collector):
    amiga.task("aaaaaa", "completed", NOW - 30 * 3600)
    amiga.status("aaaaaa", "completed", NOW - 600)
    facts = read(collector, frozenset({1, 24}))
    assert facts.windows[1].tasks.completed == 1
    assert facts.windows[24].tasks.created == 0


def test_active_tasks_come_first_and_the_list_is_capped(amiga, collector):
    for index in range(60):
        amiga.task(f"{index:06x}", "completed", NOW - index)
    amiga.task("ffffff", "running", NOW - 10_000)
    tasks = read(collector).tasks
    assert len(tasks) == 50
    assert tasks[0].task_id == "ffffff"
    assert [task.task_id for task in tasks[1:3]] == ["000000", "000001"]


@pytest.mark.parametrize(("gone", "between"), [(1, False), (1, True), (5, False), (70, True)])
def test_a_task_in_the_row_of_a_deleted_one_is_seen_at_once(amiga, collector, gone, between):
    """SQLite gives the ids of the newest rows anew when these are deleted."""
    for number in range(300):
        amiga.task(f"{number:06}", "completed", at=NOW - 3000 + number)
    read(collector)
    amiga.db.execute("DELETE FROM tasks WHERE task_id >= ?", (f"{300 - gone:06}",))
    if between:
        collector.collect(DAY)
    amiga.task("ffffff", "running", at=NOW)
    facts = collector.collect(DAY)
    assert facts.tasks[0].task_id == "ffffff"
    for _ in range(10):  # and what was deleted is missed in its turn
        facts = collector.collect(DAY)
    assert (facts.totals.total, facts.totals.running) == (300 - gone + 1, 1)


def test_a_change_of_a_task_at_work_or_its_end_is_seen_at_once_however_many_began_since(amiga, collector):
    amiga.task("aaaaaa", "running", at=NOW - 900)
    amiga.task("bbbbbb", "failed", at=NOW - 800)
    for number in range(300):
        amiga.task(f"{number:06}", "completed", at=NOW - 700 + number)
    read(collector)
    amiga.update("aaaaaa", current_phase="git-merge")
    amiga.status("bbbbbb", "stopped", NOW - 790)
    facts = collector.collect(DAY)
    assert (facts.tasks[0].task_id, facts.tasks[0].phase) == ("aaaaaa", "git-merge")
    assert (facts.totals.stopped, facts.totals.failed) == (1, 0)


def test_a_task_that_is_written_anew_as_another_row_is_one_task(amiga, collector):
    amiga.task("aaaaaa", "running", at=NOW - 900)
    amiga.task("bbbbbb", "completed", at=NOW - 800)
    read(collector)
    amiga.db.execute("DELETE FROM tasks WHERE task_id = 'aaaaaa'")
    amiga.task("aaaaaa", "completed", at=NOW - 900)
    found = collector.collect(DAY).totals
    assert (found.total, found.running, found.completed, found.other) == (2, 0, 2, 0)


def test_a_running_task_is_not_lost_when_all_rows_get_other_ids(amiga, collector):
    for number in range(100):
        amiga.task(f"{number:06}", "completed", at=NOW - 5000 + number)
    amiga.task("aaaaaa", "running", at=NOW - 900)
    for number in range(100, 150):
        amiga.task(f"{number:06}", "completed", at=NOW - 800 + number)
    amiga.db.execute("DELETE FROM tasks WHERE rowid <= 3")
    read(collector)
    amiga.db.execute(
        "BEGIN; CREATE TABLE kept AS SELECT * FROM tasks ORDER BY rowid; DELETE FROM tasks;"
        " INSERT INTO tasks SELECT * FROM kept; DROP TABLE kept; COMMIT"
    )
    for _ in range(8):
        found = collector.collect(DAY)
        assert (found.totals.running, found.tasks[0].task_id) == (1, "aaaaaa")
    assert found.totals.total == 148


def test_tasks_whose_ids_are_none_come_and_go_without_harm(amiga, collector):
    """SQLite lets a primary key be NULL, and as often as one likes."""
    amiga.task("aaaaaa", "running", at=NOW - 900)
    for number in range(3):
        amiga.task(None, "completed", at=NOW - 800 + number)
    assert read(collector).totals.total == 2
    for left in (1, 1, 0):
        amiga.db.execute("DELETE FROM tasks WHERE rowid = (SELECT max(rowid) FROM tasks)")
        for _ in range(4):
            found = collector.collect(DAY)
        assert found.sources["amiga"].state == "ok"
        assert len(found.tasks) == found.totals.total == 1 + left


@pytest.mark.timeout(20)
def test_a_deleted_row_with_the_highest_id_there_can_be_is_not_looked_for_below(amiga, collector):
    """Whoever writes the file chooses the ids."""
    amiga.task("aaaaaa", "completed", at=NOW - 60)
    amiga.task("bbbbbb", "completed", at=NOW - 50)
    amiga.db.execute("UPDATE tasks SET rowid = 9223372036854775807 WHERE task_id = 'bbbbbb'")
    assert read(collector).totals.total == 2
    amiga.db.execute("DELETE FROM tasks WHERE task_id = 'bbbbbb'")
    amiga.task("cccccc", "running", at=NOW)
    facts = collector.collect(DAY)
    assert {task.task_id for task in facts.tasks} >= {"aaaaaa", "cccccc"}
    for _ in range(3):
        facts = collector.collect(DAY)
    assert facts.totals.total == 2
    amiga.db.execute("DELETE FROM tasks")
    for _ in range(3):
        facts = collector.collect(DAY)
    assert facts.totals.total == 0


def test_those_at_work_come_as_they_keep_their_places(amiga, collector):
    """The longest at it first; of pending ones the newest, AMIGA forgets those queued before a restart."""
    for number, status in enumerate(["pending", "running", "pending", "running", "pending", "completed"]):
        amiga.task(f"aaaaa{number}", status, at=NOW - 600 + number)
    order = [task.task_id for task in read(collector).tasks]
    assert order == ["aaaaa1", "aaaaa3", "aaaaa4", "aaaaa2", "aaaaa0", "aaaaa5"]


@pytest.mark.parametrize(
    ("sort", "first"), [("created_at", "ffffff"), ("-created_at", "aaaaaa"), ("model", "ffffff")]
)
def test_tasks_that_look_equally_old_are_sorted_by_the_microsecond(amiga, collector, sort, first):
    amiga.task("ffffff", "completed", at=NOW - 60)
    amiga.task("aaaaaa", "completed", at=NOW - 60 + 0.000_3)
    read(collector)
    page = collector.find_tasks(TaskQuery(sort=sort))
    assert page.tasks[0].created_at == page.tasks[1].created_at
    assert page.tasks[0].task_id == first


def test_foreign_text_is_one_short_redacted_line(amiga, collector):
    amiga.task("aaaaaa", at=NOW, description="deploy\nwith api_key=abc123 " + "x" * 900)
    task = read(collector).tasks[0]
    assert "\n" not in task.description
    assert "abc123" not in task.description
    assert len(task.description) <= 200


def test_a_hand_started_session_is_a_cli_session(amiga, collector):
    amiga.task("aaaaaa", at=NOW - 60)
    amiga.tool("aaaaaa", "Read", NOW - 50)
    amiga.tool(CLI_SESSION, "Read", NOW - 40)
    sessions = read(collector).windows[24].sessions
    assert sessions.total_sessions == 2
    assert {(s.session_id, s.kind) for s in [*sessions.active, *sessions.recent]} == {
        (CLI_SESSION, "cli"),
        ("aaaaaa", "task"),
    }


def test_sessions_that_go_on_stay_in_their_places_and_the_others_follow_by_age(amiga, collector):
    """Each call moves its session: rows that changed places with it would be half of a patch."""
    for number, status in enumerate(["running", "completed", "running", "completed"]):
        amiga.task(f"aaaaa{number}", status, at=NOW - 600)
        amiga.tool(f"aaaaa{number}", "Read", NOW - 500 + number)
    sessions = read(collector).windows[24].sessions
    assert [s.session_id for s in sessions.active] == ["aaaaa0", "aaaaa2"]
    assert [s.session_id for s in sessions.recent] == ["aaaaa3", "aaaaa1"]
    amiga.tool("aaaaa2", "Read", NOW - 7)
    sessions = read(collector).windows[24].sessions
    assert [s.session_id for s in sessions.active] == ["aaaaa0", "aaaaa2"]
    assert sessions.active[1].last_activity == NOW // 10 * 10 - 10  # in steps


def test_times_are_told_to_the_millisecond(amiga, collector):
    amiga.task("aaaaaa", "running", NOW - 60.123456)
    amiga.tool("aaaaaa", "Read", NOW - 50.654321)
    facts = read(collector)
    assert facts.tasks[0].created_at == facts.activity[0].timestamp == NOW - 60.123
    assert facts.tasks[0].current_tool is not None
    assert facts.tasks[0].current_tool.since == NOW - 50.654


def test_activity_is_the_newest_by_its_time_in_whatever_order_it_was_written(amiga, collector):
    amiga.task("aaaaaa", "running", NOW - 600)
    amiga.db.execute("BEGIN")
    amiga.ended("aaaaaa", "Read", NOW - 1)
    for place in range(60):
        amiga.ended("aaaaaa", "Bash", NOW - 100 + place)
    amiga.db.execute("COMMIT")
    assert [item.description for item in read(collector).activity[:2]] == ["Read", "Bash"]


def test_a_running_tasks_process_is_found_and_its_end_is_seen(amiga, collector, clock):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    clock.now = time.time()  # the one by which the system tells when it began
    try:
        amiga.task("aaaaaa", at=clock.now, pid=child.pid)
        process = read(collector).task_processes[0]
        assert (process.task_id, process.pid, process.alive) == ("aaaaaa", child.pid, True)
    finally:
        child.kill()
        child.wait()
    clock.now += 2
    assert not read(collector).task_processes[0].alive


def test_an_id_with_a_secret_in_it_is_redacted_wherever_it_stands(amiga, collector):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        amiga.task("token=hunter2", "running", NOW - 60, pid=child.pid)
        amiga.tool("token=hunter2", "Read", NOW - 50)
        facts = read(collector)
    finally:
        child.kill()
        child.wait()
    assert facts.task_processes[0].task_id == facts.tasks[0].task_id == "token=•••"
    assert "hunter2" not in repr(facts)


def test_an_amiga_that_is_updated_while_we_watch_is_read_with_its_new_columns(tmp_path, clock):
    sim = Simulator(tmp_path / "amiga", clock=clock, schema=1, messages=False)
    collector = collector_of(sim.root, tmp_path / "private", clock, timezone=None)
    task = sim.start_task(model="sonnet")
    sim.end_tool(sim.start_tool(task, "Task"), tokens=(5, 7))
    facts = read(collector)
    assert (facts.windows[24].tools.total_calls, facts.windows[24].claude_api.total_requests) == (1, 0)
    sim.close()
    sim._messages = True
    sim.open(clock())
    sim.migrate(14, clock())
    sim.end_tool(sim.start_tool(task, "Task"), tokens=(5, 7))
    sim.add_message("assistant", "Done.", tokens=(3, 1), model="claude-haiku-4-5")
    facts = read(collector)
    assert (facts.windows[24].tools.total_calls, facts.windows[24].claude_api.total_requests) == (2, 2)
    assert facts.tasks[0].phase == "unknown"


def test_reading_leaves_nothing_beside_the_files(amiga, collector):
    amiga.task("aaaaaa", at=NOW)
    read(collector)
    amiga.close()
    read(collector)
    collector.close()
    assert amiga.files() == {"agentlab.db"}


@pytest.mark.skipif(
    "AMIGA_SAMPLE_DIR" not in os.environ, reason="AMIGA_SAMPLE_DIR names no sample installation"
)
def test_the_sample_set_has_its_known_totals(tmp_path):
    root = Path(os.environ["AMIGA_SAMPLE_DIR"])
    clock = Clock((root / "data" / "agentlab.db").stat().st_mtime)
    facts = read(collector_of(root, tmp_path, clock), frozenset({168}))
    totals, tools = facts.totals, facts.windows[168].tools
    assert (totals.total, totals.completed, totals.failed) == (200, 124, 36)
    assert (totals.stopped, totals.pending, totals.running) == (18, 13, 9)
    assert (tools.total_calls, tools.raw_rows, tools.failed) == (3000, 3000, 225)
