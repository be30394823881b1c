"""Minute buckets with hour roll-ups answer as if every event were counted anew."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amiga_ws.collectors.amiga.windows import Buckets, Histograms, duration_class, percentiles, window_start

BASE = 29_916_000
EVENTS = st.lists(st.tuples(st.integers(0, 60 * 180), st.integers(0, 3), st.integers(-1, 3)), max_size=60)


@given(EVENTS, EVENTS, st.integers(0, 60 * 181))
def test_a_window_is_the_sum_of_its_events_also_after_late_ones(first, later, start):
    buckets = Buckets()
    total: Counter[int] = Counter()
    for events in (first, later):
        for minute, key, amount in events:
            buckets.add(BASE + minute, key, amount)
            if minute >= start:
                total[key] += amount
        found = buckets.since(BASE + start)
        assert {key: n for key, n in found.items() if n} == {key: n for key, n in total.items() if n}


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(-3, 70), st.integers(1, 4)), max_size=40))
def test_a_window_asked_for_at_every_step_follows_time_and_late_events(steps):
    buckets, histograms = Buckets(), Histograms()
    events: list[tuple[int, int]] = []
    now = BASE
    for forward, back, hours in steps:
        now += forward
        minute = now - back
        buckets.add(minute, 1)
        histograms.add(minute, 1, 1.0)
        events.append((minute, 1))
        for start in (now - hours * 60, now - 24 * 60):
            expected = sum(one >= start for one, _ in events)
            assert buckets.since(start).get(1, 0) == expected
            packed = histograms.since(start).get(1, 0)
            assert packed >> (32 * duration_class(1.0)) == expected


@given(st.lists(st.floats(0.001, 40_000.0), min_size=1, max_size=200))
def test_percentiles_are_within_two_percent(seconds):
    histograms = Histograms()
    for place, one in enumerate(seconds):
        histograms.add(BASE + place * 7, 5, one)
    found = percentiles(histograms.since(BASE)[5], (0.5, 0.95))
    ordered = sorted(seconds)
    for share, value in zip((0.5, 0.95), found, strict=True):
        exact = ordered[max(1, math.ceil(share * len(ordered))) - 1] * 1000
        assert value == pytest.approx(exact, rel=0.026)  # 2 % and the rounding to three digits


def test_a_duration_is_never_negative():
    assert duration_class(-5.0) == duration_class(0.0) == 0
    histograms = Histograms()
    histograms.add(BASE, 0, -3600.0)
    assert percentiles(histograms.since(BASE)[0], (0.5,)) == (1.0,)


def test_no_durations_have_no_percentiles():
    assert percentiles(0, (0.5, 0.95)) == (None, None)


def test_pruning_forgets_what_no_window_reaches_and_nothing_else():
    buckets, histograms = Buckets(), Histograms()
    for minute in range(0, 60 * 400, 30):
        buckets.add(BASE + minute, 0)
        histograms.add(BASE + minute, 0, 1.0)
    now = BASE + 60 * 400
    before = buckets.since(now - 168 * 60)
    buckets.prune(now)
    histograms.prune(now)
    assert buckets.since(now - 168 * 60) == before == {0: 336}
    assert len(buckets._minutes) < 170 * 2 + 2
    assert len(histograms._minutes) < 170 * 2 + 2


def test_windows_start_on_a_minute():
    assert window_start(1_795_000_059.9, 1) == window_start(1_795_000_020.0, 1)
    assert window_start(1_795_000_080.0, 1) == window_start(1_795_000_020.0, 1) + 1
