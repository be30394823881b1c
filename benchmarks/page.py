"""What the dashboard costs the one who looks at it, in a real Chromium, beside the pages of Glances and Flower.

    .venv/bin/python benchmarks/page.py                # four minutes
    .venv/bin/python benchmarks/page.py --updates 200  # does it run?
    .venv/bin/python benchmarks/page.py --no-peers

CHROMIUM names the browser. The peers' packages (`page-requirements.txt`) go below `.bench/page` at the first run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # this checkout, whatever is installed
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "e2e"))

from installed import Site  # from the tests: a server with a simulated AMIGA
from page_peers import peers
from playwright.sync_api import Browser, CDPSession, Page, WebSocketRoute, sync_playwright

CHECKOUT = Path(__file__).resolve().parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LOADS = 5
BEAT_S = 0.05  # 20 Hz
WARM, DRAWN = 100, 100  # updates before anything is measured, and those that are
DEMO_S = 40.0  # then its week is in the history
MOST_BYTES, MOST_FIRST_MS, MOST_UPDATE_MS, MOST_GROWTH = 90_000, 1000, 50, 0.05

# When the first numbers stand in the page, in ms since it was asked for.
FIRST = """new MutationObserver((_, seen) => {
  if (document.body?.hasAttribute("data-loaded")) { window.firstNumbers = performance.now(); seen.disconnect(); }
}).observe(document, { subtree: true, childList: true, attributes: true });"""


def main() -> int:
    """Exit code 0, or 1 where a budget is not kept."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--updates", type=int, default=1800, help="of the whole page at 20 Hz (1800)")
    parser.add_argument("--no-peers", dest="peers", action="store_false")
    parser.add_argument("--cache", type=Path, default=CHECKOUT / ".bench" / "page")
    parser.add_argument("--json", type=Path, default=CHECKOUT / ".bench" / "page.json")
    given = parser.parse_args()
    chromium = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        parser.error("no Chromium on this machine: install it, or set CHROMIUM")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="amiga-bench-")))
        site = stack.enter_context(Site(folder, amiga=False, demo=True))
        site.start()
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        stack.callback(browser.close)
        time.sleep(DEMO_S)
        found = {"ours": ours(browser, site, given.updates)}
        found["peers"] = peers(lambda: looked_at(browser), given.cache) if given.peers else {}
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(found, indent=2))
    return report(found["ours"], found["peers"])


def ours(browser: Browser, site: Site, updates: int) -> dict[str, Any]:
    """All figures of our dashboard."""
    name, value = site.session()

    @contextmanager
    def dashboard(script: str = "") -> Iterator[tuple[Page, Load]]:
        with looked_at(browser) as (page, load):
            page.context.add_cookies([{"name": name, "value": value, "url": site.url}])
            page.add_init_script(script)
            yield page, load

    loads = []
    for _ in range(LOADS):
        with dashboard(FIRST) as (page, load):
            page.goto(site.url)
            page.wait_for_selector("#charts[data-state=ready]")
            page.wait_for_load_state("networkidle")
            told = load.told()
            page.locator("#charts").scroll_into_view_if_needed()
            page.wait_for_selector("#charts[data-plot=drawn]")
            all_bytes = load.told()["bytes"]
            loads.append({**told, "all_bytes": all_bytes, "first_ms": page.evaluate("firstNumbers")})
    with dashboard() as (page, _):
        page.goto(site.url)
        page.locator("#charts").scroll_into_view_if_needed()
        page.wait_for_selector("#charts[data-plot=drawn]")
        drawn = page.evaluate(Path(__file__).with_suffix(".js").read_text("utf-8"), [WARM, DRAWN])
    with dashboard() as (page, _):
        kept = whole_page(page, site.url, updates)
    script, whole = zip(*drawn["took"], strict=True)
    return {
        **loads[-1],
        **kept,
        "first_ms": statistics.median(one["first_ms"] for one in loads),
        "charts": drawn["charts"],
        "script_ms": statistics.median(script),
        "drawn_ms": statistics.median(whole),
    }


