"""websocket_test_standalone.html: from disk, against a real server that takes the origin `null` or does not."""

from __future__ import annotations

import re
import sys

import pytest
from playwright.sync_api import expect
from processes import CHECKOUT, clean_environment, completed

PAGE = "websocket_test_standalone.html"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """The page in a file, as its command makes it."""
    environment = clean_environment(PYTHONPATH=str(CHECKOUT))
    done = completed([sys.executable, "-m", "amiga_ws", "standalone"], env=environment)
    assert done.returncode == 0, done.stderr
    path = tmp_path_factory.mktemp("disk") / PAGE
    path.write_text(done.stdout)
    return path


@pytest.fixture
def from_disk(look, file):
    """from_disk(site) → somebody who has opened the file and filled in that server and a token of it."""

    def from_disk(site):
        viewer = look(site)
        viewer.page.goto(file.as_uri())
        viewer["#server-url"].fill(site.url)
        viewer["#token"].fill(site.token("ada"))
        return viewer

    return from_disk


def test_file_asks_for_nothing_but_the_server(from_disk, own_site):
    site = own_site("origins.allow_null=true")
    viewer = from_disk(site)
    asked = []
    viewer.page.on("request", lambda request: asked.append(request.url))
    viewer.page.reload()
    viewer["#server-url"].fill(site.url.replace("http://", ""))  # people leave it out
    viewer["#token"].fill(site.token("ada"))
    for transport in ("ws", "sse", "poll"):
        viewer["#transport"].select_option(transport)
        viewer["#connect"].click()
        expect(viewer["#connection"]).to_have_attribute("data-state", "live")
        if transport == "ws":
            viewer["#subscribe"].click()
        expect(viewer["#metrics"]).to_contain_text("Translate the manual")
        viewer["#refresh"].click()
        viewer["#disconnect"].click()
        viewer.page.evaluate("document.getElementById('metrics').textContent = ''")
    ours = (site.url, "file://", "data:")
    assert [url for url in asked if not url.startswith(ours)] == []
    stored = viewer.page.evaluate(
        "JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])"
    )
    assert "eyJ" not in stored


def test_server_that_does_not_take_pages_from_disk_is_explained(from_disk, own_site):
    site = own_site()
    viewer = from_disk(site)
    viewer.forgive(r"WebSocket connection|CORS policy|ERR_FAILED|status of 403")
    viewer["#connect"].click()
    expect(viewer["#problem"]).to_contain_text("origins.allow_null: true", timeout=15_000)
    assert re.search(r"refused 403 .*/ws", site.log())


@pytest.mark.parametrize(
    ("address", "token", "words"),
    [("http://", "eyJ.eyJ.x", "no address"), ("http://127.0.0.1:1", "secret", "three parts")],
)
def test_fields_that_make_no_sense_are_told(viewer, file, address, token, words):
    viewer.page.goto(file.as_uri())
    viewer["#server-url"].fill(address)
    viewer["#token"].fill(token)
    viewer["#connect"].click()
    expect(viewer["#problem"]).to_contain_text(words)
    viewer.page.wait_for_timeout(700)  # the state is told twice a second
    expect(viewer["#problem"]).to_contain_text(words)


def test_bad_token_is_told_and_not_tried_again(from_disk, own_site):
    site = own_site("origins.allow_null=true")
    viewer = from_disk(site)
    viewer.forgive(r"WebSocket connection|status of 401")
    viewer["#token"].fill(site.token("ada")[:-6] + "AAAAAA")
    viewer["#connect"].click()
    expect(viewer["#connection"]).to_have_attribute("data-state", "signedout")
    expect(viewer["#problem"]).to_contain_text("token")


def test_it_is_never_served(viewer, site):
    viewer.gets_session()
    for path in (f"/{PAGE}", f"/static/{PAGE}"):
        status, _, _ = site.ask("GET", path, {})
        assert status == 404
