"""docs/security.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PROMISES = (TESTS.parent / "docs/security.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`(test_\w+)`", PROMISES)))
DEFINED = {
    name
    for file in TESTS.rglob("test_*.py")
    for name in re.findall(r"^(?:async )?def (test_\w+)\(", file.read_text("utf-8"), re.MULTILINE)
}


@pytest.mark.parametrize("name", NAMED)
def test_promise_is_kept_by_a_test_that_exists(name):
    assert name in DEFINED


def test_every_promise_names_a_test():
    rows = [
        line for line in PROMISES.splitlines() if line.startswith("| ") and not line.startswith("| promise")
    ]
    assert len(rows) > 30
    assert [row for row in rows if "`test_" not in row] == []
