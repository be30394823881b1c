"""Behind real reverse proxies, with the configurations of docs/proxy as they stand there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import time

import pytest
from certificates import make_certificate
from processes import CHECKOUT
from servers import eventually, pairs, parse_reply, request_bytes
from websockets.asyncio.client import connect

NAME = "monitor.example"
ORIGIN = f"https://{NAME}"
CLIENT = "127.0.0.2"  # not the proxy's own address
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def replaced(text, *changes):
    """Every change must hit: the file of the documentation has moved on otherwise."""
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, str(new))
    return text


class Proxy:
    """A proxy process in front of `backend`, with the documentation's configuration."""

    def __init__(self, folder, backend):
        self.folder, self.backend = folder, backend
        self.port, self.plain_port = free_port(), free_port()
        self.cert, self.key = make_certificate(folder)
        self.access_log = folder / "access.log"
        with (folder / "proxy.log").open("wb") as log:
            self.process = subprocess.Popen(  # noqa: S603 - the tests' own commands
                self.command(),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment(),
            )
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            assert self.process.poll() is None, (folder / "proxy.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def environment(self):
        return {**os.environ, "HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder)}

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:  # Caddy waits for connections that are open
            self.process.kill()
            self.process.wait()

    # -- through it ------------------------------------------------------------------------------

    def trusting(self):
        context = ssl.create_default_context(cafile=str(self.cert))
        context.check_hostname = False
        return context

    async def connected(self, headers=(), *, method="GET", target="/", close=True, come_from=CLIENT):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.trusting(), server_hostname=NAME, local_addr=(come_from, 0)
        )
        writer.write(
            request_bytes(method, target, NAME, [("Content-Length", "0"), *pairs(headers)], close=close)
        )
        return reader, writer

    async def ask(self, target, headers=(), method="GET", **more):
        reader, writer = await self.connected(headers, method=method, target=target, **more)
        try:
            return parse_reply(await asyncio.wait_for(reader.read(), 5))
        finally:
            writer.close()

    async def ask_plainly(self, target):
        """At the port that leads on to https."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.plain_port)
        try:
            writer.write(request_bytes("GET", target, NAME))
            return parse_reply(await asyncio.wait_for(reader.read(), 5))
        finally:
            writer.close()

    def websocket(self, **headers):
        return connect(
            f"wss://{NAME}/ws",
            host="127.0.0.1",
            port=self.port,
            ssl=self.trusting(),
            additional_headers={name.replace("_", "-"): value for name, value in headers.items()},
            local_addr=(CLIENT, 0),
            proxy=None,
        )


class Nginx(Proxy):
    def command(self):
        text = replaced(
            (CHECKOUT / "docs/proxy/nginx.conf").read_text(),
            ("127.0.0.1:3001", f"127.0.0.1:{self.backend}"),
            ("listen 80;", f"listen 127.0.0.1:{self.plain_port};"),
            ("listen 443 ssl;", f"listen 127.0.0.1:{self.port} ssl;"),
            ("/var/log/nginx/amiga_ws.log", self.access_log),
            ("/etc/ssl/monitor.example.pem", self.cert),
            ("/etc/ssl/monitor.example.key", self.key),
        )
        (self.folder / "amiga_ws.conf").write_text(text)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "".join(f"{kind}_temp_path {self.folder}/{kind};\n" for kind in kinds)
        user = "user root;\n" if os.geteuid() == 0 else ""  # of the tests' own folders
        (self.folder / "nginx.conf").write_text(
            f"{user}daemon off;\nworker_processes 1;\npid {self.folder}/nginx.pid;\nerror_log stderr;\n"
            f"events {{}}\nhttp {{\n{temporary}access_log {self.folder}/default.log;\n"
            f"include {self.folder}/amiga_ws.conf;\n}}\n"
        )
        nginx = shutil.which("nginx", path=PATH)
        return [nginx, "-p", str(self.folder), "-c", str(self.folder / "nginx.conf"), "-e", "stderr"]


class Caddy(Proxy):
    def command(self):
        text = replaced(
            (CHECKOUT / "docs/proxy/Caddyfile").read_text(),
            ("127.0.0.1:3001", f"127.0.0.1:{self.backend}"),
            ("log {", f"log {{\n\t\toutput file {self.access_log}"),
            (f"\n{NAME} {{", f"\n{NAME} {{\n\tbind 127.0.0.1\n\ttls {self.cert} {self.key}"),
        )
        ports = f"{{\n\tadmin off\n\thttp_port {self.plain_port}\n\thttps_port {self.port}\n\tskip_install_trust\n}}\n"
        (self.folder / "Caddyfile").write_text(ports + text)
        caddy = shutil.which("caddy", path=PATH)
        return [caddy, "run", "--config", str(self.folder / "Caddyfile"), "--adapter", "caddyfile"]


@pytest.fixture(params=[Nginx, Caddy], ids=["nginx", "caddy"])
def behind(request, start, tmp_path):
    """await behind("key=value", ...) → (server, proxy), the server trusting the proxy alone."""
    if not shutil.which(request.param.__name__.lower(), path=PATH):
        reason = f"no {request.param.__name__} on this machine; scripts/test installs it"
        if os.environ.get("CI") == "true" and request.param is Nginx:
            pytest.fail(reason)
        pytest.skip(reason)
    proxies = []

    async def behind(*overrides):
        server = await start(f"server.public_url={ORIGIN}", "server.trusted_proxies=127.0.0.1", *overrides)
        proxies.append(await asyncio.to_thread(request.param, tmp_path, server.port))
        return server, proxies[0]

    yield behind
    for proxy in proxies:
        proxy.end()


def bearer(server, **token):
    return {"Authorization": f"Bearer {server.token(**token)}"}


async def read_until(reader, text, within_s=5):
    return await asyncio.wait_for(reader.readuntil(text), within_s)


async def signed_in(server, proxy):
    reply = await proxy.ask("/api/session", bearer(server), "POST")
    assert reply.status == 201
    return reply.header("Set-Cookie")


async def test_a_websocket_runs_through_it(behind):
    server, proxy = await behind()
    async with proxy.websocket(**bearer(server)) as peer:
        assert json.loads(await peer.recv())["event"] == "connected"
        await peer.send('{"event": "subscribe", "data": {"update_interval": 1}}')
        while json.loads(await peer.recv())["event"] != "metrics_update":
            pass
        server.host.cpu_percent = 58.0
        assert '"cpu_percent":58.0' in await asyncio.wait_for(peer.recv(), 3)
        (client,) = server.hub.clients.values()
        assert client.address == CLIENT
    await eventually(lambda: not server.hub.clients)


async def test_an_event_stream_runs_through_it_unbuffered(behind):
    server, proxy = await behind()
    target = "/api/stream/metrics?interval=1"
    reader, writer = await proxy.connected(bearer(server), target=target, close=False)
    head = await read_until(reader, b"\r\n\r\n")
    assert b" 200 " in head
    assert b"text/event-stream" in head
    await read_until(reader, b'"cpu_percent":12.0')
    for value in (31.0, 32.0):
        server.host.cpu_percent = value
        began = time.monotonic()
        await read_until(reader, f'"cpu_percent":{value}'.encode(), 3)
        assert time.monotonic() - began < 2.5  # a tick, and nothing kept back
    (client,) = server.hub.clients.values()
    assert client.address == CLIENT
    writer.transport.abort()
    await eventually(lambda: not server.hub.clients)


async def test_the_cookie_is_secure_and_works_for_both_streams(behind):
    server, proxy = await behind()
    cookie, *attributes = [part.strip() for part in (await signed_in(server, proxy)).split(";")]
    assert cookie.startswith("__Host-amiga_session=")
    assert {"Secure", "HttpOnly", "Path=/"} <= set(attributes)
    async with proxy.websocket(Cookie=cookie, Origin=ORIGIN) as peer:
        assert json.loads(await peer.recv())["data"]["subject"] == "ada"
        reader, writer = await proxy.connected({"Cookie": cookie}, target="/api/stream/metrics", close=False)
        await read_until(reader, b"event: subscribed")
        renewed = await proxy.ask("/api/session/renew", {"Cookie": cookie, "Origin": ORIGIN}, "POST")
        assert renewed.status == 200
        assert json.loads(await peer.recv())["event"] == "token_refreshed"
        await read_until(reader, b"event: token_refreshed")
        writer.close()
    for origin in (f"http://{NAME}", "https://evil.example", f"http://127.0.0.1:{server.port}"):
        reply = await proxy.ask("/api/session", {"Cookie": cookie, "Origin": origin}, "DELETE")
        assert reply.status == 403, origin
    # The same cookie under the name it has without TLS is none.
    reply = await proxy.ask("/api/session", {"Cookie": cookie.replace("__Host-", "")})
    assert reply.status == 401


async def test_every_reply_promises_tls(behind):
    _, proxy = await behind()
    for target, status in (("/login", 200), ("/", 303), ("/nothing", 404), ("/api/session", 401)):
        reply = await proxy.ask(target)
        assert (reply.status, reply.header("Strict-Transport-Security")) == (status, "max-age=31536000")
        assert "tornado" not in str(reply.headers).lower()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.plain_port)
    writer.write(request_bytes("GET", "/login?next=/", NAME))
    reply = parse_reply(await asyncio.wait_for(reader.read(), 5))
    assert reply.status in (301, 308)
    assert reply.header("Location") == f"{ORIGIN}/login?next=/"
    writer.close()


async def test_a_client_cannot_claim_another_address(behind):
    server, proxy = await behind()
    lies = {"X-Forwarded-For": "9.9.9.9", "X-Forwarded-Proto": "http", "X-Real-IP": "9.9.9.9"}
    lies |= {"Forwarded": "for=9.9.9.9"}
    await proxy.ask("/api/tasks", lies)
    assert server.services.refusals.newest()[0].address == CLIENT
    reply = await proxy.ask("/api/session", bearer(server) | lies, "POST")
    assert "Secure" in reply.header("Set-Cookie")


async def test_limits_count_the_clients_not_the_proxy(behind):
    server, proxy = await behind("limits.connections_per_address=1")
    async with proxy.websocket(**bearer(server)):
        reply = await proxy.ask("/api/stream/metrics", bearer(server))
        assert reply.status == 429
        target = "/api/stream/metrics"
        reader, writer = await proxy.connected(
            bearer(server), target=target, close=False, come_from="127.0.0.3"
        )
        await read_until(reader, b"event: subscribed")
        writer.close()


async def test_who_comes_past_the_proxy_is_not_believed(behind):
    """From any address but the trusted one the same headers are noise."""
    server, _ = await behind("server.host=0.0.0.0")
    claims = {"X-Forwarded-For": "9.9.9.9", "X-Forwarded-Proto": "https"}
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, local_addr=("127.0.0.9", 0))
    headers = bearer(server) | claims
    writer.write(request_bytes("POST", "/api/session", f"127.0.0.1:{server.port}", headers))
    reply = parse_reply(await asyncio.wait_for(reader.read(), 5))
    writer.close()
    assert reply.status == 201
    assert reply.header("Set-Cookie").startswith(f"amiga_session_{server.port}=")
    assert "Secure" not in reply.header("Set-Cookie")
    assert reply.header("Strict-Transport-Security") is None


async def test_the_bye_of_a_drain_arrives_through_it(behind):
    server, proxy = await behind()
    reader, writer = await proxy.connected(bearer(server), target="/api/stream/metrics", close=False)
    await read_until(reader, b"event: subscribed")
    async with proxy.websocket(**bearer(server)) as peer:
        await peer.recv()
        await server.stop()
        try:
            bye = json.loads(await asyncio.wait_for(peer.recv(), 5))
            assert (bye["event"], bye["data"]["code"], bye["data"]["reconnect"]) == ("bye", 4001, True)
            await peer.wait_closed()
            assert peer.close_code == 4001
            await read_until(reader, b'event: bye\ndata: {"code":4001')
            writer.close()
        finally:
            await server.start()


async def test_a_token_in_the_query_is_refused_and_stands_in_no_log_of_the_proxy(behind):
    server, proxy = await behind()
    token = server.token()
    assert (await proxy.ask(f"/ws?token={token}")).status == 400
    assert (await proxy.ask("/api/session", {"Authorization": f"Bearer {token}"})).status == 200
    assert (await proxy.ask_plainly(f"/login?token={token}")).status in (301, 308)
    proxy.end()
    logged = "".join(path.read_text() for path in proxy.folder.glob("*.log"))
    assert "/api/session" in logged
    assert token.rpartition(".")[2] not in logged
