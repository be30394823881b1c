"""A credential ends while its connection is open: warned, parked, renewed, or closed. Both transports."""

from __future__ import annotations

import asyncio

import pytest
from servers import eventually

from amiga_ws.auth.gate import Gate
from amiga_ws.facts import FRESH_S
from amiga_ws.hub import PARK_S


async def watching(server, **more):
    """A WebSocket that has subscribed and read the state."""
    peer = await server.websocket(**more)
    await peer.next()
    await peer.say("subscribe", {"update_interval": 1})
    await peer.until("metrics_update")
    return peer


async def streaming(server, headers):
    stream = await server.events("?interval=1", headers)
    await stream.until(None)
    return stream


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def own_page(server, cookie):
    return {"Cookie": cookie, "Origin": server.url}


def cookie_of(reply):
    return reply.header("Set-Cookie").partition(";")[0]


async def signed_in(server, **token):
    """The `Cookie` header a browser has after signing in."""
    reply = await server.ask_as(server.token(**token), "/api/session", method="POST")
    assert reply.status == 201
    return cookie_of(reply)


# -- notice and end ------------------------------------------------------------------------------


async def test_the_end_is_announced_about_a_minute_before(server):
    peer = await watching(server, headers=bearer(server.token(ttl_s=300)))
    stream = await streaming(server, own_page(server, await signed_in(server, ttl_s=300)))
    server.ahead_s = 300 - 80
    server.host.cpu_percent = 55.0
    await peer.until("metrics_update")  # a beat has passed and nothing was said
    assert not any(event.name == "auth" for event in stream.seen)
    server.ahead_s = 300 - 44
    for told in ((await peer.until("auth"))["data"], (await stream.until("auth")).data):
        assert told["state"] == "expiring"
        assert 40 < told["expires_in"] <= 44


async def test_the_notice_is_drawn_for_each_so_that_not_all_renew_at_once(server):
    for _ in range(8):
        await server.websocket()
    assert len({client.warn_before_s for client in server.hub.clients.values()}) > 1
    assert all(45 <= client.warn_before_s <= 75 for client in server.hub.clients.values())


async def test_delivery_stops_at_the_end_and_only_a_new_token_is_listened_to(server):
    peer = await watching(server, headers=bearer(server.token(ttl_s=60)))
    server.ahead_s = 60
    server.host.cpu_percent = 77.0
    await peer.say("request_refresh", {}, id=1)  # before any beat has noticed
    answer = await peer.until("error")
    assert (answer["id"], answer["data"]["code"]) == (1, "unauthorized")
    assert "refresh_token" in answer["data"]["error"]
    for event, data in (("subscribe", {}), ("unsubscribe", {}), ("set_interval", {"interval": 1})):
        await peer.say(event, data)
        assert (await peer.next())["data"]["code"] == "unauthorized"
    await eventually(lambda: next(iter(server.hub.clients.values())).parked_at is not None)
    await asyncio.sleep(FRESH_S)  # what was read before must be read anew
    await peer.say("refresh_token", {"token": server.token()}, id=2)
    renewed = await peer.next()
    assert (renewed["event"], renewed["id"]) == ("token_refreshed", 2)
    state = await peer.next()
    assert state["event"] == "metrics_update"
    assert state["data"]["overview"]["system"]["cpu_percent"] == 77.0


async def test_who_brings_nothing_is_closed_with_4003_after_25_seconds(server):
    peer = await watching(server, headers=bearer(server.token(ttl_s=60)))
    server.ahead_s = 60
    await eventually(lambda: next(iter(server.hub.clients.values())).parked_at is not None)
    server.ahead_s = 60 + PARK_S - 3
    server.broadcaster._hub.beat()
    assert server.hub.connections_of() == 1
    server.ahead_s = 60 + PARK_S + 1
    bye = await peer.until("bye")
    assert (bye["data"]["code"], bye["data"]["reconnect"]) == (4003, True)
    assert bye["data"]["retry_ms"] > 0
    assert (await peer.closed())[0] == 4003


async def test_an_event_stream_of_a_bearer_ends_with_its_token(server):
    stream = await streaming(server, bearer(server.token(ttl_s=60)))
    server.ahead_s = 60
    bye = await stream.until("bye")
    assert (bye.data["code"], bye.data["reconnect"]) == (4003, True)
    assert await stream.next() is None


# -- refresh_token -------------------------------------------------------------------------------


