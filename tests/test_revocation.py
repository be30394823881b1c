"""Taking credentials back, by command line and API, with the server running and down."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import time
from contextlib import contextmanager

import pytest
from disks import fill, read_only, small_disk
from processes import CHECKOUT, Running, clean_environment
from servers import ServerInHand, eventually, settings_in

from amiga_ws import state
from amiga_ws.auth.revocations import FILE, SWEEP_AFTER, Revocation, Revocations
from amiga_ws.auth.tokens import Authority
from amiga_ws.config import load
from amiga_ws.state import KEPT_LONGER_S

NOW = 1_800_000_000.0
SOON_S = 1.0  # from a revocation to the end of the streams it concerns


async def command(folder, *words, stdin=b"", environ=None):
    """`python -m amiga_ws …` for the installation in `folder`: (exit code, stderr)."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "amiga_ws",
        *words,
        "--set",
        f"state_dir={folder / 'state'}",
        cwd=CHECKOUT,
        env=clean_environment(**(environ or {})),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    stdout, stderr = await process.communicate(stdin)
    assert not stdout
    return process.returncode, stderr.decode()


def folder_of(server):
    return server.settings.state_dir.parent


def jti_of(server, token):
    return server.gate.verify(token, ("access", "login", "session")).jti


async def both(server, headers):
    """A WebSocket and an event stream under one credential."""
    peer = await server.websocket(headers)
    stream = await server.events("", headers)
    assert (peer.reply.status, stream.reply.status) == (101, 200)
    return peer, stream


async def ended(peer, stream):
    """Both have been told 4503 and closed."""
    bye = await peer.until("bye")
    assert (bye["data"]["code"], bye["data"]["reconnect"], bye["data"]["retry_ms"]) == (4503, False, None)
    assert (await peer.closed())[0] == 4503
    assert (await stream.until("bye")).data["code"] == 4503
    assert await stream.next() is None


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


async def page_of(server, token):
    reply = await server.ask_as(token, "/api/session", method="POST")
    assert reply.status == 201
    return {"Cookie": reply.header("Set-Cookie").partition(";")[0], "Origin": server.url}


# -- the command, with the server running --------------------------------------------------------


@pytest.mark.parametrize("by", ["token", "environment", "jti", "subject"])
async def test_a_revoked_token_closes_its_open_streams_within_a_second(server, by):
    token = server.token("ada")
    streams = await both(server, bearer(token))
    page = await page_of(server, token)
    of_its_session = await both(server, page)
    bystander = await server.websocket(bearer(server.token("bob")))
    stdin, environ = b"", {}
    said = f"revoked: the token '{jti_of(server, token)}' of 'ada'\n"
    if by == "token":
        words, stdin = ["--token", "-"], token.encode() + b"\n"
    elif by == "environment":
        words, environ = ["--token", ""], {"AMIGA_WS_TOKEN": token}
    elif by == "jti":
        words = ["--jti", jti_of(server, token)]
        said = f"revoked: the token with the id '{words[1]}'; whether there was one cannot be told\n"
    else:
        words = ["--subject", "ada"]
        said = ""  # with the time: see below
    code, stderr = await command(folder_of(server), "revoke", *words, stdin=stdin, environ=environ)
    written = time.monotonic()
    assert code == 0
    assert stderr == said or (
        by == "subject" and stderr.startswith("revoked: all that was issued to 'ada' before ")
    )
    await ended(*streams)
    await ended(*of_its_session)
    assert time.monotonic() - written < SOON_S
    assert (await server.ask_as(token, "/api/session")).status == 401
    assert (await server.ask("/api/session", page)).status == 401
    assert server.hub.connections_of() == 1
    bystander.close()


