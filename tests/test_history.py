"""History on a real SQLite: roll-ups, gaps, and what a bad disk, a bad file and kill -9 cost."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from disks import fill, small_disk
from hypothesis import given, settings
from hypothesis import strategies as st

from amiga_ws.history import SERIES, History, database, reading
from amiga_ws.history.database import MIB, MIGRATIONS, Database, NewerError
from amiga_ws.history.keeper import HistoryError, Keeper
from amiga_ws.history.points import (
    FINEST,
    HOUR_S,
    HOURS,
    HOURS_RANGE,
    MAX_POINTS,
    MEMORY,
    MINUTES,
    TIERS,
    Grid,
    Tally,
    column,
    gaps,
    gather,
    step_between,
    step_of,
    tier_of,
)
from amiga_ws.history.recent import Recent
from amiga_ws.history.thread import BusyError
from amiga_ws.snapshot import (
    AmigaFacts,
    AmigaProcess,
    Disk,
    HostFacts,
    Memory,
    Network,
    Source,
    System,
    TaskTotals,
)

CPU, LOAD, CALLS = (SERIES[name].number for name in ("host.cpu", "host.load1", "tools.calls"))
NOW = 1_790_000_000 // 3600 * 3600 + 1805.0  # 5 s into a minute in the middle of an hour
DAY = 86400


@pytest.fixture
def path(tmp_path):
    return tmp_path / "history.db"


@pytest.fixture
def keeper(path):
    made = Keeper(path, 64)
    made.open(NOW)
    yield made
    made.close(NOW)


def known(found, name):
    """{time: (min, max, avg)} of the points that are not null."""
    series = found["series"][name]
    points = zip(series["t"], series["min"], series["max"], series["avg"], strict=True)
    return {t: (low, high, avg) for t, low, high, avg in points if avg is not None}


def stored(path, step):
    """{(time, series): (count, low, high, total)} of a tier, read by somebody else."""
    with apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY) as db:
        rows = db.execute("SELECT time, series, count, low, high, total FROM points WHERE step = ?", (step,))
        found = {(time, series): tuple(rest) for time, series, *rest in rows}
    db.close()
    return found


# -- names ---------------------------------------------------------------------------------------


def test_every_series_has_a_number_of_its_own():
    assert len({series.number for series in SERIES.values()}) == len(SERIES)


def test_facts_fill_the_sampled_series_and_what_is_unknown_is_absent():
    system = System(
        cpu_percent=12.0,
        load=[0.5, 0.4, 0.3],
        memory=Memory(percent=50.0),
        disks=[Disk(mount=m, total=10, used=u, percent=10.0 * u) for m, u in (("/", 4), ("/data", 9))],
        network=Network(rx_bytes_s=1000.0),
    )
    host = HostFacts(sources={"host": Source(state="ok")}, system=system)
    amiga = AmigaFacts(
        sources={"amiga": Source(state="ok")},
        totals=TaskTotals(running=2, pending=0),
        amiga_process=AmigaProcess(pid=1, alive=True, rss=1 << 20),
    )
    assert reading(host, amiga) == {
        "host.cpu": 12.0,
        "host.load1": 0.5,
        "host.mem": 50.0,
        "host.disk": 90.0,
        "host.rx": 1000.0,
        "tasks.running": 2,
        "tasks.pending": 0,
        "bot.rss": 1 << 20,
    }
    assert reading(None, None) == {}


@pytest.mark.parametrize("state", ["loading", "missing", "stale", "error"])
def test_last_good_values_of_a_broken_source_are_not_recorded_as_new(state):
    host = HostFacts(sources={"host": Source(state=state)}, system=System(cpu_percent=12.0))
    amiga = AmigaFacts(
        sources={"amiga": Source(state=state)},
        totals=TaskTotals(running=2),
        amiga_process=AmigaProcess(pid=1, alive=True, rss=7),
    )
    # The bot's process is seen without its database, but not by a collector that hangs.
    assert reading(host, amiga) == ({} if state == "stale" else {"bot.rss": 7})


# -- steps ---------------------------------------------------------------------------------------


def test_an_answer_has_at_most_300_points_and_a_tier_that_reaches_back_as_far():
    now = NOW + 3.7
    for hours in range(HOURS_RANGE[0], HOURS_RANGE[1] + 1):
        step = step_of(hours)
        grid = Grid.over(hours, step, now)
        assert len(grid.times) <= MAX_POINTS, hours
        assert grid.start <= now - hours * 3600 + step, hours
        assert grid.end - step <= now < grid.end, hours
        tier = tier_of(step)
        assert tier.keep >= hours * 3600, hours
        assert step >= tier.step, hours


def test_a_closer_look_gets_the_finest_step_that_is_kept_and_at_most_300_points():
    for age, length, step in (
        (300, 300, 2),
        (HOUR_S, 60, 2),
        (3000, 900, 4),
        (3000, 2900, 10),
        (2 * HOUR_S, 60, 10),
        (DAY, HOUR_S, 30),
        (2 * DAY, 600, 60),
        (13 * DAY, 12 * HOUR_S, 180),
        (15 * DAY, DAY, HOUR_S),
        (399 * DAY, 399 * DAY, 129_600),
    ):
        start = NOW - age
        found = step_between(start, start + length, NOW)
        assert found == step, (age, length)
        grid = Grid.between(start + 1.5, start + 1.5 + length, found)
        assert len(grid.times) <= MAX_POINTS
        assert grid.start <= start + 1.5
        assert grid.end >= start + 1.5 + length


@given(st.floats(1, 400 * DAY), st.floats(0.01, 1))
def test_what_a_closer_look_is_made_of_reaches_back_as_far(age, share):
    start, length = NOW - age, max(age * share, 20)
    step = step_between(start, start + length, NOW)
    assert len(Grid.between(start, start + length, step).times) <= MAX_POINTS
    if step in (2, 4):
        assert age <= MEMORY.keep
    elif step % FINEST.step == 0:
        assert tier_of(step).keep >= age


# -- roll-ups ------------------------------------------------------------------------------------

samples = st.lists(
    st.tuples(
        st.integers(int(NOW) - 7200, int(NOW)),
        st.sampled_from(["host.cpu", "host.load1", "bot.rss"]),
        st.integers(-1000, 1000),
        st.booleans(),  # whether the disk is written after it
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=60)
@given(samples)
def test_every_tier_holds_what_a_slow_reference_works_out(tmp_path_factory, given_samples):
    path = tmp_path_factory.mktemp("history") / "history.db"
    keeper = Keeper(path, 64)
    keeper.open(NOW)
    for time_, name, value, flush in given_samples:
        keeper.note(time_, {name: value})
        if flush:
            keeper.flush(NOW)
    keeper.close(NOW)
    for tier in TIERS:
        slots = {}
        for time_, name, value, _ in given_samples:
            slots.setdefault((time_ // tier.step * tier.step, SERIES[name].number), []).append(value)
        expected = {key: (len(v), min(v), max(v), sum(v)) for key, v in slots.items()}
        assert stored(path, tier.step) == expected


@settings(deadline=None, max_examples=60)
@given(samples, st.sampled_from([1, 2, 3, 24, 168, 720]))
def test_an_answer_keeps_the_extremes_and_the_gaps(tmp_path_factory, given_samples, hours):
    keeper = Keeper(tmp_path_factory.mktemp("history") / "history.db", 64)
    keeper.open(NOW)
    for time_, name, value, flush in sorted(given_samples):
        keeper.note(time_, {name: value})
        if flush:
            keeper.flush(NOW)
    found = keeper.read(["host.cpu", "host.load1", "bot.rss"], hours, NOW)
    keeper.close(NOW)
    step = found["step"]
    # With a step of 12 s what is only in the file lies on its 10 s; memory holds the last hour here.
    grain = FINEST.step if step % FINEST.step == 0 else 2
    for name in ("host.cpu", "host.load1", "bot.rss"):
        slots = {}
        for time_, other, value, _ in given_samples:
            if name == other and found["from"] <= time_ < found["to"] and time_ >= NOW - 3600:
                slots.setdefault(time_ // grain * grain // step * step, []).append(value)
        shown = {t: point for t, point in known(found, name).items() if t - step >= NOW - 3600}
        assert shown == {
            t: (min(v), max(v), pytest.approx(sum(v) / len(v), rel=1e-4))
            for t, v in slots.items()
            if t - step >= NOW - 3600
        }


def test_a_slot_that_is_written_in_two_parts_is_one_point(path, keeper):
    base = int(NOW) // 3600 * 3600
    for second, value in ((0, 10.0), (4, 30.0), (8, 20.0)):
        keeper.note(base + second, {"host.cpu": value})
        keeper.flush(base + second)
    for tier in TIERS:
        assert stored(path, tier.step) == {(base, CPU): (3, 10.0, 30.0, 60.0)}


def test_minutes_replace_what_was_known_of_them_and_their_hour_follows(path, keeper):
    hour = int(NOW) // 3600 * 3600
    assert keeper.put_minutes({"tools.calls": {hour: 4.0, hour + 60: 6.0}})
    assert keeper.put_minutes({"tools.calls": {hour + 60: 8.0, hour - 60: 1.0}})
    assert stored(path, MINUTES.step) == {
        (hour - 60, CALLS): (1, 1.0, 1.0, 1.0),
        (hour, CALLS): (1, 4.0, 4.0, 4.0),
        (hour + 60, CALLS): (1, 8.0, 8.0, 8.0),
    }
    assert stored(path, HOURS.step) == {
        (hour - 3600, CALLS): (1, 1.0, 1.0, 1.0),
        (hour, CALLS): (2, 4.0, 8.0, 12.0),
    }
    assert keeper.put_minutes({})


def test_minutes_that_have_not_changed_are_not_written_again(path, keeper):
    week = {int(NOW) // 60 * 60 - 60 * i: float(i % 7) for i in range(10_000)}
    assert keeper.put_minutes({"tools.calls": week})
    keeper.close(NOW)
    keeper.open(NOW)
    keeper.put_minutes({"tools.calls": week})
    wal = path.with_name("history.db-wal")
    assert (wal.stat().st_size if wal.exists() else 0) < 20_000


def test_series_by_minute_keep_their_own_step(keeper):
    keeper.note(NOW, {"host.cpu": 5.0})
    minute = int(NOW) // 60 * 60 - 120
    keeper.put_minutes({"tools.calls": {minute: 3.0}})
    found = keeper.read(["host.cpu", "tools.calls"], 1, NOW)
    assert (found["step"], found["series"]["host.cpu"]["step"]) == (12, 12)
    assert found["series"]["tools.calls"]["step"] == 60
    assert known(found, "tools.calls") == {minute: (3.0, 3.0, 3.0)}
    assert found["unit"] == {"host.cpu": "%", "tools.calls": "1/min"}


def test_the_last_hour_is_shown_from_memory_and_what_was_before_the_start_from_disk(path, keeper):
    for second in range(0, 600, 10):
        keeper.note(NOW - 3000 + second, {"host.cpu": 50.0})
    keeper.close(NOW)
    after = Keeper(path, 64)
    after.open(NOW)
    for second in range(0, 60, 2):
        after.note(NOW - 60 + second, {"host.cpu": float(second)})
    points = known(after.read(["host.cpu"], 1, NOW), "host.cpu")
    assert {point for t, point in points.items() if t < NOW - 100} == {(50.0, 50.0, 50.0)}
    assert sum(t < NOW - 100 for t in points) >= 50
    fresh = [points[t] for t in sorted(points) if t > NOW - 90]
    assert (fresh[0][0], fresh[-1][1]) == (0.0, 58.0)
    assert sum(high - low for low, high, _ in fresh) > 40  # six readings of 2 s in each slot of 12 s
    after.close(NOW)


# -- gaps ----------------------------------------------------------------------------------------


def test_where_nothing_was_sampled_there_is_null_and_a_gap(keeper):
    for second in [*range(-7200, -5000, 10), *range(-2000, 1, 10)]:
        keeper.note(NOW + second, {"host.cpu": 1.0, "host.load1": 2.0})
    keeper.flush(NOW)
    found = keeper.read(["host.load1"], 3, NOW)
    series = found["series"]["host.load1"]
    assert series["t"] == list(range(found["from"], found["to"], found["step"]))
    before, between = found["gaps"]
    assert before[0] == found["from"]
    assert before[1] == pytest.approx(NOW - 7200, abs=found["step"])
    assert between == [
        pytest.approx(NOW - 5000, abs=2 * found["step"]),
        pytest.approx(NOW - 2000, abs=2 * found["step"]),
    ]
    for t, value in zip(series["t"], series["avg"], strict=True):
        missing = any(start <= t < end for start, end in found["gaps"])
        assert value is None if missing else value == 2.0 or t + found["step"] > NOW


def test_a_series_that_is_silent_while_we_run_is_null_but_no_gap(keeper):
    for second in range(-3600, 1, 2):
        keeper.note(NOW + second, {"host.cpu": 1.0})
    found = keeper.read(["bot.rss"], 1, NOW)
    assert known(found, "bot.rss") == {}
    assert found["gaps"] in ([], [[found["from"], found["from"] + 12]])


def test_readings_ten_seconds_apart_leave_no_gap_however_they_jitter(keeper):
    moment = NOW - 4 * 3600
    while moment < NOW:
        keeper.note(moment, {"host.cpu": 1.0})
        moment += 10.9
    keeper.flush(NOW)
    for hours in (1, 2, 3):
        assert keeper.read(["host.cpu"], hours, NOW)["gaps"] == []


def test_a_closer_look_at_the_last_hour_finds_every_reading_and_the_gaps(keeper):
    moments = [second for second in range(-600, 0, 2) if not -400 <= second < -370]
    for second in moments:
        keeper.note(NOW + second, {"host.cpu": float(-second)})
    found = keeper.read(["host.cpu"], 24, NOW, (NOW - 500, NOW - 300))
    assert (found["hours"], found["step"]) == (None, 2)
    assert found["from"] <= NOW - 500
    assert found["to"] >= NOW - 300
    noted = {int(NOW + second) // 2 * 2: float(-second) for second in moments}
    points = known(found, "host.cpu")
    assert points == {t: (v, v, v) for t, v in noted.items() if found["from"] <= t < found["to"]}
    assert [end - start for start, end in found["gaps"]] == [30]
    missing = sorted(set(found["series"]["host.cpu"]["t"]) - set(points))
    assert missing == list(range(found["gaps"][0][0], found["gaps"][0][1], 2))


def test_slots_between_two_readings_are_left_out_of_a_closer_look(keeper):
    """Nobody watches: a reading every ten seconds, in slots of two."""
    for second in range(-600, 0, 10):
        keeper.note(NOW + second, {"host.cpu": 1.0})
    found = keeper.read(["host.cpu", "tools.calls"], 24, NOW, (NOW - 300, NOW - 200))
    assert found["step"] == 2
    assert found["gaps"] == []
    assert None not in found["series"]["host.cpu"]["avg"]
    assert len(found["series"]["host.cpu"]["t"]) in (10, 11)
    assert found["series"]["tools.calls"]["step"] == 60


def test_gaps_join_and_the_slot_of_now_is_none():
    grid = Grid.over(1, 12, NOW)
    last = grid.end - 12
    assert gaps(grid, set(grid.times) - {last}, NOW) == []
    missing = {grid.start + 12, grid.start + 24, grid.start + 60}
    assert gaps(grid, set(grid.times) - missing, NOW) == [
        [grid.start + 12, grid.start + 36],
        [grid.start + 60, grid.start + 72],
    ]


def test_a_point_is_made_of_its_own_slot_alone():
    tallies = {}
    gather(tallies, [(100, 1, 1, 5.0, 5.0, 5.0), (119, 1, 2, 1.0, 3.0, 4.0), (120, 1, 1, 9.0, 9.0, 9.0)], 20)
    assert tallies == {(100, 1): Tally(3, 1.0, 5.0, 9.0), (120, 1): Tally(1, 9.0, 9.0, 9.0)}
    shown = column(Grid(20, 80, 140), tallies, 1)
    assert (shown.t, shown.min, shown.max) == ([80, 100, 120], [None, 1.0, 9.0], [None, 5.0, 9.0])
    assert shown.avg == [None, 3.0, 9.0]


# -- age and size --------------------------------------------------------------------------------


def test_each_tier_forgets_at_its_own_age(path, keeper):
    for age in (10, DAY + 20, 15 * DAY, 401 * DAY):
        keeper.note(NOW - age, {"host.cpu": 1.0})
    keeper.flush(NOW)
    ages = [sorted({round((NOW - t) / DAY) for t, _ in stored(path, tier.step)}) for tier in TIERS]
    assert ages == [[0], [0, 1], [0, 1, 15]]


def test_a_clock_that_is_set_years_ahead_makes_nothing_forgotten(path, keeper):
    keeper.note(NOW - DAY / 2, {"host.cpu": 1.0})
    keeper.note(NOW, {"host.cpu": 2.0})
    keeper.close(NOW)
    before = [stored(path, tier.step) for tier in TIERS]
    after = Keeper(path, 64)
    after.open(NOW + 900 * DAY)
    for minute in range(3):
        after.note(NOW + 900 * DAY + 60 * minute, {"host.cpu": 3.0})
        after.flush(NOW + 900 * DAY + 60 * minute)
    after.note(NOW + 300, {"host.cpu": 4.0})
    after.close(NOW + 300)
    for tier, kept in zip(TIERS, before, strict=True):
        assert kept.keys() <= stored(path, tier.step).keys()


def test_the_file_stays_within_its_size_and_the_oldest_go_first(path):
    keeper = Keeper(path, 8)
    keeper.open(NOW)
    store = keeper._connect()
    numbers = [series.number for series in SERIES.values()]
    for first in range(0, DAY, 7200):
        store.add(
            (int(NOW) - DAY + first + second, number, 1, 0.123, 0.456, 0.789)
            for second in range(0, 7200, 10)
            for number in numbers
        )
    assert store.size() > 8 * MIB
    keeper.flush(NOW)
    assert store.size() <= 8 * MIB
    assert path.stat().st_size <= 8 * MIB
    left = {t for t, _ in stored(path, FINEST.step)}
    assert max(left) >= NOW - 20
    assert NOW - DAY + 1000 < min(left) < NOW - 3600
    assert len(stored(path, HOURS.step)) == 25 * len(numbers)  # the year costs little and is kept
    assert "of 8 MB used; the oldest points are dropped" in keeper.source.hint
    assert keeper.source.state == "ok"
    keeper.close(NOW)


def test_a_path_of_two_slashes_names_no_host(path):
    """As `/$DIR` gives one."""
    Database(Path(f"/{path}")).close()
    assert path.stat().st_size


def test_a_full_history_fits_its_default_size(path):
    """More than the points of all tiers, at the width of real readings."""
    store = Database(path)
    numbers = [series.number for series in SERIES.values()]
    with apsw.Connection(str(path)) as db:
        for tier in TIERS:
            db.executemany(
                "INSERT INTO points VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    (tier.step, int(NOW) // tier.step * tier.step - i * tier.step, n, 5, 12.0, 47.5, 130.25)
                    for i in reversed(range(tier.keep // tier.step))
                    for n in numbers
                ),
            )
    db.close()
    store._checkpoint()
    assert store.size() < 60 * MIB
    began = time.monotonic()
    rows = store.read(MINUTES, step_of(168), int(NOW) - 7 * DAY, int(NOW), numbers)
    assert len(rows) > 250 * len(numbers)
    assert time.monotonic() - began < 4  # of the 5 s a request waits; 0.2 s on a quiet machine
    store.close()


# -- the file ------------------------------------------------------------------------------------


def test_a_restart_goes_on_where_it_was(path, keeper):
    keeper.note(NOW - 20, {"host.cpu": 1.0})
    keeper.close(NOW)
    assert not path.with_name("history.db-wal").exists()  # one whole file is left
    after = Keeper(path, 64)
    after.open(NOW)
    after.note(NOW, {"host.cpu": 3.0})
    assert len(known(after.read(["host.cpu"], 2, NOW), "host.cpu")) >= 1
    after.close(NOW)
    assert sum(count for count, *_ in stored(path, HOURS.step).values()) == 2


@pytest.mark.promise("A history of an older version is brought up to date with all it holds")
def test_an_older_file_is_brought_up_to_date_with_what_it_holds(path, keeper, monkeypatch):
    keeper.note(NOW, {"host.cpu": 7.0})
    keeper.close(NOW)
    more = (*MIGRATIONS, "CREATE TABLE note (text TEXT); INSERT INTO note VALUES ('from 1 to 2')")
    monkeypatch.setattr(database, "MIGRATIONS", more)
    store = Database(path)
    assert store._number("PRAGMA user_version") == len(more)
    assert store._db.execute("SELECT text FROM note").fetchall() == [("from 1 to 2",)]
    store.close()
    assert stored(path, FINEST.step) == {(int(NOW) // 10 * 10, CPU): (1, 7.0, 7.0, 7.0)}


@pytest.mark.promise("An upgrade of the history that fails leaves it as it was")
def test_a_migration_that_fails_leaves_the_file_as_it_was(path, keeper, monkeypatch):
    keeper.close(NOW)
    monkeypatch.setattr(
        database, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE half (x); INSERT INTO nowhere VALUES (1)")
    )
    with pytest.raises(apsw.SQLError, match="nowhere"):
        Database(path)
    monkeypatch.undo()
    store = Database(path)
    assert store._number("PRAGMA user_version") == len(MIGRATIONS)
    assert store._db.execute("SELECT name FROM sqlite_master WHERE name = 'half'").fetchall() == []
    store.close()


def test_a_file_of_a_later_version_is_left_alone(path, keeper):
    keeper.close(NOW)
    with apsw.Connection(str(path)) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    before = path.read_bytes()
    with pytest.raises(NewerError):
        Database(path)
    keeper.open(NOW)
    keeper.note(NOW, {"host.cpu": 1.0})
    keeper.flush(NOW)
    assert keeper.source.state == "error"
    assert keeper.source.error == "made by a later version"
    assert "move the file away" in keeper.source.hint
    assert (
        len(known(keeper.read(["host.cpu"], 1, NOW), "host.cpu")) == 1
    )  # the last hour is there all the same
    assert path.read_bytes() == before


@pytest.mark.promise("A broken history is moved aside and hinders no start")
@pytest.mark.parametrize("content", [b"not a database at all, but long enough" * 200, "torn"])
def test_a_broken_file_is_moved_aside_and_never_blocks_the_start(path, keeper, caplog, content):
    for second in range(0, 5000, 10):
        keeper.note(NOW - second, {name: 1.0 for name in SERIES if not SERIES[name].by_minute})
    keeper.close(NOW)
    if content == "torn":
        whole = bytearray(path.read_bytes())
        whole[4096:40960] = os.urandom(40960 - 4096)
        content = bytes(whole)
    path.write_bytes(content)
    keeper.open(NOW)
    assert keeper.source.state == "ok"
    assert path.with_name("history.db.broken").read_bytes() == content
    assert "history.db.broken" in caplog.text
    keeper.note(NOW, {"host.cpu": 2.0})
    keeper.flush(NOW)
    assert len(stored(path, FINEST.step)) == 1


def test_a_file_that_breaks_while_we_run_is_replaced_and_nothing_recent_is_lost(path, keeper):
    for second in range(0, 3000, 10):
        keeper.note(NOW - second, {name: 1.0 for name in SERIES if not SERIES[name].by_minute})
    keeper.close(NOW)
    keeper.open(NOW)
    keeper._database._db.execute("PRAGMA shrink_memory")  # or SQLite would not look at the file
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))
    keeper.note(NOW, {"host.cpu": 2.0})
    keeper.flush(NOW)
    keeper.flush(NOW)
    assert keeper.source.state == "ok"
    assert path.with_name("history.db.broken").exists()
    assert set(stored(path, FINEST.step)) == {(int(NOW) // 10 * 10, CPU)}


def test_a_folder_that_cannot_be_used_is_told_and_healed(tmp_path, caplog):
    folder = tmp_path / "gone"
    keeper = Keeper(folder / "history.db", 64)
    keeper.open(NOW)
    assert (keeper.source.state, keeper.source.path) == ("error", str(folder / "history.db"))
    keeper.note(NOW, {"host.cpu": 2.0})
    for _ in range(3):
        keeper.flush(NOW)
    assert caplog.text.count("history cannot be written") == 1  # not at every try
    assert not keeper.put_minutes({"tools.calls": {0: 1.0}})
    folder.mkdir()
    keeper.flush(NOW)
    assert (keeper.source.state, keeper.source.error) == ("ok", None)
    keeper.close(NOW)
    assert len(stored(folder / "history.db", FINEST.step)) == 1


def test_without_a_file_history_lives_as_long_as_the_process(tmp_path):
    keeper = Keeper(None, 64)
    keeper.open(NOW)
    keeper.note(NOW - 7000, {"host.cpu": 1.0})
    keeper.flush(NOW)
    assert len(known(keeper.read(["host.cpu"], 24, NOW), "host.cpu")) == 1
    assert (keeper.source.state, keeper.source.path) == ("ok", None)
    assert "history.enabled" in keeper.source.hint
    keeper.close(NOW)
    assert list(tmp_path.iterdir()) == []


# -- a full disk ---------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk") as folder:
        yield folder


def test_a_full_disk_is_told_and_costs_nothing_once_it_has_room(disk):
    keeper = Keeper(disk / "history.db", 64)
    keeper.open(NOW)
    ballast = fill(disk, leave=4096)
    names = [name for name, series in SERIES.items() if not series.by_minute]
    second = 0
    while keeper.source.state == "ok" and second < 3600:
        keeper.note(NOW + second, dict.fromkeys(names, 1.5))
        keeper.flush(NOW + second)
        second += 10
    assert keeper.source.state == "error"
    assert keeper.source.error == "the disk is full"
    assert "the live view goes on" in keeper.source.hint
    for _ in range(10):
        keeper.note(NOW + second, dict.fromkeys(names, 1.5))
        keeper.flush(NOW + second)
        second += 10
    end = NOW + second
    assert len(known(keeper.read(["host.cpu"], 1, end), "host.cpu")) >= second / 12
    ballast.unlink()
    keeper.flush(end)
    assert keeper.source.state == "ok"
    keeper.close(end)
    times = {t for t, number in stored(disk / "history.db", FINEST.step) if number == CPU}
    assert len(times) == second / 10  # every slot of the time in which nothing could be written


def test_what_waits_for_the_disk_is_an_hour_at_most(tmp_path):
    keeper = Keeper(tmp_path / "gone" / "history.db", 64)
    keeper.open(NOW)
    for second in range(0, 3 * 3600, 10):
        keeper.note(NOW + second, {"host.cpu": 1.0})
        keeper.flush(NOW + second)
    assert len(keeper._pending) <= 361


# -- the last hour -------------------------------------------------------------------------------


def test_the_last_hour_takes_as_much_memory_at_its_begin_as_at_its_end():
    keeper = Keeper(None, 64)
    keeper.open(NOW)
    names = [name for name, series in SERIES.items() if not series.by_minute]

    def read_for(seconds):
        for second in seconds:
            keeper.note(NOW + second, dict.fromkeys(names, second + 0.5))
            if second % 8 == 0:
                keeper.flush(NOW + second)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        begin = read_for(range(60))
        end = read_for(range(60, HOUR_S))
    finally:
        tracemalloc.stop()
    assert end - begin < MIB / 16


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4000), st.integers(-9, 9)), max_size=30))
def test_the_last_hour_is_whole_since_its_first_slot(given_readings):
    recent, now, all_ = Recent(), int(NOW), {}
    for seconds, value in given_readings:
        now += seconds
        recent.add(now + 0.5, {"host.cpu": value})
        all_.setdefault(now // MEMORY.step * MEMORY.step, []).append(value)
    first = recent.first()
    assert (first is None) == (not all_)
    if first is not None:
        assert first == min(time for time in all_ if time > now - MEMORY.keep - 2 * MEMORY.step)
        rows = sorted(recent.rows(first, now + 1, {CPU, LOAD}))
        assert rows == [
            (time, CPU, len(values), min(values), max(values), sum(values))
            for time, values in all_.items()
            if time >= first
        ]


def test_a_clock_that_was_set_back_leaves_no_hole_in_the_last_hour():
    recent = Recent()
    for second in (0, 10, 3000, 4000):
        recent.add(NOW + second, {"host.cpu": 1.0})
    recent.add(NOW + 20, {"host.cpu": 2.0})
    assert recent.first() == (NOW + 20) // MEMORY.step * MEMORY.step
    assert [row[3] for row in recent.rows(0, int(NOW) + 9999, {CPU})] == [2.0]


# -- the thread ----------------------------------------------------------------------------------

WRITER = """
import sys, time
from pathlib import Path
from amiga_ws.history import History
history = History(Path(sys.argv[1]), 64)
while True:
    history.note({"host.cpu": 1.0})
    print(int(time.time()), flush=True)
    time.sleep(0.2)
