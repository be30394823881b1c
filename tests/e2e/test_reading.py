"""Reading the lists: order, more of them, files of them, and nothing that moves under a reader."""

from __future__ import annotations

import csv
import io
import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

PHONE = {"width": 390, "height": 844}


def described(number):
    return f"Task {number:03}{' zebra' if number in (7, 9, 12) else ''}"


@pytest.fixture
def many(own_site):
    """A site of this test's own with 130 tasks, of which the stream carries 50."""
    site = own_site(furnish=False)
    with site.sim.batch():
        for number in range(130):
            task = site.sim.start_task(description=described(number), model="haiku" if number % 2 else "opus")
            for _ in range(number % 7):
                site.sim.end_tool(site.sim.start_tool(task, "Read"))
            site.sim.complete_task(task)
    return site


def names(viewer):
    return viewer['#tasks [data-field="description"]'].all_text_contents()


# -- order -----------------------------------------------------------------------------------------


def test_a_heading_sorts_all_tasks_turns_round_and_lets_go(many, look):
    viewer = look(many).arrive()
    heading = viewer['#tasks th [data-sort="description"]']
    th = viewer["#tasks th.c-task"]
    rows = viewer['#tasks [data-field="description"]']
    heading.click()
    expect(th).to_have_attribute("aria-sort", "ascending")
    expect(rows.first).to_have_text("Task 000")  # one that the stream does not carry
    assert "sort=description" in viewer.page.url
    heading.click()
    expect(th).to_have_attribute("aria-sort", "descending")
    expect(rows.first).to_have_text("Task 129")
    assert "sort=-description" in viewer.page.url
    heading.click()
    expect(th).to_have_attribute("aria-sort", "none")
    assert "sort=" not in viewer.page.url


def test_order_is_kept_in_the_address_and_chosen_on_a_phone(many, look):
    viewer = look(many, viewport=PHONE).arrive("/?sort=-tool_calls")
    expect(viewer["#sort"]).to_have_value("-tool_calls")
    calls = viewer['#tasks [data-field="tool_calls"]']
    expect(calls.first).to_have_text("6")
    viewer["#sort"].select_option("created_at")
    expect(viewer['#tasks [data-field="description"]'].first).to_have_text("Task 000")
    assert "sort=created_at" in viewer.page.url
    viewer.open("/?sort=%3Cscript%3E")
    viewer.live()
    expect(viewer["#sort"]).to_have_value("")


def test_more_tasks_come_page_by_page_and_the_focus_goes_on_where_they_begin(many, look):
    viewer = look(many).arrive()
    rows = viewer["#tasks tbody tr"]
    expect(rows).to_have_count(50)
    expect(viewer["#tasks-count"]).to_have_text("Active and newest 50 of 130")
    viewer["#tasks-more"].click()
    expect(rows).to_have_count(100)
    expect(rows.nth(50).locator('[data-field="description"]')).to_be_focused()
    viewer["#tasks-more"].click()
    expect(rows).to_have_count(130)
    expect(viewer["#tasks-more"]).to_be_hidden()
    assert sorted(names(viewer)) == [described(number) for number in range(130)]


def test_search_finds_by_every_word_and_by_a_tool_it_has_used(many, look):
    task = many.sim.start_task(description="Look it up")
    many.sim.end_tool(many.sim.start_tool(task, "WebSearch"))
    many.sim.complete_task(task)
    viewer = look(many).arrive()
    rows = viewer["#tasks tbody tr"]
    viewer["#search"].fill("ZEBRA haiku")
    expect(rows).to_have_count(2)  # and the third is opus
    viewer['#tools-list li[data-tool="WebSearch"] .name'].click()
    expect(viewer["#search"]).to_have_value("WebSearch")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("Look it up")


# -- files -----------------------------------------------------------------------------------------


def test_exports_hold_all_tasks_of_the_present_filter_in_its_order(many, look):
    viewer = look(many).arrive("/?q=opus&sort=description")
    expect(viewer["#tasks tbody tr"]).to_have_count(50)
    with viewer.page.expect_download() as saved:
        viewer["#export-csv"].click()
    assert saved.value.suggested_filename.startswith("amiga-tasks-")
    rows = list(csv.DictReader(io.StringIO(Path(saved.value.path()).read_text(encoding="utf-8"), newline="")))
    assert [row["description"] for row in rows] == [described(number) for number in range(0, 130, 2)]
    assert viewer.page.url.endswith("/?q=opus&sort=description")  # the page stays


