"""Lists, details, parts and exports over REST."""

from __future__ import annotations

import csv
import gzip
import io
import re
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amiga_ws.handlers.tables import csv_table
from amiga_ws.questions import SessionPage, SystemPart, TaskDetail, TaskSort, TasksPart, ToolsPart
from amiga_ws.snapshot import Task


async def test_parts_of_the_snapshot_say_what_they_were_read_from(server):
    token = server.token()
    for path, shape in (("tools", ToolsPart), ("tasks", TasksPart), ("system", SystemPart)):
        reply = await server.ask_as(token, f"/api/metrics/{path}?hours=6")
        assert reply.status == 200, path
        part = msgspec.json.decode(reply.body, type=shape)
        assert part.source.state == "ok"
        assert getattr(part, "hours", 6) == 6
    assert (await server.ask_as(token, "/api/metrics/tasks")).json["tasks"]["total"] == 7


async def test_a_task_in_full_and_one_that_is_not_there(server):
    token = server.token()
    reply = await server.ask_as(token, "/api/tasks/task_1")
    assert reply.status == 200
    found = msgspec.json.decode(reply.body, type=TaskDetail)
    assert (found.task.task_id, found.work.total) == ("task_1", 1)
    for path in ("/api/tasks/nobody", f"/api/tasks/{'x' * 201}", "/api/tasks/%00", "/api/sessions/nobody"):
        missing = await server.ask_as(token, path)
        assert (missing.status, set(missing.json)) == (404, {"error", "code", "ref"}), path
    for path in ("/api/tasks/", "/api/tasks/a/b", "/api/tasks/%ff"):
        assert (await server.ask_as(token, path)).status in (400, 404), path


async def test_sessions_are_asked_for_as_the_query_says(server):
    reply = await server.ask_as(
        server.token(), "/api/sessions?state=active&kind=cli&search=f5&page=2&page_size=500"
    )
    page = msgspec.json.decode(reply.body, type=SessionPage)
    assert (page.total, page.page, page.page_size) == (1, 2, 100)
    (asked,) = server.amiga.queries
    assert (asked.state, asked.kind, asked.search) == ("active", "cli", "f5")
    for query in ("?state=asleep", "?kind=7", f"?search={'x' * 201}"):
        assert (await server.ask_as(server.token(), f"/api/sessions{query}")).status == 400


async def test_what_a_word_may_be_is_told_to_its_end(server):
    reply = await server.ask_as(server.token(), "/api/tasks?sort=foo")
    allowed = sorted(get_args(TaskSort))
    assert (reply.status, reply.json["error"]) == (400, f"sort is one of {', '.join(allowed)}")


async def test_csv_has_the_tasks_of_the_filter_and_nothing_a_spreadsheet_would_run(server):
    server.amiga.tasks = [
        Task(task_id="a1", status="failed", description='=HYPERLINK("http://evil.example")', cost=-1.5),
        Task(task_id="a2", status="failed", description="a, b\r\nand “c”", created_at=1_795_000_000.0),
    ]
    reply = await server.ask_as(server.token(), "/api/export/tasks?status=failed&search=a&sort=-cost")
    assert reply.status == 200
    assert reply.header("Content-Type") == "text/csv; charset=utf-8; header=present"
    assert re.fullmatch(
        r'attachment; filename="amiga-tasks-\d{8}T\d{6}Z\.csv"', reply.header("Content-Disposition")
    )
    (asked,) = server.amiga.queries
    assert (asked.status, asked.search, asked.sort) == (("failed",), "a", "-cost")
    assert reply.body.endswith(b"\r\n")
    first, second = csv.DictReader(io.StringIO(reply.body.decode(), newline=""))
    assert first["description"] == '\'=HYPERLINK("http://evil.example")'
    assert first["cost"] == "-1.5"  # a number stays one
    assert second["description"] == "a, b\r\nand “c”"
    assert (second["created_at"], second["currency"]) == ("2026-11-18T11:06:40.000Z", "USD")


async def test_json_export_has_everything_and_says_of_what(server):
    server.amiga.tasks = [Task(task_id=f"a{n}", status="failed", description="=1+1") for n in range(50)]
    headers = {"Accept-Encoding": "gzip"}
    reply = await server.ask_as(server.token(), "/api/export/tasks?format=json&status=failed", headers)
    told = msgspec.json.decode(gzip.decompress(reply.body))
    assert told["filter"]["status"] == ["failed"]
    assert [task["task_id"] for task in told["tasks"]] == [f"a{n}" for n in range(50)]
    assert told["tasks"][0]["description"] == "=1+1"  # for programs: as it is
    assert (await server.ask_as(server.token(), "/api/export/tasks?format=xls")).status == 400


async def test_an_export_is_for_who_may_read(server):
    assert (await server.ask("/api/export/tasks")).status == 401
    cookie = {"Cookie": server.session(), "Sec-Fetch-Site": "cross-site"}
    assert (await server.ask("/api/export/tasks", cookie)).status == 403


async def test_a_database_that_does_not_answer_is_503_everywhere(server):
    server.amiga.fault = TimeoutError()
    assert (await server.ask_as(server.token(), "/api/export/tasks")).status == 503


@pytest.mark.parametrize(
    "start", ["=", "+", "-", "@", "\t", "\r", "\n", "  =", "\uff1d", "\uff0b", "\uff0d", "\uff20"]
)
def test_a_text_that_looks_like_a_formula_is_text(start):
    row = csv_table(["a"], [[f"{start}cmd|' /C calc'!A0"]]).decode()
    assert next(csv.reader(io.StringIO(row.partition("\r\n")[2], newline="")))[0].startswith("'")


@given(
    st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), min_size=2, max_size=2))
)
def test_what_is_written_is_read_again(rows):
    text = csv_table(["one", "two"], rows).decode()
    back = list(csv.reader(io.StringIO(text, newline="")))
    assert back[0] == ["one", "two"]
    assert [[cell.removeprefix("'") for cell in row] for row in back[1:]] == [
        [cell.removeprefix("'") for cell in row] for row in rows
    ]
