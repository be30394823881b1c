"""Starts that cannot be: each ends with one line that says what to do and with the right exit code.

2: what was configured cannot be used, and no later start will like it better (deploy/amiga-ws.service does
not try again). 1: the machine does not give what is needed now. All are real processes.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path

import apsw
import pytest
from certificates import make_certificate
from disks import fill, read_only, small_disk
from processes import CHECKOUT, Running, clean_environment, completed

NOBODY = 65534
GOOD = "5f0b7a1c9d3e2846a1b2c3d4e5f60718293a4b5c6d7e8f9001122334455667aa"
IMPORTING = clean_environment(PYTHONPATH=os.pathsep.join(map(str, (CHECKOUT, *sys.path))))
SERVE = [sys.executable, "-m", "amiga_ws", "serve", "--set", "server.port=0"]
AT_THE_EPOCH = [
    sys.executable,
    "-c",
    "import sys, time; time.time = lambda: 86400.0; from amiga_ws.__main__ import main; sys.exit(main())",
    *SERVE[3:],
]


@pytest.fixture
def folder():
    """A working directory with a state folder that a stranger to this user can get at, too."""
    made = Path(tempfile.mkdtemp(prefix="amiga_ws-start-"))
    made.chmod(0o755)
    (made / "var").mkdir(mode=0o700)
    yield made
    shutil.rmtree(made)


def unprivileged(command, folder):
    """The command as one whom file modes stop: root's are not."""
    if os.geteuid() != 0:
        return command
    setpriv = shutil.which("setpriv") or pytest.skip("setpriv (util-linux) is not installed")
    as_nobody = [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    if completed([*as_nobody, sys.executable, "-c", "import amiga_ws"], env=IMPORTING, cwd=folder).returncode:
        pytest.skip("another user cannot read this Python or this checkout")
    os.chown(folder / "var", NOBODY, NOBODY)
    return [*as_nobody, *command]


def write(file, text, mode=0o600):
    file.write_text(text)
    file.chmod(mode)


def secret(folder, text=GOOD, mode=0o600):
    write(folder / "var/secret.hex", text, mode)


def in_the_way(name):
    return lambda folder: (folder / "var" / name).mkdir()


def configured(text):
    return lambda folder: write(folder / "config.yaml", text)


def certificate(folder, *, mismatched=False, rubbish=False):
    cert, key = make_certificate(folder)
    cert.rename(folder / "cert.pem")
    if mismatched:
        _, key = make_certificate(folder, "other")
    key.rename(folder / "key.pem")
    if rubbish:
        write(folder / "key.pem", "rubbish")


TLS = ["--set", "server.tls.cert=cert.pem", "--set", "server.tls.key=key.pem"]
OLD_KEY = ["--set", "auth.keys=alg=HS256 file=old.hex"]

# Name: exit code, what the line says, what is prepared, more options.
MISCONFIGURED = {
    "unknown key": ("did you mean server.port?", configured("server:\n  prot: 3000\n"), []),
    "wrong type": ("server.port", configured("server: {port: many}\n"), []),
    "no YAML": ("config.yaml:2", configured("server: [\n"), []),
    "no text": ("UTF-8", lambda folder: (folder / "config.yaml").write_bytes(b"\xff\x00"), []),
    "folder for a file": ("Is a directory", lambda folder: (folder / "config.yaml").mkdir(), []),
    "no such file": ("nowhere.yaml", None, ["--config", "nowhere.yaml"]),
    "public url with a path": ("server.public_url", None, ["--set", "server.public_url=https://a.b/c"]),
    "group-readable secret": ("chmod 600", lambda folder: secret(folder, mode=0o640), []),
    "weak secret": ("not random", lambda folder: secret(folder, "00" * 32), []),
    "PEM for a secret": (
        "must never be used as an HS256 secret",
        lambda folder: write(folder / "var/old.hex", "-----BEGIN PUBLIC KEY-----\nMFkw\n"),
        OLD_KEY,
    ),
    "old secret that others can read": (
        "old.hex: it can be read by others",
        lambda folder: write(folder / "var/old.hex", GOOD, 0o640),
        OLD_KEY,
    ),
    "key file that is not there": ("old.hex: No such file", None, OLD_KEY),
    "certificate that is not there": ("server.tls: cannot use", None, TLS),
    "certificate without its key": ("go together", None, TLS[:2]),
    "rubbish for a TLS key": ("server.tls", lambda folder: certificate(folder, rubbish=True), TLS),
    "key of another certificate": ("server.tls", lambda folder: certificate(folder, mismatched=True), TLS),
}
FAILED = {
    "address that is not ours": ("cannot listen on 192.0.2.1", None, ["--set", "server.host=192.0.2.1"]),
    "name that is not known": ("no-such-host.invalid", None, ["--set", "server.host=no-such-host.invalid"]),
    "folder for the lock": ("cannot use state_dir", in_the_way("lock"), []),
    "folder for revocations": ("cannot use state_dir", in_the_way("revocations.jsonl"), []),
    "folder for the address": ("cannot use state_dir", in_the_way("server.json"), []),
    "file for state_dir": ("cannot use state_dir", None, ["--set", "state_dir=/dev/null/var"]),
    "file for state_dir, with --demo": (
        "cannot use state_dir",
        None,
        ["--set", "state_dir=/dev/null/var", "--demo"],
    ),
}


# Those that have a test of their own.
OTHERS = {
    "port that is taken": ("is taken", 1),
    "clock that was never set": ("the clock of this machine says", 1),
    "secret of another user": ("Permission denied", 1),
    "state_dir that cannot be written": ("cannot use state_dir", 1),
    "disk without room": ("make room on its disk", 1),
    "disk that is read-only": ("Read-only file system", 1),
    "files that are missing": ("install amiga_ws anew", 1),
    "another server on the folder": ("another amiga_ws server uses", 1),
}


def test_the_page_for_operators_lists_them_all():
    told = (CHECKOUT / "docs/operations.md").read_text("utf-8")
    rows = dict(re.findall(r"(?m)^\| ([^|`]+) \| (`[^`]+` \| [12]) \|$", told))
    tried = {
        name: (says, code)
        for group, code in ((MISCONFIGURED, 2), (FAILED, 1))
        for name, (says, *_) in group.items()
    }
    assert rows == {name: f"`{says}` | {code}" for name, (says, code) in (tried | OTHERS).items()}


def refused(command, folder, code, says):
    """Run to the end: nothing on stdout, one line on stderr, no traceback, nothing half begun."""
    done = completed(command, cwd=folder, env=IMPORTING)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.startswith("amiga_ws: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert says in done.stderr
    assert not (folder / "var/server.json").is_file()
    assert not list((folder / "var").glob("history.db*"))


@pytest.mark.promise(
    "What is configured wrongly ends the start with one line that says what to do, and code 2"
)
@pytest.mark.parametrize("name", MISCONFIGURED)
def test_what_is_configured_wrongly_ends_the_start_with_2(folder, name):
    says, prepare, options = MISCONFIGURED[name]
    if prepare is not None:
        prepare(folder)
    refused([*SERVE, *options], folder, 2, says)


@pytest.mark.promise("What the machine does not give ends the start with one line, and code 1")
@pytest.mark.parametrize("name", FAILED)
def test_what_the_machine_does_not_give_ends_the_start_with_1(folder, name):
    says, prepare, options = FAILED[name]
    if prepare is not None:
        prepare(folder)
    refused([*SERVE, *options], folder, 1, says)


@pytest.mark.parametrize("secret_there", [False, True])
def test_a_full_disk_ends_the_start_with_1_and_is_not_filled_further(folder, secret_there):
    with small_disk(folder / "disk") as disk:
        if secret_there:
            write(disk / "secret.hex", GOOD)
        fill(disk)
        before = {path.name for path in disk.iterdir()}
        for _ in range(2):
            start = [*SERVE, "--set", "state_dir=disk"]
            refused(start, folder, 1, "No space left on device; make room on its disk")
        found = {path.name for path in disk.iterdir()}
        assert found - before <= {"lock", "revocations.jsonl", "used_logins.jsonl"}


def test_a_disk_that_cannot_be_written_ends_the_start_with_1(folder):
    with small_disk(folder / "disk") as disk, read_only(disk):
        refused([*SERVE, "--set", "state_dir=disk"], folder, 1, "Read-only file system")


def test_a_port_that_is_taken_ends_the_start_with_1(folder):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        refused([*SERVE[:-1], f"server.port={port}"], folder, 1, f"port {port} is taken")


def test_a_clock_that_was_never_set_ends_the_start_with_1(folder):
    refused(AT_THE_EPOCH, folder, 1, "the clock of this machine says 1970-01-02: set it")


def test_a_secret_of_another_user_ends_the_start_with_1(folder):
    if os.geteuid() != 0:
        pytest.skip("only root can make another user's file")
    secret(folder)
    refused(unprivileged(SERVE, folder), folder, 1, "secret.hex: Permission denied")


def test_a_state_folder_that_cannot_be_written_ends_the_start_with_1(folder):
    command = unprivileged(SERVE, folder)
    (folder / "var").chmod(0o500)
    refused(command, folder, 1, "cannot use state_dir")


@pytest.mark.parametrize("lost", ["amiga_ws/templates/login.html", "amiga_ws/static/client.js"])
def test_an_installation_that_was_cut_short_ends_the_start_with_1(folder, lost):
    installed = folder / "site-packages"
    shutil.copytree(
        CHECKOUT / "amiga_ws", installed / "amiga_ws", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(CHECKOUT / "templates", installed / "amiga_ws/templates")
    (installed / lost).unlink()
    done = completed(
        SERVE, cwd=folder, env=clean_environment(PYTHONPATH=os.pathsep.join([str(installed), *sys.path]))
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert f"there is no {installed / lost}; install amiga_ws anew" in done.stderr


def running(folder, *options):
    return Running([*SERVE, *options], folder, folder / "stderr", env=IMPORTING)


@pytest.mark.promise(
    "Of two servers on one state folder the second ends and says where the first is, which goes on"
)
def test_a_second_server_on_one_state_folder_ends_with_1_and_the_first_goes_on(folder):
    with running(folder) as first:
        done = completed(SERVE, cwd=folder, env=IMPORTING)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert first.url in done.stderr
        assert first.request("GET", "/health")[0] == 200
        assert first.stop() == (0, "")


def broken(folder):
    (folder / "var/history.db").write_text("no database" * 500)


def newer(folder):
    with apsw.Connection(str(folder / "var/history.db")) as database:
        database.execute("CREATE TABLE t (x)")
        database.execute("PRAGMA user_version = 999")


def linked(folder):
    (folder / "elsewhere.db").touch()
    (folder / "var/history.db").symlink_to(folder / "elsewhere.db")


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (broken, "the history file was broken; it has been moved to"),
        (newer, "made by a later version"),
        (in_the_way("history.db"), "history cannot be written"),
        (linked, "history cannot be written: Too many levels of symbolic links"),
    ],
)
def test_a_history_that_cannot_be_used_hinders_no_start_and_is_told(folder, prepare, says):
    prepare(folder)
    with running(folder) as server:
        server.wait_for(says)
        assert server.request("GET", "/health")[0] == 200
        assert server.stop(signal.SIGTERM) == (0, "")
        assert "Traceback" not in server.stderr()
