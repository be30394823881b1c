"""What the owner may see and do about others: connections, revocations, refusals. Scope `admin`."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, ClassVar

import msgspec
from msgspec import UNSET, Meta, UnsetType
from tornado.web import HTTPError

from amiga_ws.auth.revocations import Revocation
from amiga_ws.auth.tokens import LAST_TIME, MAX_SUBJECT_CHARS, TokenError, is_name
from amiga_ws.client import Client
from amiga_ws.handlers.operations import answers
from amiga_ws.handlers.parameters import read
from amiga_ws.handlers.refusals import Problem, Refusal
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


class ConnectionList(msgspec.Struct, frozen=True):
    connections: list[Connection]


class RevocationList(msgspec.Struct, frozen=True):
    revocations: list[Revocation]


class RefusalList(msgspec.Struct, frozen=True):
    refusals: list[Refusal]


class DisconnectQuery(msgspec.Struct, frozen=True):
    """`revoke`: take the credential back too."""

    revoke: bool = False


Name = Annotated[str, Meta(min_length=1, max_length=MAX_SUBJECT_CHARS)]


class RevokeToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token that is at hand."""

    token: str


class RevokeId(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token by its id."""

    jti: Name


class RevokeSubject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that was issued to `subject` before `issued_before` (epoch; default: now)."""

    subject: Name
    issued_before: Annotated[float, Meta(ge=0, lt=LAST_TIME)] | UnsetType = UNSET


RevocationRequest = RevokeToken | RevokeId | RevokeSubject
REVOCATIONS: tuple[type[RevocationRequest], ...] = (RevokeToken, RevokeId, RevokeSubject)


class AdminApi(Api):
    scope: ClassVar[str] = "admin"


class Connections(AdminApi):
    """`GET /api/admin/connections`: who is connected."""

    @answers(ConnectionList)
    def get(self) -> None:
        self.reply(ConnectionList([_shown(client) for client in self.services.hub.clients.values()]))


class OneConnection(AdminApi):
    """`DELETE /api/admin/connections/{client_id}?revoke=1`: disconnect, and take the credential back too."""

    @answers(None, status=204, query=DisconnectQuery, also={404: Problem, 503: Problem})
    def delete(self, client_id: str) -> None:
        hub, gate = self.services.hub, self.services.gate
        client = hub.clients.get(client_id)
        if client is None:
            raise HTTPError(404, "there is no such connection (any more)")
        if read(self, DisconnectQuery).revoke:
            gate.revoke(client.identity)
            self.note_deed(f"disconnection for good of {client_id}")
            hub.close_unwelcome(gate.still_good)
        else:
            self.note_deed(f"disconnection of {client_id}")
            hub.close(client, Close.EVICTED, "disconnected by the administrator")
        self.set_status(204)
        self.finish()


class Revocations(AdminApi):
    """`/api/admin/revocations`: what has been revoked (GET), revoke (POST, a RevocationRequest as JSON)."""

    @answers(RevocationList)
    def get(self) -> None:
        self._list()

    @answers(RevocationList, status=201, body=REVOCATIONS, also={404: Problem, 503: Problem})
    def post(self) -> None:
        self._revoke(_request(self.request.body))
        self.services.hub.close_unwelcome(self.services.gate.still_good)
        self.set_status(201)
        self._list()

    def _list(self) -> None:
        self.reply(RevocationList(self.services.gate.revocations.all(self.services.clock.wall())))

    def _revoke(self, request: RevocationRequest) -> None:
        gate = self.services.gate
        match request:
            case RevokeToken(token):
                try:
                    gate.revoke_token(token)
                except TokenError as error:
                    raise HTTPError(404, f"this is no token of ours: {error.reason}") from error
                self.note_deed("revocation of a token")
            case RevokeId(jti) if is_name(jti):
                gate.revoke_jti(jti)
                self.note_deed(f"revocation of the id {jti}")
            case RevokeSubject(subject, before) if is_name(subject):
                gate.revoke_subject(subject, None if before is UNSET else before)
                self.note_deed(f"revocation of the subject {subject}")
            case _:
                raise HTTPError(400, "no token has such a name: 1-128 printable characters")


def _request(body: bytes) -> RevocationRequest:
    """msgspec knows no union of structs that are told apart by their fields. Raises HTTPError."""
    for kind in REVOCATIONS:
        with suppress(msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return msgspec.json.decode(body, type=kind)
    raise HTTPError(
        400, "expected exactly one of token, jti and subject (that with issued_before, or not) as JSON"
    )


class Refusals(AdminApi):
    """`GET /api/admin/refusals`: the last 200 refusals with their reasons, by `ref`."""

    @answers(RefusalList)
    def get(self) -> None:
        self.reply(RefusalList(self.services.refusals.newest()))


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
