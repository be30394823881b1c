"""The REST part: the snapshot once and its parts, sign-in, and whether we live."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from amiga_ws import commands
from amiga_ws.auth.tokens import Identity, TokenError, TokenRefusedError, TokenType
from amiga_ws.handlers.compression import finish_compressed
from amiga_ws.handlers.guard import JSON_TYPE, Guarded
from amiga_ws.handlers.operations import answers
from amiga_ws.handlers.parameters import read
from amiga_ws.handlers.refusals import Problem, RefusedError, temporary, unauthorized
from amiga_ws.hub import PARK_S
from amiga_ws.questions import SystemPart, TasksPart, ToolsPart, WindowQuery
from amiga_ws.snapshot import Snapshot, Source
from amiga_ws.wire import encode


class SignOutQuery(msgspec.Struct, frozen=True):
    everywhere: Annotated[bool, Meta(description="end all that the subject has, not this session alone")] = (
        False
    )


class SessionInfo(msgspec.Struct, frozen=True):
    """Who one is, and for how long (seconds)."""

    subject: str
    scopes: list[str]
    expires_in: float


class Liveness(msgspec.Struct, frozen=True):
    status: Literal["ok"] = "ok"


class Readiness(msgspec.Struct, frozen=True):
    ready: bool


class Api(Guarded):
    """Base of the JSON routes."""

    def head(self) -> Awaitable[None] | None:
        """As GET; Tornado leaves the body out."""
        return self.get()

    def reply(self, body: Any) -> None:
        """Finish with `body` (a struct or plain data) as JSON."""
        self.reply_encoded(encode(body))

    def reply_encoded(self, body: bytes, zipped: bytes | None = None) -> None:
        """Finish with JSON that has been encoded; `zipped` as in `finish_compressed`."""
        self.set_header("Content-Type", JSON_TYPE)
        finish_compressed(self, body, zipped)

    async def snapshot(self) -> Snapshot:
        """The snapshot of the window that the parameter `hours` names, stamped now."""
        hours = read(self, WindowQuery).hours
        found = await self.services.facts.current(self.services.hub.hours_in_use(), hours)
        return msgspec.structs.replace(found, timestamp=self.services.clock.wall())


class Overview(Api):
    """`GET /api/metrics/overview?hours=`: the snapshot, once."""

    @answers(Snapshot, query=WindowQuery)
    async def get(self) -> None:
        self.reply(await self.snapshot())


class ToolsOnce(Api):
    """`GET /api/metrics/tools?hours=`: tool calls of the window."""

    @answers(ToolsPart, query=WindowQuery)
    async def get(self) -> None:
        found = await self.snapshot()
        source = found.sources.get("amiga", Source())
        self.reply(
            ToolsPart(hours=found.hours, timestamp=found.timestamp, source=source, tools=found.overview.tools)
        )


class TasksOnce(Api):
    """`GET /api/metrics/tasks?hours=`: tasks counted, and errors by class, of the window."""

    @answers(TasksPart, query=WindowQuery)
    async def get(self) -> None:
        found = await self.snapshot()
        source = found.sources.get("amiga", Source())
        part = TasksPart(
            hours=found.hours,
            timestamp=found.timestamp,
            source=source,
            tasks=found.overview.tasks,
            errors=found.errors,
        )
        self.reply(part)


class SystemOnce(Api):
    """`GET /api/metrics/system`: the host now."""

    @answers(SystemPart, query=WindowQuery)
    async def get(self) -> None:
        found = await self.snapshot()
        source = found.sources.get("host", Source())
        self.reply(SystemPart(timestamp=found.timestamp, source=source, system=found.overview.system))


class SessionApi(Api):
    """What signing in and renewing have in common: the cookie, and who one is."""

    def keep(self, token: str, session: Identity) -> None:
        """Give the browser its cookie."""
        self.set_cookie(
            self.cookie_name,
            token,
            # Not a date: the browser's clock may differ. As long as it may be renewed.
            max_age=int(session.expires_at - self.services.clock.wall() + PARK_S),
            path="/",
            httponly=True,
            samesite="Lax",
            secure=self.secure,
        )

    def _about(self, identity: Identity) -> SessionInfo:
        expires_in = round(identity.expires_at - self.services.clock.wall(), 1)
        return SessionInfo(identity.subject, sorted(identity.scopes), expires_in)


class Session(SessionApi):
    """`/api/session`: sign in (POST, token as Bearer), who am I (GET), sign out (DELETE)."""

    explicit_types: ClassVar[tuple[TokenType, ...]] = ("access",)

    def prepare(self) -> Awaitable[None] | None:
        # Signing in is what a login token is for, and a stale cookie must not stand in its way.
        if self.request.method == "POST":
            self.explicit_types = ("access", "login")  # type: ignore[misc]  # of this request only
            self.cookie = False  # type: ignore[misc]  # of this request only
            self.signs_in = True
        elif self.request.method == "DELETE":
            self.late_s = PARK_S  # type: ignore[misc]  # what may still be renewed can still be signed out
        return super().prepare()

    @answers(SessionInfo)
    def get(self) -> None:
        """Who am I."""
        self.reply(self._about(self.identity))

    @answers(SessionInfo, status=201, also={503: Problem})
    def post(self) -> None:
        """Sign in: the cookie of a new session comes with the answer."""
        if self.gone:
            return  # before a link is used up
        now = self.services.clock.monotonic()
        if wait := self.services.rates.sign_ins.take(self.identity.subject, now):  # before a link is used up
            raise temporary(429, "sign-ins", "too many sign-ins of one subject", wait)
        try:
            token, session = self.services.gate.sign_in(self.identity)
        except TokenError as error:
            text = f"this sign-in link has been used; make a new one ({commands.token_command()} --login)"
            raise self.not_accepted(error, text, counts=True) from error
        self.note_deed("sign-in")
        self.keep(token, session)
        self.set_status(201)
        self.reply(self._about(session))

    @answers(None, status=204, query=SignOutQuery, also={503: Problem})
    def delete(self) -> None:
        """Sign out: the session and its streams end; with `everywhere=1` all that the subject has."""
        gate, identity = self.services.gate, self.identity
        if read(self, SignOutQuery).everywhere:
            gate.revoke_subject(identity.subject)
            self.note_deed("sign-out everywhere")
        else:
            gate.revoke(identity)
            self.note_deed("sign-out")
        self.services.hub.close_unwelcome(gate.still_good)
        secure = self.secure  # or a browser keeps its __Host- cookie
        self.clear_cookie(self.cookie_name, path="/", httponly=True, samesite="Lax", secure=secure)
        self.set_status(204)
        self.finish()


class SessionRenewal(SessionApi):
    """`POST /api/session/renew`: the session slides, and every stream that runs under it."""

    late_s: ClassVar[float] = PARK_S  # its streams are parked so long

    @answers(SessionInfo)
    async def post(self) -> None:
        if self.identity.typ != "session":
            text = f"only a session is renewed here; make a new token with {commands.token_command()}"
            raise RefusedError(403, "forbidden", text, "not a session", kind="credential")
        hub, gate = self.services.hub, self.services.gate
        try:
            token, session = gate.renew(self.identity)
        except (TokenRefusedError, TokenError) as error:
            text = "this session has reached its end: sign in again"
            raise unauthorized(text, "session at its end", "invalid_token") from error
        self.keep(token, session)
        if hub.awaits(session):
            await self.services.facts.refresh(hub.hours_in_use())  # nobody may have asked while they waited
        if gate.still_good(session):  # not signed out meanwhile
            hub.extend_session(session)
        self.reply(self._about(session))


class Health(Api):
    """`GET /health`: the process answers."""

    public: ClassVar[bool] = True
    rate_limited: ClassVar[bool] = False

    @answers(Liveness)
    def get(self) -> None:
        self.reply(Liveness())


class Ready(Api):
    """`GET /ready`: 200 while new viewers are welcome, 503 before and while we shut down."""

    public: ClassVar[bool] = True
    rate_limited: ClassVar[bool] = False

    @answers(Readiness, also={503: Readiness})
    def get(self) -> None:
        ready = self.services.ready()
        self.set_status(200 if ready else 503)
        self.reply(Readiness(ready))
