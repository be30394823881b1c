"""Log: one line an event, no token, and nothing a terminal would obey."""

from __future__ import annotations

import io
import logging
import sys
import time

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amiga_ws.log import LineFormatter, Sparing, configure, without_tokens

TOKEN = jwt.encode({"sub": "ada"}, b"k" * 32, algorithm="HS256")


def line(message, *args, error=None):
    record = logging.LogRecord("amiga_ws.x", logging.INFO, __file__, 1, message, args, error)
    return LineFormatter().format(record)


def test_line_has_time_level_logger_and_message():
    assert line("hello %s", "ada").endswith(" INFO amiga_ws.x: hello ada")


@pytest.mark.parametrize(
    "text",
    [
        TOKEN,
        f"/ws?token={TOKEN}&hours=1",
        f"Bearer {TOKEN}",
        f"amiga.bearer.{TOKEN}, amiga.v1",
        f"Cookie: amiga_session_3000={TOKEN}; a=b",
        TOKEN.rpartition(".")[0],  # without a signature it still says who
        TOKEN + "=",
        f"{TOKEN}{TOKEN}",
        f"{TOKEN} {TOKEN}",
        f"({TOKEN})",
    ],
)
def test_token_is_never_written(text):
    written = line("%s", text)
    assert "[token]" in written
    for part in TOKEN.split("."):
        assert part not in written


@pytest.mark.parametrize("unit", ["eyJ", "eyJaaaaaaaaa", "eyJaaaaaaaaa.", "eyJ-."])
def test_text_that_is_made_for_it_costs_little(unit):
    """A peer's query of 16 KiB is looked through while the loop waits; what is looked at twice took 0.16 s."""
    text = (unit * 16_384)[: 16 * 16_384]  # sixteen of them, so that the clock has something to measure
    began = time.process_time()
    without_tokens(text)
    assert time.process_time() - began < 1.0


def test_token_in_a_traceback_is_never_written():
    try:
        raise ValueError(TOKEN)
    except ValueError:
        written = line("failed", error=sys.exc_info())
    assert "ValueError: [token]" in written
    assert TOKEN not in written


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("a\rb", "a\\x0db"),
        ("a\x00b\x7f", "a\\x00b\\x7f"),
        ("\x9b31m", "\\x9b31m"),  # C1: CSI in one character
        ("a\x85b", "a\\x85b"),
        ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
        ("tab\there", "tab\\x09here"),
        ("ümlaut 漢字", "ümlaut 漢字"),
    ],
)
def test_control_characters_are_escaped(text, written):
    assert line("%s", text).endswith(f": {written}")


def test_outside_text_cannot_fake_a_line():
    lines = line("name %s", "bob\n2026-01-01 00:00:00,000 INFO amiga_ws.x: all is well").split("\n")
    assert len(lines) == 2
    assert lines[1].startswith("    ")


@given(st.text())
def test_any_text_stays_in_its_own_event(text):
    written = line("%s", text)
    first, *rest = written.split("\n")
    assert all(following.startswith("    ") for following in rest)
    assert not any(
        ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u2028\u2029" for c in written.replace("\n", "")
    )
    assert first


@pytest.fixture
def root():
    """The root logger, as it was afterwards."""
    logger = logging.getLogger()
    names = ("tornado.general", "asyncio")
    kept = logger.handlers[:], logger.level, {name: logging.getLogger(name).level for name in names}
    yield logger
    logger.handlers[:], levels = kept[0], kept[2]
    logger.setLevel(kept[1])
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def test_configured_log_goes_to_stderr_from_its_level_on(root, monkeypatch):
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    configure("info")
    configure("info")  # twice is once
    logging.getLogger("amiga_ws.x").debug("quiet")
    logging.getLogger("amiga_ws.x").info("said %s", TOKEN)
    logging.getLogger("tornado.general").warning("a peer sent nonsense")
    lines = written.getvalue().splitlines()
    assert len(lines) == 1
    assert lines[0].endswith("said [token]")


def test_lines_of_one_kind_are_left_out_when_they_are_many_and_counted():
    now = 0.0
    sparing = Sparing(lambda: now)

    def written(template, *args, level=logging.INFO):
        record = logging.LogRecord("amiga_ws.x", level, __file__, 1, template, args, None)
        return record.getMessage() if sparing.filter(record) else None

    assert [written("refused %d", n) for n in range(25)] == [f"refused {n}" for n in range(20)] + [None] * 5
    assert written("closing %s", "x") == "closing x"  # another kind
    assert all(written("asked %d", n, level=logging.DEBUG) for n in range(100))
    now = 5.0
    assert [written("refused %d", n) for n in (30, 31)] == ["refused 30 (and 5 like it)", None]
    now = 1000.0
    assert written("refused %d%%", 32) == "refused 32%"
    assert [written("refused %d", n) for n in (33, 34)] == ["refused 33 (and 1 like it)", "refused 34"]
