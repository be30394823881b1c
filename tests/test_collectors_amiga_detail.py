"""A task in full: its calls counted as everywhere, timed, redacted; and nothing left beside the database."""

from __future__ import annotations

import json

import pytest
from installation import Installation
from reading import NOW, Clock, collector_of, read

from amiga_ws.collectors.amiga import detail
from amiga_ws.questions import SessionQuery, TaskFilter, TaskQuery
from amiga_ws.simulate import ManualClock, Simulator

SECRET = "sk-ant-" + "a1b2c3d4" * 4


@pytest.fixture
def amiga(tmp_path):
    made = Installation(tmp_path / "amiga")
    made.task("aaaaaa", at=NOW - 600)
    yield made
    made.close()


@pytest.fixture
def open_collector(amiga, tmp_path):
    """open_collector(option=…) → a collector of `amiga` that has read everything."""
    made = []

    def make(**options):
        collector = collector_of(amiga.root, tmp_path / "private", Clock(), **options)
        made.append(collector)
        read(collector)
        return collector

    yield make
    for collector in made:
        collector.close()


def row_of(collector, task_id):
    """The task as the table shows it."""
    (task,) = collector.find_tasks(TaskQuery(search=task_id)).tasks
    return task


# -- counted once --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [1, 3, 4])
def test_every_call_is_there_once_with_its_times_however_many_rows_it_left(tmp_path, mode):
    clock = ManualClock(NOW)
    sim = Simulator(tmp_path / "amiga", clock=clock, rows_per_call=mode)
    task = sim.start_task()
    for number in range(12):
        call = sim.start_tool(task, ("Bash", "Read")[number % 2], {"command": f"step {number}"})
        clock.advance(2.0)
        sim.end_tool(call, ok=number != 3, error="Permission denied")
        clock.advance(3.0)
    sim.start_tool(task, "Grep")
    clock.advance(1.0)
    collector = collector_of(sim.root, tmp_path / "private", clock, timezone=None)
    read(collector)
    found = collector.task_detail(task.task_id)
    calls = found.work.calls
    assert [call.tool for call in calls] == ["Bash", "Read"] * 6 + ["Grep"]
    assert [call.state for call in calls] == ["ok"] * 3 + ["failed"] + ["ok"] * 8 + ["running"]
    truth = [call for call in sim.calls if call.task is task]
    for call, true in zip(calls, truth, strict=True):
        assert call.started == pytest.approx(true.started, abs=0.6)
        assert (call.ended is None) == (true.ended is None)
        assert call.ended is None or call.ended == pytest.approx(true.ended, abs=0.6)
    assert [call.parameters["command"] for call in calls[:12]] == [f"step {n}" for n in range(12)]
    assert calls[3].error == "Permission denied"
    shown = row_of(collector, task.task_id)
    assert (found.work.total, found.task.tool_errors) == (13, 1)
    assert (shown.tool_calls, shown.tool_errors) == (13, 1)
    collector.close()
    sim.close()


def test_calls_without_status_rows_are_paired_as_in_the_table(amiga, open_collector):
    for place in range(3):
        amiga.tool("aaaaaa", "Bash", NOW - 300 + place * 20, 1, parameters='{"command": "ls"}')
    amiga.tool("aaaaaa", "Bash", NOW - 100)
    collector = open_collector()
    found = collector.task_detail("aaaaaa")
    assert found.work.total == row_of(collector, "aaaaaa").tool_calls
    assert found.work.calls[0].parameters == {"command": "ls"}


def test_a_call_without_an_end_is_orphaned_once_its_task_has_ended(amiga, open_collector):
    amiga.tool("aaaaaa", "Bash", NOW - 300)
    assert open_collector().task_detail("aaaaaa").work.calls[0].state == "running"
    amiga.update("aaaaaa", status="failed", updated_at="2026-11-18T00:00:00")
    assert open_collector().task_detail("aaaaaa").work.calls[0].state == "orphaned"


def test_a_call_that_began_after_the_last_look_runs(amiga, open_collector):
    """The detail reads the file itself, and so may know a call before the collector does."""
    amiga.hook("s-1", "Bash", NOW - 300, task_id="aaaaaa")
    amiga.finish(amiga.tool("s-2", "Bash", NOW - 300), 1)
    amiga.ended("s-2", "Bash", NOW - 290)
    collector = open_collector()
    for owner in ("aaaaaa", "s-1", "s-2"):
        amiga.tool(owner, "Read", NOW - 1)
    assert [call.state for call in collector.task_detail("aaaaaa").work.calls] == ["running", "running"]
    assert collector.session_detail("s-2").work.calls[-1].state == "running"


def test_calls_of_the_sessions_that_worked_on_a_task_are_its_calls(amiga, open_collector):
    amiga.hook("s-1", "Bash", NOW - 300, task_id="aaaaaa")
    amiga.finish(amiga.tool("s-1", "Bash", NOW - 300), 1)
    amiga.ended("s-1", "Bash", NOW - 290)
    collector = open_collector()
    found = collector.task_detail("aaaaaa")
    assert found.sessions == ["s-1"]
    assert [(call.started, call.ended) for call in found.work.calls] == [(NOW - 300, NOW - 290)]
    session = collector.session_detail("s-1")
    assert session.task.task_id == "aaaaaa"
    assert session.work == found.work


