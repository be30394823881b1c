"""A canary token and a canary secret, taken past every route: they must turn up nowhere."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from certificates import make_certificate
from processes import CHECKOUT, Running, clean_environment
from routes import every_route
from servers import handshake, pairs, request_bytes
from websockets.sync.client import connect

from amiga_ws import state
from amiga_ws.auth.tokens import Authority
from amiga_ws.config import load

WITHIN_S = 30  # for an answer: the machine may be busy
STATUSES = {101, 200, 201, 204, 303, 400, 401, 403, 404, 405, 421, 426, 429}


class Canaries:
    """The secret, and tokens of it: `found_in(bytes)` names what turned up."""

    def __init__(self, folder):
        self.settings = load(None, [f"state_dir={folder / 'state'}"], {}, folder)
        self.secret = state.load_secret(self.settings.state_dir)
        self._authority = Authority(self.secret, self.settings.auth)
        self.tokens = {}

    def token(self, name, scope="metrics:read admin", ttl_s=3600, typ="access"):
        now = time.time() - (100 if name == "expired" else 0)
        made = self._authority.issue(subject="canary", scope=scope, ttl_s=ttl_s, now=now, typ=typ)
        self.tokens[f"{name} token"] = made
        return made

    def note(self, name, token):
        """One the server has issued."""
        self.tokens[name] = token

    def found_in(self, content):
        # Its header is the same for all; what begins the payload would be there also where a text was cut.
        wanted = {}
        for name, token in self.tokens.items():
            _, payload, signature = token.encode().split(b".")
            wanted[name], wanted[f"beginning of the {name}"] = signature, payload[:40]
        wanted["secret in hex"] = self.secret.hex().encode()
        wanted["secret"] = self.secret
        wanted["secret in base64"] = base64.b64encode(self.secret).rstrip(b"=")
        wanted["secret in base64url"] = base64.urlsafe_b64encode(self.secret).rstrip(b"=")
        return sorted(name for name, text in wanted.items() if text in content or text.upper() in content)


class Peer:
    """Sends requests to a running server, over one connection where it can, and keeps all that comes back."""

    def __init__(self, running):
        self.host, _, port = running.url.partition("//")[2].partition(":")
        self.port = int(port)
        self.heard = []  # replies, without the cookies they set
        self.statuses = set()
        self._connection = http.client.HTTPConnection(self.host, self.port, timeout=WITHIN_S)

    def ask(self, method, target, headers=(), body=b"", host=None):
        """The reply's headers."""
        self._connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        lines = [("Host", host or f"{self.host}:{self.port}"), *pairs(headers)]
        for name, value in [*lines, *([("Content-Length", str(len(body)))] if body else [])]:
            self._connection.putheader(name, value)
        self._connection.endheaders(body)
        reply = self._connection.getresponse()
        told = [f"{name}: {value}" for name, value in reply.getheaders() if name.lower() != "set-cookie"]
        self.statuses.add(reply.status)
        self.heard.append("\n".join([reply.reason, *told, ""]).encode() + reply.read())
        return reply.headers

    def close(self):
        self._connection.close()

    def first_of(self, target, headers, until):
        """The beginning of a reply that has no end."""
        with socket.create_connection((self.host, self.port), timeout=WITHIN_S) as connection:
            connection.sendall(request_bytes("GET", target, f"{self.host}:{self.port}", headers, close=False))
            received = b""
            while until not in received:
                received += (part := connection.recv(65536))
                assert part, received
        self.statuses.add(int(received.split()[1]))
        self.heard.append(received)

    def say(self, raw):
        """Something that is no request."""
        # The server may hang up at any step after the first.
        connection = socket.create_connection((self.host, self.port), timeout=WITHIN_S)
        with connection, contextlib.suppress(OSError):
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                self.heard.append(part)


def routes():
    """The path of each route."""
    return [path for path, _ in every_route()]


