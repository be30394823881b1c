"""/websocket-test: every control works by hand, and every frame is in the log."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect


@pytest.fixture
def tester(viewer):
    viewer.arrive("/websocket-test")
    return viewer


def logged(viewer, event, direction="in"):
    return viewer[f'#log li[data-event="{event}"][data-direction="{direction}"]']


def data_of(viewer, event):
    """The data of the newest such frame, as the log shows it when it is opened."""
    entry = logged(viewer, event).first
    entry.locator("summary").click()
    return json.loads(entry.locator("pre").text_content())


def test_every_control_sends_its_command_and_logs_the_answer(tester, site):
    expect(tester["#subscribe"]).to_be_disabled()
    tester["#connect"].click()
    expect(tester["#connection"]).to_have_attribute("data-state", "live")
    assert data_of(tester, "connected")["subject"] == "owner"
    assert logged(tester, "metrics_update").count() == 0

    tester["#hours"].fill("6")
    tester["#subscribe"].click()
    expect(logged(tester, "subscribe", "out")).to_have_count(1)
    assert data_of(tester, "subscribed")["config"]["hours"] == 6
    expect(logged(tester, "metrics_update").first).to_be_visible()
    expect(tester["#metrics"]).to_contain_text('"hours": 6')

    updates = logged(tester, "metrics_update").count()
    tester["#refresh"].click()
    expect(logged(tester, "request_refresh", "out")).to_have_count(1)
    expect(logged(tester, "metrics_update").nth(updates)).to_be_attached()

    tester["#interval"].fill("1")
    expect(tester["#interval-value"]).to_have_text("1 s")
    expect(logged(tester, "interval_updated")).to_have_count(1)
    site.sim.queue_task("Seen on the test page")
    expect(tester["#metrics"]).to_contain_text("Seen on the test page", timeout=3000)

    tester["#unsubscribe"].click()
    expect(logged(tester, "unsubscribed")).to_have_count(1)
    count = tester['[data-stat="updates"]'].get_attribute("data-value")
    site.sim.queue_task("Not seen any more")
    tester.page.wait_for_timeout(2500)
    expect(tester['[data-stat="updates"]']).to_have_attribute("data-value", count)
    expect(tester["#refresh"]).to_be_disabled()

    tester["#disconnect"].click()
    expect(tester["#connection"]).to_have_attribute("data-state", "idle")
    expect(logged(tester, "disconnected", "note")).to_have_count(1)
    assert int(tester['[data-stat="messages_out"]'].get_attribute("data-value")) == 4
    expect(tester['[data-stat="errors"]']).to_have_text("0")


def test_log_can_be_filtered_paused_copied_and_cleared(tester):
    tester.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tester["#connect"].click()
    tester["#subscribe"].click()
    expect(logged(tester, "metrics_update").first).to_be_visible()
    tester["#log-filter"].fill("subscribed")
    expect(tester["#log li"]).to_have_count(1)
    tester["#log-copy"].click()
    expect(tester["#log-copy"]).to_have_text("Copied")
    copied = tester.page.evaluate("navigator.clipboard.readText()")
    assert " subscribed {" in copied
    assert copied.count("\n") == 0
    tester["#log-filter"].fill("")
    tester["#log-pause"].click()
    tester["#log-clear"].click()
    tester["#refresh"].click()
    expect(tester["#log li"]).to_have_count(0)
    tester["#log-pause"].click()
    expect(logged(tester, "request_refresh", "out")).to_have_count(1)


@pytest.mark.parametrize("transport", ["sse", "poll"])
def test_other_transports_bring_the_same_snapshot(tester, transport):
    tester["#transport"].select_option(transport)
    tester["#connect"].click()
    expect(tester["#connection"]).to_have_attribute("data-transport", transport)
    expect(tester["#connection"]).to_have_attribute("data-state", "live")
    expect(tester["#metrics"]).to_contain_text('"success_rate"')
    expect(tester["#subscribe"]).to_be_disabled()


def test_deltas_are_patches_that_keep_the_document_whole(tester, site):
    tester["#delta"].check()
    tester["#interval"].fill("1")
    tester["#connect"].click()
    tester["#subscribe"].click()
    expect(logged(tester, "metrics_update").first).to_be_visible()
    task = site.sim.queue_task("Comes as a patch")
    expect(logged(tester, "metrics_patch").first).to_be_visible(timeout=3000)
    expect(tester["#metrics"]).to_contain_text("Comes as a patch")
    shown = json.loads(tester["#metrics"].text_content())
    asked = json.loads(tester.fetch("/api/metrics/overview?hours=24")["text"])
    assert [each["task_id"] for each in shown["tasks"]] == [each["task_id"] for each in asked["tasks"]]
    assert shown["overview"]["tasks"] == asked["overview"]["tasks"]
    assert task.task_id in [each["task_id"] for each in shown["tasks"]]


def test_signed_out_page_says_so_and_stops(tester):
    tester.forgive("WebSocket connection|status of 401")
    tester["#connect"].click()
    expect(tester["#connection"]).to_have_attribute("data-state", "live")
    tester.fetch("/api/session", method="DELETE")
    expect(tester["#connection"]).to_have_attribute("data-state", "signedout")
    expect(logged(tester, "bye")).to_have_count(1)
    expect(tester["#problem"]).to_contain_text("signed out")
