"""AMIGA's server process as the collector finds it: real processes, under a clock in hand."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import contextmanager

import psutil
import pytest

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
        elsewhere = Processes(tmp_path / "third")
        assert elsewhere.server().pid == real  # it does not say whose it is
        assert elsewhere.server_count == 1


def test_two_servers_of_one_installation_are_counted(host, tmp_path):
    with amiga(host, cwd=tmp_path), amiga(host, PROJECT_ROOT=str(tmp_path)):
        processes = Processes(tmp_path)
        assert processes.server().alive
        assert processes.server_count == 2