async def test_a_new_token_carries_the_connection_on(server):
    peer = await watching(server, headers=bearer(server.token(ttl_s=300)))
    await peer.say("refresh_token", {"token": server.token(ttl_s=3600)}, id="r")
    answer = await peer.until("token_refreshed")
    assert answer["id"] == "r"
    assert 3590 < answer["data"]["expires_in"] <= 3600
    server.ahead_s = 400  # past the former end
    server.host.cpu_percent = 66.0
    assert (await peer.until("metrics_update"))["data"]["overview"]["system"]["cpu_percent"] == 66.0


@pytest.mark.parametrize(
    ("token", "code", "reason"),
    [
        ({"subject": "eve"}, "forbidden", "of another subject"),
        ({"typ": "login", "ttl_s": 60}, "unauthorized", "a login token where access is expected"),
        (None, "unauthorized", "its header is no JSON object"),
    ],
)
async def test_a_token_that_does_not_fit_is_refused_and_the_connection_stays(
    server, caplog, token, code, reason
):
    peer = await watching(server)
    text = "rubbish" if token is None else server.token(**token)
    await peer.say("refresh_token", {"token": text}, id=9)
    answer = await peer.until("error")
    assert (answer["id"], answer["data"]["code"]) == (9, code)
    assert f"{reason} ref={answer['data']['ref']}" in caplog.text  # the owner finds what the peer quotes
    server.host.cpu_percent = 44.0
    await peer.until("metrics_update")


async def test_a_revoked_token_does_not_refresh(server):
    token = server.token()
    server.gate.revoke_token(token)
    peer = await watching(server)
    await peer.say("refresh_token", {"token": token})
    assert (await peer.until("error"))["data"]["code"] == "unauthorized"


async def test_a_token_that_is_revoked_while_the_newest_state_is_read_does_not_refresh(server):
    peer = await watching(server, headers=bearer(server.token(ttl_s=600)))
    server.ahead_s = 601
    await eventually(lambda: next(iter(server.hub.clients.values())).parked_at is not None)
    token = server.token()
    await asyncio.sleep(FRESH_S)  # what was read before must be read anew
    server.amiga.gate.clear()
    await peer.say("refresh_token", {"token": token})
    await eventually(lambda: server.facts.amiga._running is not None)
    server.gate.revoke_token(token)
    server.hub.close_unwelcome(server.gate.still_good)
    server.amiga.gate.set()
    assert (await peer.until("error"))["data"]["code"] == "unauthorized"
    assert all(client.parked_at is not None for client in server.hub.clients.values())


async def test_a_narrower_scope_takes_effect_at_once(server):
    peer = await watching(server, headers=bearer(server.token(scope="metrics:read admin")))
    await peer.say("refresh_token", {"token": server.token(scope="admin")})
    bye = await peer.until("bye")
    assert (bye["data"]["code"], bye["data"]["reconnect"]) == (4504, False)
    assert (await peer.closed())[0] == 4504


# -- the session ---------------------------------------------------------------------------------


async def test_a_renewed_session_carries_all_its_streams_on(start):
    server = await start("auth.session_ttl=1h")
    cookie = await signed_in(server, typ="login", ttl_s=60)
    page = own_page(server, cookie)
    peer, stream = await watching(server, headers=page), await streaming(server, page)
    other = await watching(server, headers=own_page(server, await signed_in(server, typ="login", ttl_s=60)))
    server.ahead_s = 3000
    reply = await server.ask("/api/session/renew", page, method="POST")
    assert reply.status == 200
    assert cookie_of(reply) != cookie
    for told in ((await peer.until("token_refreshed"))["data"], (await stream.until("token_refreshed")).data):
        assert 3590 < told["expires_in"] <= 3600
    assert sorted(round(client.expires_in, -2) for client in server.hub.clients.values()) == [600, 3600, 3600]
    other.close()


async def test_a_parked_session_is_renewed_and_gets_the_newest_state_at_once(start):
    """A page whose timers slept over the end: its cookie is good for the renewal as long as it is parked."""
    server = await start("auth.session_ttl=1h")
    page = own_page(server, await signed_in(server, typ="login", ttl_s=60))
    peer, stream = await watching(server, headers=page), await streaming(server, page)
    server.ahead_s = 3600 + 5
    await eventually(lambda: all(c.parked_at is not None for c in server.hub.clients.values()))
    assert (await server.ask("/api/session", page)).status == 401  # for nothing else
    server.host.cpu_percent = 81.0
    server.ahead_s = 3600 + 20
    await asyncio.sleep(FRESH_S)  # what was read before must be read anew
    assert (await server.ask("/api/session/renew", page, method="POST")).status == 200
    told = await peer.until("token_refreshed")
    assert told["data"]["expires_in"] > 3500
    assert (await peer.next())["data"]["overview"]["system"]["cpu_percent"] == 81.0
    await stream.until("token_refreshed")
    assert (await stream.next()).data["overview"]["system"]["cpu_percent"] == 81.0


