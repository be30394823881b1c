#!/usr/bin/env python3
"""Autobahn|Testsuite's clients against our WebSocket base class (ws_echo.py), plain and with compression.

    .venv/bin/python tests/autobahn.py              groups 1-7, 9, 10 and a sample of 12 and 13: a minute and a half
    .venv/bin/python tests/autobahn.py --quick      without group 9: half a minute
    .venv/bin/python tests/autobahn.py --all        and all of 12 and 13: half an hour
    .venv/bin/python tests/autobahn.py --install    none: tests/test_autobahn.py runs the quick ones

Exit code 0: no case failed; 1: some did; 2: it did not come to that. The suite runs on Python 2.7 alone; where one
is found (PYTHON27=, PATH, pyenv) it is installed once, below ~/.cache/amiga_ws/autobahn (--home).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "amiga_ws" / "autobahn"
SUITE, VIRTUALENV = (
    "autobahntestsuite==25.10.1",
    "virtualenv==20.21.1",
)  # the last that makes 2.7 environments
QUICK = [*(f"{group}.*" for group in range(1, 8)), "10.*"]
USUAL = [*QUICK, "9.*"]
COMPRESSION = ["12.*", "13.*"]
# Each kind of payload and each set of parameters once.
SAMPLE = ["12.1.1", "12.1.5", "12.1.11", "12.2.1", "12.3.1", "12.4.2", "12.5.3"]
SAMPLE += ["13.1.1", "13.1.12", "13.2.2", "13.3.1", "13.4.1", "13.5.1", "13.6.1", "13.7.1"]
GOOD = {"OK", "NON-STRICT", "INFORMATIONAL"}
GOOD_CLOSE = {"OK", "INFORMATIONAL"}
DEADLINE_S = 3600


class UnavailableError(Exception):
    """The suite cannot run here; the text says why."""


def wstest(home: Path = HOME) -> Path | None:
    """The suite's command, if it is installed."""
    command = home / "suite" / "bin" / "wstest"
    return command if (home / "installed").exists() and command.exists() else None


def install(home: Path = HOME) -> Path:
    """Its command, installed where it is not yet. Raises UnavailableError."""
    if found := wstest(home):
        return found
    python = python27()
    if python is None:
        raise UnavailableError("no Python 2.7 here: name one with PYTHON27=/path/to/python2.7")
    print(f"installing {SUITE} into {home} (once: about a minute)", file=sys.stderr)  # noqa: T201 - a command
    shutil.rmtree(home, ignore_errors=True)
    tools, suite = home / "tools", home / "suite"
    steps = [
        [sys.executable, "-m", "venv", tools],
        [tools / "bin" / "pip", "install", "-q", VIRTUALENV],
        [tools / "bin" / "virtualenv", "-q", "-p", python, suite],
        [suite / "bin" / "pip", "install", "-q", SUITE],
    ]
    for step in steps:
        done = subprocess.run(step, stdout=sys.stderr, check=False)  # noqa: S603 - our words
        if done.returncode:
            raise UnavailableError(f"the installation failed at: {' '.join(map(str, step))}")
    (home / "installed").write_text(f"{SUITE}\n")
    return suite / "bin" / "wstest"


def python27() -> str | None:
    """A Python 2.7 that starts (a shim of pyenv may not), if there is one."""
    pyenv = sorted((Path.home() / ".pyenv" / "versions").glob("2.7*/bin/python2.7"))
    for each in (os.environ.get("PYTHON27"), shutil.which("python2.7"), *map(str, pyenv)):
        if each and not subprocess.run([each, "-V"], capture_output=True, check=False).returncode:  # noqa: S603 - as named
            return each
    return None


Results = dict[str, tuple[str, str]]  # case → how it went, how its connection was closed


def judge(command: Path, out: Path, cases: list[str], *, deflate: bool) -> Results:
    """Run the cases, and those that went badly once more, by themselves: in order, all of them.

    The suite gives a server a second to close, which a busy machine may not have. Raises UnavailableError.
    """
    results = run(command, out, cases, deflate=deflate)
    if again := list(bad(results)):
        results |= run(command, out / "again", again, deflate=deflate)
    return results


def run(command: Path, out: Path, cases: list[str], *, deflate: bool) -> Results:
    """Run the cases. Raises UnavailableError: it did not end; `out` has its log."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with echo(out, deflate=deflate) as url:
        server = {"agent": "amiga_ws", "url": url, "options": {"version": 18}}
        plan = {"outdir": str(out), "servers": [server], "cases": cases, "exclude-cases": []}
        (out / "plan.json").write_text(json.dumps({**plan, "exclude-agent-cases": {}}))
        with (out / "log").open("w") as log:
            words = [command, "-m", "fuzzingclient", "-s", out / "plan.json"]
            subprocess.run(words, cwd=out, stdout=log, stderr=log, check=False, timeout=DEADLINE_S)  # noqa: S603 - ours
    index = out / "index.json"
    if not index.exists():
        raise UnavailableError(f"the suite did not end: {out / 'log'}")
    found = json.loads(index.read_text())["amiga_ws"]
    in_order = sorted(found, key=lambda case: [int(part) for part in case.split(".")])
    return {case: (found[case]["behavior"], found[case]["behaviorClose"]) for case in in_order}


@contextmanager
def echo(out: Path, *, deflate: bool) -> Iterator[str]:
    """The address of a running echo."""
    script = Path(__file__).with_name("ws_echo.py")
    words = [sys.executable, script, "--port", "0", *(["--deflate"] if deflate else [])]
    with (
        (out / "echo.log").open("w") as log,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True) as server,  # noqa: S603 - ours
    ):
        try:
            assert server.stdout is not None
            yield server.stdout.readline().rpartition(" ")[2].strip()
        finally:
            server.terminate()


def bad(results: Results) -> Results:
    """The cases that did not go well."""
    return {
        case: (behavior, ending)
        for case, (behavior, ending) in results.items()
        if behavior not in GOOD or ending not in GOOD_CLOSE
    }


def main() -> int:
    """See the module's text."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    extent = options.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true")
    extent.add_argument("--all", action="store_true")
    extent.add_argument("--install", action="store_true")
    options.add_argument("--home", type=Path, default=HOME, help=f"where the suite is installed ({HOME})")
    given = options.parse_args()
    usual = QUICK if given.quick else USUAL
    failed = 0
    try:
        command = install(given.home)
        if given.install:
            return 0
        for name, cases in (
            ("plain", usual),
            ("deflate", [*usual, *(COMPRESSION if given.all else SAMPLE)]),
        ):
            results = judge(command, given.home / "reports" / name, cases, deflate=name == "deflate")
            counts = ", ".join(
                f"{count} {how}" for how, count in Counter(b for b, _ in results.values()).items()
            )
            wrong = bad(results)
            print(f"{name}: {len(results)} cases: {counts}; bad: {wrong or 'none'}")  # noqa: T201 - a command
            failed += len(wrong)
    except (UnavailableError, OSError, subprocess.TimeoutExpired) as error:
        print(f"autobahn.py: {error}", file=sys.stderr)  # noqa: T201 - a command
        return 2
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
