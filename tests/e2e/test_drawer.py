"""The drawer: a task or a session in full, its address, its focus, and that it goes with the stream."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import expect
from viewing import HIT, IMPATIENT

from amiga_ws.collectors.amiga import detail

PHONE = {"width": 390, "height": 844}


def row_of(viewer, text):
    return viewer["#tasks tbody tr"].filter(has_text=text)


def opened(viewer, text):
    """Click the task's row; the drawer has read it."""
    row_of(viewer, text).locator('[data-field="description"]').click()
    expect(viewer["#drawer"]).to_have_attribute("data-state", "read")
    expect(viewer["#drawer-title"]).to_have_text(text)


def test_a_row_opens_the_task_in_full(viewer):
    viewer.arrive()
    opened(viewer, "Upgrade the parser")
    expect(viewer["#drawer-status"]).to_contain_text("failed")
    expect(viewer["#drawer-duration"]).to_have_text("1 m 40 s")
    expect(viewer["#drawer-calls-count"]).to_have_text("1")
    expect(viewer["#drawer-error"]).to_contain_text("no output")
    expect(viewer["#waterfall li"]).to_have_count(1)
    call = viewer['#waterfall li[data-tool="Edit"]']
    expect(call).to_have_attribute("data-state", "failed")
    expect(call.locator(".time")).to_have_text("2.0 s")
    call.locator("summary").click()
    expect(call.locator(".error")).to_contain_text("String not found")
    expect(call.locator(".parameters")).to_contain_text("pytest -q")
    assert viewer.sideways_px() == 0


def test_its_numbers_are_those_of_the_table(viewer):
    viewer.arrive()
    for text in ("Write release notes", "Fix flaky login test"):
        calls = row_of(viewer, text).locator('[data-field="tool_calls"]').text_content()
        opened(viewer, text)
        expect(viewer["#drawer-calls-count"]).to_have_text(calls)
        expect(viewer["#waterfall li"]).to_have_count(int(calls))
        viewer.page.keyboard.press("Escape")


def test_the_address_names_what_is_open_and_back_closes_it(viewer, look, site):
    viewer.arrive("/?hours=6")
    opened(viewer, "Upgrade the parser")
    address = viewer.page.url
    assert "hours=6&task=" in address
    viewer.page.go_back()
    expect(viewer["#drawer"]).to_be_hidden()
    assert viewer.page.url.endswith("/?hours=6")
    viewer.page.go_forward()
    expect(viewer["#drawer-title"]).to_have_text("Upgrade the parser")
    viewer.page.keyboard.press("Escape")
    expect(viewer["#drawer"]).to_be_hidden()
    viewer.page.wait_for_url("**/?hours=6")

    other = look(site).arrive(address.removeprefix(site.url))  # a link from elsewhere
    expect(other["#drawer-title"]).to_have_text("Upgrade the parser")
    other["#drawer-close"].click()
    expect(other["#drawer"]).to_be_hidden()
    assert other.page.url.endswith("/?hours=6")
    expect(other["#tasks tbody tr"]).to_have_count(4)


def test_focus_goes_in_stays_in_and_comes_back(viewer):
    viewer.arrive()
    button = row_of(viewer, "Upgrade the parser").locator('[data-field="description"]')
    opened(viewer, "Upgrade the parser")
    expect(viewer["#drawer-title"]).to_be_focused()
    for _ in range(15):
        viewer.page.keyboard.press("Tab")
        assert viewer.page.evaluate(
            "document.activeElement === document.body || Boolean(document.activeElement.closest('#drawer'))"
        )
    viewer.page.keyboard.press("Escape")
    expect(button).to_be_focused()
    button.press("Enter")
    viewer.page.mouse.click(20, 400)  # beside it
    expect(viewer["#drawer"]).to_be_hidden()


@pytest.mark.parametrize("size", [PHONE, {"width": 1440, "height": 900}], ids=["390", "1440"])
@pytest.mark.parametrize("opener", ["#sessions button.id", "#activity button"])
def test_the_focus_returns_to_what_opened_it(look, site, opener, size):
    viewer = look(site, viewport=size).arrive()
    viewer['#tasks [data-field="description"]'].nth(1).focus()
    button = viewer[opener].filter(visible=True).first
    for _ in range(2):  # the second time the drawer is there already
        button.press("Enter")
        expect(viewer["#drawer"]).to_have_attribute("data-state", "read")
        viewer.page.keyboard.press("Escape")
        expect(button).to_be_focused()
    button.press("Enter")
    viewer.page.keyboard.press("j")
    expect(viewer["#drawer"]).to_have_attribute("data-kind", "task")
    viewer.page.keyboard.press("Escape")
    expect(viewer['#tasks [data-field="description"]:focus']).to_have_count(1)  # that was the last one seen


