"""docs/protocol.md says what the code does: every name is in it, and its examples run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import typing
from pathlib import Path

import msgspec
import pytest
from tornado.web import RequestHandler

from amiga_ws import snapshot, wire
from amiga_ws.config import ROWS
from amiga_ws.handlers.routes import application

DOC = (Path(__file__).parent.parent / "docs" / "protocol.md").read_text("utf-8")
NAME = re.compile(r"`([a-z_0-9]+)`")


def section(title, text=DOC):
    """What stands under a heading that names all of `title`'s words in backticks, up to the next heading."""
    for part in re.split(r"(?m)^#{2,3} ", text)[1:]:
        heading, _, body = part.partition("\n")
        if title in re.findall(r"`([^`]+)`", heading) or title == heading:
            return body
    raise AssertionError(f"no section {title!r}")


def structs_of(kind):
    """The structs a field's type mentions: itself, of a list, a dict's values, or beside None."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [kind]
    return [found for each in typing.get_args(kind) for found in structs_of(each)]


def shapes(kind, path):
    """(path, its fields' names on the wire) of a struct and all below it."""
    fields = msgspec.structs.fields(kind)
    yield path, [each.encode_name for each in fields]
    for each in fields:
        below = each.encode_name if path == "snapshot" else f"{path}.{each.encode_name}"
        for found in structs_of(each.type):
            if not (path == "snapshot" and each.encode_name == "sources"):
                yield from shapes(found, below)
            else:
                yield from shapes(found, "sources")


SHAPES = sorted(dict(shapes(snapshot.Snapshot, "snapshot")).items())


# -- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "names"), SHAPES, ids=[path for path, _ in SHAPES])
def test_every_field_of_the_snapshot_is_documented_and_no_other(path, names):
    rows = [row.split("|")[1] for row in section(path).splitlines() if row.startswith("| `")]
    documented = [name for row in rows for name in NAME.findall(row)]
    assert sorted(documented) == sorted(names)


@pytest.mark.parametrize("event", [*wire._EVENT_NAMES.values(), wire.METRICS_UPDATE, wire.METRICS_PATCH])
def test_every_event_has_a_section(event):
    assert section(event).strip()


def test_every_field_of_an_event_is_named_in_its_section():
    for kind, event in {**wire._EVENT_NAMES, wire.Patch: wire.METRICS_PATCH}.items():
        named = set(NAME.findall(section(event)))
        for each in msgspec.structs.fields(kind):
            assert each.encode_name in named, f"{event}.{each.encode_name}"
            for below in structs_of(each.type):
                if below.__module__ == wire.__name__:
                    for inner in msgspec.structs.fields(below):
                        assert inner.encode_name in named, f"{event}.{each.encode_name}.{inner.encode_name}"


def test_every_command_and_its_fields_are_in_the_table():
    table = section("Messages you send")
    for event, kind in wire._COMMANDS.items():
        (row,) = [line for line in table.splitlines() if line.startswith(f"| `{event}`")]
        for each in msgspec.structs.fields(kind):
            assert f"`{each.encode_name}`" in row, f"{event}.{each.encode_name}"


def test_every_error_code_and_close_code_is_in_its_table():
    listed = re.findall(r"(?m)^\| `([a-z_]+)` \|", section("error"))
    assert sorted(listed) == sorted(typing.get_args(wire.ErrorCode))
    rows = re.findall(r"(?m)^\| (\d{4}) \|", section("Close codes"))
    assert rows == [str(int(code)) for code in wire.Close]


def test_every_setting_that_is_named_exists_with_that_default(server):
    for key in set(re.findall(r"`((?:limits|server|auth|origins|metrics|amiga)\.[a-z_]+)`", DOC)):
        assert key in ROWS, key
    for key, default in re.findall(r"(?m)^\| `(limits\.[a-z_]+)` \| (\d+)", DOC):
        assert str(ROWS[key].default) == default, key


async def test_every_api_route_and_its_methods_are_documented(server):
    rules = application(server.services).default_router.rules[0].target.rules
    for rule in rules:
        path = rule.matcher.regex.pattern.rstrip("$").replace("\\", "")
        if not path.startswith(("/api/", "/health", "/ready", "/ws")):
            continue
        path = re.sub(r"\(.*?\)", "{client_id}" if "connections" in path else "{id}", path)
        assert path in DOC, path
        for method in ("GET", "POST", "DELETE"):
            implemented = getattr(rule.target, method.lower()) is not getattr(RequestHandler, method.lower())
            if implemented and path.startswith("/api/") and "stream" not in path:
                assert re.search(rf"`{method} {re.escape(path)}[`?]|^\| `{method}`", DOC), f"{method} {path}"


def test_links_within_the_page_lead_somewhere():
    headings = re.findall(r"(?m)^#{1,3} (.+)$", DOC)
    anchors = {re.sub(r"[^a-z0-9_ -]", "", each.lower()).replace(" ", "-") for each in headings}
    for target in re.findall(r"\]\(#([^)]+)\)", DOC):
        assert target in anchors, target


# -- examples -----------------------------------------------------------------------------------


def example(language):
    """The runnable example in that language."""
    (found,) = re.findall(rf"<!-- run by tests/test_docs.py -->\n```{language}\n(.*?)```", DOC, re.DOTALL)
    return found


def lines_of(command, environment, wanted):
    """What a program prints until it has printed that."""
    with subprocess.Popen(  # noqa: S603 - the documentation's own words
        command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as program:
        lines = []
        try:
            while not lines or wanted not in lines[-1]:
                lines.append(program.stdout.readline())
                assert lines[-1], f"it ended: {lines}"
        finally:
            program.kill()
        return lines


def test_the_python_example_runs_and_comes_back(threaded, tmp_path):
    with threaded() as server:
        script = tmp_path / "example.py"
        script.write_text(example("python").replace(":3000", f":{server.port}"))
        token = {"AMIGA_WS_TOKEN": server.token()}
        assert lines_of([sys.executable, str(script)], token, "'total': 7")
        refused = lines_of([sys.executable, str(script)], {"AMIGA_WS_TOKEN": "rubbish"}, "unauthorized")
        assert json.loads(refused[-1])["code"] == "unauthorized"
    assert server.url


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_curl_example_runs(threaded):
    with threaded() as server:
        command = example("sh").replace(":3000", f":{server.port}")
        token = {"AMIGA_WS_TOKEN": server.token()}
        lines = lines_of(["sh", "-c", f"exec {command}"], token, '"total":7')
        assert "event: subscribed\n" in lines


def test_the_browser_example_runs(threaded):
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    with threaded() as server, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{server.url}/login")
        script = example("js").replace(":3000", f":{server.port}")
        with page.expect_console_message(lambda message: "tasks are running" in message.text) as said:
            page.evaluate(f"(token) => {{ {script} }}", server.token())
        assert said.value.text == "1 tasks are running"
        browser.close()
