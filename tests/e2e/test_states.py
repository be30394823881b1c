"""What the page says when something is missing, broken, gone or over."""

from __future__ import annotations

import datetime as dt
import json
import re
import subprocess
import sys
import time

import pytest
from playwright.sync_api import expect
from processes import CHECKOUT, clean_environment, completed
from viewing import IMPATIENT, Viewer

from amiga_ws.simulate import Simulator

LOST = r"ERR_CONNECTION_REFUSED|WebSocket connection|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET"
REFUSED = r"status of 40[13]|WebSocket connection"


@pytest.fixture(scope="module", autouse=True)
def expiring(chromium, site):
    """A page whose session ends 4 s from now; its 25 s of waiting for a renewal pass while the other tests run.

    A session never outlives the token it came from.
    """
    context = chromium.new_context()
    viewer = Viewer(context, site)
    viewer.forgive(REFUSED)
    task = next(iter(site.sim.tasks))
    viewer.open(f"/login?next=/%3Fhours%3D6%26task%3D{task}")
    viewer["#token"].fill(site.token("owner", "--ttl", "4s"))
    viewer["#signin"].click()
    viewer.live()
    viewer.page.evaluate("window.sameDocument = true")
    yield viewer
    context.close()


def test_without_an_amiga_the_page_says_where_it_looked_and_what_to_do(look, own_site):
    site = own_site(amiga=False)
    viewer = look(site).arrive()
    panel = viewer["#no-amiga"]
    expect(panel).to_be_visible()
    expect(viewer["#no-amiga-path"]).to_contain_text(str(site.amiga_root))
    expect(panel).to_contain_text("amiga.root")
    expect(panel).to_contain_text("--demo")
    expect(viewer["#verdict"]).to_have_attribute("data-verdict", "down")
    expect(viewer.number("overview.system.memory.percent")).to_contain_text("%")
    assert viewer.number("overview.tasks.total").text_content() == "\N{EN DASH}"  # unknown is not 0

    sim = Simulator(site.amiga_root)
    sim.queue_task("The first one")
    expect(panel).to_be_hidden(timeout=10_000)
    expect(viewer["#tasks tbody"]).to_contain_text("The first one")
    sim.close()


def test_nothing_is_clear_while_the_database_is_still_being_read(viewer):
    viewer.arrive()
    verdict = """async (attention) => {
      const { verdict } = await import("/static/verdict.js");
      return verdict({ sources: { amiga: { state: "loading" } }, attention }, false);
    }"""
    found = viewer.page.evaluate(verdict, [])
    assert (found["word"], found["level"]) == ("LOADING", "loading")
    assert found["reason"] == "AMIGA's database is being read"
    assert viewer.page.evaluate(verdict, [{"severity": "warn"}])["word"] == "ATTENTION"


def test_a_bot_that_was_never_seen_is_not_said_to_be_alive(viewer):
    viewer.arrive()
    verdict = """async (amiga) => {
      const { verdict } = await import("/static/verdict.js");
      return verdict({ sources: {}, attention: [], overview: { system: { processes: { amiga } } } }, false).reason;
    }"""
    assert viewer.page.evaluate(verdict, None) == "all clear, but no AMIGA process is seen"
    assert viewer.page.evaluate(verdict, {"alive": True}) == "all clear"


def seen_with(viewer, change):
    """Open the page with states that `change` has been at; patches of them do not arrive."""

    def pass_on(socket):
        server = socket.connect_to_server()

        def from_server(text):
            frame = json.loads(text)
            if frame["event"] == "metrics_update":
                change(frame["data"])
            if frame["event"] != "metrics_patch":
                socket.send(json.dumps(frame))

        server.on_message(from_server)
        socket.on_message(server.send)

    viewer.page.route_web_socket("**/ws", pass_on)
    return viewer.arrive()


def test_a_database_that_is_being_read_is_never_said_not_to_be(viewer):
    def load(snapshot):
        snapshot["sources"]["amiga"]["state"] = "loading"
        for name in ("attention", "tasks", "errors", "activity"):
            snapshot[name] = []

    seen_with(viewer, load)
    expect(viewer["#verdict-reason"]).to_have_text("AMIGA's database is being read")
    expect(viewer["#attention-clear"]).to_contain_text("is being read")
    expect(viewer["#tasks-empty"]).to_contain_text("is being read")
    expect(viewer["#errors-empty"]).to_contain_text("is being read")
    expect(viewer["#tile-spend .source-note"]).to_have_text("being read")
    denied = re.compile("not being read|has not been read")
    expect(viewer["main"]).not_to_contain_text(denied, use_inner_text=True)
    viewer["#search"].fill("parser")  # nothing is known yet of what matches
    expect(viewer["#tasks-empty"]).to_contain_text("is being read")


