"""Keys, certificate and configuration taken in anew while streams are open."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime

import jwt
import pytest
from processes import CHECKOUT, Running, clean_environment, completed
from servers import EventStream, RawWebSocket, ServerInHand, eventually, settings_in
from test_keys import key_pair
from test_state import GOOD

from amiga_ws import state
from amiga_ws.auth.tokens import Authority
from amiga_ws.config import ConfigError
from amiga_ws.snapshot import Task

CROWD = (
    "limits.connections_per_address=500",
    "limits.connections_per_subject=500",
    "limits.new_connections_burst=1000",
)


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def elsewhere(private, algorithm, kid, now, **changes):
    """An access token of somebody else's issuer."""
    claims = {"iss": "amiga_ws", "aud": "amiga_ws", "sub": "ada", "jti": os.urandom(4).hex(), "typ": "access"}
    claims |= {"scope": "metrics:read", "iat": now, "exp": now + 3600}
    return jwt.encode(claims | changes, private, algorithm=algorithm, headers={"kid": kid})


@pytest.fixture
def keep(start, tmp_path):
    """await keep(keys, *overrides) → a server; keep.again(server, keys) → reloaded with other keys."""

    class Keep:
        async def __call__(self, keys, *overrides):
            return await start(*overrides, *([f"auth.keys={','.join(keys)}"] if keys else []))

        def again(self, server, keys, *overrides):
            given = [*overrides, *([f"auth.keys={','.join(keys)}"] if keys else [])]
            return server.reload(lambda: settings_in(server.settings.state_dir.parent, *given))

    return Keep()


async def streams(server, headers):
    peer, stream = await server.websocket(headers), await server.events("", headers)
    assert (peer.reply.status, stream.reply.status) == (101, 200)
    return peer, stream


async def closed_4503(peer, stream):
    began = time.monotonic()
    assert (await peer.until("bye"))["data"]["code"] == 4503
    assert (await stream.until("bye")).data["code"] == 4503
    assert time.monotonic() - began < 1


# -- tokens from elsewhere -----------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_tokens_of_a_public_key_open_streams_until_it_is_withdrawn(keep, tmp_path, algorithm):
    private, public = key_pair(algorithm)
    file = tmp_path / "issuer.pem"
    file.write_bytes(public)
    server = await keep([f"alg={algorithm} kid=issuer file={file}"])
    token = elsewhere(private, algorithm, "issuer", server.clock.wall())
    signed_in = await server.ask_as(token, "/api/session", method="POST")
    page = {"Cookie": signed_in.header("Set-Cookie").partition(";")[0], "Origin": server.url}
    of_token, of_session = await streams(server, bearer(token)), await streams(server, page)
    own = await server.websocket()
    assert keep.again(server, [])
    await closed_4503(*of_token)
    await closed_4503(*of_session)  # signed by us, but on that key's word
    assert (await server.ask_as(token, "/api/session")).status == 401
    assert (await server.ask("/api/session", page)).status == 401
    assert server.hub.connections_of() == 1
    own.close()


async def test_another_key_under_the_same_name_closes_the_streams_of_the_former(keep, tmp_path):
    (private, public), (_, other) = key_pair("EdDSA"), key_pair("EdDSA")
    file = tmp_path / "issuer.pem"
    file.write_bytes(public)
    spec = f"alg=EdDSA kid=issuer file={file}"
    server = await keep([spec])
    opened = await streams(server, bearer(elsewhere(private, "EdDSA", "issuer", server.clock.wall())))
    assert keep.again(server, [spec])
    assert server.hub.connections_of() == 2
    file.write_bytes(other)
    assert keep.again(server, [spec])
    await closed_4503(*opened)


# -- our own secrets -----------------------------------------------------------------------------


@pytest.mark.promise(
    "A secret is changed without an outage: tokens of the former one count until its end, and no longer"
)
async def test_a_rotated_secret_ends_nothing_before_its_time(keep, tmp_path):
    server = await keep([], "auth.session_ttl=2h")
    old_token = server.token(ttl_s=7200)
    reply = await server.ask_as(server.token(typ="login", ttl_s=60), "/api/session", method="POST")
    page = {"Cookie": reply.header("Set-Cookie").partition(";")[0], "Origin": server.url}
    of_token, of_session = await streams(server, bearer(old_token)), await streams(server, page)
    secret = server.settings.state_dir / state.SECRET_FILE
    secret.rename(tmp_path / "old.hex")
    state.load_secret(secret.parent)
    ends = server.clock.wall() + 3600
    until = datetime.fromtimestamp(ends, UTC).isoformat()
    assert keep.again(server, [f"alg=HS256 file={tmp_path / 'old.hex'} until={until}"], "auth.session_ttl=2h")
    assert server.hub.connections_of() == 4
    assert all(client.expires_in <= 3600 for client in server.hub.clients.values())  # sooner than they said
    new = await streams(server, bearer(server.token(ttl_s=7200)))
    assert (await server.ask("/api/session/renew", page, method="POST")).json["expires_in"] <= 3600
    assert keep.again(server, [], "auth.session_ttl=2h")
    await closed_4503(*of_token)
    await closed_4503(*of_session)
    assert (await server.ask_as(old_token, "/api/session")).status == 401
    assert server.hub.connections_of() == 2
    for each in new:
        each.close()


