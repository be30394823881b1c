"""What is promised of reliability, each by the test that keeps it: `@pytest.mark.promise("...")`.

Such a test runs at a small scale with all the others and at its full one with `--full`; what it measured it
tells by the `figure` fixture. `--promises FILE` writes one row each into a document (see scripts/reliability).
"""

from __future__ import annotations

from pathlib import Path

import pytest

BEGIN, END = "<!-- rows: begin -->", "<!-- rows: end -->"
_ROWS = pytest.StashKey()


def pytest_addoption(parser):
    group = parser.getgroup("promises")
    group.addoption("--full", action="store_true", help="run promises at their full scale (an hour)")
    group.addoption("--promises", metavar="FILE", help="write each promise, its test and figure into FILE")


def pytest_configure(config):
    config.addinivalue_line("markers", "promise(text): keeps a promise of docs/reliability.md")
    config.stash[_ROWS] = {}


@pytest.fixture
def full(request):
    """Whether to run at full scale."""
    return request.config.getoption("--full")


@pytest.fixture
def figure(record_property):
    """figure("12 of 12 back in 1.4 s"): what was measured, for the document."""
    return lambda text: record_property("figure", text)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    mark = item.get_closest_marker("promise")
    if mark is not None and (report.when == "call" or report.skipped):
        outcome = {"passed": "kept", "failed": "**BROKEN**"}.get(report.outcome, "not run here")
        figures = [value for name, value in item.user_properties if name == "figure"]
        item.config.stash[_ROWS][item.nodeid] = (mark.args[0], item.nodeid, outcome, "; ".join(figures))
    return report


def pytest_sessionfinish(session):
    target = session.config.getoption("--promises")
    if not target:
        return
    document = Path(target)
    before, _, rest = document.read_text("utf-8").partition(BEGIN)
    known, _, after = rest.partition(END)
    # What did not run this time stands as it was measured last.
    rows = {
        line.split(" | ")[1]: line for line in known.splitlines() if line.startswith("| ") and "`" in line
    }
    for promise, test, outcome, figures in session.config.stash[_ROWS].values():
        path, _, name = test.partition("::")
        cell = f"`{Path(path).name}` {name.replace('_', ' ')}"
        rows[cell] = f"| {promise} | {cell} | {outcome} | {figures} |"
    table = ["| promise | test | | measured |", "|---|---|---|---|", *(rows[cell] for cell in sorted(rows))]
    document.write_text("\n".join([f"{before}{BEGIN}", *table, f"{END}{after}"]), "utf-8")