async def test_only_what_was_issued_before_a_time_is_revoked(server):
    old = server.token()
    issued = server.gate.verify(old, "access").issued_at
    server.ahead_s = 10
    new = server.token()
    peer, _ = await both(server, bearer(new))
    words = ("revoke", "--subject", "ada", "--issued-before", str(issued + 5))
    assert (await command(folder_of(server), *words))[0] == 0
    await eventually(lambda: server.gate.revocations.all(server.clock.wall()))
    assert (await server.ask_as(old, "/api/session")).status == 401
    assert (await server.ask_as(new, "/api/session")).status == 200
    assert server.hub.connections_of() == 2
    peer.close()


async def test_a_session_is_as_old_as_the_token_it_was_signed_in_with(server):
    """Who signed in with a stolen token after that time is out too."""
    old = server.token()
    issued = server.gate.verify(old, "access").issued_at
    server.ahead_s = 60
    page = await page_of(server, old)
    streams = await both(server, page)
    server.gate.revoke_subject("ada", issued + 5)
    server.hub.close_unwelcome(server.gate.still_good)
    await ended(*streams)
    assert (await server.ask("/api/session", page)).status == 401


async def test_a_session_of_a_sign_in_link_ends_with_the_link_though_that_has_ended_long_ago(server):
    link = server.token(typ="login", ttl_s=60)
    streams = await both(server, await page_of(server, link))
    server.ahead_s = 3600
    code, _ = await command(folder_of(server), "revoke", "--token", "-", stdin=link.encode())
    assert code == 0
    await ended(*streams)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--token", "rubbish"], "no token of ours"),
        (["--jti", "j", "--issued-before", "1"], "--issued-before goes with --subject"),
        (["--subject", "s", "--issued-before", "soon"], "ISO time"),
        (["--subject", "s\udcff"], "no token has such a name"),
        (["--jti", ""], "no token has such a name"),
        (["--subject", "s", "--issued-before", "nan"], "no time a token could"),
        (["--subject", "s", "--issued-before", "inf"], "no time a token could"),
        ([], "required"),
        (["--jti", "j", "--subject", "s"], "not allowed with"),
    ],
)
async def test_what_cannot_be_revoked_is_told_in_a_sentence(tmp_path, words, sentence):
    state.load_secret(tmp_path / "state")
    code, stderr = await command(tmp_path, "revoke", *words)
    assert code == 2
    assert sentence in stderr
    assert "Traceback" not in stderr
    file = tmp_path / "state" / FILE
    assert not file.exists() or not file.read_bytes()


async def test_what_was_revoked_is_told_and_that_it_is_not_known_whether_there_was_any(tmp_path):
    state.load_secret(tmp_path / "state")
    code, stderr = await command(
        tmp_path, "revoke", "--subject", "someone", "--issued-before", "2026-01-28T02:50:07+01:00"
    )
    assert (code, stderr) == (
        0,
        "revoked: all that was issued to 'someone' before 2026-01-28 01:50:07 UTC; "
        "whether there was any cannot be told\n",
    )


async def test_a_time_to_come_is_warned_of(tmp_path):
    state.load_secret(tmp_path / "state")
    code, stderr = await command(tmp_path, "revoke", "--subject", "ada", "--issued-before", "2999-01-01")
    warning, done = stderr.splitlines()
    assert code == 0
    assert warning == (
        "amiga_ws: --issued-before is in the future: until 2999-01-01 00:00:00 UTC "
        "every new token of 'ada' is refused, too"
    )
    assert done.startswith("revoked: all that was issued to 'ada' before 2999-01-01 00:00:00 UTC; ")


@pytest.mark.parametrize("words", [["--subject", "ada"], ["--jti", "j"], ["--token", "-"]])
async def test_the_wrong_folder_is_told_and_not_taken_for_done(tmp_path, words):
    """Whoever forgets --config must not believe that something was revoked."""
    code, stderr = await command(tmp_path, "revoke", *words)
    assert code == 2
    assert "nothing was ever issued from" in stderr
    assert "--config" in stderr
    assert not (tmp_path / "state").exists()


async def test_a_folder_that_cannot_be_looked_at_is_told_and_not_taken_for_empty(tmp_path):
    (tmp_path / "state").symlink_to("state")  # as one without rights, which root has
    code, stderr = await command(tmp_path, "revoke", "--subject", "ada")
    assert code == 2
    assert stderr.startswith("amiga_ws: cannot use ")
    assert stderr.count("\n") == 1


