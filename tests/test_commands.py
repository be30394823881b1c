"""How a token is made, named so that it can be typed: in a checkout, and where there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from processes import CHECKOUT, completed

from amiga_ws import commands
from amiga_ws.commands import token_command


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """As below site-packages, under systemd or in a container: no script is there."""
    monkeypatch.setattr(commands, "CHECKOUT", tmp_path)


def test_a_checkout_has_its_script():
    assert commands.in_checkout()
    assert token_command() == "scripts/mktoken.py"
    assert completed([sys.executable, CHECKOUT / token_command(), "--help"]).returncode == 0


def test_an_installation_has_the_module(installed):
    assert not commands.in_checkout()
    assert token_command() == "python -m amiga_ws token"


def test_it_names_the_folder_whose_configuration_counts(tmp_path):
    here = Path("/somewhere else")
    assert token_command(CHECKOUT, CHECKOUT) == "scripts/mktoken.py"
    assert token_command(CHECKOUT, here) == f"{CHECKOUT}/scripts/mktoken.py"
    assert token_command(tmp_path, tmp_path) == "python -m amiga_ws token"
    assert token_command(here, tmp_path) == "python -m amiga_ws --home '/somewhere else' token"


@pytest.mark.parametrize("path", ["/login", "/"])
async def test_pages_of_an_installation_name_no_script(server, installed, path):
    html = (await server.ask(path, {"Cookie": server.session()})).body.decode()
    assert "scripts/" not in html
    assert "<code>python -m amiga_ws token --login</code>" in html
    assert "<code>python -m amiga_ws token --subject NAME</code>" in html


async def test_errors_of_an_installation_name_no_script(server, installed):
    make = "python -m amiga_ws token"
    told = (await server.ask("/api/session")).json["error"]
    assert told == f"sign in, or send a token ({make} makes one)"
    told = (await server.ask_as("eyJ.eyJ.A", "/api/session")).json["error"]
    assert told.endswith(f"make a new one with {make}")
    told = (await server.ask_as(server.token(), "/api/session/renew", method="POST")).json["error"]
    assert told == f"only a session is renewed here; make a new token with {make}"
