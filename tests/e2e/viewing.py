"""A person at a browser: a page that remembers what it complained about."""

from __future__ import annotations

import re

from playwright.sync_api import expect

# Told to the console, where every complaint is collected, whichever document of the context it happens in.
LISTEN = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy violation: ${event.effectiveDirective} ${event.blockedURI} ${event.sample}`));
"""


# How high is the part of the page in which a touch at the middle of an element's width reaches it, px.
HIT = """(element) => {
  element.scrollIntoView({ block: "center" });
  const { x, y, width, height } = element.getBoundingClientRect();
  const hit = (at) => element.contains(document.elementFromPoint(x + width / 2, at));
  let [top, bottom] = [y + height / 2, y + height / 2];
  while (hit(top - 0.5)) top -= 0.5;
  while (hit(bottom + 0.5)) bottom += 0.5;
  return bottom - top;
}"""
# A page waits long for a server that says nothing; a test does not.
IMPATIENT = """const patient = AbortSignal.timeout.bind(AbortSignal);
AbortSignal.timeout = (ms) => patient(ms / 10);"""


class Viewer:
    """One page of a browser context. `complaints` is everything it should not have said."""

    def __init__(self, context, site):
        self.site = site
        self.complaints: list[str] = []
        self.dialogs: list[str] = []
        self._forgiven: list[str] = []
        context.add_init_script(LISTEN)
        self.page = context.new_page()
        self.page.set_default_timeout(20_000)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        self.page.on("dialog", self._dialog)

    def _console(self, message):
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.text} ({message.location.get('url', '')})")

    def _dialog(self, dialog):
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def forgive(self, pattern):
        """Chromium itself reports every refused request: say which ones the test provokes."""
        self._forgiven.append(pattern)

    def unforgiven(self):
        """What the page said that nobody expected."""
        return [text for text in self.complaints if not any(re.search(each, text) for each in self._forgiven)]

    # -- getting about ---------------------------------------------------------------------------

    def open(self, path="/"):
        return self.page.goto(self.site.url + path)

    def arrive(self, path="/", subject="owner", scope="metrics:read admin"):
        """Open a page with a session, as one who signed in some time ago."""
        self.gets_session(subject, scope)
        self.open(path)
        if path.partition("?")[0] == "/":
            self.live()
        return self

    def gets_session(self, subject="owner", scope="metrics:read admin"):
        """Give the browser the cookie of a sign-in; the `Cookie` header it will send."""
        name, value = self.site.session(subject, scope)
        self.page.context.add_cookies(
            [{"name": name, "value": value, "url": self.site.url, "httpOnly": True, "sameSite": "Lax"}]
        )
        return f"{name}={value}"

    def polls(self):
        """From now on neither WebSocket nor event stream comes through."""
        self.forgive(r"WebSocket connection|status of 502")
        self.page.route_web_socket("**/ws", lambda socket: socket.close(code=1011))
        self.page.route("**/api/stream/**", lambda route: route.fulfill(status=502, body="Bad Gateway"))
        return self

    def gets_no_answer(self, path):
        """From now on the server takes requests of that path and says nothing; nor does it anything."""
        self.page.route(path, lambda _: None)

    def live(self, within_s=20):
        """Wait until values have come over a working stream."""
        expect(self["#connection"]).to_have_attribute("data-state", "live", timeout=within_s * 1000)
        expect(self["body"]).to_have_attribute("data-loaded", "", timeout=within_s * 1000)

    def __getitem__(self, selector):
        return self.page.locator(selector)

    def number(self, field):
        """The exact value of a number on the page, by its path in the snapshot."""
        return self[f'[data-field="{field}"]'].first

    def fetch(self, path, **options):
        """{status, text} of a request by the page itself, cookie included."""
        script = """([path, options]) => fetch(path, options)
            .then(async (reply) => ({status: reply.status, text: await reply.text()}))"""
        return self.page.evaluate(script, [path, options])

    def sideways_px(self):
        """How far the page can be scrolled sideways: 0 where it fits."""
        return self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
