"""Frames of all sorts against the real server: what they lead to is what a simple model of the RFCs says."""

from __future__ import annotations

import contextlib
import io
import logging
import random
import socket
import sys
import time
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import CHECKOUT, Running
from servers import InThread, handshake, masked_frame, request_bytes, settings_in

from amiga_ws import state
from amiga_ws.auth.tokens import Authority
from amiga_ws.config.table import Auth

FREE = [
    f"limits.{name}=100000"
    for name in (
        "connections_per_address",
        "connections_per_subject",
        "new_connections_per_second",
        "new_connections_burst",
        "messages_per_second",
        "messages_burst",
        "misuses_burst",
        "deflate_connections",
    )
]
LIMIT = 1024  # small, so that what Hypothesis may have to print stays so too
ALIVE, ENDED, CUT = (
    "alive",
    "closed without a code",
    "cut",
)  # how it stands with a connection without a close code
FRAMES = 6  # fewer than the ten messages that do not parse


# -- the model ------------------------------------------------------------------------------------


def outcome(frames, deflate):
    """The close code a connection ends with after these (first byte, masked, payload), or ALIVE."""
    parts, packed = None, False  # of the message that is being sent
    for first, masked, payload in frames:
        final, reserved, opcode = first >> 7, first >> 4 & 7, first & 15
        control = opcode in (8, 9, 10)
        lawful = opcode in (0, 1, 2) or (control and final and len(payload) < 126)
        lawful = lawful and (not reserved or (reserved == 4 and deflate and opcode in (1, 2)))
        if not masked or not lawful or (not control and (opcode == 0) != (parts is not None)):
            return 1002
        if opcode == 2:
            return 1003
        if opcode == 8:
            return after_close(payload)
        if control:
            continue
        packed = reserved == 4 if opcode else packed
        parts = [*(parts or []), payload]
        text = b"".join(parts)
        if len(text) > LIMIT:
            return 1009
        if final:
            parts = None
            if (code := after_message(text, packed)) is not None:
                return code
    return ALIVE


def after_message(data, packed):
    """The close code that a whole message earns; None for one that is as it should be."""
    try:
        text = inflated(data) if packed else data
    except zlib.error:
        return 1007
    if len(text) > LIMIT:
        return 1009
    return None if is_utf8(text) else 1007


def inflated(data):
    """RFC 7692, 7.2.2; nothing is remembered from one message to the next. A byte more than may be is enough."""
    return zlib.decompressobj(-15).decompress(data + b"\x00\x00\xff\xff", LIMIT + 1)


def deflated(data):
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def after_close(payload):
    if not payload:
        return ENDED  # it comes back without a code
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or not (3000 <= code <= 4999 or 1000 <= code <= 1014) or code in (1004, 1005, 1006):
        return 1002
    return code if is_utf8(payload[2:]) else 1007


def is_utf8(data):
    try:
        data.decode("utf-8", "strict")
    except UnicodeDecodeError:
        return False
    return True


# -- frames ---------------------------------------------------------------------------------------

close_payloads = st.builds(
    lambda code, reason: code.to_bytes(2, "big") + reason,
    st.one_of(st.sampled_from([1000, 1001, 1004, 1005, 1006, 1014, 1015, 3000, 4999]), st.integers(0, 65535)),
    st.sampled_from([b"", b"x", b"\xff", "ü".encode(), b"r" * 123]),
)
payloads = st.one_of(
    st.binary(max_size=130),
    st.text(max_size=40).map(str.encode),
    st.sampled_from([b"", b'{"event":"unsubscribe"}', "€".encode()[:2], b"x" * 126, b"x" * 600, b"x" * 1100]),
)
honest = st.one_of(
    st.tuples(st.sampled_from([0x81, 0x01, 0x80, 0x00]), st.just(True), payloads),
    st.tuples(st.sampled_from([0x89, 0x8A]), st.just(True), st.binary(max_size=125)),
)
odd = st.one_of(
    st.tuples(st.integers(0, 255), st.booleans(), payloads),
    st.tuples(st.just(0x88), st.just(True), close_payloads),
)
packed = st.one_of(
    payloads.map(deflated),
    st.sampled_from([deflated(b"x" * LIMIT), deflated(b"x" * (LIMIT + 1)), deflated(b"x" * 1_000_000)]),
    st.builds(lambda data, at: data[: at % (len(data) + 1)], payloads.map(deflated), st.integers(0, 200)),
    st.binary(max_size=60),
)


@st.composite
def compressed(draw):
    """The frames of a message that says it is compressed, whole or in two fragments."""
    data = draw(packed)
    if draw(st.booleans()):
        return [(0xC1, True, data)]
    at = draw(st.integers(0, len(data)))
    return [(0x41, True, data[:at]), (0x80, True, data[at:])]


some = st.one_of(honest, honest, honest, odd).map(lambda frame: [frame]) | compressed()
conversations = st.lists(some, min_size=1, max_size=FRAMES).map(
    lambda several: [frame for frames in several for frame in frames]
)


def bytes_of(first, masked, payload):
    return masked_frame(first, payload) if masked else bytes([first, min(len(payload), 125)]) + payload[:125]


# -- the server -----------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["plain", "deflate"])
def free(request, tmp_path_factory):
    """(port, token, deflate) of a server without limits on how many come; it must not have complained in the end."""
    deflate = request.param == "deflate"
    complaints = logging.StreamHandler(said := io.StringIO())
    complaints.setLevel(logging.WARNING)
    logging.getLogger().addHandler(complaints)
    more = [f"limits.message_bytes={LIMIT}", f"server.deflate={str(deflate).lower()}"]
    with InThread(settings_in(tmp_path_factory.mktemp("free"), *FREE, *more)) as server:
        yield server.port, server.token(), deflate
    logging.getLogger().removeHandler(complaints)
    assert said.getvalue() == ""


