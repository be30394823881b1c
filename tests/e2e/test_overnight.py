"""Sessions that go on: a phone in a pocket over night, whose timers did not run and whose sockets are gone; and a page
whose renewals are hindered."""

from __future__ import annotations

import json

import pytest
from installed import GENEROUS
from playwright.sync_api import expect

HOUR_S = 3600


class InHand:
    """A server whose clock the test moves, as a Viewer wants it."""

    def __init__(self, server):
        self.server, self.url = server, server.url

    def session(self, subject, scope):
        """Of a sign-in by link: 12 h, and renewed up to 30 days."""
        name, _, value = self.server.session(subject, scope).partition("=")
        return name, value


@pytest.fixture
def phone(threaded, look):
    """Signed in by a link in the evening, looking at six hours."""
    with threaded(*GENEROUS) as server:
        viewer = look(InHand(server), viewport={"width": 390, "height": 844})
        viewer.forgive("WebSocket connection|status of 401")
        viewer.page.clock.install()
        viewer.arrive("/?hours=6")
        expect(viewer["#who-name"]).to_have_text("owner")  # it knows how long its session lasts
        viewer.page.evaluate("window.sameDocument = true")
        yield viewer


def sleeps(viewer, hours):
    server = viewer.site.server
    server.ahead_s += hours * HOUR_S
    viewer.page.clock.fast_forward(hours * HOUR_S * 1000)
    # Not before the page's clock is ahead too: a session that ends hours too early has been taken back.
    for client in list(server.hub.clients.values()):
        server.loop.call_soon_threadsafe(client.transport.abort)
    viewer.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def cookie_of(viewer):
    (cookie,) = viewer.page.context.cookies()
    return cookie["value"]


def test_in_the_morning_it_is_signed_in_and_shows_what_is_new(phone):
    before = cookie_of(phone)
    phone.site.server.amiga.total = 1234
    with phone.page.expect_response("**/api/session/renew") as renewed:
        sleeps(phone, 9)
    assert renewed.value.status == 200
    assert renewed.value.json()["expires_in"] > 11.9 * HOUR_S
    expect(phone.number("overview.tasks.total")).to_have_attribute("data-value", "1234", timeout=25_000)
    phone.live()
    assert cookie_of(phone) != before
    expect(phone["#signin-panel"]).to_be_hidden()
    expect(phone['#window [data-hours="6"]']).to_have_attribute("aria-pressed", "true")
    assert phone.page.evaluate("window.sameDocument") is True


def test_after_a_longer_night_it_signs_in_in_place_and_keeps_its_view(phone):
    sleeps(phone, 14)
    expect(phone["#signin-panel"]).to_be_visible(timeout=25_000)
    phone["#signin-panel-token"].fill(phone.site.server.token("owner"))
    phone["#signin-panel-token"].press("Enter")
    phone.live(within_s=25)
    expect(phone["#signin-panel"]).to_be_hidden()
    expect(phone['#window [data-hours="6"]']).to_have_attribute("aria-pressed", "true")
    assert phone.page.evaluate("window.sameDocument") is True


def refuse(route):
    route.fulfill(status=503, body="busy")


def test_a_session_that_cannot_be_asked_for_is_not_signed_out_and_is_asked_for_again(threaded, look):
    with threaded(*GENEROUS) as server:
        viewer = look(InHand(server))
        viewer.forgive("status of 503")
        viewer.page.route("**/api/session", refuse, times=1)
        with viewer.page.expect_response("**/api/session"):
            viewer.arrive()
        viewer.page.wait_for_timeout(500)
        assert viewer["#who-name"].text_content() == ""
        expect(viewer["#who-name"]).to_have_text("owner")


def test_a_session_at_its_very_end_is_not_renewed_all_the_time(look, site):
    """However often it is told that it ends; here the notices are put into the stream."""
    sockets, renewals = [], []

    def pass_on(socket):
        server = socket.connect_to_server()
        server.on_message(socket.send)
        sockets.append(socket)

    viewer = look(site)
    viewer.page.route_web_socket("**/ws", pass_on)
    viewer.arrive()
    viewer.page.on("response", lambda reply: renewals.append(reply.url) if "renew" in reply.url else None)
    for _ in range(8):
        sockets[-1].send(json.dumps({"event": "auth", "data": {"state": "expiring", "expires_in": 50}}))
        viewer.page.wait_for_timeout(250)
    assert len(renewals) == 1


def test_a_session_nothing_is_known_of_is_renewed_when_the_server_says_that_it_ends(threaded, look):
    with threaded(*GENEROUS) as server:
        viewer = look(InHand(server))
        viewer.forgive("status of 503")
        viewer.page.route("**/api/session", refuse)
        viewer.arrive()
        with viewer.page.expect_response("**/api/session/renew") as renewed:
            server.ahead_s += 12 * HOUR_S - 40
        assert renewed.value.json()["expires_in"] > 11.9 * HOUR_S
        expect(viewer["#who-name"]).to_have_text("owner")
