"""Dialogue: what clients may ask over their connection, and how they are answered. No Tornado.

Bad input is answered with `error` and loses nothing, neither the connection nor the subscription, unless
it comes ten times in 30 s.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import ClassVar

import msgspec

from amiga_ws.auth.tokens import Identity, TokenError, TokenType
from amiga_ws.client import Client, Clock
from amiga_ws.hub import Feed, Hub
from amiga_ws.ratelimit import Strikes
from amiga_ws.turnstile import Turnstile
from amiga_ws.window import NOTHING_SENT
from amiga_ws.wire import (
    DEFAULT_HOURS,
    Authenticate,
    Close,
    Command,
    ErrorEvent,
    IntervalUpdated,
    Message,
    MessageId,
    RefreshToken,
    RequestError,
    RequestRefresh,
    SetInterval,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unsubscribed,
    clamp_hours,
    clamp_interval,
    config_of,
    parse_command,
)

logger = logging.getLogger(__name__)

MAX_STRIKES, STRIKES_S = 10, 30.0  # limits hit, or messages that do not parse, before a connection is ended

SUBSCRIBE_SLICE = 32  # of those who waited for one reading together: about 10 ms of the loop

Verify = Callable[[str, TokenType], Identity]  # raises TokenError


class Dialogue:
    """Obeys the messages of all clients of one hub."""

    def __init__(self, hub: Hub, feed: Feed, clock: Clock, default_interval: int, verify: Verify) -> None:
        self._hub = hub
        self._feed = feed
        self._clock = clock
        self._default_interval = default_interval  # s; for a subscribe that names none
        self._verify = verify
        self._turnstile = Turnstile(SUBSCRIBE_SLICE)

    async def obey(self, client: Client, raw: str) -> None:
        """One inbound text message. Bad input is answered with `error` and changes nothing."""
        if client.client_id not in self._hub.clients:
            return  # closed: what it sent before it read that is answered by nobody
        now = self._clock.monotonic()
        client.heard()
        self._hub.expire_due(client)
        if wait_s := client.messages.take(now):
            self._refuse_rate(client, "limits.messages_per_second", wait_s, None)
            return
        try:
            command, message_id = parse_command(raw)
        except RequestError as error:
            self._error(client, error)
            client.parse_strikes = client.parse_strikes or Strikes(MAX_STRIKES, STRIKES_S)
            if client.parse_strikes.strike(now):
                self._hub.close(
                    client, Close.UNPARSABLE, f"{MAX_STRIKES} messages that do not parse in {STRIKES_S:.0f} s"
                )
            return
        try:
            if not isinstance(command, RefreshToken):
                _refuse_parked(client, message_id)
            await self._handlers[type(command)](self, client, command, message_id)
        except RequestError as error:
            self._error(client, error)

    async def subscribe(self, client: Client, request: Subscribe, message_id: MessageId = None) -> None:
        """Answer `subscribed`, then the state of the window. Raises RequestError."""
        config = self._hub.fit(config_of(request, self._default_interval, message_id))
        await self._feed.refresh(self._hub.hours_in_use() | {config.hours})
        await self._turnstile.turn()
        self._hub.expire_due(client)
        if client.client_id not in self._hub.clients:
            return  # it left while we waited
        # Or its token has ended: then it is subscribed, and gets no state before it brings a new one.
        config = self._hub.fit(config)  # again: others may have subscribed meanwhile
        window = self._hub.window(config.hours)
        state = self._hub.advance(window)
        seq, why = (NOTHING_SENT, None) if request.resume is None else window.find(request.resume)
        if seq != state.seq and not (config.delta and window.patches(seq)):
            seq = NOTHING_SENT  # an older state cannot be continued, only replaced
        self._hub.leave_group(client)
        client.subscribe(config, window, seq)
        self._hub.join_group(client, config)
        client.say(Subscribed(config, seq != NOTHING_SENT, why), message_id)
        if seq != state.seq and client.parked_at is None:
            client.give_newest()

    async def _subscribe(self, client: Client, command: Command, message_id: MessageId) -> None:
        assert isinstance(command, Subscribe)  # noqa: S101 - by the dispatch table
        await self.subscribe(client, command, message_id)

    async def _unsubscribe(self, client: Client, _command: Command, message_id: MessageId) -> None:
        self._hub.leave_group(client)
        client.unsubscribe()
        client.say(Unsubscribed(), message_id)

    async def _refresh(self, client: Client, command: Command, message_id: MessageId) -> None:
        assert isinstance(command, RequestRefresh)  # noqa: S101 - by the dispatch table
        own = client.window
        hours = command.hours
        if hours is None:
            hours = own.hours if own is not None else DEFAULT_HOURS
        whole, _ = clamp_hours(hours, message_id)
        if wait_s := client.refreshes.take(self._clock.monotonic()):
            self._refuse_rate(client, "limits.refreshes_per_second", wait_s, message_id)
            return
        await self._feed.refresh(self._hub.hours_in_use() | {whole})
        self._hub.expire_due(client)
        if client.client_id not in self._hub.clients:
            return
        _refuse_parked(client, message_id)  # its token may have ended while we waited
        if client.window is not None and client.window.hours == whole:
            state = self._hub.advance(client.window)
            client.sent_seq = state.seq
        else:
            # Not the client's window: a state beside its subscription, which moves neither position nor base.
            state = self._hub.glimpse(whole)
        full = state.message
        client.pass_on(Message(full.event, full.data, position=full.position, message_id=message_id))

    async def _set_interval(self, client: Client, command: Command, message_id: MessageId) -> None:
        assert isinstance(command, SetInterval)  # noqa: S101 - by the dispatch table
        if client.config is None:
            raise RequestError("not_subscribed", "subscribe first: there is no interval to set", message_id)
        interval, _ = clamp_interval(command.interval)
        self._hub.leave_group(client)
        client.config = msgspec.structs.replace(client.config, update_interval=interval)
        self._hub.join_group(client, client.config)
        client.say(IntervalUpdated(interval), message_id)

    async def _refresh_token(self, client: Client, command: Command, message_id: MessageId) -> None:
        assert isinstance(command, RefreshToken)  # noqa: S101 - by the dispatch table
        if client.parked_at is not None:
            # Before the verdict: what is revoked while we wait must not be taken in.
            await self._feed.refresh(self._hub.hours_in_use())
        try:
            identity = self._verify(command.token, "access")
        except TokenError as error:
            ref = _noted(client, error.reason)
            raise RequestError("unauthorized", "this token is not accepted", message_id, ref) from error
        if identity.subject != client.identity.subject:
            ref = _noted(client, "of another subject")
            raise RequestError("forbidden", "the new token is somebody else's", message_id, ref)
        if client.client_id in self._hub.clients:
            self._hub.renew(client, identity, message_id)

    async def _authenticate(self, _client: Client, _command: Command, message_id: MessageId) -> None:
        raise RequestError(
            "invalid_request", "signed in already; refresh_token brings a new token", message_id
        )

    _handlers: ClassVar[
        dict[type[Command], Callable[[Dialogue, Client, Command, MessageId], Awaitable[None]]]
    ] = {
        Subscribe: _subscribe,
        Unsubscribe: _unsubscribe,
        RequestRefresh: _refresh,
        SetInterval: _set_interval,
        RefreshToken: _refresh_token,
        Authenticate: _authenticate,
    }

    def _error(self, client: Client, error: RequestError) -> None:
        told = ErrorEvent(error.text, error.code, self._clock.wall(), error.message_id, ref=error.ref)
        client.say(told, error.message_id)

    def _refuse_rate(self, client: Client, limit: str, wait_s: float, message_id: MessageId) -> None:
        retry_ms = int(wait_s * 1000) + 1
        text = f"too many: {limit} (see limits in connected); try again in {retry_ms} ms"
        client.say(ErrorEvent(text, "rate_limited", self._clock.wall(), message_id, retry_ms), message_id)
        client.rate_strikes = client.rate_strikes or Strikes(MAX_STRIKES, STRIKES_S)
        if client.rate_strikes.strike(self._clock.monotonic()):
            self._hub.close(
                client, Close.RATE_LIMITED, f"{limit} was hit {MAX_STRIKES} times in {STRIKES_S:.0f} s"
            )


def _noted(client: Client, reason: str) -> str:
    """Log why a new token is not taken; the `ref` to tell the peer."""
    ref = secrets.token_hex(4)
    logger.info(
        "no new token for %s of %r: %s ref=%s", client.client_id, client.identity.subject, reason, ref
    )
    return ref


def _refuse_parked(client: Client, message_id: MessageId) -> None:
    """Raises RequestError where a new credential is waited for."""
    if client.parked_at is not None:
        raise RequestError("unauthorized", "the token has expired: send refresh_token first", message_id)