@pytest.mark.parametrize(
    ("state", "note"),
    [("loading", "Transcripts: being read, not all is counted yet"), ("missing", None), ("ok", None)],
)
def test_what_is_spent_says_when_not_all_of_it_is_counted_yet(viewer, state, note):
    seen_with(viewer, lambda snapshot: snapshot["sources"]["transcripts"].update(state=state))
    for tile in ("#tile-spend", "#tile-tokens"):
        found = viewer[f"{tile} .source-note"]
        expect(found).to_have_text(note) if note else expect(found).to_be_hidden()


def test_a_database_that_never_could_be_read_has_no_last_values(look, own_site):
    site = own_site(furnish=False)
    site.stop()
    site.sim.close()
    site.sim.database.write_bytes(b"this is not a database" * 1000)
    site.start()
    viewer = look(site).arrive()
    expect(viewer["#broken"]).to_contain_text("not a database")
    expect(viewer["#broken"]).to_contain_text("There are no values of it yet.")
    expect(viewer["#tile-tasks .source-note"]).to_have_text("never read")


def test_values_of_a_lost_page_are_not_said_to_be_live(look, own_site):
    site = own_site(amiga=False)
    viewer = look(site).arrive()
    viewer.forgive(LOST)
    live = "The host\N{RIGHT SINGLE QUOTATION MARK}s values below are live"
    expect(viewer["#no-amiga"]).to_contain_text(live, use_inner_text=True)
    site.stop()
    expect(viewer["#verdict"]).to_have_attribute("data-verdict", "stale")
    expect(viewer["#no-amiga"]).to_contain_text("Looked at", use_inner_text=True)
    expect(viewer["#no-amiga"]).not_to_contain_text("live", use_inner_text=True)
    viewer.page.evaluate("document.querySelector('#broken').hidden = false")
    expect(viewer["#broken"]).not_to_contain_text("live", use_inner_text=True)


def test_transcripts_that_nobody_asked_for_are_no_trouble(viewer):
    viewer.arrive()
    row = viewer['#sources [data-source="transcripts"]']
    expect(row.locator('[data-field="state"]')).to_have_text("not set")
    expect(row.locator('[data-field="as_of"]')).to_have_text("")
    expect(row).to_contain_text("amiga.transcripts")
    colours = """(row) => ["state", "hint"].map((name) => row.querySelector(`[data-field="${name}"]`))
      .map((part) => getComputedStyle(part).color)"""
    muted = viewer["#sources .path"].first.evaluate("(path) => getComputedStyle(path).color")
    assert row.evaluate(colours)[0] == muted


def test_transcripts_that_are_not_where_they_should_be_are_missing(look, own_site, tmp_path):
    viewer = look(own_site(f"amiga.transcripts={tmp_path}/nowhere")).arrive()
    row = viewer['#sources [data-source="transcripts"]']
    expect(row.locator('[data-field="state"]')).to_have_text("missing")
    expect(row.locator('[data-field="as_of"]')).to_have_text("never read")


def test_every_word_of_the_verdict_is_explained(viewer):
    viewer.arrive()
    viewer["#help-open"].click()
    terms = viewer["#help .words dt"].all_text_contents()
    assert set(terms) >= {"OK", "ATTENTION", "DEGRADED", "DOWN", "LOADING", "STALE"}


def test_a_process_that_has_ended_is_up_for_no_time(look, own_site):
    site = own_site(furnish=False)
    waiting = [sys.executable, "-c", "import time; time.sleep(600)", "monitoring.server"]
    with subprocess.Popen(waiting, cwd=site.amiga_root) as process:  # noqa: S603 - as AMIGA's is found
        site.restart()
        viewer = look(site).arrive()
        up = viewer.number("overview.system.processes.amiga.since")
        expect(viewer["#bot-state"]).to_contain_text("Alive")
        expect(up).to_have_text(re.compile(r"\d"))
        process.kill()
    expect(viewer["#bot-state"]).to_contain_text("Ended")
    expect(up).to_have_text("\N{EN DASH}")


def test_spend_is_also_told_by_the_hour_of_the_window(look, own_site):
    site = own_site()
    site.sim.add_message("assistant", "Done.", tokens=(6_000_000, 0), model="claude-haiku-4-5")
    viewer = look(site).arrive("/?hours=6")
    expect(viewer.number("overview.costs.total_cost")).to_have_text("$6.00")
    expect(viewer["#spend-rate"]).to_have_text("$1.00/h")
    viewer.page.keyboard.press("3")
    expect(viewer["#spend-rate"]).to_have_text("$0.25/h")


