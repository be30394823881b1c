"""The owner's part: who is connected, revoking, what was refused. Scope `admin`."""

from __future__ import annotations

import json

import pytest
from servers import eventually


def admin(server):
    return server.token("root", scope="metrics:read admin")


async def test_the_owner_sees_who_is_connected(server):
    stream, peer = await server.events("?hours=5&interval=7"), await server.websocket()
    await stream.until(None)
    reply = await server.ask_as(admin(server), "/api/admin/connections")
    seen, bare = reply.json["connections"]
    assert (seen["subject"], seen["transport"], seen["address"]) == ("ada", "sse", "127.0.0.1")
    assert (seen["hours"], seen["update_interval"]) == (5, 7)
    assert (seen["lagging"], seen["behind_ms"], seen["coalesced"], seen["parked"]) == (False, 0, 0, False)
    assert 3500 < seen["expires_in"] <= 3600
    assert (bare["transport"], bare["hours"]) == ("websocket", None)
    assert bare["client_id"] == (await peer.next())["data"]["client_id"]


async def test_the_owner_disconnects_somebody(server):
    peer = await server.websocket()
    client_id = (await peer.next())["data"]["client_id"]
    token = admin(server)
    path = f"/api/admin/connections/{client_id}"
    assert (await server.ask_as(token, path, method="DELETE")).status == 204
    assert (await peer.until("bye"))["data"]["code"] == 4505
    assert (await server.ask_as(token, path, method="DELETE")).status == 404
    assert (await server.ask_as(token, "/api/admin/connections/x", method="DELETE")).status == 404


async def test_disconnecting_can_take_the_credential_back(server):
    token = server.token()
    peer = await server.websocket({"Authorization": f"Bearer {token}"})
    client_id = (await peer.next())["data"]["client_id"]
    reply = await server.ask_as(
        admin(server), f"/api/admin/connections/{client_id}?revoke=1", method="DELETE"
    )
    assert reply.status == 204
    assert (await peer.until("bye"))["data"]["code"] == 4503
    assert (await server.ask_as(token, "/api/session")).status == 401
    assert (await server.ask_as(server.token(), "/api/session")).status == 200


async def revoke(server, request):
    return await server.ask_as(
        admin(server), "/api/admin/revocations", method="POST", body=json.dumps(request).encode()
    )


async def test_the_log_says_who_did_what(server, caplog):
    """Signing in and out as well, and never with a token."""
    caplog.set_level("INFO")
    peer = await server.websocket()
    client_id = (await peer.next())["data"]["client_id"]
    token = server.token("eve")
    for request in ({"token": token}, {"jti": "some-id"}, {"subject": "mallory"}):
        assert (await revoke(server, request)).status == 201
    path = f"/api/admin/connections/{client_id}"
    assert (await server.ask_as(admin(server), path, method="DELETE")).status == 204
    cookie = {"Cookie": server.session("bob"), "Origin": server.url}
    assert (await server.ask_as(server.token("bob"), "/api/session", method="POST")).status == 201
    assert (await server.ask("/api/session", cookie, method="DELETE")).status == 204
    cookie = {"Cookie": server.session("bob"), "Origin": server.url}
    assert (await server.ask("/api/session?everywhere=1", cookie, method="DELETE")).status == 204
    deeds = [one.getMessage() for one in caplog.records if one.msg == "%s by %r from %s"]
    assert deeds == [
        "revocation of a token by 'root' from 127.0.0.1",
        "revocation of the id some-id by 'root' from 127.0.0.1",
        "revocation of the subject mallory by 'root' from 127.0.0.1",
        f"disconnection of {client_id} by 'root' from 127.0.0.1",
        "sign-in by 'bob' from 127.0.0.1",
        "sign-out by 'bob' from 127.0.0.1",
        "sign-out everywhere by 'bob' from 127.0.0.1",
    ]
    assert token not in caplog.text


async def test_a_refused_deed_is_not_said_to_be_done(server, caplog):
    caplog.set_level("INFO")
    for token, path, method, body in (
        (server.token(), "/api/admin/revocations", "POST", b'{"subject": "ada"}'),
        (admin(server), "/api/admin/revocations", "POST", b'{"token": "none"}'),
        (admin(server), "/api/admin/connections/x", "DELETE", b""),
        ("none", "/api/session", "POST", b""),
    ):
        assert (await server.ask_as(token, path, method=method, body=body)).status in (401, 403, 404)
    assert " by " not in caplog.text


async def test_a_revoked_token_ends_its_streams_at_once_and_comes_back_no_more(server):
    token = server.token()
    header = {"Authorization": f"Bearer {token}"}
    stream, peer = await server.events(headers=header), await server.websocket(header)
    other = await server.websocket()
    reply = await revoke(server, {"token": token})
    assert reply.status == 201
    assert len(reply.json["revocations"]) == 1
    assert token not in reply.body.decode()
    assert (await stream.until("bye")).data["code"] == 4503
    bye = (await peer.until("bye"))["data"]
    assert (bye["code"], bye["reconnect"]) == (4503, False)
    assert (await server.websocket(header)).reply.status == 401
    assert server.hub.connections_of() == 1
    await server.stop()
    await server.start()
    assert (await server.websocket(header)).reply.status == 401
    other.close()


