"""Whose address and scheme count: the socket's, unless a trusted proxy speaks for somebody else."""

from __future__ import annotations

import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from amiga_ws.handlers.peer import networks, peer_of


class Socket:
    def getsockname(self):
        return ("192.0.2.1", 3000)


class Stream:
    socket = Socket()

    def __init__(self, closed=False):
        self.closed = lambda: closed


class Context:
    def __init__(self, remote_ip):
        self.remote_ip, self.protocol = remote_ip, "http"


class Connection:
    def __init__(self, remote_ip, closed=False):
        self.context, self.stream = Context(remote_ip), Stream(closed)

    def set_close_callback(self, callback):
        pass


def seen(remote_ip, trusted, *headers, closed=False):
    found = HTTPHeaders({"Host": "h"})
    for name, value in headers:
        found.add(name, value)
    request = HTTPServerRequest(
        start_line=RequestStartLine("GET", "/", "HTTP/1.1"),
        headers=found,
        connection=Connection(remote_ip, closed),
    )
    return peer_of(request, networks(trusted))


def test_without_a_trusted_proxy_forwarded_headers_are_noise():
    forged = (("X-Forwarded-For", "10.9.9.9"), ("X-Forwarded-Proto", "https"))
    for trusted in ([], ["10.0.0.0/8"]):
        peer = seen("203.0.113.7", trusted, *forged)
        assert (peer.ip, peer.key, peer.scheme, peer.local) == (
            "203.0.113.7",
            "203.0.113.7",
            "http",
            ("192.0.2.1", 3000),
        )


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        (["198.51.100.4"], "198.51.100.4"),
        (["6.6.6.6, 198.51.100.4"], "198.51.100.4"),  # what the client wrote itself stands on the left
        (["6.6.6.6, 198.51.100.4, 10.0.0.2"], "198.51.100.4"),  # through two of our proxies
        (["6.6.6.6", "198.51.100.4"], "198.51.100.4"),  # in two header lines
        (["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        (["unknown"], "10.0.0.1"),
        (["198.51.100.4, unknown"], "10.0.0.1"),
        (["198.51.100.4:5555"], "10.0.0.1"),
        ([""], "10.0.0.1"),
        ([], "10.0.0.1"),
        (["x" * 8000], "10.0.0.1"),
        (["::ffff:198.51.100.4"], "198.51.100.4"),
        (["2001:db8::7"], "2001:db8::7"),
    ],
)
def test_a_trusted_proxy_names_the_client_by_its_right_end(forwarded, expected):
    peer = seen("10.0.0.1", ["10.0.0.0/8"], *(("X-Forwarded-For", line) for line in forwarded))
    assert peer.ip == expected


@pytest.mark.parametrize(
    ("value", "scheme"),
    [("https", "https"), ("HTTPS", "https"), ("http, https", "https"), ("ftp", "http"), ("", "http")],
)
def test_a_trusted_proxy_names_the_scheme(value, scheme):
    assert seen("127.0.0.1", ["127.0.0.1"], ("X-Forwarded-Proto", value)).scheme == scheme
    assert seen("127.0.0.2", ["127.0.0.1"], ("X-Forwarded-Proto", value)).scheme == "http"


@pytest.mark.parametrize(
    ("remote", "ip", "key"),
    [
        ("203.0.113.7", "203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2:ffff::1", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::1", "fe80::"),
    ],
)
def test_limits_count_an_ipv6_household_as_one(remote, ip, key):
    peer = seen(remote, [])
    assert (peer.ip, peer.key) == (ip, key)


def test_a_connection_that_was_reset_has_no_peer():
    assert seen("203.0.113.7", [], closed=True) is None


async def test_behind_a_trusted_proxy_the_cookie_is_secure_and_limits_count_the_client(start):
    server = await start(
        "server.trusted_proxies=127.0.0.1",
        "server.public_url=https://amiga.example",
        "limits.requests_burst=1",
    )
    token = server.token()
    proxied = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "198.51.100.4"}
    reply = await server.ask_as(token, "/api/session", proxied, method="POST", host="amiga.example")
    assert reply.status == 201
    assert reply.header("Set-Cookie").startswith("__Host-amiga_session=")
    assert "Secure" in reply.header("Set-Cookie")
    assert reply.header("Strict-Transport-Security")
    assert (await server.ask_as(token, "/api/session", proxied, host="amiga.example")).status == 429
    other = proxied | {"X-Forwarded-For": "198.51.100.5"}
    assert (await server.ask_as(token, "/api/session", other, host="amiga.example")).status == 200