"""


@pytest.mark.timeout(60)
def test_kill_9_loses_at_most_ten_seconds(path):
    command = [sys.executable, "-c", WRITER, str(path)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ours
    noted = []
    deadline = time.monotonic() + 11
    while time.monotonic() < deadline:
        noted.append(int(writer.stdout.readline()))
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait(5)
    writer.stdout.close()
    kept = sum(count for count, *_ in stored(path, HOURS.step).values())
    assert len(noted) - kept <= 10 / 0.2
    after = Keeper(path, 64)
    after.open(time.time())
    assert after.source.state == "ok"
    assert len(known(after.read(["host.cpu"], 1, time.time()), "host.cpu")) >= 1
    after.close(time.time())
    assert sum(count for count, *_ in stored(path, HOURS.step).values()) == kept


def test_stopping_writes_what_is_left(path):
    history = History(path, 64)
    history.note({"host.cpu": 4.0})
    found = history.read(["host.cpu"], 1).result(5)
    assert list(known(found, "host.cpu").values()) == [(4.0, 4.0, 4.0)]
    assert history.put_minutes({"tools.calls": {int(time.time()) // 60 * 60: 2.0}}).result(5)
    history.note({"host.cpu": 6.0})
    history.stop(5)
    assert [p.name for p in path.parent.iterdir()] == ["history.db"]
    assert sum(count for count, *_ in stored(path, HOURS.step).values()) == 3


def test_a_disk_that_hangs_never_blocks_who_notes(path):
    history = History(path, 64)
    gate = threading.Event()
    history._jobs.put(lambda: gate.wait(20) and None)
    began = time.monotonic()
    for _ in range(3000):
        history.note({"host.cpu": 1.0})
    with pytest.raises(BusyError):
        history.read(["host.cpu"], 1)
    assert issubclass(BusyError, HistoryError)
    assert time.monotonic() - began < 2
    gate.set()
    history.stop(10)


def test_the_version_of_sqlite_is_told_once_at_the_start(path, caplog):
    caplog.set_level(logging.INFO)
    with closing(apsw.Connection(":memory:")) as db:
        (version,) = db.execute("SELECT sqlite_version()").fetchone()
    keeper = Keeper(path, 64)
    keeper.open(NOW)
    keeper.flush(NOW + 60)
    keeper.close(NOW + 120)
    (told,) = [line for line in caplog.messages if "SQLite" in line]
    assert told.startswith(
        f"SQLite is {version}"
    )  # another test's log filter may say that there were more like it


def test_a_step_that_fails_does_not_end_the_thread(path, caplog):
    history = History(path, 64)
    history.note({"no.such.series": 1.0})
    history.note({"host.cpu": 1.0})
    assert len(known(history.read(["host.cpu"], 1).result(5), "host.cpu")) == 1
    assert "a step failed" in caplog.text
    history.stop(5)


def test_history_has_one_writer_and_any_number_of_readers(path):
    history = History(path, 64)
    history.note({"host.cpu": 1.0})
    history.read(["host.cpu"], 1).result(5)
    assert isinstance(stored(Path(path), FINEST.step), dict)
    assert [t.name for t in threading.enumerate()].count("history") == 1
    history.stop(5)
