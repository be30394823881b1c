"""The guard: who passes on which route, in which order it judges, and what it says."""

from __future__ import annotations

import asyncio
import socket
import struct

import jwt
import pytest
from routes import concrete
from servers import JWT, Reply, eventually, handshake, request_bytes
from tornado.web import Application

from amiga_ws import app
from amiga_ws.handlers.guard import SECURITY_HEADERS, Guarded, printable

EVIL = "http://evil.example"


def routes(server):
    """(path, handler class) of every route of the running application."""
    application = server._http.request_callback
    assert isinstance(application, Application)
    rules = application.default_router.rules[0].target.rules
    found = [(concrete(rule.matcher.regex.pattern), rule.target) for rule in rules]
    assert len(found) > 10
    return [*found, ("/no-such-path", application.settings["default_handler_class"])]


def is_public(handler):
    return handler.public


# -- every route --------------------------------------------------------------------------------


async def test_every_route_is_a_guarded_handler(server):
    for path, handler in routes(server):
        assert issubclass(handler, Guarded), path
        assert handler.prepare is Guarded.prepare or "super().prepare()" in source_of(handler), path


def source_of(handler):
    import inspect  # noqa: PLC0415 - used here alone

    return inspect.getsource(handler.prepare)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT"])
async def test_a_foreign_host_is_refused_on_every_route(start, method):
    server = await start("limits.requests_burst=1000", "limits.new_connections_burst=1000")
    for path, _ in routes(server):
        reply = await server.ask_as(server.token(), path, method=method, host="evil.example")
        assert reply.status == 421, path


async def test_a_foreign_origin_is_refused_on_every_route(start):
    server = await start("limits.requests_burst=1000", "limits.new_connections_burst=1000")
    for path, _ in routes(server):
        for method in ("GET", "POST", "OPTIONS"):
            reply = await server.ask_as(server.token(), path, {"Origin": EVIL}, method=method)
            assert reply.status == 403, (method, path)
            assert reply.header("Access-Control-Allow-Origin") is None


async def test_every_route_that_is_not_public_wants_a_credential(start):
    server = await start("limits.requests_burst=1000", "limits.new_connections_burst=1000")
    public = {path for path, handler in routes(server) if handler.public}
    assert public == {
        "/login",
        "/static/client.js",
        "/favicon.ico",
        "/health",
        "/ready",
        "/no-such-path",
    }
    for path, handler in routes(server):
        if handler.public:
            continue
        reply = await server.ask(path)
        if handler.page:
            assert (reply.status, reply.header("Location")) == (303, f"/login?next={path}")
        else:
            assert reply.status == 401, path
            assert reply.header("WWW-Authenticate") == 'Bearer realm="amiga_ws"'
            assert reply.json["code"] == "unauthorized"


async def test_a_bad_token_is_never_downgraded_to_another_credential_or_to_nobody(start):
    server = await start("limits.requests_burst=1000", "limits.new_connections_burst=1000")
    good = {"Cookie": server.session(), "Origin": server.url}
    for path, handler in routes(server):
        if handler.public:
            continue
        server.ahead_s += 60  # or the address would have failed too often
        reply = await server.ask_as("not-a-token", path, good)
        if handler.page:
            assert reply.status == 303, path
        else:
            assert reply.status == 401, path
            assert 'error="invalid_token"' in reply.header("WWW-Authenticate")


async def test_public_routes_ignore_ambient_credentials(server):
    for path in ("/health", "/ready", "/login"):
        bad = {"Cookie": f"amiga_session_{server.port}=rubbish", "Authorization": "Bearer rubbish"}
        assert (await server.ask(path, bad)).status == 200


async def test_a_token_without_the_scope_is_403_and_told_which(server):
    for scope, handlers in (
        (
            "metrics:read",
            "ws api/stream/metrics api/metrics/overview api/tasks api/tasks/a1 api/sessions api/export/tasks",
        ),
        ("admin", "api/admin/connections api/admin/revocations api/admin/refusals"),
    ):
        other = server.token(scope="admin" if scope == "metrics:read" else "metrics:read")
        for path in handlers.split():
            reply = await server.ask_as(other, f"/{path}")
            assert reply.status == 403, path
            assert reply.json["code"] == "forbidden"
            assert f'error="insufficient_scope", scope="{scope}"' in reply.header("WWW-Authenticate")


