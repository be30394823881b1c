"""Facts: collectors in their threads; a late, a broken or a hung one takes nothing from the others."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import pytest

from amiga_ws import facts as room
from amiga_ws.facts import FRESH_S, STALE_AFTER_S, WANTED_S, Facts
from amiga_ws.questions import TaskPage, TaskQuery
from amiga_ws.snapshot import (
    AmigaFacts,
    AmigaWindow,
    HostFacts,
    Source,
    System,
    TaskTotals,
    same_content,
)


class Slow:
    """What both collectors below share: a gate, a fault, and a record of what they were asked."""

    def __init__(self):
        self.asked = []
        self.threads = set()
        self.gate = threading.Event()
        self.gate.set()
        self.fault = None
        self.closed_in = None

    def work(self, windows):
        self.threads.add(threading.current_thread().name)
        self.gate.wait(10)
        self.asked.append(windows)
        if self.fault is not None:
            raise self.fault

    def close(self):
        self.closed_in = threading.current_thread().name


class Host(Slow):
    name = "host"
    source_names = ("host",)

    def collect(self, windows):
        self.work(windows)
        return HostFacts(
            sources={"host": Source(state="ok")}, system=System(cpu_percent=float(len(self.asked)))
        )


class Amiga(Slow):
    name = "amiga"
    source_names = ("amiga", "hooks", "transcripts")

    def collect(self, windows):
        self.work(windows)
        return AmigaFacts(
            sources={name: Source(state="ok", path=f"/{name}") for name in self.source_names},
            totals=TaskTotals(total=len(self.asked)),
            windows={hours: AmigaWindow() for hours in windows},
        )

    def find_tasks(self, query):
        self.work(frozenset())
        return TaskPage(tasks=[], total=7, page=query.page, page_size=query.page_size)


@pytest.fixture
def time_(monkeypatch):
    """The monotonic clock of the room, moved by hand."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(room, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def facts(time_):
    host, amiga = Host(), Amiga()
    made = Facts("test", host, amiga)
    made.of_host, made.of_amiga = host, amiga
    yield made
    host.gate.set()
    amiga.gate.set()
    made.stop()


DAY = frozenset({24})


def states(facts):
    return {name: source.state for name, source in facts.snapshot(24).sources.items()}


async def late(facts, deadline_s=0.02):
    """A refresh that somebody does not answer in time."""
    await facts.refresh(DAY, deadline_s)


async def test_before_the_first_answer_everything_is_loading_and_unknown(facts):
    assert set(states(facts).values()) == {"loading"}
    assert set(states(facts)) == {"host", "amiga", "hooks", "transcripts"}
    assert facts.snapshot(24).overview.tasks.total is None


async def test_each_collector_lives_in_one_thread_of_its_own(facts, time_):
    for _ in range(3):
        await facts.refresh(DAY)
        await facts.find_tasks(TaskQuery())
        time_.now += 1
    assert facts.of_host.threads == {"collector-host"}
    assert facts.of_amiga.threads == {"collector-amiga"}


async def test_refresh_brings_both_together(facts):
    await facts.refresh(DAY)
    found = facts.snapshot(24)
    assert (found.instance, found.overview.tasks.total, found.overview.system.cpu_percent) == ("test", 1, 1.0)
    assert set(states(facts).values()) == {"ok"}


async def test_collectors_are_asked_at_most_once_a_second_in_all(facts, time_):
    for _ in range(10):
        await facts.refresh(DAY)
    await asyncio.gather(*(facts.refresh(DAY) for _ in range(10)))
    assert len(facts.of_amiga.asked) == 1
    time_.now += FRESH_S + 0.01
    await facts.refresh(DAY)
    assert len(facts.of_amiga.asked) == len(facts.of_host.asked) == 2


async def test_new_window_is_read_at_once(facts):
    await facts.refresh(DAY)
    await facts.refresh(DAY | {48})
    assert set(facts.amiga.facts.windows) == {24, 48}


async def test_the_host_is_read_once_a_second_whatever_windows_are_asked_for(facts, time_):
    """Read anew after a millisecond, its CPU would be 0 or 100 for everybody."""
    for hours in range(1, 41):
        await facts.refresh(DAY | {hours})
    assert len(facts.of_host.asked) == 1
    time_.now += FRESH_S + 0.01
    await facts.refresh(frozenset({41}))
    assert len(facts.of_host.asked) == 2


