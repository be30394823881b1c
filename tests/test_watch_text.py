"""What the terminal client draws, without a terminal: text, table, verdict, addresses, event streams."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amiga_ws.snapshot import (
    Activity,
    AmigaProcess,
    Attention,
    Costs,
    CurrentTool,
    Overview,
    Processes,
    Snapshot,
    Source,
    System,
    Task,
)
from amiga_ws.watch import sse, text
from amiga_ws.watch.address import Address
from amiga_ws.watch.streams import Received
from amiga_ws.watch.table import Frame, table, told
from amiga_ws.watch.verdict import Verdict, verdict
from amiga_ws.watch.views import notice

HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\n\x9b31m\u202egnp.exe\u2028\x7f\ud800"
FINE = Verdict("OK", "green", "all clear")


# -- text ----------------------------------------------------------------------------------------


def obeyed(line):
    """What a terminal would obey or hide, or cannot be given."""
    return [c for c in line if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn")]


@given(st.text(st.characters(), max_size=60), st.integers(0, 40))
def test_nothing_a_terminal_obeys_is_left_and_the_width_is_kept(given_text, columns):
    painted = text.painted([(given_text, "red"), (given_text, "")], columns, colours=False)
    assert obeyed(painted) == []
    assert text.width(painted) <= columns


@given(st.text(st.characters(), max_size=30), st.integers(0, 20), st.booleans())
def test_a_cell_is_exactly_as_wide_as_its_column(given_text, columns, right):
    assert text.width(text.cell(given_text, columns, right=right)) == columns


def test_the_only_escapes_are_our_own_colours():
    painted = text.painted([(HOSTILE, "red")], 200, colours=True)
    assert painted.startswith("\x1b[31m")
    assert painted.endswith("\x1b[0m")
    assert obeyed(painted[5:-4]) == []


def test_wide_characters_count_two_columns_and_combining_ones_none():
    assert text.width("日本") == 4
    assert text.width("e\u0301") == 1
    assert text.cut("日本語", 5) == "日本…"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, text.NOTHING),
        (-3, "0s"),
        (47.9, "47s"),
        (725, "12m 05s"),
        (3 * 3600 + 300, "3h 05m"),
        (2 * 86400 + 4 * 3600, "2d 4h"),
    ],
)
def test_durations(seconds, words):
    assert text.duration(seconds) == words


@pytest.mark.parametrize(
    ("amount", "words"),
    [(None, text.NOTHING), (0, "$0.00"), (1.234, "$1.23"), (0.0042, "$0.004"), (0.01, "$0.01")],
)
def test_a_cost_that_is_unknown_is_never_nothing_and_a_small_one_never_zero(amount, words):
    assert text.money(amount, "USD") == words


@pytest.mark.parametrize(
    ("value", "words"), [(None, text.NOTHING), (0, "0"), (999, "999"), (12_345, "12.3k"), (4_100_000, "4.1M")]
)
def test_counts(value, words):
    assert text.count(value) == words


def test_times_no_calendar_has_are_unknown():
    assert text.clock(1e300) == text.NOTHING
    assert text.clock(None) == text.NOTHING


# -- the table ------------------------------------------------------------------------------------


def snapshot(**more):
    tasks = [
        Task(
            task_id="task_1",
            status="running",
            description="find the bug",
            created_at=900.0,
            current_tool=CurrentTool(name="Bash", since=970.0),
            tool_calls=12,
            tool_errors=2,
        )
    ]
    shown = {"tasks": tasks, "sources": {"amiga": Source(state="ok")}} | more
    return Snapshot(hours=24, instance="bot", timestamp=1000.0, **shown)


def drawn(shot, columns=120, height=None, now=1000.0):
    lines = table(shot, Frame(FINE, "WebSocket", now, columns, height))
    return [text.painted(line, columns, colours=False) for line in lines]


def test_a_running_task_shows_its_tool_and_the_time_in_it():
    (row,) = [line for line in drawn(snapshot()) if "find the bug" in line]
    assert row.startswith("running")
    assert "Bash 30s" in row
    assert "12 (2)" in row
    assert row.endswith("1m 40s")


def test_what_needs_somebody_and_a_broken_source_stand_above_the_tasks():
    stuck = Attention(kind="stuck", severity="crit", subject="task_1", since=400.0, evidence="silent")
    missing = Source(state="missing", path="/srv/amiga", hint="set amiga.root")
    lines = drawn(snapshot(attention=[stuck], sources={"amiga": missing}))
    tasks = lines.index("TASKS")
    assert lines.index("crit stuck task_1 for 10m 00s  silent") < tasks
    assert lines.index("AMIGA database missing: /srv/amiga · set amiga.root") < tasks


def test_unknown_values_are_dashes():
    bare = Snapshot(hours=24, instance="bot")
    lines = drawn(bare)
    assert f"CPU {text.NOTHING}" in lines[1]
    assert f"load {text.NOTHING}" in lines[1]
    assert f"{text.NOTHING} running" in lines[2]
    assert lines.count("none") == 2


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 100, 200])
def test_a_narrow_terminal_loses_columns_and_no_line_its_end(columns):
    for line in table(snapshot(), Frame(FINE, "WebSocket", 1000.0, columns)):
        if line and line[0][0].startswith(("running", "STATUS")) and columns >= 40:
            assert sum(text.width(piece) for piece, _ in line) == columns


@pytest.mark.parametrize("height", [1, 4, 8, 10, 24, 60])
def test_it_fits_the_terminals_height(height):
    busy = snapshot(
        tasks=[Task(task_id=f"t{n}", status="running", description=f"task {n}") for n in range(50)],
        activity=[Activity(timestamp=n, kind="tool", description=f"line {n}") for n in range(20)],
        attention=[
            Attention(kind="stuck", severity="warn", subject=f"t{n}", since=None, evidence="")
            for n in range(9)
        ],
    )
    lines = drawn(busy, height=height)
    assert len(lines) <= height
    if height >= 24:
        assert len(lines) == height
        assert any(line.endswith("line 0") for line in lines)
        assert sum("task " in line and "running" in line for line in lines[3:]) >= 3
        assert "and " in "".join(lines)


def test_a_failed_call_is_marked_whatever_its_tool_is_called():
    tool = Activity(timestamp=1.0, kind="tool", description="mcp__ci__list_failed_jobs", status="failed")
    assert told(tool) == "mcp__ci__list_failed_jobs (failed)"
    task = Activity(timestamp=1.0, kind="task", description="failed: Mend it", status="failed")
    assert told(task) == "failed: Mend it"


def test_hostile_text_stays_in_its_line():
    evil = snapshot(
        tasks=[Task(task_id=HOSTILE, status=HOSTILE, description=HOSTILE, model=HOSTILE)],
        activity=[Activity(timestamp=1.0, kind="tool", description=HOSTILE, status=HOSTILE)],
        attention=[Attention(kind=HOSTILE, severity="crit", subject=HOSTILE, since=None, evidence=HOSTILE)],
        sources={HOSTILE: Source(state="error", error=HOSTILE, hint=HOSTILE)},
        overview=Overview(costs=Costs(currency=HOSTILE, total_cost=1.0)),
    )
    lines = drawn(evil)
    assert len(lines) == len(drawn(snapshot(activity=evil.activity, attention=evil.attention))) + 1
    assert obeyed("".join(lines)) == []


# -- the verdict ----------------------------------------------------------------------------------


def crit(severity):
    return Attention(kind="stuck", severity=severity, subject="t", since=None, evidence="")


def bot(alive):
    processes = Processes(amiga=AmigaProcess(pid=7, alive=alive))
    return Overview(system=System(processes=processes))


@pytest.mark.parametrize(
    ("shot", "lost", "word", "reason"),
    [
        (None, False, "LOADING", "waiting for the first values"),
        (None, True, "STALE", "no data yet"),
        (snapshot(), True, "STALE", "not connected"),
        (snapshot(), False, "OK", "all clear, but no AMIGA process is seen"),
        (snapshot(overview=bot(alive=True)), False, "OK", "all clear"),
        (snapshot(overview=bot(alive=False)), False, "DOWN", "AMIGA's process has ended"),
        (snapshot(sources={"amiga": Source(state="missing")}), False, "DOWN", "no AMIGA found"),
        (
            snapshot(sources={"amiga": Source(state="error")}),
            False,
            "DOWN",
            "AMIGA's database cannot be read",
        ),
        (
            snapshot(sources={"amiga": Source(state="loading")}),
            False,
            "LOADING",
            "AMIGA's database is being read",
        ),
        (
            snapshot(sources={"amiga": Source(state="loading")}, attention=[crit("warn")]),
            False,
            "ATTENTION",
            "1 needs you",
        ),
        (snapshot(sources={"hooks": Source(state="stale")}), False, "DEGRADED", "Hook logs: stale"),
        (snapshot(attention=[crit("crit")]), False, "DEGRADED", "1 needs you"),
        (snapshot(attention=[crit("warn")] * 2), False, "ATTENTION", "2 need you"),
    ],
)
def test_the_verdict_follows_the_dashboards_rules(shot, lost, word, reason):
    found = verdict(shot, lost=lost)
    assert (found.word, found.reason) == (word, reason)
    assert found.style in text.STYLES


# -- what is said beside the state -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "data", "words"),
    [
        ("auth", {"state": "expiring", "expires_in": 61.0}, "the token expires in 1m 01s"),
        ("lag", {"coalesced": 37, "behind_ms": 900}, "we were slow: 37 states merged"),
        ("error", {"error": "too many", "code": "rate_limited"}, "too many"),
        ("subscribed", {"config": {"hours": 168, "clamped": ["hours"]}}, "hours is 168, not as asked"),
        ("subscribed", {"config": {"hours": 24, "clamped": []}}, None),
        ("subscribed", {"config": "x"}, None),
        ("heartbeat", {"server_time": 1.0}, None),
    ],
)
def test_what_a_person_should_know_is_said(event, data, words):
    assert notice(Received(event, data)) == words


# -- addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "websocket", "authority"),
    [
        ("http://127.0.0.1:3000", "ws://127.0.0.1:3000/ws", "127.0.0.1:3000"),
        ("127.0.0.1:3000/", "ws://127.0.0.1:3000/ws", "127.0.0.1:3000"),
        ("https://monitor.example", "wss://monitor.example/ws", "monitor.example"),
        ("wss://monitor.example:443/ws", "wss://monitor.example/ws", "monitor.example"),
        ("http://[::1]:3000", "ws://[::1]:3000/ws", "[::1]:3000"),
        ("http://host/below/", "ws://host/below/ws", "host"),
        ("http://host/below/api/stream/metrics", "ws://host/below/ws", "host"),
    ],
)
def test_what_a_person_types_leads_to_the_streams(typed, websocket, authority):
    address = Address.parse(typed)
    assert address.websocket == websocket
    assert address.authority == authority


@pytest.mark.parametrize(
    "typed",
    [
        "ftp://host",
        "http://",
        "",
        "http://user:secret@host",
        "http://host/?token=secret",
        "http://host/#secret",
        "http://host:99999",
        "http://ho st",
        "http://h\u00f6st",
    ],
)
def test_what_is_no_address_is_said_without_repeating_it(typed):
    with pytest.raises(ValueError, match=r"\w") as refused:
        Address.parse(typed)
    assert "secret" not in str(refused.value)


# -- event streams --------------------------------------------------------------------------------

STREAM = (
    'retry: 2500\n\n: a comment\nevent: connected\ndata: {}\n\nid: e.24.1\r\ndata: {"a":\r\ndata: "é"}\r\n\r\n'
    "event: nothing\n\ndata\nunknown: x\n\nevent: bye\ndata:no blank\n\n"
).encode()
EVENTS = [("connected", "{}"), (sse.UNNAMED, '{"a":\n"é"}'), (sse.UNNAMED, ""), ("bye", "no blank")]


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_events_are_the_same_however_the_bytes_arrive(cuts):
    parser, found, start = sse.EventParser(), [], 0
    for end in [*sorted(cuts), len(STREAM)]:
        found += parser.feed(STREAM[start:end])
        start = end
    assert found == EVENTS
    assert parser.retry_ms == 2500


def test_a_line_without_an_end_is_given_up(monkeypatch):
    monkeypatch.setattr(sse, "MAX_LINE_BYTES", 100)
    parser = sse.EventParser()
    assert list(parser.feed(b"data: " + b"x" * 90)) == []
    with pytest.raises(ValueError, match="too long"):
        list(parser.feed(b"x" * 90))