# Rows in a list of their own, one of them with the focus: how many are touched, and where the focus is then.
RECONCILED = """async ([before, after, focused]) => {
  const { h, reconcile } = await import("/static/dom.js");
  const list = document.body.appendChild(h("ul"));
  const show = (names) => reconcile(list, names, String, (name) => h("li", {}, h("button", {}, name)), () => {});
  show(before);
  [...list.querySelectorAll("button")].find((button) => button.textContent === focused)?.focus();
  const watching = new MutationObserver(() => {});
  watching.observe(list, { childList: true });
  show(after);
  const moved = watching.takeRecords().reduce((sum, record) => sum + record.addedNodes.length, 0);
  const rows = [...list.children].map((row) => row.textContent).join("");
  const found = { rows, moved, focus: document.activeElement.textContent };
  list.remove();
  return found;
}"""


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [
        ("abcdef", "bcdef", 0),  # the first leaves
        ("abcdef", "bcdefa", 1),  # the first goes to the end
        ("abcdef", "cdefab", 2),
        ("abcdef", "fabcde", 1),
        ("abcdef", "xbadey", 3),
        ("abcdef", "fedcba", 5),
    ],
)
def test_rows_that_can_stay_are_not_moved_and_the_focus_goes_with_its_row(viewer, before, after, moved):
    viewer.arrive("/websocket-test")
    for focused in sorted(set(before) & set(after)):
        found = viewer.page.evaluate(RECONCILED, [list(before), list(after), focused])
        assert found == {"rows": after, "moved": moved, "focus": focused}


# -- the feed --------------------------------------------------------------------------------------


def test_activity_holds_still_under_a_pointer_and_says_what_is_new(own_site, look):
    site = own_site()
    viewer = look(site).arrive()
    feed = viewer["#activity"]
    expect(feed.locator("li").first).to_be_visible()
    before = feed.locator('[data-field="description"]').all_text_contents()
    feed.locator("li").nth(2).hover()
    for number in range(3):
        site.sim.queue_task(f"Something new {number}")
    expect(viewer["#activity-new"]).to_have_text("3 new")
    assert feed.locator('[data-field="description"]').all_text_contents() == before
    viewer["#activity-new"].click()
    expect(viewer["#activity-new"]).to_be_hidden()
    expect(feed).to_contain_text("Something new 2")
    viewer.page.mouse.move(5, 5)
    site.sim.queue_task("Comes by itself")
    expect(feed).to_contain_text("Comes by itself")


def test_activity_holds_still_for_who_has_scrolled_past_its_head_on_a_phone(own_site, look):
    site = own_site()
    viewer = look(site, viewport=PHONE, has_touch=True).arrive()
    viewer.page.evaluate(
        "scrollTo(0, document.querySelector('#activity').getBoundingClientRect().top + scrollY + 60)"
    )
    place = "document.querySelector('#activity li:nth-child(3)').getBoundingClientRect().top"
    before = viewer.page.evaluate(place)
    site.sim.queue_task("Something new")
    expect(viewer["#activity-new"]).to_have_text("1 new")
    assert viewer.page.evaluate(place) == pytest.approx(before, abs=2)  # a row more, and it were 30
    viewer["#activity-new"].click()
    expect(viewer["#activity"]).to_contain_text("Something new")


def test_an_empty_window_leads_to_the_nearest_that_has_something(own_site, look):
    site = own_site(furnish=False)
    viewer = look(site).arrive("/?hours=1")
    expect(viewer["#tools-empty"]).to_have_text("No tool call in this window.")
    at = time.time() - 3 * 3600
    task = site.sim.start_task(description="Long ago", at=at - 300)
    site.sim.end_tool(site.sim.start_tool(task, "Read", at=at - 200), at=at - 190)
    site.sim.complete_task(task, at=at)
    offer = viewer["#tools-empty button"]
    expect(offer).to_have_text("Show 6\u00a0h")
    offer.click()
    expect(viewer["#tools-list li"]).to_have_count(1)
    assert "hours=6" in viewer.page.url


def test_frozen_values_stand_still_and_come_back_at_once(own_site, look):
    site = own_site()
    viewer = look(site).arrive()
    total = viewer.number("overview.tasks.total")
    viewer.page.keyboard.press("Space")
    expect(viewer["#freeze"]).to_have_attribute("aria-pressed", "true")
    site.sim.queue_task("While it stood still")
    live = look(site).arrive()  # what comes here has come there too, a tick later at most
    expect(live["#tasks tbody"]).to_contain_text("While it stood still")
    expect(viewer["#freeze-lag"]).to_have_text(re.compile(r"LIVE \+(?![0-3]\s)"))
    expect(total).to_have_attribute("data-value", "4")
    viewer.page.keyboard.press("Space")
    expect(total).to_have_attribute("data-value", "5")
    expect(viewer["#freeze-lag"]).to_be_hidden()
    viewer["#freeze"].click()
    viewer["#tasks-title"].click()
    viewer.page.keyboard.press("Escape")
    expect(viewer["#freeze"]).to_have_attribute("aria-pressed", "false")
