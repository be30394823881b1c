"""One connection to a server: what opening it needs, what arrives, what refuses it. websocket.py and events.py open it.

What an end means, and whether to come back, is decided in client.py.
"""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
from tornado.httputil import HTTPHeaders
from tornado.iostream import StreamClosedError

from amiga_ws import __version__
from amiga_ws.watch.address import Address

OPEN_S = 10.0  # for the connection, and again for the answer
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
MAX_REFUSAL_BYTES = 64 * 1024
NO_CONTRACT = "what answers there does not speak amiga.v1"
NO_ANSWER = "what is there gives no HTTP answer"


class LostError(Exception):
    """There is no connection, or what came over it was not `amiga.v1`; the text says which."""


class RefusedError(Exception):
    """The server answered the request with something else than a stream."""

    def __init__(self, status: int, text: str, retry_s: float | None = None) -> None:
        super().__init__(text)
        self.status, self.text, self.retry_s = status, text, retry_s


class Received(msgspec.Struct, frozen=True):
    """One event of the server; `id` is on the direct answer to a message that had one."""

    event: str
    data: dict[str, Any]
    id: str | int | None = None


@dataclass(frozen=True)
class Wanted:
    """A subscription. `interval_s` None leaves it to the server."""

    hours: int
    interval_s: float | None
    delta: bool


@dataclass(frozen=True)
class Access:
    """Where to connect and as whom. `ca` is a file of certificates to trust instead of the system's."""

    address: Address
    token: str
    ca: Path | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers every request carries."""
        return {"Authorization": f"Bearer {self.token}", "User-Agent": f"amiga_ws-watch/{__version__}"}


class Stream(Protocol):
    """An open connection. `code` and `reason` are the close frame's, once `receive` has returned None."""

    code: int | None
    reason: str

    @property
    def retry_ms(self) -> int | None:
        """What the stream itself, without a `bye`, has told about coming back."""

    async def subscribe(self, wanted: Wanted, resume: str | None) -> None:
        """Ask for the state and what follows. After `connected`."""

    async def receive(self) -> Received | None:
        """The next event; None at the end. Raises LostError for what is no event."""

    def close(self) -> None:
        """Let go of it. Harmless when it has ended."""


# -- answers that are no stream -------------------------------------------------------------------


def refusal(status: int, headers: HTTPHeaders, body: bytes) -> RefusedError:
    """An HTTP answer that is no stream, in the server's own words where it has some."""
    text = f"the answer was {status}"
    if location := headers.get("Location"):
        text += f": it is at {location}"  # not followed: the token would go along
    with contextlib.suppress(msgspec.DecodeError, KeyError, TypeError):  # not one of ours, perhaps a proxy's
        text = str(msgspec.json.decode(body)["error"])
    retry = headers.get("Retry-After", "")
    return RefusedError(status, text, float(retry[:6]) if retry.isascii() and retry.isdigit() else None)


def spoken(error: OSError) -> str:
    """An operating system's complaint in a few words; getaddrinfo's and TLS's are in their texts."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted ({error.verify_message})"
    if isinstance(error, StreamClosedError) and isinstance(error.real_error, OSError):
        return spoken(error.real_error)
    return error.strerror or str(error) or "the connection was closed"
