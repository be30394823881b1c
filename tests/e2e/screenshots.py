"""Pictures in a real browser: of the demonstration for the documentation (`scripts/screenshots [FOLDER]`), and of every
state of the dashboard, with a page to leaf through them (`scripts/screenshots --states [FOLDER]`).

Not a test; it lives here because it looks at pages the way the tests do.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import album
from installed import Site
from playwright.sync_api import expect, sync_playwright
from processes import CHECKOUT
from viewing import Viewer

MAX_BYTES = 300_000  # they are kept in the repository
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PHONE, DESK = (390, 844, 2), (1440, 900, 1)  # width, height, device pixels a CSS pixel
WRITTEN_AGAIN_MS = 20_000  # history then knows what was read last (recorder.LEAST_AGAIN_S)
SETTLE_MS = 3000  # two ticks: rates and the CPU need a second reading


def main():
    """Exit code: 0, or 1 with a sentence."""
    parser = argparse.ArgumentParser(
        prog="scripts/screenshots", description="Take the documentation's pictures."
    )
    parser.add_argument("folder", nargs="?", type=Path, help="docs/images, or with --states var/states")
    parser.add_argument("--states", action="store_true", help="every state of the dashboard instead")
    given = parser.parse_args()
    usual = CHECKOUT / "var" / "states" if given.states else CHECKOUT / "docs" / "images"
    folder = given.folder or usual
    chromium = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        return complain("no Chromium on this machine: install it, or set CHROMIUM")
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="amiga-screenshots-")))
        if given.states:
            playwright = stack.enter_context(sync_playwright())
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            stack.callback(browser.close)
            print(album.build(browser, temporary, folder))  # noqa: T201 - the answer of a command
            return 0
        site = stack.enter_context(Site(temporary, amiga=False, demo=True))
        site.start()
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        stack.callback(browser.close)
        sizes = {picture: picture.stat().st_size for picture in take(browser, site, folder)}
    for picture, size in sizes.items():
        print(f"{picture} {size // 1000} kB", file=sys.stderr)  # noqa: T201 - the answer of a command
    if max(sizes.values()) > MAX_BYTES:
        return complain(f"a picture is larger than {MAX_BYTES // 1000} kB")
    return 0


def take(browser, site, folder):
    """Every picture there is; yields where it was written."""
    # a history of two days takes a while, and its transcripts come last
    early = look(browser, site, DESK, "dark")
    expect(early.number("overview.claude_api.cache_read_tokens")).to_contain_text("M", timeout=120_000)
    early.page.wait_for_timeout(WRITTEN_AGAIN_MS)
    early.page.context.close()
    for scheme in ("dark", "light"):
        for size in (PHONE, DESK):
            page = look(browser, site, size, scheme)
            page.live()
            expect(page["#tasks tbody tr"].nth(8)).to_be_attached(timeout=30_000)
            # the bot's process is sought now and then
            expect(page.number("overview.system.processes.amiga.rss")).to_contain_text("iB", timeout=60_000)
            page.page.wait_for_timeout(SETTLE_MS)
            yield shoot(page, folder / f"dashboard-{scheme}-{size[0]}.png")
    for scheme, size in (("dark", DESK), ("light", PHONE)):
        page = look(browser, site, size, scheme, "/?status=failed&sort=-tool_calls")
        page.live()
        page["#tasks tbody tr"].first.locator('[data-field="description"]').click()
        expect(page["#drawer"]).to_have_attribute("data-state", "read")
        failed = page['#waterfall [data-state="failed"] summary']
        if failed.count():
            failed.first.click()
        page.page.wait_for_timeout(SETTLE_MS)
        yield shoot(page, folder / f"task-{scheme}-{size[0]}.png")
    yield shoot(look(browser, site, DESK, "dark", "/login", signed_in=False), folder / "login-dark-1440.png")
    page = look(browser, site, DESK, "dark", "/websocket-test")
    page["#connect"].click()
    page["#subscribe"].click()
    expect(page["#metrics"]).to_contain_text('"hours": 24')
    page.page.wait_for_timeout(SETTLE_MS)
    yield shoot(page, folder / "websocket-test-dark-1440.png")


def look(browser, site, size, scheme, path="/", *, signed_in=True):
    """A page of a fresh browser."""
    width, height, scale = size
    context = browser.new_context(
        viewport={"width": width, "height": height}, device_scale_factor=scale, color_scheme=scheme
    )
    viewer = Viewer(context, site)
    if signed_in:
        viewer.gets_session()
    viewer.open(path)
    return viewer


def shoot(viewer, picture):
    """Write the picture and close its browser window."""
    viewer.page.wait_for_load_state()
    viewer.page.screenshot(path=picture, animations="disabled", caret="initial")
    viewer.page.context.close()
    return picture


def complain(text):
    print(f"scripts/screenshots: {text}", file=sys.stderr)  # noqa: T201 - the answer of a command
    return 1


if __name__ == "__main__":
    sys.exit(main())
