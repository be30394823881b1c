"""The sign-in page: what it says when it says no, and where it leads to."""

from __future__ import annotations

import re
from urllib.parse import urlencode

import pytest
from playwright.sync_api import expect

ANONYMOUS = r"status of 401 .*/api/session\b"  # Chromium reports each refused request
JWT = re.compile(r"eyJ[\w-]+\.[\w-]+")

# What `next` may try: each would leave for another site where it is believed.
FOREIGN = (
    "//evil.example/",
    "https://evil.example/",
    "/\\evil.example/",
    "\\\\evil.example",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "http:evil.example",
    "https:///evil.example",
    "/\t/evil.example/",
    "//user@evil.example:80/",
    "/login?next=//evil.example/",
    "//evil.example/",  # the last is also followed
)


@pytest.fixture
def stranger(viewer):
    """Somebody on the sign-in page."""
    viewer.forgive(ANONYMOUS)
    viewer.open("/login")
    return viewer


def attempt(viewer, token):
    viewer["#token"].fill(token)
    viewer["#signin"].click()


def test_page_says_how_to_get_a_token(stranger):
    expect(stranger[".how"]).to_contain_text("scripts/mktoken.py --login")
    expect(stranger["#token"]).to_be_focused()
    expect(stranger["#already"]).to_be_hidden()


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("", "Paste a token first."),
        ("not a token", "does not look like a token"),
        ("<img src=x onerror=alert(1)>", "does not look like a token"),
        ("eyJhbGciOiJub25lIn0.e30.AAAA", "The token is not accepted"),
    ],
)
def test_bad_token_is_explained(stranger, token, words):
    attempt(stranger, token)
    message = stranger["#message"]
    expect(message).to_have_attribute("data-kind", "error")
    expect(message).to_contain_text(words)
    expect(stranger["#signin"]).to_be_enabled()
    assert stranger.page.url.endswith("/login")


def test_expired_token_is_explained(stranger, site):
    token = site.token("ada", "--ttl", "1s")
    stranger.page.wait_for_timeout(1100)
    attempt(stranger, token)
    expect(stranger["#message"]).to_contain_text("expired")


def test_used_link_is_explained_and_leaves_the_address_bar(stranger, look, site):
    link = site.login_link()
    first = look(site)
    first.page.goto(link)
    first.live()
    stranger.page.goto(link)
    expect(stranger["#message"]).to_contain_text("link has been used")
    expect(stranger["#message"]).to_contain_text("mktoken.py --login")
    assert stranger.page.url == f"{site.url}/login"


def test_sixth_failed_sign_in_in_a_minute_has_to_wait(look, own_site):
    viewer = look(own_site(furnish=False))
    viewer.forgive(r"status of (401|429)")
    viewer.open("/login")
    for _ in range(6):
        attempt(viewer, "eyJhbGciOiJub25lIn0.e30.AAAA")
        expect(viewer["#signin"]).to_be_enabled()
    expect(viewer["#message"]).to_contain_text(re.compile(r"failed sign-ins.* again in \d+ s", re.S))


def test_token_signs_in_and_stays_nowhere_a_script_can_read(stranger, site):
    attempt(stranger, site.token("grace"))
    stranger.page.wait_for_url(f"{site.url}/")
    stranger.live()
    expect(stranger["#who-subject"]).to_have_text("grace")
    kept = stranger.page.evaluate(
        """() => [document.cookie, location.href, history.state, name, document.documentElement.outerHTML,
          JSON.stringify(localStorage), JSON.stringify(sessionStorage)].join(" ")"""
    )
    assert not JWT.search(kept)
    [cookie] = stranger.page.context.cookies()
    assert cookie["name"] == f"amiga_session_{site.port}"
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", "/")


@pytest.mark.parametrize(
    "pasted",
    ["http://127.0.0.1:9/login#login={}", "Bearer {}", "Authorization: Bearer {}", " {} "],
    ids=["link", "bearer", "header", "blanks"],
)
def test_what_has_a_token_in_it_can_be_pasted_as_it_is(stranger, site, pasted):
    attempt(stranger, pasted.format(site.token("grace")))
    stranger.page.wait_for_url(f"{site.url}/")


def test_a_link_that_was_broken_over_lines_is_put_together(stranger, site):
    link = site.login_link()
    broken = " ".join(link[at : at + 40] for at in range(0, len(link), 40))  # as a field of one line gets it
    attempt(stranger, broken)
    stranger.page.wait_for_url(f"{site.url}/")
    assert stranger.page.evaluate("location.hash") == ""


@pytest.mark.parametrize("width", [390, 1440])
def test_only_what_is_to_be_typed_has_a_box_of_its_own(look, site, width):
    viewer = look(site, viewport={"width": width, "height": 900})
    viewer.forgive(ANONYMOUS)
    viewer.open("/login")
    displays = "(codes) => codes.map((code) => getComputedStyle(code).display)"
    assert viewer[".how dd code"].evaluate_all(displays) == ["block"] * 3
    assert viewer[".how p code"].evaluate_all(displays) == ["inline"]
    assert viewer.sideways_px() == 0


def test_one_who_is_signed_in_is_told_and_led_on(stranger, site):
    stranger.arrive()
    stranger.open("/login?next=/websocket-test")
    expect(stranger["#already-subject"]).to_have_text("owner")
    stranger["#already-link"].click()
    stranger.page.wait_for_url(f"{site.url}/websocket-test")


def test_next_leads_to_no_other_site(viewer, site):
    """Neither by the link that is offered to one who is signed in, nor after signing in."""
    viewer.arrive()
    for wanted in FOREIGN:
        viewer.open("/login?" + urlencode({"next": wanted}))
        expect(viewer["#already"]).to_be_visible()
        assert viewer["#already-link"].evaluate("(link) => link.origin") == site.url, wanted
    asked = []
    viewer.page.on("request", lambda request: asked.append(request.url))
    attempt(viewer, site.token())
    viewer.page.wait_for_url(lambda url: "/login" not in url)
    viewer.live()
    assert all(url.startswith((f"{site.url}/", "data:image")) for url in asked), asked


def test_token_in_the_query_is_refused_and_not_shown(viewer, site):
    viewer.forgive("status of 400")
    token = site.token()
    reply = viewer.open(f"/?token={token}")
    assert reply.status == 400
    assert token not in viewer.page.content()
    assert token not in site.log()


def test_link_opened_from_another_site_arrives_signed_in(viewer, site):
    """The cookie is SameSite=Lax: a link in a chat to the dashboard is a top-level navigation."""
    viewer.arrive()
    viewer.page.goto(f"data:text/html,<a href='{site.url}/'>dashboard</a>")
    viewer["a"].click()
    viewer.live()
