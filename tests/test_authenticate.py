"""A credential in the first message, for clients that can set neither header nor subprotocol."""

from __future__ import annotations

import asyncio
import os

import pytest
from servers import eventually

from amiga_ws.auth.tokens import Authority
from amiga_ws.handlers import websocket
from amiga_ws.handlers.guard import MAX_PENDING


async def knocking(server, headers=None):
    """A WebSocket that has brought no credential yet."""
    peer = await server.websocket(headers or {})
    assert peer.reply.status == 101
    return peer


async def dismissed(peer, code):
    """The `bye` of one that is sent away, and nothing before it."""
    bye = await peer.next(within_s=10)
    assert (bye["event"], bye["data"]["code"], bye["data"]["reconnect"]) == ("bye", code, False)
    assert (await peer.closed())[0] == code
    return bye["data"]


def in_book(server, bye):
    """What the owner sees under the ref the peer was told."""
    return next(refusal for refusal in server.services.refusals.newest() if refusal.ref == bye["ref"])


async def test_a_good_token_in_the_first_message_opens_the_stream(server):
    peer = await knocking(server)
    await peer.say("authenticate", {"token": server.token("bob")})
    connected = await peer.next()
    assert (connected["event"], connected["data"]["subject"]) == ("connected", "bob")
    assert not server.services.pending
    await peer.say("subscribe", {})
    await peer.until("metrics_update")
    await peer.say("authenticate", {"token": server.token("eve")})  # once is enough
    assert (await peer.until("error"))["data"]["code"] == "invalid_request"


async def test_one_that_is_silent_for_five_seconds_is_sent_away(server):
    assert websocket.CREDENTIAL_S == 5.0
    began = asyncio.get_running_loop().time()
    peer = await knocking(server)
    bye = await dismissed(peer, 4501)
    assert 4.9 < asyncio.get_running_loop().time() - began < 7
    assert in_book(server, bye).status == 4501
    assert not server.services.pending


@pytest.mark.parametrize("kind", ["forged", "login", "expired", "revoked"])
async def test_a_bad_token_is_4502_and_its_reason_is_for_the_owner_alone(server, kind):
    stranger = Authority(os.urandom(32), server.settings.auth)
    token = stranger.issue(subject="ada", scope="metrics:read", ttl_s=60, now=server.clock.wall())
    if kind == "login":
        token = server.token(typ="login", ttl_s=60)
    elif kind == "expired":
        token = server.token(ttl_s=60)
        server.ahead_s = 61
    elif kind == "revoked":
        token = server.token()
        server.gate.revoke_token(token)
    peer = await knocking(server)
    await peer.say("authenticate", {"token": token})
    bye = await dismissed(peer, 4502)
    reason = {"forged": "unknown kid", "login": "a login token where access is expected"}.get(kind, kind)
    assert in_book(server, bye).reason == reason
    assert reason not in bye["reason"] or kind == "expired"
    assert not server.hub.clients


async def test_a_token_without_the_scope_is_4502(server):
    peer = await knocking(server)
    await peer.say("authenticate", {"token": server.token(scope="admin")})
    assert "metrics:read" in (await dismissed(peer, 4502))["reason"]


async def test_what_was_wrong_is_counted_by_its_kind(server):
    """Only who presents nothing or nothing good is counted as one who tries credentials."""
    counts = server.services.refusals.counts
    peer = await knocking(server)
    await peer.send(0x2, b"no text")
    await dismissed(peer, 1003)
    assert counts == {(1003, "frames"): 1}
    peer = await knocking(server)
    await peer.say("authenticate", {"token": server.token(scope="admin")})
    await dismissed(peer, 4502)
    assert counts[4502, "scope"] == 1
    peer = await knocking(server)
    await peer.say("authenticate", {"token": "rubbish"})
    await dismissed(peer, 4502)
    assert counts[4502, "credential"] == 1
    peer = await knocking(server)
    server._ready = False
    await peer.say("authenticate", {"token": server.token()})
    assert (await peer.next())["data"]["code"] == 4005
    assert counts[4005, "the server is shutting down"] == 1


@pytest.mark.parametrize(
    "first",
    [
        b'{"event": "subscribe", "data": {}}',
        b"{",
        b'{"event": "authenticate", "data": {}}',
        b'{"event": "authenticate", "data": {"token": "x", "more": 1}}',
    ],
)
async def test_any_other_first_message_is_4501(server, first):
    peer = await knocking(server)
    await peer.send(0x1, first)
    assert "authenticate" in (await dismissed(peer, 4501))["reason"]


async def test_a_first_message_over_eight_kib_is_not_even_read(server):
    peer = await knocking(server)
    await peer.say("authenticate", {"token": "x" * 8192})
    await dismissed(peer, 4501)
    assert server.services.rates.sign_in_failures.wait_s("127.0.0.1", server.clock.monotonic()) == 0


async def test_what_follows_the_dismissal_changes_nothing(server):
    peer = await knocking(server)
    await peer.say("subscribe", {})
    await peer.say("authenticate", {"token": server.token()})
    await dismissed(peer, 4501)
    assert not server.hub.clients


async def test_an_address_has_ten_sockets_without_a_credential(server):
    waiting = [await knocking(server) for _ in range(MAX_PENDING)]
    refused = await server.websocket({})
    assert refused.reply.status == 429
    assert int(refused.reply.header("Retry-After")) >= 1
    assert (await server.websocket()).reply.status == 101  # one with a token comes in all the same
    waiting[0].close()
    await eventually(lambda: server.services.pending["127.0.0.1"] == MAX_PENDING - 1)
    await knocking(server)


async def test_sockets_that_wait_are_connections_of_the_server(start):
    server = await start("limits.connections=3")
    for _ in range(3):
        await knocking(server)
    assert (await server.websocket()).reply.status == 503


async def test_sockets_that_wait_are_connections_of_their_address(start):
    server = await start("limits.connections_per_address=3")
    waiting = [await knocking(server) for _ in range(3)]
    refused = await server.websocket({})
    assert refused.reply.status == 429
    for peer in waiting:
        await peer.say("authenticate", {"token": server.token()})
        assert (await peer.next())["event"] == "connected"
    assert server.hub.connections_of(address="127.0.0.1") == 3


@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
async def test_a_foreign_page_may_not_even_knock(server, origin):
    assert (await server.websocket({"Origin": origin})).reply.status == 403


async def test_bad_signatures_slow_down_their_address_and_no_good_token(server):
    for _ in range(5):
        peer = await knocking(server)
        await peer.say("authenticate", {"token": "rubbish"})
        await dismissed(peer, 4502)
    peer = await knocking(server)
    await peer.say("authenticate", {"token": "rubbish"})
    bye = await peer.next()
    assert (bye["data"]["code"], bye["data"]["reconnect"]) == (4005, True)
    assert bye["data"]["retry_ms"] > 0
    peer = await knocking(server)
    await peer.say("authenticate", {"token": server.token()})
    assert (await peer.next())["event"] == "connected"


async def test_a_dropped_socket_is_forgotten(server):
    peer = await knocking(server)
    assert server.services.pending["127.0.0.1"] == 1
    peer.writer.transport.abort()
    await eventually(lambda: not server.services.pending)
    assert not server.hub.clients