# What Tornado turns away before it asks the guard: method, paths, header lines, body, and what it says.
EVERYWHERE = ("/api/session", "/ws", "/api/stream/metrics", "/nothing")
MULTIPART = {"Content-Type": "multipart/form-data; boundary=x"}
BEFORE_THE_GUARD = [
    ("BREW", EVERYWHERE, {}, b"", 405),
    ("TRACE", EVERYWHERE, {}, b"", 405),
    ("get", EVERYWHERE, {}, b"", 405),
    ("FINISH", EVERYWHERE, {}, b"", 405),  # a function that every handler has
    ("X" * 10_000, EVERYWHERE, {}, b"", 405),
    ("POST", EVERYWHERE, MULTIPART, b"--x", 400),
    ("GET", ["/api/sessions/%ff"], {}, b"", 400),
]


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [(method, path, *rest) for method, paths, *rest in BEFORE_THE_GUARD for path in paths],
    ids=lambda value: str(value)[:20],
)
async def test_a_fault_that_is_found_before_the_guard_is_told_to_none_but_who_may_pass(
    start, caplog, method, path, headers, body, status
):
    limits = [f"limits.{kind}" for kind in ("requests_{}=1", "new_connections_{}=1")]
    server = await start(*(limit.format(part) for limit in limits for part in ("burst", "per_second")))

    async def ask(more=(), **how):
        server.ahead_s += 60  # or the limits of the address would be met
        return await server.ask(path, {**headers, **dict(more)}, method=method, body=body, **how)

    replies = [await ask(host="evil.example"), await ask({"Origin": EVIL}), await ask()]
    assert [reply.status for reply in replies[:2]] == [421, 403]
    assert replies[2].status == (status if path == "/nothing" else 401)
    assert {refusal.status for refusal in server.services.refusals.newest()} >= {421, 403}
    token = {"Authorization": f"Bearer {server.token(ttl_s=600)}"}
    replies += [await ask(token)]
    assert replies[-1].status == status
    server.ahead_s -= 60
    replies += [await ask(token)]
    assert_temporary(replies[-1], 429, "per_second")
    for reply in replies:
        assert set(reply.json) == {"error", "code", "ref"}
        assert reply.header("Content-Security-Policy") == SECURITY_HEADERS["Content-Security-Policy"]
        assert reply.header("Server") is None
    assert not [record for record in caplog.records if record.exc_info]


# -- headers ------------------------------------------------------------------------------------


async def test_every_reply_carries_the_security_headers_and_names_no_software(server):
    asked = [
        ("/health", {}),
        ("/login", {}),
        ("/", {}),
        ("/static/client.js", {}),
        ("/static/nothing", {}),
        ("/no-such-path", {}),
        ("/api/session", {}),
        ("/api/tasks?sort=colour", {"Authorization": f"Bearer {server.token()}"}),
        ("/api/metrics/overview", {"Authorization": f"Bearer {server.token()}"}),
        ("/api/stream/metrics?hours=x", {"Authorization": f"Bearer {server.token()}"}),
    ]
    for path, headers in asked:
        reply = await server.ask(path, headers)
        assert "Origin" in reply.headers["vary"]
        for name, value in SECURITY_HEADERS.items():
            if name == "Vary":
                continue
            wanted = "no-cache" if (name, path) == ("Cache-Control", "/static/client.js") else value
            assert reply.header(name) == wanted, (path, name)
        assert reply.header("Server") is None
        assert "unsafe" not in reply.header("Content-Security-Policy")


async def test_a_stream_and_a_handshake_name_no_software_either(server):
    stream = await server.events()
    assert stream.reply.header("Server") is None
    assert stream.reply.header("Cache-Control") == "no-store"
    assert stream.reply.header("X-Content-Type-Options") == "nosniff"
    assert stream.reply.header("X-Accel-Buffering") == "no"
    stream.close()
    peer = await server.websocket()
    assert peer.reply.status == 101
    assert peer.reply.header("Server") is None
    peer.close()


# -- order --------------------------------------------------------------------------------------


async def test_the_guard_judges_in_one_order(start):
    """Host, token in the query, address limits, Origin, credential, scope."""
    server = await start("limits.new_connections_burst=1", "limits.new_connections_per_second=0.01")
    everything_wrong = {"Origin": EVIL, "Authorization": "Bearer rubbish"}
    path = "/api/stream/metrics"
    assert (await server.ask(path + "?token=x", everything_wrong, host="evil.example")).status == 421
    assert (await server.ask(path + "?token=x", everything_wrong)).status == 400
    assert (await server.ask(path, everything_wrong)).status == 403  # takes the address's only connection
    assert (await server.ask(path, everything_wrong)).status == 429
    second = await start()
    assert (await second.ask(path, everything_wrong)).status == 403
    assert (await second.ask(path, {"Authorization": "Bearer rubbish"})).status == 401
    assert (await second.ask_as(second.token(scope="admin"), path)).status == 403
    assert not second.hub.connections_of()