def taken_everywhere(peer, canaries):
    """The canary in every place of every route, good, bad and expired."""
    good, expired = canaries.token("good"), canaries.token("expired", ttl_s=60)
    reader = canaries.token("reader", scope="metrics:read")
    forged = good[:-8] + ("A" * 8 if not good.endswith("A" * 8) else "B" * 8)
    login = canaries.token("login", typ="login", ttl_s=60)
    signed_in = peer.ask("POST", "/api/session", {"Authorization": f"Bearer {login}"})
    cookie = signed_in["Set-Cookie"].partition(";")[0]
    canaries.note("session", cookie.partition("=")[2])
    own = {"Origin": f"http://127.0.0.1:{peer.port}"}
    for path in [*routes(), "/nothing", f"/{good}", f"/static/{good}"]:
        endless = path == "/api/stream/metrics"
        for token in (expired,) if endless else (good, reader, expired):
            for method in ("GET", "POST", "DELETE", "PUT"):
                if (method, path) == ("DELETE", "/api/session") and token == good:
                    continue  # it would sign the canary out
                peer.ask(method, path, {"Authorization": f"Bearer {token}"})
        peer.ask("GET", f"{path}?token={good}")
        peer.ask("GET", f"{path}?q={good}", {"Referer": f"http://x/?token={good}"})
        peer.ask("GET", path, {"Authorization": f"Basic {good}"})
        peer.ask("GET", path, [("Authorization", f"Bearer {good}")] * 2)
        peer.ask("GET", path, {"Authorization": f"Bearer {good}"}, host=good[:200])
        peer.ask("GET", path, {"Authorization": f"Bearer {good}", "Origin": f"http://{good}"})
        peer.ask(
            "POST",
            path,
            {"Cookie": cookie, "Content-Type": "application/x-www-form-urlencoded"},
            b"t=" + good.encode(),
        )
        peer.ask("GET", path, {"Cookie": cookie, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"})
    for path in routes():
        if path not in ("/ws", "/api/stream/metrics"):
            peer.ask("GET", path, own | {"Cookie": cookie})
            peer.ask("GET", path, [("Accept-Encoding", "gzip"), *pairs(own), ("Cookie", cookie)])
    peer.first_of("/api/stream/metrics", {"Authorization": f"Bearer {good}"}, b"event: subscribed")
    peer.first_of("/api/stream/metrics", {"Cookie": cookie}, b"event: subscribed")
    protocols = ("amiga.v1", f"amiga.bearer.{good}")
    peer.first_of("/ws", handshake(protocols), b'"connected"')
    peer.ask("GET", "/ws", handshake((f"amiga.bearer.{good}",)))
    peer.ask("POST", "/api/session/renew", own | {"Cookie": cookie})
    admin = {"Authorization": f"Bearer {good}"}
    for body in ({"token": forged}, {"token": good, "jti": "x"}, {"jti": 5}, {"subject": "nobody"}):
        peer.ask("POST", "/api/admin/revocations", admin, json.dumps(body).encode())
    for garbage in (f"GET /{good} HTTP/9\r\n\r\n", f"{good}\r\n\r\n", f"GET / HTTP/1.1\r\nX {good}\r\n\r\n"):
        peer.say(garbage.encode())
    return good, forged


def spoken_in_frames(running, canaries, token):
    """What goes over a WebSocket in messages; everything that comes back."""
    heard = []
    address = running.url.replace("http", "ws") + "/ws"
    for first in (token, "rubbish"):
        with connect(address) as peer:
            peer.send(json.dumps({"event": "authenticate", "data": {"token": first}}))
            heard.append(peer.recv(timeout=WITHIN_S))
            if first == token:
                other = canaries.token("other subject", ttl_s=60)
                for message in (
                    {"event": "refresh_token", "data": {"token": token}},
                    {"event": "refresh_token", "data": {"token": token + "x"}},
                    {"event": "refresh_token", "data": {"token": other, "more": token}},
                    {"event": token, "data": {}},
                    {"event": "subscribe", "data": {"resume": token}},
                    {"event": "subscribe", "data": {"hours": token}},
                ):
                    peer.send(json.dumps(message))
                    heard.append(peer.recv(timeout=WITHIN_S))
                peer.send(token)
                heard.append(peer.recv(timeout=WITHIN_S))
    return [text.encode() if isinstance(text, str) else text for text in heard]


def files_in(folder):
    """Every file the server could have written, but for the one that holds the secret."""
    return [path for path in folder.rglob("*") if path.is_file() and path.name != state.SECRET_FILE]


def command_line(pid):
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.timeout(240)
def test_no_token_and_no_secret_turns_up_in_any_log_file_reply_or_command_line(tmp_path):
    canaries = Canaries(tmp_path)
    given = [
        f"state_dir={tmp_path / 'state'}",
        f"amiga.root={tmp_path / 'amiga'}",
        "server.port=0",
        "log.level=debug",
        "limits.requests_burst=100000",
        "limits.new_connections_burst=1000",
    ]
    options = [word for each in given for word in ("--set", each)]
    # Every line, also those of which there are many.
    unsparing = "from amiga_ws import __main__, log; log.Sparing.filter = lambda *_: True; __main__.main()"
    with (
        Running(
            [sys.executable, "-c", unsparing, "serve", *options], CHECKOUT, tmp_path / "stderr"
        ) as running,
        contextlib.closing(Peer(running)) as peer,
    ):
        good, forged = taken_everywhere(peer, canaries)
        peer.heard += spoken_in_frames(running, canaries, good)
        for path in routes():
            peer.ask("GET", path, {"Authorization": f"Bearer {forged}"})
        seen = command_line(running.process.pid)
        environment = Path(f"/proc/{running.process.pid}/environ").read_bytes()
        assert running.stop(within_s=WITHIN_S)[0] == 0
    assert peer.statuses >= STATUSES, STATUSES - peer.statuses
    replies = [name for reply in peer.heard for name in canaries.found_in(reply)]
    assert not replies
    assert not canaries.found_in(seen)
    assert not canaries.found_in(environment)
    log = running.stderr()
    assert log.count("refused") > 100
    assert "Traceback" not in log
    found = {str(path): canaries.found_in(path.read_bytes()) for path in files_in(tmp_path)}
    assert not {path: names for path, names in found.items() if names}


async def test_no_token_turns_up_where_a_handler_fails(server, caplog):
    """500: the log has the traceback, and neither it nor the reply has the request's token."""
    token, cookie = server.token(), server.session()
    server.amiga.fault = RuntimeError("a bug")
    for headers in ({"Authorization": f"Bearer {token}"}, {"Cookie": cookie}):
        reply = await server.ask("/api/tasks", headers)
        assert reply.status == 500
        for secret in (token, cookie.partition("=")[2]):
            assert secret.rpartition(".")[2] not in reply.body.decode()
    told = caplog.text + str([record.__dict__ for record in caplog.records])
    assert "a bug" in told
    for secret in (token, cookie.partition("=")[2]):
        assert secret.rpartition(".")[2] not in told
    assert server.settings.state_dir.joinpath("secret.hex").read_text().strip() not in told
    caplog.clear()


def test_no_token_turns_up_when_tls_fails(tmp_path):
    """The classic mistake: the token is sent in clear to a TLS port. It must not be kept there."""
    canaries = Canaries(tmp_path)
    token = canaries.token("plain")
    cert, key = make_certificate(tmp_path)
    given = [
        f"state_dir={tmp_path / 'state'}",
        f"amiga.root={tmp_path / 'amiga'}",
        "server.port=0",
        "log.level=debug",
    ]
    given += [f"server.tls.cert={cert}", f"server.tls.key={key}"]
    options = [word for each in given for word in ("--set", each)]
    with Running(
        [sys.executable, "-m", "amiga_ws", "serve", *options], CHECKOUT, tmp_path / "stderr"
    ) as running:
        peer = Peer(running)
        request = request_bytes("GET", "/api/session", "localhost", {"Authorization": f"Bearer {token}"})
        for _ in range(5):
            peer.say(request)
        assert running.stop(within_s=WITHIN_S)[0] == 0
    assert "Traceback" not in running.stderr()
    for path in files_in(tmp_path):
        assert not canaries.found_in(path.read_bytes()), path


@pytest.mark.timeout(120)
def test_our_commands_show_no_token_in_the_process_list_nor_on_their_streams(threaded):
    """`watch` and `revoke` take it from the environment or stdin; who looks at processes sees neither."""
    with threaded() as server:
        token = server.token()
        signature = token.rpartition(".")[2].encode()
        at_state = ["--set", f"state_dir={server.settings.state_dir}"]
        commands = (
            (["watch", server.url, "--json", "--seconds", "1"], "environment", True),
            (["watch", server.url, "--json", "--seconds", "1", "--sse", "--token", "-"], "stdin", True),
            (["watch", server.url.replace("http://", "https://"), "--seconds", "1"], "environment", False),
            (["revoke", *at_state, "--token", "-"], "stdin", True),
            (["revoke", *at_state, "--token", ""], "environment", True),
        )
        for words, by, works in commands:
            process = subprocess.Popen(  # noqa: S603 - our own commands
                [sys.executable, "-m", "amiga_ws", *words],
                cwd=CHECKOUT,
                env=clean_environment(**({"AMIGA_WS_TOKEN": token} if by == "environment" else {})),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            seen = command_line(process.pid)
            stdout, stderr = process.communicate(token.encode() + b"\n" if by == "stdin" else b"")
            assert (process.returncode == 0) is works, stderr
            for content in (seen, stdout, stderr):
                assert signature not in content, words
            assert b"Traceback" not in stderr
