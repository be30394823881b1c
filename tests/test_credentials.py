"""Where a credential may stand, and which one counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from amiga_ws.handlers.credentials import (
    AmbiguousCredentialError,
    Credential,
    find_credential,
    offered_subprotocols,
    token_in_query,
)

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl"


class Connection:
    """What Tornado's request asks of its connection."""

    def set_close_callback(self, callback):
        pass


def request(uri="/ws", *headers):
    found = HTTPHeaders()
    for name, value in headers:
        found.add(name, value)
    start_line = RequestStartLine("GET", uri, "HTTP/1.1")
    found.add("Host", "h")
    return HTTPServerRequest(start_line=start_line, headers=found, connection=Connection())


# -- pure ---------------------------------------------------------------------------------------


def test_each_place_is_read():
    assert find_credential(request(), "c") is None
    assert find_credential(request("/", ("Authorization", "bearer  abc")), "c") == Credential("abc", "header")
    offered = ("Sec-WebSocket-Protocol", "amiga.v1, amiga.bearer.abc")
    assert find_credential(request("/", offered), "c") == Credential("abc", "subprotocol")
    assert find_credential(request("/", ("Cookie", "c=abc; d=e")), "c") == Credential("abc", "cookie")


def test_the_cookie_counts_only_under_its_name_and_where_it_may():
    assert find_credential(request("/", ("Cookie", "c=abc")), "d") is None
    assert find_credential(request("/", ("Cookie", "c=abc")), None) is None
    assert find_credential(request("/", ("Cookie", "c=")), "c") is None


@pytest.mark.parametrize(
    "headers",
    [
        [("Authorization", "Bearer a"), ("Authorization", "Bearer a")],
        [("Authorization", "Bearer a"), ("Sec-WebSocket-Protocol", "amiga.v1, amiga.bearer.a")],
        [("Sec-WebSocket-Protocol", "amiga.v1, amiga.bearer.a, amiga.bearer.b")],
        [("Sec-WebSocket-Protocol", "amiga.v1"), ("Sec-WebSocket-Protocol", "amiga.bearer.a,amiga.bearer.b")],
        [("Sec-WebSocket-Protocol", "amiga.bearer.a")],
        [("Sec-WebSocket-Protocol", "amiga.v2, amiga.bearer.a")],
        [("Authorization", "Basic YTpi")],
        [("Authorization", "Bearer")],
        [("Authorization", "")],
    ],
)
def test_two_explicit_credentials_or_half_a_one_are_ambiguous(headers):
    with pytest.raises(AmbiguousCredentialError):
        find_credential(request("/", *headers, ("Cookie", "c=abc")), "c")


def test_an_explicit_credential_goes_before_the_cookie():
    found = find_credential(request("/", ("Cookie", "c=abc"), ("Authorization", "Bearer x")), "c")
    assert found == Credential("x", "header")


@given(st.text(st.sampled_from("amiga.v1bearer, \t;=xyz"), max_size=60).map(str.strip))
def test_any_subprotocol_header_is_a_credential_nothing_or_ambiguous(value):
    asked = request("/", ("Sec-WebSocket-Protocol", value))
    try:
        found = find_credential(asked, None)
    except AmbiguousCredentialError:
        return
    assert found is None or f"amiga.bearer.{found.token}" in offered_subprotocols(asked)


@pytest.mark.parametrize(
    "uri",
    [
        "/ws?token=x",
        "/ws?TOKEN=x",
        "/ws?access_token=",
        "/ws?jwt=1",
        "/ws?a=eyJhbGciOi",
        "/ws?a=1&b=%20eyJhbGciOi",
        "/ws?a=%65yJhbGciOi",
        "/ws?%74oken=x",
        "/ws?a=1&a=eyJh",
        f"/?{JWT}",
        f"/?a=1&{JWT}=",
        f"/?{JWT.replace('eyJ', '%65yJ', 1)}",
        f"/?x=Bearer%20{JWT}",
        f"/?x=Bearer+{JWT}",
        f"/?x=token:{JWT}",
    ],
)
def test_something_like_a_token_in_the_address_is_seen(uri):
    assert token_in_query(request(uri))


@pytest.mark.parametrize("uri", ["/ws", "/ws?hours=24", "/ws?tokens=1", "/ws?q=honeyJar", "/ws?ey=J"])
def test_other_parameters_are_none(uri):
    assert not token_in_query(request(uri))


