"""Calls: counted once, timed, their errors classed; whatever AMIGA's rows look like."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path

import pytest
from installation import CLI_SESSION, Installation, local
from reading import DAY, NOW, Clock, collector_of, read

from amiga_ws.collectors.amiga.calls import Calls
from amiga_ws.collectors.amiga.groups import MAX_OPEN, Group
from amiga_ws.collectors.host import HostCollector
from amiga_ws.facts import Facts
from amiga_ws.questions import TaskFilter
from amiga_ws.simulate import ManualClock, Simulator


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def amiga(tmp_path):
    made = Installation(tmp_path / "amiga")
    made.task("aaaaaa", at=NOW - 600)
    return made


@pytest.fixture
def collector(amiga, tmp_path, clock):
    made = collector_of(amiga.root, tmp_path / "private", clock)
    yield made
    made.close()


def tools(collector):
    return read(collector).windows[24].tools


@pytest.mark.parametrize("mode", [1, 3, 4])
@pytest.mark.parametrize("after_the_fact", [True, False])
def test_durations_are_those_of_the_calls_however_many_rows_they_left(tmp_path, mode, after_the_fact):
    clock = ManualClock(NOW)
    sim = Simulator(tmp_path / "amiga", clock=clock, rows_per_call=mode)
    collector = collector_of(sim.root, tmp_path / "private", clock, timezone=None)
    task = sim.start_task()
    for _ in range(20):
        call = sim.start_tool(task, "Bash")
        if not after_the_fact:
            read(collector)
        clock.advance(0.4 if mode == 1 else 2.0)
        sim.end_tool(call)
        if not after_the_fact:
            read(collector)
        clock.advance(3)
    found = tools(collector)
    assert found.total_calls == 20
    assert found.durations["Bash"].p50_ms == pytest.approx(400 if mode == 1 else 2000, rel=0.03)
    assert found.durations["Bash"].p95_ms == pytest.approx(400 if mode == 1 else 2000, rel=0.03)


def test_an_orphan_does_not_lengthen_the_next_calls_duration(amiga, collector):
    amiga.tool("aaaaaa", "Bash", NOW - 500)  # never ends
    row = amiga.tool("aaaaaa", "Bash", NOW - 100)
    amiga.finish(row, 1)
    amiga.ended("aaaaaa", "Bash", NOW - 90)
    assert tools(collector).durations["Bash"].p50_ms == pytest.approx(10_000, rel=0.03)


def test_a_clock_that_is_set_back_gives_no_negative_duration(amiga, collector):
    amiga.finish(amiga.tool("aaaaaa", "Bash", NOW - 100), 1)
    amiga.ended("aaaaaa", "Bash", NOW - 3700)
    durations = tools(collector).durations.get("Bash")
    assert durations is None or durations.p50_ms >= 1


def test_errors_are_classed_by_category_once_per_call(amiga, collector):
    for place in range(3):
        at = NOW - 300 + place * 20
        amiga.tool("aaaaaa", "Bash", at)
        twin = amiga.tool("aaaaaa", "Bash", at + 0.1)
        if place == 1:
            tools(collector)  # seen while it runs
        amiga.finish(twin, 0, "Permission denied: /etc/hosts", "permission_error")
        amiga.ended("aaaaaa", "Bash", at + 5, ok=False)
        amiga.tool(
            "aaaaaa", "Bash", at + 5.05, 0, error="Permission denied", error_category="permission_error"
        )
    found = tools(collector)
    assert (found.total_calls, found.failed, found.suspect) == (3, 3, 0)
    assert found.error_categories == {"Bash": {"permission_error": 3}}
    assert found.errors == {"Bash": 3}


def test_a_read_that_only_showed_the_word_error_is_suspect(amiga, collector):
    row = amiga.tool("aaaaaa", "Read", NOW - 100)
    amiga.finish(row, 0, "2026 app.log error: something failed", "unknown_error")
    amiga.ended("aaaaaa", "Read", NOW - 99, ok=False)
    row = amiga.tool("aaaaaa", "Bash", NOW - 90)
    amiga.finish(row, 0, "Tool output contains error", None)
    amiga.ended("aaaaaa", "Bash", NOW - 89, ok=False)
    row = amiga.tool("aaaaaa", "Edit", NOW - 80)
    amiga.finish(row, 0, "Error: String not found", "unknown_error")
    amiga.ended("aaaaaa", "Edit", NOW - 79, ok=False)
    row = amiga.tool("aaaaaa", "Read", NOW - 70)
    amiga.finish(row, 0, "fatal: not a git repository", "git_error")
    amiga.ended("aaaaaa", "Read", NOW - 69, ok=False)
    for at, ok in ((NOW - 60, True), (NOW - 50, True), (NOW - 40, False)):
        error = (None, None) if ok else ("Error: File does not exist.", "file_not_found")
        amiga.finish(amiga.tool("aaaaaa", "Read", at), int(ok), *error)
        amiga.ended("aaaaaa", "Read", at + 1, ok=ok)
    found = tools(collector)
    assert (found.failed, found.suspect) == (5, 3)
    assert found.suspects == {"Read": 2, "Bash": 1}
    assert found.errors == {"Read": 3, "Bash": 1, "Edit": 1}
    assert found.error_rates == {"Read": 60.0, "Bash": 100.0, "Edit": 100.0}


def test_without_status_rows_calls_are_paired_and_it_is_told(tmp_path, clock):
    manual = ManualClock(NOW)
    for mode in (1, 3, 4):
        sim = Simulator(tmp_path / str(mode), clock=manual, rows_per_call=mode, status_rows=False)
        task = sim.start_task()
        for _ in range(5):
            call = sim.start_tool(task, "Bash")
            manual.advance(30)
            sim.end_tool(call, ok=False)
            manual.advance(5)
        sim.start_tool(task, "Bash")
        found = tools(collector_of(sim.root, tmp_path / "private", manual, timezone=None))
        assert (found.total_calls, found.running, found.failed, found.estimated) == (6, 1, 5, 5), mode


def test_a_task_that_amiga_knows_only_by_its_session_is_linked_by_the_hook_line(amiga, collector):
    amiga.hook(CLI_SESSION, "Bash", NOW - 50, task_id="aaaaaa")
    amiga.tool(CLI_SESSION, "Bash", NOW - 50)
    facts = read(collector)
    assert facts.tasks[0].tool_calls == 1
    assert facts.tasks[0].current_tool.name == "Bash"
    session = facts.windows[24].sessions.active[0]
    assert (session.kind, session.task_id, session.state) == ("task", "aaaaaa", "active")


def test_a_stored_session_uuid_links_nothing(amiga, collector):
    amiga.update("aaaaaa", session_uuid=CLI_SESSION)
    amiga.tool(CLI_SESSION, "Bash", NOW - 50)
    facts = read(collector)
    assert facts.tasks[0].tool_calls == 0
    assert facts.windows[24].sessions.active[0].kind == "cli"


def test_cli_sessions_are_active_idle_and_over_by_the_clock(amiga, collector, clock):
    amiga.tool(CLI_SESSION, "Bash", NOW)
    for later, state, running in ((0, "active", 1), (400, "idle", 1), (2000, "ended", 0)):
        clock.now = NOW + later
        found = read(collector).windows[24]
        assert [s.state for s in [*found.sessions.active, *found.sessions.recent]] == [state]
        assert (found.tools.running, found.tools.orphaned) == (running, 1 - running)


def test_sessions_that_only_the_hook_logs_know_are_listed(amiga, collector):
    amiga.hook(CLI_SESSION, "Bash", NOW - 50)
    amiga.hook(CLI_SESSION, "Read", NOW - 40)
    session = read(collector).windows[24].sessions.active[0]
    assert (session.session_id, session.kind, session.tools) == (CLI_SESSION, "cli", 2)


def test_a_session_is_listed_once_whatever_comes_to_be_known_of_it(amiga, collector, clock):
    def sessions():
        clock.now += 1
        found = read(collector).windows[24].sessions
        return found.total_sessions, sorted(one.session_id for one in [*found.active, *found.recent])

    amiga.hook(CLI_SESSION, "Bash", NOW - 50)
    amiga.hook("unlinked", "Bash", NOW - 45)
    assert sessions() == (2, [CLI_SESSION, "unlinked"])
    amiga.tool(CLI_SESSION, "Bash", NOW - 40)  # its rows come later than its log
    amiga.tool("aaaaaa", "Bash", NOW - 40)
    assert sessions() == (3, ["aaaaaa", CLI_SESSION, "unlinked"])
    amiga.hook("unlinked", "Bash", NOW - 30, task_id="aaaaaa")  # so its calls are the task's
    assert sessions() == (2, ["aaaaaa", CLI_SESSION])
    amiga.hook(CLI_SESSION, "Read", NOW - 20)
    assert sessions() == (2, ["aaaaaa", CLI_SESSION])
    amiga.close()
    amiga.database.unlink()
    Installation(amiga.root)  # another database, without any rows
    assert sessions() == (2, [CLI_SESSION, "unlinked"])


def test_tool_names_are_foreign_text_and_their_number_is_capped(amiga, collector):
    amiga.db.execute("BEGIN")
    for place in range(450):
        amiga.finish(amiga.tool("aaaaaa", f"mcp__{place}__x", NOW - 50), 1)
        amiga.ended("aaaaaa", f"mcp__{place}__x", NOW - 49)
    amiga.tool("aaaaaa", "evil\n\x1b[31m" + "x" * 300, NOW - 10)
    amiga.db.execute("COMMIT")
    found = tools(collector)
    assert found.total_calls == 451
    assert len(found.by_type) <= 60
    assert found.by_type["(other tools)"] == 51
    assert all("\n" not in name and len(name) <= 80 for name in found.by_type)


def test_thousands_of_open_rows_of_one_tool_are_kept_as_a_number():
    def row(when, row_id, success):
        return (NOW + when, ("a7f5bb", "Bash"), row_id, success, None, None)

    group = Group()
    for place in range(5_000):
        rows = [row(place * 2, place, None), row(place * 2 + 1, place, 1), row(place * 2 + 1, place, 1)]
        [(_, began)] = group.take([*rows[:2], row(place * 2 + 1, None, True), rows[2]])
        assert began == NOW + place * 2 + 1
    assert group.ended == 5_000
    assert len(group.open_times) <= MAX_OPEN
    assert group.open_starts() == []
    assert list(group.take([row(20_000, 9_999, None)])) == []
    assert group.open_starts() == [NOW + 20_000]


def test_rows_completed_without_a_sign_are_found_in_turns_of_whatever_tool(amiga, collector):
    names = [f"Tool{place}" for place in range(8)]
    rows = {
        name: [amiga.tool(CLI_SESSION, name, NOW - 90 + second) for second in range(30)] for name in names
    }
    read(collector)
    for ids in rows.values():
        amiga.finish(ids[-10], 0, "boom")
    for second in range(20):  # something comes in that has nothing to do with it
        amiga.tool("aaaaaa", "Grep", NOW + second)
        found = tools(collector)
    assert found.errors == dict.fromkeys(names, 1)


@pytest.mark.parametrize("others", [0, 12, 25, 60])
def test_rows_of_calls_that_ended_are_looked_at_first_however_many_others_run(others):
    def row(owner, when, row_id, success=None):
        return (NOW + when, (owner, "Bash"), row_id, success, None, None)

    calls = Calls()
    running = [row(f"o{place:02}", place / 100, place) for place in range(others)]
    ours = [row("aaaaaa", 10 + place, 1000 + place) for place in range(12)]
    calls.take([*running, *ours])
    calls.flush()
    for _ in range(5):
        calls.to_recheck(5000)
    ends = [row("aaaaaa", 60 + place / 100, None, True) for place in range(12)]
    calls.take(ends)
    assert calls.to_recheck(5000).keys() >= set(range(1000, 1012))
    for _ in range(others):  # and those that run in turns
        looked = calls.to_recheck(5000)
        running = [one for one in running if one[2] not in looked]
    assert not running


def test_a_link_or_a_change_of_the_task_brings_a_sessions_orphaned_call_back(amiga, collector, clock):
    def counts():
        found = tools(collector)
        return found.running, found.orphaned

    amiga.hook(CLI_SESSION, "Bash", NOW - 10)
    amiga.tool(CLI_SESSION, "Bash", NOW - 10)
    assert counts() == (1, 0)
    clock.now += 3600  # nobody knows whose session it is
    assert counts() == (0, 1)
    amiga.hook(CLI_SESSION, "Bash", NOW + 3600, task_id="aaaaaa")
    assert counts() == (1, 0)
    amiga.update("aaaaaa", status="completed", updated_at=local(NOW + 3600))
    assert counts() == (0, 1)
    amiga.update("aaaaaa", status="running", updated_at=local(NOW + 3601))
    assert counts() == (1, 0)


def test_status_rows_that_tell_of_no_call_are_read_in_slices_too(amiga, collector, monkeypatch):
    from amiga_ws.collectors.amiga import tail  # noqa: PLC0415 - to make its slices small

    monkeypatch.setattr(tail, "SLICE_S", 0.0)
    monkeypatch.setattr(tail, "CHUNK_ROWS", 50)
    amiga.db.execute("BEGIN")
    for place in range(300):
        amiga.status("aaaaaa", "progress", NOW - 500 + place)
    amiga.ended("aaaaaa", "Bash", NOW - 100)
    amiga.db.execute("COMMIT")
    readings = 1
    while collector.collect(DAY).sources["amiga"].state == "loading":
        readings += 1
    assert readings > 300 // 50
    assert tools(collector).total_calls == 1


def test_a_large_history_is_loaded_in_slices_and_says_so(tmp_path, caplog, monkeypatch):
    from amiga_ws.collectors.amiga import tail  # noqa: PLC0415 - to make its slices small

    monkeypatch.setattr(tail, "SLICE_S", 0.0)
    monkeypatch.setattr(tail, "CHUNK_ROWS", 50)
    amiga = Installation(tmp_path / "amiga")
    amiga.db.execute("BEGIN")
    for place in range(300):
        amiga.finish(amiga.tool(CLI_SESSION, "Bash", NOW - 900 + place), 1)
        amiga.ended(CLI_SESSION, "Bash", NOW - 900 + place + 0.6)
    amiga.db.execute("COMMIT")
    collector = collector_of(amiga.root, tmp_path / "private")
    caplog.set_level("INFO")
    first = collector.collect(DAY)
    assert first.sources["amiga"].state == "loading"
    assert first.totals.total is None
    amiga.tool(CLI_SESSION, "Read", NOW)  # AMIGA goes on meanwhile
    found = tools(collector)
    assert (found.total_calls, found.by_type) == (301, {"Bash": 300, "Read": 1})
    assert "rows so far" in caplog.text


def test_what_a_slice_has_loaded_is_out_of_the_garbage_collectors_sight(tmp_path, monkeypatch):
    """Or each full round looks through all of it and stops the whole server: 0.1 s at a million rows."""
    from amiga_ws.collectors.amiga import tail  # noqa: PLC0415 - to make its slices small

    monkeypatch.setattr(tail, "SLICE_S", 0.0)
    monkeypatch.setattr(tail, "CHUNK_ROWS", 50)
    amiga = Installation(tmp_path / "amiga")
    for place in range(120):
        amiga.finish(amiga.tool(CLI_SESSION, "Bash", NOW - 900 + place), 1)
    collector = collector_of(amiga.root, tmp_path / "private")
    assert collector.collect(DAY).sources["amiga"].state == "loading"
    owner = collector._model.calls.owners[CLI_SESSION]
    assert gc.is_tracked(owner)
    assert not any(one is owner for one in gc.get_objects())
    assert gc.isenabled()


def test_a_database_that_is_none_keeps_no_garbage(tmp_path):
    """It is tried again each second for as long as it takes."""
    broken = tmp_path / "amiga" / "data" / "agentlab.db"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no database" * 1000)
    collector = collector_of(tmp_path / "amiga", tmp_path / "private")
    before = gc.get_freeze_count()
    assert collector.collect(DAY).sources["amiga"].state == "error"
    assert gc.get_freeze_count() == before
    assert gc.isenabled()


async def test_the_host_is_shown_while_a_history_is_read(tmp_path, monkeypatch):
    from amiga_ws.collectors.amiga import tail  # noqa: PLC0415 - to make its slices small

    monkeypatch.setattr(tail, "SLICE_S", 0.0)
    monkeypatch.setattr(tail, "CHUNK_ROWS", 50)
    amiga = Installation(tmp_path / "amiga")
    for place in range(60):
        amiga.tool(CLI_SESSION, "Bash", NOW - 900 + place, 1)
    facts = Facts("here", HostCollector(), collector_of(amiga.root, tmp_path / "private"))
    try:
        await facts.refresh(DAY, 20.0)
        snapshot = facts.snapshot(24)
    finally:
        facts.stop()
    assert (snapshot.sources["host"].state, snapshot.sources["amiga"].state) == ("ok", "loading")
    assert snapshot.overview.system.memory.total
    assert snapshot.overview.tools.total_calls is None


def test_rows_older_than_any_window_are_not_loaded(amiga, tmp_path, clock):
    amiga.task("old000", "completed", NOW - 20 * 86400)
    for place in range(50):
        at = NOW - 20 * 86400 + place
        amiga.finish(amiga.tool("old000", "Bash", at), 1)
        amiga.ended("old000", "Bash", at + 0.7, ok=place > 1)
    amiga.status("old000", "completed", NOW - 19 * 86400)
    collector = collector_of(amiga.root, tmp_path / "private", clock)
    facts = read(collector, frozenset({168}))
    assert facts.windows[168].tools.raw_rows == 0
    assert collector._model.tail.loaded_rows == 0
    old = next(task for task in facts.tasks if task.task_id == "old000")
    assert (old.ended_at, old.tool_calls, old.tool_errors) == (NOW - 19 * 86400, 50, 2)


def test_calls_of_an_old_task_that_is_not_shown_are_unknown_and_not_none_at_all(amiga, tmp_path, clock):
    for number in range(60):
        amiga.task(f"{number:06x}", "completed", NOW - (20 - number / 1000) * 86400)
    collector = collector_of(amiga.root, tmp_path / "private", clock)
    read(collector, frozenset({24}))
    listed = {task.task_id: task.tool_calls for task in collector.all_tasks(TaskFilter())}
    assert listed["00003b"] == 0  # one of the newest 50: counted in the file
    assert listed["000000"] is None


def test_hundreds_of_rows_a_second_are_followed_to_the_same_numbers_as_when_read_anew(tmp_path):
    clock = ManualClock(NOW)
    sim = Simulator(tmp_path / "amiga", clock=clock)
    collector = collector_of(sim.root, tmp_path / "private", clock, timezone=None)
    tasks, going = [sim.start_task() for _ in range(3)], []
    for number in range(600):
        going.append(sim.start_tool(tasks[number % 3], ("Bash", "Read", "Edit", "Grep")[number % 4]))
        if number % 60 == 59:
            read(collector)
            clock.advance(1.0)
        if len(going) > 3:  # those that were seen open fail
            sim.end_tool(going.pop(0), ok=3 <= number % 60 < 59)
    anew = collector_of(sim.root, tmp_path / "private", clock, timezone=None)
    found = tools(collector)
    assert found.failed > 0
    assert found == tools(anew)


@pytest.mark.skipif(
    "AMIGA_LIVE_DIR" not in os.environ, reason="AMIGA_LIVE_DIR names no recorded installation"
)
def test_a_recorded_run_of_amiga_agrees_with_its_truth(tmp_path):
    root = Path(os.environ["AMIGA_LIVE_DIR"])
    events = [json.loads(line) for line in (root / "truth.jsonl").read_text("utf-8").splitlines()]
    starts = [event for event in events if event["event"] == "start"]
    failed = [event for event in events if event["event"] == "end" and not event["ok"]]
    clock = Clock(max(event["t"] for event in events) + 60)
    found = read(collector_of(root, tmp_path, clock, timezone=None)).windows[24].tools
    assert found.total_calls == len(starts) == 50
    assert found.raw_rows == 149
    assert found.failed == len(failed)
    counts: dict[str, int] = {}
    for event in starts:
        counts[event["tool"]] = counts.get(event["tool"], 0) + 1
    assert found.by_type == counts
