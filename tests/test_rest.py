"""The REST part: the snapshot once, tasks, sessions, health."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import time
from email.utils import parsedate_to_datetime
from http.cookies import SimpleCookie

import msgspec
import pytest

from amiga_ws.snapshot import Snapshot, Task

# -- the snapshot once --------------------------------------------------------------------------


async def test_overview_is_the_snapshot_of_the_window(server):
    reply = await server.ask_as(server.token(), "/api/metrics/overview?hours=3")
    assert reply.status == 200
    assert reply.header("Content-Type") == "application/json; charset=UTF-8"
    snapshot = msgspec.json.decode(reply.body, type=Snapshot)
    assert (snapshot.hours, snapshot.overview.tasks.total) == (3, 7)
    assert abs(snapshot.timestamp - time.time()) < 5
    assert snapshot.sources["amiga"].state == "ok"


async def test_overview_clamps_and_refuses_as_the_streams_do(server):
    token = server.token()
    for query, hours in (("", 24), ("?hours=0", 1), ("?hours=1000", 168), ("?hours=5.0", 5)):
        reply = await server.ask_as(token, f"/api/metrics/overview{query}")
        assert reply.json["hours"] == hours, query
    for query in ("?hours=1.5", "?hours=x", "?hours=", "?hours=1e2", "?hours=%00"):
        reply = await server.ask_as(token, f"/api/metrics/overview{query}")
        assert (reply.status, reply.json["code"]) == (400, "invalid_request"), query
        assert "hours" in reply.json["error"]


async def test_a_window_that_begins_while_another_is_read_is_not_served_empty(server):
    """Several new windows at once: each reply has its own window's facts."""
    token = server.token()
    replies = await asyncio.gather(
        *(server.ask_as(token, f"/api/metrics/overview?hours={hours}") for hours in range(1, 9))
    )
    assert [reply.json["hours"] for reply in replies] == list(range(1, 9))


async def test_a_big_reply_is_gzipped_for_who_takes_it(server):
    server.amiga.tasks = [Task(task_id=f"t{i}", status="running", description="x" * 99) for i in range(50)]
    token = server.token()
    plain = await server.ask_as(token, "/api/metrics/overview")
    zipped = await server.ask_as(token, "/api/metrics/overview", {"Accept-Encoding": "br, gzip"})
    assert plain.header("Content-Encoding") is None
    assert zipped.header("Content-Encoding") == "gzip"
    assert "Accept-Encoding" in zipped.headers["vary"]
    assert len(zipped.body) < len(plain.body) / 3
    assert json.loads(gzip.decompress(zipped.body))["tasks"] == plain.json["tasks"]


async def test_head_is_get_without_a_body(server):
    reply = await server.ask_as(server.token(), "/api/session", method="HEAD")
    assert (reply.status, reply.body) == (200, b"")
    assert int(reply.header("Content-Length")) > 0


# -- tasks --------------------------------------------------------------------------------------


async def test_tasks_are_asked_for_as_the_query_says(server):
    query = "?status=failed,stopped&search=Fix%20it&sort=-tool_errors&page=3&page_size=7"
    reply = await server.ask_as(server.token(), f"/api/tasks{query}")
    assert reply.status == 200
    assert reply.json["tasks"][0]["task_id"] == "task_1"
    assert (reply.json["page"], reply.json["page_size"], reply.json["total"]) == (3, 7, 1)
    (asked,) = server.amiga.queries
    assert (asked.status, asked.search, asked.sort) == (("failed", "stopped"), "Fix it", "-tool_errors")
    assert (asked.page, asked.page_size) == (3, 7)


