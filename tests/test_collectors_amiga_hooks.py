"""Files of JSON lines that somebody else appends to, and the hook logs among them."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from installation import CLI_SESSION, Installation, local
from reading import NOW

from amiga_ws.collectors.amiga import hooks, jsonl
from amiga_ws.collectors.amiga.hooks import HookLogs
from amiga_ws.collectors.amiga.jsonl import Follower, load_object
from amiga_ws.collectors.amiga.times import Times


@pytest.fixture
def amiga(tmp_path):
    return Installation(tmp_path / "amiga")


@pytest.fixture
def logs(amiga):
    return HookLogs(amiga.sessions, Times())


@given(st.lists(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=8), max_size=3), max_size=8),
       st.lists(st.integers(1, 40), min_size=1, max_size=20))  # fmt: skip
def test_lines_come_whole_however_they_are_written_and_read(tmp_path_factory, values, cuts):
    path = tmp_path_factory.mktemp("jsonl") / "lines"
    path.touch()
    data = b"".join(json.dumps(value).encode() + b"\n" for value in values)
    follower, found, at = Follower(path, load_object), [], 0
    while at < len(data):
        step = cuts[at % len(cuts)]
        with path.open("ab") as file:
            file.write(data[at : at + step])
        at += step
        found += follower.read(limit=cuts[-1])[0]
    while follower._offset < len(data):
        found += follower.read(limit=cuts[-1])[0]
    assert found == values


def test_a_bad_line_loses_itself_alone(tmp_path):
    path = tmp_path / "lines"
    path.write_bytes(b'{"a": 1}\nnot json\n[1]\n\xff\xfe\n\n{"b": 2}\n')
    assert Follower(path, load_object).read() == ([{"a": 1}, {"b": 2}], 3, False)


def test_a_line_without_end_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 1000)
    path = tmp_path / "lines"
    path.write_bytes(b'{"a": "' + b"x" * 5000)
    follower = Follower(path, load_object)
    assert follower.read() == ([], 0, False)
    assert len(follower._rest) == 0
    with path.open("ab") as file:
        file.write(b'"}\n{"b": 2}\n')
    assert follower.read()[0] == [{"b": 2}]


def test_a_file_that_was_cut_or_replaced_is_read_from_its_start(tmp_path):
    path = tmp_path / "lines"
    path.write_text('{"a": 1}\n{"a": 2}\n')
    follower = Follower(path, load_object)
    follower.read()
    path.write_text('{"b": 1}\n')
    assert follower.read()[0] == [{"b": 1}]
    (tmp_path / "new").write_text('{"c": 1}\n{"c": 2}\n{"c": 3}\n')
    (tmp_path / "new").replace(path)
    assert len(follower.read()[0]) == 3


def test_the_newest_task_a_session_names_is_its_task(amiga, logs):
    amiga.hook(CLI_SESSION, "Read", NOW)
    logs.poll(NOW)
    assert logs.links == {}
    amiga.hook(CLI_SESSION, "Read", NOW + 1, task_id="aaaaaa")
    logs.poll(NOW)
    assert logs.links == {CLI_SESSION: "aaaaaa"}
    amiga.hook(CLI_SESSION, "Read", NOW + 2, task_id="bbbbbb")
    logs.poll(NOW)
    assert (logs.links, logs.sessions_of["bbbbbb"]) == ({CLI_SESSION: "bbbbbb"}, [CLI_SESSION])
    assert "aaaaaa" not in logs.sessions_of
    assert logs.newest == NOW + 2


def test_lines_of_every_age_of_amiga_are_understood(amiga, logs):
    folder = amiga.sessions / "not a uuid"
    folder.mkdir()
    lines = [
        {"timestamp": local(NOW) + "Z", "tool": "Bash", "status": "error", "error": "cannot parse"},
        {"timestamp": local(NOW) + "Z", "agent": "unknown", "tool": "Read", "file_paths": ["x"]},
        {"timestamp": None, "tool": 5, "task_id": {"a": 1}},
        {"timestamp": local(NOW + 5) + "Z", "tool": "Bash", "task_id": "<script>"},
    ]
    (folder / "pre_tool_use.jsonl").write_text(
        "\n".join(json.dumps(line) for line in lines) + "\n{half", "utf-8"
    )
    (amiga.sessions / "empty").mkdir()
    (amiga.sessions / "a file").write_text("x")
    logs.poll(NOW)
    session = logs.sessions["not a uuid"]
    assert (session.lines, session.bad_lines, session.last, session.task_id) == (4, 0, NOW + 5, None)
    assert "a file" not in logs.sessions


def test_of_a_long_file_the_beginning_and_the_end_are_read(amiga, logs):
    amiga.hook(CLI_SESSION, "Write", NOW, task_id="aaaaaa")
    for place in range(9):
        amiga.hook(CLI_SESSION, "Write", NOW + place, content="x" * 100_000)
    logs.poll(NOW)
    session = logs.sessions[CLI_SESSION]
    assert (session.task_id, session.last) == ("aaaaaa", NOW + 8)
    assert (session.lines, session.counted) == (10, True)


def test_lines_of_a_long_file_are_counted_a_piece_at_a_time_as_if_it_had_been_watched(
    amiga, logs, monkeypatch
):
    monkeypatch.setattr(hooks, "COUNTED_BYTES", 300_000)
    monkeypatch.setattr(hooks, "PIECE_BYTES", 70_000)
    watching = HookLogs(amiga.sessions, Times())
    for place in range(1000):
        amiga.hook(CLI_SESSION, "Write", NOW + place, content="x" * 1500)
        if place % 100 == 0:
            watching.poll(NOW)
    watching.poll(NOW)
    assert (watching.sessions[CLI_SESSION].lines, watching.sessions[CLI_SESSION].counted) == (1000, True)
    assert logs.poll(NOW)
    session = logs.sessions[CLI_SESSION]
    assert (session.counted, session.lines < 1000) == (False, True)
    amiga.hook(CLI_SESSION, "Write", NOW + 1000)
    polls = 1
    while not session.counted:
        assert logs.poll(NOW)
        polls += 1
    assert (session.lines, polls) == (1001, 5)
    assert not logs.poll(NOW)


def test_counting_ends_with_a_file_that_is_cut_or_gone(amiga, logs, monkeypatch):
    monkeypatch.setattr(hooks, "COUNTED_BYTES", 100_000)
    for name in ("cut", "gone", "whole"):
        for place in range(40):
            amiga.hook(name, "Write", NOW + place, content="x" * 10_000)
    logs.poll(NOW)
    (amiga.sessions / "gone" / "pre_tool_use.jsonl").unlink()
    os.truncate(amiga.sessions / "cut" / "pre_tool_use.jsonl", 70_000)
    for _ in range(4):
        logs.poll(NOW)
    assert all(session.counted for session in logs.sessions.values())
    assert logs.sessions["whole"].lines == 40


def test_many_sessions_are_read_a_part_at_a_time_the_newest_first(amiga, logs):
    for place in range(150):
        amiga.hook(f"s{place:03}", "Read", NOW + place)
        os.utime(amiga.sessions / f"s{place:03}", (NOW + place, NOW + place))
    logs.poll(NOW)
    assert logs.state == "loading"
    assert "s149" in logs.sessions
    assert "s000" not in logs.sessions
    for _ in range(3):
        logs.poll(NOW)
    assert (logs.state, len(logs.sessions)) == ("ok", 150)


def test_no_more_is_kept_of_sessions_than_there_is_room_for(amiga, logs, monkeypatch):
    monkeypatch.setattr(hooks, "MAX_SESSIONS", 3)
    for place in range(6):
        amiga.hook(f"s{place}", "Read", NOW + place, task_id=f"task{place}")
        logs.poll(NOW + place)
    assert list(logs.sessions) == ["s3", "s4", "s5"]
    assert set(logs.links) == logs.written == set(logs.sessions)
    assert set(logs.sessions_of) == {"task3", "task4", "task5"}


def test_a_session_that_was_quiet_for_long_is_found_again(amiga, logs):
    for place in range(30):
        amiga.hook(f"s{place:02}", "Read", NOW)
        os.utime(amiga.sessions / f"s{place:02}" / "pre_tool_use.jsonl", (NOW - 90_000, NOW - 90_000))
    for _ in range(3):
        logs.poll(NOW)
    amiga.hook("s07", "Bash", NOW + 9)
    for _ in range(10):
        logs.poll(NOW)
    assert logs.sessions["s07"].last == NOW + 9


def test_a_session_that_goes_and_comes_back_is_the_one_it_was(amiga, logs):
    folder, away = amiga.sessions / "s1", amiga.root / "away"
    amiga.hook("s1", "Read", NOW, task_id="aaaaaa")
    logs.poll(NOW)
    known = logs.sessions["s1"]
    for later in range(60, 360, 60):
        folder.rename(away)
        os.utime(amiga.sessions, (later, later))
        logs.poll(NOW + later)
        away.rename(folder)
        os.utime(amiga.sessions, (later + 1, later + 1))
        logs.poll(NOW + later + 30)
    assert logs.sessions["s1"] is known
    assert logs.sessions_of == {"aaaaaa": ["s1"]}
    assert not logs.truncated


def test_what_was_no_directory_may_become_one(amiga, logs):
    (amiga.sessions / "s1").write_text("")
    os.utime(amiga.sessions, (60, 60))
    logs.poll(NOW)
    (amiga.sessions / "s1").unlink()
    amiga.hook("s1", "Read", NOW, task_id="aaaaaa")
    os.utime(amiga.sessions, (120, 120))
    logs.poll(NOW + 60)
    assert logs.links == {"s1": "aaaaaa"}


def test_a_directory_that_comes_and_goes_is_told(tmp_path):
    logs = HookLogs(tmp_path / "sessions", Times())
    logs.poll(NOW)
    assert logs.state == "missing"
    (tmp_path / "sessions").mkdir()
    logs.poll(NOW)
    assert logs.state == "ok"
    (tmp_path / "sessions").rmdir()
    logs.poll(NOW)
    assert logs.state == "missing"
    (tmp_path / "sessions").write_text("a file")
    logs.poll(NOW)
    assert logs.state == "error"
