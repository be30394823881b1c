"""The dashboard as it is used: keys, widths, colours, filters."""

from __future__ import annotations

import datetime as dt
import json
import re
import time

import pytest
from playwright.sync_api import expect
from viewing import HIT

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1440, "height": 900}
PAGES = ("/", "/login", "/websocket-test")


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["390", "1440"])
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_pages_fit_in_both_schemes_and_complain_of_nothing(look, site, size, scheme):
    viewer = look(site, viewport=size, color_scheme=scheme, has_touch=size is PHONE)
    asked = []
    viewer.page.on("request", lambda request: asked.append(request.url))
    viewer.gets_session()
    for path in PAGES:
        viewer.open(path)
        if path == "/":
            viewer.live()
        else:
            viewer.page.wait_for_load_state("networkidle")
        assert viewer.sideways_px() == 0, path
        assert luminance(viewer) < 64 if scheme == "dark" else luminance(viewer) > 192, path
        outside = viewer.page.evaluate(
            """() => [...document.querySelectorAll("button, a, input, h1, h2, p")].filter((element) => {
              const box = element.getBoundingClientRect();
              return box.width > 0 && (box.right > innerWidth + 1 || box.left < -1)
                && !element.closest(".chips, .table-holder, .hidden-text, .skip");
            }).map((element) => element.outerHTML.slice(0, 100))"""
        )
        assert outside == [], path
    assert all(url.startswith((f"{site.url}/", "data:image")) for url in asked)


def luminance(viewer):
    """Mean of the page's background colour, 0-255."""
    colour = viewer.page.evaluate(
        """() => { const canvas = new OffscreenCanvas(1, 1).getContext("2d");
          canvas.fillStyle = getComputedStyle(document.body).backgroundColor; canvas.fillRect(0, 0, 1, 1);
          return [...canvas.getImageData(0, 0, 1, 1).data]; }"""
    )
    assert colour[3] == 255
    return sum(colour[:3]) / 3


def test_numbers_of_the_table_are_never_cut(look, site):
    viewer = look(site, viewport=DESK)
    viewer.arrive()
    cut = viewer.page.evaluate(
        """(widest) => { const row = document.querySelector("#tasks tbody tr");
          return Object.entries(widest).filter(([column, text]) => {
            const cell = row.querySelector(column);
            cell.textContent = text;
            return cell.scrollWidth > cell.clientWidth;
          }); }""",
        {".c-calls": "999 (99)", ".c-tokens": "99.9 M", ".c-cost": "$0.0076", ".c-duration": "23 h 59 m"},
    )
    assert cut == []


def test_title_tells_the_verdict_and_how_many_things_need_somebody(look, site):
    viewer = look(site)
    viewer.arrive()
    expect(viewer.page).to_have_title(re.compile(r"^(\(\d+\) )?[A-Z]+ · amiga$"))


def test_theme_button_overrides_the_system_and_is_remembered(look, site):
    viewer = look(site, color_scheme="light")
    viewer.arrive()
    viewer["[data-theme-button]"].click()
    expect(viewer["html"]).to_have_attribute("data-theme", "dark")
    assert luminance(viewer) < 64
    viewer.page.reload()
    viewer.live()
    assert luminance(viewer) < 64


def test_single_keys_move_through_the_page(viewer):
    viewer.arrive()
    keys = viewer.page.keyboard
    for key, hours in (("1", "1"), ("2", "6"), ("4", "168"), ("3", "24")):
        keys.press(key)
        expect(viewer[f'#window [data-hours="{hours}"]']).to_have_attribute("aria-pressed", "true")
        expect(viewer['[data-window-label="24 h"], [data-window-label]'].first).to_have_text(
            "7 d" if hours == "168" else f"{hours} h"
        )
    keys.press("/")
    expect(viewer["#search"]).to_be_focused()
    keys.type("1 parser?")  # while somebody types, keys are letters
    expect(viewer["#search"]).to_have_value("1 parser?")
    expect(viewer["#help"]).to_be_hidden()
    keys.press("Escape")
    expect(viewer["#search"]).to_have_value("")
    keys.press("Escape")
    expect(viewer["#search"]).not_to_be_focused()
    keys.press("?")
    expect(viewer["#help"]).to_be_visible()
    keys.press("Escape")
    expect(viewer["#help"]).to_be_hidden()
    keys.press("j")
    first = viewer["#tasks tbody tr[data-task-id]"].first
    expect(first.locator('[data-field="description"]')).to_be_focused()
    keys.press("Enter")
    expect(viewer["#drawer"]).to_be_visible()
    expect(viewer["#drawer-title"]).to_be_focused()
    keys.press("Escape")
    expect(viewer["#drawer"]).to_be_hidden()
    expect(first.locator('[data-field="description"]')).to_be_focused()
    keys.press("j")
    keys.press("k")
    expect(first.locator('[data-field="description"]')).to_be_focused()


def test_single_keys_can_be_switched_off(viewer):
    viewer.arrive()
    viewer["#help-open"].click()
    viewer["#keys-on"].uncheck()
    viewer["#help button[type=submit]"].click()
    viewer.page.keyboard.press("1")
    viewer.page.keyboard.press("?")
    expect(viewer["#help"]).to_be_hidden()
    expect(viewer['#window [data-hours="24"]']).to_have_attribute("aria-pressed", "true")


