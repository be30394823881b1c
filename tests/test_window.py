"""Window: positions that count changes, states kept as bases, and updates made once."""

from __future__ import annotations

import json
import tracemalloc

import jsonpatch
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amiga_ws import window as window_room
from amiga_ws.patch import Operation
from amiga_ws.snapshot import (
    Activity,
    Overview,
    OverviewTasks,
    Snapshot,
    Source,
    System,
)
from amiga_ws.window import AS_OF_STEP_S, MAX_BASES, MAX_BASES_BYTES, NOTHING_SENT, Window

NOW = 1_800_000_000.0


def snapshot(total=1, *, as_of=NOW, state="ok", text="", hours=24):
    return Snapshot(
        hours=hours,
        instance="test",
        overview=Overview(tasks=OverviewTasks(total=total), system=System(cpu_percent=1.0)),
        activity=[Activity(timestamp=NOW, kind="tool", description=text)],
        sources={"host": Source(state=state, as_of=as_of)},
    )


@pytest.fixture
def window():
    return Window(24, "e1")


def sent(message):
    return json.loads(message.data)


# -- positions -----------------------------------------------------------------------------------


def test_position_counts_changes_and_nothing_else(window):
    seen = []
    for total in (1, 1, 2, 2, 2, 1):
        state = window.advance(snapshot(total), NOW)
        seen.append((state.snapshot.position, state is window.newest))
    assert [position for position, _ in seen] == [
        "e1.24.1",
        "e1.24.1",
        "e1.24.2",
        "e1.24.2",
        "e1.24.2",
        "e1.24.3",
    ]
    assert all(newest for _, newest in seen)


def test_state_carries_its_stamp_inside_and_out(window):
    state = window.advance(snapshot(), NOW + 5)
    assert (sent(state.message)["position"], sent(state.message)["timestamp"]) == ("e1.24.1", NOW + 5)
    assert state.message.position == "e1.24.1"
    assert state.message.event == "metrics_update"


def test_timestamp_is_of_the_change(window):
    window.advance(snapshot(), NOW)
    assert window.advance(snapshot(), NOW + 99).snapshot.timestamp == NOW


def test_position_before_any_state_is_none(window):
    assert window.position_at(NOTHING_SENT) is None
    assert window.newest is None


def test_window_made_again_goes_on_counting():
    assert Window(24, "e1", after=7).advance(snapshot(), NOW).snapshot.position == "e1.24.8"


def test_every_state_is_encoded_once(window):
    state = window.advance(snapshot(), NOW)
    assert window.advance(snapshot(), NOW + 1).message is state.message


# -- as_of ---------------------------------------------------------------------------------------


def as_of(window):
    return window.newest.snapshot.sources["host"].as_of


def test_look_at_a_source_is_no_change(window):
    window.advance(snapshot(as_of=NOW), NOW)
    assert window.advance(snapshot(as_of=NOW + 500), NOW).seq == 1


def test_as_of_moves_in_steps_with_other_changes(window):
    window.advance(snapshot(1, as_of=NOW), NOW)
    window.advance(snapshot(2, as_of=NOW + AS_OF_STEP_S - 1), NOW)
    assert as_of(window) == NOW
    window.advance(snapshot(3, as_of=NOW + AS_OF_STEP_S), NOW)
    assert as_of(window) == NOW + AS_OF_STEP_S


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"state": "ok"}, {"state": "stale", "as_of": NOW + 1}),
        ({"as_of": None}, {"as_of": NOW + 1}),
        ({}, {"as_of": None}),
        ({}, {"as_of": NOW - 1}),  # the source's clock was set back
    ],
)
def test_as_of_moves_at_once_with_what_it_is_about(window, first, then):
    window.advance(snapshot(1, **first), NOW)
    window.advance(snapshot(2, **then), NOW)
    assert as_of(window) == then["as_of"]


def test_new_source_brings_its_own_as_of(window):
    window.advance(snapshot(), NOW)
    more = msgspec.structs.replace(snapshot(2), sources={"host": Source(), "amiga": Source(as_of=NOW + 1)})
    window.advance(more, NOW)
    assert window.newest.snapshot.sources["amiga"].as_of == NOW + 1


# -- updates -------------------------------------------------------------------------------------


def test_update_is_a_patch_from_a_known_base(window):
    first = window.advance(snapshot(1), NOW)
    second = window.advance(snapshot(2), NOW + 1)
    patch = window.update_from(first.seq)
    assert patch.event == "metrics_patch"
    assert patch.position == second.snapshot.position
    assert sent(patch) == {
        "hours": 24,
        "from": "e1.24.1",
        "position": "e1.24.2",
        "timestamp": NOW + 1,
        "patch": [{"op": "add", "path": "/overview/tasks/total", "value": 2}],
    }


