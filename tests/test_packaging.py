"""The wheel alone: built, installed into an empty environment, and serving its pages from there."""

from __future__ import annotations

import json
import sys
import zipfile

import pytest
from processes import Running, completed, copy_checkout

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of a copy of the checkout: building leaves nothing in the checkout itself."""
    folder = tmp_path_factory.mktemp("wheel")
    source = copy_checkout(folder / "source")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, source]
    done = completed(command, within_s=180)
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


def test_installed_wheel_serves_its_pages(python, tmp_path):
    command = [python, "-m", "amiga_ws", "serve", "--set", "server.port=0"]
    with Running(command, tmp_path, tmp_path / "stderr") as server:
        status, headers, body = server.request("GET", "/login")
        assert status == 200, server.stderr()
        assert headers["Content-Type"].startswith("text/html")
        assert b"<form" in body
        linked = body.decode().split('href="/static/')[1].split('"')[0]
        assert server.request("GET", f"/static/{linked}")[0] == 200
        told = completed([python, "-m", "amiga_ws", "token", "--subject", "a", "--json"], cwd=tmp_path)
        token = json.loads(told.stdout)["token"]
        headers = {"Authorization": f"Bearer {token}"}
        assert server.request("GET", "/api/metrics/overview", headers)[0] == 200
        assert server.stop() == (0, "")
