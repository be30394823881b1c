"""permessage-deflate on `/ws`: agreed to without context takeover, compressed once, off by default."""

from __future__ import annotations

import json
import zlib

import aiohttp
import pytest
import websockets
from servers import RawWebSocket, eventually, masked_frame

from amiga_ws.handlers.extensions import agreed_deflate
from amiga_ws.snapshot import Task
from amiga_ws.wire import LEAST_DEFLATED, Message

OFFER = "permessage-deflate; client_max_window_bits"
AGREED = "permessage-deflate; client_no_context_takeover; server_no_context_takeover"
WHOLE = AGREED.replace("server_", "server_max_window_bits=15; server_")
COMPRESSED_TEXT = 0xC1


@pytest.fixture
def deflating(io_loop, start):
    """A server that compresses, with enough to say."""
    server = io_loop.run_sync(lambda: start("server.deflate=true", "limits.deflate_connections=2"))
    server.amiga.tasks = [
        Task(task_id=f"task_{n}", status="running", description="x" * 50) for n in range(40)
    ]
    return server


async def peer_of(server, offer=OFFER):
    headers = {"Authorization": f"Bearer {server.token()}", "Sec-WebSocket-Extensions": offer}
    return await server.websocket(headers)


def extensions(peer):
    return peer.reply.header("Sec-WebSocket-Extensions")


def inflated(data):
    return zlib.decompressobj(-15).decompress(data + b"\x00\x00\xff\xff")


def deflated(data):
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


async def test_it_is_off_by_default(server):
    peer = await peer_of(server)
    assert extensions(peer) is None
    await peer.send_raw(masked_frame(COMPRESSED_TEXT, deflated(b"{}")))
    assert (await peer.closed())[0] == 1002


async def test_states_come_compressed_and_are_the_same_bytes_for_all(deflating):
    first, second, plain = await peer_of(deflating), await peer_of(deflating), await deflating.websocket()
    assert (extensions(first), extensions(second), extensions(plain)) == (AGREED, AGREED, None)
    found = []
    for peer in (first, second, plain):
        assert (await peer.next())["event"] == "connected"
        await peer.say("subscribe", {"hours": 24})
        assert (await peer.next())["event"] == "subscribed"
        assert not peer.compressed  # too small to be worth it
        _, payload = await peer.frame()
        found.append((peer.compressed, payload))
    (one, another, full) = found
    assert one == another
    assert (one[0], full[0]) == (True, False)
    assert inflated(one[1]) == full[1]
    assert len(one[1]) < len(full[1]) / 4


async def test_what_a_client_compresses_is_obeyed(deflating):
    peer = await peer_of(deflating)
    await peer.next()
    await peer.send_raw(masked_frame(COMPRESSED_TEXT, deflated(b'{"event":"unsubscribe","id":1}')))
    assert (await peer.next())["id"] == 1
    await peer.say("unsubscribe", id=2)
    assert (await peer.next())["id"] == 2


@pytest.mark.parametrize(("size", "code"), [(16384, None), (16385, 1009), (20_000_000, 1009)])
async def test_a_compressed_message_is_as_long_as_it_is_when_decompressed(deflating, size, code):
    peer = await peer_of(deflating)
    await peer.send_raw(masked_frame(COMPRESSED_TEXT, deflated(b" " * size)))
    if code is None:
        assert (await peer.until("error"))["data"]["code"] == "invalid_json"
    else:
        assert (await peer.until("bye"))["data"]["code"] == code
        assert (await peer.closed())[0] == code


async def test_only_so_many_have_it_at_a_time(deflating):
    peers = [await peer_of(deflating) for _ in range(3)]
    assert [extensions(peer) for peer in peers] == [AGREED, AGREED, None]
    await peers[2].say("subscribe")
    await peers[2].until("metrics_update")
    peers[0].close()
    await eventually(lambda: deflating.services.deflating == 1)
    assert extensions(await peer_of(deflating)) == AGREED