async def test_tasks_have_defaults_and_clamp_numbers(server):
    token = server.token()
    await server.ask_as(token, "/api/tasks")
    await server.ask_as(token, "/api/tasks?page=0&page_size=1000")
    await server.ask_as(token, "/api/tasks?page=99999999999999999999&page_size=-1")
    first, second, third = server.amiga.queries
    assert (first.status, first.search, first.sort, first.page) == ((), "", "-created_at", 1)
    assert (second.page, second.page_size) == (1, 100)
    assert (third.page, third.page_size) == (1_000_000, 1)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("?page=one", "page"),
        ("?page_size=1.5", "page_size"),
        ("?sort=colour", "sort"),
        ("?sort=--status", "sort"),
        ("?sort=status;drop", "sort"),
        (f"?search={'x' * 201}", "search"),
        ("?search=%ff", "search"),
    ],
)
async def test_a_wrong_parameter_is_400_and_named(server, query, named):
    reply = await server.ask_as(server.token(), f"/api/tasks{query}")
    assert reply.status == 400
    assert named in reply.json["error"]
    assert "%s" not in reply.json["error"]
    assert not server.amiga.queries


async def test_a_database_that_does_not_answer_is_503_and_says_when_to_come_back(server):
    server.amiga.fault = TimeoutError()
    reply = await server.ask_as(server.token(), "/api/tasks")
    assert (reply.status, reply.json["code"]) == (503, "unavailable")
    assert set(reply.json) == {"error", "code", "ref"}
    assert int(reply.header("Retry-After")) >= 1


# -- sessions -----------------------------------------------------------------------------------


def cookie_of(reply):
    (name, morsel), *others = SimpleCookie(reply.header("Set-Cookie")).items()
    assert not others
    return name, morsel


async def test_signing_in_mints_a_session_in_a_cookie_no_script_can_read(server):
    reply = await server.ask_as(server.token("ada", ttl_s=600), "/api/session", method="POST")
    assert reply.status == 201
    assert reply.json["subject"] == "ada"
    assert reply.json["scopes"] == ["metrics:read"]
    name, morsel = cookie_of(reply)
    assert name == f"amiga_session_{server.port}"
    assert (morsel["path"], morsel["samesite"], morsel["httponly"]) == ("/", "Lax", True)
    assert not morsel["secure"]
    assert not morsel["domain"]
    cookie = {"Cookie": f"{name}={morsel.value}"}
    who = await server.ask("/api/session", cookie)
    assert (who.status, who.json["subject"]) == (200, "ada")
    assert (await server.ask("/", cookie)).status == 200
    assert (await server.ask("/websocket-test", cookie)).status == 200


async def test_a_session_from_an_access_token_ends_with_it(server):
    reply = await server.ask_as(server.token(ttl_s=600), "/api/session", method="POST")
    assert reply.json["expires_in"] <= 600
    name, morsel = cookie_of(reply)
    assert 595 < int(morsel["max-age"]) <= 625  # as long as it can still be renewed
    cookie = {"Cookie": f"{name}={morsel.value}", "Origin": server.url}
    server.ahead_s = 590
    assert (await server.ask("/api/session", cookie)).status == 200
    assert (await server.ask("/api/session/renew", cookie, method="POST")).json["expires_in"] <= 10
    server.ahead_s = 601
    assert (await server.ask("/api/session", cookie)).status == 401
    assert (await server.ask("/", cookie)).status == 303


async def test_a_session_from_a_login_link_lives_longer_than_the_link(server):
    login = server.token(typ="login", ttl_s=120)
    reply = await server.ask_as(login, "/api/session", method="POST")
    assert reply.json["expires_in"] == pytest.approx(12 * 3600, abs=2)


async def test_a_login_link_works_once_also_after_a_restart(server, caplog):
    login = server.token(typ="login", ttl_s=120)
    assert (await server.ask_as(login, "/api/session", method="POST")).status == 201
    reply = await server.ask_as(login, "/api/session", method="POST")
    assert (reply.status, reply.json["code"]) == (401, "unauthorized")
    assert set(reply.json) == {"error", "code", "ref"}
    assert any(f"ref={reply.json['ref']}" in record.getMessage() for record in caplog.records)
    assert reply.header("Set-Cookie") is None
    await server.stop()
    await server.start()
    assert (await server.ask_as(login, "/api/session", method="POST")).status == 401


async def test_signing_in_again_is_not_hindered_by_an_old_cookie(server):
    stale = {"Cookie": f"amiga_session_{server.port}=stale", "Origin": server.url}
    assert (await server.ask_as(server.token(), "/api/session", stale, method="POST")).status == 201


