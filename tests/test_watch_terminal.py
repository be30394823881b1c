"""scripts/watch.py as a person or a program runs it: a real process, a real server, a real pseudo terminal."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import http.server
import json
import os
import pty
import re
import selectors
import signal
import ssl
import struct
import subprocess
import sys
import termios
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from processes import CHECKOUT, clean_environment

from amiga_ws.snapshot import Task

SCRIPT = [sys.executable, str(CHECKOUT / "scripts" / "watch.py")]
WITHIN_S = 15
OWNED = "\x1b]0;owned\x07\x9b2J\u202eabc"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def watch(server, *options, token=None, typed="", variables=None):
    """Run the script to its end: returncode, stdout, stderr."""
    given = {"AMIGA_WS_TOKEN": server.token() if token is None else token} | (variables or {})
    return subprocess.run(  # noqa: S603 - the tests' own command
        [*SCRIPT, server.url, *options],
        env=clean_environment(**given),
        input=typed,
        capture_output=True,
        text=True,
        check=False,
        timeout=WITHIN_S,
    )


def by_shell(server, to, *options):
    """As `watch`, with the standard streams as a shell makes them of `to`."""
    return subprocess.run(  # noqa: S603 - the tests' own command
        ["/bin/sh", "-c", f'exec "$@" {to}', "sh", *SCRIPT, server.url, *options],
        env=clean_environment(AMIGA_WS_TOKEN=server.token()),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=WITHIN_S,
    )


@contextlib.contextmanager
def watching(server, *options):
    """The script while it runs, its token in the environment."""
    with subprocess.Popen(  # noqa: S603 - the tests' own command
        [*SCRIPT, server.url, *options],
        env=clean_environment(AMIGA_WS_TOKEN=server.token()),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def revoke(server, subject):
    """As an administrator does it."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WITHIN_S)
    headers = {"Authorization": f"Bearer {server.token('boss', 'admin')}", "Content-Type": "application/json"}
    connection.request("POST", "/api/admin/revocations", json.dumps({"subject": subject}), headers)
    assert connection.getresponse().status == 201
    connection.close()


# -- JSON lines ------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", [[], ["--sse"]])
def test_json_is_one_event_a_line_as_the_server_sent_it(threaded, transport):
    with threaded() as server, watching(server, "--json", "--interval", "1", *transport) as process:
        lines = [json.loads(process.stdout.readline()) for _ in range(3)]
        assert [line["event"] for line in lines] == ["connected", "subscribed", "metrics_update"]
        assert all(line.keys() == {"event", "data"} for line in lines)
        assert lines[1]["data"]["config"]["delta"] is True
        server.amiga.total = 11
        patch = json.loads(process.stdout.readline())
        assert patch["event"] == "metrics_patch"
        assert patch["data"]["from"] == lines[2]["data"]["position"]
        step = {"op": "add", "path": "/overview/tasks/total", "value": 11}
        assert step in patch["data"]["patch"]


def test_json_is_plain_ascii_whatever_amiga_holds(threaded):
    with threaded() as server:
        server.amiga.tasks = [Task(task_id="t", status="running", description=OWNED)]
        done = watch(server, "--json", "--once")
    assert done.stdout.isascii()
    assert done.stdout.rstrip("\n").isprintable()
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["event"] == "metrics_update"
    assert json.loads(line)["data"]["tasks"][0]["description"] == OWNED


def test_a_reader_that_leaves_is_no_error(threaded):
    with threaded() as server, watching(server, "--json", "--interval", "1") as process:
        process.stdout.readline()
        process.stdout.close()
        server.amiga.total = 12
        assert process.wait(WITHIN_S) == 141
        assert process.stderr.read() == ""


@pytest.mark.parametrize("options", [(), ("--json",), ("--once",)])
@pytest.mark.parametrize(
    ("to", "why"), [(">&-", "Bad file descriptor"), (">/dev/full", "No space left on device")]
)
def test_an_output_that_takes_nothing_is_told_in_a_sentence(threaded, options, to, why):
    with threaded() as server:
        done = by_shell(server, to, *options)
    told = f"amiga_ws: cannot write to standard output: {why}\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", told)


def test_closed_streams_that_are_not_needed_are_not_missed(threaded):
    with threaded() as server:
        done = by_shell(server, "<&- 2>&-", "--once")
        assert done.returncode == 0
        assert "OK all clear" in done.stdout
        done = by_shell(server, "<&-", "--token", "-")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "a token is needed" in done.stderr


# -- ending ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_quietly_and_says_goodbye_to_the_server(threaded, signum):
    with threaded() as server, watching(server, "--json") as process:
        for _ in range(3):
            process.stdout.readline()
        process.send_signal(signum)
        assert process.wait(WITHIN_S) == 0
        assert process.stderr.read() == ""
        deadline = time.monotonic() + 5
        while server.hub.connections_of():
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_seconds_end_it_as_asked(threaded):
    with threaded() as server:
        before = time.monotonic()
        done = watch(server, "--seconds", "1")
        assert (done.returncode, done.stderr) == (0, "")
        assert time.monotonic() - before >= 1
        assert "OK: all clear" in done.stdout


