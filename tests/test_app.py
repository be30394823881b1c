"""Start, shutdown and the process: ports, files, signals, descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import resource
import signal
import socket
import ssl
import stat
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import CHECKOUT, Running, completed
from servers import AmigaInHand, RawWebSocket, ServerInHand, eventually, settings_in
from tornado.iostream import IOStream
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from amiga_ws import state
from amiga_ws.app import SWITCH_S
from amiga_ws.client import Client
from amiga_ws.handlers.sse import MetricsEvents
from amiga_ws.handlers.websocket import MetricsSocket
from amiga_ws.listening import StartError, bind, carried_connections
from amiga_ws.wire import Close

SERVE = [sys.executable, "-m", "amiga_ws", "serve"]


def serving(tmp_path, *overrides):
    """A server process whose files are in tmp_path."""
    given = [f"state_dir={tmp_path / 'state'}", f"amiga.root={tmp_path / 'amiga'}", "server.port=0"]
    options = [option for each in (*given, *overrides) for option in ("--set", each)]
    return Running([*SERVE, *options], CHECKOUT, tmp_path / "stderr.txt")


def token_of(tmp_path, *options):
    made = completed(
        [*SERVE[:-1], "token", "--subject", "ada", "--set", f"state_dir={tmp_path / 'state'}", *options],
        cwd=CHECKOUT,
    )
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


# -- start --------------------------------------------------------------------------------------


async def test_a_running_server_stands_in_server_json_and_a_stopped_one_does_not(server):
    path = server.settings.state_dir / "server.json"
    assert json.loads(path.read_text()) == {"url": server.url, "pid": os.getpid()}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert state.read_server_url(server.settings.state_dir) == server.url
    await server.stop()
    assert not path.exists()
    await server.start()


def leaves_a_socket(test):
    """Tornado's bind_sockets leaves the socket it could not bind to the garbage collector."""
    for category in ("ResourceWarning", "pytest.PytestUnraisableExceptionWarning"):
        test = pytest.mark.filterwarnings(f"ignore::{category}")(test)
    return test


def taken(count):
    """Sockets that listen on `count` free ports in a row, and the first of those."""
    while True:
        held = [socket.create_server(("127.0.0.1", 0))]
        first = held[0].getsockname()[1]
        try:
            held += [socket.create_server(("127.0.0.1", port)) for port in range(first + 1, first + count)]
        except OSError:
            for each in held:
                each.close()
            continue
        return held, first


@leaves_a_socket
def test_a_taken_port_gives_way_to_the_next_free_one_and_says_so(caplog):
    held, first = taken(2)
    free = socket.create_server(("127.0.0.1", 0))
    last = free.getsockname()[1]
    free.close()
    (bound,) = bind("127.0.0.1", [first, first + 1, last])
    assert bound.getsockname()[1] == last
    assert f"port {first} is taken; listening on {last} instead" in caplog.text
    for each in (*held, bound):
        each.close()


@leaves_a_socket
def test_when_all_are_taken_it_says_so():
    held, first = taken(2)
    with pytest.raises(StartError, match=f"ports {first}-{first + 1} are all taken; set server.port"):
        bind("127.0.0.1", [first, first + 1])
    with pytest.raises(StartError, match=f"port {first} is taken"):
        bind("127.0.0.1", [first])
    for each in held:
        each.close()


@leaves_a_socket
async def test_only_an_unset_port_gives_way(tmp_path, io_loop):
    """A port somebody asked for is that port or nothing."""
    held, first = taken(1)
    server = ServerInHand(settings_in(tmp_path, f"server.port={first}"))
    with pytest.raises(StartError, match=f"port {first} is taken"):
        await server.start()
    held[0].close()
    await server.start()  # nothing was left half started
    assert server.port == first
    await server.stop()


@leaves_a_socket
@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["server.host=192.0.2.1"], "cannot listen on 192.0.2.1:0"),
        (["server.host=no-such-host.invalid"], "cannot listen on no-such-host.invalid:0"),
        (["server.tls.cert=missing.pem"], "server.tls.cert and server.tls.key go together"),
        (["server.tls.cert=missing.pem", "server.tls.key=missing.key"], "server.tls: cannot use"),
    ],
)
async def test_a_start_that_cannot_be_is_one_sentence(tmp_path, io_loop, overrides, said):
    with pytest.raises(StartError, match=said):
        await ServerInHand(settings_in(tmp_path, *overrides)).start()


async def test_a_second_server_on_the_same_state_is_refused_and_told_where_the_first_is(server):
    second = ServerInHand(server.settings)
    with pytest.raises(state.StateError, match=server.url):
        await second.start()


