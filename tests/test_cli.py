"""`python -m amiga_ws`: what others script against."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import sys
import time

import pytest
from processes import CHECKOUT, Running, clean_environment, completed

from amiga_ws import __version__, state
from amiga_ws.__main__ import main
from amiga_ws.app import RELOADED
from amiga_ws.auth.tokens import Authority, TokenError
from amiga_ws.cli.show import MAX_WIDTH
from amiga_ws.config import load
from amiga_ws.config.render import config_yaml, configuration_markdown


def importing_us():
    """A real process's environment: nothing configures it, and it imports what these tests import."""
    return clean_environment(PYTHONPATH=os.pathsep.join(sys.path))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Every command runs in an empty folder, with nothing configured by the environment."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("AMIGA_WS_", "AGENTLAB_")):
            monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def command(capsys):
    """Run one command in this process: (exit code, stdout, stderr)."""

    def run(*argv):
        try:
            code = main(argv)
        except SystemExit as end:  # argparse
            code = end.code
        return code, *capsys.readouterr()

    return run


def authority(folder):
    return Authority(state.load_secret(folder / "var"), load(cwd=folder, environ={}).auth)


# -- the command itself --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("to", "why"), [(">&-", "Bad file descriptor"), (">/dev/full", "No space left on device")]
)
@pytest.mark.parametrize("words", ["token --subject ada", "config", "serve --set server.port=0"])
def test_an_output_that_takes_nothing_is_told_in_a_sentence(folder, words, to, why):
    done = completed(["/bin/sh", "-c", f"exec {sys.executable} -m amiga_ws {words} {to}"], env=importing_us())
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == f"amiga_ws: cannot write to standard output: {why}"
    assert "Traceback" not in done.stderr


def test_help_names_every_command(command):
    code, out, _ = command("--help")
    assert code == 0
    for name in ("serve", "token", "simulate", "config"):
        assert f"    {name}" in out


def test_version(command):
    assert command("--version") == (0, f"amiga_ws {__version__}\n", "")


@pytest.mark.parametrize("argv", [[], ["dance"], ["serve", "--prot", "1"], ["serve", "--conf", "x"]])
def test_misuse_exits_with_2(command, argv):
    code, out, err = command(*argv)
    assert (code, out) == (2, "")
    assert "usage:" in err


def test_an_unknown_option_is_told_under_the_usage_of_its_command(command):
    code, _, err = command("serve", "--prot", "1")
    assert code == 2
    assert "usage: python -m amiga_ws serve" in err
    assert "--sign-in-link" in err
    assert "unrecognized arguments: --prot 1" in err


def test_simulate_has_no_home(command):
    code, out, err = command("--home", "here", "simulate")
    assert (code, out) == (2, "")
    assert err.startswith("amiga_ws: simulate takes no --home")


