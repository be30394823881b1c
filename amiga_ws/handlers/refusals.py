"""Refusals: what a request that must not pass is told, and the last ones, for the owner."""

from __future__ import annotations

from collections import Counter, deque
from typing import Literal

import msgspec

from amiga_ws import spread
from amiga_ws.log import without_tokens
from amiga_ws.wire import ErrorCode

MAX_KEPT = 200
MAX_TEXT = 200
_KINDS = {400: "request", 401: "credential", 403: "origin", 421: "host", 426: "handshake"}


class RefusedError(Exception):
    """A request that must not pass. `text` is for the peer, `reason` for the log.

    `kind` is what it was about, in one of a few words, for counting: `reason` may hold what a peer wrote. Without it
    the status tells. `retry_s` is set where the refusal passes by itself. A handler may raise it before it has
    answered.
    """

    def __init__(
        self,
        status: int,
        code: ErrorCode,
        text: str,
        reason: str,
        *,
        headers: dict[str, str] | None = None,
        retry_s: int | None = None,
        kind: str = "",
    ) -> None:
        super().__init__(reason)
        self.status, self.code, self.text, self.reason = status, code, text, reason
        self.headers = headers or {}
        self.retry_s = retry_s
        if retry_s is not None:
            self.headers["Retry-After"] = str(retry_s)
            kind = kind or reason
        self.kind = kind or _KINDS[status]


def temporary(status: Literal[429, 503], limit: str, text: str, wait_s: float = 0.0) -> RefusedError:
    """A refusal that passes: Retry-After is drawn for each peer, so that they do not come back as one."""
    retry_s = max(1, round(wait_s + spread.uniform(1, 5)))
    return RefusedError(
        status, "rate_limited", f"{text} ({limit}); try again in {retry_s} s", limit, retry_s=retry_s
    )


def unavailable(text: str) -> RefusedError:
    """503: what was asked for does not answer just now."""
    retry_s = spread.randint(2, 6)
    return RefusedError(503, "unavailable", f"{text}; try again in {retry_s} s", text, retry_s=retry_s)


def not_kept(*, full: bool) -> RefusedError:
    """503: what was asked for is worth nothing unless it is kept, and it could not be."""
    cause = "the disk of its state_dir is full, make room there"
    if not full:
        cause = "its state_dir cannot be written, its log says why"
    return unavailable(f"nothing was changed, for the server cannot keep it: {cause}")


def unauthorized(text: str, reason: str, error: str = "") -> RefusedError:
    """401; `error` is RFC 6750's code, empty when nothing was presented."""
    parameter = f', error="{error}"' if error else ""
    headers = {"WWW-Authenticate": f'Bearer realm="amiga_ws"{parameter}'}
    return RefusedError(401, "unauthorized", text, reason, headers=headers)


class Problem(msgspec.Struct, frozen=True):
    """What whoever is refused is told: words for a person, one for a program, and what to ask the owner with."""

    error: str
    code: ErrorCode
    ref: str


class Refusal(msgspec.Struct, frozen=True):
    """One refusal as the owner sees it; `ref` is what the peer was told."""

    ref: str
    timestamp: float
    status: int
    method: str
    path: str
    address: str
    reason: str


class RefusalBook:
    """The last 200 refusals, newest first, and how many there were in all by status and kind."""

    def __init__(self) -> None:
        self._kept: deque[Refusal] = deque(maxlen=MAX_KEPT)
        self.counts: Counter[tuple[int, str]] = Counter()

    def add(self, refusal: Refusal, kind: str) -> None:
        """Note one; the oldest is forgotten."""
        self._kept.appendleft(refusal)
        self.counts[refusal.status, kind] += 1

    def newest(self) -> list[Refusal]:
        """All that are kept."""
        return list(self._kept)


def printable(text: str) -> str:
    """Text from a peer made fit for a log line or a reply: no token, ASCII, no control characters, at most 200."""
    return without_tokens(text)[:MAX_TEXT].encode("ascii", "backslashreplace").decode().translate(_CONTROLS)


_CONTROLS = {code: f"\\x{code:02x}" for code in [*range(32), 127]}
