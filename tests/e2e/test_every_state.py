"""Every state of the dashboard on a phone and at a desk, dark and light: it is shown, it fits, it keeps nobody out."""

from __future__ import annotations

import pytest
from axe import serious_findings
from playwright.sync_api import expect
from states import STATES, staged

BY_NAME = {state.name: state for state in STATES}


@pytest.mark.timeout(400)  # four windows, and a session that has to end by itself
@pytest.mark.parametrize("name", BY_NAME)
def test_state_is_shown_and_fits_and_has_no_serious_finding(name, look, tmp_path):
    for viewer in staged(BY_NAME[name], tmp_path, look):
        assert viewer.sideways_px() == 0, viewer.variant
        assert serious_findings(viewer) == [], viewer.variant


@pytest.mark.parametrize("path", ["/login", "/websocket-test", "/admin"])
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_other_pages_have_no_serious_finding(look, site, path, scheme):
    viewer = look(site, color_scheme=scheme).arrive(path)
    viewer.page.wait_for_load_state("networkidle")
    assert serious_findings(viewer) == []


def test_help_and_menu_have_no_serious_finding(look, site):
    viewer = look(site).arrive()
    viewer.page.keyboard.press("?")
    assert serious_findings(viewer) == []
    viewer.page.keyboard.press("Escape")
    viewer["#who"].click()
    assert serious_findings(viewer) == []


@pytest.mark.parametrize("path", ["/", "/?status=failed", "/login", "/websocket-test", "/admin"])
def test_pages_fit_at_200_percent_zoom(look, site, path):
    """Zooming a window of 1280 px to 200 % leaves 640 CSS pixels (WCAG 1.4.4); 400 % leaves 320 (1.4.10)."""
    for width in (640, 320):
        viewer = look(site, viewport={"width": width, "height": 450}, device_scale_factor=2).arrive(path)
        assert viewer.sideways_px() == 0, width
        if path == "/":
            viewer["#tasks tbody tr"].first.locator('[data-field="description"]').click()
            expect(viewer["#drawer"]).to_have_attribute("data-state", "read")
            assert viewer.sideways_px() == 0, width
            assert viewer.page.evaluate("document.querySelector('#drawer').scrollWidth") <= width


def test_nothing_moves_for_who_wants_no_motion(look, site):
    viewer = look(site, reduced_motion="reduce").arrive()
    viewer["#tasks tbody tr"].first.locator('[data-field="description"]').click()
    running = viewer.page.evaluate(
        "document.getAnimations().filter((one) => one.playState === 'running').length"
    )
    assert running == 0


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/New_York", "UTC"])
def test_times_are_in_the_viewers_zone_and_the_zone_is_said(look, site, zone):
    viewer = look(site, timezone_id=zone).arrive()
    foot = viewer[".page-foot [data-zone]"]
    expect(foot).to_contain_text("Asia/Calcutta" if zone == "Asia/Kolkata" else zone)
    if zone == "Asia/Kolkata":
        expect(foot).to_contain_text("UTC+05:30")
        title = viewer['#tasks [data-field="created_at"]'].first.get_attribute("title")
        assert title.endswith("+05:30")


@pytest.mark.parametrize("kind", ["protanopia", "deuteranopia", "tritanopia", "achromatopsia"])
def test_states_are_told_by_word_and_icon_not_by_colour(look, site, kind):
    """Whatever the eye makes of the colours, no two states have the same word or the same sign."""
    viewer = look(site)
    session = viewer.page.context.new_cdp_session(viewer.page)
    session.send("Emulation.setEmulatedVisionDeficiency", {"type": kind})
    viewer.arrive()
    told = viewer.page.evaluate(
        """() => [...document.querySelectorAll("#tasks tbody tr")].map((row) => [row.dataset.status,
          row.querySelector(".status .word").textContent, row.querySelector(".status use").getAttribute("href")])"""
    )
    by_status = {status: (word, sign) for status, word, sign in told}
    assert len(by_status) >= 4
    assert (
        len({word for word, _ in by_status.values()})
        == len({sign for _, sign in by_status.values()})
        == len(by_status)
    )
