"""Autobahn|Testsuite's quick groups, where tests/autobahn.py has installed it; test_frames.py runs anywhere."""

from __future__ import annotations

import autobahn
import pytest

COMMAND = autobahn.wstest()


@pytest.mark.promise("WebSocket is spoken as Autobahn's test suite wants it")
@pytest.mark.skipif(
    COMMAND is None, reason="AUTOBAHN DID NOT RUN: tests/autobahn.py --install installs it, once"
)
@pytest.mark.timeout(400)  # 17 and 30 s on a quiet machine
@pytest.mark.parametrize(
    ("deflate", "cases", "least"),
    [(False, autobahn.QUICK, 240), (True, [*autobahn.QUICK, *autobahn.SAMPLE], 255)],
    ids=["plain", "deflate"],
)
def test_no_case_fails(tmp_path, full, figure, deflate, cases, least):
    cases = [*cases, "9.*"] if full else cases
    results = autobahn.judge(COMMAND, tmp_path / "report", cases, deflate=deflate)
    figure(f"{len(results)} cases, {len(autobahn.bad(results))} failed")
    assert len(results) >= least
    assert not autobahn.bad(results)