def test_stdout_has_one_line_and_names_a_port_that_listens(tmp_path):
    with serving(tmp_path) as running:
        assert running.first_line.startswith("listening on http://127.0.0.1:")
        assert running.request("GET", "/health")[0] == 200
        code, rest = running.stop()
        assert (code, rest) == (0, "")


def test_no_dump_is_left_that_would_hold_the_secret(tmp_path):
    with serving(tmp_path) as running:
        limits = Path(f"/proc/{running.process.pid}/limits").read_text()
        (size,) = (line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core file size"))
        assert size == ["0", "0"]


def test_a_thread_that_computes_soon_gives_way_to_the_loop(tmp_path):
    """As the process itself says once it listens."""
    words = [
        "import os, signal, sys; from pathlib import Path; from amiga_ws import app; from amiga_ws.config import load",
        "tell = lambda: (print(sys.getswitchinterval()), os.kill(os.getpid(), signal.SIGTERM))",
        "sys.exit(app.run(load(None, sys.argv[1:], {}, Path.cwd()), on_listening=tell))",
    ]
    settings = [f"state_dir={tmp_path / 'state'}", f"amiga.root={tmp_path}", "server.port=0"]
    done = completed([sys.executable, "-c", "\n".join(words), *settings], cwd=CHECKOUT)
    assert (done.returncode, float(done.stdout.splitlines()[-1])) == (0, SWITCH_S)
    assert sys.getswitchinterval() > SWITCH_S


# -- the descriptor limit -----------------------------------------------------------------------


@pytest.mark.parametrize(("files", "carried"), [(128, 64), (1024, 819)])  # 64 are left, and a fifth
def test_connections_that_the_descriptor_limit_cannot_carry_are_lowered_with_a_warning(
    tmp_path, files, carried
):
    command = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", *SERVE]
    options = [f"state_dir={tmp_path / 'state'}", "server.port=0", "limits.connections=900"]
    with Running(
        [*command, *(word for option in options for word in ("--set", option))],
        CHECKOUT,
        tmp_path / "stderr.txt",
    ) as running:
        log = running.wait_for(f"limits.connections 900 is lowered to {carried}:")
        assert "ulimit -n" in log
        assert running.request("GET", "/ready")[0] == 200
        assert running.stop()[0] == 0


def test_the_soft_limit_is_raised_as_far_as_needed():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
        assert carried_connections(300) == 300
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 375
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_soft_limit_is_raised_where_connections_would_take_more_than_four_fifths_of_it():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1000, before[1]), before[1]))
        assert carried_connections(800) == 800
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(1000, before[1])
        assert carried_connections(801) == 801
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 1001
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# -- memory -------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["close", "reset"])
async def test_who_has_left_is_gone_without_the_garbage_collector(server, way):
    """A cycle would stay for ever where a reading of AMIGA freezes what there is."""
    stream, peer = await server.events(), await server.websocket()
    silent = await server.websocket(headers={})  # lets us wait for its credential
    _, idle = await asyncio.open_connection("127.0.0.1", server.port)  # asks for nothing
    await peer.say("subscribe")
    await peer.until("metrics_update")
    await stream.until(None)
    kept = MetricsSocket, MetricsEvents, Client, IOStream
    assert any(isinstance(one, kept) for one in gc.get_objects())
    gc.collect()
    gc.disable()
    try:
        for writer in (stream.writer, peer.writer, silent.writer, idle):
            if way == "reset":
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        await eventually(lambda: not any(isinstance(one, kept) for one in gc.get_objects()))
    finally:
        gc.enable()


# -- shutdown -----------------------------------------------------------------------------------


async def test_stop_says_bye_to_every_stream_of_both_kinds(start):
    server = await start()
    stream, peer = await server.events(), await server.websocket()
    stopping = asyncio.ensure_future(server.stop())
    for bye in ((await stream.until("bye")).data, (await peer.until("bye"))["data"]):
        assert (bye["code"], bye["reconnect"]) == (4001, True)
        assert 500 <= bye["retry_ms"] <= 3000
        assert bye["ref"]
    assert await stream.next() is None
    code, reason = await peer.closed()
    assert (code, reason) == (Close.SHUTTING_DOWN, "the server is shutting down")
    await peer.send(0x8, code.to_bytes(2, "big"))
    await stopping
    assert server.host.closed
    assert not server.hub.connections_of()
    await server.start()


async def test_stop_does_not_wait_for_a_peer_that_does_not_answer(start):
    server = await start()
    await server.websocket()
    began = time.monotonic()
    await server.stop()
    assert time.monotonic() - began < 4
    await server.start()