@pytest.mark.parametrize("zone", [None, "Pacific/Pago_Pago"])  # midnight of the server is yesterday there
def test_a_budget_says_on_which_day_of_this_month_it_is_used_up(look, own_site, zone):
    site = own_site("costs.budget=1.01")
    site.sim.add_message("assistant", "Done.", tokens=(1_000_000, 0), model="claude-haiku-4-5")
    viewer = look(site, timezone_id=zone).arrive()
    expect(viewer["#tile-spend h2"]).to_have_text(re.compile("today in UTC" if zone else "today$"))
    expect(viewer["#spend-budget .num"]).to_have_text("99\N{NO-BREAK SPACE}% of $1.01", timeout=10_000)
    today = dt.date.today()  # noqa: DTZ011 - the page and the server are in this zone too
    tomorrow = today + dt.timedelta(days=1)
    until = viewer["#spend-until"]
    if tomorrow.month == today.month:
        day = f"{tomorrow.day}\N{NO-BREAK SPACE}{tomorrow:%b}"
        expect(until).to_have_text(f"used up on {day} at the pace of this month")
    else:
        expect(until).to_be_hidden()


def test_broken_database_keeps_the_last_values_and_says_why(look, own_site):
    site = own_site()
    viewer = look(site).arrive()
    total = viewer.number("overview.tasks.total")
    expect(total).to_have_attribute("data-value", "4")
    source = viewer['#sources [data-source="amiga"]']
    expect(source.locator('[data-field="as_of"]')).to_have_text("live")
    site.sim.close()
    site.sim.database.write_bytes(b"this is not a database" * 1000)
    expect(source).to_have_attribute("data-state", "error", timeout=10_000)
    assert source.locator('[data-field="error"]').text_content()
    assert source.locator('[data-field="hint"]').text_content()
    expect(viewer["#tile-tasks"]).to_have_attribute("data-state", "error")
    expect(viewer["#tile-tasks .source-note"]).to_be_visible()
    expect(viewer["#verdict"]).to_have_attribute("data-verdict", "down")
    expect(total).to_have_attribute("data-value", "4")


def test_lost_connection_is_told_after_5_s_and_forgotten_on_return(look, own_site):
    site = own_site()
    viewer = look(site).arrive()
    viewer.forgive(LOST)
    site.stop()
    gone = time.monotonic()
    expect(viewer["#connection"]).not_to_have_attribute("data-state", "live")
    expect(viewer["#banner"]).to_be_hidden()
    expect(viewer["#banner"]).to_be_visible(timeout=8000)
    assert time.monotonic() - gone > 3
    expect(viewer["#banner-title"]).to_have_text("Connection lost.")
    expect(viewer["#banner-text"]).to_contain_text("Values are")
    expect(viewer["#banner-next"]).to_contain_text("Next try in")
    expect(viewer["#verdict"]).to_have_attribute("data-verdict", "stale")
    assert viewer.page.title().startswith("STALE")
    expect(viewer.number("overview.tasks.total")).to_have_attribute("data-value", "4")
    with viewer.page.expect_websocket():
        viewer["#banner [data-retry]"].click()
    site.start()
    viewer.live(within_s=25)
    expect(viewer["#banner"]).to_be_hidden()


def test_sign_out_everywhere_ends_every_page_and_each_comes_back_to_its_view(look, own_site):
    site = own_site()
    here, there = look(site).arrive("/?hours=6"), look(site).arrive("/?status=failed")
    other_subject = look(site).arrive(subject="grace")
    for viewer in (here, there):
        viewer.forgive(REFUSED)
    signed_out = time.monotonic()
    here["#who"].click()
    here["#signout-everywhere"].click()
    here.page.wait_for_url(f"{site.url}/login")
    expect(there["#tasks tbody tr"]).to_have_count(0, timeout=3000)
    assert time.monotonic() - signed_out < 5
    comes_back(there)
    expect(there['#chips [data-status="failed"]']).to_have_attribute("aria-pressed", "true")
    other_subject.live()


def test_a_page_that_polls_shows_nothing_either_of_a_session_that_was_ended(look, own_site):
    """It is told no more than that its session is not accepted, as it is of one that is over."""
    site = own_site()
    here, there = look(site).arrive(), look(site).polls().arrive("/?status=failed")
    there.forgive(REFUSED)
    expect(there["#connection"]).to_have_attribute("data-transport", "poll")
    expect(there["#who-name"]).to_have_text("owner")
    here.forgive(REFUSED)
    here["#who"].click()
    here["#signout-everywhere"].click()
    there.page.wait_for_url("**/login?ended=1&**")
    comes_back(there)
    expect(there['#chips [data-status="failed"]']).to_have_attribute("aria-pressed", "true")