async def test_the_configuration_can_be_a_file(server):
    token = server.token("carol")
    file = folder_of(server) / "mine.yaml"
    file.write_text(f"state_dir: {server.settings.state_dir}\n")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "amiga_ws", "revoke", "--config", str(file), "--subject", "carol"),
        cwd=CHECKOUT,
        env=clean_environment(),
        stderr=asyncio.subprocess.PIPE,
    )
    _, stderr = await process.communicate()
    assert process.returncode == 0
    assert stderr.startswith(b"revoked: all that was issued to 'carol' before ")
    server._follow_revocations()
    assert (await server.ask_as(token, "/api/session")).status == 401


async def test_a_file_that_cannot_be_written_is_told_in_a_sentence(tmp_path):
    state.load_secret(tmp_path / "state")
    (tmp_path / "state" / FILE).mkdir()
    code, stderr = await command(tmp_path, "revoke", "--jti", "j")
    assert code == 2
    assert stderr.count("\n") == 1
    assert "cannot write to" in stderr


# -- with the server down, and over its death ----------------------------------------------------


async def test_revoked_while_the_server_is_down_is_revoked_when_it_comes_up(start, tmp_path):
    settings = settings_in(tmp_path)
    authority = Authority(state.load_secret(settings.state_dir), settings.auth)
    token = authority.issue(subject="ada", scope="metrics:read", ttl_s=600, now=time.time())
    code, _ = await command(tmp_path, "revoke", "--token", "-", stdin=token.encode())
    assert code == 0
    server = ServerInHand(settings)
    await server.start()
    try:
        assert (await server.ask_as(token, "/api/session")).status == 401
        assert (await server.ask_as(server.token(), "/api/session")).status == 200
    finally:
        await server.leave()


def serving(folder, number):
    options = ["--set", f"state_dir={folder / 'state'}", "--set", "server.port=0"]
    options += ["--set", f"amiga.root={folder / 'amiga'}", "--set", "limits.requests_burst=1000"]
    words = [sys.executable, "-m", "amiga_ws", "serve", *options]
    return Running(words, CHECKOUT, folder / f"stderr-{number}")


def test_no_acknowledged_revocation_or_used_login_is_forgotten_by_kill_9(tmp_path):
    settings = load(None, [f"state_dir={tmp_path / 'state'}"], {}, tmp_path)
    authority = Authority(state.load_secret(settings.state_dir), settings.auth)

    def issue(typ):
        token = authority.issue(
            subject="ada", scope="metrics:read admin", ttl_s=600, now=time.time(), typ=typ
        )
        return token, bearer(token)

    admin_token, admin = issue("access")
    gone, used, cookies = [], [], []
    for life in range(3):  # the next one would meet the throttle of failed sign-ins
        with serving(tmp_path, life) as running:
            for token in gone:
                assert running.request("GET", "/api/session", token)[0] == 401
            for login in used:
                assert running.request("POST", "/api/session", login)[0] == 401
            for cookie in cookies:
                assert running.request("GET", "/api/session", cookie)[0] == 401
            for _ in range(2):
                token, header = issue("access")
                body = json.dumps({"token": token}).encode()
                assert running.request("POST", "/api/admin/revocations", admin, body)[0] == 201
                gone.append(header)
                _, login = issue("login")
                status, headers, _ = running.request("POST", "/api/session", login)
                assert status == 201
                used.append(login)
                cookie = {"Cookie": headers["Set-Cookie"].partition(";")[0], "Origin": running.url}
                assert running.request("DELETE", "/api/session", cookie)[0] == 204
                cookies.append({"Cookie": cookie["Cookie"]})
            running.process.send_signal(signal.SIGKILL)
            running.process.wait()
    assert admin_token not in "".join(path.read_text() for path in tmp_path.glob("stderr-*"))


