"""The charts as they are used: by pointer, by finger, by key, as tables, and where they cannot be drawn."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import expect

TIMESERIES = re.compile(r"/api/metrics/timeseries\?")
DATA = """async () => {
  const { ChartData } = await import("/static/charts-data.js");
  const column = () => ({ t: [0, 12], min: [1, 1], max: [1, 1], avg: [1, 1], step: 12 });
  const data = new ChartData({ from: 0, to: 24, step: 12, series: { "host.cpu": column() } });
  %s
}"""

# Mean of the labels of a chart's left axis, 0-255.
BRIGHTNESS = """(() => {
  const canvas = document.querySelector("#chart-cpu canvas");
  const pixels = canvas.getContext("2d").getImageData(0, 0, 50, canvas.height).data;
  let sum = 0, count = 0;
  for (let i = 0; i < pixels.length; i += 4) if (pixels[i + 3] > 200) { sum += pixels[i]; count += 1; }
  return sum / count;
})()"""

# The page as the server sends it from an installation that has none (tests/test_pages.py).
WITHOUT_LIBRARY = """new MutationObserver(() => document.querySelector("#charts")?.setAttribute("data-plot", "missing"))
    .observe(document, { childList: true, subtree: true });"""


@pytest.fixture
def charts(viewer):
    """Somebody whose page has drawn its charts."""
    return opened(viewer)


def opened(viewer, path="/?hours=1"):
    viewer.arrive(path)
    ready(viewer)
    return viewer


def ready(viewer):
    """In sight, history has answered, and whether there are drawings is settled."""
    viewer["#charts"].scroll_into_view_if_needed()
    expect(viewer["#charts"]).to_have_attribute("data-state", "ready", timeout=20_000)
    expect(viewer["#charts"]).to_have_attribute("data-plot", re.compile("drawn|missing"))


def over(viewer, chart):
    """The part of a chart that answers to the pointer, in sight and drawn."""
    found = viewer[f"#chart-{chart} .u-over"]
    found.scroll_into_view_if_needed()
    expect(viewer[f"#chart-{chart} .chart-legend"]).not_to_contain_text("CPU \N{EN DASH}")
    return found


def test_opening_the_page_fills_every_chart_with_one_request(viewer):
    asked = []
    viewer.page.on("request", lambda request: asked.append(request.url))
    opened(viewer, "/?hours=6")
    assert viewer["#charts .chart canvas"].count() == viewer["#charts .chart"].count() >= 12
    requests = [url for url in asked if TIMESERIES.search(url)]
    assert len(requests) == 1
    assert "hours=6" in requests[0]
    expect(viewer['#charts-window [data-hours="6"]']).to_have_attribute("aria-pressed", "true")
    over(viewer, "cpu")
    expect(viewer["#chart-cpu .chart-legend"]).to_contain_text(re.compile(r"CPU \d+\.\d"))
    expect(viewer["#chart-calls .chart-legend"]).to_contain_text("calls")


def test_nothing_is_said_of_a_time_before_there_is_an_answer(viewer):
    held = []

    def hold(route):
        held.append(route)

    viewer.page.route(TIMESERIES, hold)
    viewer.arrive("/?hours=1")
    viewer["#chart-tasks"].scroll_into_view_if_needed()
    expect(viewer["#charts"]).to_have_attribute("data-plot", "drawn")
    expect(viewer["#chart-tasks .chart-empty"]).to_be_hidden()
    held[0].fulfill(json={"from": 0, "to": 3600, "step": 60, "series": {}, "spans": []})
    expect(viewer["#chart-tasks .chart-empty"]).to_be_visible()


def test_the_library_comes_when_the_charts_come_near(look, site):
    viewer = look(site, viewport={"width": 390, "height": 844})
    asked = []
    viewer.page.on("request", lambda request: asked.append(request.url))
    viewer.arrive()
    expect(viewer["#charts"]).to_have_attribute("data-state", "ready")
    # What was asked for fills the curves of the tiles at once.
    expect(viewer["#tile-host svg.spark path"]).to_have_attribute("d", re.compile("^M"))
    assert not [url for url in asked if url.endswith("uplot.js")]
    opened(viewer)
    assert [url for url in asked if url.endswith("uplot.js")]
    over(viewer, "cpu")


@pytest.mark.parametrize(
    ("width", "rows"), [(1920, [4, 3, 3, 3]), (1440, [4, 3, 3, 3]), (1100, [2, 2, 3, 3, 3])]
)
def test_charts_leave_no_hole_and_none_has_a_row_alone(look, site, width, rows):
    viewer = opened(look(site, viewport={"width": width, "height": 900}))
    tops = viewer["#charts .chart"].evaluate_all("(all) => all.map((each) => each.offsetTop)")
    assert [tops.count(top) for top in sorted(set(tops))] == rows
    ends = viewer["#charts .charts-grid"].evaluate(
        """(grid) => [...grid.children].filter((each, at, all) => all[at + 1]?.offsetTop !== each.offsetTop)
          .map((each) => Math.round(grid.getBoundingClientRect().right - each.getBoundingClientRect().right))"""
    )
    assert set(ends) == {0}


def test_frozen_charts_stand_still_whatever_comes(charts):
    canvas = over(charts, "cpu").locator("xpath=ancestor::article").locator("canvas")
    picture = "(canvas) => canvas.toDataURL()"
    charts["#freeze"].click()
    still = canvas.evaluate(picture)
    with charts.page.expect_response(TIMESERIES):
        charts.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    charts.page.wait_for_timeout(2_500)  # so long that the stream has brought something, too
    assert canvas.evaluate(picture) == still
    charts["#charts-window [data-hours='24']"].click()  # asked for by hand: shown
    over(charts, "cpu")
    moved = "([canvas, still]) => canvas.toDataURL() !== still"
    charts.page.wait_for_function(moved, arg=[canvas.element_handle(), still])


def test_what_came_while_they_were_frozen_or_the_device_slept_is_asked_for(charts):
    charts["#freeze"].click()
    expect(charts["#freeze-lag"]).to_be_visible()
    with charts.page.expect_response(TIMESERIES):
        charts["#freeze"].click()
    with charts.page.expect_response(TIMESERIES, timeout=10_000):
        charts.page.evaluate("() => { const now = Date.now; Date.now = () => now() + 3_600_000; }")


def test_charts_reach_a_year_back_and_follow_the_page(charts):
    for hours in ("720", "8760"):
        with charts.page.expect_request(re.compile(f"hours={hours}")):
            charts[f'#charts-window [data-hours="{hours}"]'].click()
        expect(charts[f'#charts-window [data-hours="{hours}"]']).to_have_attribute("aria-pressed", "true")
    expect(charts['#window [data-hours="1"]']).to_have_attribute("aria-pressed", "true")
    charts.page.reload()
    expect(charts['#charts-window [data-hours="8760"]']).to_have_attribute("aria-pressed", "true")
    charts.live()
    charts.page.keyboard.press("2")
    assert "charts=" not in charts.page.url
    expect(charts['#charts-window [data-hours="6"]']).to_have_attribute("aria-pressed", "true")


def test_a_drag_looks_closer_and_a_double_click_returns(charts):
    box = over(charts, "cpu").bounding_box()
    middle = box["y"] + box["height"] / 2
    mouse = charts.page.mouse
    mouse.move(box["x"] + box["width"] * 0.5, middle)
    mouse.down()
    mouse.move(box["x"] + box["width"] * 0.75, middle, steps=4)
    with charts.page.expect_response(re.compile(r"from=\d+&to=\d+")) as closer:
        mouse.up()
    assert closer.value.json()["step"] < 12
    expect(charts["#charts-back"]).to_be_visible()
    assert "from=" in charts["#charts-csv"].get_attribute("href")
    charts["#chart-network .u-over"].dblclick()
    expect(charts["#charts-back"]).to_be_hidden()
    assert "hours=1" in charts["#charts-csv"].get_attribute("href")


def test_the_cursor_is_one_over_all_charts_and_a_click_lists_what_ran_then(charts):
    box = over(charts, "cpu").bounding_box()
    charts.page.mouse.move(box["x"] + box["width"] - 3, box["y"] + 20)
    expect(charts["#chart-cpu .chart-when"]).to_contain_text("at ")
    at = charts["#chart-cpu .chart-when"].text_content()
    expect(charts["#chart-memory .chart-when"]).to_have_text(at)
    charts.page.mouse.click(box["x"] + box["width"] - 3, box["y"] + 20)
    tasks = charts["#chart-cpu .chart-tasks"]
    expect(tasks).to_contain_text("ran at")
    tasks.get_by_role("button", name="Fix flaky login test").click()
    expect(charts["#drawer"]).to_contain_text("Fix flaky login test")


def test_a_chart_is_read_and_used_by_keys_alone(charts):
    over(charts, "cpu")
    plot = charts["#chart-cpu .chart-plot"]
    plot.focus()
    keys = charts.page.keyboard
    keys.press("End")
    said = charts['#charts-board [aria-live="polite"]']
    expect(said).to_have_text(re.compile(r"^\d\d:\d\d:\d\d: CPU .+, load, 1 min .+"))
    last = said.text_content()
    keys.press("ArrowLeft")
    expect(said).not_to_have_text(last)
    keys.press("Home")
    keys.press("End")
    keys.press("Enter")
    expect(charts["#chart-cpu .chart-tasks"]).to_contain_text("Fix flaky login test")
    keys.press("+")
    expect(charts["#charts-back"]).to_be_visible()
    keys.press("Escape")
    expect(charts["#charts-back"]).to_be_hidden()


LEGEND = """async ([last, shown, cursor]) => {
  const { Card } = await import("/static/charts-card.js");
  const { CHARTS } = await import("/static/charts-list.js");
  const { ChartData } = await import("/static/charts-data.js");
  const t = [], avg = [];
  for (let at = 0; at < shown; at += 60) { t.push(at); avg.push(at === last ? 1600 : null); }
  const column = { t, avg, min: avg, max: avg, step: 60 };
  const answer = { from: 0, to: shown, step: 60, series: { "tools.p50": column, "tools.p95": column } };
  const view = { from: 0, to: shown, data: new ChartData(answer), snapshot: null };
  const card = new Card(CHARTS.find((chart) => chart.id === "durations"), view, { leave() {} });
  card.draw();
  if (cursor !== null) card.at(cursor);
  return [...card.element.querySelectorAll(".chart-legend .num")].map((element) => element.textContent);
}"""


@pytest.mark.parametrize(
    ("last", "shown", "cursor", "when"),
    [
        (10_500, 10_800, None, ""),
        (600, 10_800, None, "at 1 Jan 00:10"),  # and nothing in the three hours since
        (600, 10_800, 600, "at 1 Jan 00:10"),
    ],
)
def test_a_legend_whose_newest_values_are_old_says_of_when_they_are(look, site, last, shown, cursor, when):
    viewer = look(site, timezone_id="UTC").arrive()
    found = viewer.page.evaluate(LEGEND, [last, shown, cursor])
    assert found == ["1.6\N{NO-BREAK SPACE}s", "1.6\N{NO-BREAK SPACE}s", when]


def test_money_of_the_charts_is_in_the_configured_currency(look, own_site):
    site = own_site("costs.currency=EUR")
    site.sim.add_message(
        "assistant", "Done.", tokens=(1_000_000, 0), model="claude-haiku-4-5", at=time.time() - 300
    )
    viewer = opened(look(site))
    over(viewer, "spend")
    expect(viewer["#chart-spend .chart-legend"]).to_contain_text("EUR/h")
    expect(viewer["#chart-spend .chart-legend"]).not_to_contain_text("$")


def test_every_chart_has_a_table_of_the_same_values(charts):
    over(charts, "cpu")
    charts["#chart-cpu .chart-toggle"].click()
    table = charts["#chart-cpu .chart-table table"]
    expect(table.locator("thead")).to_have_text("TimeCPUload, 1 min")
    expect(table.locator("tbody tr").first).to_contain_text("%")
    charts["#chart-cpu .chart-toggle"].click()
    expect(table).to_have_count(0)


def test_a_finger_zooms_sideways(look, site):
    viewer = opened(look(site, viewport={"width": 390, "height": 844}, has_touch=True))
    box = over(viewer, "cpu").bounding_box()
    touch = viewer.page.context.new_cdp_session(viewer.page)
    y = box["y"] + box["height"] / 2

    def send(kind, *xs):
        points = [{"x": x, "y": y} for x in xs]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    send("touchStart", box["x"] + 40)
    for step in range(50, 180, 20):
        send("touchMove", box["x"] + step)
    send("touchEnd")
    expect(viewer["#charts-back"]).to_be_visible()
    viewer["#charts-back"].click()
    expect(viewer["#charts-back"]).to_be_hidden()


def test_colours_follow_the_theme(look, site):
    viewer = opened(look(site, color_scheme="light"))
    viewer.forgive("Canvas2D: Multiple readback")  # by this test
    over(viewer, "cpu")
    viewer.page.wait_for_function(f"{BRIGHTNESS} < 115")
    viewer["[data-theme-button]"].click()
    expect(viewer["html"]).to_have_attribute("data-theme", "dark")
    viewer.page.wait_for_function(f"{BRIGHTNESS} > 140")


@pytest.mark.parametrize("why", ["not installed", "not reached"])
def test_without_the_library_tables_stand_in_and_the_page_says_why(look, site, why):
    viewer = look(site)
    viewer.gets_session()
    if why == "not reached":
        viewer.forgive("Failed to load resource")
        viewer.page.route("**/static/uplot.js", lambda route: route.abort())
    else:
        viewer.page.add_init_script(WITHOUT_LIBRARY)
    viewer.open("/")
    viewer.live()
    ready(viewer)
    expect(viewer["#charts"]).to_have_attribute("data-plot", "missing")
    expect(viewer["#charts-note"]).to_contain_text(
        "lacks the chart library" if why == "not installed" else "did not load"
    )
    expect(viewer["#charts canvas"]).to_have_count(0)
    viewer["#chart-cpu"].scroll_into_view_if_needed()
    expect(viewer["#chart-cpu tbody tr"].first).to_contain_text("%")


def test_a_time_without_readings_stays_empty_and_one_with_news_is_kept_up(viewer):
    viewer.arrive()
    found = viewer.page.evaluate(
        DATA
        % """data.note(25, { "host.cpu": 3 }); data.note(30, { "host.cpu": 5 });
             data.note(80, { "host.cpu": 9 }); data.note(10, { "host.cpu": 100 });
             const { t, min, max, avg } = data.column("host.cpu");
             return { t, min, max, avg, from: data.from, to: data.to };"""
    )
    assert (found["from"], found["to"]) == (60, 84)
    assert found["t"] == [60, 72]
    assert found["avg"] == found["max"] == [None, 9]
    found = viewer.page.evaluate(
        DATA
        % """data.note(25, { "host.cpu": 3 }); data.note(30, { "host.cpu": 5 });
             const { t, min, max, avg } = data.column("host.cpu"); return [t, min, max, avg];"""
    )
    assert found == [[12, 24], [1, 3], [1, 5], [1, 4]]