def test_update_is_made_once_for_all_of_a_base(window):
    first = window.advance(snapshot(1), NOW)
    window.advance(snapshot(2), NOW)
    assert window.update_from(first.seq) is window.update_from(first.seq)


def test_update_is_made_anew_after_the_next_change(window):
    first = window.advance(snapshot(1), NOW)
    window.advance(snapshot(2), NOW)
    old = window.update_from(first.seq)
    window.advance(snapshot(3), NOW)
    assert sent(window.update_from(first.seq))["patch"] != sent(old)["patch"]


@pytest.mark.parametrize("base", [NOTHING_SENT, 0, 2, 99])
def test_update_without_a_known_older_base_is_the_full_state(window, base):
    window.advance(snapshot(1), NOW)
    state = window.advance(snapshot(2), NOW)
    assert window.update_from(base) is state.message


def test_patch_that_would_not_be_smaller_is_the_full_state(window, monkeypatch):
    def long_winded(base, newest):
        return 2 * [Operation(op="replace", path="/overview", value=newest.overview)]

    monkeypatch.setattr(window_room, "diff", long_winded)
    first = window.advance(snapshot(1), NOW)
    second = window.advance(snapshot(2), NOW)
    assert window.update_from(first.seq) is second.message


# -- bases ---------------------------------------------------------------------------------------


def test_last_sixty_four_states_are_bases(window):
    for total in range(MAX_BASES + 1):
        window.advance(snapshot(total), NOW)
    assert window.update_from(1).event == "metrics_update"
    assert window.update_from(2).event == "metrics_patch"


def test_bases_have_a_cap_in_bytes_and_the_newest_is_always_kept(window):
    big = "x" * (MAX_BASES_BYTES // 4)
    for number in range(6):
        window.advance(snapshot(number, text=big + str(number)), NOW)
    kept = [seq for seq in range(1, 7) if window.find(f"e1.24.{seq}") == (seq, None)]
    assert kept == [4, 5, 6]
    window.advance(snapshot(text="y" * (MAX_BASES_BYTES + 1)), NOW)
    assert window.find("e1.24.7") == (7, None)
    assert window.find("e1.24.6") == (NOTHING_SENT, "evicted")
    window.advance(snapshot(8), NOW)
    assert window.find("e1.24.8") == (8, None)  # and there is room again afterwards
    window.advance(snapshot(9), NOW)
    assert window.update_from(8).event == "metrics_patch"


def test_a_base_keeps_nothing_of_what_was_sent(window):
    text = "x" * 16_384  # what the states share
    tracemalloc.start()
    try:
        for total in range(MAX_BASES):
            message = window.advance(snapshot(total, text=text), NOW).message
            message.websocket()
            message.sse()
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert window.find("e1.24.1") == (1, None)
    assert kept < 16 * len(text)  # the newest one's, thrice; with all of them, 192 times


@pytest.mark.parametrize(
    ("position", "why"),
    [
        ("e1.24.1", None),
        ("e2.24.1", "epoch"),
        ("E1.24.1", "epoch"),
        ("", "epoch"),
        ("e1", "window"),
        ("e1.48.1", "window"),
        ("e1.024.1", "window"),
        ("e1.24", "evicted"),
        ("e1.24.", "evicted"),
        ("e1.24.2", "evicted"),
        ("e1.24.01", "evicted"),
        ("e1.24.+1", "evicted"),
        ("e1.24.1.0", "evicted"),
        ("e1.24.\u0661", "evicted"),  # a digit one of another script
        ("e1.24.-1", "evicted"),
    ],
)
def test_position_is_found_exactly_or_the_reason_is_named(window, position, why):
    window.advance(snapshot(), NOW)
    assert window.find(position) == ((1 if why is None else NOTHING_SENT), why)


@given(st.text(max_size=40))
def test_no_position_breaks_the_search(position):
    window = Window(24, "e1")
    window.advance(snapshot(), NOW)
    seq, why = window.find(position)
    assert (seq == NOTHING_SENT) == (why is not None) == (position != "e1.24.1")


# -- the chain -----------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.text(max_size=3), st.floats(0, 60)), min_size=2, max_size=12))
def test_any_patch_leads_from_its_base_to_the_newest_state(changes):
    """Applied by somebody else's JSON Patch, without `timestamp` and `position`."""
    window, documents = Window(24, "e1"), {}
    for total, text, late_s in changes:
        state = window.advance(snapshot(total, text=text, as_of=NOW + late_s), NOW)
        documents[state.seq] = document(state)
    for seq, base in documents.items():
        update = window.update_from(seq)
        if update.event == "metrics_patch":
            assert jsonpatch.apply_patch(base, sent(update)["patch"]) == documents[window.newest.seq]
        else:
            assert update is window.newest.message


def document(state):
    found = sent(state.message)
    del found["timestamp"], found["position"]
    return found