async def test_a_torn_last_line_costs_neither_the_lines_before_nor_the_next(server):
    first, second = server.token(), server.token()
    server.gate.revoke_token(first)
    file = server.settings.state_dir / FILE
    with file.open("ab") as log:
        log.write(b'{"kind": "jti", "val')
    assert (await command(folder_of(server), "revoke", "--token", "-", stdin=second.encode()))[0] == 0
    await eventually(lambda: len(server.gate.revocations.all(server.clock.wall())) == 2)
    for token in (first, second):
        assert (await server.ask_as(token, "/api/session")).status == 401


async def test_an_entry_ends_with_its_token(server):
    server.gate.revoke_token(server.token(ttl_s=60))
    server.gate.revoke_token(server.token(ttl_s=86_400))
    (rule,) = server.gate.revocations.all(server.clock.wall() + 61)
    assert rule.until > server.clock.wall() + 500
    server.ahead_s = 61 + KEPT_LONGER_S
    file = server.settings.state_dir / FILE
    assert len(file.read_bytes().splitlines()) == 2
    type(server.gate)(server.authority, server.settings.auth, server.settings.state_dir, server.clock.wall)
    assert len(file.read_bytes().splitlines()) == 1  # a start leaves out what has ended


async def test_revocations_are_private_and_hold_no_token(server):
    token = server.token()
    server.gate.revoke_token(token)
    file = server.settings.state_dir / FILE
    assert file.stat().st_mode & 0o777 == 0o600
    assert token.rpartition(".")[2] not in file.read_text()


# -- what cannot be kept -------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk") as folder:
        yield folder


@contextmanager
def full(disk):
    """No byte more fits on it."""
    ballast = fill(disk)
    yield
    ballast.unlink()


CANNOT_BE_KEPT = {"full": (full, "make room"), "read-only": (read_only, "its log says why")}


@pytest.mark.promise(
    "Our disk full or read-only: a link, a sign-out or a revocation is refused with 503, and nothing was changed"
)
@pytest.mark.parametrize("trouble", CANNOT_BE_KEPT)
async def test_what_cannot_be_kept_is_refused_and_changes_nothing(disk, start, caplog, trouble):
    """Signing in by link, signing out, and taking back are nothing where they are forgotten at the next start."""
    unusable, advice = CANNOT_BE_KEPT[trouble]
    server = await start(f"state_dir={disk}")
    page = await page_of(server, server.token())
    streams = await both(server, page)
    link, admin = server.token(typ="login", ttl_s=600), server.token(scope="admin")
    (client_id, *_) = server.hub.clients
    body = json.dumps({"jti": "j"}).encode()
    asked = [
        ("POST", "/api/session", bearer(link), b""),
        ("DELETE", "/api/session", page, b""),
        ("DELETE", "/api/session?everywhere=1", page, b""),
        ("DELETE", f"/api/admin/connections/{client_id}?revoke=1", bearer(admin), b""),
        ("POST", "/api/admin/revocations", bearer(admin), body),
    ]
    with unusable(disk):
        for method, path, headers, sent in asked:
            reply = await server.ask(path, headers, method=method, body=sent)
            assert (reply.status, reply.json["code"]) == (503, "unavailable"), path
            assert "nothing was changed" in reply.json["error"]
            assert advice in reply.json["error"]
            assert str(disk) not in reply.json["error"]
            assert int(reply.header("Retry-After")) > 0
            assert reply.header("Set-Cookie") is None
            noted = server.services.refusals.newest()[0]
            assert (noted.ref, noted.status) == (reply.json["ref"], 503)
        assert (await server.ask("/api/session", page)).status == 200
        assert server.hub.connections_of() == 2
        # A token that is presented needs nothing to be kept.
        await page_of(server, server.token())
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.msg for record in errors] == ["what was asked for cannot be kept: %s"] * len(asked)
    assert not [record for record in caplog.records if record.exc_info]
    caplog.clear()
    server._follow_revocations()
    assert (await server.ask("/api/session", page)).status == 200
    await page_of(server, link)
    assert (await server.ask("/api/session", page, method="DELETE")).status == 204
    await ended(*streams)


