"""What is answered to a client that offers permessage-deflate (RFC 7692, 5 and 7). Pure."""

from __future__ import annotations

from collections.abc import Iterator

DEFLATE = "permessage-deflate"
# zlib makes raw deflate with windows of 2^9 to 2^15 bytes; 2^8, which the RFC has too, it cannot.
WINDOW_BITS = {str(bits): bits for bits in range(8, 16)}
FEWEST_BITS, MOST_BITS = 9, 15

Parameters = dict[str, str | None]


def agreed_deflate(header: str, *, shared: bool) -> Parameters | None:
    """The parameters to answer `Sec-WebSocket-Extensions: header` with: of the first offer we can keep.

    None: none can be kept, or none was made. An offer that is malformed is passed over like one that asks for
    what we have not (5.1). `shared` is for messages that are compressed once for many connections: whole
    windows, and nothing is remembered from one message to the next, on either side, so that a connection
    at rest holds no compressor.
    """
    for name, offered in _offers(header):
        if name == DEFLATE and offered is not None:
            agreed = _shared(offered) if shared else _own(offered)
            if agreed is not None:
                return agreed
    return None


def _shared(offered: Parameters) -> Parameters | None:
    if offered.get("server_max_window_bits", str(MOST_BITS)) != str(MOST_BITS):
        return None
    # The client's may be asked for unasked (7.1.1.2).
    agreed: Parameters = {"server_no_context_takeover": None, "client_no_context_takeover": None}
    return agreed | {name: bits for name, bits in offered.items() if name == "server_max_window_bits"}


def _own(offered: Parameters) -> Parameters | None:
    bits = offered.get("server_max_window_bits")
    if bits is not None and WINDOW_BITS[bits] < FEWEST_BITS:
        return None
    return {name: value for name, value in offered.items() if name != "client_max_window_bits"}


def _offers(header: str) -> Iterator[tuple[str, Parameters | None]]:
    """Each offer in order; None instead of the parameters where they are not those of permessage-deflate."""
    for offer in header.split(","):  # quoted or not, a value is a token (RFC 6455, 9.1): no comma is in one
        name, *parts = (part.strip() for part in offer.split(";"))
        yield name.lower(), _parameters(parts)


def _parameters(parts: list[str]) -> Parameters | None:
    found: Parameters = {}
    for part in parts:
        name, equals, text = (piece.strip() for piece in part.partition("="))
        if len(text) > 1 and text[0] == text[-1] == '"':
            text = text[1:-1]
        value = text if equals else None
        if name in found or not _valid(name, value):
            return None
        found[name] = value
    return found


def _valid(name: str, value: str | None) -> bool:
    if name in ("server_no_context_takeover", "client_no_context_takeover"):
        return value is None
    if name == "client_max_window_bits":
        return value is None or value in WINDOW_BITS
    return name == "server_max_window_bits" and value in WINDOW_BITS
