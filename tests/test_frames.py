"""RFC 6455 and 7692, frame by frame, on the echo (tests/ws_echo.py) that is made of our own base class."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import socket
import zlib
from types import SimpleNamespace

import pytest
import tornado
import tornado.util
import tornado.web
import tornado.websocket
import ws_echo
from servers import RawWebSocket, handshake, masked_frame, request_bytes
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port

PROTOCOL, HANDLER = tornado.websocket.WebSocketProtocol13, tornado.websocket.WebSocketHandler
FIN, RSV1, RSV2, RSV3 = 0x80, 0x40, 0x20, 0x10
CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
LIMIT = ws_echo.MESSAGE_BYTES
OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate"}


@pytest.fixture
def echo(io_loop):
    """await echo(deflate=False) → an open peer of it."""
    servers, peers = [], []

    async def connect(*, deflate=False, offer=None, send_buffer=None):
        listening, port = bind_unused_port()
        if send_buffer is not None:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        server = HTTPServer(ws_echo.application(deflate=deflate))
        server.add_socket(listening)
        servers.append(server)
        headers = (offer or OFFER) if deflate else {}
        peer = await RawWebSocket.open(SimpleNamespace(port=port), headers, path="/ws-echo")
        peers.append(peer)
        return peer

    yield connect
    for peer in peers:
        peer.close()
    for server in servers:
        server.stop()
        io_loop.run_sync(server.close_all_connections)


def deflated(text):
    """As a message goes over the wire (RFC 7692, 7.2.1)."""
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def inflated(data):
    return zlib.decompressobj(-15).decompress(data + b"\x00\x00\xff\xff")


def close(code, reason=b""):
    return masked_frame(FIN | CLOSE, code.to_bytes(2, "big") + reason)


text = masked_frame(FIN | TEXT, b"x")
begun = masked_frame(TEXT, b"x")
BROKEN = {
    "text without a mask": (b"\x81\x01x", 1002),
    "ping without a mask": (b"\x89\x00", 1002),
    "close without a mask": (b"\x88\x02\x03\xe8", 1002),
    "second reserved bit": (masked_frame(FIN | RSV2 | TEXT), 1002),
    "third reserved bit": (masked_frame(FIN | RSV3 | TEXT), 1002),
    "reserved bit on a ping": (masked_frame(FIN | RSV1 | PING), 1002),
    "reserved bit on a close": (masked_frame(FIN | RSV1 | CLOSE), 1002),
    "reserved bit on a continuation": (begun + masked_frame(FIN | RSV1 | CONT), 1002),
    **{f"opcode {n}": (masked_frame(FIN | n), 1002) for n in (*range(3, 8), *range(11, 16))},
    "ping in fragments": (masked_frame(PING), 1002),
    "long ping": (masked_frame(FIN | PING, b"x" * 126), 1002),
    "long close": (masked_frame(FIN | CLOSE, b"\x03\xe8" + b"x" * 124), 1002),
    "continuation of nothing": (masked_frame(FIN | CONT), 1002),
    "continuation of what has ended": (text + masked_frame(CONT), 1002),
    "message within a message": (begun + text, 1002),
    "length in 2 bytes that fits in 7 bits": (b"\x81\xfe\x00\x7d" + b"x" * 129, 1002),
    "length in 8 bytes that fits in 2": (b"\x81\xff" + (0xFFFF).to_bytes(8, "big"), 1002),
    "length with its first bit set": (b"\x81\xff" + b"\xff" * 8, 1009),
    "one byte too many": (b"\x82\xff" + (LIMIT + 1).to_bytes(8, "big"), 1009),
    "one byte too many, in fragments": (begun + b"\x80\xff" + LIMIT.to_bytes(8, "big"), 1009),
    "no UTF-8": (masked_frame(FIN | TEXT, b"\xff\xfe"), 1007),
    "overlong UTF-8": (masked_frame(FIN | TEXT, b"\xc0\xaf"), 1007),
    "surrogate in UTF-8": (masked_frame(FIN | TEXT, b"\xed\xa0\x80"), 1007),
    "UTF-8 cut short": (masked_frame(FIN | TEXT, b"\xe2\x82"), 1007),
    "UTF-8 cut short in fragments": (masked_frame(TEXT, b"\xe2") + masked_frame(FIN | CONT, b"\x82"), 1007),
    "half a close code": (masked_frame(FIN | CLOSE, b"\x03"), 1002),
    "close reason that is no UTF-8": (close(1000, b"\xff"), 1007),
    **{
        f"close code {n}": (close(n), 1002)
        for n in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    },
}


@pytest.mark.parametrize("deflate", [False, True], ids=["plain", "deflate"])
@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_rule_ends_the_connection_with_its_code(echo, name, deflate):
    sent, code = BROKEN[name]
    peer = await echo(deflate=deflate)
    await peer.send_raw(sent + text)
    found = await peer.closed()
    assert found[0] == code, found
    assert found[1]
    assert await peer.ended()  # though we have not answered: the server closes first


async def test_compression_that_was_not_agreed_to_is_1002(echo):
    peer = await echo()
    await peer.send_raw(masked_frame(FIN | RSV1 | TEXT, deflated(b"x")))
    assert (await peer.closed())[0] == 1002


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"\xff" * 20, 1007),  # no deflate
        (deflated(b"\xff\xfe"), 1007),  # no UTF-8 inside
        (deflated(b"x" * (LIMIT + 1)), 1009),  # 16 KiB that become 16 MiB and one byte
    ],
)
async def test_bad_compressed_messages_end_the_connection_with_their_code(echo, payload, code):
    peer = await echo(deflate=True)
    await peer.send_raw(masked_frame(FIN | RSV1 | TEXT, payload))
    assert (await peer.closed())[0] == code


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999])
async def test_a_good_close_code_comes_back_and_the_server_closes_first(echo, code):
    peer = await echo()
    await peer.send_raw(close(code, "schön".encode()) + text)
    assert await peer.frame() == (CLOSE, code.to_bytes(2, "big"))
    assert await peer.ended()


async def test_a_close_without_code_comes_back_without(echo):
    peer = await echo()
    await peer.send_raw(masked_frame(FIN | CLOSE))
    assert await peer.frame() == (CLOSE, b"")
    assert await peer.ended()


SPLIT = "a€b".encode()
GOOD = {
    "text": (masked_frame(FIN | TEXT, b"abc"), [(TEXT, b"abc")]),
    "empty": (masked_frame(FIN | TEXT), [(TEXT, b"")]),
    "binary": (masked_frame(FIN | BINARY, b"\xff\x00"), [(BINARY, b"\xff\x00")]),
    "125, 126 and 65536 bytes": (
        b"".join(masked_frame(FIN | BINARY, b"y" * n) for n in (125, 126, 1 << 16)),
        [(BINARY, b"y" * n) for n in (125, 126, 1 << 16)],
    ),
    "fragments within a character": (
        masked_frame(TEXT, SPLIT[:2]) + masked_frame(CONT) + masked_frame(FIN | CONT, SPLIT[2:]),
        [(TEXT, SPLIT)],
    ),
    "ping": (masked_frame(FIN | PING, b"here?"), [(PONG, b"here?")]),
    "ping between fragments": (
        begun + masked_frame(FIN | PING, b"?") + masked_frame(FIN | CONT, b"y"),
        [(PONG, b"?"), (TEXT, b"xy")],
    ),
    "pong nobody asked for": (masked_frame(FIN | PONG, b"!") + text, [(TEXT, b"x")]),
    "mask of zeros": (masked_frame(FIN | TEXT, b"abc", mask=bytes(4)), [(TEXT, b"abc")]),
}


@pytest.mark.parametrize("name", GOOD)
async def test_what_is_good_is_taken(echo, name):
    sent, answers = GOOD[name]
    peer = await echo()
    await peer.send_raw(sent)
    assert [await peer.frame() for _ in answers] == answers


async def test_bytes_may_come_one_by_one(echo):
    peer = await echo()
    for byte in GOOD["ping between fragments"][0]:
        await peer.send_raw(bytes([byte]))
        await asyncio.sleep(0)
    assert [await peer.frame() for _ in range(2)] == [(PONG, b"?"), (TEXT, b"xy")]


async def test_control_frames_between_compressed_fragments_do_no_harm(echo):
    """Stock Tornado tries to decompress the ping, and the connection is lost."""
    peer = await echo(deflate=True)
    data = deflated(b"hello " * 9)
    await peer.send_raw(masked_frame(RSV1 | TEXT, data[:3]) + masked_frame(FIN | PING, b"?"))
    await peer.send_raw(masked_frame(CONT, data[3:5]) + masked_frame(FIN | PONG))
    await peer.send_raw(masked_frame(FIN | CONT, data[5:]))
    assert await peer.frame() == (PONG, b"?")
    opcode, payload = await peer.frame()
    assert (opcode, inflated(payload)) == (TEXT, b"hello " * 9)


async def test_a_message_may_be_left_uncompressed(echo):
    peer = await echo(deflate=True)
    await peer.send_raw(text)
    opcode, payload = await peer.frame()
    assert (opcode, inflated(payload)) == (TEXT, b"x")


async def test_the_newest_ping_is_answered_when_they_come_faster_than_pongs_leave(echo):
    peer = await echo(send_buffer=4096)
    peer.writer.transport.pause_reading()
    names = [b"%0120d" % n for n in range(8000)]  # the kernels take 3000
    for start in range(0, len(names), 500):
        await peer.send_raw(b"".join(masked_frame(FIN | PING, name) for name in names[start : start + 500]))
    peer.writer.transport.resume_reading()
    pongs = []
    while not pongs or pongs[-1] != names[-1]:
        opcode, name = await peer.frame()
        assert opcode == PONG
        pongs.append(name)
    assert len(pongs) < len(names)  # some were passed over
    assert pongs == sorted(pongs)


# -- handshake ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([], 101),
        ([("Sec-WebSocket-Version", "12")], 426),
        ([("Sec-WebSocket-Version", "13, 13")], 426),
        ([("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAA")], 400),  # 15 bytes
        ([("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAAA=")], 400),  # 17
        ([("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAA AAAAA==")], 400),
        ([("Sec-WebSocket-Key", "")], 400),
        ([("Connection", "close")], 400),
        ([("Connection", "keep-alive, UPGRADE")], 101),
        ([("Upgrade", "websockets")], 426),
        ([("Upgrade", "WebSocket")], 101),
        ([("Sec-WebSocket-Extensions", "permessage-deflate; x=99; y=\"")], 101),
    ],
)  # fmt: skip
async def test_a_handshake_is_judged_by_the_letter(echo, lines, status):
    reply, _ = await shake_hands(await echo(deflate=True), dict(handshake()) | dict(lines))
    assert reply.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"Sec-Websocket-Extensions" not in reply
    if status == 426:
        assert b"Sec-Websocket-Version: 13" in reply
        assert b"Upgrade: websocket" in reply


async def test_two_keys_are_none(echo):
    reply, _ = await shake_hands(await echo(), [*handshake(), handshake()[-1]])
    assert reply.startswith(b"HTTP/1.1 400 ")


async def test_http_1_0_cannot_be_upgraded(echo):
    reply, _ = await shake_hands(await echo(), handshake(), version=b"HTTP/1.0")
    assert reply.split(b" ", 1)[1].startswith(b"400 ")


@pytest.mark.parametrize(
    ("offered", "answered"),
    [
        ("permessage-deflate; x=1, permessage-deflate", "permessage-deflate"),
        ("x-webkit-deflate-frame, permessage-deflate; client_max_window_bits", "permessage-deflate"),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=9",
         "permessage-deflate; server_max_window_bits=9"),
        ("permessage-deflate; client_max_window_bits=10", "permessage-deflate"),
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; client_no_context_takeover=1", None),
        ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
        ("permessage-deflate;;", None),
        ("=,;,\"", None),
    ],
)  # fmt: skip
async def test_the_first_offer_that_can_be_kept_is_answered(echo, offered, answered):
    peer = await echo(deflate=True, offer={"Sec-WebSocket-Extensions": offered})
    assert peer.reply.header("Sec-WebSocket-Extensions") == answered
    await peer.send_raw(text)
    opcode, payload = await peer.frame()
    assert opcode == TEXT
    assert payload == b"x" if answered is None else inflated(payload) == b"x"


async def shake_hands(peer, lines, version=b"HTTP/1.1"):
    """Another handshake with the server of `peer`: the head of its reply."""
    reader, writer = await asyncio.open_connection(*peer.writer.get_extra_info("peername"))
    request = request_bytes("GET", "/ws-echo", "127.0.0.1", lines, close=False)
    writer.write(request.replace(b"HTTP/1.1", version, 1))
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    writer.close()
    return head, reader


# -- Tornado ------------------------------------------------------------------------------------

# What StrictProtocol overrides, calls or relies on, and the sources it was written against.
WRITTEN_FOR = {
    tornado.util._websocket_mask: "69030fc92f40",
    tornado.websocket._DecompressTooLargeError: "3a6bcc54a62f",
    tornado.websocket._WebSocketParams: "25fea58b2699",
    tornado.websocket._PerMessageDeflateCompressor: "330ebb9749e3",
    tornado.websocket._PerMessageDeflateDecompressor: "fa2a256a2236",
    HANDLER.get: "815184e7ac82",
    HANDLER.get_websocket_protocol: "12e467619d34",
    HANDLER.close: "9b45c687a8e3",
    HANDLER.on_connection_close: "cf3122efb8a2",
    HANDLER.on_ws_connection_close: "0f88bc9ea490",
    PROTOCOL.__init__: "dc0bff21bca1",
    PROTOCOL._accept_connection: "3f09d0144297",
    PROTOCOL._parse_extensions_header: "fc400fd6cb4b",
    PROTOCOL._create_compressors: "8185d1812104",
    PROTOCOL._run_callback: "f0c78d173330",
    PROTOCOL._abort: "bbcd7cdfc85a",
    PROTOCOL._receive_frame_loop: "f97f48daf515",
    PROTOCOL._read_bytes: "e70fe5d156b7",
    PROTOCOL._write_frame: "5972981bcbf6",
    PROTOCOL._receive_frame: "1f0ef857d4df",
    PROTOCOL._handle_message: "61f43d09e004",
    PROTOCOL._send_pong: "0e1d0eb043a7",
    PROTOCOL.close: "fed589693237",
}


def test_tornado_is_still_what_our_subclass_was_written_for():
    """Loud on purpose: read what has changed there, see that handlers/frames.py still fits, note the new digest."""
    changed = {
        found.__qualname__: digest
        for found, known in WRITTEN_FOR.items()
        if (digest := source_digest(found)) != known
    }
    assert not changed, f"Tornado {tornado.version} has changed {changed}"


def source_digest(found):
    found = getattr(found, "__wrapped__", found)
    if inspect.isbuiltin(found):  # the mask in C: the same interface in Python
        found = tornado.util._websocket_mask_python
    return hashlib.sha256(inspect.getsource(found).encode()).hexdigest()[:12]


def test_tornado_still_has_the_attributes_that_are_no_functions():
    handler = inspect.getsource(tornado.web.RequestHandler)
    assert "self._finished = True" in handler
    assert "self._headers = httputil.HTTPHeaders(" in handler