async def test_several_secrets_count_at_once(keep, tmp_path):
    secrets = {name: os.urandom(32) for name in ("one", "two")}
    for name, secret in secrets.items():
        (tmp_path / name).write_text(secret.hex())
        (tmp_path / name).chmod(0o600)
    server = await keep([f"alg=HS256 file={tmp_path / name}" for name in secrets])
    for secret in secrets.values():
        token = Authority(secret, server.settings.auth).issue(
            subject="ada", scope="metrics:read", ttl_s=60, now=server.clock.wall()
        )
        assert (await server.ask_as(token, "/api/session")).status == 200
    assert (await server.ask_as(server.token(), "/api/session")).status == 200


# -- many connections ----------------------------------------------------------------------------


@pytest.mark.promise("A reload costs no connection; a bad one leaves the former configuration in force")
async def test_no_reload_good_or_bad_costs_one_of_many_connections(keep, tmp_path):
    server = await keep([], *CROWD)
    peers = [await server.websocket() for _ in range(100)]
    events = [await server.events("?interval=1") for _ in range(100)]
    for peer in peers:
        await peer.say("subscribe", {"update_interval": 1})
        await peer.until("metrics_update")
    for stream in events:
        await stream.until(None)
    assert keep.again(server, [], *CROWD, "origins.allowed=https://friend.example")
    bad = tmp_path / "bad.pem"
    bad.write_text("-----BEGIN PUBLIC KEY-----\nrubbish\n")
    assert not keep.again(server, [f"alg=HS256 file={bad}"], *CROWD)
    assert not keep.again(server, [f"alg=RS256 kid=x file={bad}"], *CROWD)

    def broken():
        raise ConfigError("config.yaml:3: no")

    assert not server.reload(broken)
    secret = server.settings.state_dir / state.SECRET_FILE
    good = secret.read_text()
    secret.write_text("00" * 32)
    assert not keep.again(server, [], *CROWD)
    secret.write_text(good)
    assert server.services.settings.origins.allowed == ("https://friend.example",)  # of the last good one
    assert server.hub.connections_of() == 200
    server.host.cpu_percent = 71.0
    for peer in peers:
        assert (await peer.until("metrics_update"))["data"]["overview"]["system"]["cpu_percent"] == 71.0
    for stream in events:
        assert (await stream.until(None)).data["overview"]["system"]["cpu_percent"] == 71.0


async def test_sighup_under_streams_reads_the_keys_anew(tmp_path):
    """The process itself: a key is withdrawn, a bad file changes nothing, streams of the others stay."""
    config = tmp_path / "config.yaml"
    other = os.urandom(32)
    (tmp_path / "other.hex").write_text(other.hex())
    (tmp_path / "other.hex").chmod(0o600)
    base = f"state_dir: {tmp_path}/state\nserver: {{port: 0}}\namiga: {{root: {tmp_path}/amiga}}\n"
    base += (
        "limits: {connections_per_address: 100, connections_per_subject: 100, new_connections_burst: 100}\n"
    )
    config.write_text(base + f"auth: {{keys: ['alg=HS256 file={tmp_path}/other.hex']}}\n")
    command = [sys.executable, "-m", "amiga_ws", "serve", "--config", str(config)]
    with Running(command, CHECKOUT, tmp_path / "stderr.txt") as running:
        settings = settings_in(tmp_path)
        server = ServerInHand(settings)  # for its tokens and peers; it is never started
        server.url = running.url
        own = [await RawWebSocket.open(server) for _ in range(20)]
        stranger = Authority(other, settings.auth).issue(
            subject="eve", scope="metrics:read", ttl_s=60, now=time.time()
        )
        theirs = [await RawWebSocket.open(server, bearer(stranger)) for _ in range(20)]
        stream = await EventStream.open(server, headers=bearer(stranger))
        assert all(peer.reply.status == 101 for peer in own + theirs)
        config.write_text("auth: {keys: [rubbish]}\n")
        running.process.send_signal(signal.SIGHUP)
        await asyncio.to_thread(running.wait_for, "not reloaded")
        for peer in own + theirs:
            await peer.say("unsubscribe")
            await peer.until("unsubscribed")
        config.write_text(base)
        running.process.send_signal(signal.SIGHUP)
        for peer in theirs:
            assert (await peer.closed())[0] == 4503
        assert (await stream.until("bye")).data["code"] == 4503
        for peer in own:
            await peer.say("unsubscribe")
            await peer.until("unsubscribed")
        for each in (*own, *theirs, stream):
            each.close()
            with contextlib.suppress(ConnectionError):
                await each.writer.wait_closed()
        assert running.stop()[0] == 0
        log = running.stderr()
        assert "Traceback" not in log
        assert other.hex() not in log


