"""The simulated AMIGA leaves on disk what the real one leaves, faults included."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from zoneinfo import ZoneInfo

import apsw
import pytest

from amiga_ws.simulate import ManualClock, Simulator, main
from amiga_ws.simulate.bulk import generate
from amiga_ws.simulate.schema import VERSIONS
from amiga_ws.simulate.spending import SYNTHETIC, Transcripts, Usage, add_usage_record

NOON = 1_795_435_200.0  # 2026-11-23T12:00:00Z
UTC = ZoneInfo("UTC")


@pytest.fixture
def clock():
    return ManualClock(NOON)


@pytest.fixture
def make(tmp_path, clock):
    made = []

    def build(**options):
        options.setdefault("zone", UTC)
        sim = Simulator(tmp_path / f"amiga{len(made)}", clock=clock, **options)
        made.append(sim)
        return sim

    yield build
    for sim in made:
        sim.close()


def rows(sim, sql, *parameters):
    return sim.con.execute(sql, parameters).fetchall()


def one_call(sim, clock, seconds=120.0, **end):
    task = sim.start_task(pid=1)
    call = sim.start_tool(task, "Bash", {"command": "make"})
    clock.advance(seconds)
    sim.end_tool(call, **end)
    return call


TOOL_ROWS = "SELECT timestamp, success FROM tool_usage ORDER BY id"
START, REPORT = "2026-11-23T12:00:00", "2026-11-23T12:00:00.100000"
END, END_REPORT = "2026-11-23T12:02:00", "2026-11-23T12:02:00.050000"


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (1, [(START, 1)]),
        (3, [(START, None), (REPORT, 1), (END_REPORT, 1)]),
        (4, [(START, None), (REPORT, None), (END, 1), (END_REPORT, 1)]),
    ],
)
def test_a_call_leaves_the_rows_of_its_mode(make, clock, mode, expected):
    sim = make(rows_per_call=mode)
    one_call(sim, clock)
    assert rows(sim, TOOL_ROWS) == expected
    assert rows(sim, "SELECT timestamp, message, metadata FROM agent_status WHERE status = 'tool_call'") == [
        (END, "Bash completed", '{"tool": "Bash", "success": true}')
    ]


@pytest.mark.parametrize("mode", [1, 3, 4])
def test_rows_tell_the_number_of_calls_by_counting_endings_and_open_starts(make, clock, mode):
    sim = make(rows_per_call=mode)
    task = sim.start_task()
    for number in range(7):
        call = sim.start_tool(task, "Read", {"file_path": f"/{number}"})
        clock.advance(9)
        if number != 6:
            sim.end_tool(call)
    endings = rows(sim, "SELECT count(*) FROM agent_status WHERE status = 'tool_call'")[0][0]
    finished = rows(sim, "SELECT count(*) FROM tool_usage WHERE success IS NOT NULL")[0][0]
    starts = {stamp[:19] for (stamp,) in rows(sim, "SELECT timestamp FROM tool_usage WHERE success IS NULL")}
    assert endings + max(0, len(starts) - max(0, finished - endings)) == len(sim.calls) == 7


def test_parallel_calls_of_one_tool_complete_the_newest_open_row(make, clock):
    sim = make(rows_per_call=1)
    task = sim.start_task()
    first = sim.start_tool(task, "Read", {"file_path": "/a"})
    clock.advance(1)
    sim.start_tool(task, "Read", {"file_path": "/b"})
    clock.advance(1)
    sim.end_tool(first)
    assert rows(sim, "SELECT parameters, success FROM tool_usage ORDER BY id") == [
        ('{"file_path": "/a"}', None),
        ('{"file_path": "/b"}', 1),
    ]
    assert [call.ended for call in sim.calls] == [NOON + 2, None]


def test_the_truth_keeps_what_happened(make, clock):
    sim = make()
    call = one_call(sim, clock, ok=False, error="fatal: not a git repository")
    assert (call.started, call.ended, call.ok, call.tool) == (NOON, NOON + 120, False, "Bash")
    assert rows(sim, "SELECT DISTINCT error, error_category FROM tool_usage WHERE success = 0") == [
        ("fatal: not a git repository", "git_error")
    ]


def test_a_failed_call_is_told_in_every_finished_row(make, clock):
    sim = make(rows_per_call=4)
    one_call(sim, clock, ok=False)
    assert rows(sim, "SELECT count(*) FROM tool_usage WHERE success = 0 AND error IS NOT NULL") == [(2,)]


def test_task_tokens_are_in_one_row_and_the_phase_number_counts_rows(make, clock):
    sim = make()
    task = sim.start_task()
    for _ in range(2):
        call = sim.start_tool(task, "Task", {"subagent_type": "git-merge"})
        clock.advance(5)
        sim.end_tool(call, tokens=(1000, 50))
    assert rows(sim, "SELECT count(*), sum(input_tokens), sum(output_tokens) FROM tool_usage") == [
        (6, 2000, 100)
    ]
    assert rows(sim, "SELECT current_phase, phase_number, last_agent_type FROM tasks") == [
        ("git-merge", 5, "git-merge")
    ]


def test_a_stopped_task_is_overwritten_as_failed_while_the_truth_says_stopped(make, clock):
    sim = make()
    task = sim.start_task()
    clock.advance(3)
    sim.stop_task(task, then_fails=True)
    assert task.status == "stopped"
    assert rows(sim, "SELECT status, updated_at FROM tasks") == [("failed", "2026-11-23T12:00:03.009000")]
    pair = rows(sim, "SELECT status, timestamp FROM agent_status WHERE status != 'started' ORDER BY id")
    assert pair == [("stopped", "2026-11-23T12:00:03"), ("failed", "2026-11-23T12:00:03.009000")]


def test_the_monitors_own_failures_leave_no_status_row(make):
    sim = make()
    sim.fail_task(sim.start_task(pid=7), "[dead_process] Process 7 no longer running (dead/killed)")
    sim.fail_task(sim.start_task(pid=8))
    assert rows(sim, "SELECT count(*) FROM agent_status WHERE status = 'failed'") == [(1,)]


def test_a_session_started_by_hand_is_keyed_by_its_uuid(make, clock):
    sim = make()
    session = sim.new_uuid()
    sim.start_tool(session, "Grep", {"pattern": "x"})
    assert rows(sim, "SELECT DISTINCT task_id FROM tool_usage") == [(session,)]
    line = json.loads(sim.hook_log(session).read_text())
    assert (line["task_id"], line["session_uuid"]) == (None, session)
    assert line["timestamp"] == "2026-11-23T12:00:00Z"


def test_the_hook_line_has_everything_and_the_row_is_redacted_and_cut(make):
    sim = make(rows_per_call=1)
    parameters = {"content": "x" * 600, "api_key": "k-1", "nested": {"password": "p"}}
    call = sim.start_tool(sim.start_task(), "Write", parameters)
    assert json.loads(sim.hook_log(call.session).read_text())["parameters"] == parameters
    (kept,) = rows(sim, "SELECT parameters FROM tool_usage")[0]
    assert json.loads(kept) == {
        "content": "x" * 500 + "...",
        "api_key": "<redacted>",
        "nested": {"password": "p"},
    }


def test_hooks_that_find_no_database_leave_lines_and_no_rows(make, clock):
    sim = make(hook_only=True)
    call = one_call(sim, clock)
    assert not call.recorded
    assert rows(sim, "SELECT count(*) FROM tool_usage") == [(0,)]
    assert sim.hook_log(call.session).read_text().count("\n") == 1


def test_a_half_written_line_is_completed_later(make):
    sim = make()
    session = sim.new_uuid()
    sim.start_tool(session, "Read", {"file_path": "/a"}, half_line=True)
    text = sim.hook_log(session).read_text()
    assert text
    assert not text.endswith("\n")
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)
    sim.finish_hook_line(session)
    assert json.loads(sim.hook_log(session).read_text())["tool"] == "Read"


@pytest.mark.parametrize("version", VERSIONS)
def test_every_schema_version_takes_the_same_play(make, clock, version):
    sim = make(schema=version)
    one_call(sim, clock)
    sim.complete_task(next(iter(sim.tasks.values())))
    sim.add_message("assistant", "Done.", tokens=(10, 2))
    assert rows(sim, "SELECT version FROM schema_version") == [(version,)]
    assert rows(sim, "SELECT count(*) FROM tool_usage") == [(3,)]
    assert rows(sim, "SELECT status, session_uuid IS NOT NULL FROM tasks") == [("completed", 1)]


SINCE = {
    ("tasks", "workflow"): 3,
    ("tasks", "context"): 4,
    ("tool_usage", "error_category"): 5,
    ("tool_usage", "screenshot_path"): 6,
    ("tasks", "session_uuid"): 9,
    ("tool_usage", "cache_read_tokens"): 10,
    ("tasks", "phase_number"): 11,
    ("tasks", "last_agent_type"): 14,
}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_column_is_there_from_its_version_on(make, version):
    sim = make(schema=version, session_uuid_from_start=False)
    for (table, column), since in SINCE.items():
        names = [name for (name,) in rows(sim, "SELECT name FROM pragma_table_info(?)", table)]
        assert (column in names) == (version >= since)


def test_a_migrated_file_keeps_both_version_rows_and_the_fresh_files_columns(make, clock):
    old, fresh = make(schema=10), make()
    old.migrate(14, clock())
    assert rows(old, "SELECT version FROM schema_version ORDER BY 1") == [(10,), (14,)]
    for table in ("tasks", "tool_usage", "agent_status", "messages"):
        info = 'SELECT name, type, "notnull", dflt_value, pk FROM pragma_table_info(?)'
        assert rows(old, info, table) == rows(fresh, info, table)


def test_times_are_the_hosts_local_time_without_zone(make):
    sim = make(zone=ZoneInfo("America/New_York"))
    sim.start_tool(sim.start_task())
    assert rows(sim, "SELECT created_at FROM tasks") == [("2026-11-23T07:00:00",)]


def test_an_hour_repeats_when_clocks_go_back(make, clock):
    sim = make(zone=ZoneInfo("Europe/Madrid"), rows_per_call=1)
    task = sim.start_task()
    for utc in (1_792_887_300.0, 1_792_890_900.0):  # 2026-10-25 00:15 and 01:15 UTC
        clock.now = utc
        sim.start_tool(task)
    assert [stamp for (stamp,) in rows(sim, "SELECT timestamp FROM tool_usage")] == [
        "2026-10-25T02:15:00"
    ] * 2


def test_old_rows_are_utc_with_z_and_a_table_may_mix(make, clock):
    sim = make(zone=ZoneInfo("Asia/Tokyo"), stamps="mixed", rows_per_call=1)
    task = sim.start_task()
    for _ in range(20):
        sim.start_tool(task)
    found = {stamp for (stamp,) in rows(sim, "SELECT timestamp FROM tool_usage")}
    assert found == {"2026-11-23T12:00:00Z", "2026-11-23T21:00:00"}
    sim.stamps = "space"
    sim.start_tool(task)
    assert rows(sim, "SELECT max(id), timestamp FROM tool_usage")[0][1] == "2026-11-23 21:00:00"


def test_unknown_statuses_and_text_users_are_stored_as_they_are(make):
    sim = make()
    task = sim.start_task(user_id="7b0c5d0e-43a0-4b6f-9a57-1f0d2c9b7e11")
    sim.set_status(task, "in_progress")
    assert rows(sim, "SELECT typeof(user_id), status FROM tasks") == [("text", "in_progress")]


def test_a_killed_amiga_leaves_everything_in_the_wal(make):
    sim = make(wal_only=True)
    sim.start_task(task_id="abc123")
    sim.kill()
    assert sim.database.stat().st_size == 4096
    assert sim.database.with_name("agentlab.db-wal").stat().st_size > 4096
    assert sim.database.with_name("agentlab.db-shm").exists()
    sim.open(NOON)
    assert rows(sim, "SELECT task_id FROM tasks") == [("abc123",)]


def test_killing_is_harmless_while_a_reader_looks_on(make):
    sim = make(wal_only=True)
    sim.start_task(task_id="abc123")
    with closing(apsw.Connection(str(sim.database), flags=apsw.SQLITE_OPEN_READONLY)) as reader:
        assert reader.execute("SELECT count(*) FROM tasks").fetchone() == (1,)
        sim.kill()
        sim.open(NOON)
        sim.start_task()
        assert reader.execute("SELECT count(*) FROM tasks").fetchone() == (2,)


def test_closing_in_good_order_leaves_the_database_alone(make):
    sim = make()
    sim.start_task()
    sim.close()
    assert sorted(path.name for path in sim.database.parent.iterdir()) == ["agentlab.db"]


def test_a_swapped_database_is_another_file_and_starts_anew(make, clock):
    sim = make()
    one_call(sim, clock)
    inode = sim.database.stat().st_ino
    held = sim.database.open("rb")  # keeps the old inode from being given out again
    with held:
        sim.swap_database()
        assert sim.database.stat().st_ino != inode
    assert rows(sim, "SELECT count(*) FROM tool_usage") == [(0,)]
    assert sim.calls == []


def test_a_restart_stops_what_ran_and_leaves_what_waited(make):
    sim = make()
    ran, waited = sim.start_task(), sim.queue_task()
    sim.restart(killed=True)
    assert rows(sim, "SELECT task_id, status, error FROM tasks ORDER BY rowid") == [
        (ran.task_id, "stopped", "Task stopped due to bot restart"),
        (waited.task_id, "pending", None),
    ]
    assert ran.status == "stopped"


def test_a_batch_that_fails_leaves_no_row(make):
    sim = make()
    sim.queue_task(task_id="aaaaaa")

    def collide():
        with sim.batch():
            sim.queue_task(task_id="bbbbbb")
            sim.queue_task(task_id="aaaaaa")

    with pytest.raises(apsw.ConstraintError):
        collide()
    assert rows(sim, "SELECT task_id FROM tasks") == [("aaaaaa",)]


def test_chat_lines_are_messages_and_sessions_json(make):
    sim = make()
    sim.add_message("user", "hello", user_id=5)
    sim.add_message("assistant", "hi", user_id=5, tokens=(100, 7), model="claude-haiku-4-5")
    assert rows(sim, "SELECT role, tokens_input, tokens_output FROM messages ORDER BY id") == [
        ("user", None, None),
        ("assistant", 100, 7),
    ]
    chats = json.loads((sim.root / "data" / "sessions.json").read_text())
    assert [entry["content"] for entry in chats["5:default"]["history"]] == ["hello", "hi"]


def test_an_installation_can_lie_below_a_name_that_is_no_text(tmp_path):
    sim = Simulator(tmp_path / "b\udcfcro")
    sim.start_task(task_id="abc123")
    assert rows(sim, "SELECT task_id FROM tasks") == [("abc123",)]
    assert sim.database.exists()
    sim.close()


def test_equal_seeds_make_equal_files(make, clock):
    one, two, other = make(seed=3), make(seed=3), make(seed=4)
    for sim in (one, two, other):
        sim.start_tool(sim.start_task(pid=5))
    tables = [name for (name,) in rows(one, "SELECT name FROM sqlite_master WHERE type = 'table'")]
    dump = [[rows(sim, f"SELECT * FROM {name}") for name in tables] for sim in (one, two, other)]  # noqa: S608 - AMIGA's tables
    assert dump[0] == dump[1]
    assert dump[0] != dump[2]


def test_a_lost_shm_leaves_the_wal_alone(make):
    sim = make(wal_only=True)
    sim.start_task(task_id="abc123")
    sim.kill(keep_shm=False)
    assert sorted(path.name for path in sim.database.parent.iterdir()) == ["agentlab.db", "agentlab.db-wal"]
    sim.open(NOON)
    assert rows(sim, "SELECT task_id FROM tasks") == [("abc123",)]


def test_rows_and_lines_may_carry_the_session_where_the_task_is_not_known(make):
    sim = make()
    task = sim.start_task()
    sim.start_tool(task, "Read", {"file_path": "/a"}, by_session=True)
    assert rows(sim, "SELECT DISTINCT task_id FROM tool_usage") == [(task.session,)]
    assert json.loads(sim.hook_log(task.session).read_text())["task_id"] is None


def test_the_stored_session_of_a_task_may_be_another_tasks(make):
    sim = make()
    one = sim.start_task()
    two = sim.start_task(stored_session=one.session)
    assert rows(sim, "SELECT DISTINCT session_uuid FROM tasks") == [(one.session,)]
    assert two.session != one.session


def test_an_answer_is_one_in_truth_and_several_lines_in_the_transcript(tmp_path):
    transcripts = Transcripts(tmp_path, random.Random(1))
    usage = Usage(10, 20, cache_write_5m=300, cache_write_1h=50, cache_read=4_000)
    answer = transcripts.add("s-1", "claude-sonnet-4-5", usage, at=NOON, lines=3)
    transcripts.repeat(answer)
    transcripts.add("s-1", SYNTHETIC, Usage(0, 0), at=NOON, subagent="a1")
    lines = [json.loads(line) for line in transcripts.path("s-1").read_text().splitlines()]
    assert len(lines) == 4
    assert {(line["message"]["id"], line["requestId"]) for line in lines} == {
        (answer.message_id, answer.request_id)
    }
    assert lines[0]["message"]["usage"]["cache_creation_input_tokens"] == 350
    assert transcripts.path("s-1", "a1").parent == tmp_path / "-srv-code" / "s-1" / "subagents"
    assert len(transcripts.answers) == 2


def test_old_usage_records_add_up_by_user(make):
    sim = make()
    for cost in (0.5, 0.25):
        add_usage_record(sim, 5, "haiku", (1000, 10), cost, at=NOON)
    (entry,) = json.loads((sim.root / "data" / "usage.json").read_text()).values()
    assert (entry["total_requests"], entry["total_cost"], len(entry["records"])) == (2, 0.75, 2)
    assert entry["records"][0]["timestamp"] == "2026-11-23T12:00:00"


# -- large installations -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [1, 3, 4])
def test_a_bulk_installation_has_the_rows_of_its_mode(tmp_path, mode):
    made = generate(tmp_path, 6_000, now=NOON, rows_per_call=mode, hook_logs=50, zone=UTC)
    assert made.calls == 6_000 // mode
    assert query(tmp_path, "SELECT count(*) FROM tool_usage") == [(made.tool_rows,)] == [(6_000,)]
    ended = "SELECT count(*) FROM agent_status WHERE status = 'tool_call'"
    assert query(tmp_path, ended) == [(made.calls,)]
    failed = "SELECT count(*) FROM agent_status WHERE metadata LIKE '%\"success\": false%'"
    assert query(tmp_path, failed) == [(made.failed_calls,)]
    finished = query(tmp_path, "SELECT count(*) FROM tool_usage WHERE success IS NOT NULL")[0][0]
    assert finished == made.calls * {1: 1, 3: 2, 4: 2}[mode]
    assert query(tmp_path, "SELECT count(*) FROM tasks") == [(made.tasks,)]


def test_a_bulk_installation_is_whole_and_can_be_played_on(tmp_path, clock):
    made = generate(tmp_path, 3_000, now=NOON, hook_logs=100, zone=UTC)
    logs = list((tmp_path / "logs" / "sessions").iterdir())
    assert len(logs) == made.hook_logs == 100
    for log in logs:
        for line in (log / "pre_tool_use.jsonl").read_text().splitlines():
            assert json.loads(line)["session_uuid"] == log.name
    sim = Simulator(tmp_path, clock=clock, zone=UTC)
    fresh = Simulator(tmp_path / "fresh", clock=clock)
    indexes = "SELECT name, sql FROM sqlite_master WHERE type = 'index' ORDER BY 1"
    assert rows(sim, indexes) == rows(fresh, indexes)
    newest = rows(sim, "SELECT max(timestamp) FROM tool_usage")[0][0]
    assert "2026-11-23T11:00" < newest <= "2026-11-23T12:00:00.050000"
    sim.start_tool(sim.start_task())
    assert rows(sim, "SELECT max(id) FROM tool_usage") == [(made.tool_rows + 2,)]
    sim.close()
    fresh.close()


# -- the demonstration ---------------------------------------------------------------------------------------


def play(root: Path, *options: str) -> subprocess.Popen[str]:
    """Start the play as a process and wait until it is ready."""
    code = "import sys; from amiga_ws.simulate import main; sys.exit(main(sys.argv[1:]))"
    child = subprocess.Popen(  # noqa: S603 - our own interpreter and code
        [sys.executable, "-c", code, str(root), *options],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    assert "is running in" in child.stderr.readline()
    return child


def end(child: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, str]:
    child.send_signal(number)
    _, text = child.communicate(timeout=10)
    return child.returncode, text


def query(root: Path, sql: str) -> list[tuple]:
    with closing(apsw.Connection(f"{root}/data/agentlab.db", flags=apsw.SQLITE_OPEN_READONLY)) as con:
        return con.execute(sql).fetchall()


def wait_until(root: Path, sql: str, child: subprocess.Popen[str]) -> None:
    """Return when the query answers something other than 0; the test's own timeout ends it otherwise."""
    while not query(root, sql)[0][0]:
        assert child.poll() is None