@pytest.mark.parametrize("transport", [[], ["--sse"]])
def test_exit_codes_tell_what_was_wrong(threaded, transport):
    with threaded() as server:
        refused = watch(server, *transport, token=server.token()[:-5] + "AAAAA")
    gone = watch(server, *transport, token="gone")  # noqa: S106 - nobody there to judge it
    assert refused.returncode == 3
    assert "the token is not accepted" in refused.stderr
    assert gone.returncode == 1
    assert "refused" in gone.stderr
    for done in (refused, gone):
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1
        assert server.url in done.stderr


def test_being_signed_out_ends_it_with_the_servers_reason(threaded):
    with threaded() as server, watching(server, "--json") as process:
        for _ in range(3):
            process.stdout.readline()
        revoke(server, "ada")
        assert process.wait(WITHIN_S) == 3
        assert "revoked" in process.stderr.read()


@pytest.fixture
def over_tls(tmp_path):
    """(url, certificate file) of a server with a certificate of its own that lets nobody in."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "here")]), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    own, secret = tmp_path / "certificate.pem", tmp_path / "key.pem"
    own.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )

    class Nobody(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(401)

        def log_message(self, *_):
            pass

    class Server(http.server.HTTPServer):
        def handle_error(self, *_):
            """A client that does not trust us leaves in the middle of the handshake."""

    server = Server(("127.0.0.1", 0), Nobody)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own, secret)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"https://localhost:{server.server_port}", str(own)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("transport", [[], ["--sse"]])
def test_a_certificate_must_be_the_systems_or_the_given_one(over_tls, transport):
    class There:
        url, own = over_tls

    untrusted = watch(There, *transport, token="t")  # noqa: S106 - it gets no further
    assert untrusted.returncode == 1
    assert len(untrusted.stderr.splitlines()) == 1
    assert "the certificate is not trusted" in untrusted.stderr
    trusted = watch(There, "--ca", There.own, *transport, token="t")  # noqa: S106 - nobody's
    assert trusted.returncode == 3
    assert "401" in trusted.stderr


@pytest.mark.parametrize(
    ("options", "token", "words"),
    [
        ([], "", "a token is needed"),
        ([], "two words", "is none"),
        (
            [],
            "http://127.0.0.1:9/login#login=eyJ.eyJ.A",
            "a sign-in link; make a token with scripts/mktoken.py",
        ),
        (["--hours", "x"], "t", "--hours"),
        (["--seconds", "-1"], "t", "--seconds"),
        (["--ca", "/none"], "t", "there is no file"),
        (["--nonsense"], "t", "--nonsense"),
    ],
)
def test_misuse_is_told_in_a_sentence(options, token, words):
    class Nowhere:
        url = "http://127.0.0.1:9"

    done = watch(Nowhere, *options, token=token)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


# -- the token ------------------------------------------------------------------------------------


def test_the_token_can_come_by_standard_input_and_is_nowhere_on_the_command_line(threaded):
    with threaded() as server:
        done = watch(server, "--once", "--token", "-", token="", typed=server.token() + "\n")
        assert (done.returncode, done.stderr) == (0, "")
        assert "OK all clear" in done.stdout


def test_a_token_among_the_options_works_with_a_warning(threaded):
    with threaded() as server:
        token = server.token()
        done = watch(server, "--once", "--token", token, token="")
        assert done.returncode == 0
        assert "others on this machine can read --token" in done.stderr
        assert token not in done.stderr


# -- what a person sees --------------------------------------------------------------------------


def test_once_prints_the_table_without_escapes_into_a_pipe(threaded):
    with threaded() as server:
        server.amiga.tasks = [Task(task_id="t", status="running", description=f"work {OWNED}")]
        done = watch(server, "--once", variables={"COLUMNS": "90"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "OK all clear" in done.stdout
    assert re.search(r"^running +work", done.stdout, re.MULTILINE)
    assert "".join(done.stdout.split("\n")).isprintable()
    assert max(map(len, done.stdout.splitlines())) <= 90


def test_into_a_pipe_it_writes_a_line_when_something_has_changed(threaded):
    with threaded() as server, watching(server, "--interval", "1") as process:
        assert "CPU 12%" in process.stdout.readline()
        server.host.cpu_percent = 81.0
        assert "CPU 81%" in process.stdout.readline()


@pytest.mark.parametrize("interval", ["0.00001", "1e300"])
@pytest.mark.parametrize("transport", [(), ("--sse",)])
def test_an_interval_of_any_size_is_put_into_its_range(threaded, transport, interval):
    with threaded() as server:
        done = watch(server, "--once", "--interval", interval, *transport)
    assert (done.returncode, "OK all clear" in done.stdout) == (0, True), done.stderr


def test_a_clamped_window_is_told(threaded):
    with threaded() as server:
        done = watch(server, "--once", "--hours", "999")
    assert "hours is 168, not as asked" in done.stderr


class Terminal:
    """The script on a pseudo terminal of `columns` x `rows`."""

    def __init__(self, server, *options, columns=100, rows=20, **variables):
        self.raw = b""
        self.fd, theirs = pty.openpty()
        self.resize(columns, rows)
        given = {"AMIGA_WS_TOKEN": server.token(), "TERM": "xterm-256color"} | variables
        self.process = subprocess.Popen(  # noqa: S603 - the tests' own command
            [*SCRIPT, server.url, *options],
            env=clean_environment(**given),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def resize(self, columns, rows):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, condition, within_s=WITHIN_S):
        """Read until `condition(frame)` holds for the newest whole frame; that frame's lines."""
        deadline = time.monotonic() + within_s
        with selectors.DefaultSelector() as selector:
            selector.register(self.fd, selectors.EVENT_READ)
            while not ((frame := self.frame()) and condition(frame)):
                assert selector.select(max(0.0, deadline - time.monotonic())), self.seen[-3000:]
                self.raw += os.read(self.fd, 65536)
        return frame

    @property
    def seen(self):
        """All that has been written; a character cut in two by the last read is not among it."""
        return self.raw.decode(errors="ignore")

    def frame(self):
        whole = self.seen.rpartition("\x1b[J")[0].rpartition("\x1b[H")[2]
        return [ESCAPES.sub("", line) for line in re.split(r"\r*\n", whole)] if whole else []

    def end(self):
        """As Ctrl-C does; the exit code."""
        self.process.send_signal(signal.SIGINT)
        while True:
            try:
                self.raw += os.read(self.fd, 65536)
            except OSError:  # the other side has been closed
                return self.process.wait(WITHIN_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.fd)


