"""The administration page in a real browser, and pages that keep themselves signed in."""

from __future__ import annotations

from playwright.sync_api import expect
from viewing import IMPATIENT

HOSTILE = "<img src=x onerror=alert(1)>"
HOUR_MS = 3_600_000


def owner_at(look, site):
    owner = look(site).arrive("/admin")
    expect(owner["body"]).to_have_attribute("data-loaded", "")
    return owner


def row_of(viewer, subject):
    return viewer["#connections tr"].filter(has_text=subject)


def test_the_owner_sees_who_is_connected_and_disconnects_one(own_site, look):
    site = own_site()
    owner = owner_at(look, site)
    bob = look(site).arrive("/", subject="bob", scope="metrics:read")
    row = row_of(owner, "bob")
    expect(row.locator('[data-field="transport"]')).to_have_text("WebSocket")
    expect(row.locator('[data-field="address"]')).to_have_text("127.0.0.1")
    expect(row.locator('[data-field="window"]')).to_have_text("24 h / 2 s")
    expect(row.locator('[data-field="expires"]')).to_contain_text("in ")
    button = row.locator('[data-action="disconnect"]')
    button.click()
    expect(button).to_have_text("Disconnect: really?")
    expect(row).to_have_count(1)  # nothing has happened yet
    button.click()
    expect(row).to_have_count(0)
    expect(bob["#banner"]).to_be_visible()


def test_what_could_not_be_done_is_told_until_the_next_try(own_site, look):
    site = own_site()
    owner = owner_at(look, site)
    look(site).arrive("/", subject="bob", scope="metrics:read")
    owner.forgive("status of 503")
    answer = {"status": 503, "json": {"error": "The disk is full.", "ref": "abc123"}}
    owner.page.route("**/api/admin/connections/*", lambda route: route.fulfill(**answer))
    button = row_of(owner, "bob").locator('[data-action="disconnect"]')
    button.click()
    button.click()
    expect(owner["#status"]).to_have_text("The disk is full. (ref abc123)")
    for _ in range(2):  # the page has looked again
        with owner.page.expect_response("**/api/admin/refusals"):
            pass
    expect(owner["#status"]).to_have_text("The disk is full. (ref abc123)")
    owner.page.unroute("**/api/admin/connections/*")
    button.click()
    button.click()
    expect(row_of(owner, "bob")).to_have_count(0)
    expect(owner["#status"]).to_have_text("")


def test_a_server_that_says_nothing_is_told(own_site, look):
    owner = look(own_site())
    owner.page.add_init_script(IMPATIENT)
    owner.arrive("/admin")
    expect(owner["body"]).to_have_attribute("data-loaded", "")
    owner.gets_no_answer("**/api/admin/**")
    expect(owner["#status"]).to_have_text("The server does not answer.")
    owner["#revoke-value"].fill("bob")
    owner["#revoke-button"].click()
    expect(owner["#revoke-message"]).to_have_text("The server does not answer.")
    owner.page.unroute("**/api/admin/**")
    expect(owner["#status"]).to_have_text("")


def test_revoking_takes_the_page_of_another_away(own_site, look):
    site = own_site()
    owner = owner_at(look, site)
    bob = look(site).arrive("/", subject="bob", scope="metrics:read")
    bob.forgive("status of 401")
    button = row_of(owner, "bob").locator('[data-action="revoke"]')
    button.click()
    button.click()
    expect(row_of(owner, "bob")).to_have_count(0)
    bob.page.wait_for_url("**/login**")
    expect(bob["#message"]).to_contain_text("taken back")
    expect(owner["#revocations li"]).to_have_count(1)


def test_a_subject_is_revoked_by_its_name(own_site, look):
    site = own_site()
    owner = owner_at(look, site)
    bob = look(site).arrive("/", subject="bob", scope="metrics:read")
    bob.forgive("status of 401")
    expect(row_of(owner, "bob")).to_have_count(1)  # else the page moves under the mouse
    owner["#revoke-button"].click()
    expect(owner["#revoke-message"]).to_have_text("Say which.")
    owner["#revoke-value"].fill("bob")
    owner["#revoke-button"].click()
    expect(owner["#revoke-message"]).to_have_text("Revoked.")
    expect(owner["#revocations li"]).to_contain_text("subject bob")
    bob.page.wait_for_url("**/login**")


def test_refusals_are_found_by_their_ref_and_stay_text(own_site, look):
    site = own_site()
    for path in (f"/{HOSTILE.replace(' ', '/')}", "/api/tasks"):
        site.ask("GET", path, {"Host": "evil.example"})
    ref = site.log().rpartition("ref=")[2].partition(":")[0]
    owner = owner_at(look, site)
    expect(owner["#refusals tr"]).to_have_count(2)
    expect(owner["#refusals"]).to_contain_text("onerror")
    assert owner["#refusals img"].count() == 0
    owner["#refusals-filter"].fill(ref)
    expect(owner["#refusals tr"]).to_have_count(1)
    expect(owner["#refusals tr"]).to_contain_text("/api/tasks")