# -- Host ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:PORT",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.0.0.1:PORT:PORT",
        "localhost.evil.example:PORT",
        "127.0.0.1.evil.example:PORT",
        "127.0.0.2:PORT",
        "evil@127.0.0.1:PORT",
        "127.0.0.1:PORT/",
        "127.0.0.1 :PORT",
    ],
)
async def test_a_host_that_is_not_ours_is_421_and_told_the_setting(server, host):
    name = host.replace("PORT", str(server.port))
    reply = await server.ask("/health", host=name)
    assert reply.status in (400, 421)  # Tornado refuses what is no Host at all before us
    if reply.status == 421:
        assert "allowed_hosts" in reply.json["error"]


@pytest.mark.parametrize("host", ["127.0.0.1:PORT", "localhost:PORT", "LOCALHOST:PORT", "[::1]:PORT"])
async def test_loopback_names_are_ours(server, host):
    assert (await server.ask("/health", host=host.replace("PORT", str(server.port)))).status == 200


async def test_configured_names_are_ours(start):
    server = await start(
        "server.public_url=https://monitor.example", "server.allowed_hosts=pi.lan,pi.lan:9000"
    )
    for host in ("monitor.example", "monitor.example:443", "pi.lan", "pi.lan:9000"):
        assert (await server.ask("/health", host=host)).status == 200, host
    assert (await server.ask("/health", host="pi.lan:9001")).status == 421
    cookie = {"Cookie": server.session(), "Origin": "https://monitor.example"}
    assert (await server.ask("/api/session", cookie, method="DELETE", host="monitor.example")).status == 204


async def test_a_person_is_told_by_a_page_in_which_nothing_of_the_request_is_markup(server):
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    reply = await server.ask("/no-such-path", browser)
    assert (reply.status, reply.header("Content-Type")) == (404, "text/html; charset=UTF-8")
    assert reply.header("Content-Security-Policy") == SECURITY_HEADERS["Content-Security-Policy"]
    assert "There is nothing here" in reply.body.decode()
    reply = await server.ask("/admin", browser | {"Cookie": server.session(scope="metrics:read")})
    assert reply.status == 403
    assert "This needs the scope admin" in reply.body.decode()
    assert (
        "<code>scripts/mktoken.py --subject NAME --scope &quot;metrics:read admin&quot;</code>"
        in reply.body.decode()
    )
    assert 'href="/login?next=%2Fadmin"' in reply.body.decode()
    reply = await server.ask("/", browser | {"Origin": "http://<b>evil.example"})
    assert reply.status == 403
    assert "pages of &#x27;http://&lt;b&gt;evil.example&#x27;" in reply.body.decode().lower()


async def test_dns_rebinding_gets_nowhere(server):
    """Host and Origin agree with each other, which is all that Tornado compares."""
    host = f"evil.example:{server.port}"
    headers = {"Origin": f"http://{host}", "Authorization": f"Bearer {server.token()}"}
    peer = await server.websocket(headers, host=host)
    assert peer.reply.status == 421
    peer = await server.websocket(headers | {"Sec-Fetch-Site": "same-origin"}, host=host)
    assert peer.reply.status == 421
    assert (await server.ask("/api/stream/metrics", headers, host=host)).status == 421
    assert (await server.ask("/api/metrics/overview", headers, host=host)).status == 421


# -- Origin -------------------------------------------------------------------------------------

FOREIGN = [
    "http://evil.example",
    "null",
    "",
    "https://OWN",  # our name under another scheme
    "http://OWN/",
    "http://127.0.0.1",
    "http://OWN.evil.example",
    "https://friend.example.evil.example",
    "http://friend.example",  # allowed as https only
    "https://friend.example:8443",
    "https://user@friend.example",
    "https://friend.example/page",
]


