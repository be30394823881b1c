"""`python -m amiga_ws simulate DIR`: a living AMIGA for a demonstration, until SIGTERM or SIGINT.

Besides AMIGA's own files, DIR/claude/projects holds the transcripts that Claude Code would keep.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from amiga_ws.simulate.hooks import REPORT_S
from amiga_ws.simulate.play import LIVE, NoProcesses, Play, Processes, Stage, backfill
from amiga_ws.simulate.simulator import RESTARTED, Simulator
from amiga_ws.simulate.spending import Transcripts
from amiga_ws.simulate.story import Story
from amiga_ws.simulate.truth import Task

MARKER = "SIMULATED"  # a file that tells our installations from real ones, which we must never write to
_SHELL = "/bin/sh"


class Children:
    """Real processes behind running tasks: a shell that waits for its standard input to close.

    So they end with us, even if we are killed with -9.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def spawn(self, task: Task, model: str) -> int | None:
        """A process that looks like the one AMIGA starts for a task."""
        words = ["claude", "-p", "--model", model, "--session-id", task.session, "--", task.description]
        return self.start(words, {"TASK_ID": task.task_id, "PROJECT_ROOT": str(self._root)})

    def start(self, words: Sequence[str], environment: dict[str, str]) -> int:
        """Start one whose command line shows `words`, with the shell's own two after the first; its pid."""
        child = subprocess.Popen(  # noqa: S603 - words of our own, and the shell runs only `read`
            [words[0], "-c", "read -r _", *words[1:]],
            executable=_SHELL,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self._children[child.pid] = child
        return child.pid

    def end(self, pid: int | None) -> None:
        """End one; an unknown pid is no error."""
        child = self._children.pop(pid, None) if pid is not None else None
        if child is None:
            return
        assert child.stdin is not None  # noqa: S101 - opened as a pipe above
        child.stdin.close()
        try:
            child.wait(2)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def close(self) -> None:
        """End all."""
        for pid in list(self._children):
            self.end(pid)


def main(argv: list[str]) -> int:
    """Play until a signal; 0, or 2 with a sentence when DIR cannot be played in."""
    arguments = _parser().parse_args(argv)
    root: Path = arguments.dir.resolve()
    if (root / "data" / "agentlab.db").exists() and not (root / MARKER).exists():
        return _refuse(f"{root} holds an AMIGA that was not made by us; choose another folder")
    try:
        root.mkdir(parents=True, exist_ok=True)
        marker = (root / MARKER).open("a+", encoding="utf-8")
    except OSError as error:
        return _refuse(f"cannot write to {root}: {error.strerror}")
    with marker:
        if not _claim(marker):
            return _refuse(f"another simulator plays in {root}")
        children = Children(root) if arguments.processes else None
        try:
            _play(arguments, root, children)
        finally:
            if children is not None:
                children.close()
    return 0


def _play(arguments: argparse.Namespace, root: Path, children: Children | None) -> None:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    sim = Simulator(root, rows_per_call=arguments.rows_per_call)
    known = sim.con.execute("SELECT count(*) FROM tasks").get
    seed = int.from_bytes(os.urandom(4)) if arguments.seed is None else arguments.seed
    sim.rng = random.Random(f"{seed} {known}")  # noqa: S311 - a restart must not repeat its ids
    story = Story(sim.rng)
    transcripts = Transcripts(root / "claude" / "projects", sim.rng)
    sim.stop_running(RESTARTED)
    if not known and arguments.backfill > 0:
        now = time.time()
        backfill(sim, story, transcripts, now - arguments.backfill * 3600, now - 30)
    # A hook's report is stamped REPORT_S after its start: begin that much in the past, not in the future.
    sim.clock = lambda: time.time() - REPORT_S
    sim.remember_ended = False
    processes: Processes = NoProcesses() if children is None else children
    if children is not None:
        children.start(["python3", "monitoring/server.py"], {"PROJECT_ROOT": str(root)})
    stage = Stage(time.time(), arguments.speed)
    play = Play(sim, story, LIVE, processes, transcripts)
    stage.add(play.patient(24.0, sim.clock))
    play.cast(stage, workers=2)
    rows = sim.con.execute("SELECT count(*) FROM tool_usage").get
    print(  # noqa: T201 - the promised line
        f"simulated AMIGA is running in {root} ({rows} tool rows so far)", file=sys.stderr, flush=True
    )
    while not stop.is_set():
        due = stage.run_until(time.time())
        transcripts.answers.clear()  # a play without end keeps no truth
        stop.wait(max(0.02, due - time.time()))
    sim.stop_running("Task stopped during bot shutdown")
    sim.close()


def _refuse(reason: str) -> int:
    print(f"simulate: {reason}", file=sys.stderr)  # noqa: T201 - the answer of a command
    return 2


def _claim(marker: TextIO) -> bool:
    try:
        fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    if not marker.tell():
        marker.write("A simulated AMIGA, made by amiga_ws. It may be deleted.\n")
        marker.flush()
    return True


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def _hours(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 24 * 90:
        raise argparse.ArgumentTypeError("must be 0 to 2160 hours")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m amiga_ws simulate",
        description="Play an AMIGA: write its database and hook logs below DIR, live, until SIGTERM or Ctrl-C.",
    )
    parser.add_argument("dir", metavar="DIR", type=Path, help="folder of the installation; made if missing")
    parser.add_argument("--speed", type=_positive, default=1.0, metavar="N", help="N times as lively (1)")
    parser.add_argument(
        "--backfill", type=_hours, default=48.0, metavar="HOURS", help="history for a new DIR, in hours (48)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="play the same again (default: never the same)")
    parser.add_argument(
        "--rows-per-call",
        type=int,
        choices=(1, 3, 4),
        default=3,
        help="rows of one tool call: 1 hooks alone, 3 with AMIGA's server up, 4 where its hooks miss (3)",
    )
    parser.add_argument(
        "--no-processes", dest="processes", action="store_false", help="start no processes for running tasks"
    )
    return parser
