"""GET /api/metrics/timeseries, and how what it tells came there: the recorder, and AMIGA's minutes."""

from __future__ import annotations

import asyncio
import csv
import re
import time
from types import SimpleNamespace

import apsw
import pytest
from disks import fill, small_disk
from installation import Installation
from servers import eventually

from amiga_ws.collectors.amiga import AmigaCollector, AmigaConfig, minutes
from amiga_ws.facts import Facts
from amiga_ws.handlers import lists
from amiga_ws.history import SERIES, History, thread
from amiga_ws.questions import TaskSpan
from amiga_ws.recorder import AGAIN_S, WEEK_MINUTES, Recorder
from amiga_ws.snapshot import AmigaFacts, HostFacts, Source, System

NOW = 1_790_000_000 // 3600 * 3600 + 1805.0
PATH = "/api/metrics/timeseries"


@pytest.fixture
def server(io_loop, start):
    """A started server that keeps a history."""
    return io_loop.run_sync(lambda: start("history.enabled=true"))


def known(found, name):
    series = found["series"][name]
    return {t: v for t, v in zip(series["t"], series["avg"], strict=True) if v is not None}


# -- the route ----------------------------------------------------------------------------------


async def test_an_open_page_and_a_resting_server_both_fill_the_series(server):
    token = server.token()
    await eventually(lambda: server.history.source.state == "ok")
    await server.broadcaster.tick()
    stream = await server.events("?interval=1")
    await stream.until(None)
    server.host.cpu_percent = 40.0
    await stream.until(None)
    reply = await server.ask_as(token, f"{PATH}?series=host.cpu,host.mem&hours=1")
    assert reply.status == 200
    assert reply.header("Content-Type") == "application/json; charset=UTF-8"
    found = reply.json
    assert (found["hours"], found["step"], found["to"] - found["from"]) == (1, 12, 3600)
    assert found["unit"] == {"host.cpu": "%", "host.mem": "%"}
    assert set(found["series"]) == {"host.cpu", "host.mem"}
    cpu = found["series"]["host.cpu"]
    assert {len(cpu[part]) for part in ("t", "min", "max", "avg")} == {300}
    assert (min(filter(None, cpu["min"])), max(filter(None, cpu["max"]))) == (12.0, 40.0)
    assert found["gaps"][0][0] == found["from"]
    assert "spans" not in found


async def test_all_series_are_told_when_none_is_named(server):
    found = (await server.ask_as(server.token(), PATH)).json
    assert set(found["series"]) == set(found["unit"]) == set(SERIES)
    assert found["hours"] == 24
    assert all(len(series["t"]) <= 300 for series in found["series"].values())


async def test_hours_are_clamped_and_wrong_ones_refused(server):
    token = server.token()
    for given, hours in (("0", 1), ("-5", 1), ("10000", 9600), ("336", 336), ("5.0", 5)):
        found = (await server.ask_as(token, f"{PATH}?series=host.cpu&hours={given}")).json
        assert found["hours"] == hours, given
        assert len(found["series"]["host.cpu"]["t"]) <= 300
    for given in ("1.5", "x", "", "1e3"):
        reply = await server.ask_as(token, f"{PATH}?hours={given}")
        assert (reply.status, reply.json["code"]) == (400, "invalid_request"), given
        assert "hours" in reply.json["error"]


async def test_a_time_of_its_own_is_answered_in_finer_steps(server):
    token = server.token()
    now = time.time()
    found = (await server.ask_as(token, f"{PATH}?series=host.cpu&from={now - 90:.0f}&to={now - 30:.0f}")).json
    assert (found["hours"], found["step"]) == (None, 2)
    assert found["from"] <= now - 89
    assert now - 31 <= found["to"] <= now - 26
    found = (await server.ask_as(token, f"{PATH}?series=host.cpu&from=1&to=99999999999")).json
    assert found["from"] >= now - 9600 * 3600 - found["step"]
    assert found["to"] <= time.time() + found["step"]
    found = (await server.ask_as(token, f"{PATH}?series=host.cpu&from={now - 90:.0f}")).json
    assert found["to"] >= now
    # The moments we hand out are no whole numbers.
    found = (await server.ask_as(token, f"{PATH}?series=host.cpu&from={now - 90:.3f}&to={now - 30:.3f}")).json
    assert found["from"] <= now - 90
    assert now - 30 <= found["to"] <= now - 26
    wrong = ("from=x", "from=9&to=5", "from=5&to=9", f"from={now + 60:.0f}")
    for query in wrong:
        reply = await server.ask_as(token, f"{PATH}?{query}")
        assert (query, reply.status) == (query, 400)