@pytest.mark.parametrize("origin", FOREIGN)
async def test_a_page_that_is_neither_ours_nor_allowed_is_403(start, origin):
    server = await start("origins.allowed=https://friend.example")
    origin = origin.replace("OWN", f"127.0.0.1:{server.port}")
    for headers in ({"Authorization": f"Bearer {server.token()}"}, {"Cookie": server.session()}, {}):
        for path in ("/api/stream/metrics", "/api/metrics/overview", "/health"):
            reply = await server.ask(path, headers | {"Origin": origin})
            assert reply.status == 403, (headers, path)
            assert "origins: {" in reply.json["error"]
        assert (await server.websocket(headers | {"Origin": origin})).reply.status == 403


async def test_two_origins_are_none_of_ours(server):
    doubled = [("Origin", server.url), ("Origin", server.url)]
    assert (await server.ask_as(server.token(), "/api/metrics/overview", doubled)).status == 403


async def test_an_explicit_token_passes_without_an_origin_from_ours_and_from_an_allowed_page(start):
    server = await start("origins.allowed=https://friend.example")
    token = {"Authorization": f"Bearer {server.token()}"}
    for origin in ({}, {"Origin": server.url}, {"Origin": "https://friend.example"}):
        assert (await server.ask("/api/metrics/overview", token | origin)).status == 200
        peer = await server.websocket(token | origin)
        assert peer.reply.status == 101
        peer.close()
        stream = await server.events(headers=token | origin)
        assert stream.reply.status == 200
        stream.close()


async def test_null_passes_only_where_allowed_and_only_with_an_explicit_token(start):
    server = await start("origins.allow_null=true")
    null = {"Origin": "null"}
    assert (await server.ask_as(server.token(), "/api/metrics/overview", null)).status == 200
    assert (await server.ask("/api/metrics/overview", null | {"Cookie": server.session()})).status == 403
    assert (await server.websocket(null | {"Cookie": server.session()})).reply.status == 403


async def test_the_cookie_opens_a_websocket_for_our_own_pages_only(start):
    server = await start("origins.allowed=https://friend.example")
    cookie = {"Cookie": server.session()}
    peer = await server.websocket(cookie | {"Origin": server.url})
    assert peer.reply.status == 101
    peer.close()
    for origin in ({}, {"Origin": "https://friend.example"}, {"Origin": EVIL}):
        assert (await server.websocket(cookie | origin)).reply.status == 403, origin


async def test_the_cookie_with_an_unsafe_method_is_for_our_own_pages_only(start):
    server = await start("origins.allowed=https://friend.example")
    cookie = {"Cookie": server.session()}
    for origin in ({}, {"Origin": "https://friend.example"}):
        assert (await server.ask("/api/session", cookie | origin, method="DELETE")).status == 403
    own = cookie | {"Origin": server.url}
    assert (await server.ask("/api/session", own, method="DELETE")).status == 204


@pytest.mark.parametrize(
    ("site", "mode", "api", "page"),
    [
        (None, None, 200, 200),
        ("same-origin", "cors", 200, 200),
        ("none", "navigate", 200, 200),
        ("cross-site", "navigate", 403, 200),
        ("same-site", "navigate", 403, 200),
        ("cross-site", "cors", 403, 403),
        ("cross-site", "no-cors", 403, 403),
        ("same-site", "no-cors", 403, 403),
    ],
)
async def test_the_cookie_with_get_is_judged_by_fetch_metadata(server, site, mode, api, page):
    headers = {"Cookie": server.session()}
    headers |= {"Sec-Fetch-Site": site} if site else {}
    headers |= {"Sec-Fetch-Mode": mode} if mode else {}
    assert (await server.ask("/api/metrics/overview", headers)).status == api
    assert (await server.ask("/", headers)).status == page


# -- CORS ---------------------------------------------------------------------------------------


async def test_a_preflight_of_an_allowed_page_needs_no_credential(start):
    server = await start("origins.allowed=https://friend.example")
    asked = {
        "Origin": "https://friend.example",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }
    reply = await server.ask("/api/tasks", asked, method="OPTIONS")
    assert reply.status == 204
    assert reply.body == b""
    assert reply.header("Access-Control-Allow-Origin") == "https://friend.example"
    assert reply.header("Access-Control-Allow-Methods") == "GET, HEAD, OPTIONS"
    assert "Authorization" in reply.header("Access-Control-Allow-Headers")
    assert reply.header("Access-Control-Allow-Credentials") is None
    assert reply.header("Vary") == "Origin"