def has(text):
    return lambda frame: any(text in line for line in frame)


def test_the_live_table_is_redrawn_in_place_and_the_terminal_is_given_back(threaded):
    with threaded() as server:
        server.amiga.tasks = [
            Task(task_id=f"t{n}", status="running", description=f"work {n} {OWNED}") for n in range(50)
        ]
        with Terminal(server, "--interval", "1") as terminal:
            frame = terminal.until(has("CPU 12%"))
            assert len(frame) == 20
            assert max(map(len, frame)) <= 100
            assert has("WebSocket, heard")(frame)
            server.host.cpu_percent = 64.0
            terminal.until(has("CPU 64%"))
            terminal.resize(60, 12)
            terminal.process.send_signal(signal.SIGWINCH)  # the kernel's part, for a controlling terminal
            frame = terminal.until(lambda frame: len(frame) == 12)
            assert max(map(len, frame)) <= 60
            assert terminal.end() == 0
        assert set(re.findall(r"heard ([^,\x1b]+?) ago", terminal.seen)) <= {"0s", "1s", "2s", "3s"}
        assert terminal.seen.startswith("\x1b[?1049h\x1b[?25l")
        assert terminal.seen.endswith("\x1b[?25h\x1b[?1049l")
        assert "\x1b[1m" in terminal.seen
        assert "owned\x07" not in terminal.seen
        assert "\x9b" not in terminal.seen
        assert not ESCAPES.sub("", terminal.seen).count("\x1b")


def test_a_terminal_that_has_no_size_shows_the_table_all_the_same(threaded):
    """As of a serial line, or of a container that nobody told one."""
    with threaded() as server, Terminal(server, columns=0, rows=0) as terminal:
        terminal.until(has("CPU 12%"))
        assert terminal.end() == 0


def test_no_color_leaves_the_colours_out(threaded):
    with threaded() as server, Terminal(server, NO_COLOR="1") as terminal:
        terminal.until(has("CPU 12%"))
        assert terminal.end() == 0
        assert not re.search(r"\x1b\[[0-9;]*m", terminal.seen)


def test_a_lost_server_is_told_in_the_table_and_the_values_are_called_stale(threaded):
    with contextlib.ExitStack() as running:
        server = running.enter_context(threaded())
        with Terminal(server) as terminal:
            terminal.until(has("CPU 12%"))
            running.close()
            frame = terminal.until(has("STALE not connected"))
            assert has("coming back in")(frame) or has("connecting")(frame)
            assert has("CPU 12%")(frame)
            assert terminal.end() == 0


def test_the_command_of_the_package_is_the_same(threaded):
    with threaded() as server:
        done = subprocess.run(  # noqa: S603 - the tests' own command
            [sys.executable, "-m", "amiga_ws", "watch", server.url, "--once"],
            cwd=CHECKOUT,
            env=clean_environment(AMIGA_WS_TOKEN=server.token()),
            capture_output=True,
            text=True,
            check=False,
            timeout=WITHIN_S,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert "OK all clear" in done.stdout