async def test_a_subject_is_revoked_as_of_a_moment(server):
    token = server.token("bob")
    peer = await server.websocket({"Authorization": f"Bearer {token}"})
    assert (await revoke(server, {"subject": "bob"})).status == 201
    assert (await peer.until("bye"))["data"]["code"] == 4503
    assert (await server.ask_as(token, "/api/session")).status == 401
    server.ahead_s = 5
    assert (await server.ask_as(server.token("bob"), "/api/session")).status == 200


async def test_revoking_the_token_a_session_came_from_ends_the_session(server):
    token = server.token()
    reply = await server.ask_as(token, "/api/session", method="POST")
    cookie = {"Cookie": reply.header("Set-Cookie").partition(";")[0]}
    assert (await server.ask("/api/session", cookie)).status == 200
    jti = server.gate.verify(token, "access").jti
    assert (await revoke(server, {"jti": jti})).status == 201
    assert (await server.ask("/api/session", cookie)).status == 401


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"token": "a", "jti": "b"}',
        b'{"jti": "a", "subject": null}',
        b'{"jti": ""}',
        b'{"jti": 5}',
        b'{"subject": "' + b"x" * 129 + b'"}',
        b'{"jti": "a", "issued_before": 5}',
        b'{"user": "bob"}',
        b'{"jti": "\\u0000"}',
        b'{"subject": "bob\\n"}',
        b'{"subject": "\\ud800"}',
        b'{"subject": "bob", "issued_before": -1}',
        b'{"subject": "bob", "issued_before": 1e300}',
        b'{"subject": "bob", "issued_before": NaN}',
        b"\xff",
        b"[" * 5000,
    ],
)
async def test_a_revocation_that_is_none_is_400_and_revokes_nothing(server, body):
    reply = await server.ask_as(admin(server), "/api/admin/revocations", method="POST", body=body)
    assert (reply.status, reply.json["code"]) == (400, "invalid_request")
    reply = await server.ask_as(admin(server), "/api/admin/revocations")
    assert reply.json == {"revocations": []}


async def test_a_token_that_is_none_of_ours_cannot_be_revoked(server):
    reply = await server.ask_as(
        admin(server), "/api/admin/revocations", method="POST", body=b'{"token": "rubbish"}'
    )
    assert reply.status == 404
    assert "no token of ours" in reply.json["error"]


async def test_refusals_are_found_by_the_ref_the_peer_was_told(server):
    told = [
        await server.ask("/api/tasks"),
        await server.ask("/health", host="evil.example\x1b[2J"),
        await server.ask("/api/tasks", {"Origin": "http://evil.example"}),
        await server.ask(f"/api/tasks?token={server.token()}"),
    ]
    reply = await server.ask_as(admin(server), "/api/admin/refusals")
    refusals = {each["ref"]: each for each in reply.json["refusals"]}
    for each in told:
        assert each.status in (400, 401, 403, 421)
        if each.body.startswith(b"{"):
            refusal = refusals[each.json["ref"]]
            assert (refusal["status"], refusal["address"]) == (each.status, "127.0.0.1")
            assert refusal["reason"].isprintable()
    assert b"eyJ" not in reply.body
    newest = reply.json["refusals"][0]
    assert (newest["reason"], newest["path"]) == ("token in the query", "/api/tasks")


async def test_only_the_last_200_refusals_are_kept(start):
    server = await start("limits.requests_burst=1000")
    for _ in range(210):
        await server.ask("/health", host="evil.example")
    reply = await server.ask_as(admin(server), "/api/admin/refusals")
    assert len(reply.json["refusals"]) == 200


async def test_the_owner_sees_who_lags_and_who_waits_for_a_credential(server):
    peer = await server.websocket({"Authorization": f"Bearer {server.token(ttl_s=60)}"})
    await peer.say("subscribe", {"update_interval": 1})
    await peer.until("metrics_update")
    (client,) = server.hub.clients.values()
    client.owe(2)
    client.owe(3)
    server.ahead_s = 3
    (seen,) = (await server.ask_as(admin(server), "/api/admin/connections")).json["connections"]
    assert (seen["lagging"], seen["coalesced"]) == (True, 1)
    assert 3000 <= seen["behind_ms"] < 4500
    server.ahead_s = 61
    await eventually(lambda: client.parked_at is not None)
    (seen,) = (await server.ask_as(admin(server), "/api/admin/connections")).json["connections"]
    assert seen["parked"]
    assert seen["expires_in"] < 0
