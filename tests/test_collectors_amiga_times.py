"""AMIGA's times: three ways of writing them, and the hours that clock changes repeat or skip."""

from __future__ import annotations

import datetime as dt
import zoneinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amiga_ws.collectors.amiga.times import Times, zone_named

MADRID = zoneinfo.ZoneInfo("Europe/Madrid")
MOMENTS = st.datetimes(dt.datetime(1990, 1, 1), dt.datetime(2100, 1, 1))  # noqa: DTZ001 - naive on purpose
ZONES = st.sampled_from(["UTC", "Europe/Madrid", "America/New_York", "Asia/Kolkata", "Pacific/Chatham"])


@given(MOMENTS, ZONES)
def test_a_naive_time_means_the_hosts_zone(moment, name):
    zone = zoneinfo.ZoneInfo(name)
    expected = moment.replace(tzinfo=zone, fold=0).timestamp()  # a text says nothing of its fold
    times = Times(zone)
    assert times.parse(moment.isoformat()) == pytest.approx(expected, abs=1e-6)
    assert times.parse(moment.isoformat(" ")) == pytest.approx(expected, abs=1e-6)


@given(MOMENTS, ZONES)
def test_a_time_with_z_is_utc_whatever_the_zone(moment, name):
    expected = moment.replace(tzinfo=dt.UTC).timestamp()
    times = Times(zoneinfo.ZoneInfo(name))
    assert times.parse(moment.isoformat() + "Z") == pytest.approx(expected, abs=1e-6)
    assert times.parse_utc(moment.isoformat()) == pytest.approx(expected, abs=1e-6)


WRITTEN = st.builds(
    lambda moment, separator, zone: moment.isoformat(separator) + zone,
    st.datetimes(dt.datetime(2026, 11, 20), dt.datetime(2026, 11, 22)),  # noqa: DTZ001 - naive on purpose
    st.sampled_from("TTT "),
    st.sampled_from(["Z", "Z", "", "+02:00"]),
)


@given(st.lists(st.one_of(WRITTEN, st.sampled_from([None, 7, "yesterday", "9999-99-99T99:99:99.999999Z"]))))
def test_the_newest_of_several_is_the_latest_that_is_a_time(texts):
    times = Times(MADRID)
    known = [when for when in map(times.parse_utc, texts) if when is not None]
    assert times.newest_utc(texts) == max(known, default=None)


A_MINUTE = st.builds(
    lambda moment: moment.isoformat(),
    st.datetimes(dt.datetime(2026, 10, 25, 1, 59), dt.datetime(2026, 10, 25, 1, 59, 59)),  # noqa: DTZ001 - as above
)
TWO_MINUTES = st.builds(
    lambda moment, separator, zone: moment.isoformat(separator) + zone,
    st.datetimes(dt.datetime(2026, 10, 25, 1, 59), dt.datetime(2026, 10, 25, 2, 1)),  # noqa: DTZ001 - as above
    st.sampled_from("TTT "),
    st.sampled_from(["", "", "Z"]),
)  # of which the second one is repeated
ODD = st.sampled_from(
    [None, 7, b"2026-10-25T01:59:28.248341", "2026-10-25T01:59:28.24834x", "2026-10-25T01:59:61.248341",
     "2026-10-25T01:59:28.2,8341", "2026-10-25T01:59:05.000E+0", "2026-10-25T01:59:05.000E+1",
     "2026-10-25T01:59: 5.000000", "2026-10-25T01:59:-5.000000", "2026-10-25T01:59:٢٨.248341",
     "2026-10-25T01:59:28.24834\ud800"]
)  # fmt: skip
BEFORE = st.sampled_from([float("-inf"), 1_792_886_340.0, 1_792_890_000.0])  # 01:59 there, and an hour later


@given(
    st.one_of(st.lists(A_MINUTE), st.lists(TWO_MINUTES), st.lists(st.one_of(A_MINUTE, ODD))), BEFORE, BEFORE
)
def test_rows_are_timed_together_as_they_are_one_by_one(texts, after, since):
    times, rows, last = Times(MADRID), list(enumerate(texts)), after
    expected = []
    for row in rows:
        when = times.parse(row[1], max(last, since))
        if when is not None:
            last = when
            expected.append((row, when))
    kept, found = Times(MADRID).timed(rows, 1, after, since)
    assert list(zip(kept, found, strict=True)) == expected


@given(st.text(max_size=40))
def test_anything_else_is_no_time_and_no_error(text):
    value = Times(MADRID).parse(text)
    assert value is None or isinstance(value, float)


@pytest.mark.parametrize(
    "wrong",
    [None, 12, 3.5, b"2026-11-21T03:18:28", "", "yesterday", "2026-13-01T00:00:00", "2026-11-21T03:18:61",
     "2026-11-21T03:18:2e1", "2026-11-21T03:18:nan", "0001-01-01T00:00:00", "9999-12-31T23:59:59",
     "2026-11-21T03:18:١٢"],
)  # fmt: skip
def test_what_is_no_time_is_unknown(wrong):
    assert Times(dt.UTC).parse(wrong) is None


def test_a_repeated_hour_is_its_first_occurrence_and_a_skipped_one_keeps_counting():
    times = Times(MADRID)
    assert times.parse("2026-10-25T02:30:00") == dt.datetime(2026, 10, 25, 0, 30, tzinfo=dt.UTC).timestamp()
    assert times.parse("2026-03-29T02:30:00") == dt.datetime(2026, 3, 29, 1, 30, tzinfo=dt.UTC).timestamp()


def test_days_begin_at_local_midnight():
    times = Times(MADRID)
    late = dt.datetime(2026, 11, 21, 23, 30, tzinfo=dt.UTC).timestamp()
    assert times.day(late) == dt.date(2026, 11, 22)
    assert times.day_start(dt.date(2026, 11, 22)) == dt.datetime(2026, 11, 21, 23, tzinfo=dt.UTC).timestamp()


def test_text_is_what_amiga_would_write():
    assert Times(MADRID).text(1_795_000_000.25) == "2026-11-18T12:06:40.250000"


def test_the_cache_of_minutes_is_bounded():
    times = Times(dt.UTC)
    start = dt.datetime(2026, 1, 1)  # noqa: DTZ001 - naive on purpose
    for minute in range(25_000):
        times.parse((start + dt.timedelta(minutes=minute)).isoformat())
    assert len(times._minutes) <= 20_000


def test_an_unknown_zone_is_refused():
    assert zone_named(None) is None
    with pytest.raises(zoneinfo.ZoneInfoNotFoundError):
        zone_named("Mars/Olympus")


def test_a_repeated_hour_is_its_second_occurrence_for_what_was_written_after_the_first():
    times = Times(MADRID)
    first = dt.datetime(2026, 10, 25, 0, 30, tzinfo=dt.UTC).timestamp()
    for text in ("2026-10-25T02:30:00", "2026-10-25T02:30:00.000000"):
        assert times.parse(text, first - 600) == first
        assert times.parse(text, first + 30) == first
        assert times.parse(text, first + 90) == first + 3600
        assert times.parse(text, first + 3640) == first + 3600
        assert times.parse(text, first + 7200) == first  # neither: not written in that order
        assert times.parse(text) == first
    assert times.parse("2026-10-25T04:30:00", first + 90_000) == first + 3 * 3600
    assert (
        times.parse("2026-03-29T02:30:00", first)
        == dt.datetime(2026, 3, 29, 1, 30, tzinfo=dt.UTC).timestamp()
    )