async def test_stop_does_not_wait_for_a_collector_that_hangs(start):
    server = await start()
    server.amiga.gate.clear()
    reading = asyncio.ensure_future(server.facts.refresh(frozenset({24})))
    began = time.monotonic()
    await server.stop()
    assert time.monotonic() - began < 4
    server.amiga.gate.set()
    reading.cancel()
    server.amiga = AmigaInHand()
    await server.start()


@pytest.mark.promise("A stop answers the requests that are under way")
async def test_stop_answers_who_has_asked(start):
    """It waits for AMIGA's thread when we are told to."""
    server = await start()
    token = server.token("owner")
    server.amiga.gate.clear()
    asked = asyncio.ensure_future(server.ask_as(token, "/api/metrics/overview"))
    await eventually(lambda: server.services.answering)
    stopping = asyncio.ensure_future(server.stop())
    await asyncio.sleep(0.3)
    assert not stopping.done()
    server.amiga.gate.set()
    assert (await asked).json["overview"]["tasks"]["total"] == server.amiga.total
    began = time.monotonic()
    await stopping
    assert time.monotonic() - began < 1
    assert not server.services.answering
    await server.start()


async def test_the_end_has_no_error_to_tell_of_a_request_whose_peer_has_left(start, caplog):
    """A stop does not wait for it, so it may still be under way when `asyncio.run` cancels all there is."""
    server = await start()
    server.amiga.gate.clear()
    before = asyncio.all_tasks()
    asked = asyncio.ensure_future(server.ask_as(server.token("owner"), "/api/metrics/overview"))
    await eventually(lambda: server.services.answering)
    asked.cancel()
    await eventually(lambda: all(stream.closed() for stream in server.services.answering))
    under_way = asyncio.all_tasks() - before
    for task in under_way:
        task.cancel()
    await asyncio.wait(under_way)
    server.amiga.gate.set()
    assert "error 500" not in caplog.text


@pytest.mark.promise("While it drains, who is here is served on and who comes is told when to come back")
async def test_while_it_drains_streams_go_on_and_new_ones_are_told_to_come_back(start):
    """The listener stays open so long: a load balancer asks /ready, and people's pages ask for the rest."""
    server = await start("server.drain_s=60s")
    token = server.token("owner")
    stream = await server.events()
    await stream.until(None)
    stopping = asyncio.create_task(server.stop())
    await eventually(lambda: not server.services.ready())
    assert (await server.ask("/ready")).status == 503
    assert (await server.ask_as(token, "/api/metrics/overview")).status == 200
    refused = await RawWebSocket.open(server)
    assert (refused.reply.status, refused.reply.json["code"]) == (503, "unavailable")
    assert int(refused.reply.header("Retry-After")) >= 1
    assert (await server.ask_as(token, "/api/stream/metrics")).status == 503
    # A 503 would end a browser's EventSource for ever.
    softly = await server.ask_as(token, "/api/stream/metrics", {"Accept": "text/event-stream"})
    assert softly.status == 200
    assert b"event: bye" in softly.body
    assert f'"code":{int(Close.SHUTTING_DOWN)}'.encode() in softly.body
    server.amiga.total = 8
    assert (await stream.until(None)).data["overview"]["tasks"]["total"] == 8  # who is here is served on
    server.hurry.set()
    assert (await stream.until("bye")).data["code"] == Close.SHUTTING_DOWN
    await stopping
    with pytest.raises(ConnectionRefusedError):
        await server.ask("/ready")
    await server.start()


@pytest.mark.promise("A stop says goodbye to every stream and is over within 5 s")
def test_sigterm_says_bye_to_streams_and_exits_0_within_5_s(tmp_path):
    with serving(tmp_path) as running:
        token = token_of(tmp_path)
        address = running.url.replace("http", "ws") + "/ws"
        with (
            connect(address, additional_headers={"Authorization": f"Bearer {token}"}) as peer,
            socket.create_connection(("127.0.0.1", int(running.url.rpartition(":")[2])), timeout=5) as stream,
        ):
            stream.sendall(
                f"GET /api/stream/metrics HTTP/1.1\r\nHost: {running.url[7:]}\r\n"
                f"Authorization: Bearer {token}\r\n\r\n".encode()
            )
            while b"subscribed" not in stream.recv(65536):
                pass
            began = time.monotonic()
            running.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(ConnectionClosed):
                while (message := json.loads(peer.recv(timeout=5)))["event"] != "bye":
                    pass
            assert (message["event"], message["data"]["code"]) == ("bye", 4001)
            received = b""
            while part := stream.recv(65536):
                received += part
            assert b'event: bye\ndata: {"code":4001,' in received
            code, rest = running.process.wait(5), running.process.stdout.read()
            assert time.monotonic() - began < 5
            assert (code, rest) == (0, b"")
        assert not (tmp_path / "state" / "server.json").exists()
        log = running.stderr()
        assert "Traceback" not in log
        assert token not in log


