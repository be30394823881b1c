"""What keeps the rooms apart: import directions (setup.cfg, import-linter) and what those cannot say."""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
from pathlib import Path

import pytest
from tornado import http1connection, httpserver, httputil, iostream, util, web, websocket

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


def test_private_names_of_tornado_are_in_one_module():
    """They may change in any release; tests/test_frames.py notices it for those."""
    trees = {name_of(file): ast.parse(file.read_text("utf-8")) for file in MODULES}
    edge = {name: tree for name, tree in trees.items() if "tornado" in imported_by(tree)}
    assert "amiga_ws/handlers/frames.py" in edge
    found = {
        f"{name}:{node.lineno} {ast.unparse(node)}"
        for name, tree in edge.items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr in TORNADOS_PRIVATE - defined_by(tree))
        or (isinstance(node, ast.alias) and node.name in TORNADOS_PRIVATE)
    }
    assert {line for line in found if not line.startswith("amiga_ws/handlers/frames.py:")} == set()
    assert found


def imported_by(tree):
    """The first names of the modules a module imports."""
    nodes = list(ast.walk(tree))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {
        name.partition(".")[0]
        for name in plain | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    }


def defined_by(tree):
    """Attributes a module sets, and functions and fields it defines."""
    nodes = list(ast.walk(tree))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return (
        {node.name for node in nodes if isinstance(node, functions)}
        | {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
        | {
            node.target.id
            for node in nodes
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        }
    )


def private_names_of_tornado():
    trees = [
        ast.parse(Path(module.__file__).read_text("utf-8"))
        for module in (httputil, http1connection, httpserver, iostream, util, web, websocket)
    ]
    return {
        name
        for tree in trees
        for node in ast.walk(tree)
        for name in [getattr(node, "attr", None) or getattr(node, "name", None)]
        if isinstance(name, str) and name.startswith("_") and not name.startswith("__")
    }


TORNADOS_PRIVATE = private_names_of_tornado()
