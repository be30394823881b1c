"""Following a server: comes back as it says, resumes where it was, keeps the newest snapshot.

Knows streams by their Protocol; what is shown of it is the listener's business.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from amiga_ws.patch import PatchError, apply
from amiga_ws.watch.streams import LostError, Received, RefusedError, Stream, Wanted
from amiga_ws.wire import METRICS_PATCH, METRICS_UPDATE, Close

HEARTBEAT_S = 15.0  # until `connected` says otherwise
SILENCE = 2.5  # heartbeats without an event before a stream counts as dead, whatever TCP says
SETTLED_S = 5.0  # a stream that lived this long has earned a fresh backoff
BACKOFF_S = (0.5, 20.0)
LONGEST_WAIT_S = 300.0  # whatever the server says
RATE_LIMITED, SERVER_ERRORS = 429, range(500, 600)
REFUSED = (401, 403, 421)  # not signed in; not allowed; not by this name
STOPPING = range(4500, 5000)
# Stops that another token would cure.
SIGN_IN = (Close.NO_CREDENTIAL, Close.BAD_CREDENTIAL, Close.REVOKED, Close.SCOPE_LOST)


class WatchError(Exception):
    """There is nothing more to follow; the text says why."""


class SignInError(WatchError):
    """The server does not let this token in (any more)."""


@dataclass(frozen=True)
class Phase:
    """What the client is doing. `again_at` is the monotonic time of the next attempt while it waits."""

    name: Literal["connecting", "live", "waiting"]
    reason: str = ""
    again_at: float | None = None


@dataclass(frozen=True)
class End:
    """How a stream ended that is worth coming back to; `retry_s` None: after a backoff."""

    reason: str
    retry_s: float | None = None


class Listener(Protocol):
    """Who wants to know."""

    def received(self, event: Received, document: dict[str, Any] | None) -> None:
        """One event, and the newest snapshot after it."""

    def entered(self, phase: Phase) -> None:
        """The client does something else now."""


Opener = Callable[[str | None], Awaitable[Stream]]  # with the position to resume from


class Client:
    """Follows one server until that ends for good."""

    def __init__(
        self,
        opener: Opener,
        wanted: Wanted,
        listener: Listener,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.document: dict[str, Any] | None = None  # the newest snapshot, patches applied
        self._opener = opener
        self._wanted = wanted
        self._listener = listener
        self._jitter = jitter
        self.greeted = False  # whether `connected` has ever been seen
        self._live_since: float | None = None  # of the present stream

    async def run(self) -> None:
        """Follow, over as many streams as it takes. Never returns; cancel it.

        Raises:
            WatchError, SignInError: the server says not to come back, or there has never been one.
        """
        attempt = 0
        while True:
            self._listener.entered(Phase("connecting"))
            self._live_since = None
            try:
                end = await self._follow_one()
            except RefusedError as refusal:
                end = _after_refusal(refusal)
            except LostError as error:
                if not self.greeted:
                    raise WatchError(str(error)) from error
                end = End(str(error))
            if self._live_since is not None and time.monotonic() - self._live_since > SETTLED_S:
                attempt = 0
            attempt += 1
            wait_s = backoff_s(attempt, self._jitter) if end.retry_s is None else end.retry_s
            wait_s = min(wait_s, LONGEST_WAIT_S)
            self._listener.entered(Phase("waiting", end.reason, time.monotonic() + wait_s))
            await asyncio.sleep(wait_s)

    async def _follow_one(self) -> End:
        stream = await self._opener(self._position())
        try:
            silence_s = SILENCE * HEARTBEAT_S
            while True:
                try:
                    async with asyncio.timeout(silence_s):
                        received = await stream.receive()
                except TimeoutError:
                    return End("the server fell silent")
                if received is None:
                    retry_s = None if stream.retry_ms is None else stream.retry_ms / 1000
                    return _after_close(stream.code, stream.reason, retry_s)
                if received.event == "connected":
                    silence_s = SILENCE * _number(received.data, "heartbeat_interval", HEARTBEAT_S)
                    self._live()
                    await stream.subscribe(self._wanted, self._position())
                if (end := self._take(received)) is not None:
                    return end
        finally:
            stream.close()

    def _live(self) -> None:
        self.greeted = True
        self._live_since = time.monotonic()
        self._listener.entered(Phase("live"))

    def _take(self, received: Received) -> End | None:
        """One event; an End when nothing more is to be expected of this stream."""
        event, data = received.event, received.data
        fits = True
        if event == METRICS_UPDATE:
            self.document = data
        elif event == METRICS_PATCH:
            fits = self._patch(data)
        self._listener.received(received, self.document)
        if not fits:
            return End("a patch did not fit what it was meant for")
        if event == "bye":
            retry_ms = data.get("retry_ms")
            retry_s = retry_ms / 1000 if isinstance(retry_ms, int | float) and retry_ms >= 0 else None
            return _after_close(int(_number(data, "code", 0)), str(data.get("reason", "")), retry_s)
        if event == "error" and received.id is not None:
            return _after_refused_subscription(data)
        return None

    def _patch(self, data: dict[str, Any]) -> bool:
        """Bring the document on. Where that cannot be, forget it: the next stream starts with a full one."""
        base, self.document = self.document, None
        steps = data.get("patch")
        if base is None or base.get("position") != data.get("from") or not isinstance(steps, list):
            return False
        try:
            patched = apply(base, steps)
        except PatchError:
            return False
        if isinstance(patched, dict):
            self.document = patched | {name: data.get(name) for name in ("timestamp", "position")}
        return self.document is not None

    def _position(self) -> str | None:
        position = None if self.document is None else self.document.get("position")
        return position if isinstance(position, str) else None


# -- what an end means ------------------------------------------------------------------------------


def _after_close(code: int | None, reason: str, retry_s: float | None) -> End:
    """A stream that was live has ended, with a `bye` or a close frame's code, or with nothing (None).

    Raises WatchError, SignInError.
    """
    if code in SIGN_IN or code == Close.TOKEN_EXPIRED:  # we have no other token to come back with
        raise SignInError(reason or f"the server ended it ({code})")
    if code in STOPPING:
        raise WatchError(reason or f"the server ended it ({code})")
    return End(reason or "the connection was lost", retry_s)


def _after_refusal(refusal: RefusedError) -> End:
    """The server has answered the handshake with an HTTP status. Raises WatchError, SignInError."""
    if refusal.status in REFUSED:
        raise SignInError(refusal.text)
    if refusal.status == RATE_LIMITED or refusal.status in SERVER_ERRORS:
        return End(refusal.text, refusal.retry_s)
    raise WatchError(refusal.text)


def _after_refused_subscription(data: dict[str, Any]) -> End:
    """An `error` that answers our `subscribe`: without one there is nothing to follow. Raises WatchError."""
    text, retry_ms = str(data.get("error", "")), data.get("retry_ms")
    if isinstance(retry_ms, int | float) or data.get("code") in ("unavailable", "internal", "rate_limited"):
        return End(text, _number(data, "retry_ms", 1000.0) / 1000)
    raise WatchError(text)


def backoff_s(attempt: int, jitter: Callable[[], float]) -> float:
    """Full jitter between half a second and a ceiling that doubles up to 20 s; `attempt` from 1.

    Clients of one server that went away must not come back together.
    """
    least, most = BACKOFF_S
    ceiling = min(most, least * 2.0 ** min(attempt, 10))
    return least + jitter() * (ceiling - least)


def _number(data: dict[str, Any], name: str, default: float) -> float:
    """A positive number from outside, or the default."""
    value = data.get(name)
    return float(value) if isinstance(value, int | float) and 0 < value < float("inf") else default
