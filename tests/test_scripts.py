"""`scripts/` as a stranger meets them: a fresh copy of the checkout, its real .venv, real signals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time

import pytest
from processes import CHECKOUT, Running, clean_environment, completed, copy_checkout

from amiga_ws import state
from amiga_ws.auth.tokens import Authority
from amiga_ws.config import load

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of the checkout in which scripts/run has never been called."""
    return copy_checkout(tmp_path_factory.mktemp("clone") / "amiga_ws")


@pytest.fixture(scope="module")
def installed(clone):
    """The same, with its .venv made."""
    done = completed([clone / "scripts/venv", "run"], within_s=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return clone


def stub(folder, name, text):
    """A program of that name, for a PATH that starts with `folder`."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def authority(folder):
    return Authority(state.load_secret(folder), load(cwd=folder, environ={}).auth)


def shows_tasks_within(server, cookie, within_s):
    """Whether the overview counts tasks before the time is over."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        status, _, body = server.request("GET", "/api/metrics/overview", cookie)
        if status == 200 and (json.loads(body)["overview"]["tasks"]["total"] or 0) > 0:
            return True
        time.sleep(0.2)
    return False


@pytest.mark.parametrize("name", ["check", "reliability", "scan-tls", "test"])
def test_help_of_a_script_tells_what_it_does_and_does_nothing(tmp_path, name):
    fresh = copy_checkout(tmp_path / "amiga_ws")
    done = completed([fresh / "scripts" / name, "--help"])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout[0].isupper()
    assert not (fresh / ".venv").exists()


# -- run -----------------------------------------------------------------------------------------


def test_one_command_on_a_fresh_checkout_serves_and_prints_a_link_that_signs_in(clone, tmp_path):
    """Installs, watches a simulated AMIGA, says one line on stdout, and ends with 0."""
    command = [clone / "scripts/run", "--demo", "--set", "server.port=0"]
    with Running(command, tmp_path, tmp_path / "stderr", within_s=300) as server:
        said = server.wait_for("server.public_url")
        assert "installing into" in said
        assert "Successfully installed" in said
        link = next(word for word in said.split() if "/login#login=" in word)
        base, _, token = link.partition("/login#login=")
        assert base == server.url
        headers = {"Authorization": f"Bearer {token}", "Origin": server.url}
        status, reply, body = server.request("POST", "/api/session", headers)
        assert status == 201, body
        cookie = {"Cookie": reply["Set-Cookie"].partition(";")[0]}
        assert b"<title>" in server.request("GET", "/", cookie)[2]
        assert f"{clone}/scripts/mktoken.py --login" in said
        assert "ssh -N -L" in said
        assert shows_tasks_within(server, cookie, 60)
        assert (clone / "var/demo/data/agentlab.db").exists()
        assert server.stop() == (0, "")
    assert "Traceback" not in server.stderr()
    assert not (tmp_path / "var").exists()


def test_second_start_installs_nothing(installed, tmp_path):
    command = [installed / "scripts/run", "--set", "server.port=0"]
    with Running(command, tmp_path, tmp_path / "stderr") as server:
        assert "install" not in server.wait_for("server.public_url")
        assert server.stop() == (0, "")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signal_to_the_script_ends_the_server(installed, tmp_path, signum):
    command = [installed / "scripts/run", "--set", "server.port=0"]
    with Running(command, tmp_path, tmp_path / "stderr") as server:
        assert server.stop(signum, within_s=5) == (0, "")


def test_run_hands_on_its_options_and_the_servers_exit_code(installed, tmp_path):
    (tmp_path / "mine.yaml").write_text("server: {port: many}\n")
    done = completed([installed / "scripts/run", "--config", "mine.yaml"], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"amiga_ws: {tmp_path}/mine.yaml:1: server.port: expected")
    assert completed([installed / "scripts/run", "--help"]).returncode == 0


def test_configuration_of_the_checkout_is_the_default_from_any_folder(installed, tmp_path):
    (installed / "config.yaml").write_text("server: {public_url: 'https://monitor.example'}\n")
    try:
        (tmp_path / "config.yaml").write_text("server: {port: many}\n")
        done = completed([installed / "scripts/mktoken.py", "--login"], cwd=tmp_path)
        assert done.stdout.startswith("https://monitor.example/login#login="), done.stderr
    finally:
        (installed / "config.yaml").write_text((CHECKOUT / "config.yaml").read_text())


def test_changed_metadata_installs_again(installed):
    stamp, metadata = installed / ".venv/installed-run", installed / "setup.cfg"
    before = {file: file.read_text() for file in (stamp, metadata)}
    assert completed([installed / "scripts/venv", "run"]).stderr == ""
    metadata.write_text(before[metadata] + "\n# changed\n")
    try:
        assert "installing into" in completed([installed / "scripts/venv", "run"], within_s=200).stderr
        assert stamp.read_text() != before[stamp]
    finally:
        for file, text in before.items():
            file.write_text(text)


# -- a machine that lacks something --------------------------------------------------------------


def test_old_python_is_told_with_the_version_that_is_needed(tmp_path):
    clone = copy_checkout(tmp_path / "clone")
    for name in ("python3", "python3.11", "python3.12", "python3.13", "python3.14"):
        stub(tmp_path / "bin", name, 'test "$1" != --version || echo Python 3.9.2; exit 1')
    environment = clean_environment(PATH=f"{tmp_path}/bin:/usr/bin:/bin")
    done = completed([clone / "scripts/run"], env=environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Python 3.11 or newer is needed; found Python 3.9.2" in done.stderr
    assert not (clone / ".venv").exists()


def test_missing_venv_module_is_told_with_its_package(tmp_path):
    clone = copy_checkout(tmp_path / "clone")
    stub(tmp_path / "bin", "python3", 'case "$2" in *ensurepip*) exit 1 ;; *) exit 0 ;; esac')
    environment = clean_environment(PATH=f"{tmp_path}/bin:/usr/bin:/bin")
    done = completed([clone / "scripts/run"], env=environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert "apt-get install python3-venv" in done.stderr
    assert not (clone / ".venv").exists()


def test_ci_without_a_browser_fails_and_says_so(tmp_path):
    clone = copy_checkout(tmp_path / "clone")
    for name in ("dirname", "id", "env"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    (tmp_path / "sh").symlink_to("/bin/sh")
    # A PATH without a browser and without apt-get.
    done = completed([clone / "scripts/test"], env={"PATH": str(tmp_path), "CI": "true"})
    assert done.returncode == 1
    assert "not on this machine: chromium" in done.stderr


def test_browser_that_is_named_wrongly_is_told(tmp_path):
    clone = copy_checkout(tmp_path / "clone")
    done = completed([clone / "scripts/test"], env=clean_environment(CHROMIUM="/nowhere/chromium"))
    assert done.returncode == 2
    assert "CHROMIUM=/nowhere/chromium is no program" in done.stderr


@pytest.fixture
def bare(tmp_path):
    """scripts/test in a copy with nothing to install and no test to run, on a machine with these stubs alone."""
    clone = copy_checkout(tmp_path / "clone")
    stub(clone / "scripts", "venv", "exit 0")
    (clone / ".venv").mkdir()
    stub(clone / ".venv/bin", "python", 'test "$2" = pytest')  # no pip
    for name in ("sh", "dirname", "id", "cat", "cksum"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))
    for name in ("chromium", "nginx", "ip", "ls", "setfacl"):
        stub(tmp_path / "bin", name, "exit 0")

    def run(**more):
        return completed([clone / "scripts/test"], env={"PATH": str(tmp_path / "bin"), **more})

    return run


@pytest.mark.parametrize(
    ("node", "npm"),
    [(None, None), ("exit 1", "exit 0"), ("echo /usr/bin/node", "exit 1")],
    ids=["none", "old", "no registry"],
)
def test_machine_without_node_skips_its_tests_loudly_and_fails_in_ci(bare, tmp_path, node, npm):
    for name, text in (("node", node), ("npm", npm)):
        if text:
            stub(tmp_path / "bin", name, text)
    here = bare()
    assert here.returncode == 0, here.stderr
    assert "TESTS DID NOT RUN: they need node" in here.stderr
    there = bare(CI="true")
    assert there.returncode == 1
    assert "CI must not skip" in there.stderr


# nginx and ip are looked for in /usr/sbin, too, which is no stub's.
@pytest.mark.parametrize(
    ("program", "package"), [("chromium", "chromium"), ("ls", "libfaketime"), ("setfacl", "acl")]
)
def test_what_ci_must_have_is_named_where_it_is_missing(bare, tmp_path, program, package):
    (tmp_path / "bin" / program).unlink()
    there = bare(CI="true")
    assert there.returncode == 1
    assert f"not on this machine: {package}; CI must not skip" in there.stderr


def test_what_no_test_may_install_is_missed_loudly(bare, tmp_path):
    stub(tmp_path / "bin", "node", "echo /usr/bin/node")
    stub(tmp_path / "bin", "npm", "exit 0")
    (tmp_path / "clone/tests/node/node_modules").mkdir()
    there = bare(CI="true")
    assert there.returncode == 0, there.stderr
    for name in ("systemd-analyze(systemd)", "Autobahn(tests/autobahn.py)"):
        assert f"TESTS DID NOT RUN: they need {name}" in there.stderr


def test_packages_of_the_tests_are_installed_when_their_lockfile_changes(bare, tmp_path):
    stub(tmp_path / "bin", "node", "echo /usr/bin/node")
    packages = tmp_path / "clone/tests/node"
    stub(tmp_path / "bin", "npm", f"echo npm ran; {shutil.which('mkdir')} -p {packages}/node_modules")
    assert "npm ran" in bare().stderr
    assert "npm ran" not in bare().stderr
    with (packages / "package-lock.json").open("a") as lock:
        lock.write("\n")
    assert "npm ran" in bare().stderr


# -- mktoken.py ----------------------------------------------------------------------------------


def test_mktoken_runs_under_the_interpreter_it_was_started_with_where_that_can(tmp_path):
    """Nothing but the interpreter of these tests can import the package here: the copy has no .venv yet."""
    copy = copy_checkout(tmp_path / "copy")
    argv = [sys.executable, copy / "scripts/mktoken.py", "--subject", "me"]
    done = completed(argv, cwd=tmp_path, env=clean_environment(PYTHONPATH=os.pathsep.join(sys.path[1:])))
    assert done.returncode == 0, done.stderr
    assert authority(copy / "var").verify(done.stdout.strip(), typ="access", now=time.time()).subject == "me"


def test_mktoken_falls_back_to_the_checkouts_venv(installed, tmp_path):
    bare = tmp_path / "bare"
    assert completed([sys.executable, "-m", "venv", "--without-pip", bare]).returncode == 0
    argv = [bare / "bin/python", installed / "scripts/mktoken.py", "--login"]
    done = completed(argv, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "/login#login=" in done.stdout
    assert (installed / "var/secret.hex").exists()


def test_mktoken_without_any_interpreter_says_what_to_do(tmp_path):
    copy = copy_checkout(tmp_path / "copy")
    bare = tmp_path / "bare"
    assert completed([sys.executable, "-m", "venv", "--without-pip", bare]).returncode == 0
    done = completed([bare / "bin/python", copy / "scripts/mktoken.py", "--login"])
    assert (done.returncode, done.stdout) == (1, "")
    assert "scripts/venv run once" in done.stderr
    assert "Traceback" not in done.stderr


def test_mktoken_speaks_under_its_own_name(installed):
    done = completed([installed / "scripts/mktoken.py"])
    assert done.returncode == 2
    assert "mktoken.py: error: --subject is needed" in done.stderr


# -- the shell scripts themselves ----------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["scripts/run", "scripts/test", "scripts/check", "scripts/venv", "scripts/node", ".ci/run"]
)
def test_shell_scripts_parse_and_can_be_executed(name):
    assert completed(["sh", "-n", CHECKOUT / name]).stderr == ""
    assert os.access(CHECKOUT / name, os.X_OK)
