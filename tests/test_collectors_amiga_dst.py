"""The night on which clocks go back: AMIGA's local times say each minute of an hour twice."""

from __future__ import annotations

import zoneinfo

import pytest
from reading import collector_of, read

from amiga_ws.simulate import ManualClock, Simulator
from amiga_ws.simulate.spending import add_usage_record

BACK = 1_792_890_000.0  # 2026-10-25 01:00 UTC: 03:00 becomes 02:00 in Madrid
FORTH = 1_774_746_000.0  # 2026-03-29 01:00 UTC: 02:00 becomes 03:00


@pytest.fixture
def clock():
    return ManualClock(BACK - 5400)


@pytest.fixture
def sim(tmp_path, clock):
    made = Simulator(tmp_path / "amiga", clock=clock, zone=zoneinfo.ZoneInfo("Europe/Madrid"))
    yield made
    made.close()


def at_work(sim, clock, collector=None, minutes=180):
    """One task with a call of 90 s every three minutes, looked at before, within and after each."""
    task = sim.start_task()
    for number in range(minutes // 3):
        call = sim.start_tool(task, "Bash", {"command": f"make part-{number}"})
        clock.advance(90)
        if collector is not None:
            yield read(collector, frozenset({1}))
        sim.end_tool(call)
        sim.add_activity(task, "on it")
        clock.advance(90)
        if collector is not None:
            yield read(collector, frozenset({1}))


def test_a_busy_night_needs_nobody_and_an_hour_has_its_calls(sim, clock, tmp_path):
    collector = collector_of(sim.root, tmp_path / "private", clock, timezone="Europe/Madrid")
    collector._processes._listed = float("inf")
    for facts in at_work(sim, clock, collector):
        assert [item for item in facts.attention if item.kind != "disk"] == []
        tools = facts.windows[1].tools
        assert tools.total_calls <= 21
        if clock() > BACK - 1700:
            assert tools.total_calls >= 20
    assert tools.durations["Bash"].p50_ms == tools.durations["Bash"].p95_ms == pytest.approx(90_000, rel=0.03)


@pytest.mark.parametrize("change", [BACK, FORTH])
def test_what_is_read_afterwards_has_its_durations_and_its_hours(sim, clock, tmp_path, change):
    clock.now = change - 5400
    list(at_work(sim, clock))
    collector = collector_of(sim.root, tmp_path / "private", clock, timezone="Europe/Madrid")
    facts = read(collector, frozenset({1, 2, 3}))
    assert [facts.windows[hours].tools.total_calls for hours in (1, 2, 3)] == [20, 40, 60]
    durations = facts.windows[3].tools.durations["Bash"]
    assert durations.p50_ms == durations.p95_ms == pytest.approx(90_000, rel=0.03)
    assert facts.tasks[0].updated_at == pytest.approx(clock() - 90, abs=1)


def test_chats_that_are_watched_are_in_the_hour_in_which_they_were_had(sim, clock, tmp_path):
    collector = collector_of(sim.root, tmp_path / "private", clock, timezone="Europe/Madrid")
    read(collector)
    clock.now = BACK + 60
    for number in range(8):
        read(collector)
        clock.advance(7 * 60)
        sim.add_message("assistant", "yes", tokens=(number, 1), model="haiku")
        add_usage_record(sim, 1, "haiku", (number, 1), 0.1, at=clock())  # the same answer
    assert read(collector, frozenset({1})).windows[1].claude_api.total_requests == 8


def test_a_chat_amid_a_flood_of_rows_is_in_the_hour_in_which_it_was_had(sim, clock, tmp_path):
    collector = collector_of(sim.root, tmp_path / "private", clock, timezone="Europe/Madrid")
    clock.now = BACK - 2400 - 1  # 02:19:59, before the clock goes back
    task = sim.start_task()
    read(collector)
    collector.collect(frozenset({1}))
    sim.add_message("assistant", "yes", tokens=(7, 1), model="haiku")
    for _ in range(4):  # a minute apart: the message is read with rows of later minutes
        clock.advance(60)
        with sim.batch():
            for _ in range(100):
                sim.end_tool(sim.start_tool(task, "Bash"))
        facts = collector.collect(frozenset({1}))
    assert facts.windows[1].claude_api.total_requests == 1
    clock.now = BACK + 1300  # more than an hour later
    assert collector.collect(frozenset({1})).windows[1].claude_api.total_requests == 0


def test_chats_that_are_read_afterwards_go_by_the_one_before(sim, clock, tmp_path):
    for number in range(12):
        sim.add_message("assistant", "yes", tokens=(number, 1), model="haiku", at=BACK - 3000 + 600 * number)
    clock.now = BACK + 4200
    collector = collector_of(sim.root, tmp_path / "private", clock, timezone="Europe/Madrid")
    api = [read(collector, frozenset({hours})).windows[hours].claude_api for hours in (1, 2)]
    assert [one.total_requests for one in api] == [6, 12]


@pytest.mark.parametrize("begin", [BACK - 3000, BACK + 300])
def test_the_details_of_a_task_have_the_hours_in_which_it_worked(sim, clock, tmp_path, begin):
    """It begins in the first of the two hours, or in the second one while somebody watches."""
    collector = collector_of(sim.root, tmp_path / "private", clock, timezone="Europe/Madrid")
    read(collector)
    clock.now = begin
    read(collector)
    began = [clock() - 90 for _ in at_work(sim, clock, collector, minutes=108)]
    (task,) = read(collector).tasks
    detail = collector.task_detail(task.task_id)
    assert [call.started for call in detail.work.calls] == pytest.approx(began[::2], abs=1)
    logged = [entry.timestamp for entry in detail.log if entry.message == "on it"]
    assert logged == pytest.approx(began[1::2], abs=1)


def test_the_details_of_a_task_that_was_old_when_we_began_to_watch_go_by_its_rows(sim, clock, tmp_path):
    clock.now = BACK - 3000
    list(at_work(sim, clock, minutes=30))
    began = clock.now = BACK + 12 * 86400
    call = sim.start_tool(next(iter(sim.tasks.values())), "Bash", {"command": "make"})
    clock.advance(90)
    sim.end_tool(call)
    collector = collector_of(sim.root, tmp_path / "private", clock, timezone="Europe/Madrid")
    (task,) = read(collector).tasks
    started = [call.started for call in collector.task_detail(task.task_id).work.calls]
    assert started == pytest.approx([*range(int(BACK) - 3000, int(BACK) - 1200, 180), began], abs=1)