def test_every_row_and_every_event_is_reached_by_keys_where_single_keys_are_off(viewer):
    viewer.arrive()
    viewer["#help-open"].click()
    viewer["#keys-on"].uncheck()
    viewer["#help button[type=submit]"].click()
    keys = viewer.page.keyboard
    rows = viewer['#tasks tbody [data-field="description"]']
    rows.first.focus()
    for key, row in (("ArrowDown", 1), ("End", 3), ("ArrowDown", 3), ("ArrowUp", 2), ("Home", 0)):
        keys.press(key)
        expect(rows.nth(row)).to_be_focused()
    viewer["#activity"].focus()
    links = viewer["#activity"].locator("button").filter(visible=True)
    for number in range(3):
        keys.press("Tab")
        expect(links.nth(number)).to_be_focused()
    keys.press("Enter")
    expect(viewer["#drawer"]).to_be_visible()


def test_filter_is_kept_in_the_address_and_in_a_fresh_page(viewer, look, site):
    viewer.arrive()
    rows = viewer["#tasks tbody tr[data-task-id]"]
    expect(rows).to_have_count(4)
    viewer['#chips [data-status="failed"]'].click()
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("Upgrade the parser")
    viewer.page.keyboard.press("2")
    assert "status=failed" in viewer.page.url
    assert "hours=6" in viewer.page.url
    other = look(site)
    other.arrive(viewer.page.url.removeprefix(site.url))
    expect(other["#tasks tbody tr[data-task-id]"]).to_have_count(1)
    expect(other['#window [data-hours="6"]']).to_have_attribute("aria-pressed", "true")


def test_the_end_of_the_session_is_a_time_that_stays_true(viewer):
    viewer.arrive()
    viewer["#who"].click()
    ends = viewer["#who-expires"]
    expect(ends).to_have_text(re.compile(r"^(\d+\s\w{3} )?\d\d:\d\d$"))
    at = dt.datetime.strptime(ends.get_attribute("title"), "%Y-%m-%d %H:%M:%S %z")
    left_s = json.loads(viewer.fetch("/api/session")["text"])["expires_in"]
    assert abs(at.timestamp() - time.time() - left_s) < 5


def test_empty_filter_says_so_and_leads_out(viewer):
    viewer.arrive("/?q=nothing-has-this-name")
    expect(viewer["#tasks-empty"]).to_contain_text("No task matches this filter.")
    viewer["#tasks-reset"].click()
    expect(viewer["#tasks tbody tr[data-task-id]"]).to_have_count(4)
    assert "q=" not in viewer.page.url


def test_filter_is_empty_only_when_the_server_has_said_so(viewer):
    viewer.forgive("status of 503")
    viewer.page.route("**/api/tasks?*", lambda _: None)  # no answer
    viewer.arrive("/?q=nothing-has-this-name")
    empty = viewer["#tasks-empty-text"]
    expect(empty).to_have_text("Searching …")
    viewer.page.route("**/api/tasks?*", lambda route: route.fulfill(status=503, body="busy"))
    expect(empty).to_have_text("Older tasks cannot be read now.")
    viewer.page.unroute("**/api/tasks?*")
    expect(empty).to_have_text("No task matches this filter.")


def test_numbers_are_those_of_the_rest_interface(viewer):
    viewer.arrive()
    overview = viewer.page.evaluate(
        "fetch('/api/metrics/overview').then((reply) => reply.json()).then((all) => all.overview)"
    )
    for name in ("total", "running", "pending", "completed", "failed"):
        expect(viewer.number(f"overview.tasks.{name}")).to_have_attribute(
            "data-value", str(overview["tasks"][name])
        )
    expect(viewer.number("overview.tools.total_calls")).to_have_text("4")
    task = viewer["#tasks tbody tr"].filter(has_text="Fix flaky login test")
    expect(task.locator('[data-field="current_tool.name"]')).to_have_text("Grep")
    expect(viewer["#demo-banner"]).to_have_count(0)


def test_page_is_usable_without_a_mouse(viewer):
    """Tab reaches the controls, and first of all the way past the header."""
    viewer.arrive()
    viewer.page.keyboard.press("Tab")
    expect(viewer[".skip"]).to_be_focused()
    reached = set()
    for _ in range(30):
        viewer.page.keyboard.press("Tab")
        reached.add(viewer.page.evaluate("document.activeElement.id"))
    assert reached >= {"help-open", "who", "search"}


@pytest.mark.parametrize(
    "target", ["#activity button", "#verdict-reason", "#tools-list button", "#errors button"]
)
def test_what_a_finger_is_for_is_as_high_as_one(look, own_site, target):
    site = own_site()
    site.sim.start_task(pid=4_194_400)  # no system gives such a pid: it needs somebody
    viewer = look(site, viewport=PHONE, has_touch=True).arrive()
    expect(viewer["#verdict-reason"]).to_contain_text("need")
    for element in viewer[target].filter(visible=True).all()[:4]:
        assert element.evaluate(HIT) >= 43  # 44 less what the steps leave
    assert viewer.sideways_px() == 0


def test_a_long_list_of_needs_leaves_room_for_the_tasks(look, own_site):
    site = own_site()
    for number in range(9):
        site.sim.start_task(pid=4_194_400 + number)  # no system gives such a pid
    viewer = look(site, viewport=PHONE, has_touch=True)
    viewer.arrive()
    rows, more = viewer.page.locator("#attention-list li"), viewer.page.locator("#attention-all")
    expect(more).to_have_text(re.compile(r"^Show all (9|\d\d)$"))
    assert rows.filter(visible=True).count() == 6
    more.click()
    expect(more).to_be_hidden()
    assert rows.filter(visible=True).count() == rows.count() >= 9
