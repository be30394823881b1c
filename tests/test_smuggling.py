"""Requests that two parsers could read in two ways: one reading, one answer, and nothing after it is obeyed.

A proxy in front may see one request where we see two (RFC 9112, 11.2). Whatever is ambiguous is refused and
its connection closed; what a peer appends to it is never taken for a request.
"""

from __future__ import annotations

import asyncio
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import WITHIN_S

from amiga_ws.state import SECRET_FILE

AUTH = "Authorization: Bearer TOKEN"
HOST = "Host: 127.0.0.1:PORT"
CHUNKED = "Transfer-Encoding: chunked"
SMUGGLED = f"DELETE /api/session?everywhere=1 HTTP/1.1\r\n{HOST}\r\n{AUTH}\r\nConnection: close\r\n\r\n"
HUGE_CHUNK = f"{'f' * 16}\r\n"


def post(*lines, body="", host=HOST, start="POST /api/session HTTP/1.1"):
    return "\r\n".join([start, host, AUTH, *lines, "", ""]) + body


# All are refused; what follows (SMUGGLED) is not obeyed.
AMBIGUOUS = {
    "length and chunks": post("Content-Length: 4", CHUNKED, body="0\r\n\r\n"),
    "chunks and length": post(CHUNKED, "Content-Length: 4", body="0\r\n\r\n"),
    "two different lengths": post("Content-Length: 0", "Content-Length: 5", body="abcde"),
    "two lengths in one": post("Content-Length: 0, 5", body="abcde"),
    "length with a sign": post("Content-Length: +5", body="abcde"),
    "length in hexadecimal": post("Content-Length: 0x5", body="abcde"),
    "length with underscores": post("Content-Length: 1_0", body="abcdefghij"),
    "length in other digits": post("Content-Length: \xb2", body="ab"),
    "negative length": post("Content-Length: -5", body="abcde"),
    "length of words": post("Content-Length: five", body="abcde"),
    "empty length": post("Content-Length: ", body=""),
    "coding that is none": post("Transfer-Encoding: xchunked", body="0\r\n\r\n"),
    "coding beside chunked": post("Transfer-Encoding: gzip, chunked", body="0\r\n\r\n"),
    "chunked is not last": post("Transfer-Encoding: chunked, identity", body="0\r\n\r\n"),
    "chunked twice": post(CHUNKED, CHUNKED, body="0\r\n\r\n"),
    "coding in quotes": post('Transfer-Encoding: "chunked"', body="0\r\n\r\n"),
    "coding after a control character": post("Transfer-Encoding: \x0bchunked", body="0\r\n\r\n"),
    "space before the colon": post("Content-Length : 5", body="abcde"),
    "coding with a space before the colon": post("Transfer-Encoding : chunked", body="0\r\n\r\n"),
    "folded length": post("Content-Length:", " 5", body="abcde"),
    "folded coding": post("X: y", " Transfer-Encoding: chunked", body="0\r\n\r\n"),
    "bare cr before a header": post("X: y\rTransfer-Encoding: chunked", body="0\r\n\r\n"),
    "nul in a header": post("X: y\x00", "Content-Length: 0"),
    "nul in a header's name": post("Content\x00-Length: 5", body="abcde"),
    "two hosts": post("Host: evil.example", "Content-Length: 0"),
    "no host": "POST /api/session HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "chunk size that is none": post(CHUNKED, body="zz\r\n\r\n"),
    "chunk size with a sign": post(CHUNKED, body="-1\r\n\r\n"),
    "chunk size with 0x": post(CHUNKED, body="0x0\r\n\r\n"),
    "chunk size of 64 bits": post(CHUNKED, body=HUGE_CHUNK),
    "chunk longer than said": post(CHUNKED, body="1\r\nabc\r\n0\r\n\r\n"),
    "chunk that ends in lf": post(CHUNKED, body="1\r\na\n0\r\n\r\n"),
    "chunk with a very long extension": post(CHUNKED, body=f"0;{'x' * 5000}\r\n\r\n"),
    "http 1.0 with chunks": post(CHUNKED, body="0\r\n\r\n", start="POST /api/session HTTP/1.0"),
    "version that is none": post("Content-Length: 0", start="POST /api/session HTTP/1.1.1"),
    "version 2": post("Content-Length: 0", start="POST /api/session HTTP/2.0"),
    "tab in the request line": post("Content-Length: 0", start="POST\t/api/session\tHTTP/1.1"),
    "space in the path": post("Content-Length: 0", start="POST /api/session /x HTTP/1.1"),
    "huge header": post(f"X: {'y' * 20_000}"),
    "64 KiB of cookies": post(f"Cookie: {'a=b; ' * 13_000}"),
    "token of 5 MB": post().replace("TOKEN", "eyJ" + "x" * 5_000_000, 1),
    "10,000 headers": post(*["X: y"] * 10_000),
    "body of 5 MB": post("Content-Length: 5000000", body="x" * 100_000),
    "body of a megabyte in chunks": post(CHUNKED, body="ffff\r\n" + "x" * 65_535 + "\r\nffff\r\n"),
}