async def test_a_rule_that_is_kept_is_in_force_though_old_ones_cannot_be_swept(disk):
    log = disk / FILE
    revocations = Revocations(disk, NOW)
    for number in range(SWEEP_AFTER):
        revocations.add(Revocation("jti", f"old{number}", NOW, NOW), NOW)
    ended, size = NOW + KEPT_LONGER_S + 1, log.stat().st_size
    with full(disk):
        # What is left of the file's last page is room for a line.
        revocations.add(Revocation("jti", "new", ended, ended + 600), ended)
        assert log.stat().st_size > size
        assert [rule.value for rule in revocations.all(ended)] == ["new"]
        assert {path.name for path in disk.iterdir()} == {FILE, "ballast"}
    assert [rule.value for rule in Revocations(disk, ended).all(ended)] == ["new"]


@pytest.mark.parametrize("trouble", CANNOT_BE_KEPT)
async def test_the_command_says_that_it_could_not_revoke(tmp_path, trouble):
    unusable, _ = CANNOT_BE_KEPT[trouble]
    with small_disk(tmp_path / "state") as disk:
        state.load_secret(disk)
        with unusable(disk):
            code, stderr = await command(tmp_path, "revoke", "--jti", "j")
        assert (code, stderr.count("\n")) == (2, 1)
        assert stderr.startswith("amiga_ws: cannot write")
        assert ("make room on its disk" if trouble == "full" else "owner and rights") in stderr
        assert (await command(tmp_path, "revoke", "--jti", "j"))[0] == 0


async def test_a_server_whose_disk_becomes_read_only_stops_in_order(disk, start):
    server = await start(f"state_dir={disk}")
    with read_only(disk):
        await server.stop()
    await server.start()


# -- sign out ------------------------------------------------------------------------------------


async def test_signing_out_ends_the_session_and_its_streams_and_nothing_else(server):
    page = await page_of(server, server.token(typ="login", ttl_s=60))
    other = await page_of(server, server.token(typ="login", ttl_s=60))
    streams = await both(server, page)
    await both(server, other)
    reply = await server.ask("/api/session", page, method="DELETE")
    assert reply.status == 204
    assert "Max-Age=0" in reply.header("Set-Cookie") or "expires=" in reply.header("Set-Cookie")
    await ended(*streams)
    assert (await server.ask("/api/session", page)).status == 401
    assert (await server.ask("/api/session", other)).status == 200
    assert server.hub.connections_of() == 2


async def test_a_renewed_session_is_signed_out_with_all_its_former_cookies(server):
    page = await page_of(server, server.token(typ="login", ttl_s=60))
    renewed = await server.ask("/api/session/renew", page, method="POST")
    later = {**page, "Cookie": renewed.header("Set-Cookie").partition(";")[0]}
    assert (await server.ask("/api/session", later, method="DELETE")).status == 204
    for former in (page, later):
        assert (await server.ask("/api/session", former)).status == 401
        assert (await server.ask("/api/session/renew", former, method="POST")).status == 401


async def test_signing_out_everywhere_ends_all_the_subject_has(server):
    token = server.token()
    page = await page_of(server, server.token(typ="login", ttl_s=60))
    unused = server.token(typ="login", ttl_s=600)
    of_page, of_token = await both(server, page), await both(server, bearer(token))
    bystander = await server.websocket(bearer(server.token("bob")))
    server.ahead_s = 1
    assert (await server.ask("/api/session?everywhere=1", page, method="DELETE")).status == 204
    await ended(*of_page)
    await ended(*of_token)
    assert (await server.ask_as(token, "/api/session")).status == 401
    assert (await server.ask_as(unused, "/api/session", method="POST")).status == 401
    assert server.hub.connections_of() == 1
    assert (await server.ask_as(server.token(), "/api/session")).status == 200  # issued afterwards
    bystander.close()


# -- sign-in links, and who tries too often ------------------------------------------------------


