"""docs/operations.md lists what the log says, the exit codes and the series that there are."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

from amiga_ws import app
from amiga_ws.__main__ import build_parser
from amiga_ws.config import load

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


def test_commands_are_ours_and_find_the_servers_folder():
    commands = re.findall(r"(?m)^(.*)python -m amiga_ws (.+)$", DOC.replace("\\\n", " "))
    assert len(commands) >= 5
    for before, command in commands:
        args = build_parser().parse_args(shlex.split(command.partition("|")[0]))
        where = (
            None if "podman exec" in before else Path("/etc/amiga-ws/config.yaml")
        )  # None: by the environment
        assert args.config == where, command


def test_settings_it_asks_for_are_ones(tmp_path):
    (settings,) = re.findall(r"```yaml\n(state_dir: .*?)```", DOC, re.DOTALL)
    (tmp_path / "config.yaml").write_text(settings)
    assert load(None, [], {}, tmp_path).state_dir == Path("/var/lib/amiga-ws")
    (variables,) = re.findall(r"(?m)^ +-e (AMIGA_WS_.*) \\$", DOC)
    given = dict(word.split("=") for word in variables.replace("-e ", "").split())
    assert load(None, [], given, tmp_path).amiga.name == "amiga"


def test_links_lead_to_files_that_exist():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", DOC):
        assert (CHECKOUT / "docs" / target).exists(), target
