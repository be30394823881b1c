"""What the owner may see and do about others: connections, revocations, refusals. Scope `admin`."""

from __future__ import annotations

from typing import ClassVar

import msgspec
from tornado.web import HTTPError

from amiga_ws.auth.tokens import MAX_SUBJECT_CHARS, TokenError
from amiga_ws.client import Client
from amiga_ws.handlers.parameters import flag
from amiga_ws.handlers.rest import Api
from amiga_ws.wire import Close


class Connection(msgspec.Struct, frozen=True):
    """One live stream. `since` is an epoch, `expires_in` seconds.

    `lagging`: it is owed a state, since `behind_ms` ago; `coalesced`: states skipped meanwhile.
    """

    client_id: str
    subject: str
    transport: str
    address: str
    since: float
    hours: int | None
    update_interval: int | None
    lagging: bool
    behind_ms: int
    coalesced: int
    expires_in: float
    parked: bool


class RevocationRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Exactly one of `token`, `jti` and `subject`; `issued_before` (epoch; default now) goes with `subject`."""

    token: str | None = None
    jti: str | None = None
    subject: str | None = None
    issued_before: float | None = None


class AdminApi(Api):
    scope: ClassVar[str] = "admin"


class Connections(AdminApi):
    """`GET /api/admin/connections`: who is connected."""

    def get(self) -> None:
        self.reply({"connections": [_shown(client) for client in self.services.hub.clients.values()]})


class OneConnection(AdminApi):
    """`DELETE /api/admin/connections/{client_id}?revoke=1`: disconnect, and take the credential back too."""

    def delete(self, client_id: str) -> None:
        hub, gate = self.services.hub, self.services.gate
        client = hub.clients.get(client_id)
        if client is None:
            raise HTTPError(404, "there is no such connection (any more)")
        if flag(self, "revoke"):
            gate.revoke(client.identity)
            hub.close_unwelcome(gate.still_good)
        else:
            hub.close(client, Close.EVICTED, "disconnected by the administrator")
        self.set_status(204)
        self.finish()


class Revocations(AdminApi):
    """`/api/admin/revocations`: what has been revoked (GET), revoke (POST, a RevocationRequest as JSON)."""

    def get(self) -> None:
        self.reply({"revocations": self.services.gate.revocations.all(self.services.clock.wall())})

    def post(self) -> None:
        try:
            request = msgspec.json.decode(self.request.body, type=RevocationRequest)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise HTTPError(
                400, f"expected one of token, jti and subject as JSON: {str(error)[:120]}"
            ) from error
        self._revoke(request)
        self.services.hub.close_unwelcome(self.services.gate.still_good)
        self.set_status(201)
        self.reply({"revocations": self.services.gate.revocations.all(self.services.clock.wall())})

    def _revoke(self, request: RevocationRequest) -> None:
        gate = self.services.gate
        match request:
            case RevocationRequest(token=str(token), jti=None, subject=None, issued_before=None):
                try:
                    gate.revoke_token(token)
                except TokenError as error:
                    raise HTTPError(400, f"this is no token of ours: {error.reason}") from error
            case RevocationRequest(token=None, jti=str(jti), subject=None, issued_before=None) if _fits(jti):
                gate.revoke_jti(jti)
            case RevocationRequest(token=None, jti=None, subject=str(subject)) if _fits(subject):
                gate.revoke_subject(subject, request.issued_before)
            case _:
                raise HTTPError(
                    400, "expected exactly one of token, jti and subject (with issued_before, or not)"
                )


def _fits(text: str) -> bool:
    return 0 < len(text) <= MAX_SUBJECT_CHARS


class Refusals(AdminApi):
    """`GET /api/admin/refusals`: the last 200 refusals with their reasons, by `ref`."""

    def get(self) -> None:
        self.reply({"refusals": self.services.refusals.newest()})


def _shown(client: Client) -> Connection:
    config = client.config
    return Connection(
        client_id=client.client_id,
        subject=client.identity.subject,
        transport=client.transport.kind,
        address=client.address,
        since=client.since,
        hours=None if config is None else config.hours,
        update_interval=None if config is None else config.update_interval,
        lagging=client.owed,
        behind_ms=int((client.clock.monotonic() - client.owed_since) * 1000) if client.owed else 0,
        coalesced=client.coalesced,
        expires_in=client.expires_in,
        parked=client.parked_at is not None,
    )
