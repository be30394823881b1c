"""Floods against the server as it is shipped: what they take of it, judged by what the machine's noise is not in."""

from __future__ import annotations

import json
import os
import shutil
import sys

import pytest
from processes import CHECKOUT, clean_environment, completed


@pytest.mark.promise(
    "A flood of whatever kind takes less than a fifth of a core, some MiB and few log lines, and others wait for the "
    "loop less than a millisecond more"
)
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="who attacks needs a core of his own")
@pytest.mark.skipif(shutil.which("cc") is None, reason="the viewers' program needs a C compiler")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("script", "one"),
    [("floods.py", "malformed"), ("floods_http.py", "7 KiB"), ("floods_tls.py", "half a ClientHello")],
    ids=["frames", "requests", "TLS"],
)
def test_no_flood_takes_more_than_it_may(script, one, tmp_path, full, figure):
    answer = tmp_path / "figures.json"
    argv = [sys.executable, CHECKOUT / "benchmarks" / script, "--json", answer]
    argv += [] if full else ["--only", one, "--seconds", "2"]
    done = completed(argv, env=clean_environment(), within_s=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(answer.read_text())
    found = figures["floods"]
    found.pop("nothing", None)  # there to tell the error of the others' times
    assert len(found) > 1 if full else len(found) == 1
    most = {name: max(each[name] for each in found.values()) for name in ("cpu %", "RSS +MiB", "log lines")}
    later = max(each["p99 wait"] - each["quiet"]["p99 wait"] for each in found.values())
    figure(
        f"{len(found)} floods, at most: {most['cpu %']:.0f}% of a core, {most['RSS +MiB']:.1f} MiB, "
        f"{most['log lines']} log lines, {later:.2f} ms; "
        f"p99 of 99 viewers' updates x {figures['together']['p99 x']:.2f}"
    )