def whole_page(page: Page, url: str, updates: int) -> dict[str, Any]:
    """Full snapshots at 20 Hz, each another one, through the page's own client: what is left on the heap."""
    sockets: list[WebSocketRoute] = []
    newest: dict[str, Any] = {}

    def between(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        def passed(message: str | bytes) -> None:
            frame = json.loads(message)
            if frame.get("event") == "metrics_update":
                newest.update(frame["data"])
            socket.send(message)

        server.on_message(passed)
        sockets.append(socket)

    page.route_web_socket("**/ws", between)
    page.goto(url)
    page.wait_for_selector("body[data-loaded]")
    page.locator("#charts").scroll_into_view_if_needed()
    page.wait_for_selector("#charts[data-plot=drawn]")
    cdp = page.context.new_cdp_session(page)
    cdp.send("Performance.enable")
    # V8 goes on compiling and making caches for some 2,000 snapshots: by 500 each 0.21, 0.15, 0.08, 0.03, -0.02 MB.
    feed(page, sockets[-1], newest, max(2 * WARM, updates))
    before, nodes, busy_s = heap(cdp)
    feed(page, sockets[-1], newest, updates)
    after, nodes_after, busy_after_s = heap(cdp)
    return {
        "updates": updates,
        "heap": (before, after),
        "nodes": (nodes, nodes_after),
        "page_ms": 1000 * (busy_after_s - busy_s) / updates,
    }


def feed(page: Page, socket: WebSocketRoute, newest: dict[str, Any], count: int) -> None:
    """Send `count` snapshots that differ in many numbers."""
    began = time.monotonic()
    for i in range(count):
        data = json.loads(json.dumps(newest))
        data["timestamp"] = time.time()
        system = data["overview"]["system"]
        system["cpu_percent"] = (i * 37) % 100
        system["memory"]["percent"] = (i * 13) % 100
        system["network"] = {"rx_bytes_s": i * 977 % 10_000_000, "tx_bytes_s": i * 577 % 10_000_000}
        data["overview"]["tasks"]["running"] = i % 9
        data["activity"] = data["activity"][i % 5 :]
        socket.send(json.dumps({"event": "metrics_update", "data": data}))
        page.wait_for_timeout(max(1, 1000 * (began + (i + 1) * BEAT_S - time.monotonic())))


def heap(cdp: CDPSession) -> tuple[int, int, float]:
    """(bytes in use after a collection, DOM nodes, seconds the main thread has worked)."""
    for _ in range(3):
        cdp.send("HeapProfiler.collectGarbage")
    used = cdp.send("Runtime.getHeapUsage")["usedSize"]
    metrics = {one["name"]: one["value"] for one in cdp.send("Performance.getMetrics")["metrics"]}
    return used, cdp.send("Memory.getDOMCounters")["nodes"], metrics["TaskDuration"]


class Load:
    """Counts what a page loads: bodies as they come over the wire (gzipped where they are), and the headers."""

    def __init__(self, cdp: CDPSession) -> None:
        self._begun: dict[str, tuple[str, int]] = {}  # by request: its kind, and the bytes of the head
        self._bodies: dict[str, int] = {}  # by kind
        self._all = self._requests = 0
        cdp.send("Network.enable")
        cdp.on("Network.responseReceived", self._head)
        cdp.on("Network.loadingFinished", self._finished)

    def _head(self, event: dict[str, Any]) -> None:
        self._begun[event["requestId"]] = event["type"], int(event["response"]["encodedDataLength"])

    def _finished(self, event: dict[str, Any]) -> None:
        kind, head = self._begun.get(event["requestId"], ("Other", 0))
        size = int(event["encodedDataLength"])
        self._bodies[kind] = self._bodies.get(kind, 0) + size - head
        self._all += size
        self._requests += 1

    def told(self) -> dict[str, Any]:
        """As of now."""
        bodies = sum(self._bodies.values())
        return {
            "bytes": bodies,
            "headers": self._all - bodies,
            "requests": self._requests,
            "kinds": dict(self._bodies),
        }


@contextmanager
def looked_at(browser: Browser) -> Iterator[tuple[Page, Load]]:
    """A page of a fresh browser profile, and what it loads."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    try:
        yield page, Load(context.new_cdp_session(page))
    finally:
        context.close()


def report(mine: dict[str, Any], others: dict[str, Any]) -> int:
    """Print it; 1 where a budget is not kept."""
    before, after = mine["heap"]
    charts = f"{mine['charts']} charts of 300 points updated"
    budgets = [
        ("first load, all bodies, gzipped (kB)", mine["bytes"] / 1000, MOST_BYTES / 1000),
        ("first numbers (ms)", mine["first_ms"], MOST_FIRST_MS),
        (f"{charts} (ms)", mine["script_ms"], MOST_UPDATE_MS),
        (
            f"heap growth over {mine['updates']} snapshots at 20 Hz (%)",
            100 * (after / before - 1),
            100 * MOST_GROWTH,
        ),
    ]
    for what, value, most in budgets:
        print(f"{what:<58}{value:>8.1f}  {'of' if value <= most else 'OVER'} {most:g}")
    print(f"{'… and once the charts are looked at (kB)':<58}{mine['all_bytes'] / 1000:>8.1f}")
    print(f"{'… and every pixel drawn by software (ms)':<58}{mine['drawn_ms']:>8.1f}")
    print(f"{'main thread for one snapshot, whole page (ms)':<58}{mine['page_ms']:>8.1f}")
    print(f"{'heap after collection (MB)':<58}{before / 1e6:>8.2f}  → {after / 1e6:.2f}")
    print(f"{'DOM nodes':<58}{mine['nodes'][0]:>8}  → {mine['nodes'][1]}")
    print(f"\n{'page':<10}{'kB':>8}{'+ headers':>11}{'requests':>10}{'charts':>8}   afterwards")
    for name, row in {"ours": {**mine, "again": "a stream"}, **others}.items():
        if isinstance(row, str):
            print(f"{name:<10}{row}")
            continue
        sizes = f"{row['bytes'] / 1000:>8.1f}{row['headers'] / 1000:>11.1f}"
        print(f"{name:<10}{sizes}{row['requests']:>10}{row['charts']:>8}   {row['again']}")
    print(
        f"\nours by kind: {', '.join(f'{kind} {size / 1000:.1f} kB' for kind, size in mine['kinds'].items())}"
    )
    return 0 if all(value <= most for _, value, most in budgets) else 1


if __name__ == "__main__":
    sys.exit(main())
