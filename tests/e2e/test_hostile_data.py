"""Whatever AMIGA's data holds is text on our pages: nothing of it runs, and the page shows it as it is."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from installed import Site
from playwright.sync_api import expect

IMAGE = "<img src=x onerror=alert(1)>"
SCRIPT = "<script>alert(2)</script>"
QUOTES = "\"'><svg onload=alert(3)> & &lt;b&gt; ${alert(4)} {{ alert(5) }}"
FLIPPED = "\u202e\u2066 abc"

# Whatever ran would show itself as a dialog, a policy violation (both fail in `look`) or one of these.
FOREIGN_ELEMENTS = "img:not(.mark), iframe, object, embed, svg[onload], body script, [onerror], [onload], b"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """An AMIGA in whose every field somebody tries something; its very folder has a hostile name."""
    folder = tmp_path_factory.mktemp("hostile") / "<img src=x onerror=alert(0)>"
    folder.mkdir()
    with Site(folder) as site:
        fill(site.sim, time.time())
        site.start()
        yield site


def fill(sim, now):
    task = sim.start_task(description=IMAGE, task_id=f"t{IMAGE}", model=SCRIPT, agent_type=IMAGE, at=now - 50)
    sim.start_tool(
        task, f"Tool{IMAGE}", {"command": SCRIPT, IMAGE: QUOTES, "__proto__": {"x": 1}}, at=now - 5
    )
    for tool in (SCRIPT, QUOTES, "__proto__", "constructor"):
        sim.end_tool(
            sim.start_tool(task, tool, at=now - 20), ok=False, error=f"{IMAGE} {SCRIPT}", at=now - 19
        )
    sim.con.execute(
        "UPDATE tool_usage SET error_category = ? WHERE error_category IS NOT NULL", (f"class{IMAGE}",)
    )
    sim.con.execute("UPDATE tasks SET current_phase = ?", (f"phase{IMAGE}",))
    log = json.dumps([{"timestamp": IMAGE, "message": IMAGE}, {"message": {SCRIPT: QUOTES}}])
    sim.con.execute(
        "UPDATE tasks SET description = ?, activity_log = ?, result = ?, error = ?, status = 'failed'",
        (f"{IMAGE} in full", log, f"{IMAGE} {SCRIPT}", f"{IMAGE} {QUOTES}"),
    )
    failed = sim.start_task(description=SCRIPT, task_id="__proto__", at=now - 40)
    sim.fail_task(failed, error=f"{IMAGE} {QUOTES}", at=now - 30)
    sim.queue_task(QUOTES, task_id="quotes", model=QUOTES, at=now - 20)
    sim.queue_task(FLIPPED + IMAGE, task_id="flipped", status=f"status{IMAGE}", at=now - 10)
    sim.start_tool("session<img src=x onerror=alert(6)>", "Bash", at=now - 3)
    sim.con.execute(
        "UPDATE agent_status SET message = ?, status = ? WHERE task_id = '__proto__'", (IMAGE, SCRIPT)
    )


def assert_inert(viewer):
    assert viewer[FOREIGN_ELEMENTS].count() == 0
    assert viewer.page.evaluate("Object.keys(Object.prototype).length") == 0


def test_dashboard_shows_hostile_text_and_runs_none_of_it(viewer):
    viewer.arrive(subject=f"owner{IMAGE}")
    expect(viewer["#tasks tbody tr[data-task-id]"]).to_have_count(4)
    text = viewer.page.evaluate("document.body.textContent")
    for said in (IMAGE, SCRIPT, QUOTES, f"t{IMAGE}", f"Tool{IMAGE}", f"owner{IMAGE}"):
        assert said in text, said
    for row in viewer["#tasks tbody tr[data-task-id]"].all():
        row.locator('[data-field="description"]').click()
        expect(viewer["#drawer"]).to_have_attribute("data-state", "read")
        for call in viewer["#waterfall summary"].all():
            call.click()
        assert_inert(viewer)
        viewer.page.keyboard.press("Escape")
        expect(viewer["#drawer"]).to_be_hidden()
    assert_inert(viewer)


def test_drawer_shows_hostile_calls_errors_log_and_result_as_text(viewer):
    viewer.arrive(f"/?task={quote(f't{IMAGE}')}")
    expect(viewer["#drawer"]).to_have_attribute("data-state", "read")
    expect(viewer["#drawer-title"]).to_have_text(f"{IMAGE} in full")
    for selector in ("#waterfall", "#drawer-log-list", "#drawer-result-text", "#drawer-error-text"):
        expect(viewer[selector]).to_contain_text(IMAGE)
    call = viewer["#waterfall li"].filter(has_text=f"Tool{IMAGE}")
    call.locator("summary").click()
    expect(call.locator(".parameters")).to_contain_text(SCRIPT)
    expect(call.locator(".parameters")).to_contain_text("__proto__")
    assert_inert(viewer)


@pytest.mark.parametrize(
    "wanted",
    [
        f"task={quote(SCRIPT)}",
        "task=__proto__",
        f"session={quote(IMAGE)}",
        "session=..%2F..%2Fadmin",
        "task=%2e%2e",
    ],
)
def test_hostile_address_opens_a_drawer_that_says_what_there_is(viewer, wanted):
    viewer.forgive("status of 404")
    viewer.arrive(f"/?{wanted}")
    expect(viewer["#drawer"]).to_have_attribute("data-state", re.compile("read|error"))
    assert_inert(viewer)


def test_exports_of_hostile_tasks_are_files_of_text(viewer, site):
    viewer.arrive()
    headers = {"Authorization": f"Bearer {site.token()}"}
    for kind, content_type in (("csv", "text/csv"), ("json", "application/json")):
        with viewer.page.expect_download() as saved:
            viewer[f"#export-{kind}"].click()
        text = Path(saved.value.path()).read_text(encoding="utf-8")
        assert IMAGE in text
        status, reply, _ = site.ask("GET", f"/api/export/tasks?format={kind}", headers)
        assert status == 200
        assert reply["Content-Type"].startswith(content_type)
        assert reply["X-Content-Type-Options"] == "nosniff"
        assert reply["Content-Disposition"].startswith("attachment;")


def test_lists_beside_the_tasks_show_hostile_names(viewer):
    viewer.arrive()
    for selector, said in (
        ("#tools-list", SCRIPT),
        ("#tools-list", "__proto__"),
        ("#sessions", "session<"),
        ("#activity", IMAGE),
        ("#activity", SCRIPT),
    ):
        expect(viewer[selector]).to_contain_text(said)
    assert_inert(viewer)


def test_patch_to_a_hostile_name_changes_that_name_alone(viewer, site):
    """Deltas carry a path: one that ends in __proto__ must not reach the prototype of anything."""
    viewer.arrive()
    calls = viewer['#tools-list li[data-tool="__proto__"] .calls']
    before = int(calls.text_content())
    task = site.sim.tasks[f"t{IMAGE}"]
    site.sim.end_tool(site.sim.start_tool(task, "__proto__"))
    expect(calls).to_have_text(str(before + 1))
    assert_inert(viewer)


def test_failed_calls_are_told_with_rate_and_kinds_under_any_name(viewer, site):
    viewer.arrive()
    task = site.sim.tasks[f"t{IMAGE}"]
    site.sim.end_tool(site.sim.start_tool(task, "constructor"), ok=False)
    errors = viewer['#tools-list li[data-tool="constructor"] .errors']
    expect(errors).to_have_text(re.compile(r"^1 err · 100\.0\s%$"))
    expect(errors).to_have_attribute("title", re.compile("^1 "))
    assert_inert(viewer)


def test_hostile_folder_is_shown_where_the_page_names_it(viewer, site):
    viewer.arrive()
    expect(viewer['#sources [data-source="amiga"] [data-field="path"]']).to_contain_text(IMAGE[:20])
    assert_inert(viewer)


def test_hostile_address_is_no_more_than_a_filter(viewer):
    viewer.arrive("/?q=%3Cimg%20src=x%20onerror=alert(7)%3E&status=%3Cscript%3E&hours=%3Csvg%3E")
    expect(viewer["#search"]).to_have_value("<img src=x onerror=alert(7)>")
    expect(viewer['#window [aria-pressed="true"]']).to_have_text("24 h")
    assert_inert(viewer)


def test_test_page_logs_hostile_frames_as_text(viewer):
    viewer.arrive("/websocket-test")
    viewer["#connect"].click()
    viewer["#subscribe"].click()
    expect(viewer["#metrics"]).to_contain_text(SCRIPT)
    update = viewer['#log li[data-event="metrics_update"] details'].first
    update.locator("summary").click()
    expect(update.locator("pre")).to_contain_text(IMAGE)
    assert_inert(viewer)


def test_sign_in_page_shows_a_hostile_subject_as_text(viewer):
    viewer.arrive("/login", subject=f"owner{IMAGE}")
    expect(viewer["#already-subject"]).to_have_text(f"owner{IMAGE}")
    assert_inert(viewer)
    viewer.page.goto(f"{viewer.site.url}/login#login={IMAGE}")
    expect(viewer["#message"]).to_contain_text("does not look like a token")
    assert_inert(viewer)


def test_policy_stops_a_script_that_gets_into_the_page(viewer):
    """The net below: were an element made from hostile text after all, the browser would not run it."""
    viewer.arrive()
    viewer.forgive("policy violation: script-src|Content Security Policy")
    insert = """document.body.insertAdjacentHTML("beforeend", '<img src="data:," onerror="alert(8)">')"""
    with viewer.page.expect_console_message(lambda message: "policy violation: script-src" in message.text):
        viewer.page.evaluate(insert)
    expect(viewer["img[onerror]"]).to_have_count(1)
