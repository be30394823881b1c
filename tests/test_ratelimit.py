"""Rates: what a bucket lets pass, and that a scan of addresses cannot make the table grow."""

from __future__ import annotations

from itertools import pairwise
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amiga_ws.ratelimit import BucketTable, Pace, Strikes, TokenBucket


def test_burst_passes_at_once_and_no_more():
    bucket = TokenBucket(rate=2, burst=3, now=100.0)
    assert [bucket.take(100.0) for _ in range(4)] == [0, 0, 0, 0.5]


def test_wait_it_names_is_long_enough_and_not_longer():
    bucket = TokenBucket(rate=4, burst=1, now=0.0)
    assert bucket.take(0.0) == 0
    assert bucket.take(0.0) == 0.25
    assert bucket.take(0.125) == 0.125
    assert bucket.take(0.25) == 0


def test_refusal_takes_nothing():
    bucket = TokenBucket(rate=1, burst=1, now=0.0)
    bucket.take(0.0)
    for _ in range(100):
        bucket.take(0.5)
    assert bucket.take(1.0) == 0


def test_looking_takes_nothing():
    bucket = TokenBucket(rate=1, burst=1, now=0.0)
    assert [bucket.wait_s(0.0) for _ in range(5)] == [0] * 5
    assert bucket.take(0.0) == 0
    assert bucket.wait_s(0.25) == 0.75


def test_long_silence_saves_no_more_than_the_burst():
    bucket = TokenBucket(rate=10, burst=2, now=0.0)
    assert [bucket.take(1e6) > 0 for _ in range(4)] == [False, False, True, True]


def test_clock_that_steps_back_gives_nothing_and_breaks_nothing():
    bucket = TokenBucket(rate=1, burst=1, now=100.0)
    assert bucket.take(100.0) == 0
    assert bucket.take(50.0) == 1.0
    assert bucket.take(51.0) == 0


@given(
    rate=st.floats(0.1, 100),
    burst=st.integers(1, 50),
    steps=st.lists(st.floats(0, 5), max_size=60),
)
def test_never_more_than_burst_plus_rate_times_time(rate, burst, steps):
    now, bucket, passed = 0.0, TokenBucket(rate, burst, 0.0), 0
    for step in steps:
        now += step
        passed += bucket.take(now) == 0
    assert passed <= burst + rate * now + 1e-6


def test_keys_do_not_share():
    table = BucketTable(rate=1, burst=1)
    assert table.take("a", 0.0) == 0
    assert table.take("a", 0.0) > 0
    assert table.take("b", 0.0) == 0
    assert len(table) == 2


def test_looking_at_an_unknown_key_keeps_nothing():
    table = BucketTable(rate=1, burst=1)
    assert table.wait_s("a", 0.0) == 0
    assert len(table) == 0
    table.take("a", 0.0)
    assert table.wait_s("a", 0.5) == 0.5


def test_table_forgets_who_was_unseen_for_longest():
    table = BucketTable(rate=1, burst=1, capacity=2)
    table.take("a", 0.0)
    table.take("b", 0.0)
    table.take("a", 0.0)  # seen again: now b is the oldest
    table.take("c", 0.0)
    assert len(table) == 2
    assert table.wait_s("a", 0.0) > 0
    assert table.wait_s("b", 0.0) == 0


def test_scan_of_addresses_does_not_make_the_table_grow():
    table = BucketTable(rate=1, burst=1, capacity=100)
    for address in range(10_000):
        table.take(address, 0.0)
    assert len(table) == 100


@pytest.mark.parametrize(("gap_s", "out_at"), [(0.0, 10), (3.3, 10), (3.34, None), (60.0, None)])
def test_ten_strikes_in_thirty_seconds_are_too_many(gap_s, out_at):
    strikes = Strikes(most=10, within_s=30.0)
    struck = [strikes.strike(index * gap_s) for index in range(40)]
    assert (struck.index(True) + 1 if True in struck else None) == out_at


def test_changed_limit_counts_at_once_and_for_all():
    table = BucketTable(rate=1, burst=1)
    table.take("a", 0.0)
    table.set_limit(rate=1, burst=1)
    assert table.wait_s("a", 0.0) > 0  # the same limit changes nothing
    table.set_limit(rate=2, burst=3)
    assert [table.take("a", 0.0) for _ in range(4)] == [0, 0, 0, 0.5]


def test_tokens_can_be_taken_before_they_are_there():
    bucket = TokenBucket(2, 2, 0.0)
    assert [bucket.reserve(0.0, 1, 9.0) for _ in range(5)] == [0.0, 0.0, 0.5, 1.0, 1.5]
    assert bucket.reserve(0.0, 1, 1.9) is None  # it would be 2 s, and nothing is taken
    assert bucket.reserve(0.0, 1, 2.0) == 2.0
    assert bucket.reserve(2.0, 3, 9.0) == 1.5  # two seconds have paid the debt and no more


def test_a_table_reserves_for_each_key_alone():
    table = BucketTable(rate=1, burst=1)
    assert table.reserve("a", 0.0, 1, 9.0) == 0.0
    assert table.reserve("a", 0.0, 1, 9.0) == 1.0
    assert table.reserve("b", 0.0, 1, 9.0) == 0.0


# -- Pace ----------------------------------------------------------------------------------------


def pace(rate=10, burst=30, spread_s=0.75, together=2):
    made = Pace()
    made.set_limit(rate, burst, spread_s, together)
    return made


def test_a_pace_lets_a_burst_begin_at_its_peak_and_what_comes_after_at_its_rate():
    made = pace()
    waits = [made.reserve("a", 0.0, 1, 10.0) for _ in range(60)]
    assert waits[:2] == [0.0, 0.0]
    steps = [later - earlier for earlier, later in pairwise(waits[1:])]
    assert steps[:28] == [pytest.approx(1 / 40)] * 28
    assert steps[-5:] == [pytest.approx(1 / 10)] * 5
    assert waits[-1] == pytest.approx(3.0)  # thirty more than were saved up


def test_a_pace_takes_nothing_from_who_would_wait_too_long():
    peaked = pace(burst=1000, spread_s=25)
    waits = [peaked.reserve("a", 0.0, 1, 0.5) for _ in range(200)]
    assert waits.count(None) == 200 - 22  # two at once, twenty within half a second
    assert peaked.reserve("a", 10.0, 1, 0.5) == 0.0
    drained = pace(spread_s=0.001)
    assert [drained.reserve("a", 0.0, 1, 0.5) for _ in range(100)].count(None) == 100 - 35
    assert drained.reserve("b", 0.0, 1, 0.0) == 0.0  # another key


def test_what_a_pace_gets_back_can_be_taken_again():
    made = pace(burst=4, together=4)
    assert made.reserve("a", 0.0, 4, 0.0) == 0.0
    assert made.reserve("a", 0.0, 3, 0.0) is None
    made.give_back("a", 3)
    assert made.reserve("a", 0.0, 3, 0.0) == 0.0


def test_nothing_passes_before_a_limit_is_set():
    assert BucketTable().take("a", 0.0) == inf
    assert Pace().reserve("a", 0.0, 1, 3600.0) is None
