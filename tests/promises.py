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
    # What fails before or after the test itself breaks a promise too: the log is looked at last of all.
    if mark is not None and (report.when == "call" or report.outcome != "passed"):
        figures = [value for name, value in item.user_properties if name == "figure"]
        row = item.config.stash[_ROWS].setdefault(cell(item.path.name, item.originalname), Row(mark.args[0]))
        row.cases[getattr(getattr(item, "callspec", None), "id", "")] = report.outcome, "; ".join(figures)
    return report


class Row:
    """One promise, and how each case of its test went: by its id, the outcome and the figures."""

    def __init__(self, promise):
        self.promise = promise
        self.cases = {}

    def cells(self):
        """(what became of it, what was measured)."""
        outcomes = [outcome for outcome, _ in self.cases.values()]
        ran = outcomes.count("passed")
        kept = "**BROKEN**" if "failed" in outcomes else "kept" if ran else "not run here"
        figures = [
            f"{case}: {figure}" if case else figure for case, (_, figure) in self.cases.items() if figure
        ]
        return kept, "; ".join(figures) or (f"{ran} cases" if ran > 1 else "")


def cell(file, test):
    """How the document names a test."""
    return f"`{file}` {test.replace('_', ' ')}"


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
    for test, row in session.config.stash[_ROWS].items():
        kept, measured = row.cells()
        rows[test] = f"| {row.promise} | {test} | {kept} | {measured} |"
    table = ["| promise | test | | measured |", "|---|---|---|---|", *(rows[test] for test in sorted(rows))]
    document.write_text("\n".join([f"{before}{BEGIN}", *table, f"{END}{after}"]), "utf-8")