async def test_many_windows_asked_for_one_by_one_are_not_all_read_again(facts):
    in_use = frozenset(range(1, 17))
    for hours in range(17, 169):
        await facts.refresh(in_use | {hours})
        assert in_use | {hours} <= set(facts.amiga.facts.windows)
    assert max(map(len, facts.of_amiga.asked)) == room.MAX_WANTED


async def test_windows_asked_for_together_are_read_together(facts):
    facts.of_amiga.gate.clear()
    asking = [asyncio.create_task(facts.refresh(frozenset({hours}), 5)) for hours in (1, 2, 3, 4)]
    await asyncio.sleep(0.01)
    facts.of_amiga.gate.set()
    await asyncio.gather(*asking)
    assert set(facts.amiga.facts.windows) == {1, 2, 3, 4}
    assert len(facts.of_amiga.asked) == 1


async def test_windows_asked_for_during_a_read_are_read_together_after_it(facts):
    facts.of_amiga.gate.clear()
    asking = [asyncio.create_task(facts.refresh(frozenset({1}), 5))]
    await asyncio.sleep(0.01)
    asking += [asyncio.create_task(facts.refresh(frozenset({hours}), 5)) for hours in (2, 3, 4)]
    await asyncio.sleep(0.01)
    facts.of_amiga.gate.set()
    await asyncio.gather(*asking)
    assert set(facts.amiga.facts.windows) == {1, 2, 3, 4}
    assert len(facts.of_amiga.asked) == 2


async def test_read_for_somebody_else_does_not_take_a_window_away(facts):
    """The host is slow: before the first asker can compose, another's read of AMIGA has come and gone."""
    facts.of_host.gate.clear()
    first = asyncio.create_task(facts.refresh(frozenset({48}), 5))
    await asyncio.sleep(0.01)
    await facts.amiga.refresh(frozenset({72}), 5)
    facts.of_host.gate.set()
    await first
    assert {48, 72} <= set(facts.amiga.facts.windows)


async def test_window_nobody_asks_for_any_more_is_not_read(facts, time_):
    await facts.refresh(frozenset({24, 48}))
    time_.now += WANTED_S
    await facts.refresh(DAY)
    assert facts.of_amiga.asked[-1] == DAY


async def test_late_collector_keeps_its_last_good_facts_and_holds_up_nobody(facts, time_):
    await facts.refresh(DAY)
    facts.of_amiga.gate.clear()
    time_.now += 1
    await late(facts)
    assert facts.snapshot(24).overview.tasks.total == 1
    assert facts.snapshot(24).overview.system.cpu_percent == 2.0
    assert set(states(facts).values()) == {"ok"}  # a second late is nothing to shout about


async def test_hung_collector_is_said_to_be_stale_until_it_answers(facts, time_):
    await facts.refresh(DAY)
    facts.of_amiga.gate.clear()
    time_.now += STALE_AFTER_S + 1
    await late(facts)
    assert states(facts) == {"host": "ok", "amiga": "stale", "hooks": "stale", "transcripts": "stale"}
    assert facts.snapshot(24).sources["amiga"].path == "/amiga"
    assert facts.snapshot(24).overview.tasks.total == 1
    facts.of_amiga.gate.set()
    await facts.refresh(DAY, 5)
    assert set(states(facts).values()) == {"ok"}


async def test_hang_is_one_change_not_one_each_second(facts, time_):
    await facts.refresh(DAY)
    facts.of_amiga.gate.clear()
    time_.now += STALE_AFTER_S + 1
    await late(facts)
    one = facts.snapshot(24)
    time_.now += 5
    await facts.amiga.refresh(DAY, 0.02)
    assert same_content(one, facts.snapshot(24))


async def test_hung_collector_is_not_asked_again_and_again(facts, time_):
    facts.of_amiga.gate.clear()
    for _ in range(5):
        await late(facts)
        time_.now += 1
    facts.of_amiga.gate.set()
    await facts.refresh(DAY, 5)
    assert len(facts.of_amiga.asked) == 2  # the one that hung, and this one


async def test_collector_that_never_answered_is_stale_after_a_while(facts, time_):
    facts.of_amiga.gate.clear()
    time_.now += STALE_AFTER_S + 1
    await late(facts)
    assert states(facts)["amiga"] == "stale"