def test_only_the_newest_calls_are_listed_and_all_are_counted(amiga, open_collector, monkeypatch):
    monkeypatch.setattr(detail, "MAX_CALLS", 5)
    for place in range(9):
        amiga.finish(amiga.tool("aaaaaa", "Bash", NOW - 300 + place * 20), 1)
        amiga.ended("aaaaaa", "Bash", NOW - 290 + place * 20)
    work = open_collector().task_detail("aaaaaa").work
    assert (work.total, len(work.calls), work.calls[-1].started) == (9, 5, NOW - 140)


# -- what is shown of it -------------------------------------------------------------------------


def test_every_text_is_redacted_and_cut(amiga, open_collector):
    said = f"export API_KEY={SECRET} and Bearer {SECRET} {'x' * 30_000}"
    amiga.update("aaaaaa", description=said, error=said, result=said, status="failed")
    log = [{"timestamp": "2026-11-18T00:00:00", "message": said[:5000]}] * 150 + ["no entry", 7]
    amiga.update("aaaaaa", activity_log=json.dumps(log))
    row = amiga.tool(
        "aaaaaa",
        "Bash",
        NOW - 300,
        parameters=json.dumps({"command": said[:500], "a": {"token": "t0psecret"}}),
    )
    amiga.finish(row, 0, said, "unknown_error")
    amiga.ended("aaaaaa", "Bash", NOW - 290, ok=False)
    amiga.tool("aaaaaa", "Read", NOW - 280, parameters=said)  # no JSON, and too long
    found = open_collector().task_detail("aaaaaa")
    told = repr(found)
    assert SECRET not in told
    assert "t0psecret" not in told
    assert len(told) < 60_000
    assert found.work.calls[0].parameters["a"] == {"token": "•••"}
    assert len(found.log) == 98  # the newest 100, of which two are no entries
    assert len(found.result) <= 4000


def test_errors_are_redacted_for_no_longer_than_they_may_the_newest_first(amiga, open_collector, monkeypatch):
    for at in (-300, -200):
        row = amiga.tool("aaaaaa", "Bash", NOW + at)
        amiga.finish(row, 0, f"API_KEY={SECRET} is refused", "unknown_error")
        amiga.ended("aaaaaa", "Bash", NOW + at + 10, ok=False)
    collector = open_collector()
    shown = [call.error for call in collector.task_detail("aaaaaa").work.calls]
    assert shown == ["API_KEY=••• is refused"] * 2
    monkeypatch.setattr(detail, "REDACT_S", 0)
    assert [call.error for call in collector.task_detail("aaaaaa").work.calls] == ["…", "…"]


def test_hidden_parameters_are_not_even_read(amiga, open_collector):
    amiga.tool("aaaaaa", "Bash", NOW - 300, parameters='{"command": "make secret-thing"}')
    work = open_collector(hide_parameters=True).task_detail("aaaaaa").work
    assert work.parameters_hidden
    assert work.calls[0].parameters is None
    assert "secret-thing" not in repr(work)


@pytest.mark.parametrize("log", [None, "[", "{}", '{"a": 1}', "7", "[" * 5000, '[{"message": {"a": 1}}]'])
def test_a_log_that_cannot_be_read_takes_nothing_else_away(amiga, open_collector, log):
    amiga.update("aaaaaa", activity_log=log, result="Done.")
    assert open_collector().task_detail("aaaaaa").result == "Done."


def test_an_older_schema_has_what_it_has(tmp_path):
    amiga = Installation(tmp_path / "old")
    amiga.task("aaaaaa", at=NOW - 600)
    amiga.finish(amiga.tool("aaaaaa", "Bash", NOW - 300), 1)
    amiga.ended("aaaaaa", "Bash", NOW - 290)
    amiga.db.execute(
        "ALTER TABLE tool_usage DROP COLUMN error_category; ALTER TABLE tasks DROP COLUMN activity_log;"
        "ALTER TABLE tasks DROP COLUMN result"
    )
    collector = collector_of(amiga.root, tmp_path / "private")
    read(collector)
    found = collector.task_detail("aaaaaa")
    assert (found.work.total, found.result, found.log) == (1, None, [])
    collector.close()
    amiga.close()


# -- the file ------------------------------------------------------------------------------------


def test_asking_leaves_nothing_beside_the_database_whoever_has_gone_meanwhile(amiga, open_collector):
    """The writer closes after our last look: opening as that look found right would leave a -wal and a -shm."""
    amiga.tool("aaaaaa", "Bash", NOW - 300)
    collector = open_collector()
    assert amiga.files() == {"agentlab.db", "agentlab.db-wal", "agentlab.db-shm"}
    amiga.close()
    assert collector.task_detail("aaaaaa").work.total == 1
    assert amiga.files() == {"agentlab.db"}