async def test_a_cookie_alone_signs_nobody_in(server):
    own = {"Cookie": server.session(), "Origin": server.url}
    assert (await server.ask("/api/session", own, method="POST")).status == 401


async def test_signing_out_ends_the_session_and_its_streams_of_both_kinds(server):
    cookie = {"Cookie": server.session(), "Origin": server.url}
    stream, peer = await server.events(headers=cookie), await server.websocket(cookie)
    other = await server.events(headers={"Cookie": server.session()})
    reply = await server.ask("/api/session", cookie, method="DELETE")
    assert (reply.status, reply.body) == (204, b"")
    _, morsel = cookie_of(reply)
    assert morsel.value == ""
    assert parsedate_to_datetime(morsel["expires"]).timestamp() < time.time()
    assert (await stream.until("bye")).data["code"] == 4503
    assert (await peer.until("bye"))["data"]["code"] == 4503
    assert (await server.ask("/api/session", cookie)).status == 401
    assert server.hub.connections_of() == 1
    other.close()


async def test_signing_out_everywhere_ends_all_of_the_subject_and_nobody_else(server):
    cookie = {"Cookie": server.session(), "Origin": server.url}
    peers = [await server.websocket() for _ in range(2)]
    bob = await server.websocket({"Authorization": f"Bearer {server.token('bob')}"})
    assert (await server.ask("/api/session?everywhere=1", cookie, method="DELETE")).status == 204
    for peer in peers:
        assert (await peer.until("bye"))["data"]["code"] == 4503
    assert server.hub.connections_of() == server.hub.connections_of(subject="bob") == 1
    bob.close()


async def test_renewing_a_session_extends_its_open_streams(server):
    cookie = {"Cookie": server.session(), "Origin": server.url}
    stream, peer = await server.events(headers=cookie), await server.websocket(cookie)
    bearer = await server.websocket()
    server.ahead_s = 3600
    reply = await server.ask("/api/session/renew", cookie, method="POST")
    assert reply.status == 200
    assert reply.json["expires_in"] == pytest.approx(12 * 3600, abs=2)
    name, morsel = cookie_of(reply)
    assert (await stream.until("token_refreshed")).data["expires_in"] > 11 * 3600
    assert (await peer.until("token_refreshed"))["data"]["expires_in"] > 11 * 3600
    server.ahead_s = 12 * 3600 + 60
    renewed = {"Cookie": f"{name}={morsel.value}"}
    assert (await server.ask("/api/session", renewed)).status == 200
    bearer.close()


async def test_only_a_session_is_renewed(server):
    reply = await server.ask_as(server.token(), "/api/session/renew", method="POST")
    assert (reply.status, reply.json["code"]) == (403, "forbidden")
    reply = await server.ask("/api/session/renew", {"Cookie": server.session()})
    assert (reply.status, reply.header("Allow")) == (405, "POST, OPTIONS")


# -- health -------------------------------------------------------------------------------------


async def test_health_and_ready_answer_anybody(server):
    for path, body in (("/health", {"status": "ok"}), ("/ready", {"ready": True})):
        reply = await server.ask(path)
        assert (reply.status, reply.json) == (200, body)
    server._ready = False
    assert (await server.ask("/ready")).status == 503
    assert (await server.ask("/health")).status == 200
    stream = await server.events()
    assert (stream.reply.status, stream.reply.json["code"]) == (503, "unavailable")


# -- bodies -------------------------------------------------------------------------------------


async def test_a_body_nobody_asked_for_is_no_trouble(server):
    token = server.token()
    for kind, body in (
        ("application/x-www-form-urlencoded", b"a=" + b"%" * 1000),
        ("multipart/form-data; boundary=x", b"--x\r\n"),
        ("application/json", b"{" * 1000),
    ):
        reply = await server.ask_as(token, "/api/session", {"Content-Type": kind}, method="POST", body=body)
        assert reply.status in (201, 400), kind
        if reply.status == 400:
            assert set(reply.json) == {"error", "code", "ref"}
    with contextlib.suppress(ConnectionResetError):  # it may hang up before it has read all
        reply = await server.ask_as(token, "/api/session", method="POST", body=b"x" * 70_000)
        assert reply.status in (400, 413)
    assert (await server.ask("/health")).status == 200
