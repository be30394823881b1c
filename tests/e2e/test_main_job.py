"""The main job in a real browser: the link, the page that moves by itself, the way back after a restart."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import expect

FAILED_TO_LOAD = (
    r"net::ERR_CONNECTION_REFUSED|WebSocket connection to .* failed|Error in connection establishment"
)
SIGNED_OUT_YET = r"status of 401 .*/api/session\b"


def test_link_signs_in_and_the_page_follows_amiga_and_survives_a_restart(look, own_site):
    """Issue a link, open it, watch a number move within 3 s, lose the server, and get it back."""
    site = own_site()
    viewer = look(site)
    page = viewer.page
    link = site.login_link()
    assert link.startswith(f"{site.url}/login#login=eyJ")
    page.goto(link)
    page.wait_for_url(f"{site.url}/")
    assert page.evaluate("location.hash") == ""
    assert "login=" not in page.evaluate("performance.getEntriesByType('navigation')[0].name")
    viewer.live()
    expect(viewer["#who-subject"]).to_have_text("owner")
    total = viewer.number("overview.tasks.total")
    expect(total).to_have_attribute("data-value", "4")

    task = site.sim.start_task(description="Appears by itself")
    written = time.monotonic()
    expect(total).to_have_attribute("data-value", "5", timeout=3000)
    assert time.monotonic() - written < 3
    row = viewer[f'#tasks tr[data-task-id="{task.task_id}"]']
    expect(row).to_contain_text("Appears by itself")
    site.sim.complete_task(task)
    expect(row).to_have_attribute("data-status", "completed", timeout=3000)

    viewer.forgive(FAILED_TO_LOAD)
    page.evaluate("window.sameDocument = true")
    site.stop()
    expect(viewer["#connection"]).not_to_have_attribute("data-state", "live")
    expect(total).to_have_attribute("data-value", "5")  # the last values stay
    site.sim.queue_task("Queued while nobody watched")
    site.start()
    viewer.live(within_s=25)
    expect(total).to_have_attribute("data-value", "6")
    assert page.evaluate("window.sameDocument") is True
    assert page.url == f"{site.url}/"
    expect(viewer["#banner"]).to_be_hidden()
    expect(viewer["#signin-panel"]).to_be_hidden()


def test_back_button_does_not_bring_the_link_back(viewer):
    """The used link is in no history entry."""
    viewer.open("/login")
    viewer.forgive(SIGNED_OUT_YET)
    viewer.page.goto(viewer.site.login_link())
    viewer.live()
    viewer.page.go_back()
    assert "login=" not in viewer.page.url


@pytest.mark.parametrize("path", ["/websocket-test", "/?hours=6"])
def test_page_opened_without_a_session_comes_after_signing_in(viewer, site, path):
    viewer.forgive(SIGNED_OUT_YET)
    viewer.open(path)
    assert viewer.page.url.startswith(f"{site.url}/login?next=/")
    viewer["#token"].fill(site.token())
    viewer["#signin"].click()
    viewer.page.wait_for_url(site.url + path)
