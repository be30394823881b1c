"""AMIGA's processes: its server, and the `claude` child behind each running task.

A task's whole prompt stands in its command line, so command lines are looked at and never kept.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from amiga_ws.snapshot import AmigaProcess, TaskProcess

logger = logging.getLogger(__name__)

MIB = 1 << 20
LIST_EVERY_S = 60.0  # listing a few hundred processes costs 54-76 ms
SEEK_AFTER_S = 5.0  # sooner while none is found, each time twice as late: a restart is no minute of "gone"
MAX_TASKS = 50
REUSED_AFTER_S = 120.0  # AMIGA notes the pid within seconds; a process begun later is another one
SERVER_SCRIPT = "monitoring/server.py"
NAMESPACE = Path("/proc/self/ns/pid")
HOST_NAMESPACE = 0xEFFFFFFC  # its inode outside of all containers, PROC_PID_INIT_INO in Linux' proc_ns.h


class Processes:
    """Known pids are read at each call; all processes are listed once a minute, sooner while the server is sought."""

    def __init__(self, root: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """`root` is the installation whose server is meant; None takes any."""
        self._root = None if root is None else os.path.realpath(root)
        self._clock = clock
        self._listed = float("-inf")
        self._pause_s = SEEK_AFTER_S  # from one listing to the next
        self._servers: list[psutil.Process] = []
        self._tasks: dict[int, psutil.Process] = {}
        self._last_server: AmigaProcess | None = None  # the one seen last, to tell "gone" from "never seen"

    @property
    def server_count(self) -> int:
        """How many servers of this installation the last listing found."""
        return len(self._servers)

    def server(self) -> AmigaProcess | None:
        """AMIGA's server process; `alive` false once it has gone, None if none was ever seen."""
        if self._clock() - self._listed >= self._pause_s:
            self._listed = self._clock()
            self._servers = sorted(_of_root(_find_servers(), self._root), key=lambda process: process.pid)
            self._pause_s = LIST_EVERY_S if self._servers else min(self._pause_s * 2, LIST_EVERY_S)
        for process in self._servers:
            reading = _read_server(process)
            if reading is not None:
                self._last_server = reading
                return reading
        if self._last_server is not None:
            gone = self._last_server
            if gone.alive:
                self._pause_s = SEEK_AFTER_S
            self._last_server = AmigaProcess(pid=gone.pid, alive=False, since=gone.since)
        return self._last_server

    def tasks(self, running: Iterable[tuple[str, int, float | None]]) -> list[TaskProcess]:
        """One entry per (task id, pid, time the task was last known to start), at most 50.

        None in a container in which AMIGA's server was never seen: there its pids are nobody's, or somebody else's.
        """
        if self._last_server is None and not _on_host():
            return []
        wanted = list(running)[:MAX_TASKS]
        known = {pid for _, pid, _ in wanted}
        self._tasks = {pid: process for pid, process in self._tasks.items() if pid in known}
        return [self._task(task_id, pid, started) for task_id, pid, started in wanted]

    def _task(self, task_id: str, pid: int, started: float | None) -> TaskProcess:
        dead = TaskProcess(task_id=task_id, pid=pid, alive=False)
        try:
            process = self._tasks.get(pid)
            if process is None or not process.is_running():
                process = psutil.Process(pid)
                self._tasks[pid] = process
            with process.oneshot():
                if process.status() == psutil.STATUS_ZOMBIE:
                    return dead
                if started is not None and process.create_time() > started + REUSED_AFTER_S:
                    return dead
                return TaskProcess(
                    task_id=task_id,
                    pid=pid,
                    alive=True,
                    rss=-(-process.memory_info().rss // MIB) * MIB,
                    cpu_percent=float(round(process.cpu_percent(interval=None))),
                )
        except psutil.AccessDenied:
            return TaskProcess(task_id=task_id, pid=pid, alive=True)
        except (psutil.Error, ValueError, OverflowError):
            self._tasks.pop(pid, None)
            return TaskProcess(task_id=task_id, pid=pid, alive=True) if _is_hidden(pid) else dead


def _on_host() -> bool:
    """Whether our process table is the host's own."""
    try:
        return NAMESPACE.stat().st_ino == HOST_NAMESPACE
    except OSError:
        return True  # no Linux: there is but one table


def _is_hidden(pid: int) -> bool:
    """Whether a process that /proc does not show is there all the same.

    With hidepid=2 not even process 1 is shown. Where it is, the kernel is not asked: for it a pid may be a thread's.
    """
    if psutil.pid_exists(1):
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def _find_servers() -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            line = process.cmdline()
        except (psutil.Error, OSError):
            continue
        # A shell that starts it, or an editor that shows it, has the name too: the interpreter must be first.
        if line and "python" in line[0].rsplit("/", 1)[-1] and any(_is_server(word) for word in line[1:4]):
            found.append(process)
    return found


def _of_root(found: list[psutil.Process], root: str | None) -> list[psutil.Process]:
    """Those of one installation: a demonstration may run beside a real AMIGA.

    A server is started in its folder, or PROJECT_ROOT names it. Where none says so, those that name no other and are of
    the user whose the installation is: of another user's processes neither can be read, but whose they are.
    """
    if root is None:
        return found
    named = [(process, *_folders(process)) for process in found]
    own = [process for process, told, cwd in named if (told or cwd) == root]
    owner = _owner_of(root)
    return own or [process for process, told, _ in named if told is None and _user_of(process) == owner]


def _folders(process: psutil.Process) -> tuple[str | None, str | None]:
    """PROJECT_ROOT of a process and where it runs; None for what is not set or not ours to read."""
    told = cwd = None
    with suppress(psutil.Error, OSError):
        told = process.environ().get("PROJECT_ROOT") or None
        cwd = process.cwd() or None
    return told and os.path.realpath(told), cwd and os.path.realpath(cwd)


def _user_of(process: psutil.Process) -> int | None:
    with suppress(psutil.Error, OSError):
        return process.uids().effective
    return None


def _owner_of(root: str) -> int | None:
    """Of the database, which AMIGA's server made, or of the folder."""
    for path in (f"{root}/data/agentlab.db", root):
        with suppress(OSError):
            return os.stat(path).st_uid  # noqa: PTH116 - as strings, like the rest
    return None


def _is_server(word: str) -> bool:
    return word.endswith(SERVER_SCRIPT) or word == "monitoring.server"


def _read_server(process: psutil.Process) -> AmigaProcess | None:
    try:
        with process.oneshot():
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return None
            return AmigaProcess(
                pid=process.pid,
                alive=True,
                since=float(round(process.create_time())),
                rss=-(-process.memory_info().rss // MIB) * MIB,
                cpu_percent=float(round(process.cpu_percent(interval=None))),
                threads=process.num_threads(),
            )
    except psutil.AccessDenied:
        return AmigaProcess(pid=process.pid, alive=True)
    except (psutil.Error, OSError):
        return None
