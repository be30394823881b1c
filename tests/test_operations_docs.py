"""docs/operations.md lists what the log says, the exit codes and the series that there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from amiga_ws import app

CHECKOUT = Path(__file__).parent.parent
DOC = (CHECKOUT / "docs/operations.md").read_text("utf-8")
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
ROWS = dict(re.findall(r"(?m)^\| `([^`]+)` \| (debug|info|warning|error) \| ", DOC))


def logged():
    """(where, level, message with … for what differs) of every line the package can log."""
    for file in sorted((CHECKOUT / "amiga_ws").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner, name = ast.unparse(node.func.value), node.func.attr
            # `_tell` of listening.py warns, but not again and again.
            if (owner == "logger" and name in LEVELS) or (owner == "self" and name == "_tell"):
                first = node.args[0]
                if isinstance(first, ast.Name):
                    assert file.name == "listening.py", file  # `_tell` itself
                    continue
                assert isinstance(first, ast.Constant), f"{file}:{node.lineno}: the message is no literal"
                level = {"exception": "error", "_tell": "warning"}.get(name, name)
                message = re.sub(r"%[-.\d]*[sdrfa]", "…", str(first.value))
                yield f"{file.name}:{node.lineno}", level, message


LOGGED = list(logged())


@pytest.mark.parametrize(("where", "level", "message"), LOGGED, ids=[where for where, _, _ in LOGGED])
def test_every_log_line_is_explained_under_its_level(where, level, message):
    assert ROWS.get(message) == level, f"{where}: {message!r} is not in docs/operations.md"


def test_no_line_is_explained_that_is_never_logged():
    assert set(ROWS) == {message for _, _, message in LOGGED}
    assert len(LOGGED) > 30


def test_exit_codes_are_those_of_the_server():
    codes = re.findall(r"(?m)^\| (\d) \| ", DOC)
    assert codes == ["0", str(app.EXIT_FAILED), str(app.EXIT_MISCONFIGURED)]


async def test_every_series_is_listed(server):
    text = (await server.ask_as(server.token(), "/metrics")).body.decode()
    for name in re.findall(r"(?m)^# TYPE (amiga\w+) ", text):
        suffix = name.removeprefix("amiga_ws_clients")
        assert f"`{name}" in DOC or f"`{suffix}`" in DOC or name == "amiga_ws_info", name


def test_links_lead_to_files_that_exist():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", DOC):
        assert (CHECKOUT / "docs" / target).exists(), target
