"""What only shows after a while: the benchmarks of long runs, judged by their own exit code."""

from __future__ import annotations

import json
import sys

import pytest
from processes import CHECKOUT, completed


def run(script, *words, within_s):
    done = completed([sys.executable, CHECKOUT / "benchmarks" / script, *words], within_s=within_s)
    told = done.stdout + done.stderr[-2000:]
    return done.returncode, told


@pytest.mark.timeout(2400)
@pytest.mark.promise(
    "Nothing grows: memory, descriptors and tasks stay level under churn, slow clients and AMIGA's restarts, "
    "and after thousands of connects and resets all is as before"
)
def test_a_soak_and_cycles_of_connects_and_resets_leave_nothing_behind(tmp_path, full, figure):
    result = tmp_path / "soak.json"
    scale = ("--minutes", "20") if full else ("--minutes", "0.5", "--cycles", "2", "--each", "100")
    _, told = run("soak.py", *scale, "--json", result, within_s=2300)
    found = json.loads(result.read_text())
    # A short run warms up: what it says of slopes means nothing yet.
    wrong = (
        found["wrong"]
        if full
        else [each for each in found["wrong"] if not each.endswith(("rises", "drifts"))]
    )
    assert not wrong, told
    memory, cycles = found["rss_mib"], found["cycles"]
    figure(
        f"{found['minutes']} min: memory rises by {memory['more_with_clients_per_hour']} ± {memory['error']} MiB/h "
        f"more than that of a server beside it that nobody watches (whose rises by {memory['unwatched_per_hour']}, for "
        f"{found['rows_per_hour']} rows), p99 of an answer "
        f"{found['delay_ms']['p99']} ms; {cycles['number']} cycles of {cycles['each']}: MiB {cycles['rss_mib']}, "
        f"descriptors {cycles['fds']}, tasks {cycles['tasks']}"
    )


@pytest.mark.timeout(600)
@pytest.mark.promise("All viewers dropped at once are back within 30 s, and the loop stays free")
def test_a_crowd_that_is_dropped_comes_back(full, figure):
    code, told = run("reconnect.py", "--clients", "2000" if full else "200", within_s=500)
    results = json.loads(told[: told.rindex("]") + 1])
    assert all(each["back"] == each["clients"] for each in results), told
    assert code == 0 or not full, told
    figure(
        "; ".join(
            f"{each['clients']} after {each['how']}: back in {each['back_s']} s, "
            f"late by {each['lag_ms']} ms ({each['cpu_lag_ms']} ms of it its own)"
            for each in results
        )
    )
