"""A page of another origin, open in the browser of somebody who is signed in here, gets nothing and changes nothing.

Once from another host (cross-site: the browser keeps the cookie back) and once from another port of the same
host (same-site: the browser sends it, and only the guard stands in between).
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import expect

REFUSED = r"policy|CORS|ERR_FAILED|ERR_BLOCKED|status of 40[13]|WebSocket connection|frame|MIME|Refused"


class EvilPage(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>evil</title><body></body>")

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def evil_port():
    server = ThreadingHTTPServer(("127.0.0.1", 0), EvilPage)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=["localhost", "127.0.0.1"])
def victim(request, look, site, evil_port):
    """Signed in here, and now on the evil page; afterwards still signed in."""
    viewer = look(site)
    viewer.forgive(REFUSED)
    viewer.cookie = viewer.gets_session()
    viewer.cross_site = request.param == "localhost"
    viewer.page.goto(f"http://{request.param}:{evil_port}/")
    yield viewer
    assert site.ask("GET", "/api/session", {"Cookie": viewer.cookie})[0] == 200


def refusals(victim):
    """What the owner is shown, the newest first; the browser hides from a page what it was answered."""
    status, _, body = victim.site.ask("GET", "/api/admin/refusals", {"Cookie": victim.cookie})
    assert status == 200
    return json.loads(body)["refusals"]


def refused_since(before, victim):
    """As (status, method, path)."""
    known = {each["ref"] for each in before}
    new = [each for each in refusals(victim) if each["ref"] not in known]
    return [(each["status"], each["method"], each["path"]) for each in new]


def test_websocket_with_the_victims_cookie_is_closed_1006(victim):
    closed = victim.page.evaluate(
        """(url) => new Promise((resolve) => {
          const socket = new WebSocket(url.replace("http", "ws") + "/ws");
          const heard = [];
          socket.onopen = () => heard.push("open");
          socket.onmessage = (event) => heard.push(event.data);
          socket.onclose = (event) => resolve({code: event.code, heard});
        })""",
        victim.site.url,
    )
    assert closed == {"code": 1006, "heard": []}


def test_fetch_with_the_victims_cookie_fails(victim):
    for path in ("/api/metrics/overview", "/api/session", "/api/tasks", "/"):
        got = victim.page.evaluate(
            """(url) => fetch(url, {credentials: "include"})
                 .then((reply) => reply.text(), (error) => `failed: ${error.name}`)""",
            victim.site.url + path,
        )
        assert got == "failed: TypeError", path


def test_request_without_cors_carries_the_cookie_and_is_refused(victim):
    """An <img> or <script> sends no Origin; what the browser says about the site decides."""
    status = 401 if victim.cross_site else 403  # across sites the browser keeps the cookie
    for path in ("/api/metrics/overview", "/api/stream/metrics"):
        before = refusals(victim)
        got = victim.page.evaluate(
            """(url) => fetch(url, {mode: "no-cors", credentials: "include"})
                 .then(() => "answered", (error) => `failed: ${error.name}`)""",
            victim.site.url + path,
        )
        assert got == "failed: TypeError"
        assert refused_since(before, victim) == [(status, "GET", path)]


def test_event_source_with_the_victims_cookie_dies(victim):
    state = victim.page.evaluate(
        """(url) => new Promise((resolve) => {
          const source = new EventSource(url + "/api/stream/metrics", {withCredentials: true});
          source.onmessage = (event) => resolve(event.data);
          source.onerror = () => resolve(source.readyState);
        })""",
        victim.site.url,
    )
    assert state == 2


def test_state_changing_fetch_changes_nothing(victim):
    for method, path in (
        ("POST", "/api/session"),
        ("POST", "/api/session/renew"),
        ("DELETE", "/api/session"),
        ("DELETE", "/api/session?everywhere=1"),
    ):
        for mode in ("cors", "no-cors") if method == "POST" else ("cors",):
            before = refusals(victim)
            got = victim.page.evaluate(
                """([url, method, mode]) => fetch(url, {method, mode, credentials: "include"})
                     .then((reply) => reply.status, (error) => `failed: ${error.name}`)""",
                [victim.site.url + path, method, mode],
            )
            assert got == "failed: TypeError", (method, path, mode)
            refused = refused_since(before, victim)
            assert refused, (method, path, mode)
            assert {status for status, _, _ in refused} == {403}, refused


@pytest.mark.parametrize("path", ["/api/session", "/api/session/renew"])
def test_form_of_another_site_is_refused(victim, path):
    """The classic: a form needs no permission to be sent, and the browser sends it with the cookie."""
    with victim.page.expect_response(victim.site.url + path) as heard:
        victim.page.evaluate(
            """(url) => { const form = document.createElement("form");
              form.method = "post"; form.action = url; document.body.append(form); form.submit(); }""",
            victim.site.url + path,
        )
    assert heard.value.status == 403
    assert "set-cookie" not in heard.value.headers
    victim.page.wait_for_load_state()


def test_framing_is_refused(victim):
    for path in ("/", "/login", "/websocket-test"):
        victim.page.evaluate(
            """(url) => new Promise((resolve) => { const frame = document.createElement("iframe");
              frame.onload = resolve; frame.src = url; document.body.append(frame); })""",
            victim.site.url + path,
        )
        victim.page.frames[-1].wait_for_url("chrome-error://chromewebdata/")


def test_window_opened_by_another_site_is_out_of_its_reach(victim):
    with victim.page.expect_popup() as opened:
        victim.page.evaluate("(url) => { window.child = window.open(url); }", victim.site.url + "/")
    expect(opened.value.locator("#connection")).to_have_attribute("data-state", "live")
    assert opened.value.evaluate("window.opener") is None
    assert victim.page.evaluate("window.child.closed") is True
    opened.value.close()


def test_answers_can_be_no_script_or_style_of_another_site(victim):
    loaded = victim.page.evaluate(
        """(url) => Promise.all(["script", "link", "img"].map((name) => new Promise((resolve) => {
          const element = document.createElement(name);
          element.onload = () => resolve("loaded");
          element.onerror = () => resolve("failed");
          if (name === "link") element.rel = "stylesheet";
          element[name === "link" ? "href" : "src"] = url + {script: "/api/metrics/overview", link: "/static/base.css",
            img: "/static/favicon.svg"}[name];
          document.body.append(element);
        })))""",
        victim.site.url,
    )
    assert loaded == ["failed", "failed", "failed"]
