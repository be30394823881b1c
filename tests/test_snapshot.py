"""Snapshot: composed of the newest facts, unknown where nothing is known, changed only where a viewer sees it."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amiga_ws.snapshot import (
    Activity,
    AmigaFacts,
    AmigaProcess,
    AmigaWindow,
    Attention,
    ClaudeApi,
    Costs,
    Durations,
    ErrorClass,
    HostFacts,
    Memory,
    ModelCost,
    MonitorProcess,
    Processes,
    Session,
    Sessions,
    Snapshot,
    Source,
    System,
    Task,
    TaskProcess,
    TaskTotals,
    TaskWindow,
    Tools,
    compose,
    same_content,
)

HOST = HostFacts(
    sources={"host": Source(state="ok", as_of=1.0)},
    system=System(
        cpu_percent=12.0,
        load=[0.1, 0.2, 0.3],
        memory=Memory(total=100, used=50, percent=50.0),
        processes=Processes(monitor=MonitorProcess(pid=7, rss=1)),
    ),
)
DAY = AmigaWindow(
    tasks=TaskWindow(created=3),
    costs=Costs(total_cost=1.5, by_model={"opus": ModelCost(cost=None, calls=2)}),
    claude_api=ClaudeApi(total_requests=9),
    tools=Tools(total_calls=4, durations={"Bash": Durations(p50_ms=1.0)}),
    sessions=Sessions(total_sessions=2, active=[Session(session_id="s1")]),
    errors=[ErrorClass(error_class="timeout", count=2, first=1.0, last=2.0)],
)
AMIGA = AmigaFacts(
    sources={name: Source(state="ok") for name in ("amiga", "hooks", "transcripts")},
    totals=TaskTotals(total=10, completed=6, failed=2, success_rate=75.0),
    tasks=[Task(task_id="t1", status="running", description="d")],
    activity=[Activity(timestamp=1.0, kind="task", description="a")],
    attention=[Attention(kind="stuck", severity="warn", subject="t1", since=1.0, evidence="e")],
    amiga_process=AmigaProcess(pid=8, alive=True),
    task_processes=[TaskProcess(task_id="t1", pid=9, alive=True)],
    windows={24: DAY, 48: AmigaWindow(tasks=TaskWindow(created=99))},
)


def composed(**amiga):
    return compose(24, "test", HOST, msgspec.structs.replace(AMIGA, **amiga))


# -- composition ---------------------------------------------------------------------------------


def test_snapshot_takes_each_part_from_its_facts():
    found = composed()
    assert (found.hours, found.instance) == (24, "test")
    assert found.overview.tasks.total == 10
    assert found.overview.tasks.success_rate == 75.0
    assert found.overview.tasks.window == DAY.tasks
    assert found.overview.costs == DAY.costs
    assert found.overview.claude_api == DAY.claude_api
    assert found.overview.tools == DAY.tools
    assert found.overview.system.memory == HOST.system.memory
    assert (found.tasks, found.activity, found.attention) == (AMIGA.tasks, AMIGA.activity, AMIGA.attention)
    assert (found.sessions, found.errors) == (DAY.sessions, DAY.errors)


def test_every_total_of_the_tasks_is_passed_on():
    totals = TaskTotals(**{name: n for n, name in enumerate(TaskTotals.__struct_fields__)})
    found = composed(totals=totals).overview.tasks
    assert {name: getattr(found, name) for name in TaskTotals.__struct_fields__} == msgspec.structs.asdict(
        totals
    )


def test_processes_come_from_both_collectors():
    found = composed().overview.system.processes
    assert found.monitor == HOST.system.processes.monitor
    assert found.amiga == AMIGA.amiga_process
    assert found.tasks == AMIGA.task_processes


def test_sources_of_both_collectors_are_told():
    assert set(composed().sources) == {"host", "amiga", "hooks", "transcripts"}


def test_each_window_has_its_own_numbers():
    assert compose(48, "test", HOST, AMIGA).overview.tasks.window.created == 99


def test_window_amiga_was_not_asked_for_is_unknown_and_never_zero():
    found = compose(72, "test", HOST, AMIGA)
    assert found.overview.tasks.total == 10
    assert found.overview.costs.total_cost is None
    assert found.overview.claude_api.total_requests is None
    assert found.sessions.total_sessions is None


def test_nothing_known_is_null_on_the_wire():
    empty = compose(24, "test", HostFacts(sources={}), AmigaFacts(sources={}))
    wire = json.loads(msgspec.json.encode(empty))
    assert wire["overview"]["tasks"]["total"] is None
    assert wire["overview"]["costs"]["total_cost"] is None
    assert wire["overview"]["tools"]["total_calls"] is None
    assert wire["overview"]["system"]["cpu_percent"] is None
    assert wire["overview"]["system"]["memory"] == {"total": None, "used": None, "percent": None}
    assert wire["overview"]["system"]["processes"] == {"monitor": None, "amiga": None, "tasks": []}


def test_fields_of_the_contract_are_on_the_wire():
    """docs/protocol.md promises these names; more may stand beside them."""
    wire = json.loads(msgspec.json.encode(composed()))
    promised = {
        "": "hours instance timestamp position overview tasks sessions activity errors attention sources",
        "overview": "tasks costs claude_api tools system",
        "overview.tasks": "total pending running completed failed stopped other success_rate window",
        "overview.tasks.window": "created completed failed stopped success_rate",
        "overview.costs": "total_cost haiku_cost sonnet_cost opus_cost by_model currency unpriced_calls "
        "prices_dated today d7 d30 utc_offset_s budget",
        "overview.costs.by_model.opus": "cost calls",
        "overview.claude_api": "total_requests total_input_tokens total_output_tokens cache_creation_tokens "
        "cache_read_tokens",
        "overview.tools": "total_calls raw_rows running failed orphaned by_type errors durations",
        "overview.tools.durations.Bash": "p50_ms p95_ms",
        "overview.system": "cpu_percent per_cpu load memory swap disks network disk_io boot_time processes",
        "overview.system.network": "rx_bytes_s tx_bytes_s",
        "overview.system.disk_io": "read_bytes_s write_bytes_s",
        "overview.system.processes.monitor": "pid rss cpu_percent",
        "overview.system.processes.amiga": "pid alive since rss cpu_percent threads",
        "overview.system.processes.tasks.0": "task_id pid alive rss cpu_percent",
        "tasks.0": "task_id status description agent_type phase model created_at updated_at ended_at current_tool "
        "tool_calls tool_errors error_class tokens cost",
        "sessions": "total_sessions total_tools tools_by_type active recent",
        "sessions.active.0": "session_id task_id kind last_activity tools errors",
        "activity.0": "timestamp kind description task_id status",
        "errors.0": "class count first last",
        "attention.0": "kind severity subject since evidence",
        "sources.host": "state as_of path error hint",
    }
    for path, names in promised.items():
        part = wire
        for step in filter(None, path.split(".")):
            part = part[int(step)] if isinstance(part, list) else part[step]
        assert set(names.split()) <= set(part), path


# -- changed? ------------------------------------------------------------------------------------


def test_stamps_and_looks_at_a_source_are_no_change():
    one = composed()
    stamped = msgspec.structs.replace(one, timestamp=5.0, position="e.24.7")
    looked = msgspec.structs.replace(one, sources={n: Source(state="ok", as_of=99.0) for n in one.sources})
    assert same_content(one, stamped)
    assert same_content(one, looked)
    assert same_content(looked, stamped)


@pytest.mark.parametrize(
    "change",
    [
        {"totals": TaskTotals(total=11)},
        {"tasks": []},
        {"activity": []},
        {"attention": []},
        {"windows": {24: AmigaWindow()}},
        {"amiga_process": None},
        {"task_processes": []},
        {"sources": AMIGA.sources | {"amiga": Source(state="stale")}},
        {"sources": AMIGA.sources | {"amiga": Source(state="ok", error="e")}},
        {"sources": AMIGA.sources | {"amiga": Source(state="ok", hint="h")}},
        {"sources": AMIGA.sources | {"history": Source(state="ok")}},
    ],
)
def test_whatever_a_viewer_sees_is_a_change(change):
    assert not same_content(composed(), composed(**change))


def test_host_and_instance_are_part_of_the_content():
    busier = msgspec.structs.replace(HOST, system=System(cpu_percent=13.0))
    assert not same_content(composed(), compose(24, "test", busier, AMIGA))
    assert not same_content(composed(), compose(24, "other", HOST, AMIGA))


def test_another_window_changes_only_its_own_snapshot():
    other = composed(windows={24: DAY, 48: AmigaWindow()})
    assert same_content(composed(), other)
    assert not same_content(compose(48, "test", HOST, AMIGA), compose(48, "test", HOST, other_facts()))


def other_facts():
    return msgspec.structs.replace(AMIGA, windows={24: DAY, 48: AmigaWindow()})


@given(st.floats(0, 1e10), st.text(max_size=5), st.none() | st.floats(0, 1e10))
def test_equal_content_is_never_a_change(timestamp, position, as_of):
    one = composed()
    sources = {name: msgspec.structs.replace(source, as_of=as_of) for name, source in one.sources.items()}
    assert same_content(
        one, msgspec.structs.replace(one, timestamp=timestamp, position=position, sources=sources)
    )


def test_snapshot_is_immutable():
    with pytest.raises(AttributeError):
        composed().hours = 1
    assert msgspec.structs.asdict(Snapshot(hours=1, instance="a")) == msgspec.structs.asdict(
        Snapshot(hours=1, instance="a")
    )


def test_nobody_shares_an_empty_list():
    one, other = Snapshot(hours=1, instance="a"), Snapshot(hours=1, instance="a")
    assert one.tasks is not other.tasks
    assert one.sources is not other.sources
