"""Whatever stands in AMIGA's tables and logs, a reading is made of it and can be sent."""

from __future__ import annotations

import json
import string

import apsw
import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from installation import Installation, local
from reading import NOW, collector_of, read

from amiga_ws.snapshot import HostFacts, compose

TIMES = st.integers(-200_000, 200_000).map(lambda ago: local(NOW - ago)) | st.sampled_from(
    ["2026-11-18T12:00:00Z", "0000-00-00T00:00:00", "9999-12-31T23:59:59.999999", "2026-11-18 12:00:00", ""]
)
WORDS = st.sampled_from(["running", "completed", "failed", "tool_call", "Bash", "claude-opus-4-1", "aaaaaa"])
TEXT = st.text(st.characters(codec="utf-8"), max_size=30) | st.sampled_from(
    ["\x1b[2J", "\u2028", "<img>", "[[["]
)
JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
CELL = (
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.binary(max_size=12)
    | TEXT
    | TIMES
    | WORDS
    | JSONISH.map(json.dumps)
)
COLUMNS = {
    "tasks": "task_id user_id description status created_at updated_at model workspace agent_type result error pid "
    "activity_log session_uuid workflow context current_phase phase_number last_agent_type",
    "tool_usage": "timestamp task_id tool_name duration_ms success error parameters error_category input_tokens "
    "output_tokens cache_creation_tokens cache_read_tokens",
    "agent_status": "timestamp task_id status message metadata",
    "messages": "user_id timestamp role content tokens_input tokens_output cache_read_tokens model",
}
SOUND = {"task_id": st.sampled_from(["aaaaaa", "bbbbbb"]), "timestamp": TIMES, "created_at": TIMES}
NEEDED = (
    "description",
    "status",
    "updated_at",
    "model",
    "workspace",
    "user_id",
    "tool_name",
    "role",
    "content",
)


@st.composite
def rows(draw):
    """(table, {column: value}): half of the columns as AMIGA would fill them, half anything."""
    table = draw(st.sampled_from(sorted(COLUMNS)))
    row = {}
    for name in COLUMNS[table].split():
        sound = SOUND.get(name, WORDS if name in NEEDED else st.none())
        row[name] = draw(sound | CELL)
    return table, row


HOOK_LINE = st.dictionaries(
    st.sampled_from(
        ["timestamp", "tool", "parameters", "status", "task_id", "session_uuid", "error", "agent"]
    ),
    JSONISH | TIMES | WORDS,
)


@given(st.lists(rows(), max_size=8), st.lists(HOOK_LINE, max_size=4), st.text(string.printable, max_size=40))
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
def test_any_rows_and_lines_make_a_snapshot(tmp_path_factory, given_rows, lines, rubbish):
    folder = tmp_path_factory.mktemp("fuzz")
    amiga = Installation(folder / "amiga")
    amiga.task("aaaaaa", "running", NOW - 60)
    amiga.tool("aaaaaa", "Read", NOW - 50, success=1)
    for table, row in given_rows:
        try:
            amiga._insert(table, row)
        except (apsw.ConstraintError, OverflowError):
            continue  # AMIGA could not have written that either
    amiga.hook("s", "Bash", NOW - 40, command="ls")
    with (amiga.sessions / "s" / "pre_tool_use.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
        file.write(rubbish)
    collector = collector_of(amiga.root, folder / "private")
    try:
        facts = read(collector)
        assert facts.sources["amiga"].state == "ok", facts.sources["amiga"]
        assert facts.totals.total >= 1
        snapshot = compose(24, "fuzz", HostFacts(sources={}), facts)
        sent = msgspec.json.encode(snapshot)
        assert msgspec.json.decode(sent, type=type(snapshot)).tasks == snapshot.tasks
        for task in snapshot.tasks:
            msgspec.json.encode(collector.task_detail(task.task_id))
    finally:
        collector.close()
        amiga.close()
