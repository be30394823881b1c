"""The report on an installation says what is there, what is wrong, and what follows from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from installation import CLI_SESSION, Installation
from reading import NOW, Clock
from test_collectors_amiga_costs import line

from amiga_ws.collectors.amiga import AmigaConfig, transcripts
from amiga_ws.collectors.amiga.report import lines, report
from amiga_ws.simulate import ManualClock, Simulator


@pytest.fixture
def amiga(tmp_path):
    return Installation(tmp_path / "amiga")


@pytest.fixture
def look(tmp_path):
    def look_at(root, clock=None, **options):
        config = AmigaConfig(
            root=root,
            database=root / "data" / "agentlab.db",
            sessions=root / "logs" / "sessions",
            private_dir=tmp_path / "private",
            **({"timezone": "UTC"} | options),
        )
        return report(config, clock or Clock())

    return look_at


def texts(findings, level=None):
    return "\n".join(f"{one.text} | {one.meaning}" for one in findings if level in (None, one.level))


def with_hooks(amiga, command="$CLAUDE_PROJECT_DIR/hooks/run"):
    (amiga.root / "hooks").mkdir(exist_ok=True)
    (amiga.root / "hooks" / "run").touch()
    hook = [{"matcher": "*", "hooks": [{"type": "command", "command": command}]}]
    (amiga.root / ".claude").mkdir(exist_ok=True)
    settings = {"hooks": {"PreToolUse": hook, "PostToolUse": hook}}
    (amiga.root / ".claude" / "settings.json").write_text(json.dumps(settings), "utf-8")


def test_a_missing_installation_is_one_bad_finding(look, tmp_path):
    findings = look(tmp_path / "none")
    assert [one.level for one in findings] == ["bad"]
    assert "no such file" in findings[0].text


def test_the_zone_in_which_times_are_read_is_told(look, amiga):
    amiga.task("aaaaaa", at=NOW - 4 * 3600)
    amiga.tool("aaaaaa", "Bash", NOW - 4 * 3600)
    told = texts(look(amiga.root, timezone="America/New_York"))
    assert "times are read as America/New_York: UTC-0" in told
    assert "ago in the future" not in texts(look(amiga.root, timezone="Pacific/Pago_Pago"))
    assert "in the future" in texts(look(amiga.root, timezone="Pacific/Pago_Pago"))
    assert "this machine's: " in texts(look(amiga.root, timezone=None))


def test_rows_that_stand_for_one_call_are_told_as_duplicates(look, tmp_path):
    clock = ManualClock(NOW)
    sim = Simulator(tmp_path / "amiga", clock=clock, rows_per_call=3)
    task = sim.start_task()
    for _ in range(4):
        sim.end_tool(sim.start_tool(task))
        clock.advance(5)
    assert "4 calls in 12 tool_usage rows, 3.0 rows a call" in texts(look(sim.root, clock, timezone=None))


def test_old_schemas_missing_tables_and_unreadable_times_are_told(look, amiga):
    amiga.db.execute("UPDATE schema_version SET version = 9")
    amiga.db.execute("DROP TABLE messages")
    amiga.db.execute("DROP TABLE agent_status")
    row = amiga.tool(CLI_SESSION, "Bash", NOW - 60, 1)
    amiga.db.execute("UPDATE tool_usage SET timestamp = timestamp || 'Z' WHERE id = ?", (row,))
    amiga.tool(CLI_SESSION, "Bash", NOW - 30, 1)
    amiga.db.execute("INSERT INTO tool_usage (timestamp, task_id, tool_name) VALUES ('soon', 'a', 'b')")
    told = texts(look(amiga.root))
    assert "version 9 (newest known: 14)" in told
    assert "messages: no such table" in told
    assert "agent_status: no such table" in told
    assert "1 times end in Z" in told
    assert "1 times cannot be read" in told
    assert "2 calls have no status row" in told


def test_rows_in_the_future_are_bad_and_name_the_setting(look, amiga):
    amiga.tool(CLI_SESSION, "Bash", NOW + 7200)
    assert "set amiga.timezone" in texts(look(amiga.root), "bad")


def test_links_that_amiga_guessed_wrong_are_counted(look, amiga):
    amiga.task("aaaaaa", "completed", NOW - 60, session_uuid=CLI_SESSION)
    amiga.task("bbbbbb", "failed", NOW - 60, session_uuid="gone")
    amiga.status("bbbbbb", "stopped", NOW - 50)
    amiga.hook(CLI_SESSION, "Bash", NOW - 50, task_id="bbbbbb")
    told = texts(look(amiga.root))
    assert "1 of 1 sessions name their task" in told
    assert "2 stored, 1 without a hook log, 1 of another task" in told
    assert "1 tasks were stopped and then overwritten as failed" in told


def test_broken_links_are_told_from_sessions_that_were_started_by_hand(amiga, look):
    amiga.task("aaaaaa", "completed", NOW - 500)
    amiga.tool("aaaaaa", "Bash", NOW - 400, 1)
    amiga.tool(CLI_SESSION, "Bash", NOW - 400, 1)
    amiga.hook(CLI_SESSION, "Bash", NOW - 400)
    told = texts(look(amiga.root))
    assert "not in tasks" not in told
    assert "no hook log" not in told
    amiga.tool("0ddba1", "Bash", NOW - 300, 1)
    amiga.tool("2f0b7f3e-0000-4000-8000-000000000000", "Bash", NOW - 300, 1)
    amiga.hook("another", "Bash", NOW - 300, task_id="fedcba")
    told = texts(look(amiga.root))
    assert "calls of 1 tasks that are not in tasks, one is 0ddba1" in told
    assert "1 sessions have calls and no hook log" in told
    assert "1 sessions name a task that is not in tasks" in told


def test_hooks_are_looked_for(look, amiga):
    assert "no .claude/settings.json" in texts(look(amiga.root), "warn")
    with_hooks(amiga)
    assert "PostToolUse: registered" in texts(look(amiga.root), "ok")
    with_hooks(amiga, "python3 /home/author/amiga/hooks/post.py")
    told = texts(look(amiga.root), "bad")
    assert "PostToolUse: /home/author/amiga/hooks/post.py does not exist" in told
    (amiga.root / ".claude" / "settings.json").write_text('{"hooks": {"PreToolUse": "what"}}', "utf-8")
    assert "PreToolUse: not registered" in texts(look(amiga.root), "bad")


def test_all_session_folders_are_read_also_behind_many_in_which_there_is_nothing(look, amiga):
    amiga.task("aaaaaa", "completed", NOW - 60)
    amiga.hook(CLI_SESSION, "Bash", NOW - 50, task_id="aaaaaa")
    os.utime(amiga.sessions / CLI_SESSION, (NOW - 50, NOW - 50))
    for number in range(60):  # as many as are read at once, and the newest first
        (amiga.sessions / f"s{number}").mkdir()
    told = texts(look(amiga.root))
    assert "1 of 61 sessions name their task" in told
    assert "loading" not in told


def test_half_a_line_and_bad_lines_are_counted_not_fatal(look, amiga):
    amiga.hook(CLI_SESSION, "Bash", NOW)
    with (amiga.sessions / CLI_SESSION / "pre_tool_use.jsonl").open("a") as file:
        file.write("rubbish\n{half")
    assert "1 lines could not be read" in texts(look(amiga.root))


def test_what_needs_the_owner_is_in_the_report(look, amiga):
    amiga.task("aaaaaa", at=NOW - 1200, pid=2**22 + 5)
    assert "dead_process: aaaaaa" in texts(look(amiga.root), "bad")


def test_hook_lines_without_rows_are_in_the_report_which_looks_but_once(look, amiga):
    amiga.hook(CLI_SESSION, "Bash", NOW - 1)
    assert "hooks_without_rows: hooks" in texts(look(amiga.root), "bad")


def test_the_report_leaves_nothing_beside_the_database(look, amiga):
    amiga.task("aaaaaa", "completed", NOW)
    amiga.close()
    look(amiga.root)
    assert amiga.files() == {"agentlab.db"}
    assert next(iter(lines(look(amiga.root)))) == "\ndatabase"


@pytest.mark.parametrize("as_json", [True, False])
def test_the_command_prints_the_report_and_tells_by_its_exit_code(amiga, tmp_path, as_json):
    amiga.task("aaaaaa", "completed", NOW)
    with_hooks(amiga)
    command = [sys.executable, "-m", "amiga_ws", "check", "--amiga", str(amiga.root), *(["--json"] * as_json)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    found = [item for item in done.stdout.splitlines() if "BAD" in item or '"level": "bad"' in item]
    assert done.returncode == (1 if found else 0)
    assert done.stderr == ""
    if as_json:
        assert {"area", "level", "text", "meaning"} == set(json.loads(done.stdout)[0])
    else:
        assert "tasks by status: completed 1" in done.stdout
    missing = [sys.executable, "-m", "amiga_ws", "check", "--amiga", str(tmp_path / "none")]
    assert subprocess.run(missing, capture_output=True, check=False).returncode == 1  # noqa: S603 - our own


def test_all_transcripts_are_read_however_many_there_are(look, amiga, tmp_path, monkeypatch):
    monkeypatch.setattr(transcripts, "FILES_PER_READING", 4)
    projects = tmp_path / "projects" / "-srv-code-app"
    projects.mkdir(parents=True)
    for place in range(10):
        (projects / f"s{place}.jsonl").write_text(line(NOW, ids=(f"m{place}", "r")), "utf-8")
    findings = texts(look(amiga.root, transcripts=projects.parent))
    assert "10 answers recorded" in findings


def test_the_command_reports_on_the_folder_it_is_given_whatever_is_configured(amiga, tmp_path):
    amiga.task("aaaaaa", "completed", NOW)
    other = Installation(tmp_path / "other")
    other.task("bbbbbb", "failed", NOW)
    config = tmp_path / "config.yaml"
    config.write_text("amiga: {database: other/data/agentlab.db, sessions: other/logs/sessions}\n", "utf-8")
    command = [sys.executable, "-m", "amiga_ws", "check", "--config", str(config), "--amiga", str(amiga.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    assert "tasks by status: completed 1" in done.stdout
    assert str(other.root) not in done.stdout
    # What is said along with it counts all the same.
    command += ["--set", f"amiga.database={other.root / 'data' / 'agentlab.db'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    assert "tasks by status: failed 1" in done.stdout