@pytest.mark.parametrize(
    "program",
    [["-m", "amiga_ws", "token"], [CHECKOUT / "scripts/mktoken.py"], [CHECKOUT / "scripts/watch.py"]],
)
def test_ctrl_c_while_it_loads_is_no_traceback(folder, program):
    (folder / "segno.py").write_text("raise KeyboardInterrupt\n")
    environment = clean_environment(PYTHONPATH=os.pathsep.join([str(folder), *sys.path]))
    done = completed([sys.executable, *program, "--subject", "ada"], env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("name", ["serve", "token", "config"])
def test_wrong_configuration_is_one_line_and_exit_2_for_every_command(command, folder, name):
    (folder / "bad.yaml").write_text("server:\n  port: many\n")
    argv = [name, "--config", "bad.yaml"] + (["--subject", "a"] if name == "token" else [])
    code, out, err = command(*argv)
    assert (code, out) == (2, "")
    assert err == (
        "amiga_ws: bad.yaml:2: server.port: expected a whole number from 0 to 65535, got text 'many'\n"
    )
    assert not (folder / "var").exists()


def test_wrong_configuration_shows_no_traceback_in_a_real_process(folder):
    done = completed(
        [sys.executable, "-m", "amiga_ws", "serve", "--set", "server.prot=1"], env=importing_us()
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "amiga_ws: --set: server.prot: expected the key of a setting; did you mean server.port?\n"
    )


def test_without_what_it_needs_it_says_so(folder):
    """As where the system's Python is taken instead of the environment's."""
    bare = [sys.executable, "-S", "-m", "amiga_ws", "serve"]
    done = completed(bare, env=clean_environment(PYTHONPATH=str(CHECKOUT)))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("amiga_ws: ")
    assert "is not installed" in done.stderr
    assert "scripts/run" in done.stderr
    assert done.stderr.count("\n") == 1


def test_simulate_gets_its_own_options(command):
    code, out, _ = command("simulate", "--help")
    assert code == 0
    assert "DIR" in out.upper()


# -- config --------------------------------------------------------------------------------------


def test_config_shows_each_value_and_where_it_comes_from(command, folder, monkeypatch):
    (folder / "config.yaml").write_text("log:\n  level: debug\n")
    monkeypatch.setenv("AMIGA_WS_AUTH_TTL", "900")
    code, out, _ = command("config", "--set", "origins.allowed=https://a.example")
    lines = dict(line.split("  # ") for line in out.splitlines())
    shown = {key.strip(): where for key, where in lines.items()}
    assert code == 0
    assert shown["log.level: debug"] == "config.yaml:2"
    assert shown["auth.ttl: 15m"] == "environment AMIGA_WS_AUTH_TTL"
    assert shown["origins.allowed: [https://a.example]"] == "--set"
    assert shown["server.port: 3000"] == "default"
    heads = {line.index("  # ") for line in out.splitlines() if line.index("  # ") <= MAX_WIDTH}
    assert len(heads) == 1
    assert shown["origins.allow_null: false"] == "default"


def test_config_prints_the_files_that_are_made_from_the_table(command):
    assert command("config", "--yaml") == (0, config_yaml(), "")
    assert command("config", "--markdown") == (0, configuration_markdown(RELOADED), "")


def test_reader_that_leaves_early_is_no_traceback(folder):
    command = f"'{sys.executable}' -m amiga_ws config --markdown | head -c 1"
    done = completed(["sh", "-c", command], env=importing_us())
    assert (done.stdout, done.stderr) == ("#", "")


def test_home_stands_for_the_working_directory_but_a_named_file_is_found_from_here(command, folder):
    home = folder / "home"
    home.mkdir()
    (home / "config.yaml").write_text("log: {level: debug}\n")
    (folder / "mine.yaml").write_text("log: {level: error}\n")
    out = command("--home", str(home), "config")[1]
    assert "log.level: debug" in out
    assert f"state_dir: {home}/var" in out
    assert "log.level: error" in command("--home", str(home), "config", "--config", "mine.yaml")[1]
    assert f"state_dir: {home}/var" in command("--home", "home", "config")[1]


# -- token ---------------------------------------------------------------------------------------


def test_token_is_all_there_is_on_stdout_and_verifies(command, folder):
    before = time.time()
    state.load_secret(folder / "var")
    code, out, err = command("token", "--subject", "phone")
    assert (code, err) == (0, "")
    assert out.count("\n") == 1
    identity = authority(folder).verify(out.strip(), typ="access", now=time.time())
    assert (identity.subject, identity.scopes) == ("phone", {"metrics:read"})
    assert before - 1 <= identity.expires_at - 8 * 3600 <= time.time()


def test_scope_and_life_are_as_asked_for(command, folder):
    _, out, _ = command("token", "--subject", "me", "--scope", "metrics:read admin", "--ttl", "15m")
    identity = authority(folder).verify(out.strip(), typ="access", now=time.time())
    assert identity.scopes == {"metrics:read", "admin"}
    assert identity.expires_at - identity.issued_at == pytest.approx(900, abs=1)


def test_missing_secret_is_created_private(command, folder):
    code, _, err = command("token", "--subject", "a")
    assert code == 0
    assert err.startswith(f"amiga_ws: made a new secret in {folder}/var: no server has used it yet")
    assert err.count("\n") == 1
    assert stat.S_IMODE((folder / "var/secret.hex").stat().st_mode) == 0o600
    secret = (folder / "var/secret.hex").read_text()
    assert command("token", "--subject", "b")[2] == ""
    assert (folder / "var/secret.hex").read_text() == secret


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--subject", "a", "--ttl", "31d"], "--ttl 31d is longer than auth.max_ttl (30d)"),
        (["--subject", "a", "--ttl", "0"], "lifetime"),
        (["--subject", "a", "--ttl", "soon"], "a duration such as 90s, 15m, 8h or 30d"),
        (["--subject", "a", "--scope", "metrics:write"], "unknown scope 'metrics:write'"),
        (["--subject", "a", "--scope", ""], "needs a scope"),
        (["--subject", "a\nb"], "printable"),
        (["--login", "--subject", " "], "printable"),
        ([], "--subject is needed"),
        (["--subject", ""], "--subject is needed"),
        (["--login", "--qr", "--json"], "not allowed with"),
        (["--login", "--set", "server.port=0"], "server.port is 0"),
    ],
)
def test_refused_with_a_sentence(command, argv, sentence):
    code, out, err = command("token", *argv)
    assert (code, out) == (2, "")
    assert sentence in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("text", "mode", "sentence"),
    [
        ("ab" * 16, 0o600, "holds no usable secret"),
        ("00" * 32, 0o600, "holds no usable secret"),
        ("3f9a" * 15 + "zzzz", 0o600, "holds no usable secret"),
        ("5f0b7a1c9d3e2846" * 4, 0o640, "chmod 600"),
    ],
)
def test_weak_or_readable_secret_is_refused_with_a_sentence(command, folder, text, mode, sentence):
    (folder / "var").mkdir()
    secret = folder / "var/secret.hex"
    secret.write_text(text)
    secret.chmod(mode)
    code, out, err = command("token", "--subject", "a")
    assert (code, out) == (2, "")
    assert sentence in err
    assert text not in err