def test_keys_go_from_task_to_task_inside(viewer):
    viewer.arrive()
    titles = viewer['#tasks [data-field="description"]'].all_text_contents()
    viewer.page.keyboard.press("j")
    viewer.page.keyboard.press("Enter")
    for title in titles[1:]:
        viewer.page.keyboard.press("j")
        expect(viewer["#drawer-title"]).to_have_text(title)
    viewer.page.keyboard.press("k")
    expect(viewer["#drawer-title"]).to_have_text(titles[-2])
    viewer.page.go_back()  # one step, however many tasks were looked at
    expect(viewer["#drawer"]).to_be_hidden()


def test_space_scrolls_in_it_and_freezes_nothing_behind_it(look, site):
    viewer = look(site, viewport=PHONE).arrive()
    opened(viewer, "Upgrade the parser")
    expect(viewer["#drawer-host-charts .chart"].first).to_be_visible()
    viewer.page.keyboard.press("Space")
    viewer.page.wait_for_timeout(500)
    assert viewer["#drawer"].evaluate("(element) => element.scrollTop") > 0
    expect(viewer["#freeze"]).to_have_attribute("aria-pressed", "false")


def test_its_link_is_copied_also_where_there_is_no_clipboard_api(viewer):
    viewer.page.add_init_script("delete Navigator.prototype.clipboard")  # as over plain http
    viewer.arrive()
    opened(viewer, "Upgrade the parser")
    viewer["#drawer-copy"].click()
    expect(viewer["#drawer-copy"]).to_have_text("Copied")
    expect(viewer["#drawer-copy"]).to_be_focused()
    viewer.page.keyboard.press("Escape")
    viewer["#search"].focus()
    viewer.page.keyboard.press("Control+V")
    expect(viewer["#search"]).to_have_value(re.compile(r"^http://127\.0\.0\.1:\d+/\?task=\w+$"))


def test_an_answer_that_comes_late_is_not_shown_as_another_tasks(viewer):
    viewer.arrive()
    held = []

    def hold(route):
        held.append((route, route.fetch()))

    slow = row_of(viewer, "Upgrade the parser")
    viewer.page.route(f"**/api/tasks/{slow.get_attribute('data-task-id')}", hold)
    slow.locator('[data-field="description"]').click()
    expect(viewer["#drawer"]).to_have_attribute("data-id", slow.get_attribute("data-task-id"))
    rows = viewer["#tasks tbody tr"]
    titles = rows.locator('[data-field="description"]').all_text_contents()
    place = titles.index("Upgrade the parser")
    step, next_one = ("k", titles[place - 1]) if place else ("j", titles[1])
    viewer.page.keyboard.press(step)
    expect(viewer["#drawer-title"]).to_have_text(next_one)
    while not held:
        viewer.page.wait_for_timeout(20)
    with viewer.page.expect_response("**/api/tasks/*"):
        for route, answer in held:
            route.fulfill(response=answer)
    viewer.page.wait_for_timeout(4000)  # it would be drawn at the next update
    expect(viewer["#drawer-title"]).to_have_text(next_one)


def test_an_open_task_goes_with_the_stream(own_site, look):
    site = own_site()
    viewer = look(site, viewport=PHONE).arrive()
    opened(viewer, "Fix flaky login test")
    expect(viewer["#waterfall li"]).to_have_count(2)
    expect(viewer['#waterfall [data-state="running"]']).to_have_count(1)
    task = next(task for task in site.sim.tasks.values() if task.description == "Fix flaky login test")
    site.sim.end_tool(site.sim.start_tool(task, "WebFetch", {"url": "https://docs.example.org/new"}))
    expect(viewer["#waterfall li"]).to_have_count(3)
    expect(viewer["#waterfall"]).to_contain_text("https://docs.example.org/new")
    site.sim.complete_task(task, result="Mended.")
    expect(viewer["#drawer-status"]).to_contain_text("completed")
    expect(viewer["#drawer-result-text"]).to_have_text("Mended.")
    expect(viewer['#waterfall [data-state="running"]']).to_have_count(0)
    assert viewer.sideways_px() == 0