async def test_broken_collector_degrades_its_section_and_is_logged_once(facts, time_, caplog):
    await facts.refresh(DAY)
    facts.of_amiga.fault = RuntimeError("sk-secret in a message")
    for _ in range(4):
        time_.now += 1
        await facts.refresh(DAY, 5)
    found = facts.snapshot(24)
    assert states(facts) == {"host": "ok", "amiga": "error", "hooks": "error", "transcripts": "error"}
    assert found.overview.tasks.total == 1
    assert "RuntimeError" in found.sources["amiga"].error
    assert "secret" not in found.sources["amiga"].error
    assert len(caplog.records) == 1
    assert caplog.records[0].exc_info[1] is facts.of_amiga.fault
    facts.of_amiga.fault = None
    time_.now += 1
    await facts.refresh(DAY, 5)
    assert set(states(facts).values()) == {"ok"}
    facts.of_amiga.fault = RuntimeError("again")
    time_.now += 1
    await facts.refresh(DAY, 5)
    assert len(caplog.records) == 2


async def test_broken_collector_is_asked_no_oftener_than_a_good_one(facts):
    facts.of_amiga.fault = RuntimeError()
    for _ in range(5):
        await facts.refresh(DAY, 5)
    assert len(facts.of_amiga.asked) == 1


async def test_questions_are_answered_in_the_collectors_thread(facts):
    page = await facts.find_tasks(TaskQuery(page=3, page_size=5))
    assert (page.total, page.page, page.page_size) == (7, 3, 5)


async def test_question_that_fails_fails_for_who_asked(facts):
    facts.of_amiga.fault = ValueError("no")
    with pytest.raises(ValueError, match="no"):
        await facts.find_tasks(TaskQuery())
    assert set(states(facts).values()) == {"loading"}  # nobody else is told


async def test_question_to_a_hung_collector_times_out(facts):
    facts.of_amiga.gate.clear()
    with pytest.raises(TimeoutError):
        await facts.amiga.call(lambda: facts.of_amiga.work(frozenset()), deadline_s=0.02)
    facts.of_amiga.gate.set()
    await facts.refresh(DAY, 5)  # and it goes on afterwards
    assert states(facts)["amiga"] == "ok"


async def test_stop_closes_each_collector_in_its_own_thread(facts):
    await facts.refresh(DAY)
    facts.stop()
    assert facts.of_host.closed_in == "collector-host"
    assert facts.of_amiga.closed_in == "collector-amiga"


async def test_hung_collector_does_not_hold_up_the_end(facts, caplog):
    facts.of_amiga.gate.clear()
    await late(facts)
    facts.stop(timeout_s=0.05)
    assert "collector amiga did not end" in caplog.text
    assert facts.of_host.closed_in == "collector-host"


def test_answer_after_the_end_of_the_loop_is_dropped(facts):
    facts.of_amiga.gate.clear()
    asyncio.run(late(facts))
    facts.of_amiga.gate.set()
    facts.stop(timeout_s=5)
    assert facts.of_amiga.closed_in == "collector-amiga"  # its thread went on to the end


async def test_how_sources_stand_is_logged_where_it_changes_and_not_again_and_again(caplog, monkeypatch):
    """Who looks into the log alone must not think that all is well."""
    monkeypatch.setattr(room, "FRESH_S", 0.01)
    caplog.set_level("INFO", "amiga_ws.facts")
    absent = Source(state="missing", path="/a", error="no AMIGA database at this path", hint="set amiga.root")
    well = Source(state="ok", path="/a")
    broken = Source(state="error", path="/a", error="its disk is broken")
    amiga = Amiga()
    monkeypatch.setattr(room, "SETTLED_S", 0.2)
    facts = Facts("here", Host(), amiga)

    async def told(source):
        amiga.collect = lambda _: AmigaFacts(sources={"amiga": source})
        await asyncio.sleep(0.02)
        caplog.clear()
        await facts.refresh(frozenset({24}))
        return [record.getMessage() for record in caplog.records]

    try:
        assert await told(Source(path="/a")) == []
        assert await told(absent) == []  # it may be on its way
        await asyncio.sleep(0.2)
        assert await told(absent) == [
            "source amiga cannot be read: no AMIGA database at this path; set amiga.root"
        ]
        assert await told(absent) == []
        assert await told(well) == []  # so soon
        monkeypatch.setattr(room, "TOLD_EACH_S", 0.0)
        assert await told(well) == ["source amiga is read: /a"]
        assert await told(broken) == ["source amiga cannot be read: its disk is broken"]
        assert await told(well) == ["source amiga is read: /a"]
    finally:
        facts.stop()