async def test_series_can_be_taken_away_as_a_file(server):
    token = server.token()
    minute = int(time.time() // 60) * 60 - 600
    await asyncio.wrap_future(server.history.put_minutes({"tools.calls": {minute: 4.0}}))
    server.history.note({"host.cpu": 12.5})
    reply = await server.ask_as(token, f"{PATH}?series=host.cpu,tools.calls&hours=1&format=csv")
    assert reply.status == 200
    assert reply.header("Content-Type") == lists.CSV_TYPE
    assert re.fullmatch(
        r'attachment; filename="amiga-history-\d{8}T\d{6}Z\.csv"', reply.header("Content-Disposition")
    )
    table = list(csv.reader(reply.body.decode().splitlines()))
    assert table[0] == [
        "time",
        *(f"{s} {p}" for s in ("host.cpu", "tools.calls") for p in ("avg", "min", "max")),
    ]
    times = [int(row[0]) for row in table[1:]]
    assert times == sorted(set(times))
    assert [row[4:] for row in table if row[0] == str(minute)] == [["4.0", "4.0", "4.0"]]
    assert "12.5" in {row[3] for row in table}  # the server's own reading may lie in the same slot
    reply = await server.ask_as(token, f"{PATH}?series=host.cpu&hours=1&format=json")
    assert reply.header("Content-Disposition").endswith('Z.json"')
    assert reply.json["series"]["host.cpu"]["step"] == 12
    assert (await server.ask_as(token, f"{PATH}?format=xls")).status == 400


async def test_an_unknown_series_is_named(server):
    token = server.token()
    reply = await server.ask_as(token, f"{PATH}?series=host.cpu,host.heat")
    assert (reply.status, reply.json["code"]) == (400, "invalid_request")
    assert "'host.heat'" in reply.json["error"]
    assert "host.cpu" in reply.json["error"]
    reply = await server.ask_as(token, f"{PATH}?series=%3Cb%3E%C3%A9%0A%00")
    assert reply.status == 400
    assert reply.json["error"].isprintable()
    assert (await server.ask_as(token, f"{PATH}?series={'a' * 1001}")).status == 400
    assert (await server.ask_as(token, f"{PATH}?spans=maybe")).status == 400


async def test_the_guard_stands_before_it(server):
    assert (await server.ask(PATH)).status == 401
    assert (await server.ask_as(server.token(scope="admin"), PATH)).status == 403
    assert (await server.ask_as(server.token(), PATH, host="evil.example")).status == 421
    assert (await server.ask_as(server.token(), PATH, method="POST")).status == 405


async def test_spans_tell_when_tasks_ran(server):
    now = time.time()
    server.amiga.ran = [
        TaskSpan(task_id="old", began=now - 9000, ended=now - 8000, status="failed"),
        TaskSpan(task_id="one", began=now - 600, ended=now - 300, status="completed", description="First"),
        TaskSpan(task_id="two", began=now - 100, ended=None, status="running"),
    ]
    reply = await server.ask_as(server.token(), f"{PATH}?hours=1&series=host.cpu&spans=1")
    assert reply.json["spans"] == [
        {"task_id": "one", "from": now - 600, "to": now - 300, "status": "completed", "description": "First"},
        {"task_id": "two", "from": now - 100, "to": None, "status": "running", "description": ""},
    ]


async def test_a_fresh_installation_has_a_week_of_what_amiga_wrote(server):
    minute = int(time.time() // 60)
    server.amiga.by_minute = {
        "tools.calls": dict.fromkeys(range(minute - 8000, minute), 3.0),
        "cost.usd": {minute - 5000: 1.5},
    }
    server.ahead_s = AGAIN_S + 60.0  # it has handed over its week once, before there was anything
    await eventually(lambda: server.facts.amiga.facts.sources["amiga"].state == "ok")
    server.recorder.note()
    found = {}

    async def ask():
        found.update(
            (await server.ask_as(server.token(), f"{PATH}?series=tools.calls,cost.usd&hours=168")).json
        )
        return len(known(found, "tools.calls"))

    for _ in range(100):
        if await ask() >= 200:
            break
        await asyncio.sleep(0.05)
    assert set(known(found, "tools.calls").values()) == {3.0}
    assert list(known(found, "cost.usd").values()) == [1.5]
    assert found["gaps"]  # of what is sampled there is nothing before the start


async def test_history_that_does_not_answer_is_503_and_the_streams_go_on(server, monkeypatch, caplog):
    await eventually(lambda: server.history.source.state == "ok")

    def fail(*_):
        raise apsw.IOError("disk I/O error")

    monkeypatch.setattr(server.history._keeper._database, "read", fail)
    reply = await server.ask_as(server.token(), PATH)
    assert (reply.status, reply.json["code"]) == (503, "unavailable")
    assert "disk I/O error" not in reply.body.decode()
    stream = await server.events()
    snapshot = (await stream.until(None)).data
    assert snapshot["sources"]["history"]["state"] == "error"
    assert snapshot["sources"]["history"]["error"] == "disk I/O error"
    assert "the live view goes on" in snapshot["sources"]["history"]["hint"]


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk") as folder:
        yield folder


async def test_on_a_full_disk_the_live_view_goes_on_and_says_so_until_there_is_room(disk, start, monkeypatch):
    monkeypatch.setattr(thread, "FLUSH_S", 0.05)
    server = await start(f"state_dir={disk}", "history.enabled=true")
    await eventually(lambda: server.history.source.state == "ok")
    ballast = fill(disk)
    stream = await server.events("?interval=1")
    seen = await stream.until(None)
    while seen.data["sources"]["history"]["state"] != "error":
        server.host.cpu_percent += 1
        seen = await stream.until(None)
    assert seen.data["sources"]["history"]["error"] == "the disk is full"
    found = (await server.ask_as(server.token(), f"{PATH}?series=host.cpu&hours=1")).json
    assert known(found, "host.cpu")
    ballast.unlink()
    await eventually(lambda: server.history.source.state == "ok")
    while seen.data["sources"]["history"]["state"] != "ok":
        server.host.cpu_percent += 1
        seen = await stream.until(None)


async def test_a_restart_goes_on_and_shows_its_gauge(server):
    await eventually(lambda: server.history.source.state == "ok")
    await server.broadcaster.tick()
    await server.stop()
    file = server.settings.state_dir / "history.db"
    assert file.stat().st_mode & 0o777 == 0o600
    assert not file.with_name("history.db-wal").exists()
    await server.start()
    found = (await server.ask_as(server.token(), f"{PATH}?series=host.cpu&hours=2")).json
    assert list(known(found, "host.cpu").values()) == [12.0]
    await eventually(lambda: server.history.source.state == "ok")
    source = (await server.ask_as(server.token(), "/api/metrics/overview")).json["sources"]["history"]
    assert (source["state"], source["path"]) == ("ok", str(file))
    assert "of 64 MB used" in source["hint"]


async def test_switched_off_it_leaves_no_file(start):
    server = await start("history.enabled=false")
    await server.broadcaster.tick()
    found = (await server.ask_as(server.token(), f"{PATH}?series=host.cpu&hours=1")).json
    assert len(known(found, "host.cpu")) == 1
    await server.stop()
    assert not list(server.settings.state_dir.glob("history*"))
    await server.start()


# -- the recorder --------------------------------------------------------------------------------


class Hand:
    """Both collectors, and the calls that were made of them."""

    name = "hand"
    source_names = ("host", "amiga")

    def __init__(self):
        self.asked = []
        self.state = "ok"

    def collect(self, windows):
        raise NotImplementedError

    def minutes(self, first, last):
        self.asked.append((first, last))
        return {"tools.calls": {minute * 60: 1.0 for minute in range(first, last)}}

    def close(self):
        pass


@pytest.fixture
def recorded(io_loop, tmp_path):
    """A recorder with its clock, its hand and its history; `facts(...)` puts new ones in."""
    hand = Hand()
    facts = Facts("test", hand, hand)
    found = SimpleNamespace(now=NOW, hand=hand, path=tmp_path / "history.db")
    found.history = History(found.path, 64, lambda: found.now)
    found.recorder = Recorder(facts, found.history, lambda: found.now)

    def put(cpu=1.0, state="ok", transcripts="ok"):
        facts.host.facts = HostFacts(sources={"host": Source(state=state)}, system=System(cpu_percent=cpu))
        sources = {"amiga": Source(state=state), "transcripts": Source(state=transcripts)}
        facts.amiga.facts = AmigaFacts(sources=sources)

    async def minute(state="ok", seconds=60, transcripts="ok"):
        hand.asked.clear()
        found.now += seconds
        put(state=state, transcripts=transcripts)
        found.recorder.note()
        if found.recorder._task is not None:
            await found.recorder._task
        return sum(last - first for first, last in hand.asked)

    found.put, found.minute, found.facts = put, minute, facts
    yield found
    io_loop.run_sync(found.recorder.stop)
    found.history.stop(5)
    facts.stop()


async def test_the_same_facts_are_noted_once(recorded):
    recorded.put(cpu=10.0)
    for _ in range(5):
        recorded.recorder.note()
    recorded.put(cpu=30.0)
    recorded.recorder.note()
    found = await asyncio.wrap_future(recorded.history.read(["host.cpu"], 1))
    assert list(known(found, "host.cpu").values()) == [20.0]


async def test_first_comes_a_week_then_the_newest_minutes_and_now_and_then_everything(recorded):
    asked = [await recorded.minute() for _ in range(40)]
    assert asked[0] == WEEK_MINUTES
    assert set(asked) == {WEEK_MINUTES, 15}
    weeks = [at for at, count in enumerate(asked) if count == WEEK_MINUTES]
    assert weeks == [0, 15, 30]
    assert AGAIN_S == 900


async def test_nothing_is_asked_within_the_same_minute_or_of_a_broken_source(recorded):
    assert await recorded.minute() == WEEK_MINUTES
    assert await recorded.minute(seconds=2) == 0
    assert await recorded.minute("error") == 0
    # It may be another database now.
    assert await recorded.minute() == WEEK_MINUTES


async def test_what_transcripts_tell_of_the_past_is_handed_over_as_soon_as_they_are_read(recorded):
    assert await recorded.minute(transcripts="loading") == WEEK_MINUTES
    assert await recorded.minute(seconds=2, transcripts="loading") == 0
    assert await recorded.minute(seconds=2) == 0  # so soon nothing is asked again
    assert await recorded.minute(seconds=4) == WEEK_MINUTES
    assert await recorded.minute(seconds=4) == 0


async def test_after_a_suspension_all_minutes_since_are_asked_for(recorded):
    for _ in range(8):
        await recorded.minute()
    asked = await recorded.minute(seconds=6 * 3600)
    assert asked in (WEEK_MINUTES, 360)
    found = await asyncio.wrap_future(recorded.history.read(["tools.calls"], 24))
    assert len(known(found, "tools.calls")) >= 287


async def test_minutes_that_could_not_be_written_are_asked_for_again(recorded, monkeypatch):
    def full(*_):
        raise apsw.FullError("database or disk is full")

    await asyncio.wrap_future(recorded.history.read(["host.cpu"], 1))  # it is open
    monkeypatch.setattr(recorded.history._keeper._database, "replace_minutes", full)
    assert 0 < await recorded.minute() < WEEK_MINUTES  # the first chunk alone
    assert recorded.history.source.error == "the disk is full"
    monkeypatch.undo()
    assert await recorded.minute(seconds=2) == WEEK_MINUTES


# -- AMIGA's minutes -----------------------------------------------------------------------------


@pytest.fixture
def amiga(tmp_path):
    made = Installation(tmp_path / "amiga")
    made.config = AmigaConfig(
        root=made.root,
        database=made.database,
        sessions=made.sessions,
        timezone="UTC",
        private_dir=tmp_path / "private",
    )
    yield made
    made.close()


def collected(amiga, at=NOW):
    collector = AmigaCollector(amiga.config, clock=lambda: at)
    for _ in range(5):
        collector.collect(frozenset({24}))
    return collector


def test_minutes_count_calls_errors_durations_and_ends(amiga):
    start = int(NOW // 60) - 10
    at = start * 60.0
    amiga.task("task_1", "completed", at=at, updated_at="2026-09-21T00:00:00")
    for second, tool, seconds, ok in ((1, "Bash", 2, True), (5, "Read", 4, True), (61, "Bash", 10, False)):
        row = amiga.tool("task_1", tool, at + second)
        amiga.ended("task_1", tool, at + second + seconds, ok=ok)
        amiga.finish(row, int(ok))
    amiga.tool("task_1", "Bash", at + 125)  # and nobody is left to end it
    amiga.status("task_1", "completed", at + 200)
    collector = collected(amiga)
    found = collector.minutes(start - 5, start + 6)
    times = [60 * minute for minute in range(start, start + 6)]
    assert found["tools.calls"] == dict(zip(times, [2, 1, 0, 0, 0, 0], strict=True))
    assert found["tools.errors"] == dict(zip(times, [0, 1, 0, 0, 0, 0], strict=True))
    assert found["tasks.completed"] == dict(zip(times, [0, 0, 0, 1, 0, 0], strict=True))
    assert set(found["tools.p95"]) == set(times[:2])  # no percentile of nothing
    assert found["tools.p50"][times[0]] == pytest.approx(2000, rel=0.03)
    assert found["tools.p95"][times[1]] == pytest.approx(10000, rel=0.03)
    assert collector.minutes(start + 2, start + 4)["tools.calls"] == {times[2]: 0.0, times[3]: 0.0}
    window = collector.collect(frozenset({24})).windows[24]
    assert sum(found["tools.calls"].values()) == window.tools.total_calls - window.tools.orphaned == 3
    assert set(found) <= set(SERIES)
    assert all(SERIES[name].by_minute for name in found)
    collector.close()


def test_tokens_and_money_of_a_minute_add_up_to_the_windows(amiga):
    start = int(NOW // 60) - 30
    for minute, tokens in ((0, (1000, 50)), (0, (3000, 10)), (7, (500, 5))):
        amiga.message((start + minute) * 60.0 + 3, tokens)
    collector = collected(amiga)
    found = collector.minutes(start, start + 20)
    assert found["tokens.in"][start * 60] == 4000
    assert found["tokens.out"][start * 60] == 60
    assert found["tokens.in"][start * 60 + 60] == 0
    window = collector.collect(frozenset({24})).windows[24]
    assert sum(found["tokens.in"].values()) == window.claude_api.total_input_tokens
    assert sum(found["cost.usd"].values()) / 60 == pytest.approx(window.costs.total_cost, rel=1e-4)
    collector.close()


def test_tokens_and_money_of_the_families_add_up_to_the_whole(amiga):
    minute = int(NOW // 60) - 30
    for at, model in ((0, "claude-opus-4-1"), (1, "claude-3-5-haiku-latest"), (1, "mystery-9")):
        amiga.message((minute + at) * 60.0 + 3, (1000, 50), model=model)
    found = collected(amiga).minutes(minute, minute + 3)
    first, second = minute * 60, minute * 60 + 60
    assert "tokens.sonnet" not in found, "a family nobody has used is no line at zero"
    assert found["tokens.opus"] == {first: 1050, second: 0, second + 60: 0}
    assert found["tokens.haiku"][second] == found["tokens.other"][second] == 1050
    assert found["cost.opus"][first] == found["cost.usd"][first] > 0
    assert found["cost.haiku"][second] == found["cost.usd"][second] > 0
    assert second not in found["cost.other"], "an unknown price is not nothing"


def test_money_of_an_unpriced_model_is_unknown_and_not_nothing(amiga):
    minute = int(NOW // 60) - 30
    amiga.message(minute * 60.0, (1000, 50), model="nobody-knows-1")
    found = collected(amiga).minutes(minute, minute + 3)
    assert set(found["tokens.in"]) == {60 * (minute + i) for i in range(3)}
    assert 60 * minute not in found["cost.usd"]


def test_spans_are_those_that_touch_the_time_asked_for(amiga):
    for name, began, ended in (("early", -5000, -4000), ("across", -4000, -2000), ("late", -500, -400)):
        amiga.task(name, "completed", at=NOW + began)
        amiga.status(name, "completed", NOW + ended)
    amiga.task("still", "running", at=NOW - 10_000)
    amiga.task("waits", "pending", at=NOW - 100)
    amiga.task("long", "completed", at=NOW - 90_000, description="word " * 100)
    amiga.status("long", "completed", NOW - 80_000)
    collector = collected(amiga)
    found = collector.spans(NOW - 3000, NOW)
    assert [span.task_id for span in found] == ["still", "across", "late"]
    assert (found[0].status, found[0].ended) == ("running", None)
    assert (found[1].began, found[1].ended) == (NOW - 4000, NOW - 2000)
    assert [span.task_id for span in collector.spans(NOW - 4500, NOW - 3500)] == ["still", "early", "across"]
    assert len(collector.spans(NOW - 85_000, NOW - 84_000)[0].description) == minutes.SPAN_CHARS
    collector.close()


def test_without_a_database_there_are_no_minutes_and_no_spans(tmp_path):
    config = AmigaConfig(
        root=tmp_path,
        database=tmp_path / "none.db",
        sessions=tmp_path,
        timezone="UTC",
        private_dir=tmp_path / "private",
    )
    collector = AmigaCollector(config, clock=lambda: NOW)
    collector.collect(frozenset())
    assert collector.minutes(0, 100) == {}
    assert collector.spans(0, NOW) == []