def test_what_is_not_there_is_said(viewer):
    viewer.forgive("status of 404")
    viewer.arrive("/?task=abcdef")
    expect(viewer["#drawer"]).to_have_attribute("data-state", "error")
    expect(viewer["#drawer-problem-text"]).to_contain_text("There is no task abcdef")
    with viewer.page.expect_response("**/api/tasks/abcdef"):
        viewer["#drawer-retry"].click()
    viewer.page.keyboard.press("Escape")
    expect(viewer["#drawer"]).to_be_hidden()
    assert "task=" not in viewer.page.url


def test_a_server_that_is_away_is_said_and_asked_again(own_site, look):
    site = own_site()
    viewer = look(site)
    with viewer.page.expect_request_finished(lambda request: "built-drawer-" in request.url):
        viewer.arrive()
    viewer.forgive("ERR_CONNECTION_REFUSED|WebSocket connection|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET")
    site.stop()
    row_of(viewer, "Upgrade the parser").locator('[data-field="description"]').click()
    expect(viewer["#drawer-problem-text"]).to_have_text("The server cannot be reached.")
    expect(viewer["#drawer-title"]).to_have_text("Upgrade the parser")  # what the page knows already
    expect(viewer["#drawer-lost"]).to_contain_text("Connection lost.")  # the page's own banner is behind it
    site.start()
    viewer.live(within_s=40)
    expect(viewer["#drawer-lost"]).to_be_hidden()
    expect(viewer["#waterfall li"]).to_have_count(1)


def test_a_server_that_says_nothing_is_said_too(viewer):
    viewer.page.add_init_script(IMPATIENT)
    viewer.arrive()
    viewer.gets_no_answer("**/api/tasks/*")
    row_of(viewer, "Upgrade the parser").locator('[data-field="description"]').click()
    expect(viewer["#drawer-problem-text"]).to_have_text("The server cannot be reached.")
    viewer.page.unroute("**/api/tasks/*")
    viewer["#drawer-retry"].click()
    expect(viewer["#drawer"]).to_have_attribute("data-state", "read")


def test_it_shows_the_host_while_the_task_ran(viewer):
    viewer.arrive()
    for _ in range(2):  # the second time anew, the first ones ended
        opened(viewer, "Upgrade the parser")
        charts = viewer["#drawer-host-charts .chart"]
        expect(charts.first).to_be_visible()
        count = charts.count()
        assert count >= 4
        viewer.page.keyboard.press("Escape")
        expect(charts).to_have_count(0)


def test_a_table_of_the_host_stays_open_when_the_task_ends(own_site, look):
    site = own_site()
    viewer = look(site, viewport=PHONE).arrive()
    opened(viewer, "Fix flaky login test")
    toggle = viewer["#chart-task-threads .chart-toggle"]
    toggle.click()
    table = viewer["#chart-task-threads .chart-table"]
    expect(table).to_be_visible()
    before = toggle.bounding_box()["y"]
    task = next(task for task in site.sim.tasks.values() if task.description == "Fix flaky login test")
    with viewer.page.expect_response("**/api/metrics/timeseries?**to=**"):
        site.sim.complete_task(task)
    expect(viewer["#drawer-status"]).to_contain_text("completed")
    viewer.page.wait_for_timeout(300)  # what is drawn anew is drawn by then
    expect(table).to_be_visible()
    expect(toggle).to_be_focused()
    assert toggle.bounding_box()["y"] == pytest.approx(before, abs=20)


def test_hidden_parameters_are_said_to_be_hidden(own_site, look):
    viewer = look(own_site("amiga.hide_parameters=true")).arrive()
    opened(viewer, "Upgrade the parser")
    expect(viewer["#drawer-hidden"]).to_be_visible()
    assert "pytest -q" not in viewer.page.content()


def test_a_session_opens_too_and_leads_to_its_task(viewer, site):
    site.sim.end_tool(
        site.sim.start_tool("f532a6cd-3118-48c0-83c5-5850f837beb2", "Bash", {"command": "make"})
    )
    viewer.arrive()
    viewer["#sessions"].get_by_role("button", name="f532a6cd").click()
    expect(viewer["#drawer"]).to_have_attribute("data-kind", "session")
    expect(viewer["#waterfall"]).to_contain_text("make")
    expect(viewer["#drawer-task"]).to_be_disabled()
    viewer.page.keyboard.press("Escape")
    opened(viewer, "Write release notes")
    viewer["#drawer-sessions-list button"].click()
    expect(viewer["#drawer"]).to_have_attribute("data-kind", "session")
    expect(viewer["#drawer-calls-empty"]).to_have_text("Its calls are recorded with its task.")
    expect(viewer["#drawer-task"]).to_be_enabled()