def test_a_sign_out_empties_the_other_pages_of_this_browser_however_they_are_told(look, own_site):
    """The cookie goes with it: from then on they are strangers to the server."""
    site = own_site()
    viewer = look(site).arrive()
    viewer.forgive(REFUSED)
    other = viewer.page.context.new_page()
    other.route_web_socket("**/ws", lambda socket: socket.close(code=1011))
    other.route("**/api/stream/**", lambda route: route.fulfill(status=502, body="Bad Gateway"))
    other.goto(f"{site.url}/?hours=6")
    expect(other.locator("#connection")).to_have_attribute("data-state", "live", timeout=30_000)
    expect(other.locator("#connection")).to_have_attribute("data-transport", "poll")
    viewer["#who"].click()
    viewer["#signout"].click()
    viewer.page.wait_for_url(f"{site.url}/login")
    other.wait_for_url("**/login?ended=1&next=%2F%3Fhours%3D6", timeout=3000)


def test_a_sign_out_that_gets_no_answer_is_told(look, own_site):
    viewer = look(own_site())
    viewer.page.add_init_script(IMPATIENT)
    viewer.arrive()
    expect(viewer["#who-name"]).to_have_text("owner")
    viewer.gets_no_answer("**/api/session*")
    viewer["#who"].click()
    viewer["#signout"].click()
    expect(viewer["#toast"]).to_contain_text("The server does not answer.")


def test_revocation_by_command_ends_the_page_within_2_s(look, own_site):
    """No retry loop, nothing of the data left, and the same view after signing in again."""
    site = own_site()
    viewer = look(site).arrive("/?hours=6")
    viewer.forgive(REFUSED)
    command = [sys.executable, "-m", "amiga_ws", "revoke", "--subject", "owner"]
    environment = clean_environment(PYTHONPATH=str(CHECKOUT))
    done = completed([*command, "--set", f"state_dir={site.state_dir}"], cwd=site.folder, env=environment)
    assert done.returncode == 0, done.stderr
    expect(viewer["#tasks tbody tr"]).to_have_count(0, timeout=2000)
    asked = []
    viewer.page.on("request", lambda request: asked.append(request.url))
    viewer.page.wait_for_timeout(2500)
    assert len([url for url in asked if "/ws" in url or "/api/" in url]) <= 2, asked
    comes_back(viewer)
    expect(viewer['#window [data-hours="6"]']).to_have_attribute("aria-pressed", "true")


def comes_back(viewer, pasted="{}"):
    """Sign in where the page asks for it: the sign-in page, or the panel in place."""
    token = viewer["#token, #signin-panel-token"].locator("visible=true")
    expect(token).to_have_count(1)
    token.fill(pasted.format(viewer.site.token("owner")))
    token.press("Enter")
    viewer.live()


def test_expired_session_signs_in_in_place(expiring):
    """The page stays, the view stays, only the stream ends."""
    viewer = expiring
    expect(viewer["#signin-panel"]).to_be_visible(timeout=40_000)
    expect(viewer["#drawer"]).to_be_hidden()  # it had been open, and would cover what must be seen first
    expect(viewer["#signedout-reason"]).to_contain_text("expired")
    back = viewer["#signin-page"].evaluate("(link) => new URL(link.href).searchParams.get('next')")
    assert back == viewer.page.evaluate("location.pathname + location.search")
    assert "hours=6" in back, back
    expect(viewer.number("overview.tasks.total")).to_have_attribute("data-value", "4")
    with viewer.page.expect_response("**/api/metrics/timeseries?*") as refused:
        viewer['#charts-window [data-hours="24"]'].click()
    assert refused.value.status == 401
    asked = []
    viewer.page.on("request", lambda request: asked.append(request.url))
    viewer.page.wait_for_timeout(4000)
    assert asked == []
    expect(viewer["#signin-panel"]).not_to_be_in_viewport()
    expect(viewer["#banner-title"]).to_have_text("Signed out.")
    expect(viewer["#banner"]).to_be_in_viewport(ratio=1)
    expect(viewer["#signin-panel-token"]).not_to_be_focused()  # somebody reads elsewhere
    viewer["#banner [data-retry]"].click()
    expect(viewer["#signin-panel-token"]).to_be_focused()
    expect(viewer["#signin-panel"]).to_be_in_viewport(ratio=1)
    comes_back(viewer, "Bearer {}")
    expect(viewer["#charts"]).to_have_attribute("data-state", "ready")
    expect(viewer["#signin-panel"]).to_be_hidden()
    expect(viewer["#drawer"]).to_have_attribute("data-state", "read")
    viewer.page.keyboard.press("Escape")
    assert viewer.page.evaluate("window.sameDocument") is True
    expect(viewer['#window [data-hours="6"]']).to_have_attribute("aria-pressed", "true")
    viewer.site.sim.queue_task("After signing in again")
    expect(viewer["#tasks tbody"]).to_contain_text("After signing in again", timeout=3000)
    assert viewer.unforgiven() == []
