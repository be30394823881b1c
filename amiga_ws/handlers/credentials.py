"""Where a request carries its credential: header, subprotocol or cookie, and never the query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote_plus

from tornado.httputil import HTTPServerRequest

from amiga_ws.log import without_tokens
from amiga_ws.wire import BEARER_SUBPROTOCOL, SUBPROTOCOL

QUERY_NAMES = frozenset({"token", "access_token", "jwt"})
JWT_PREFIX = b"eyJ"  # base64url of '{"': every JWT begins so


class AmbiguousCredentialError(Exception):
    """More than one explicit credential, or a malformed one; the text says what to send."""


@dataclass(frozen=True, slots=True)
class Credential:
    token: str
    place: Literal["header", "subprotocol", "cookie"]


def token_in_query(request: HTTPServerRequest) -> bool:
    """Whether the address carries something like a token (RFC 6750, 2.3 advises against it)."""
    text = unquote_plus(request.query)
    return without_tokens(text) != text or any(
        name.lower() in QUERY_NAMES or any(value.lstrip().startswith(JWT_PREFIX) for value in values)
        for name, values in request.query_arguments.items()
    )


def find_credential(request: HTTPServerRequest, cookie_name: str | None) -> Credential | None:
    """The one credential of a request; an explicit one goes before the cookie (None: no cookie counts).

    Raises:
        AmbiguousCredentialError: two explicit ones, another scheme than Bearer, a bearer subprotocol alone, or
            two session cookies.
    """
    explicit = [*_from_header(request), *_from_subprotocols(request)]
    if len(explicit) > 1:
        raise AmbiguousCredentialError("one credential at a time: header or subprotocol, not both")
    if explicit:
        return explicit[0]
    return None if cookie_name is None else _from_cookies(request, cookie_name)


def _from_cookies(request: HTTPServerRequest, name: str) -> Credential | None:
    parts = [part for line in request.headers.get_list("Cookie") for part in line.split(";")]
    if sum(part.partition("=")[0].strip() == name for part in parts) > 1:
        # A page of a neighbouring host, or of another port, can set one beside ours, and which of the two a
        # browser sends first says nothing (RFC 6265, 5.4 and 8.6).
        raise AmbiguousCredentialError(
            f"two cookies named {name}: another site on this host has set one; delete the cookies of this host"
        )
    morsel = request.cookies.get(name)
    return Credential(morsel.value, "cookie") if morsel is not None and morsel.value else None


def _from_header(request: HTTPServerRequest) -> list[Credential]:
    found = []
    for value in request.headers.get_list("Authorization"):
        scheme, _, token = value.strip().partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise AmbiguousCredentialError("expected 'Authorization: Bearer <token>'")
        found.append(Credential(token.strip(), "header"))
    return found


def offered_subprotocols(request: HTTPServerRequest) -> list[str]:
    """What the client offers, over all header lines (RFC 6455, 4.1)."""
    lines = request.headers.get_list("Sec-WebSocket-Protocol")
    return [name for line in lines for part in line.split(",") if (name := part.strip())]


def _from_subprotocols(request: HTTPServerRequest) -> list[Credential]:
    offered = offered_subprotocols(request)
    bearers = [
        name.removeprefix(BEARER_SUBPROTOCOL) for name in offered if name.startswith(BEARER_SUBPROTOCOL)
    ]
    if bearers and SUBPROTOCOL not in offered:
        raise AmbiguousCredentialError(
            f"offer both subprotocols, '{SUBPROTOCOL}' and '{BEARER_SUBPROTOCOL}<token>': only the first is echoed"
        )
    return [Credential(token, "subprotocol") for token in bearers]
