"""TLS of our own: what is spoken, what is promised, and certificates that change while streams are open."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import sys

import pytest
from certificates import make_certificate
from processes import CHECKOUT, completed
from servers import eventually, handshake, masked_frame, parse_reply, read_head, request_bytes, settings_in
from websockets.asyncio.client import connect

from amiga_ws import app


@pytest.fixture
def secured(start, tmp_path):
    """await secured("key=value", ...) → a server with a certificate, and the client's context that trusts it."""

    async def secured(*overrides):
        cert, key = make_certificate(tmp_path)
        given = [f"server.tls.cert={cert}", f"server.tls.key={key}", "limits.new_connections_burst=1000"]
        server = await start(*given, *overrides)
        return server, ssl.create_default_context(cafile=str(cert))

    return secured


async def ask(server, context, target, headers=(), method="GET"):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
    try:
        writer.write(request_bytes(method, target, f"127.0.0.1:{server.port}", headers))
        return parse_reply(await asyncio.wait_for(reader.read(), 5))
    finally:
        writer.close()
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            await writer.wait_closed()


async def shaken(server, context):
    """(version, cipher, ALPN) of a handshake, or None where it fails."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
    except (ssl.SSLError, ConnectionError):
        return None
    spoken = writer.get_extra_info("ssl_object")
    found = spoken.version(), spoken.cipher()[0], spoken.selected_alpn_protocol()
    writer.close()
    await writer.wait_closed()
    return found


def client(*, least=ssl.TLSVersion.TLSv1_2, most=ssl.TLSVersion.TLSv1_3, ciphers="ALL:@SECLEVEL=0"):
    """A client that would take anything, within these versions."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers(ciphers)
    context.minimum_version, context.maximum_version = least, most
    return context


# -- what is spoken ------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_tls_below_1_2_is_not_spoken(secured):
    server, _ = await secured()
    old = client(least=ssl.TLSVersion.TLSv1, most=ssl.TLSVersion.TLSv1_1)
    assert await shaken(server, old) is None
    for version, name in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
        assert (await shaken(server, client(least=version, most=version)))[0] == name


async def test_only_aead_ciphers_with_forward_secrecy_are_spoken(secured):
    server, _ = await secured()
    only_1_2 = {"least": ssl.TLSVersion.TLSv1_2, "most": ssl.TLSVersion.TLSv1_2}
    spoken = set()
    for cipher in client(**only_1_2).get_ciphers():
        if cipher["protocol"] == "TLSv1.3":
            continue
        name = cipher["name"]
        found = await shaken(server, client(**only_1_2, ciphers=f"{name}:@SECLEVEL=0"))
        if found is not None:
            spoken.add(name)
    assert spoken == {
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
    }


async def test_http_2_is_not_offered(secured):
    server, trusting = await secured()
    trusting.set_alpn_protocols(["h2", "http/1.1"])
    assert (await shaken(server, trusting))[2] == "http/1.1"


async def test_compression_and_renegotiation_are_refused_to_a_client_that_wants_them(secured):
    server, _ = await secured()
    assert server._tls.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    process = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", "-connect", f"127.0.0.1:{server.port}"),
        *("-tls1_2", "-legacy_renegotiation", "-comp"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = await asyncio.wait_for(process.stdout.readuntil(b"Verify return code"), 10)
    process.stdin.write(b"R\n")  # its command: renegotiate
    said += await asyncio.wait_for(process.stdout.read(), 10)  # it gives up; else it would go on
    assert b"Compression: NONE" in said
    assert b"RENEGOTIATING" in said
    assert b"no renegotiation" in said
    await process.wait()


# -- over it -------------------------------------------------------------------------------------


async def test_both_streams_run_over_tls(secured):
    server, trusting = await secured()
    bearer = {"Authorization": f"Bearer {server.token()}"}
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=trusting)
    target = "/api/stream/metrics?interval=1"
    writer.write(request_bytes("GET", target, f"127.0.0.1:{server.port}", bearer, close=False))
    async with connect(f"wss://127.0.0.1:{server.port}/ws", ssl=trusting, additional_headers=bearer) as peer:
        assert json.loads(await peer.recv())["event"] == "connected"
        await peer.send('{"event": "subscribe", "data": {"update_interval": 1}}')
        while json.loads(await peer.recv())["event"] != "metrics_update":
            pass
        await reader.readuntil(b'"cpu_percent":12.0')
        server.host.cpu_percent = 63.0
        assert '"cpu_percent":63.0' in await asyncio.wait_for(peer.recv(), 5)
        await asyncio.wait_for(reader.readuntil(b'"cpu_percent":63.0'), 5)
    writer.close()
    await writer.wait_closed()


async def test_a_broken_frame_is_told_over_tls_too(secured):
    """A TLS stream cannot be closed on one side alone: the server waits a second for the peer to leave."""
    server, trusting = await secured()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=trusting)
    lines = [*handshake(), ("Authorization", f"Bearer {server.token()}")]
    writer.write(request_bytes("GET", "/ws", f"127.0.0.1:{server.port}", lines, close=False))
    assert (await read_head(reader)).status == 101
    writer.write(masked_frame(0x83) * 1000)
    received = await asyncio.wait_for(reader.read(), 5)
    assert b'"code":1002' in received
    assert b"\x88" in received[-40:]
    assert (1002).to_bytes(2, "big") in received[-40:]
    writer.close()
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        await writer.wait_closed()


