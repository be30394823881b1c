"""docs/reliability.md: what its command writes, and that each promise has its row."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from processes import CHECKOUT, clean_environment, completed
from promises import BEGIN, END, cell

TESTS = Path(__file__).parent
DOC = (CHECKOUT / "docs/reliability.md").read_text("utf-8")

SOME = """
import pytest

@pytest.fixture
def fails_before():
    raise AssertionError

@pytest.fixture
def fails_after():
    yield
    raise AssertionError

@pytest.mark.promise("It is kept")
def test_good(figure):
    figure("12 of 12")

@pytest.mark.promise("It is kept in all cases")
@pytest.mark.parametrize("case", [1, 2, 3])
def test_cases(case):
    pass

@pytest.mark.promise("It is broken in one case")
@pytest.mark.parametrize("case", ["right", "wrong"])
def test_one_case(case, figure):
    figure("measured")
    assert case == "right"

@pytest.mark.promise("It cannot be tried")
def test_before(fails_before):
    pass

@pytest.mark.promise("The end is bad")
def test_after(fails_after):
    pass

@pytest.mark.promise("There is no such thing here")
def test_not_here():
    pytest.skip("no such thing")

def test_no_promise():
    pass
"""
ROWS = """
| The end is bad | `test_some.py` test after | **BROKEN** |  |
| It cannot be tried | `test_some.py` test before | **BROKEN** |  |
| It is kept in all cases | `test_some.py` test cases | kept | 3 cases |
| It is kept | `test_some.py` test good | kept | 12 of 12 |
| There is no such thing here | `test_some.py` test not here | not run here |  |
| An older one | `test_some.py` test older | kept | as it was measured |
| It is broken in one case | `test_some.py` test one case | **BROKEN** | right: measured; wrong: measured |
"""


def test_each_promise_is_written_as_it_went(tmp_path):
    document, test = tmp_path / "page.md", tmp_path / "test_some.py"
    older = "| An older one | `test_some.py` test older | kept | as it was measured |"
    replaced = "| It is kept | `test_some.py` test good | **BROKEN** |  |"
    document.write_text(f"Before.\n{BEGIN}\n{older}\n{replaced}\n{END}\nAfter.\n")
    test.write_text(SOME)
    argv = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", tmp_path, "-p", "promises"]
    argv += ["-p", "no:cacheprovider", f"--promises={document}", test]
    done = completed(argv, cwd=tmp_path, env=clean_environment(PYTHONPATH=str(TESTS)))
    assert done.returncode == 1, done.stdout
    head = "| promise | test | | measured |\n|---|---|---|---|"
    assert document.read_text() == f"Before.\n{BEGIN}\n{head}{ROWS}{END}\nAfter.\n"


def marked():
    """(file, name) of the tests that keep a promise."""
    for file in sorted(TESTS.rglob("test_*.py")):
        for node in ast.parse(file.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(
                ast.unparse(each).startswith("pytest.mark.promise(") for each in node.decorator_list
            ):
                yield file.name, node.name


def test_the_page_has_a_row_for_each_and_no_other():
    rows = [line.split(" | ")[1] for line in DOC.splitlines() if line.startswith("| ") and "`" in line]
    assert sorted(rows) == sorted(cell(*each) for each in marked())


def test_all_of_them_are_kept():
    assert "BROKEN" not in DOC
