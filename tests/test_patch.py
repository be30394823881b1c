"""amiga_ws/patch.py: what `diff` finds must mean the same to us and to an independent library."""

from __future__ import annotations

import json
from datetime import timedelta

import jsonpatch
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amiga_ws import patch
from amiga_ws.snapshot import (
    Activity,
    Attention,
    Costs,
    CurrentTool,
    Disk,
    ErrorClass,
    ModelCost,
    Network,
    Overview,
    Session,
    Sessions,
    Snapshot,
    Source,
    System,
    Task,
    Tools,
)

EXAMPLES = settings(max_examples=80, deadline=timedelta(seconds=5))

# -- random snapshots -----------------------------------------------------------------------------

NAMES = st.sampled_from(["Bash", "Read", "a/b", "~", "~1", "m~0/n", "", "é", "0", "-", "__proto__"])
TEXTS = st.one_of(NAMES, st.text(max_size=12))
TIMES = st.sampled_from([1.0, 2.0, 3.5, 4.25])
MAYBE_TIME = st.none() | TIMES
COUNTS = st.none() | st.integers(0, 3)
IDS = st.sampled_from([f"task_{n}" for n in range(8)])


def rows(row, most=8, by=None):
    return st.lists(row, max_size=most, unique_by=by)


TASK = st.builds(
    Task,
    task_id=IDS,
    status=st.sampled_from(["running", "completed", "failed"]),
    description=TEXTS,
    current_tool=st.none() | st.builds(CurrentTool, name=NAMES, since=TIMES),
    tool_calls=COUNTS,
    cost=st.none() | st.sampled_from([0.0, 0.25]),
)
ACTIVITY = st.builds(
    Activity,
    timestamp=TIMES,  # few times, so that several lines share theirs
    kind=st.sampled_from(["task", "tool", "session"]),
    description=TEXTS,
    task_id=st.none() | IDS,
)
SESSION = st.builds(Session, session_id=IDS, task_id=st.none() | IDS, tools=st.integers(0, 3))
SNAPSHOT = st.builds(
    Snapshot,
    hours=st.just(24),
    instance=st.just("bot"),
    timestamp=TIMES,
    position=st.sampled_from(["e.24.1", "e.24.2"]),
    overview=st.builds(
        Overview,
        tools=st.builds(
            Tools, total_calls=COUNTS, by_type=st.dictionaries(NAMES, st.integers(0, 2), max_size=4)
        ),
        costs=st.builds(
            Costs,
            by_model=st.dictionaries(NAMES, st.builds(ModelCost, calls=st.integers(0, 2)), max_size=3),
        ),
        system=st.builds(
            System,
            cpu_percent=st.none() | st.sampled_from([1.0, 2.0]),
            per_cpu=st.lists(st.sampled_from([0.0, 50.0, 100.0]), max_size=4),
            load=st.none() | st.lists(TIMES, min_size=3, max_size=3),
            disks=rows(
                st.builds(
                    Disk,
                    mount=NAMES,
                    total=st.just(9),
                    used=st.integers(0, 2),
                    percent=st.sampled_from([0.0, 50.0]),
                ),
                3,
            ),
        ),
    ),
    tasks=rows(TASK, by=lambda task: task.task_id),
    sessions=st.builds(Sessions, active=rows(SESSION), recent=rows(SESSION)),
    activity=rows(ACTIVITY),  # not unique: two equal lines may stand there
    errors=rows(st.builds(ErrorClass, error_class=NAMES, count=st.integers(1, 3), last=MAYBE_TIME), 3),
    attention=rows(
        st.builds(
            Attention,
            kind=st.sampled_from(["stuck", "dead"]),
            severity=st.sampled_from(["warn", "crit"]),
            subject=IDS,
            since=MAYBE_TIME,
            evidence=TEXTS,
        ),
        4,
    ),
    sources=st.dictionaries(
        st.sampled_from(["host", "amiga"]), st.builds(Source, error=st.none() | TEXTS), max_size=2
    ),
)


@st.composite
def successors(draw):
    """(a snapshot, what it became): rows reordered, gone, new, changed in place, or all anew."""
    base = draw(SNAPSHOT)
    if draw(st.booleans()):
        return base, draw(SNAPSHOT)
    tasks = draw(st.permutations(base.tasks))
    if tasks and draw(st.booleans()):
        tasks[0] = msgspec.structs.replace(tasks[0], status="failed", tool_calls=draw(COUNTS))
    kept = draw(st.integers(0, len(base.activity)))
    newest = msgspec.structs.replace(
        base,
        timestamp=9.0,
        position="e.24.9",
        tasks=tasks,
        activity=[*draw(rows(ACTIVITY, 3)), *base.activity[:kept]],
    )
    return base, newest


def document(snapshot):
    """The document a patch is about: as on the wire, without the stamps."""
    found = json.loads(msgspec.json.encode(snapshot))
    return {name: value for name, value in found.items() if name not in patch.STAMPS}


def on_the_wire(operations):
    return json.loads(msgspec.json.encode(operations))


@EXAMPLES
@given(successors())
def test_a_patch_turns_one_snapshot_into_the_other_for_us_and_for_jsonpatch(pair):
    base, newest = pair
    steps = on_the_wire(patch.diff(base, newest))
    assert patch.apply(document(base), steps) == document(newest)
    assert jsonpatch.apply_patch(document(base), steps) == document(newest)


@EXAMPLES
@given(successors())
def test_applying_leaves_the_old_document_as_it_was(pair):
    base, newest = pair
    old = document(base)
    patch.apply(old, on_the_wire(patch.diff(base, newest)))
    assert old == document(base)


