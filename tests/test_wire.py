"""Wire: any message in gives a command or a RequestError, and every frame out can be read by somebody else."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close as PeersClose
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from amiga_ws import wire
from amiga_ws.wire import (
    Close,
    Config,
    Message,
    RequestError,
    RequestRefresh,
    SetInterval,
    Subscribe,
    Unsubscribe,
    close_reason,
    config_of,
    parse_command,
    text_header,
)


def frame(event, data=None, **more):
    return json.dumps({"event": event} | ({} if data is None else {"data": data}) | more)


def refusal(raw):
    with pytest.raises(RequestError) as caught:
        parse_command(raw)
    return caught.value


# -- client → server -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "command"),
    [
        (frame("subscribe"), Subscribe(24, None, False, None)),
        (frame("subscribe", {}), Subscribe(24, None, False, None)),
        (
            frame("subscribe", {"hours": 48, "update_interval": 5, "delta": True, "resume": "e.48.1"}),
            Subscribe(48, 5, True, "e.48.1"),
        ),
        (frame("subscribe", {"hours": 48.0, "update_interval": 1.5}), Subscribe(48.0, 1.5)),
        (frame("unsubscribe"), Unsubscribe()),
        (frame("request_refresh"), RequestRefresh(None)),
        (frame("request_refresh", {"hours": 6}), RequestRefresh(6)),
        (frame("set_interval", {"interval": 10}), SetInterval(10)),
        (frame("refresh_token", {"token": "a.b.c"}), wire.RefreshToken("a.b.c")),
        (frame("authenticate", {"token": "a.b.c"}), wire.Authenticate("a.b.c")),
    ],
)
def test_each_command_of_the_contract_is_read(raw, command):
    assert parse_command(raw) == (command, None)
    assert parse_command(raw.encode()) == (command, None)


@pytest.mark.parametrize("message_id", ["a", "", "ü" * 128, 0, 7, -1, 2**63])
def test_clients_own_id_comes_back_as_it_was(message_id):
    assert parse_command(frame("unsubscribe", id=message_id))[1] == message_id
    echoed = Message.of(wire.Unsubscribed(), message_id).websocket()
    assert json.loads(echoed[2 if len(echoed) < 128 else 4 :])["id"] == message_id


@pytest.mark.parametrize(
    "raw", ["", " ", "{", "nonsense", "{'event': 1}", '{"event": "unsubscribe"} x', "NaN", "\x00", "\ud800"]
)
def test_what_is_no_json_says_so(raw):
    error = refusal(raw)
    assert (error.code, error.message_id) == ("invalid_json", None)


@pytest.mark.parametrize(
    "raw", [b"\xff", b'{"event": "\xff"}', b'{"event": "\xed\xa0\x80"}', b'{"event": "\\ud800"}']
)
def test_what_is_no_utf8_is_no_json(raw):
    assert refusal(raw).code == "invalid_json"


@pytest.mark.parametrize("depth", [100, 5000, 100_000])
def test_deep_nesting_is_refused_not_an_error(depth):
    for opened, closed in (("[", "]"), ('{"a":', "}")):
        nested = opened * depth + "1" + closed * depth
        assert refusal(nested).code in ("invalid_json", "invalid_request")
        assert refusal(f'{{"event": "subscribe", "data": {nested}}}').code in (
            "invalid_json",
            "invalid_request",
        )


@pytest.mark.parametrize("event", ["", "Subscribe", "subscribe ", "connected", "metrics_update", "__init__"])
def test_unknown_event_names_the_known_ones_and_not_itself(event):
    error = refusal(frame(event, id=7))
    assert (error.code, error.message_id) == ("unknown_event", 7)
    assert "request_refresh" in error.text


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        ("[]", "object"),
        ("1", "object"),
        ("{}", "event"),
        ('{"event": 1}', "event"),
        ('{"event": null}', "event"),
        (frame("subscribe", extra=1), "extra"),
        (frame("subscribe", {"hour": 24}), "hour"),
        (frame("subscribe", {"hours": "24"}), "hours"),
        (frame("subscribe", {"hours": True}), "hours"),
        (frame("subscribe", {"hours": None}), "hours"),
        (frame("subscribe", {"delta": 1}), "delta"),
        (frame("subscribe", {"resume": 1}), "resume"),
        (frame("subscribe", []), "object"),
        (frame("unsubscribe", {"now": True}), "now"),
        (frame("set_interval"), "interval"),
        (frame("set_interval", {"interval": "5"}), "interval"),
        (frame("request_refresh", {"hours": []}), "hours"),
        (frame("refresh_token"), "token"),
        (frame("refresh_token", {"token": 1}), "token"),
        (frame("unsubscribe", id=1.5), "id"),
        (frame("unsubscribe", id=[1]), "id"),
        (frame("unsubscribe", id="x" * 129), "id"),
    ],
)
def test_wrong_shape_names_the_field(raw, named):
    error = refusal(raw)
    assert error.code == "invalid_request"
    assert named in error.text


def test_wrong_data_still_echoes_the_id():
    assert refusal(frame("subscribe", {"hours": "24"}, id="mine")).message_id == "mine"


def test_error_is_short_whatever_the_field_was_called():
    assert len(refusal(frame("subscribe", {"x" * 10_000: 1})).text) <= 200


def test_error_never_repeats_a_token():
    token = "eyJhbGciOiJIUzI1NiJ9.e30.c2ln"  # noqa: S105 - no real one
    for raw in (
        frame("refresh_token", {"token": [token]}),
        frame("subscribe", {"hours": token}),
        frame(token),
    ):
        assert token not in refusal(raw).text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
EVENTS = st.sampled_from(
    ["subscribe", "unsubscribe", "request_refresh", "set_interval", "refresh_token", "authenticate"]
)
FIELDS = st.sampled_from(["hours", "update_interval", "delta", "resume", "interval", "token"])


def obey(raw):
    """Parse and use, as the hub does; only RequestError may come out."""
    try:
        command, message_id = parse_command(raw)
        if isinstance(command, Subscribe):
            config = config_of(command, 2, message_id)
            assert 1 <= config.hours <= 168
            assert 1 <= config.update_interval <= 60
        Message.of(wire.Unsubscribed(), message_id).websocket()
    except RequestError as error:
        Message.of(wire.ErrorEvent(error.text, error.code, 0.0), error.message_id).websocket()


@given(st.text() | st.binary())
def test_any_text_or_bytes_give_a_command_or_a_request_error(raw):
    obey(raw)


@given(JSON)
def test_any_json_gives_a_command_or_a_request_error(value):
    obey(json.dumps(value))


@given(event=EVENTS, data=st.dictionaries(FIELDS, JSON, max_size=3), message_id=JSON)
def test_any_fields_of_any_event_give_a_command_or_a_request_error(event, data, message_id):
    obey(json.dumps({"event": event, "data": data, "id": message_id}))


# -- clamping ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "hours", "clamped"),
    [(1, 1, []), (168, 168, []), (24.0, 24, []), (0, 1, ["hours"]), (-5, 1, ["hours"]), (169, 168, ["hours"]),
     (1e308, 168, ["hours"]), (10**400, 168, ["hours"])],
)  # fmt: skip
def test_hours_out_of_range_are_clamped_and_that_is_said(asked, hours, clamped):
    assert config_of(Subscribe(hours=asked), 2) == Config(hours, 2, False, clamped)


@pytest.mark.parametrize("asked", [0.5, 24.5, 167.999])
def test_fraction_of_an_hour_is_refused(asked):
    with pytest.raises(RequestError, match="whole") as caught:
        config_of(Subscribe(hours=asked), 2, "mine")
    assert (caught.value.code, caught.value.message_id) == ("invalid_request", "mine")


@pytest.mark.parametrize(
    ("asked", "interval", "clamped"),
    [(1, 1, False), (60, 60, False), (1.2, 2, False), (59.1, 60, False), (5.0, 5, False), (None, 7, False),
     (0, 1, True), (0.2, 1, False), (-1, 1, True), (60.5, 60, True), (61, 60, True), (1e308, 60, True)],
)  # fmt: skip
def test_interval_is_rounded_up_and_clamped_and_that_is_said(asked, interval, clamped):
    config = config_of(Subscribe(update_interval=asked), 7)
    assert (config.update_interval, config.clamped) == (interval, ["update_interval"] if clamped else [])


def test_both_clampings_are_said():
    assert config_of(Subscribe(hours=0, update_interval=99), 2).clamped == ["hours", "update_interval"]


# -- frames --------------------------------------------------------------------------------------


def parsed(data, mask=False):
    """One frame, read by the websockets package."""
    reader = StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    parser = Frame.parse(reader.read_exact, mask=mask)
    with pytest.raises(StopIteration) as done:
        next(parser)
    assert not reader.buffer  # nothing after the frame
    return done.value.value


@pytest.mark.parametrize("size", [0, 1, 124, 125, 126, 127, 65534, 65535, 65536, 65537, 200_000])
def test_frame_of_any_length_is_read_back(size):
    found = parsed(text_header(size) + b"x" * size)
    assert (found.opcode, found.fin, found.data) == (Opcode.TEXT, True, b"x" * size)
    assert (found.rsv1, found.rsv2, found.rsv3) == (False, False, False)


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_frame_takes_the_shortest_length(size):
    """RFC 6455, 5.2: the minimal number of bytes must be used."""
    assert len(text_header(size)) == (2 if size < 126 else 4 if size < 65536 else 10)


def test_update_carries_its_data_byte_for_byte():
    message = Message(wire.METRICS_UPDATE, b'{"a":1.50,"b":"\xc3\xbc"}', position="e.24.3")
    assert parsed(message.websocket()).data == b'{"event":"metrics_update","data":{"a":1.50,"b":"\xc3\xbc"}}'
    assert message.sse() == b'id: e.24.3\ndata: {"a":1.50,"b":"\xc3\xbc"}\n\n'


def test_frames_are_built_once():
    message = Message(wire.METRICS_UPDATE, b"{}", position="e.24.3")
    assert message.websocket() is message.websocket()
    assert message.sse() is message.sse()


@given(text=st.text(), message_id=st.none() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=128))
def test_any_text_survives_both_transports(text, message_id):
    text = text.encode("utf-8", "replace").decode()
    message_id = message_id.encode("utf-8", "replace").decode() if isinstance(message_id, str) else message_id
    message = Message.of(wire.ErrorEvent(text, "internal", 1.5), message_id)
    found = json.loads(parsed(message.websocket()).data)
    assert found["event"] == "error"
    assert found["data"] == {"error": text, "code": "internal", "timestamp": 1.5}
    assert found.get("id") == message_id
    lines = message.sse().decode().split("\n")
    assert lines[0] == "event: error"
    assert json.loads(lines[1].removeprefix("data: ")) == found["data"]
    assert lines[2:] == ["", ""]
    assert "\r" not in message.sse().decode()


# -- events --------------------------------------------------------------------------------------

EVENTS_OUT = {
    "connected": wire.Connected("c", "ada", ["admin"], 1.0, 15.0, wire.Limits(1, 1, 1, 1, 1, 1), "1"),
    "subscribed": wire.Subscribed(Config(24, 2), True),
    "unsubscribed": wire.Unsubscribed(),
    "interval_updated": wire.IntervalUpdated(5),
    "heartbeat": wire.Heartbeat("e.24.1", 2.0),
    "lag": wire.Lag(3, 1200),
    "auth": wire.AuthEvent(60.0),
    "token_refreshed": wire.TokenRefreshed(3600.0),
    "error": wire.ErrorEvent("no", "rate_limited", 2.0, id="mine", retry_ms=5, ref="r"),
    "bye": wire.Bye(4001, "bye", True, 500, "r"),
}
FIELDS_OUT = {
    "connected": "status client_id subject scopes expires_in heartbeat_interval limits protocol server_version",
    "subscribed": "status config resumed why",
    "unsubscribed": "status",
    "interval_updated": "interval",
    "heartbeat": "position server_time",
    "lag": "coalesced behind_ms",
    "auth": "state expires_in",
    "token_refreshed": "expires_in",
    "error": "error code timestamp id retry_ms ref",
    "bye": "code reason reconnect retry_ms ref",
}


@pytest.mark.parametrize("name", EVENTS_OUT)
def test_event_has_the_fields_of_the_contract(name):
    message = Message.of(EVENTS_OUT[name])
    assert message.event == name
    assert set(json.loads(message.data)) == set(FIELDS_OUT[name].split())
    assert message.sse().startswith(f"event: {name}\ndata: ".encode())


def test_constant_fields_have_their_values():
    assert json.loads(msgspec.json.encode(EVENTS_OUT["connected"]))["protocol"] == "amiga.v1"
    assert json.loads(msgspec.json.encode(EVENTS_OUT["auth"]))["state"] == "expiring"
    for name in ("connected", "subscribed", "unsubscribed"):
        assert json.loads(msgspec.json.encode(EVENTS_OUT[name]))["status"] == name


def test_unknown_is_null_and_only_an_error_leaves_fields_out():
    assert json.loads(msgspec.json.encode(wire.Heartbeat(None, 1.0)))["position"] is None
    assert json.loads(msgspec.json.encode(wire.Bye(4503, "x", False, None, "r")))["retry_ms"] is None
    assert set(json.loads(msgspec.json.encode(wire.ErrorEvent("x", "internal", 1.0)))) == {
        "error",
        "code",
        "timestamp",
    }


def test_patch_says_from_where_it_leads():
    patch = wire.Patch(hours=24, base="e.24.1", position="e.24.2", timestamp=1.0, patch=[])
    assert set(json.loads(wire.encode(patch))) == {"hours", "from", "position", "timestamp", "patch"}


# -- closing -------------------------------------------------------------------------------------


@given(st.text(max_size=200))
def test_close_reason_fits_and_never_splits_a_character(text):
    text = text.encode("utf-8", "replace").decode()
    reason = close_reason(text)
    assert text.startswith(reason)
    assert len(reason.encode()) <= 123
    if reason != text:
        assert len(text[: len(reason) + 1].encode()) > 123
    PeersClose(4001, reason).check()
    assert len(PeersClose(4001, reason).serialize()) <= 125


@pytest.mark.parametrize(
    "text", ["x" * 123, "x" * 124, "ü" * 61 + "x", "ü" * 62, "😀" * 31, "x" * 122 + "😀"]
)
def test_close_reason_at_the_border(text):
    assert text.startswith(close_reason(text))
    assert 120 <= len(close_reason(text).encode()) <= 123


def test_codes_below_4500_come_back_and_others_stop():
    come_back = {code for code in Close if code.reconnect}
    assert come_back == {code for code in Close if 4000 <= code < 4500}
    assert {int(code) for code in Close} == {1002, 1003, 1007, 1009, *range(4001, 4007), *range(4501, 4507)}