def test_json_tells_all_about_the_token(command, folder):
    _, out, _ = command("token", "--subject", "a", "--json", "--ttl", "1h")
    told = json.loads(out)
    identity = authority(folder).verify(told["token"], typ="access", now=time.time())
    assert told == {
        "token": told["token"],
        "type": "access",
        "subject": "a",
        "scope": "metrics:read",
        "jti": identity.jti,
        "issued_at": identity.issued_at,
        "expires_at": identity.expires_at,
        "expires_in": 3600,
    }


# -- sign-in links -------------------------------------------------------------------------------


def test_login_prints_a_link_with_a_login_token_for_the_owner(command, folder):
    code, out, err = command("token", "--login")
    assert code == 0
    assert "made a new secret" in err
    base, _, token = out.strip().partition("/login#login=")
    assert base == "http://127.0.0.1:3000"
    identity = authority(folder).verify(token, typ="login", now=time.time())
    assert identity.subject == "owner"
    assert identity.expires_at - identity.issued_at == pytest.approx(120, abs=1)
    with pytest.raises(TokenError):
        authority(folder).verify(token, typ="access", now=time.time())


def test_link_of_a_folder_without_a_server_is_said_to_be_one(command, folder):
    state.load_secret(folder / "var")
    said = f"amiga_ws: no server runs on {folder}/var: the link works when one does, and ends in 5m\n"
    for public in ((), ("--set", "server.public_url=https://a.example")):
        code, out, err = command("token", "--login", "--ttl", "5m", *public)
        assert (code, err) == (0, said)
        assert "/login#login=" in out
    state.announce_server(folder / "var", "http://127.0.0.1:3001")
    code, _, err = command("token", "--login")
    assert (code, err) == (0, "")


def test_link_points_to_the_public_url_else_the_running_server_else_the_configuration(command, folder):
    def base(*argv):
        return command("token", "--login", *argv)[1].partition("/login#")[0]

    assert base("--set", "server.port=8080") == "http://127.0.0.1:8080"
    assert base("--set", "server.host=::") == "http://[::1]:3000"
    assert base("--set", "server.host=192.0.2.7") == "http://192.0.2.7:3000"
    tls = ("--set", "server.tls.cert=cert.pem", "--set", "server.tls.key=key.pem")
    assert base(*tls, "--set", "server.host=::") == "https://[::1]:3000"
    state.announce_server(folder / "var", "http://127.0.0.1:3001")
    assert base("--set", "server.port=8080") == "http://127.0.0.1:3001"
    assert base("--set", "server.public_url=https://a.example") == "https://a.example"