def test_the_play_moves_by_itself_and_ends_on_sigterm_with_its_children(tmp_path):
    child = play(tmp_path, "--backfill", "0", "--speed", "40")
    try:
        wait_until(tmp_path, "SELECT count(*) FROM tasks WHERE status = 'completed'", child)
        wait_until(tmp_path, "SELECT count(*) FROM tool_usage WHERE length(task_id) = 36", child)
        wait_until(tmp_path, "SELECT count(*) FROM messages WHERE tokens_input > 0", child)
        running = "FROM tasks WHERE status = 'running' AND pid IS NOT NULL"
        wait_until(tmp_path, f"SELECT count(*) {running}", child)
        pids = [pid for (pid,) in query(tmp_path, f"SELECT pid {running}")]
        assert pids
    finally:
        assert end(child) == (0, "")
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert query(tmp_path, "SELECT count(*) FROM tasks WHERE status = 'running'") == [(0,)]


def test_a_play_that_was_killed_is_continued_without_a_second_history(tmp_path):
    child = play(tmp_path, "--backfill", "2", "--speed", "20", "--seed", "1")
    wait_until(tmp_path, "SELECT count(*) FROM tasks WHERE status = 'running'", child)
    end(child, signal.SIGKILL)
    known = query(tmp_path, "SELECT count(*) FROM tasks")[0][0]
    running = query(tmp_path, "SELECT task_id FROM tasks WHERE status = 'running'")
    child = play(tmp_path, "--backfill", "2", "--seed", "1")
    try:
        after = dict(query(tmp_path, "SELECT task_id, error FROM tasks"))
        assert {after[task_id] for (task_id,) in running} == {"Task stopped due to bot restart"}
        assert known <= len(after) < known + 10
    finally:
        assert end(child, signal.SIGINT) == (0, "")


def test_two_plays_in_one_folder_are_refused(tmp_path, capsys):
    child = play(tmp_path, "--backfill", "0", "--no-processes")
    try:
        assert main([str(tmp_path)]) == 2
        assert "another simulator plays" in capsys.readouterr().err
    finally:
        end(child)


def test_a_real_amiga_is_never_written_to(tmp_path, capsys):
    database = tmp_path / "data" / "agentlab.db"
    database.parent.mkdir()
    database.write_bytes(b"")
    assert main([str(tmp_path)]) == 2
    assert "not made by us" in capsys.readouterr().err
    assert database.read_bytes() == b""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