def test_asking_takes_no_news_from_the_next_reading(amiga, open_collector):
    collector = open_collector()
    amiga.task("bbbbbb", at=NOW - 5)
    collector.task_detail("aaaaaa")
    assert read(collector).totals.total == 2


def test_a_database_that_broke_is_told_and_what_is_known_stays(amiga, open_collector):
    amiga.tool("aaaaaa", "Bash", NOW - 300)
    collector = open_collector()
    amiga.close()
    amiga.database.write_bytes(b"no database" * 1000)
    found = collector.task_detail("aaaaaa")
    assert found.task.task_id == "aaaaaa"
    assert "database" in found.work.problem
    assert (found.work.calls, found.work.total) == ([], 1)


def test_a_reading_that_takes_too_long_is_given_up(amiga, open_collector, monkeypatch):
    amiga.db.execute(
        "INSERT INTO tool_usage (timestamp, task_id, tool_name) WITH RECURSIVE n(i) AS"
        " (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000) SELECT '2026-11-18T00:00:00', 'aaaaaa', 'Bash' FROM n"
    )
    collector = open_collector()
    monkeypatch.setattr(detail, "WITHIN_S", -1.0)
    assert "interrupted" in collector.task_detail("aaaaaa").work.problem


@pytest.mark.parametrize("wanted", ["bbbbbb", "", "' OR 1=1 --", "\ud800"])
def test_what_is_not_there_is_none(amiga, open_collector, wanted):
    collector = open_collector()
    assert collector.task_detail(wanted) is None
    assert collector.session_detail(wanted) is None


def test_before_anything_is_read_there_is_nothing(tmp_path):
    collector = collector_of(tmp_path, tmp_path / "private")
    assert collector.task_detail("aaaaaa") is None
    assert collector.session_detail("s-1") is None
    assert collector.find_sessions(SessionQuery()).total == 0
    assert collector.all_tasks(TaskFilter()) == []
    collector.close()


# -- lists ---------------------------------------------------------------------------------------


def test_sessions_are_found_by_state_kind_and_id(amiga, open_collector):
    amiga.tool("cli-session", "Bash", NOW - 60)
    amiga.tool("old-session", "Bash", NOW - 90_000, 1)
    amiga.hook("hook-session", "Bash", NOW - 30)
    amiga.tool("aaaaaa", "Bash", NOW - 10)
    collector = open_collector()
    ids = lambda **query: [one.session_id for one in collector.find_sessions(SessionQuery(**query)).sessions]  # noqa: E731 - of this test
    assert ids() == ["aaaaaa", "hook-session", "cli-session", "old-session"]
    assert ids(kind="task") == ["aaaaaa"]
    assert ids(state="ended") == ["old-session"]
    assert ids(search="CLI") == ["cli-session"]
    assert ids(page=2, page_size=3) == ["old-session"]
    assert collector.session_detail("hook-session").work.calls == []


def test_of_a_session_that_only_its_hook_log_knows_the_lines_are_told_and_nothing_is_made_up(
    amiga, open_collector
):
    for place in range(1000):
        amiga.hook("hook-session", "Bash", NOW - 1000 + place, content="x" * 1500)
    amiga.hook("hook-yesterday", "Bash", NOW - 90_000)
    amiga.hook("hook-60-days-old", "Bash", NOW - 60 * 86400)
    amiga.tool("aaaaaa", "Bash", NOW - 10)
    collector = open_collector()
    listed = collector.find_sessions(SessionQuery()).sessions
    assert [one.session_id for one in listed] == ["hook-session", "aaaaaa", "hook-yesterday"]
    assert [(one.tools, one.errors) for one in listed] == [(1000, None), (1, 0), (1, None)]
    for hours, sessions in ((1, 2), (24, 2), (168, 3)):
        shown = read(collector, frozenset({hours})).windows[hours].sessions
        assert (shown.total_sessions, shown.total_tools) == (sessions, 1)
        assert len(shown.active) + len(shown.recent) == sessions


def test_tasks_are_sorted_by_what_is_known_and_found_by_every_word(amiga, open_collector):
    amiga.task("bbbbbb", "completed", at=NOW - 500, updated_at="2026-11-18T00:00:00", model="opus")
    for place in range(2):
        amiga.finish(amiga.tool("aaaaaa", "Bash", NOW - 100 + place * 10), 1)
        amiga.ended("aaaaaa", "Bash", NOW - 95 + place * 10)
    collector = open_collector()
    ids = lambda **query: [one.task_id for one in collector.all_tasks(TaskFilter(**query))]  # noqa: E731 - of this test
    assert ids(sort="-tool_calls") == ["aaaaaa", "bbbbbb"]
    assert ids(sort="tool_calls") == ["bbbbbb", "aaaaaa"]
    assert ids(sort="-cost") == ids(sort="cost")  # nobody knows what they cost
    assert ids(search="opus bbb") == ["bbbbbb"]
    assert ids(search="opus aaa") == []
    assert ids(status=("running", "failed")) == ["aaaaaa"]