def test_address_a_killed_server_left_is_not_believed(command, folder):
    command("token", "--login")
    gone = completed([sys.executable, "-c", "import os; print(os.getpid())"])
    left = {"url": "http://127.0.0.1:4444", "pid": int(gone.stdout)}
    (folder / "var/server.json").write_text(json.dumps(left))
    assert command("token", "--login")[1].startswith("http://127.0.0.1:3000/")


def test_qr_code_is_all_there_is_on_stdout(command):
    code, out, err = command("token", "--qr", "--set", "server.public_url=https://a.example")
    lines = out.splitlines()
    assert code == 0
    assert "this machine only" not in err
    assert len({len(line) for line in lines}) == 1
    assert set("".join(lines)) == set("█▀▄ ")
    assert "this machine only" in command("token", "--qr")[2]


def test_json_of_a_link_holds_the_link(command):
    told = json.loads(command("token", "--login", "--json")[1])
    assert told["link"] == f"http://127.0.0.1:3000/login#login={told['token']}"
    assert told["type"] == "login"


# -- serve ---------------------------------------------------------------------------------------


@pytest.fixture
def serve(folder):
    """Start `python -m amiga_ws serve` in the folder, on any port unless told otherwise."""
    started = []

    def start(*argv, port="0", home=()):
        options = ["--set", f"server.port={port}"] if port else []
        running = Running(
            [sys.executable, "-m", "amiga_ws", *home, "serve", *options, *argv],
            folder,
            folder / f"stderr{len(started)}",
            env=importing_us(),
        )
        started.append(running)
        return running

    yield start
    for running in started:
        running.__exit__()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_serve_says_one_line_on_stdout_and_ends_cleanly(serve, folder, signum):
    server = serve()
    assert server.first_line == f"listening on {server.url}\n"
    assert server.url.startswith("http://127.0.0.1:")
    assert json.loads((folder / "var/server.json").read_text())["url"] == server.url
    assert server.request("GET", "/health")[0] == 200
    started = time.monotonic()
    assert server.stop(signum) == (0, "")
    assert time.monotonic() - started < 5
    assert not (folder / "var/server.json").exists()
    assert "Traceback" not in server.stderr()


def test_link_made_while_serving_points_to_it_and_signs_in_once(serve, command):
    server = serve()
    code, out, err = command("token", "--login")
    assert (code, err) == (0, "")
    link = out.strip()
    base, _, token = link.partition("/login#login=")
    assert base == server.url
    headers = {"Authorization": f"Bearer {token}", "Origin": server.url}
    status, reply, _ = server.request("POST", "/api/session", headers)
    assert status == 201
    assert "amiga_session" in reply["Set-Cookie"]
    assert server.request("POST", "/api/session", headers)[0] == 401


def test_sign_in_link_is_printed_on_stderr_when_it_listens(serve, folder):
    server = serve("--sign-in-link")
    said = server.wait_for("server.public_url")
    link = next(word for word in said.split() if "/login#login=" in word)
    base, _, token = link.partition("/login#login=")
    assert base == server.url
    identity = authority(folder).verify(token, typ="login", now=time.time())
    assert (identity.subject, identity.scopes) == ("owner", {"metrics:read", "admin"})
    port = server.url.rpartition(":")[2]
    assert f"ssh -N -L {port}:127.0.0.1:{port} " in said
    assert "--set server.trusted_proxies=127.0.0.1" in server.wait_for("server.trusted_proxies")
    assert 'python -m amiga_ws token --login --scope "metrics:read admin" --set server.port=0' in said
    assert server.stop() == (0, "")


def test_next_port_is_taken_when_the_usual_one_is_not_free_and_none_was_asked_for(serve):
    with socket.socket() as other:
        try:
            other.bind(("127.0.0.1", 3000))
            other.listen()
        except OSError:
            pass  # someone else has it: as good
        server = serve(port=None)
        assert 3001 <= int(server.url.rpartition(":")[2]) <= 3010
        assert "3000 is taken" in server.stderr()


def test_port_that_was_asked_for_and_is_taken_ends_with_a_sentence(folder):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = completed(
            [sys.executable, "-m", "amiga_ws", "serve", "--set", f"server.port={port}"], env=importing_us()
        )
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"port {port} is taken" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_life_of_nothing_is_refused(command):
    code, out, err = command("token", "--subject", "me", "--ttl", "0")
    assert (code, out) == (2, "")
    assert "at least 1s" in err
