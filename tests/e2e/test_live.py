"""The dashboard keeps up: patches, a tab that is hidden, a server that goes and comes back."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import expect

LOST = r"ERR_CONNECTION_REFUSED|WebSocket connection|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET"

# What a browser does when its tab is hidden, by hand: headless Chromium hides none.
HIDE = """(state) => {
  Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


class Wire:
    """The frames of the page's WebSockets, as they pass."""

    def __init__(self, page):
        self.page, self.sent, self.received = page, [], []
        page.on("websocket", self._opened)

    def _opened(self, socket):
        socket.on("framesent", lambda text: self.sent.append(json.loads(text)))
        socket.on("framereceived", lambda text: self.received.append(json.loads(text)))

    def until(self, frames, event, count=1, within_s=10):
        """The newest such frame, when there are `count`."""
        for _ in range(within_s * 20):
            found = [frame for frame in frames if frame["event"] == event]
            if len(found) >= count:
                return found[-1]
            self.page.wait_for_timeout(50)
        raise AssertionError(f"no {event} in {[frame['event'] for frame in frames]}")


@pytest.fixture
def wire(viewer):
    return Wire(viewer.page)


def test_news_come_as_patches(viewer, wire, site):
    viewer.arrive()
    assert wire.until(wire.sent, "subscribe")["data"]["delta"] is True
    wire.until(wire.received, "metrics_update")
    site.sim.queue_task("Comes as a patch")
    expect(viewer["#tasks tbody"]).to_contain_text("Comes as a patch")
    assert [frame["event"] for frame in wire.received].count("metrics_update") == 1


def test_another_window_ends_a_freeze(viewer):
    viewer.arrive()
    viewer["#freeze"].click()
    expect(viewer["#freeze-lag"]).to_contain_text("LIVE +")
    viewer["#window button[data-hours='6']"].click()
    expect(viewer["#freeze-lag"]).to_be_hidden()


def test_hidden_tab_asks_for_less_and_is_up_to_date_when_it_is_shown(viewer, wire):
    viewer.arrive()
    viewer.page.evaluate(HIDE, "hidden")
    assert wire.until(wire.sent, "set_interval", within_s=30)["data"] == {"interval": 15}
    viewer.page.evaluate(HIDE, "visible")
    assert wire.until(wire.sent, "set_interval", 2)["data"] == {"interval": 2}
    updates = [frame["event"] for frame in wire.received].count("metrics_update")
    wire.until(wire.received, "metrics_update", max(2, updates))
    viewer.page.evaluate(HIDE, "hidden")  # a glance
    viewer.page.evaluate(HIDE, "visible")
    viewer.page.wait_for_timeout(300)
    assert [frame["event"] for frame in wire.sent].count("set_interval") == 2


def test_slow_client_is_told_above_all_that_is_open(viewer):
    """The server's own `lag` is tested where its clock can be moved; here it is put into the stream."""
    sockets = []

    def pass_on(socket):
        server = socket.connect_to_server()
        server.on_message(socket.send)
        sockets.append(socket)

    viewer.page.route_web_socket("**/ws", pass_on)
    viewer.arrive()
    viewer['#tasks [data-field="description"]'].first.click()
    expect(viewer["#drawer"]).to_be_visible()
    sockets[-1].send(json.dumps({"event": "lag", "data": {"behind_ms": 1900, "coalesced": 37}}))
    expect(viewer["#toast"]).to_contain_text("values were 1.9 s late, 37 merged")
    # The top layer, and later in it than the drawer.
    assert viewer["#toast"].evaluate("(toast) => toast.matches(':popover-open')")
    viewer.page.keyboard.press("Escape")  # closes the drawer, and with it what makes all else inert
    viewer["#toast"].click()
    expect(viewer["#toast"]).to_be_hidden()


def test_patch_that_does_not_fit_is_never_seen(viewer, site):
    """What the server answers to the new subscription is."""
    misfit = {"from": "elsewhere.24.1", "position": "elsewhere.24.2", "timestamp": 1, "hours": 24}
    misfit["patch"] = [{"op": "replace", "path": "/tasks", "value": None}]
    asked = []

    def pass_on(socket):
        server = socket.connect_to_server()

        def from_server(text):
            socket.send(text)
            if json.loads(text)["event"] == "metrics_update" and len(asked) == 1:
                socket.send(json.dumps({"event": "metrics_patch", "data": misfit}))

        def from_page(text):
            asked.append(json.loads(text))
            server.send(text)

        server.on_message(from_server)
        socket.on_message(from_page)

    viewer.page.route_web_socket("**/ws", pass_on)
    viewer.arrive()
    site.sim.queue_task("Comes after the misfit")
    expect(viewer["#tasks tbody"]).to_contain_text("Comes after the misfit")
    assert [each["event"] for each in asked] == ["subscribe", "subscribe"]


def test_restart_of_the_server_leaves_no_blank(look, own_site):
    site = own_site()
    viewer = look(site)
    viewer.forgive(LOST)
    viewer.arrive("/?status=failed")
    viewer.page.evaluate(
        """() => {
          window.blanks = [];
          const rows = document.querySelector("#tasks tbody");
          const total = document.querySelector('[data-field="overview.tasks.total"]');
          new MutationObserver(() => {
            if (!rows.childElementCount || total.textContent === "\u2013") window.blanks.push(performance.now());
          }).observe(document.querySelector("main"), { childList: true, subtree: true, characterData: true });
        }"""
    )
    with viewer.page.expect_websocket(timeout=60_000):
        site.restart()
    viewer.live(within_s=25)
    site.sim.fail_task(site.sim.start_task(description="Fails after the restart"))
    expect(viewer["#tasks tbody"]).to_contain_text("Fails after the restart")
    assert viewer.page.evaluate("window.blanks") == []


@pytest.mark.parametrize("gone", ["ws", "ws and sse"])
def test_page_lives_where_a_proxy_takes_no_upgrades(viewer, gone):
    viewer.polls()
    if gone == "ws":
        viewer.page.unroute("**/api/stream/**")
    viewer.gets_session()
    viewer.open()
    viewer.live(within_s=30)
    expect(viewer["#connection"]).to_have_attribute("data-transport", "sse" if gone == "ws" else "poll")
    expect(viewer["#connection"]).to_contain_text("SSE" if gone == "ws" else "polling")
    # what is asked for beside the stream comes with any of them
    expect(viewer["#charts"]).to_have_attribute("data-state", "ready")
    expect(viewer["#who-name"]).to_have_text("owner")


def test_a_page_that_polls_tells_of_a_lost_connection_in_sentences(look, own_site):
    """Those that a browser has for it ("Failed to fetch", "signal timed out") are for nobody, and each has others."""
    site = own_site()
    viewer = look(site).polls()
    viewer.forgive("ERR_FAILED")
    viewer.gets_session()
    viewer.open()
    viewer.live(within_s=30)
    viewer.page.route("**/api/**", lambda route: route.abort())
    text = viewer["#banner-text"]
    expect(text).to_have_text(re.compile(r"^The [^.]+\. Values are [^.]+ old\.$"), timeout=25_000)
    expect(viewer["#charts-error"]).not_to_contain_text("fetch")
    viewer.page.unroute("**/api/**")
    refusal = {"status": 503, "json": {"error": "closed for the night", "ref": "abc123"}}
    viewer.page.route("**/api/**", lambda route: route.fulfill(**refusal))
    viewer.forgive("status of 503")
    told = re.compile(r"^Closed for the night\. \(ref abc123\) Values are [^.]+ old\.$")
    expect(text).to_have_text(told, timeout=25_000)


def test_a_device_that_loses_its_network_does_not_look_connected_for_long(viewer):
    """Its socket says nothing of it; waiting for the heartbeats would take 38 s."""
    viewer.arrive()
    viewer.forgive("ERR_INTERNET_DISCONNECTED|WebSocket connection")
    viewer.page.context.set_offline(True)
    expect(viewer["#banner"]).to_contain_text("This device is offline.", timeout=20_000)
    expect(viewer["#connection"]).to_contain_text("offline")
    viewer.page.context.set_offline(False)
    viewer.live()
    expect(viewer["#banner"]).to_be_hidden()


def test_clock_that_is_set_while_the_page_is_open_changes_no_age_for_long(viewer):
    viewer.arrive()
    age = viewer['#tasks tbody tr:has-text("Translate the manual") [data-since]'].first
    expect(age).to_be_visible()
    viewer.page.evaluate("() => { const now = Date.now; Date.now = () => now() + 7_200_000; }")
    viewer.page.wait_for_timeout(2500)
    expect(age).not_to_contain_text("h", timeout=3000)
    viewer.page.wait_for_timeout(1500)
    assert "h" not in age.text_content()


def test_after_a_sleep_the_old_values_are_old_at_once_and_until_the_server_speaks(viewer):
    """`performance.now()` stands still while many devices sleep; the wall clock goes on."""
    held = []

    def pass_on(socket):
        server = socket.connect_to_server()
        server.on_message(lambda text: None if held else socket.send(text))

    viewer.page.route_web_socket("**/ws", pass_on)
    viewer.arrive()
    age = viewer['#tasks tbody tr:has-text("Translate the manual") [data-since]'].first
    expect(viewer["#verdict"]).not_to_have_attribute("data-verdict", "stale")
    held.append(True)
    viewer.page.evaluate("() => { const now = Date.now; Date.now = () => now() + 9 * 3_600_000; }")
    expect(viewer["#verdict"]).to_have_attribute("data-verdict", "stale", timeout=2000)
    expect(viewer["#data-age"]).to_have_text("9\N{NO-BREAK SPACE}h", timeout=2000)
    expect(age).to_contain_text("9\N{NO-BREAK SPACE}h", timeout=2000)
    held.clear()
    expect(viewer["#verdict"]).not_to_have_attribute("data-verdict", "stale")
    expect(viewer["#data-age"]).to_contain_text("s")
    expect(age).not_to_contain_text("h")


def test_signed_in_in_another_tab_is_signed_in_here(look, own_site):
    site = own_site()
    viewer = look(site)
    viewer.forgive(LOST + "|status of 401")
    viewer.arrive("/?hours=6")
    viewer.page.evaluate("window.sameDocument = true")
    viewer.page.context.clear_cookies()
    site.restart()
    expect(viewer["#signin-panel"]).to_be_visible(timeout=30_000)
    viewer.gets_session()
    viewer.page.evaluate(HIDE, "hidden")
    viewer.page.evaluate(HIDE, "visible")
    viewer.live()
    assert viewer.page.evaluate("window.sameDocument") is True
    expect(viewer['#window [data-hours="6"]']).to_have_attribute("aria-pressed", "true")
