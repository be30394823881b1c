"""The collector against the reference, after every step of random histories of a simulated AMIGA."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import zoneinfo
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from reading import collector_of, read
from reference import Reference

from amiga_ws.collectors.amiga import AmigaCollector, AmigaConfig
from amiga_ws.simulate import ManualClock, Simulator

NOW = 1_795_003_200.0
HOURS = (1, 24, 168)
TOOLS = st.sampled_from(["Bash", "Read", "Task", "mcp__a__b"])


class Histories(RuleBasedStateMachine):
    """What AMIGA, its hooks, its users and its host do, in any order."""

    @initialize(
        schema=st.sampled_from([1, 4, 5, 9, 10, 11, 13, 14]),
        mode=st.sampled_from([1, 3, 4]),
        zone=st.sampled_from(["UTC", "Europe/Madrid", "America/New_York", "Asia/Kolkata"]),
        stamps=st.sampled_from(["local", "utc", "space", "mixed"]),
        status_rows=st.booleans(),
        wal_only=st.booleans(),
    )
    def begin(self, schema, mode, zone, stamps, status_rows, wal_only):
        self.home = Path(tempfile.mkdtemp(prefix="amiga-history-"))
        self.clock = ManualClock(NOW)
        self.zone = zoneinfo.ZoneInfo(zone)
        self.sim = Simulator(
            self.home / "amiga",
            clock=self.clock,
            schema=schema,
            zone=self.zone,
            rows_per_call=mode,
            status_rows=status_rows,
            stamps=stamps,
            wal_only=wal_only,
        )
        self.sessions = [self.sim.new_uuid() for _ in range(2)]
        root = self.home / "amiga"
        config = AmigaConfig(
            root=root,
            database=root / "data" / "agentlab.db",
            sessions=root / "logs" / "sessions",
            private_dir=self.home / "private",
            timezone=zone,
        )
        self.collector = AmigaCollector(config, clock=self.clock)
        self.half: list[str] = []

    def teardown(self):
        if hasattr(self, "home"):
            self.collector.close()
            self.sim.close()
            shutil.rmtree(self.home)

    # -- steps -------------------------------------------------------------------------------------

    def alive(self):
        return [task for task in self.sim.tasks.values() if task.status in ("pending", "running")]

    def open_calls(self):
        return [call for call in self.sim.calls if call.ended is None and call.recorded]

    @rule(seconds=st.sampled_from([0.05, 0.3, 1.0, 20.0, 400.0, 2000.0, 40_000.0]))
    def time_passes(self, seconds):
        self.clock.advance(seconds)

    @rule(started=st.booleans())
    def a_task_begins(self, started):
        if started:
            self.sim.start_task()
        else:
            self.sim.queue_task()

    @rule(pick=st.integers(0, 9), tool=TOOLS, by_session=st.booleans(), other_arguments=st.booleans())
    def a_tool_starts(self, pick, tool, by_session, other_arguments):
        tasks = self.alive()
        parameters = {"command": "make"} if other_arguments else None
        owner = tasks[pick % len(tasks)] if tasks and pick < 7 else self.sessions[pick % 2]
        self.sim.start_tool(owner, tool, parameters, by_session=by_session and not isinstance(owner, str))

    @rule(
        pick=st.integers(0, 9), ok=st.booleans(), tokens=st.tuples(st.integers(1, 9_000), st.integers(0, 900))
    )
    def a_tool_ends(self, pick, ok, tokens):
        calls = self.open_calls()
        if calls:
            call = calls[pick % len(calls)]
            # Only the Task tool's answers tell tokens; older tables have no column for them.
            self.sim.end_tool(call, ok=ok, tokens=tokens if call.tool == "Task" else None)

    @rule(
        pick=st.integers(0, 9), how=st.sampled_from(["complete", "fail", "kill", "stop", "overwrite", "word"])
    )
    def a_task_ends(self, pick, how):
        tasks = self.alive()
        if not tasks:
            return
        task = tasks[pick % len(tasks)]
        if how == "complete":
            self.sim.complete_task(task)
        elif how == "fail":
            self.sim.fail_task(task)
        elif how == "kill":
            self.sim.fail_task(task, "[timeout] No updates for 30.2min (timeout: 30min)")
        elif how == "word":
            self.sim.set_status(task, "in_progress")
        else:
            self.sim.stop_task(task, then_fails=how == "overwrite")

    @rule(pick=st.integers(0, 9))
    def a_failed_task_is_marked_fixed(self, pick):
        failed = [task for task in self.sim.tasks.values() if task.status == "failed"]
        if failed:
            self.sim.set_status(failed[pick % len(failed)], "completed")

    @rule(back=st.sampled_from([30.0, 5_000.0, 90_000.0]), tool=TOOLS)
    def a_row_of_another_time_appears(self, back, tool):
        call = self.sim.start_tool(self.sessions[0], tool, at=self.clock() - back)
        self.sim.end_tool(call, at=self.clock() - back + 3)

    @rule(ahead=st.sampled_from([10.0, 5_000.0]))
    def a_row_from_the_future_appears(self, ahead):
        self.sim.start_tool(self.sessions[1], "Bash", at=self.clock() + ahead)

    @rule(killed=st.booleans())
    def amiga_restarts(self, killed):
        self.sim.restart(killed=killed)

    @rule(killed=st.booleans())
    def amiga_goes_down(self, killed):
        """It is looked at while it is down, and comes back."""
        self.sim.kill() if killed else self.sim.close()
        self.check()
        self.sim.open(self.clock())

    @rule()
    def amiga_is_updated(self):
        self.sim.migrate(14, self.clock())

    @rule()
    def the_database_is_swapped(self):
        self.sim.swap_database()

    @rule(task_rows=st.booleans())
    def status_rows_come_and_go(self, task_rows):
        self.sim.status_rows = task_rows

    @precondition(lambda self: self.half)
    @rule()
    def a_half_line_is_finished(self):
        self.sim.finish_hook_line(self.half.pop())

    @precondition(lambda self: not self.half and self.alive())
    @rule()
    def a_hook_line_is_half_written(self):
        task = self.alive()[0]
        self.sim.start_tool(task, "Read", half_line=True)
        self.half.append(task.session)

    @rule(tokens=st.tuples(st.integers(0, 10_000), st.integers(0, 900)))
    def a_chat_is_answered(self, tokens):
        self.sim.add_message("assistant", "Done.", tokens=tokens, model="claude-haiku-4-5")

    # -- the claim ---------------------------------------------------------------------------------

    @invariant()
    def check(self):
        if not hasattr(self, "home"):
            return
        facts = self.collector.collect(frozenset(HOURS))
        while facts.sources["amiga"].state == "loading":
            facts = self.collector.collect(frozenset(HOURS))
        assert facts.sources["amiga"].state == "ok", facts.sources["amiga"]
        reference = Reference(self.look_at(), self.clock(), self.zone)
        totals = facts.totals
        assert {name: getattr(totals, name) for name in reference.totals()} == reference.totals()
        for hours in HOURS:
            window = facts.windows[hours]
            expected = reference.task_window(hours)
            assert {name: getattr(window.tasks, name) for name in expected} == expected
            expected = reference.tool_window(hours)
            assert window.sessions.total_sessions == expected.pop("sessions")
            assert {name: getattr(window.tools, name) for name in expected} == expected
            expected = reference.api_window(hours)
            assert {name: getattr(window.claude_api, name) for name in expected} == expected
            assert sum(error.count for error in window.errors) == window.tasks.failed
            kinds = {tool: sum(of_tool.values()) for tool, of_tool in window.tools.error_categories.items()}
            assert kinds == window.tools.errors
        for task in facts.tasks:
            assert (task.tool_calls, task.tool_errors) == reference.of_task(task.task_id)
        times = [item.timestamp for item in facts.activity]
        assert times == sorted(times, reverse=True)

    def look_at(self):
        """A copy, for the reference must not disturb the files either."""
        copy = self.home / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.home / "amiga", copy)
        (copy / "data" / "agentlab.db-shm").unlink(missing_ok=True)
        return copy


@given(
    mode=st.sampled_from([1, 3, 4]),
    steps=st.lists(
        st.tuples(
            st.integers(0, 2),  # whose
            st.sampled_from(["Bash", "Read"]),
            st.floats(0.6, 5_000),  # s that it takes
            st.sampled_from(["ends", "ends", "ends", "is lost"]),
            st.booleans(),  # looked at while it runs
        ),
        max_size=25,
    ),
)
@settings(max_examples=int(os.environ.get("HISTORIES", "12")), deadline=None)
def test_percentiles_are_those_of_what_really_happened(mode, steps):
    """Of calls of one tool one after the other; of two at once AMIGA's rows do not tell which has ended."""
    home = Path(tempfile.mkdtemp(prefix="amiga-durations-"))
    clock = ManualClock(NOW)
    sim = Simulator(home / "amiga", clock=clock, rows_per_call=mode)
    collector = collector_of(home / "amiga", home / "private", clock, timezone=None)
    try:
        tasks = [sim.start_task() for _ in range(3)]
        took = defaultdict(list)
        for whose, tool, seconds, outcome, looked_at in steps:
            call = sim.start_tool(tasks[whose], tool)
            clock.advance(seconds)
            if looked_at:
                read(collector)
            if outcome == "ends":
                sim.end_tool(call)
                took[tool].append(seconds)
            clock.advance(2)
        durations = read(collector, frozenset({168})).windows[168].tools.durations
        assert set(durations) == set(took)
        for tool, seconds in took.items():
            ordered = sorted(seconds)
            for share, found in ((0.5, durations[tool].p50_ms), (0.95, durations[tool].p95_ms)):
                exact = 1000 * ordered[max(1, math.ceil(share * len(ordered))) - 1]
                assert found == pytest.approx(exact, rel=0.026)  # 2 % and the rounding to three digits
    finally:
        collector.close()
        sim.close()
        shutil.rmtree(home)


Histories.TestCase.settings = settings(
    max_examples=int(os.environ.get("HISTORIES", "12")),  # 400 take half an hour
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestHistories = Histories.TestCase