def opened(free):
    port, token, deflate = free
    peer = socket.create_connection(("127.0.0.1", port), timeout=60)
    headers = [*handshake(), ("Authorization", f"Bearer {token}")]
    headers += [("Sec-WebSocket-Extensions", "permessage-deflate")] if deflate else []
    peer.sendall(request_bytes("GET", "/ws", f"127.0.0.1:{port}", headers, close=False))
    reader = peer.makefile("rb")
    assert reader.readline().startswith(b"HTTP/1.1 101 ")
    agreed = False
    while (line := reader.readline()) != b"\r\n":
        agreed = agreed or b"client_no_context_takeover" in line
    assert agreed == deflate
    return peer, reader


QUESTION = masked_frame(0x89, b"are you there?")


def ending(reader):
    """How it stands with a connection: ALIVE when the question is answered, else its close code, ENDED or CUT."""
    while True:
        try:
            head = reader.read(2)
            if len(head) < 2:
                return CUT
            size = head[1]
            if size > 125:
                size = int.from_bytes(reader.read(2 if size == 126 else 8), "big")
            payload = reader.read(size)
        except ConnectionError:
            return CUT
        if head[0] == 0x8A and payload == b"are you there?":
            return ALIVE
        if head[0] == 0x88:
            with contextlib.suppress(ConnectionError):
                assert reader.read() == b"", "bytes after the close frame"
            return int.from_bytes(payload[:2], "big") if payload else ENDED


@settings(max_examples=300)
@given(frames=conversations)
def test_any_frames_lead_where_the_rfcs_say(free, frames):
    peer, reader = opened(free)
    with peer, reader:
        expected = outcome(frames, free[2])
        with contextlib.suppress(ConnectionError):
            for frame in frames:
                peer.sendall(bytes_of(*frame))
                if frame[0] & 15 == 8:
                    break  # what comes after a close may have the kernel reset the connection, its answer lost
            if expected == ALIVE:
                peer.sendall(QUESTION)
        assert ending(reader) == expected


@settings(max_examples=150)
@given(frames=conversations, flips=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8))
def test_any_bytes_end_in_silence_or_with_a_code_of_the_rfc(free, frames, flips):
    data = bytearray(b"".join(bytes_of(*frame) for frame in frames))
    for place, byte in flips:
        data[place % len(data)] = byte
    peer, reader = opened(free)
    with peer, reader:
        with contextlib.suppress(ConnectionError):
            peer.sendall(data)
            peer.shutdown(socket.SHUT_WR)
        found = ending(reader)
        assert found in (ALIVE, ENDED, CUT) or 1000 <= found <= 1014 or 3000 <= found <= 4999


# -- ten thousand ---------------------------------------------------------------------------------

MALFORMED = [
    b"\x81\x01x",
    b"\x88\x00",
    masked_frame(0x83, b"x"),
    masked_frame(0xC1, b"x"),
    masked_frame(0xF9),
    masked_frame(0x80),
    masked_frame(0x09),
    masked_frame(0x82, b"\x1b[2J\n"),
    masked_frame(0x81, b"\xff\x1b[2J\n"),
    masked_frame(0x88, b"\x00"),
    masked_frame(0x88, b"\x03\xed"),
    masked_frame(0x88, b"\x03\xe8\xff"),
    b"\x81\xff" + b"\xff" * 8,
]
FRAMES_IN_ALL = 10_000


@pytest.mark.promise("Malformed frames neither fill the log nor disturb anybody")
@pytest.mark.timeout(300)  # 5 s on a quiet machine
def test_ten_thousand_malformed_frames_leave_a_quiet_log_and_others_alone(tmp_path, full, figure):
    """Each ends its connection, so most of what follows it is thrown away unread."""
    connections = FRAMES_IN_ALL if full else 1000
    words = [f"state_dir={tmp_path / 'state'}", f"amiga.root={tmp_path / 'amiga'}", "server.port=0", *FREE]
    command = [sys.executable, "-m", "amiga_ws", "serve", *(f"--set={word}" for word in words)]
    with Running(command, CHECKOUT, tmp_path / "log") as server:
        token = Authority(state.load_secret(tmp_path / "state"), Auth()).issue(
            subject="ada", scope="metrics:read", ttl_s=3600, now=time.time()
        )
        free = int(server.url.rpartition(":")[2]), token, False
        watcher, events = opened(free)
        with watcher, events:
            watcher.sendall(masked_frame(0x81, b'{"event":"subscribe"}'))
            draw = random.Random(7)
            for _ in range(connections):
                peer, reader = opened(free)
                with peer, reader, contextlib.suppress(ConnectionError):
                    peer.sendall(b"".join(draw.choices(MALFORMED, k=FRAMES_IN_ALL // connections)))
                    assert ending(reader) in (1002, 1003, 1007, 1009)
            watcher.sendall(masked_frame(0x81, b'{"event":"request_refresh","id":"still here"}'))
            until(events, b'"id":"still here"')
        assert server.stop()[0] == 0
        log = server.stderr()
    figure(f"{FRAMES_IN_ALL} frames on {connections} connections left {len(log.splitlines())} log lines")
    assert "Traceback" not in log
    assert log.count("closing") >= 20
    assert len(log.splitlines()) <= 100, log
    assert "\x1b" not in log


def until(reader, text):
    """Read until it has come."""
    seen = b""
    while text not in seen:
        more = reader.read1(65536)
        assert more, "the connection has ended"
        seen = seen[-len(text) :] + more