def test_reasons_are_told_in_words_and_found_by_what_the_log_has(own_site, look):
    site = own_site()
    forged = site.token()[:-8] + "AAAAAAAA"
    site.ask("GET", "/api/tasks", {})
    site.ask("GET", "/api/tasks", {"Authorization": f"Bearer {forged}"})
    site.ask("GET", "/api/tasks", {"Host": "evil.example"})
    owner = owner_at(look, site)
    reasons = owner['#refusals [data-field="reason"]']
    expect(reasons).to_have_text(
        ["host evil.example", "signed with another key, or changed since", "no token and no session"]
    )
    expect(reasons.nth(1)).to_have_attribute("title", "InvalidSignatureError")
    owner["#refusals-filter"].fill("invalidsignature")
    expect(reasons).to_have_text(["signed with another key, or changed since"])
    owner["#refusals-filter"].fill("no session")
    expect(reasons).to_have_text(["no token and no session"])


def test_a_name_made_of_markup_stays_text(own_site, look):
    site = own_site()
    owner = owner_at(look, site)
    look(site).arrive("/", subject=HOSTILE, scope="metrics:read")
    expect(owner["#connections"]).to_contain_text(HOSTILE)
    assert owner["#connections img"].count() == 0


def test_only_the_owner_gets_the_page_and_the_way_to_it(own_site, look):
    site = own_site()
    bob = look(site).arrive("/", subject="bob", scope="metrics:read")
    bob["#who"].click()
    expect(bob["#admin-link"]).to_be_hidden()
    bob.forgive("status of 403")
    assert bob.open("/admin").status == 403
    expect(bob["main"]).to_contain_text('--scope "metrics:read admin"')
    bob["main a"].get_by_text("sign in as another").click()
    bob["#token"].fill(site.token("bob", "--scope", "metrics:read admin"))
    bob["#signin"].click()
    bob.page.wait_for_url(f"{site.url}/admin")
    owner = look(site).arrive("/")
    owner["#who"].click()
    owner["#admin-link"].click()
    expect(owner["body"]).to_have_attribute("data-loaded", "")
    expect(owner["h1"]).to_have_text("Administration")


def test_the_page_fits_a_phone(own_site, look):
    site = own_site()
    look(site).arrive("/", subject="bob", scope="metrics:read")
    phone = look(site, viewport={"width": 360, "height": 740}).arrive("/admin")
    expect(row_of(phone, "bob")).to_have_count(1)
    assert phone.sideways_px() == 0


# -- staying signed in ---------------------------------------------------------------------------


def cookie_of(viewer):
    (cookie,) = viewer.page.context.cookies()
    return cookie["value"]


def renewals(viewer):
    asked = []
    viewer.page.on("request", lambda request: asked.append(request) if "/renew" in request.url else None)
    return asked


def test_an_open_page_renews_its_session_at_four_fifths_of_its_time(own_site, look):
    site = own_site()
    owner = look(site)
    owner.page.clock.install()
    asked = renewals(owner)
    owner.gets_session()
    first = cookie_of(owner)
    owner.open("/admin")
    expect(owner["body"]).to_have_attribute("data-loaded", "")
    owner.page.clock.fast_forward(6 * HOUR_MS)  # of the 8 h that are left of the token it came from
    expect(owner["#connections-empty"]).to_be_visible()
    assert not asked
    with owner.page.expect_response("**/api/session/renew") as renewed:
        owner.page.clock.fast_forward(HOUR_MS)
    assert renewed.value.status == 200
    assert cookie_of(owner) != first


def test_a_page_that_is_put_away_renews_what_it_has_used(own_site, look):
    site = own_site()
    owner = look(site)
    owner.page.clock.install()
    asked = renewals(owner)
    owner.gets_session()
    owner.open("/admin")
    expect(owner["body"]).to_have_attribute("data-loaded", "")
    put_away = "document.dispatchEvent(new Event('visibilitychange'))"
    owner.page.evaluate(put_away)
    owner.page.wait_for_timeout(100)
    assert not asked  # nothing worth it yet
    owner.page.clock.fast_forward(2 * HOUR_MS)
    with owner.page.expect_response("**/api/session/renew"):
        owner.page.evaluate(put_away)


def test_a_dashboard_that_is_told_of_the_end_goes_on_without_a_reconnect(own_site, look):
    """A session of a minute is announced to end at once, or within a quarter of it."""
    site = own_site("auth.session_ttl=1m")
    link = site.login_link()
    owner = look(site)
    sockets = []
    owner.page.on("websocket", lambda socket: sockets.append(socket.url))
    # "At once" may be before the first snapshot is drawn: listen before the page is opened.
    with owner.page.expect_response("**/api/session/renew", timeout=25_000) as renewed:
        owner.page.goto(link)
        owner.live()
    assert renewed.value.status == 200
    owner.page.wait_for_timeout(1000)
    owner.live()
    assert len(sockets) == 1