def test_a_terminal_that_is_closed_ends_the_server_and_the_same_signal_by_hand_does_not(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(
        f"state_dir: {tmp_path}/state\nserver: {{port: 0}}\namiga: {{root: {tmp_path}/amiga}}\n"
    )
    command = ["setsid", "--ctty", sys.executable, "-m", "amiga_ws", "serve", "--config", str(config)]
    terminal, its_end = os.openpty()
    with subprocess.Popen(  # noqa: S603 - ourselves
        command, cwd=CHECKOUT, env=clean_environment(), stdin=its_end, stdout=its_end, stderr=its_end
    ) as child:
        os.close(its_end)
        try:
            said = b""
            while b"listening on" not in said:
                said += os.read(terminal, 4096)
            child.send_signal(signal.SIGHUP)
            while b"reloaded" not in said:
                said += os.read(terminal, 4096)
            os.close(terminal)
            assert child.wait(20) == 0
        finally:
            child.kill()


async def test_what_a_reload_cannot_change_is_told(server, caplog):
    wanted = settings_in(server.settings.state_dir.parent, "metrics.update_interval=9", "log.level=debug")
    wanted = dataclasses.replace(wanted, state_dir=wanted.state_dir.with_name("elsewhere"))
    assert server.reload(lambda: wanted)
    for key in ("metrics.update_interval", "state_dir"):
        assert f"{key} has changed: that takes effect at the next start" in caplog.text
    assert "log.level has" not in caplog.text
    assert not wanted.state_dir.exists()
    assert (await server.ask_as(server.token(), "/api/session")).status == 200


async def test_what_a_reload_cannot_change_stays_for_everybody_who_comes_later(server):
    """What is announced and what is kept to must not part."""
    folder = server.settings.state_dir.parent
    later = (
        "metrics.update_interval=9",
        "limits.message_bytes=2048",
        "costs.currency=EUR",
        "amiga.name=other",
        "limits.connections_per_address=7",
    )
    for _ in range(2):  # nor does the second time take them in
        assert server.reload(lambda: settings_in(folder, *later))
        assert server.settings.limits.connections_per_address == 7
    peer, stream = await server.websocket(), await server.events()
    assert (await peer.until("connected"))["data"]["limits"]["message_bytes"] == 16384
    await peer.say("subscribe")
    assert (await peer.until("subscribed"))["data"]["config"]["update_interval"] == 2
    assert (await stream.until("subscribed")).data["config"]["update_interval"] == 2
    server.amiga.tasks = [Task(task_id="a1", status="failed", description="", cost=1.5)]
    file = await server.ask_as(server.token(), "/api/export/tasks?format=csv")
    assert b"USD" in file.body
    assert server.settings.amiga.name != "other"
    assert server.settings is server.services.settings
    for each in (peer, stream):
        each.close()


# -- a bad start ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("PEM", "PEM"),
        ("00112233445566778899aabbccddeeff" * 2, "not random"),
        (bytes(range(32)).hex(), "not random"),
        (GOOD[:62], "64 random hex digits"),
        ("your-256-bit-secret", "64 random hex digits"),
    ],
)
@pytest.mark.parametrize("place", ["secret.hex", "auth.keys"])
def test_a_key_that_must_not_be_used_ends_the_start_with_one_line(tmp_path, place, text, says):
    text = key_pair("EdDSA")[1].decode() if text == "PEM" else text
    options = []
    if place == "auth.keys":
        (tmp_path / "key").write_text(text)
        options = ["--set", f"auth.keys=alg=HS256 file={tmp_path / 'key'}"]
    else:
        (tmp_path / "state").mkdir(mode=0o700)
        (tmp_path / "state" / "secret.hex").touch(mode=0o600)
        (tmp_path / "state" / "secret.hex").write_text(text)
    given = ["--set", f"state_dir={tmp_path / 'state'}", "--set", "server.port=0", *options]
    done = completed([sys.executable, "-m", "amiga_ws", "serve", *given], cwd=CHECKOUT)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
    assert text.strip() not in done.stderr


async def test_a_stream_whose_key_ends_is_parked_like_any_other(keep, tmp_path):
    old = os.urandom(32)
    (tmp_path / "old.hex").touch(mode=0o600)
    (tmp_path / "old.hex").write_text(old.hex())
    until = datetime.fromtimestamp(time.time() + 600, UTC).isoformat()
    server = await keep([f"alg=HS256 file={tmp_path / 'old.hex'} until={until}"])
    token = Authority(old, server.settings.auth).issue(
        subject="ada", scope="metrics:read", ttl_s=3600, now=server.clock.wall()
    )
    peer = await server.websocket(bearer(token))
    assert (await peer.next())["data"]["expires_in"] <= 600
    server.ahead_s = 601
    (client,) = server.hub.clients.values()
    await eventually(lambda: client.parked_at is not None)
    await peer.say("refresh_token", {"token": server.token()})
    await peer.until("token_refreshed")