def test_sigint_ends_it_as_well(tmp_path):
    with serving(tmp_path) as running:
        assert running.stop(signal.SIGINT)[0] == 0
        assert "Traceback" not in running.stderr()


def test_a_killed_server_leaves_nothing_that_hinders_the_next(tmp_path):
    with serving(tmp_path) as running:
        running.kill()
    assert state.read_server_url(tmp_path / "state") is None
    with serving(tmp_path) as running:
        assert running.stop()[0] == 0


def test_a_login_token_works_once_over_a_kill(tmp_path):
    with serving(tmp_path) as running:
        login = token_of(tmp_path, "--login", "--json")
        token = json.loads(login)["token"]
        bearer = {"Authorization": f"Bearer {token}"}
        assert running.request("POST", "/api/session", bearer)[0] == 201
        running.kill()
    with serving(tmp_path) as running:
        assert running.request("POST", "/api/session", bearer)[0] == 401
        assert token not in running.stderr()


def test_a_second_signal_ends_the_drain(tmp_path):
    with serving(tmp_path, "server.drain_s=60s") as running:
        running.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 5
        while running.request("GET", "/ready")[0] != 503:
            assert time.monotonic() < deadline
        assert running.stop()[0] == 0


# -- reload -------------------------------------------------------------------------------------


async def test_a_reload_takes_in_origins_and_limits_and_keeps_connections(start, tmp_path):
    server = await start()
    peer = await server.websocket()
    folder = server.settings.state_dir.parent
    friend = {"Origin": "https://friend.example"}
    assert (await server.ask("/health", friend)).status == 403
    wanted = settings_in(folder, "origins.allowed=https://friend.example", "limits.requests_burst=1")
    assert server.reload(lambda: wanted)
    assert (await server.ask("/health", friend)).status == 200
    assert (await server.ask("/api/session")).status == 401
    assert (await server.ask("/api/session")).status == 429
    await peer.say("unsubscribe")
    await peer.until("unsubscribed")


async def test_a_broken_configuration_is_not_taken_in(server, caplog):
    def broken():
        raise StartError("line 3 is wrong")

    before = server.settings
    assert not server.reload(broken)
    assert server.settings is before
    assert "not reloaded, the former configuration stays in force: line 3 is wrong" in caplog.text
    caplog.clear()


def test_sighup_reads_the_file_again(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(f"state_dir: {tmp_path}/state\nserver: {{port: 0}}\n")
    with Running([*SERVE, "--config", str(config)], CHECKOUT, tmp_path / "stderr.txt") as running:
        assert running.request("GET", "/health", {"Origin": "http://a.example"})[0] == 403
        config.write_text(config.read_text() + "origins: {allowed: ['http://a.example']}\n")
        running.process.send_signal(signal.SIGHUP)
        running.wait_for("reloaded")
        assert running.request("GET", "/health", {"Origin": "http://a.example"})[0] == 200
        config.write_text("origins: {allowed: [no]}\n")
        running.process.send_signal(signal.SIGHUP)
        running.wait_for("not reloaded")
        assert running.request("GET", "/health", {"Origin": "http://a.example"})[0] == 200
        assert running.stop()[0] == 0


# -- TLS ----------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost"
    subprocess.run(  # noqa: S603 - our own words
        [*command.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
    )
    return cert, key


async def test_over_tls_the_cookie_is_secure_and_bound_to_the_host(start, certificate):
    cert, key = certificate
    server = await start(f"server.tls.cert={cert}", f"server.tls.key={key}")
    assert server.url.startswith("https://127.0.0.1:")
    context = ssl.create_default_context(cafile=str(cert))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
    writer.write(
        f"POST /api/session HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: 0\r\n"
        f"Authorization: Bearer {server.token()}\r\nConnection: close\r\n\r\n".encode()
    )
    reply = (await reader.read()).decode()
    writer.close()
    assert reply.startswith("HTTP/1.1 201")
    assert "Set-Cookie: __Host-amiga_session=" in reply
    assert "; Secure" in reply
    assert "Strict-Transport-Security: " in reply
    plain = await asyncio.open_connection("127.0.0.1", server.port)
    plain[1].write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    with contextlib.suppress(ConnectionResetError):
        assert not (await plain[0].read()).startswith(b"HTTP")
    plain[1].close()
    await eventually(lambda: not server.hub.connections_of())