async def test_every_reply_promises_tls_and_none_does_without(secured, start):
    server, trusting = await secured()
    bearer = {"Authorization": f"Bearer {server.token()}"}
    for path, status in (
        ("/health", 200),
        ("/", 303),
        ("/login", 200),
        ("/static/base.css", 200),
        ("/nothing", 404),
        ("/api/session", 401),
        ("/api/tasks?sort=colour", 400),
        ("/ws", 426),
    ):
        reply = await ask(server, trusting, path, bearer if status in (400, 426) else {})
        assert (reply.status, reply.header("Strict-Transport-Security")) == (status, "max-age=31536000"), path
    plain = await start()
    assert (await plain.ask("/health")).header("Strict-Transport-Security") is None


async def test_the_cookie_is_bound_to_the_host_and_to_tls(secured):
    server, trusting = await secured()
    bearer = {"Authorization": f"Bearer {server.token()}"}
    reply = await ask(server, trusting, "/api/session", bearer, method="POST")
    name, *attributes = [part.strip() for part in reply.header("Set-Cookie").split(";")]
    assert name.startswith("__Host-amiga_session=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= set(attributes)
    assert not any(part.startswith("Domain") for part in attributes)
    own = {"Cookie": name, "Origin": server.url}
    assert (await ask(server, trusting, "/api/session", own)).status == 200
    other = name.replace("__Host-amiga_session", f"amiga_session_{server.port}")
    assert (await ask(server, trusting, "/api/session", {"Cookie": other})).status == 401
    reply = await ask(server, trusting, "/api/session", own, method="DELETE")
    assert reply.status == 204
    assert "; Secure" in reply.header("Set-Cookie")  # else a browser keeps it


async def test_an_http_page_of_the_same_host_is_a_foreign_origin(secured):
    server, trusting = await secured()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=trusting)
    headers = [*handshake(), ("Origin", f"http://127.0.0.1:{server.port}")]
    headers += [("Authorization", f"Bearer {server.token()}")]
    writer.write(request_bytes("GET", "/ws", f"127.0.0.1:{server.port}", headers, close=False))
    assert (await read_head(reader)).status == 403
    writer.close()
    with contextlib.suppress(ssl.SSLError):
        await writer.wait_closed()


# -- who wastes our time -------------------------------------------------------------------------


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"])
async def test_a_client_that_does_not_shake_hands_is_dropped_in_time(secured, monkeypatch, caplog, said):
    assert app.HTTP_LIMITS["idle_connection_timeout"] <= 30
    monkeypatch.setitem(app.HTTP_LIMITS, "idle_connection_timeout", 1.0)
    server, trusting = await secured()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(said)
    with contextlib.suppress(ConnectionError):
        assert not (await asyncio.wait_for(reader.read(), 4)).startswith(b"HTTP")
    writer.close()
    assert (await ask(server, trusting, "/health")).status == 200
    assert not [
        record for record in caplog.records if record.name.startswith("amiga_ws.") and record.exc_info
    ]


# -- certificates that change --------------------------------------------------------------------


async def presented(server):
    _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=client())
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return ssl.DER_cert_to_PEM_cert(found)


async def test_a_new_certificate_is_presented_after_a_reload_and_streams_stay(secured, tmp_path):
    server, trusting = await secured()
    tls = server.settings.server.tls
    address = f"wss://127.0.0.1:{server.port}/ws"
    bearer = {"Authorization": f"Bearer {server.token()}"}
    async with connect(address, ssl=trusting, additional_headers=bearer) as peer:
        await peer.recv()
        before = await presented(server)
        assert before == tls.cert.read_text()
        cert, key = make_certificate(tmp_path, "renewed")
        cert.replace(tls.cert)  # renewed in place, as certbot does
        key.replace(tls.key)
        folder = server.settings.state_dir.parent
        settings = settings_in(folder, f"server.tls.cert={tls.cert}", f"server.tls.key={tls.key}")
        assert server.reload(lambda: settings)
        after = await presented(server)
        assert after == tls.cert.read_text() != before
        # A certificate with another one's key, and none at all: the last good one stays.
        _, other = make_certificate(tmp_path, "other")
        mixed = settings_in(folder, f"server.tls.cert={tls.cert}", f"server.tls.key={other}")
        gone = settings_in(folder, f"server.tls.cert={tmp_path / 'no.pem'}", f"server.tls.key={tls.key}")
        for bad in (mixed, gone, settings_in(folder), settings_in(folder, f"server.tls.cert={tls.cert}")):
            assert not server.reload(lambda bad=bad: bad)
            assert await presented(server) == after
        await peer.send('{"event": "unsubscribe"}')
        assert json.loads(await peer.recv())["event"] == "unsubscribed"
    await eventually(lambda: not server.hub.clients)


@pytest.mark.parametrize("case", ["missing", "rubbish", "other key", "half"])
def test_a_certificate_that_cannot_be_used_ends_the_start_with_one_line(tmp_path, case):
    cert, key = make_certificate(tmp_path)
    if case == "missing":
        cert = tmp_path / "nowhere.pem"
    elif case == "rubbish":
        cert.write_text("rubbish")
    elif case == "other key":
        _, key = make_certificate(tmp_path, "other")
    given = [f"state_dir={tmp_path / 'state'}", "server.port=0", f"server.tls.cert={cert}"]
    given += [] if case == "half" else [f"server.tls.key={key}"]
    options = [word for each in given for word in ("--set", each)]
    done = completed([sys.executable, "-m", "amiga_ws", "serve", *options], cwd=CHECKOUT)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "server.tls" in done.stderr
