"""deploy/: the unit is one that systemd takes and thinks well of; the container's commands are ours."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from processes import CHECKOUT, completed

from amiga_ws.__main__ import build_parser
from amiga_ws.config import load

DEPLOY = CHECKOUT / "deploy"
UNIT = (DEPLOY / "amiga-ws.service").read_text("utf-8")
CONTAINER = (DEPLOY / "Containerfile").read_text("utf-8")
MOST_EXPOSED = 20  # tenths, of 100: systemd calls up to 2.0 "OK"


def analyze(*words):
    found = shutil.which("systemd-analyze") or pytest.skip("systemd-analyze (systemd) is not installed")
    return completed([found, *words])


@pytest.fixture(params=["amiga-ws.service", "as-amiga.conf"])
def unit(request, tmp_path):
    """The unit as it would be installed, with a Python that exists here; with the drop-in, too."""
    file = tmp_path / "amiga-ws.service"
    python = re.search(r"(?m)^ExecStart=(\S+)", UNIT)[1]
    # `man:` and `file:` are looked at, too.
    file.write_text(
        UNIT.replace(python, sys.executable).replace("file:///opt/amiga-ws/docs", f"file://{CHECKOUT}/docs")
    )
    if request.param != file.name:
        dropins = tmp_path / "amiga-ws.service.d"
        dropins.mkdir()
        shutil.copy(DEPLOY / request.param, dropins)
    return file


def test_systemd_finds_nothing_wrong_with_the_unit(unit):
    done = analyze("verify", "--man=no", str(unit))
    said = [line for line in (done.stdout + done.stderr).splitlines() if "amiga-ws" in line]
    assert (done.returncode, said) == (0, [])


def test_systemd_finds_a_fault_where_there_is_one(unit):
    unit.write_text(unit.read_text().replace("ProtectSystem=strict", "ProtectSistem=strict"))
    assert "ProtectSistem" in analyze("verify", "--man=no", str(unit)).stderr


def test_systemd_thinks_it_little_exposed(unit):
    done = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", str(unit))
    assert done.returncode == 0, done.stdout[-300:] + done.stderr


def test_the_units_command_is_one_of_ours_and_2_is_not_tried_again(tmp_path):
    command = shlex.split(re.search(r"(?m)^ExecStart=(.+)$", UNIT)[1])
    assert command[1:3] == ["-m", "amiga_ws"]
    args = build_parser().parse_args(command[3:])
    assert args.config == Path("/etc/amiga-ws/config.yaml")
    assert load(None, args.overrides, {}, tmp_path).state_dir == Path("/var/lib/amiga-ws")
    assert "RestartPreventExitStatus=2\n" in UNIT
    assert "StateDirectoryMode=0700\n" in UNIT


def test_the_containers_instructions_are_known_and_end_in_a_command_of_ours(tmp_path):
    joined = CONTAINER.replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    words = [line.split(None, 1)[0] for line in lines]
    known = {"FROM", "COPY", "RUN", "USER", "WORKDIR", "ENV", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK"}
    assert set(words) <= known | {"ENTRYPOINT", "CMD"}
    assert words[0] == "FROM"
    last = dict(line.split(None, 1) for line in lines)
    assert last["USER"] == "10001"  # a number: a runtime can tell that it is not root
    command = json.loads(last["ENTRYPOINT"]) + json.loads(last["CMD"])
    build_parser().parse_args(command[3:])
    environment = dict(pair.split("=", 1) for pair in shlex.split(last["ENV"]))
    settings = load(None, [], environment, tmp_path)
    assert str(settings.server.port) == last["EXPOSE"]
    assert str(settings.state_dir) == last["VOLUME"] == last["WORKDIR"]


def test_extras_that_are_installed_exist():
    setup = configparser.ConfigParser()
    setup.read(CHECKOUT / "setup.cfg", "utf-8")
    documentation = (CHECKOUT / "docs/operations.md").read_text("utf-8")
    for extras in re.findall(r"(?:/src|\.)\[([a-z,]+)\]", CONTAINER + documentation):
        assert set(extras.split(",")) <= set(setup["options.extras_require"])
