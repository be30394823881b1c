"""Every state of the dashboard, each brought about for real: the tests look at them, `scripts/screenshots` keeps them.

A state is arranged once; pages that were opened before it happened (`before`) see it happen (`act`) and must show it
(`after`).
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from installed import Site
from playwright.sync_api import expect
from slow import SlowLine

DARK, LIGHT = "dark", "light"
PHONE, DESK = (390, 844), (1440, 900)
VARIANTS = [(scheme, size) for scheme in (DARK, LIGHT) for size in (PHONE, DESK)]
LOST = r"ERR_CONNECTION_REFUSED|WebSocket connection|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET|ERR_ABORTED"
REFUSED = r"status of 40[13]|WebSocket connection"
CLI = "f532a6cd-3118-48c0-83c5-5850f837beb2"


def nothing(*_):
    """Nothing to do."""


def staged(state, folder, look):
    """Each variant's Viewer, once it shows the state. `look(site, **options)` opens a browser window."""
    with state.arrange(folder) as site:
        viewers = []
        for scheme, (width, height) in VARIANTS:
            size = {"width": width, "height": height}
            # without motion: what is looked at has arrived where it belongs
            given = {"viewport": size, "color_scheme": scheme, "reduced_motion": "reduce"}
            viewer = look(site, **given, device_scale_factor=2 if width < 500 else 1)
            viewer.forgive(state.forgives)
            viewer.variant = f"{scheme}-{width}"
            state.before(viewer)
            viewers.append(viewer)
        state.act(site, viewers)
        for viewer in viewers:
            state.after(viewer)
            yield viewer


@dataclass(frozen=True)
class State:
    """One state. `says` is what the page does in it; `forgives`, what Chromium itself will complain of."""

    name: str
    says: str
    arrange: Callable[[Any], Any]  # folder → context manager of a started Site
    before: Callable[[Any], None]
    after: Callable[[Any], None] = nothing
    act: Callable[[Any, list[Any]], None] = nothing
    forgives: str = "^$"


def arriving(path="/"):
    return lambda viewer: viewer.arrive(path)


# -- installations -------------------------------------------------------------------------------


@contextmanager
def furnished(folder, *overrides, **more):
    """A working AMIGA: tasks in every state, one of them at much work."""
    with Site(folder, *overrides, **more) as site:
        site.furnish()
        work(site.sim, time.time())
        site.start()
        yield site


def work(sim, now):
    """A task with many calls of many kinds, and one whose process has gone."""
    task = sim.start_task(
        description="Make the nightly import of storefront resumable after a crash", at=now - 540
    )
    steps = (
        ("Read", {"file_path": "/srv/code/storefront/importer/run.py"}, 1.2),
        ("Grep", {"pattern": "checkpoint", "path": "importer/"}, 0.6),
        ("Task", {"description": "Find every place that opens the feed", "subagent_type": "code_agent"}, 96),
        ("Edit", {"file_path": "/srv/code/storefront/importer/run.py", "old_string": "feed.open()"}, 2.1),
        ("Bash", {"command": "pytest -q tests/importer", "description": "Run the importer's tests"}, 74),
        ("Edit", {"file_path": "/srv/code/storefront/importer/state.py"}, 1.4),
        ("Bash", {"command": "pytest -q tests/importer", "description": "Run them again"}, 81),
        ("WebFetch", {"url": "https://docs.example.org/sqlite/savepoints"}, 6.5),
        ("Bash", {"command": "git commit -am 'Resume the import'"}, 1.1),
    )
    at = now - 530
    for number, (tool, parameters, took) in enumerate(steps):
        call = sim.start_tool(task, tool, parameters, at=at)
        failed = number == 4  # the first run of the tests
        error = (
            "FAILED tests/importer/test_resume.py::test_after_a_crash - AssertionError" if failed else None
        )
        sim.end_tool(call, ok=not failed, error=error, at=at + took)
        at += took + 12
    sim.add_activity(task, "Processing... 128 output lines", at=now - 200)
    sim.start_tool(
        task, "Bash", {"command": "scripts/replay --feed storefront --from 2026-11-01"}, at=now - 24
    )
    sim.end_tool(sim.start_tool(CLI, "Bash", {"command": "make"}, at=now - 90), at=now - 80)


@contextmanager
def first_run(folder):
    with Site(folder, amiga=False) as site:
        site.start()
        yield site


@contextmanager
def silent(folder):
    """A task at work of which nothing has been heard for nine minutes."""
    with Site(folder) as site:
        now = time.time()
        task = site.sim.start_task(description="Fix flaky login test", at=now - 900)
        site.sim.end_tool(site.sim.start_tool(task, "Bash", at=now - 600), at=now - 540)
        site.start()
        yield site


@contextmanager
def quiet(folder):
    """Nothing has happened for three hours."""
    with Site(folder) as site:
        at = time.time() - 3 * 3600
        task = site.sim.start_task(description="Write release notes", model="haiku", at=at - 300)
        site.sim.end_tool(site.sim.start_tool(task, "Read", at=at - 200), at=at - 190)
        site.sim.complete_task(task, at=at)
        site.start()
        yield site


@contextmanager
def another_system(folder):
    """A system that tells little, and a model that nobody has a price for."""
    lacking = ("getloadavg", "swap_memory", "disk_io_counters", "net_io_counters")
    with Site(folder, without=lacking) as site:
        site.furnish()
        for _ in range(7):
            site.sim.add_message("assistant", "Done.", model="claude-next-1", tokens=(1200, 300))
        site.start()
        yield site


