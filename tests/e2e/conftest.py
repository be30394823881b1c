"""Chromium for the tests of this folder, and the server it looks at."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from installed import Site
from playwright.sync_api import expect, sync_playwright
from viewing import Viewer

CHROMIUM = os.environ.get("CHROMIUM")

expect.set_options(timeout=15_000)  # a busy machine takes its time; only a test that fails waits for it


# Not for the whole session: a running sync_playwright keeps an asyncio loop on this thread, which others need.
@pytest.fixture(scope="module")
def chromium():
    """The browser itself. Without one the tests are skipped here and refused in CI."""
    if not CHROMIUM:
        reason = "no Chromium: set CHROMIUM, or start the tests with scripts/test"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A server of the module's own on a small furnished AMIGA."""
    with Site(tmp_path_factory.mktemp("site")) as site:
        site.furnish().start()
        yield site


@pytest.fixture
def own_site(tmp_path):
    """own_site("key=value", ...) → a server of this test alone, started."""
    with ExitStack() as sites:

        def make(*overrides, furnish=True, **more):
            folder = Path(tempfile.mkdtemp(dir=tmp_path))
            site = sites.enter_context(Site(folder, *overrides, **more))
            if furnish and site.sim is not None:
                site.furnish()
            site.start()
            return site

        yield make


@pytest.fixture
def look(chromium):
    """look(site, viewport=...) → a Viewer with cookies of its own; at the end none may have complained."""
    contexts, viewers = [], []

    def look(site, **options):
        context = chromium.new_context(**options)
        contexts.append(context)
        viewers.append(viewer := Viewer(context, site))
        return viewer

    yield look
    complaints = [text for viewer in viewers for text in viewer.unforgiven()]
    dialogs = [text for viewer in viewers for text in viewer.dialogs]
    for context in contexts:
        context.close()
    assert not complaints
    assert not dialogs


@pytest.fixture
def viewer(look, site):
    """Somebody who looks at the module's server, not signed in yet."""
    return look(site)
