"""AMIGA's server process as the collector finds it: real processes, under a clock in hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager

import psutil
import pytest
from processes import completed

from amiga_ws.collectors.amiga.processes import Processes
from amiga_ws.simulate import ManualClock


@pytest.fixture
def host(monkeypatch):
    """The processes of this test alone, be there a real AMIGA on the machine or not."""
    pids = []
    monkeypatch.setattr(
        psutil, "process_iter", lambda: [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    )
    return pids


@contextmanager
def amiga(host, cwd=None, **environment):
    """A process that looks like AMIGA's server."""
    command = ["python3", "-c", "read -r _", "monitoring/server.py"]
    with subprocess.Popen(  # noqa: S603 - our own words
        command, executable="/bin/sh", stdin=subprocess.PIPE, cwd=cwd, env=os.environ | environment
    ) as child:
        while psutil.Process(child.pid).cmdline() != command:  # the kernel sets it a moment after the start
            time.sleep(0.001)
        host.append(child.pid)
        yield child.pid


def test_server_that_starts_after_us_is_seen_within_10_s(host):
    clock = ManualClock(1000.0)
    processes = Processes(clock=clock)
    assert processes.server() is None
    with amiga(host) as pid:
        assert processes.server() is None
        clock.advance(10.0)
        found = processes.server()
        assert found is not None
        assert (found.pid, found.alive) == (pid, True)
        assert found.rss > 0


def test_server_that_was_restarted_is_gone_for_no_more_than_5_s(host):
    clock = ManualClock(1000.0)
    processes = Processes(clock=clock)
    with amiga(host) as old:
        assert processes.server().pid == old
    clock.advance(1.0)
    gone = processes.server()
    assert (gone.pid, gone.alive, gone.rss) == (old, False, None)
    with amiga(host) as new:
        clock.advance(5.0)
        assert (processes.server().pid, processes.server().alive) == (new, True)


def test_host_without_amiga_is_searched_ever_more_rarely(host, monkeypatch):
    searched = []
    monkeypatch.setattr(psutil, "process_iter", lambda: searched.append(clock.now) or [])
    clock = ManualClock(0.0)
    processes = Processes(clock=clock)
    for _ in range(300):
        assert processes.server() is None
        clock.advance(1.0)
    assert searched == [0.0, 10.0, 30.0, 70.0, 130.0, 190.0, 250.0]


def test_server_of_another_installation_is_not_ours(host, tmp_path):
    """A demonstration beside a real AMIGA: each is watched with its own server, and neither counts two."""
    ours, other = tmp_path / "ours", tmp_path / "other"
    ours.mkdir()
    other.mkdir()
    with amiga(host, PROJECT_ROOT=str(other)) as demo, amiga(host, cwd=ours) as real:
        for root, pid in ((ours, real), (other, demo)):
            processes = Processes(root)
            assert processes.server().pid == pid
            assert processes.server_count == 1
        third = tmp_path / "third"
        third.mkdir()
        elsewhere = Processes(third)
        assert elsewhere.server().pid == real  # it does not say whose it is
        assert elsewhere.server_count == 1


def test_two_servers_of_one_installation_are_counted(host, tmp_path):
    with amiga(host, cwd=tmp_path), amiga(host, PROJECT_ROOT=str(tmp_path)):
        processes = Processes(tmp_path)
        assert processes.server().alive
        assert processes.server_count == 2


# -- processes that are out of sight --------------------------------------------------------------

TASKS = """
import os, subprocess, sys
from amiga_ws.collectors.amiga import processes as module

def told(processes):
    return [one.alive for one in processes.tasks([("aaaaaa", task.pid, None), ("bbbbbb", 4_000_000, None)])]

task = subprocess.Popen(["/bin/sleep", "60"])
"""


def in_a_container(script, proc="rw"):
    """What `script` prints as root in a process table of its own, with /proc mounted as `proc` says."""
    table = ["unshare", "--pid", "--fork", "--kill-child", "--mount"]
    inside = [*table, "sh", "-c", f'mount -t proc -o {proc} proc /proc && "$@"; exit $?', "sh"]
    if not shutil.which("unshare") or completed([*inside, "true"]).returncode:
        pytest.skip("a process table of its own needs unshare and root")
    done = completed([*inside, sys.executable, "-c", TASKS + script])
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_in_a_container_of_its_own_no_task_is_said_to_be_dead_until_amigas_server_is_seen():
    assert in_a_container(
        """
print(told(module.Processes()))
words = ["python3", "-c", "read -r _", "monitoring/server.py"]
server = subprocess.Popen(words, executable="/bin/sh", stdin=subprocess.PIPE)
while len(module.psutil.Process(server.pid).cmdline()) != 4:
    pass
processes = module.Processes()
print(processes.server().alive, told(processes))
server.kill()
server.wait()
print(processes.server().alive, told(processes))
"""
    ) == ["[]", "True [True, False]", "False [True, False]"]


def test_a_process_that_proc_hides_is_alive_and_one_that_has_gone_is_not():
    assert in_a_container(
        """
module.HOST_NAMESPACE = module.NAMESPACE.stat().st_ino
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
print(module.psutil.pid_exists(task.pid), told(module.Processes()))
""",
        proc="hidepid=2",
    ) == ["False [True, False]"]


def test_of_servers_whose_folders_cannot_be_read_the_one_of_the_installations_owner_is_meant():
    """As the unit runs: AMIGA is another user's, and so may be another AMIGA beside it."""
    with tempfile.TemporaryDirectory() as base:
        os.chmod(base, 0o711)  # noqa: PTH101, S103 - others must reach what is in it
        said = in_a_container(
            f"""
words = ["python3", "-c", "read -r _", "monitoring/server.py"]
users = (5001, 5002)
servers = [subprocess.Popen(words, executable="/bin/sh", stdin=subprocess.PIPE, user=user) for user in users]
while any(len(module.psutil.Process(server.pid).cmdline()) != 4 for server in servers):
    pass
roots = [os.path.join({base!r}, name) for name in ("first", "second", "third")]
for root, user in zip(roots, (*users, 5003)):
    os.mkdir(root)
    os.chown(root, user, user)
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
for root in roots:
    processes = module.Processes(root)
    found = processes.server()
    print(found and [server.pid for server in servers].index(found.pid), processes.server_count)
"""
        )
    assert said == ["0 1", "1 1", "None 0"]