@contextmanager
def behind_a_slow_line(folder):
    line = SlowLine()
    try:
        with furnished(folder, f"server.public_url=http://127.0.0.1:{line.port}") as site:
            line.target = site.port
            site.line = line
            yield site
    finally:
        line.close()


# -- what happens, and what is seen --------------------------------------------------------------


def break_database(site, _):
    site.sim.close()
    site.sim.database.write_bytes(b"this is not a database" * 1000)


def fall_behind(site, viewers):
    """Much is sent while the line is held, more than its buffers take; each window is a snapshot of its own."""
    site.line.hold()
    noise = random.Random(1)
    for key in "12341234123412341234":
        with site.sim.batch():
            for _ in range(12):
                site.sim.queue_task(noise.randbytes(90).hex())
        for viewer in viewers:
            viewer.page.keyboard.press(key)
        time.sleep(0.6)
    site.line.release()


def through_the_line(viewer):
    viewer.gets_session()
    viewer.page.goto(f"http://127.0.0.1:{viewer.site.line.port}/")
    viewer.live()


def signs_in_for_moments(viewer):
    viewer.open("/login?next=/")
    viewer["#token"].fill(viewer.site.token("owner", "--ttl", "12s"))
    viewer["#signin"].click()
    viewer.live()


def sees(selector, text=None, within_s=20.0):
    def look(viewer):
        expect(viewer[selector].first).to_be_visible(timeout=within_s * 1000)
        if text is not None:
            expect(viewer[selector].first).to_contain_text(text, timeout=within_s * 1000)

    return look


def opens(description, *, call=None):
    """Open a task, and one of its calls."""

    def do(viewer):
        viewer["#tasks tbody tr"].filter(has_text=description).locator('[data-field="description"]').click()
        expect(viewer["#drawer"]).to_have_attribute("data-state", "read")
        if call is not None:
            viewer["#waterfall li"].filter(has_text=call).first.locator("summary").click()

    return do


def freezes(viewer):
    viewer["#freeze"].click()
    expect(viewer["#freeze-lag"]).to_have_text(re.compile(r"LIVE \+(?![01]\s)"))


def unknown_is_told(viewer):
    dash = "\N{EN DASH}"
    expect(viewer.number("overview.system.load.0")).to_have_text(dash)
    expect(viewer.number("overview.system.network.rx_bytes_s")).to_have_text(dash)
    expect(viewer["#spend-unpriced"]).to_contain_text("without a price")


def old_values_stay(viewer):
    expect(viewer["#tile-tasks .source-note"]).to_be_visible(timeout=20_000)
    expect(viewer["#broken"]).to_contain_text("not a database")
    expect(viewer.number("overview.tasks.total")).to_have_attribute("data-value", "5")


STATES = [
    State(
        "working",
        "All is read; what needs somebody stands above.",
        furnished,
        arriving(),
        sees("#tasks tbody tr"),
    ),
    State(
        "task",
        "A task at work, in the drawer.",
        furnished,
        arriving(),
        opens("nightly import", call="pytest"),
    ),
    State(
        "task-failed",
        "A task that failed, and why.",
        furnished,
        arriving(),
        opens("Upgrade the parser", call="Edit"),
    ),
    State(
        "first-run",
        "No AMIGA: where it was looked for, what to set, what to try. The host is live.",
        first_run,
        arriving(),
        sees("#no-amiga", "--demo"),
    ),
    State(
        "bot-silent",
        "Nothing heard from AMIGA while a task runs; the rest moves.",
        silent,
        arriving(),
        sees("#tile-bot .tile-note", "no event for"),
    ),
    State(
        "source-broken",
        "The database cannot be read: cause, path, what to do. The last good values stay, and look old.",
        furnished,
        arriving(),
        old_values_stay,
        break_database,
    ),
    State(
        "connection-lost",
        "The server cannot be reached: told after 5 s, with the age of the values and the next try.",
        furnished,
        arriving(),
        sees("#banner", "Next try in"),
        lambda site, _: site.stop(),
        LOST,
    ),
    State(
        "signed-out",
        "The session is over: sign in in place, nothing is tried again by itself.",
        furnished,
        signs_in_for_moments,
        sees("#signin-panel", "expired", within_s=90.0),
        forgives=REFUSED,
    ),
    State(
        "not-available",
        "What this system does not tell, and what has no price, is a dash and never 0.",
        another_system,
        arriving(),
        unknown_is_told,
    ),
    State(
        "empty-filter",
        "No task matches: says so and leads out.",
        furnished,
        arriving("/?q=nothing-has-this-name"),
        sees("#tasks-empty", "No task matches this filter."),
    ),
    State(
        "empty-window",
        "Nothing in this window: when there was something last, and the nearest window that has it.",
        quiet,
        arriving("/?hours=1"),
        sees("#tools-empty", "Show 6"),
    ),
    State(
        "slow-client",
        "This device fell behind and has caught up: how late, how many were merged.",
        behind_a_slow_line,
        through_the_line,
        sees("#toast", "merged"),
        fall_behind,
    ),
    State("frozen", "The values stand still; LIVE leads back.", furnished, arriving(), freezes),
]