async def test_a_sign_in_link_works_once_also_for_two_at_once(server):
    link = server.token(typ="login", ttl_s=60)
    replies = await asyncio.gather(*(server.ask_as(link, "/api/session", method="POST") for _ in range(4)))
    assert sorted(reply.status for reply in replies) == [201, 401, 401, 401]


async def test_failed_sign_ins_slow_down_bad_tokens_and_no_good_one(server):
    """Behind one address there may be many people, and one program with a bad token."""
    page = await page_of(server, server.token())
    for _ in range(5):
        assert (await server.ask_as("rubbish", "/api/session", method="POST")).status == 401
    for target in ("/api/session", "/api/metrics/overview", "/api/stream/metrics"):
        throttled = await server.ask_as("rubbish", target, method="POST" if "session" in target else "GET")
        assert (throttled.status, throttled.json["code"]) == (429, "rate_limited")
        assert int(throttled.header("Retry-After")) >= 1
    assert (await server.ask_as(server.token(), "/api/session", method="POST")).status == 201
    assert (await server.ask_as(server.token(), "/api/metrics/overview")).status == 200
    assert (await server.ask("/api/session", page)).status == 200
    server.ahead_s = 13  # five a minute: one more after 12 s
    answers = [(await server.ask_as("rubbish", "/api/session", method="POST")).status for _ in range(2)]
    assert answers == [401, 429]


async def test_a_used_sign_in_link_counts_as_a_failed_sign_in(server):
    link = server.token(typ="login", ttl_s=60)
    answers = [(await server.ask_as(link, "/api/session", method="POST")).status for _ in range(7)]
    assert answers == [201, *[401] * 5, 429]


async def test_an_expired_token_is_no_failed_sign_in_except_where_one_signs_in(server):
    token = server.token(ttl_s=60)
    server.ahead_s = 61
    for _ in range(8):
        assert (await server.ask_as(token, "/api/metrics/overview")).status == 401
    answers = [(await server.ask_as(token, "/api/session", method="POST")).status for _ in range(6)]
    assert answers == [*[401] * 5, 429]
    assert (await server.ask_as(token, "/api/metrics/overview")).status == 401


async def test_a_subject_signs_in_at_its_rate_and_a_link_is_not_used_up_by_waiting(server):
    """Each sign-out is kept until its session would have ended: one who does nothing else must not fill the disk."""
    token, link = server.token(), server.token(typ="login", ttl_s=600)
    server.services.rates.sign_ins.set_limit(0.01, 3)
    answers = [(await server.ask_as(token, "/api/session", method="POST")).status for _ in range(4)]
    assert answers == [201, 201, 201, 429]
    assert (await server.ask_as(link, "/api/session", method="POST")).status == 429
    assert (await server.ask_as(server.token("bob"), "/api/session", method="POST")).status == 201
    server.ahead_s = 101
    assert (await server.ask_as(link, "/api/session", method="POST")).status == 201


async def test_a_cookie_of_a_key_that_was_replaced_is_401_however_often(server):
    """An open page asks again and again: it must be told to sign in, not to wait."""
    stale = {"Cookie": f"amiga_session_{server.port}={server.token()[:-4]}AAAA"}
    assert {(await server.ask("/api/session", stale)).status for _ in range(8)} == {401}
    assert (await server.ask_as("rubbish", "/api/session", method="POST")).status == 401


async def test_a_file_that_cannot_be_read_is_told_once_and_followed_again(server, caplog):
    file = server.settings.state_dir / FILE
    token = server.token()
    server.gate.revoke_token(server.token())
    server._follow_revocations()
    aside = file.with_suffix(".aside")
    file.rename(aside)
    file.mkdir()
    for _ in range(3):
        server._follow_revocations()
    assert caplog.text.count("cannot read what has been revoked") == 1
    caplog.clear()
    file.rmdir()
    aside.rename(file)
    assert (await command(folder_of(server), "revoke", "--token", "-", stdin=token.encode()))[0] == 0
    server._follow_revocations()
    assert (await server.ask_as(token, "/api/session")).status == 401