async def test_an_allowed_page_can_read_replies_and_errors_alike(start):
    server = await start("origins.allowed=https://friend.example")
    friend = {"Origin": "https://friend.example"}
    token = server.token()
    for path, status in (
        ("/api/metrics/overview", 200),
        ("/api/metrics/overview?hours=x", 400),
        ("/api/nothing", 404),
    ):
        reply = await server.ask_as(token, path, friend)
        assert reply.status == status
        assert reply.header("Access-Control-Allow-Origin") == "https://friend.example", path
        assert reply.header("Access-Control-Allow-Credentials") is None
        assert reply.header("Cross-Origin-Resource-Policy") == "cross-origin"
    assert (await server.ask("/api/session", friend)).header("Access-Control-Allow-Origin") is not None


# -- limits -------------------------------------------------------------------------------------


def assert_temporary(reply: Reply, status, limit):
    assert reply.status == status
    assert limit in reply.json["error"]
    assert reply.json["code"] == "rate_limited"
    assert 1 <= int(reply.header("Retry-After")) <= 120


async def test_at_its_limit_a_subjects_longest_silent_connection_makes_room(start):
    """Over both transports, and for a stream that begins, not for a request that comes to none."""
    server = await start("limits.connections_per_subject=2")
    stream = await server.events()
    server.ahead_s += 1
    peer = await server.websocket()
    other = await server.websocket({"Authorization": f"Bearer {server.token('bob')}"})
    token = server.token()
    for path, method, status in (
        ("/api/stream/metrics?hours=x", "GET", 400),
        ("/api/stream/metrics", "HEAD", 405),
        ("/ws", "GET", 426),
    ):
        assert (await server.ask_as(token, path, method=method)).status == status
    assert server.hub.connections_of(subject="ada") == 2
    server.ahead_s += 1
    newest = await server.websocket()
    bye = (await stream.until("bye")).data
    assert (bye["code"], bye["reconnect"]) == (4505, False)
    assert await stream.next() is None
    assert server.hub.connections_of(subject="ada") == 2
    server.ahead_s += 1
    await peer.say("unsubscribe")
    await peer.until("unsubscribed")
    await server.events()
    assert (await newest.until("bye"))["data"]["code"] == 4505
    assert server.hub.connections_of(subject="bob") == 1
    other.close()


async def test_an_address_has_its_number_of_connections(start):
    server = await start("limits.connections_per_address=1")
    peer = await server.websocket()
    refused = await server.ask_as(server.token("bob"), "/api/stream/metrics")
    assert_temporary(refused, 429, "limits.connections_per_address")
    peer.close()


async def test_the_server_has_its_number_of_connections(start):
    server = await start("limits.connections=1")
    peer = await server.websocket()
    refused = await server.ask_as(server.token("bob"), "/api/stream/metrics")
    assert_temporary(refused, 503, "limits.connections")
    assert (await server.ask("/health")).status == 200
    peer.close()


async def test_new_connections_come_at_their_rate_also_when_they_are_refused(start):
    server = await start("limits.new_connections_burst=2", "limits.new_connections_per_second=1")
    assert (await server.ask("/api/stream/metrics")).status == 401
    assert (await server.ask("/api/stream/metrics")).status == 401
    refused = await server.ask("/api/stream/metrics")
    assert_temporary(refused, 429, "limits.new_connections_per_second")
    server.ahead_s += 1
    assert (await server.ask("/api/stream/metrics")).status == 401


async def test_requests_have_a_bucket_of_their_own_and_health_has_none(start):
    server = await start("limits.requests_burst=2", "limits.requests_per_second=1")
    for _ in range(2):
        assert (await server.ask("/api/session")).status == 401
    assert_temporary(await server.ask("/api/session"), 429, "limits.requests_per_second")
    assert (await server.ask("/health")).status == 200
    peer = await server.websocket()
    assert peer.reply.status == 101
    peer.close()


async def test_each_refused_peer_is_told_another_time(start):
    server = await start("limits.requests_burst=1", "limits.requests_per_second=0.01")
    await server.ask("/api/session")
    replies = await asyncio.gather(*[server.ask("/api/session") for _ in range(40)])
    assert len({reply.header("Retry-After") for reply in replies}) > 1


# -- what a refusal says ------------------------------------------------------------------------


async def test_a_refusal_is_json_with_a_ref_that_stands_in_the_log_with_the_reason(server, caplog):
    expired = server.token(ttl_s=5)
    server.ahead_s += 10
    reply = await server.ask_as(expired, "/api/tasks")
    assert reply.status == 401
    assert reply.header("Content-Type").startswith("application/json")
    assert set(reply.json) == {"error", "code", "ref"}
    assert "expired" not in reply.header("WWW-Authenticate")
    (line,) = [
        record.getMessage() for record in caplog.records if f"ref={reply.json['ref']}" in record.getMessage()
    ]
    assert "expired" in line