async def test_a_session_that_may_still_be_renewed_can_be_signed_out(start):
    """Else a renewal under way would make whoever signs out at that moment signed in again."""
    server = await start("auth.session_ttl=1h")
    page = own_page(server, await signed_in(server, typ="login", ttl_s=60))
    peer = await watching(server, headers=page)
    server.ahead_s = 3600 + 5
    await eventually(lambda: all(c.parked_at is not None for c in server.hub.clients.values()))
    renewed = await server.ask("/api/session/renew", page, method="POST")
    assert (await server.ask("/api/session", page, method="DELETE")).status == 204
    assert (await peer.until("bye"))["data"]["code"] == 4503
    again = {**page, "Cookie": cookie_of(renewed)}
    assert (await server.ask("/api/session", again)).status == 401
    assert (await server.ask("/api/session/renew", page, method="POST")).status == 401


async def test_a_revoked_stream_that_is_parked_ends_and_is_not_renewed(start):
    server = await start("auth.session_ttl=1h")
    page = own_page(server, await signed_in(server, typ="login", ttl_s=60))
    peer, stream = await watching(server, headers=page), await streaming(server, page)
    server.ahead_s = 3600 + 5
    await eventually(lambda: all(c.parked_at is not None for c in server.hub.clients.values()))
    # By another process, as `revoke` does.
    beside = Gate(server.authority, server.settings.auth, server.settings.state_dir, server.clock.wall)
    beside.revoke_subject("ada")
    assert (await peer.until("bye"))["data"]["code"] == 4503
    assert (await stream.until("bye")).data["code"] == 4503
    assert (await server.ask("/api/session/renew", page, method="POST")).status == 401


async def test_a_session_that_ended_longer_ago_is_not_renewed(start):
    server = await start("auth.session_ttl=1h")
    page = own_page(server, await signed_in(server, typ="login", ttl_s=60))
    server.ahead_s = 3600 + PARK_S + 1
    assert (await server.ask("/api/session/renew", page, method="POST")).status == 401


async def test_a_session_is_never_renewed_beyond_session_max_or_its_token(start):
    server = await start("auth.session_ttl=1h", "auth.session_max=2h")
    for token, ends_s in (({"typ": "login", "ttl_s": 60}, 7200), ({"ttl_s": 5400}, 5400)):
        server.ahead_s = 0
        page = own_page(server, await signed_in(server, **token))
        for ahead_s in (3000, 5000):
            server.ahead_s = ahead_s
            reply = await server.ask("/api/session/renew", page, method="POST")
            assert reply.json["expires_in"] <= ends_s - ahead_s
            page["Cookie"] = cookie_of(reply)
        server.ahead_s = ends_s + 1
        assert (await server.ask("/api/session/renew", page, method="POST")).status == 401


async def test_the_cookie_of_a_browser_with_a_wrong_clock_lives_as_long(server):
    reply = await server.ask_as(server.token(ttl_s=600), "/api/session", method="POST")
    attributes = [part.strip() for part in reply.header("Set-Cookie").split(";")[1:]]
    assert "Max-Age=624" in attributes or "Max-Age=625" in attributes
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(attributes)
    assert not any(part.startswith(("Expires", "Domain", "Secure")) for part in attributes)


async def test_only_a_session_is_renewed_at_the_sessions_place(server):
    reply = await server.ask_as(server.token(), "/api/session/renew", method="POST")
    assert reply.status == 403


async def test_a_phone_that_slept_over_night_is_still_signed_in(server):
    """Defaults: signed in by a link in the evening, nothing said for eleven hours."""
    page = own_page(server, await signed_in(server, subject="owner", typ="login", ttl_s=120))
    server.ahead_s = 11 * 3600
    assert (await server.ask("/api/session", page)).json["subject"] == "owner"
    reply = await server.ask("/api/session/renew", page, method="POST")
    assert reply.json["expires_in"] > 11.9 * 3600
