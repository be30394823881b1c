"""Origins: which names are ours, whose pages may speak to us, and when the cookie counts."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from amiga_ws.auth.origins import Origin, OriginPolicy, cookie_refusal, parse_host, parse_origin

LOOPBACK = ("127.0.0.1", 3000)
LAN = ("192.168.1.5", 3000)


def policy(public=None, hosts=(), allowed=(), allow_null=False):
    return OriginPolicy.build(public, hosts, allowed, allow_null)


PLAIN = policy()


def own(origin, local=LOOPBACK, scheme="http", by=PLAIN):
    parsed = parse_origin(origin)
    return parsed is not None and by.is_own(parsed, local, scheme)


# -- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("http://a.example", Origin("http", "a.example", 80)),
        ("https://a.example", Origin("https", "a.example", 443)),
        ("https://A.Example:8443", Origin("https", "a.example", 8443)),
        ("HTTP://LOCALHOST:3000", Origin("http", "localhost", 3000)),
        ("http://[::1]:3000", Origin("http", "::1", 3000)),
        ("http://[2001:DB8::1]", Origin("http", "2001:db8::1", 80)),
        ("http://a.example:80", Origin("http", "a.example", 80)),
        ("http://a.example:443", Origin("http", "a.example", 443)),
    ],
)
def test_origin_is_scheme_host_and_port(text, parsed):
    assert parse_origin(text) == parsed
    assert parse_origin(str(parsed)) == parsed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "NULL",
        "*",
        "localhost",
        "//localhost:3000",
        "http://",
        "http:///",
        "http://localhost:3000/",
        "http://localhost:3000/a",
        "http://localhost:3000?",
        "http://localhost:3000?a=1",
        "http://localhost:3000#",
        "http://localhost:3000#a",
        "http://user@localhost:3000",
        "http://user:pass@localhost:3000",
        "http://@localhost:3000",
        "http://:@localhost:3000",
        "http://evil.example\\@localhost:3000",
        "http://localhost:3000, http://localhost:3000",
        "http://localhost:3000 http://evil.example",
        " http://localhost:3000",
        "http://localhost:3000 ",
        "http://local\thost:3000",
        "http://localhost:3000\n",
        "http://local\0host:3000",
        "http://localhost:port",
        "http://localhost:-1",
        "http://localhost:65536",
        "http://localhost:99999999999",
        "http://localhost:3000:3000",
        "http://[::1",
        "http://[localhost]:3000",
        "http://::1:3000",
        "http://löcalhost:3000",
        "http://ⓛocalhost:3000",
        "ftp://localhost:3000",
        "file://",
        "ws://localhost:3000",
        "chrome-extension://abcdefghijklmnop",
        "javascript:alert(1)",
        "data:text/html,a",
        "http:localhost:3000",
        "http:/localhost:3000",
    ],
)
def test_malformed_origin_is_none_and_never_ours(text):
    assert parse_origin(text) is None
    assert not PLAIN.foreign_allowed(text)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "localhost:3000/",
        "a@localhost:3000",
        "localhost:3000#",
        "a b",
        "localhost,evil",
        "\\localhost",
        "[::1",
        "a\tb",
    ],
)
def test_malformed_host_is_none(header):
    assert parse_host(header, "http") is None
    assert not PLAIN.host_allowed(header, LOOPBACK, "http")


def test_missing_host_is_refused():
    assert not PLAIN.host_allowed(None, LOOPBACK, "http")


@given(st.text(max_size=60) | st.text("htps:/[]@.?#\\127localhost0 \t", max_size=40))
def test_no_text_breaks_the_reader(text):
    parsed = parse_origin(text)
    if parsed is not None:
        assert parsed.scheme in ("http", "https")
        assert parsed.host
        assert 0 <= parsed.port <= 65535
    parse_host(text, "http")


NEARLY = st.text("[]:.1270localhs3@/#% \t\x00\u3002\uff10", max_size=16)
NAMES = st.sampled_from(["127.0.0.1:3000", "localhost:3000", "[::1]:3000"])


@given(NEARLY | st.builds("{}{}".format, NEARLY, NAMES) | st.builds("{}{}".format, NAMES, NEARLY))
@example("0[::1]:3000")
@example("127.0.0.1:03000")
def test_no_text_that_is_nearly_our_name_is_our_name(text):
    if PLAIN.host_allowed(text, LOOPBACK, "http"):
        assert text.lower() in ("127.0.0.1:3000", "localhost:3000", "[::1]:3000")


# -- own -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["http://127.0.0.1:3000", "http://localhost:3000", "http://[::1]:3000"])
@pytest.mark.parametrize("local", [LOOPBACK, LAN, ("::1", 3000)])
def test_loopback_names_at_our_port_are_own(origin, local):
    assert own(origin, local)


@pytest.mark.parametrize(
    "origin",
    [
        "http://127.0.0.1:3001",  # another program on this machine
        "http://127.0.0.1",
        "https://127.0.0.1:3000",
        "http://localhost.:3000",
        "http://127.0.0.1.:3000",
        "http://evil.example:3000",
        "http://localhost.evil.example:3000",
        "http://evil-localhost:3000",
        "http://127.0.0.1.evil.example:3000",
        "http://127.0.0.2:3000",
        "http://127.1:3000",
        "http://2130706433:3000",
        "http://0x7f000001:3000",
        "http://0177.0.0.1:3000",
        "http://0.0.0.0:3000",
        "http://[::]:3000",
        "http://[::ffff:7f00:1]:3001",
        "http://192.168.1.5:3000",  # ours, but not where this connection arrived
    ],
)
def test_what_only_looks_like_us_is_not_own(origin):
    assert not own(origin)


@pytest.mark.parametrize(
    ("origin", "local"),
    [
        ("http://192.168.1.5:3000", LAN),
        ("http://192.168.1.5:3000", ("::ffff:192.168.1.5", 3000)),  # a dual-stack socket
        ("http://[fe80::1]:3000", ("fe80::1%eth0", 3000)),
        ("http://[2001:db8:0:0::5]:3000", ("2001:db8::5", 3000)),
    ],
)
def test_address_the_connection_arrived_at_is_own(origin, local):
    assert own(origin, local)
    assert not own(origin.replace(":3000", ":3001"), local)


def test_name_is_never_believed_because_it_points_here():
    """DNS rebinding: Host and Origin agree with each other, and the connection arrives at our address."""
    for local in (LOOPBACK, LAN, ("::1", 3000)):
        assert not own("http://evil.example:3000", local)
        assert not PLAIN.host_allowed("evil.example:3000", local, "http")


def test_local_address_that_is_no_ip_is_nobody():
    assert not own("http://192.168.1.5:3000", ("unix", 3000))


def test_public_url_is_own_whatever_we_speak_ourselves():
    by = policy(public="https://watch.example")
    assert own("https://watch.example", by=by)
    assert own("https://watch.example:443", by=by)
    assert own("http://127.0.0.1:3000", by=by)
    for other in (
        "http://watch.example",
        "https://watch.example:8443",
        "https://a.watch.example",
        "https://watch.example.",
    ):
        assert not own(other, by=by)


def test_allowed_origin_and_allowed_host_are_not_own():
    by = policy(hosts=["nas:3000"], allowed=["http://nas:3000"])
    assert not own("http://nas:3000", by=by)


# -- Host ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1:3000", "localhost:3000", "LocalHost:3000", "[::1]:3000"])
def test_own_hosts_are_answered(host):
    assert PLAIN.host_allowed(host, LOOPBACK, "http")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "localhost:3001", "localhost.:3000", "evil:3000", "::1", "192.168.1.5:3000"],
)
def test_other_hosts_are_not_answered(host):
    assert not PLAIN.host_allowed(host, LOOPBACK, "http")


def test_host_without_port_is_ours_at_the_default_port():
    assert PLAIN.host_allowed("localhost", ("127.0.0.1", 80), "http")
    assert PLAIN.host_allowed("localhost", ("127.0.0.1", 443), "https")
    assert not PLAIN.host_allowed("localhost", ("127.0.0.1", 443), "http")


@pytest.mark.parametrize("host", ["watch.example", "WATCH.example", "watch.example:443"])
def test_proxy_that_ends_tls_may_pass_the_public_name(host):
    by = policy(public="https://watch.example")
    assert by.host_allowed(host, LOOPBACK, "http")
    assert not by.host_allowed(f"a.{host}", LOOPBACK, "http")


@pytest.mark.parametrize("host", ["watch.example:8443", "WATCH.EXAMPLE:8443"])
def test_public_name_with_a_port_counts_with_that_port(host):
    by = policy(public="https://watch.example:8443")
    assert by.host_allowed(host, LOOPBACK, "http")
    assert not by.host_allowed("watch.example", LOOPBACK, "http")
    assert not by.host_allowed("watch.example:443", LOOPBACK, "http")


def test_allowed_hosts_are_compared_whole():
    by = policy(hosts=["NAS:3000", "nas.local"])
    assert by.host_allowed("nas:3000", LOOPBACK, "http")
    assert by.host_allowed("Nas.Local", LOOPBACK, "http")
    for other in ("nas:3001", "nas", "anas:3000", "x.nas.local", "nas.local.", "nas.local.evil.example"):
        assert not by.host_allowed(other, LOOPBACK, "http")


# -- foreign pages --------------------------------------------------------------------------------


def test_foreign_origin_is_compared_exactly():
    by = policy(allowed=["https://grafana.example", "http://[2001:db8::1]:8080"])
    for welcome in ("https://grafana.example", "https://GRAFANA.example:443", "http://[2001:db8::1]:8080"):
        assert by.foreign_allowed(welcome)
    for other in (
        "http://grafana.example",
        "https://grafana.example:444",
        "https://a.grafana.example",
        "https://grafana.example.evil.example",
        "https://grafana.exampleevil",
        "https://grafanaxexample",
        "https://grafana.example.",
        "null",
    ):
        assert not by.foreign_allowed(other)


def test_null_is_welcome_only_where_the_owner_says_so():
    assert not PLAIN.foreign_allowed("null")
    assert policy(allow_null=True).foreign_allowed("null")
    for other in ("NULL", "null ", "", "undefined"):
        assert not policy(allow_null=True).foreign_allowed(other)


# -- the cookie ----------------------------------------------------------------------------------

HERE, EVIL = "http://localhost:3000", "http://evil.example"


def refused(method="GET", websocket=False, page=False, origin=None, site=None, mode=None):
    reason = cookie_refusal(
        method=method, websocket=websocket, page=page, origin=origin, own=origin == HERE, site=site, mode=mode
    )
    assert reason is None or reason
    return reason is not None


@pytest.mark.parametrize("site", [None, "same-origin", "none", "cross-site"])
def test_cookie_on_a_websocket_needs_our_own_origin(site):
    assert not refused(websocket=True, origin=HERE, site=site)
    for origin in (None, EVIL, "null"):
        assert refused(websocket=True, origin=origin, site=site)


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH", "OPTIONS", "CONNECT", "get", ""])
def test_cookie_with_an_unsafe_method_needs_our_own_origin(method):
    assert not refused(method, origin=HERE)
    for origin in (None, EVIL, "null"):
        assert refused(method, origin=origin)
        assert refused(method, origin=origin, site="same-origin", mode="navigate", page=True)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("origin", "site", "mode", "page", "passes"),
    [
        (None, None, None, False, True),  # curl, and browsers older than Sec-Fetch
        (None, "same-origin", "cors", False, True),  # fetch and EventSource of our page
        (None, "none", "navigate", True, True),  # typed, or from a bookmark
        (HERE, "same-origin", "cors", False, True),
        (HERE, None, None, False, True),
        (EVIL, None, None, False, False),
        ("null", None, None, False, False),
        (EVIL, "same-origin", "cors", False, False),
        (None, "cross-site", "navigate", True, True),  # a link in a chat
        (None, "same-site", "navigate", True, True),
        (None, "cross-site", "navigate", False, False),  # a link to the API
        (None, "cross-site", "no-cors", True, False),  # an image of a page
        (None, "cross-site", "cors", False, False),
        (None, "cross-site", None, True, False),
        (None, "same-site", "cors", False, False),  # another port of this host
        (None, "bogus", "navigate", True, False),
        (None, "", "navigate", True, False),
    ],
)
def test_cookie_with_a_safe_method_follows_the_table(method, origin, site, mode, page, passes):
    assert refused(method, origin=origin, site=site, mode=mode, page=page) is not passes