@EXAMPLES
@given(SNAPSHOT)
def test_equal_snapshots_need_no_patch_whatever_their_stamps(snapshot):
    assert patch.diff(snapshot, msgspec.structs.replace(snapshot, timestamp=7.0, position="x")) == []


# -- what a change costs --------------------------------------------------------------------------


def busy(lines=20, tasks=50):
    return Snapshot(
        hours=24,
        instance="bot",
        tasks=[Task(task_id=f"task_{n}", status="running", description="work " * 20) for n in range(tasks)],
        activity=[
            Activity(timestamp=1000.0 - n, kind="tool", description=f"line {n} " * 10) for n in range(lines)
        ],
    )


def size(steps):
    return len(msgspec.json.encode(steps))


def test_one_new_activity_line_costs_two_small_steps():
    base = busy()
    line = Activity(timestamp=1001.0, kind="tool", description="the new line")
    newest = msgspec.structs.replace(base, activity=[line, *base.activity[:-1]])
    steps = patch.diff(base, newest)
    assert sorted((step.op, step.path) for step in steps) == [
        ("add", "/activity/0"),
        ("remove", "/activity/19"),
    ]
    assert size(steps) < size(line) + 120


def test_a_burst_of_lines_costs_two_steps_each():
    base = busy()
    new = [Activity(timestamp=1005.0 - n, kind="tool", description=f"new {n}") for n in range(5)]
    steps = patch.diff(base, msgspec.structs.replace(base, activity=[*new, *base.activity[:-5]]))
    assert len(steps) == 10
    assert {step.op for step in steps} == {"add", "remove"}


def test_a_task_that_moves_to_the_top_takes_only_its_own_row_along():
    base = busy()
    tasks = [base.tasks[30], *base.tasks[:30], *base.tasks[31:]]
    steps = patch.diff(base, msgspec.structs.replace(base, tasks=tasks))
    assert sorted((step.op, step.path) for step in steps) == [("add", "/tasks/0"), ("remove", "/tasks/30")]


def test_a_changed_field_of_a_row_is_one_step_to_that_field():
    base = busy()
    tasks = list(base.tasks)
    tasks[7] = msgspec.structs.replace(tasks[7], tool_calls=12)
    steps = patch.diff(base, msgspec.structs.replace(base, tasks=tasks))
    assert on_the_wire(steps) == [{"op": "add", "path": "/tasks/7/tool_calls", "value": 12}]


def test_a_part_that_changes_in_most_of_its_fields_is_one_step():
    def with_traffic(received, sent):
        network = Network(rx_bytes_s=received, tx_bytes_s=sent)
        return msgspec.structs.replace(busy(), overview=Overview(system=System(network=network)))

    steps = patch.diff(with_traffic(100.0, 200.0), with_traffic(300.0, 400.0))
    assert [(step.op, step.path) for step in steps] == [("add", "/overview/system/network")]


def test_a_field_is_named_as_on_the_wire():
    base = Snapshot(hours=1, instance="bot", errors=[ErrorClass(error_class="timeout", count=1)])
    other = msgspec.structs.replace(base, errors=[ErrorClass(error_class="timeout", count=2)])
    assert on_the_wire(patch.diff(base, other)) == [{"op": "add", "path": "/errors/0/count", "value": 2}]


# -- patches that do not fit ----------------------------------------------------------------------

DOCUMENT = {"rows": [1, 2], "map": {"a": {"b": 1}}, "": "empty", "x/y": "slash", "~1": "tilde"}


@pytest.mark.parametrize(
    "step",
    [
        {"op": "replace", "path": "/none", "value": 1},
        {"op": "remove", "path": "/none"},
        {"op": "remove", "path": ""},
        {"op": "add", "path": "/none/deeper", "value": 1},
        {"op": "add", "path": "/rows/3", "value": 1},
        {"op": "replace", "path": "/rows/2", "value": 1},
        {"op": "replace", "path": "/rows/-", "value": 1},
        {"op": "replace", "path": "/rows/01", "value": 1},
        {"op": "replace", "path": "/rows/-1", "value": 1},
        {"op": "replace", "path": "/rows/\N{SUPERSCRIPT TWO}", "value": 1},
        {"op": "replace", "path": "/rows/" + "9" * 5000, "value": 1},
        {"op": "replace", "path": "/map/a/b/c", "value": 1},
        {"op": "replace", "path": "rows", "value": 1},
        {"op": "replace", "path": 7, "value": 1},
        {"op": "replace", "path": "/rows"},
        {"op": "move", "path": "/rows", "from": "/map"},
        {"op": "test", "path": "/rows", "value": [1, 2]},
        {},
    ],
)
def test_a_step_that_does_not_fit_is_refused_and_nothing_of_the_patch_counts(step):
    before = json.dumps(DOCUMENT)
    with pytest.raises(patch.PatchError):
        patch.apply(
            DOCUMENT,
            [{"op": "remove", "path": "/rows/0"}, {"op": "add", "path": "/rows/-", "value": 5}, step],
        )
    assert json.dumps(DOCUMENT) == before


@pytest.mark.parametrize(
    "step",
    [
        {"op": "add", "path": "/rows/-", "value": 3},
        {"op": "add", "path": "/rows/2", "value": 3},
        {"op": "add", "path": "/", "value": "again"},
        {"op": "replace", "path": "/x~1y", "value": None},
        {"op": "remove", "path": "/~01"},
        {"op": "add", "path": "/map/a/~0~1", "value": {}},
        {"op": "replace", "path": "", "value": {"all": "new"}},
    ],
)
def test_a_step_that_fits_means_what_it_means_to_jsonpatch(step):
    assert patch.apply(DOCUMENT, [step]) == jsonpatch.apply_patch(DOCUMENT, [step])