@pytest.mark.parametrize(
    ("offered", "answered"),
    [
        ("permessage-deflate", AGREED),
        ("permessage-deflate; server_max_window_bits=15", WHOLE),
        ('permessage-deflate; server_max_window_bits="15"', WHOLE),
        ("permessage-deflate; server_max_window_bits=10", None),
        ("permessage-deflate; server_max_window_bits=10, permessage-deflate", AGREED),
        ("permessage-deflate; nonsense, permessage-deflate; client_max_window_bits=9", AGREED),
        ("permessage-deflate; client_max_window_bits=7", None),
        ("permessage-bzip2", None),
        ("", None),
    ],
)
async def test_what_cannot_be_kept_is_declined_and_the_next_offer_looked_at(deflating, offered, answered):
    peer = await peer_of(deflating, offered)
    assert peer.reply.status == 101
    assert extensions(peer) == answered
    assert (await peer.next())["event"] == "connected"


def test_offers_are_read_without_regard_to_case_of_the_name_and_to_blanks():
    assert agreed_deflate(" Permessage-Deflate ;  server_no_context_takeover ", shared=False) == {
        "server_no_context_takeover": None
    }
    assert agreed_deflate("permessage-deflate; server_max_window_bits = 9", shared=False) == {
        "server_max_window_bits": "9"
    }
    assert agreed_deflate("permessage-deflate; server_max_window_bits=09", shared=False) is None


@pytest.mark.parametrize("size", [0, LEAST_DEFLATED - 60, LEAST_DEFLATED, 70_000, 1_000_000])
def test_a_message_is_compressed_once_into_a_frame_of_its_own(size):
    message = Message("metrics_update", b'{"x":"' + b"ab" * (size // 2) + b'"}')
    plain, frame = message.websocket(), message.deflated()
    assert message.deflated() is frame
    if len(plain) < LEAST_DEFLATED:
        assert frame is plain
        return
    assert frame[0] == COMPRESSED_TEXT
    length, start = (frame[1], 2) if frame[1] < 126 else (int.from_bytes(frame[2:4], "big"), 4)
    assert length == len(frame) - start
    text = inflated(frame[start:])
    assert json.loads(text)["data"] == json.loads(message.data)
    assert plain.endswith(text)


async def test_clients_of_others_understand_it(deflating):
    url, headers = f"ws://127.0.0.1:{deflating.port}/ws", {"Authorization": f"Bearer {deflating.token()}"}
    subscribe = json.dumps({"event": "subscribe", "data": {"delta": True, "update_interval": 1}})
    async with websockets.connect(url, additional_headers=headers) as socket:
        await socket.send(subscribe)
        events = [json.loads(await socket.recv())["event"] for _ in range(3)]
        assert events == ["connected", "subscribed", "metrics_update"]
        assert deflating.services.deflating == 1
        for total in (8, 9):
            deflating.amiga.total = total
            assert json.loads(await socket.recv())["event"] == "metrics_patch"
        deflating.amiga.tasks = [
            Task(task_id=f"other_{n}", status="pending", description=f"{n}" * 60) for n in range(30)
        ]
        assert json.loads(await socket.recv())["event"] in ("metrics_patch", "metrics_update")
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, headers=headers, compress=15) as socket,
    ):
        assert socket.compress
        await socket.send_str(subscribe)
        assert [(await socket.receive_json())["event"] for _ in range(3)] == events


async def test_a_crowd_of_control_frames_goes_between_the_messages(deflating):
    peer = await RawWebSocket.open(
        deflating, {"Authorization": f"Bearer {deflating.token()}", "Sec-WebSocket-Extensions": OFFER}
    )
    text = deflated(b'{"event":"subscribe"}')
    await peer.send_raw(
        masked_frame(0x41, text[:5]) + masked_frame(0x89, b"?") + masked_frame(0x80, text[5:])
    )
    seen = []
    while len(seen) < 4:
        opcode, payload = await peer.frame()
        data = inflated(payload) if peer.compressed else payload
        seen.append(json.loads(data)["event"] if opcode == 1 else (opcode, data))
    assert seen == ["connected", (0xA, b"?"), "subscribed", "metrics_update"]
    peer.close()