async def test_unknown_paths_are_404_and_wrong_methods_405_with_allow(server):
    reply = await server.ask("/api/nothing")
    assert (reply.status, reply.json["code"]) == (404, "invalid_request")
    reply = await server.ask_as(server.token(), "/api/tasks", method="POST")
    assert (reply.status, reply.header("Allow")) == (405, "GET, HEAD, OPTIONS")
    assert set(reply.json) == {"error", "code", "ref"}
    reply = await server.ask_as(server.token(), "/api/session", method="PUT")
    assert (reply.status, reply.header("Allow")) == (405, "GET, HEAD, POST, DELETE, OPTIONS")
    reply = await server.ask_as(server.token(), "/api/tasks", method="BREW")
    assert (reply.status, reply.header("Allow")) == (405, "GET, HEAD, OPTIONS")
    reply = await server.ask("/api/nothing", method="BREW")
    assert (reply.status, reply.header("Allow")) == (405, "OPTIONS")


async def test_a_crash_in_a_handler_is_a_generic_500_and_its_cause_stands_in_the_log(server, caplog):
    server.amiga.fault = ZeroDivisionError("the secret cause")
    reply = await server.ask_as(server.token(), "/api/tasks?search=canary")
    assert reply.status == 500
    assert reply.json["code"] == "internal"
    assert b"secret cause" not in reply.body
    logged = "\n".join(f"{record.getMessage()} {record.exc_info}" for record in caplog.records)
    assert "the secret cause" in logged
    assert reply.json["ref"] in logged
    assert "canary" not in logged, "the query was logged"
    caplog.clear()
    server.amiga.fault = None
    assert (await server.ask_as(server.token(), "/api/tasks")).status == 200


async def test_a_canary_token_reaches_no_log(server, caplog):
    token = server.token(subject="canary")
    forged = jwt.encode({"sub": "canary"}, "x" * 40, algorithm="HS256")
    for secret in (token, forged):
        for path in ("/api/tasks", "/api/nothing", f"/api/{secret}", f"/static/{secret}"):
            await server.ask_as(secret, path)
            await server.ask_as(secret, f"{path}?token={secret}")
        await server.ask(f"/ws?access_token={secret}")
        await server.ask(f"/login?next={secret}", {"Referer": f"http://x/?token={secret}"})
        await server.ask_as(secret, "/health", host="evil.example")
        await server.ask_as(secret, "/health", {"Origin": f"http://{secret[:40]}"})
        server.ahead_s += 60
        peer = await server.websocket({}, protocols=("amiga.v1", f"amiga.bearer.{secret}"))
        peer.close()
    lines = [app.log.LineFormatter().format(record) for record in caplog.records]
    assert any("refused" in line for line in lines)
    assert not [line for line in lines if JWT.search(line) or secret in line]
    caplog.clear()  # paths that are tokens: it is the formatter that hides them


async def test_what_a_peer_sends_cannot_forge_log_lines(server, caplog):
    await server.ask("/health", host="evil\x1b[2J\x07.example")
    await server.ask("/health", {"Origin": "http://a\x1b]0;x\x07b"})
    await server.ask("/a\x1b[31mb%0a%0d2026 ERROR fake")
    assert printable("a\x1b[2J\r\nb\x7f\u2028é") == "a\\x1b[2J\\x0d\\x0ab\\x7f\\u2028\\xe9"
    assert len(printable("x" * 10_000)) == 200
    for record in caplog.records:
        if record.name.startswith("amiga_ws"):
            assert record.getMessage().isprintable()


# -- peers that leave ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/ws", "/api/stream/metrics", "/api/metrics/overview", "/", "/nothing"])
async def test_a_peer_that_resets_at_once_leaves_nothing_behind(server, path):
    """It is gone before the guard looks; the fixture sees to it that nobody complains in the log."""
    lines = [("Authorization", f"Bearer {server.token()}")] + (handshake() if path == "/ws" else [])
    request = request_bytes("GET", path, f"127.0.0.1:{server.port}", lines, close=False)
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port)) as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.sendall(request)
        await asyncio.sleep(0.02)
    await eventually(lambda: not server.hub.connections_of())