def test_the_class_of_an_error_leads_to_the_tasks_that_failed_so(viewer):
    viewer.arrive()
    viewer['#errors [data-field="class"]'].first.click()
    expect(viewer["#search"]).to_have_value("no_output")
    expect(viewer["#tasks tbody tr"]).to_have_count(1)
    opened(viewer, "Upgrade the parser")
    viewer["#drawer-model"].click()
    expect(viewer["#drawer"]).to_be_hidden()
    expect(viewer["#search"]).to_have_value("sonnet")
    assert "q=sonnet" in viewer.page.url


def test_a_long_work_shows_its_newest_calls_and_says_of_how_many(own_site, look):
    site = own_site(furnish=False)
    task = site.sim.start_task(description="Much work")
    with site.sim.batch():
        for _ in range(detail.MAX_CALLS + 20):
            site.sim.end_tool(site.sim.start_tool(task, "Read"))
    viewer = look(site).arrive()
    opened(viewer, "Much work")
    expect(viewer["#waterfall li"]).to_have_count(detail.MAX_CALLS)
    expect(viewer["#drawer-calls-note"]).to_have_text(f"newest {detail.MAX_CALLS} of {detail.MAX_CALLS + 20}")

    summary = viewer["#waterfall li"].nth(3).locator("summary")
    summary.click()
    site.sim.end_tool(site.sim.start_tool(task, "Grep"))
    expect(viewer['#waterfall li[data-tool="Grep"]']).to_have_count(1)
    expect(viewer["#waterfall details[open]"]).to_have_count(1)  # a call more closes none
    expect(viewer["#waterfall details[open] summary"]).to_be_focused()


@pytest.mark.parametrize("size", [PHONE, {"width": 1440, "height": 900}], ids=["390", "1440"])
def test_nothing_sticks_out_of_it(look, site, size):
    viewer = look(site, viewport=size).arrive()
    opened(viewer, "Upgrade the parser")
    viewer["#waterfall summary"].first.click()
    outside = viewer.page.evaluate(
        """() => [...document.querySelectorAll("#drawer *")].filter((element) => {
          const box = element.getBoundingClientRect();
          return box.width > 0 && (box.right > innerWidth + 1 || box.left < -1)
            && !element.closest(".lane, .hidden-text");
        }).map((element) => element.outerHTML.slice(0, 100))"""
    )
    assert outside == []


def test_its_links_are_as_high_as_a_finger(look, site):
    viewer = look(site, viewport=PHONE, has_touch=True).arrive()
    opened(viewer, "Upgrade the parser")
    for target in ("#drawer-model", "#drawer-class", "#drawer-sessions-list button"):
        assert viewer[target].first.evaluate(HIT) >= 43  # 44 less what the steps leave


def test_a_call_without_an_end_is_seen_where_the_axis_ends(own_site, look):
    """Often it is the last thing that happened."""
    site = own_site()
    now = time.time()
    task = site.sim.start_task(description="Died at work", at=now - 100)
    site.sim.end_tool(site.sim.start_tool(task, "Read", at=now - 90), at=now - 89)
    site.sim.start_tool(task, "Grep", at=now - 60)
    site.sim.fail_task(task, at=now - 30)
    viewer = look(site).arrive()
    opened(viewer, "Died at work")
    expect(viewer["#waterfall [data-state='orphaned'] .span"]).to_be_in_viewport(ratio=1)


def test_modules_that_cannot_be_fetched_are_told_and_the_address_names_what_was_opened(viewer):
    viewer.forgive("Failed to (load|fetch)")
    viewer.page.route(re.compile("/built-drawer-|/drawer.js"), lambda route: route.abort())
    viewer.arrive()
    row_of(viewer, "Upgrade the parser").locator('[data-field="description"]').click()
    expect(viewer["#toast"]).to_contain_text("cannot be shown")
    viewer.page.unroute(re.compile("/built-drawer-|/drawer.js"))
    viewer.page.reload()  # the address names it still
    expect(viewer["#drawer-title"]).to_have_text("Upgrade the parser")