@pytest.mark.parametrize(
    "lines",
    [
        ["c=abc; c=def"],
        ["c=abc; d=e;c=abc"],
        ["c=abc", "c=def"],
        ["c=; c=abc"],
        ["c =abc; c=def"],
    ],
)
def test_two_cookies_of_our_name_are_ambiguous(lines):
    """A neighbouring host can set a second one, and the order in which they come says nothing."""
    with pytest.raises(AmbiguousCredentialError, match="two cookies named c"):
        find_credential(request("/", *(("Cookie", line) for line in lines)), "c")


# -- against a server ----------------------------------------------------------------------------


async def test_a_token_works_in_header_and_subprotocol_and_a_session_in_the_cookie(server):
    token = server.token()
    for headers, protocols in (
        ({"Authorization": f"Bearer {token}"}, ()),
        ({}, ("amiga.v1", f"amiga.bearer.{token}")),
        ({"Cookie": server.session(), "Origin": server.url}, ()),
        ({"Cookie": server.session(), "Origin": server.url}, ("amiga.v1",)),
    ):
        peer = await server.websocket(headers, protocols)
        assert peer.reply.status == 101
        assert (await peer.next())["data"]["subject"] == "ada"
        assert peer.reply.header("Sec-WebSocket-Protocol") == ("amiga.v1" if protocols else None)
        assert token not in str(peer.reply.headers)


async def test_the_bearer_subprotocol_alone_is_400_and_says_to_offer_both(server):
    peer = await server.websocket({}, [f"amiga.bearer.{server.token()}"])
    assert peer.reply.status == 400
    assert "amiga.v1" in peer.reply.json["error"]


async def test_two_explicit_credentials_are_400_even_if_they_are_one(server):
    token = server.token()
    header = {"Authorization": f"Bearer {token}"}
    assert (await server.websocket(header, ["amiga.v1", f"amiga.bearer.{token}"])).reply.status == 400
    doubled = [("Authorization", f"Bearer {token}")] * 2
    assert (await server.ask("/api/metrics/overview", doubled)).status == 400


async def test_explicit_beats_cookie_for_better_and_for_worse(server):
    cookie = {"Cookie": server.session("eve"), "Origin": server.url}
    reply = await server.ask_as(server.token("ada"), "/api/session", cookie)
    assert reply.json["subject"] == "ada"
    assert (await server.ask_as("rubbish", "/api/session", cookie)).status == 401
    peer = await server.websocket(cookie, ["amiga.v1", "amiga.bearer.rubbish"])
    assert peer.reply.status == 401


async def test_a_second_cookie_of_our_name_signs_in_as_nobody_and_does_not_hinder_a_token(server):
    ours, tossed = server.session("ada"), server.session("eve")
    for headers in ({"Cookie": f"{tossed}; {ours}"}, [("Cookie", ours), ("Cookie", tossed)]):
        reply = await server.ask("/api/session", headers)
        assert (reply.status, reply.json["code"]) == (400, "invalid_request")
        assert "delete the cookies" in reply.json["error"]
        assert (await server.ask_as(server.token("bob"), "/api/session", headers)).json["subject"] == "bob"


async def test_a_foreign_cookie_is_no_credential(server):
    """One of a server on another port, which a browser sends to us as well."""
    cookie = server.session().replace(str(server.port), str(server.port + 1))
    reply = await server.ask("/api/session", {"Cookie": cookie})
    assert reply.status == 401
    assert "invalid_token" not in reply.header("WWW-Authenticate")


async def test_each_type_of_token_has_its_place(server):
    login = server.token(typ="login", ttl_s=60)
    session = server.session().partition("=")[2]
    assert (await server.ask_as(login, "/api/metrics/overview")).status == 401
    assert (await server.ask_as(session, "/api/metrics/overview")).status == 401
    assert (await server.ask_as(session, "/api/session", method="POST")).status == 401
    for token in (login, server.token()):
        cookie = {"Cookie": f"amiga_session_{server.port}={token}"}
        assert (await server.ask("/api/metrics/overview", cookie)).status == 401
    # Not one of them was used up or harmed by being in a wrong place.
    assert (await server.ask_as(login, "/api/session", method="POST")).status == 201


async def test_a_token_in_the_query_is_400_even_beside_a_good_one_and_names_the_alternatives(server):
    token = server.token()
    for path in ("/ws", "/api/stream/metrics", "/api/metrics/overview", "/login", "/health", "/", "/nothing"):
        reply = await server.ask_as(token, f"{path}?token={token}")
        assert reply.status == 400, path
        assert "Authorization: Bearer" in reply.json["error"]
        assert "subprotocol" in reply.json["error"]
        assert token not in reply.body.decode()


async def test_a_token_of_8_kib_or_more_is_refused_before_it_is_read(server):
    assert (await server.ask_as("x" * 9000, "/api/session")).status == 401