def patience(server, seconds):
    """How long to wait for what is not whole; with these peers nothing more will come."""
    server._http.conn_params.header_timeout = server._http.conn_params.body_timeout = seconds


async def answers(server, raw):
    """All that comes back until the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(raw.replace("PORT", str(server.port)).replace("TOKEN", server.token()).encode("latin-1"))
        return await asyncio.wait_for(reader.read(), WITHIN_S)
    except ConnectionError:
        return b""  # closed while we still wrote
    finally:
        writer.close()


def statuses(answer):
    return [int(found) for found in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]


@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_what_is_ambiguous_is_refused_and_nothing_after_it_is_obeyed(server, name):
    session = {"Cookie": server.session()}
    stream = await server.events(headers=session)
    patience(server, 0.3)
    answer = await answers(server, AMBIGUOUS[name] + SMUGGLED)
    patience(server, WITHIN_S)
    assert all(400 <= status < 500 for status in statuses(answer)), answer[:300]
    assert len(statuses(answer)) <= 1, answer[:600]
    assert not stream.reader.at_eof()
    assert server.hub.clients
    assert (await server.ask("/api/session", session)).status == 200  # nobody was signed out


async def test_pipelined_requests_are_answered_in_order_and_each_is_judged(server):
    get = f"GET /health HTTP/1.1\r\n{HOST}\r\n\r\n"
    evil, nobody = get.replace("127.0.0.1", "evil.example"), get.replace("/health", "/api/session")
    absolute = get.replace("/health", "http://evil.example/api/session")
    last = get.replace(HOST, f"{HOST}\r\nConnection: close")
    found = statuses(await answers(server, get + evil + nobody + absolute + last))
    assert found == [200, 421, 401, 404, 200]


async def test_the_body_of_a_refused_request_is_no_request(server):
    """It is read and dropped, or the connection ends; it is never parsed as what comes next."""
    body = SMUGGLED.replace("PORT", str(server.port)).replace("TOKEN", server.token())
    refused = f"POST /api/admin/revocations HTTP/1.1\r\n{HOST}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    after = f"GET /health HTTP/1.1\r\n{HOST}\r\nConnection: close\r\n\r\n"
    assert statuses(await answers(server, refused + after)) in ([401, 200], [401])


async def test_lines_that_end_in_lf_alone_mean_one_thing_to_us(server):
    """Tornado takes them. A proxy that does not would refuse; none reads two requests where we read one."""
    raw = f"GET /health HTTP/1.1\n{HOST}\nConnection: close\n\n"
    assert statuses(await answers(server, raw)) in ([200], [400], [])


async def test_deep_json_and_many_arguments_are_refused_without_a_traceback(server):
    """The fixture reads the log."""
    token = server.token(scope="metrics:read admin")
    deep = b'{"jti": ' + b"[" * 30_000
    for body in (deep, b"[" * 60_000, b'{"a":' * 10_000):
        reply = await server.ask_as(token, "/api/admin/revocations", method="POST", body=body)
        assert reply.status == 400
    reply = await server.ask_as(token, "/api/tasks?" + "&".join(f"a{i}=b" for i in range(1200)))
    assert reply.status in (200, 400)
    peer = await server.websocket()
    await peer.send(0x1, b'{"event": ' + b"[" * 15_000)
    assert (await peer.until("error"))["data"]["code"] in ("invalid_json", "invalid_request")


METHODS = st.sampled_from(["GET", "POST", "HEAD", "DELETE", "OPTIONS", "PUT", "get", "G\x00T", "\x1b[2J", ""])
TARGETS = st.sampled_from(
    ["/", "/api/session", "/api/tasks/%00", "/static/..%2f..%2fetc/passwd", "*", "//", "http://"]
)
JUNK = st.text(st.characters(max_codepoint=255), max_size=40)
NAMES = st.sampled_from(
    [
        "Host",
        "Origin",
        "Cookie",
        "Authorization",
        "Content-Length",
        "Transfer-Encoding",
        "Upgrade",
        "Range",
        "Expect",
    ]
)
VALUES = st.sampled_from(
    ["127.0.0.1:PORT", "http://127.0.0.1:PORT", "chunked", "websocket", "0", "Bearer TOKEN"]
)


@st.composite
def requests(draw):
    """One request, more or less."""
    start = f"{draw(METHODS | JUNK)} {draw(TARGETS | JUNK)} {draw(st.sampled_from(['HTTP/1.1', 'HTTP/1.0']) | JUNK)}"
    lines = [f"{draw(NAMES | JUNK)}: {draw(VALUES | JUNK)}" for _ in range(draw(st.integers(0, 5)))]
    host = [HOST] if draw(st.booleans()) else []
    return "\r\n".join([start, *host, *lines, "", ""]) + draw(JUNK)


PLACES = st.sampled_from(["/api/tasks/", "/api/sessions/", "/api/", "/static/", "/tasks/", "/"])
STEPS = st.sampled_from(
    ["..", "%2e%2e", ".%2E", "/", "%2f", "%5c", "\\", "//", "%00", "%", "%zz", "%c0%ae", "?", "#", ";"]
)
ENCODED = st.binary(max_size=12).map(lambda data: "".join(f"%{byte:02x}" for byte in data))
FILES = st.sampled_from(["etc/passwd", "secret.hex", "var/secret", "app.py", "uplot.js", "task_1", "s1"])
PATHS = st.builds(
    lambda place, parts: place + "".join(parts), PLACES, st.lists(STEPS | ENCODED | FILES, max_size=8)
)


def test_no_path_leads_out_of_where_it_begins(threaded):
    """Of one who may pass: an answer is what the route is for, or a refusal, and no file but those of the pages."""
    with threaded("limits.requests_burst=100000", "limits.requests_per_second=100000") as server:
        secret = (server.settings.state_dir / SECRET_FILE).read_bytes().strip()

        @given(PATHS)
        @settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
        def any_path(path):
            raw = f"GET {path} HTTP/1.1\r\n{HOST}\r\n{AUTH}\r\nConnection: close\r\n\r\n"
            answer = asyncio.run(answers(server, raw))
            assert len(statuses(answer)) == 1, answer[:300]
            assert statuses(answer)[0] < 500, answer[:300]
            for stolen in (b"Traceback", b"root:x:", b"from __future__", secret):
                assert stolen not in answer

        any_path()
        assert asyncio.run(server.ask("/health")).status == 200


def test_no_bytes_get_more_than_a_refusal_out_of_us(threaded):
    """Methods, paths, hosts, origins, headers and bodies of all sorts, on real sockets."""
    with threaded("limits.requests_burst=100000", "limits.requests_per_second=100000") as server:

        @given(requests())
        @settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
        def any_request(raw):
            answer = asyncio.run(answers(server, raw))
            assert all(status < 500 for status in statuses(answer)), answer[:300]
            assert b"Traceback" not in answer

        patience(server, 0.3)
        any_request()
        patience(server, WITHIN_S)
        assert asyncio.run(server.ask("/health")).status == 200
