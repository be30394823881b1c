"""What keeps the rooms apart: import directions (setup.cfg, import-linter) and what those cannot say."""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent
PACKAGE = CHECKOUT / "amiga_ws"
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(file):
    return str(file.relative_to(CHECKOUT))


@pytest.fixture(scope="module")
def setup_cfg():
    found = configparser.ConfigParser()
    found.read(CHECKOUT / "setup.cfg", "utf-8")
    return found


def test_imports_go_down_only():
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_config_reads_the_environment_and_peers_of_a_server_their_token():
    readers = {
        name_of(file)
        for file in MODULES
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv"))
        or (isinstance(node, ast.alias) and node.name in ("environ", "getenv"))
    }
    assert readers == {
        "amiga_ws/config/loading.py",
        "amiga_ws/cli/revoke.py",
        "amiga_ws/cli/watch.py",
        "amiga_ws/collectors/amiga/processes.py",  # not ours: which checkout AMIGA's own process runs
    }


def test_no_room_is_named_after_nothing():
    empty = {"utils", "util", "helpers", "base", "common", "misc", "manager"}
    assert [name_of(file) for file in MODULES if empty & set(file.stem.split("_"))] == []


def test_every_module_says_what_lives_in_it():
    silent = [
        name_of(file)
        for file in MODULES
        if (text := file.read_text("utf-8")).strip() and not ast.get_docstring(ast.parse(text))
    ]
    assert silent == []


def test_every_folder_of_the_package_is_in_the_distribution(setup_cfg):
    folders = {".".join(file.parent.relative_to(CHECKOUT).parts) for file in PACKAGE.rglob("__init__.py")}
    data = {"amiga_ws.static", "amiga_ws.templates"}
    assert set(setup_cfg["options"]["packages"].split()) == folders | data


def test_no_comment_follows_a_value_in_setup_cfg():
    """mypy silently drops `strict = True ; why`."""
    lines = (CHECKOUT / "setup.cfg").read_text("utf-8").splitlines()
    assert [line for line in lines if " ;" in line or " #" in line.lstrip("#")] == []
