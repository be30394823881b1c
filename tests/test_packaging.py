"""The wheel alone: built, installed into an empty environment, and serving its pages from there."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import zipfile

import pytest
from processes import CHECKOUT, Running, clean_environment, completed, copy_checkout

BUNDLE = "amiga_ws/static/built.json"
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of a copy of the checkout: building leaves nothing in the checkout itself."""
    folder = tmp_path_factory.mktemp("wheel")
    source = copy_checkout(folder / "source")
    return build_wheel(source, folder)


def build_wheel(source, folder, **options):
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, source]
    done = completed(command, within_s=300, **options)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("amiga_ws-*.whl"))


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """The interpreter of an environment that holds the wheel and what it asks for, and nothing else."""
    folder = tmp_path_factory.mktemp("installed") / "env"
    assert completed([sys.executable, "-m", "venv", folder]).returncode == 0
    python = folder / "bin" / "python"
    done = completed([python, "-m", "pip", "install", "-q", wheel], within_s=180)
    assert done.returncode == 0, done.stderr
    return python


def test_wheel_holds_pages_styles_and_types_and_nothing_else_of_the_checkout(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "amiga_ws/py.typed" in names
    assert "amiga_ws/templates/dashboard.html" in names
    assert any(name.startswith("amiga_ws/static/") and name.endswith(".css") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"amiga_ws"}


def test_wheel_holds_the_charts_library_of_the_lockfile_and_its_licence(wheel):
    locked = json.loads((CHECKOUT / "package-lock.json").read_text("utf-8"))
    assert "resolved" not in locked["packages"]["node_modules/uplot"], "the lockfile names a registry"
    assert_holds_charts(wheel, locked["packages"]["node_modules/uplot"]["version"])


def assert_holds_charts(wheel, version):
    """And the bundle of its own sources."""
    with zipfile.ZipFile(wheel) as archive:
        assert f"uPlot (v{version})" in archive.read("amiga_ws/static/uplot.js").decode().partition("\n")[0]
        assert b".uplot" in archive.read("amiga_ws/static/uplot.css")
        assert b"Permission is hereby granted" in archive.read("amiga_ws/static/uplot.license.txt")
        for name in (
            "built-dashboard.js",
            "built-dashboard.css",
            *json.loads(archive.read(BUNDLE))["modules"],
        ):
            assert archive.getinfo(f"amiga_ws/static/{name}").file_size > 1000


def test_without_node_the_build_takes_one_from_pypi(tmp_path):
    """As on a machine that has Python alone."""
    source = copy_checkout(tmp_path / "source")
    (tmp_path / "bin").mkdir()
    wheel = build_wheel(source, tmp_path, env=clean_environment(PATH=str(tmp_path / "bin")))
    assert_holds_charts(wheel, "1.6.32")


def test_what_was_fetched_once_is_not_fetched_again(tmp_path):
    """A source archive that holds it builds on a machine without npm or network."""
    source = copy_checkout(tmp_path / "source")
    for made in (CHECKOUT / "amiga_ws" / "static").iterdir():
        if made.name.startswith(("built", "uplot")):
            shutil.copy2(made, source / "amiga_ws" / "static" / made.name)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "npm").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin" / "npm").chmod(0o755)
    environment = clean_environment(PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert_holds_charts(build_wheel(source, tmp_path, env=environment), "1.6.32")


def test_installed_wheel_serves_every_page_with_its_charts(python, tmp_path):
    command = [python, "-m", "amiga_ws", "serve", "--set", "server.port=0"]
    with Running(command, tmp_path, tmp_path / "stderr") as server:
        status, headers, body = server.request("GET", "/login")
        assert status == 200, server.stderr()
        assert headers["Content-Type"].startswith("text/html")
        assert b"<form" in body
        scope = ("--scope", "metrics:read admin")
        asked = [python, "-m", "amiga_ws", "token", "--subject", "a", *scope, "--json"]
        bearer = {"Authorization": f"Bearer {json.loads(completed(asked, cwd=tmp_path).stdout)['token']}"}
        assert server.request("GET", "/api/metrics/overview", bearer)[0] == 200
        assert server.request("GET", "/api/metrics/timeseries", bearer)[0] == 200
        _, headers, _ = server.request("POST", "/api/session", bearer | {"Origin": server.url})
        cookie = {"Cookie": headers["Set-Cookie"].partition(";")[0]}
        for path in ("/", "/login", "/websocket-test", "/admin"):
            status, _, body = server.request("GET", path, cookie)
            assert status == 200, path
            linked = set(re.findall(r'(?:src|href)="(/static/[^"]+)"', body.decode()))
            assert linked, path
            assert {link: server.request("GET", link)[0] for link in linked} == dict.fromkeys(linked, 200)
        page = server.request("GET", "/", cookie)[2].decode()
        assert "/static/uplot.css" in page
        assert "/static/built-dashboard.js" in page
        assert 'data-plot="missing"' not in page
        assert b"uPlot" in server.request("GET", "/static/uplot.js")[2]
        assert server.stop() == (0, "")
