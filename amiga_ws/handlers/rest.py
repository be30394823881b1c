"""The REST part: the snapshot once, lists, sessions, and whether we live."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
from tornado.web import HTTPError

from amiga_ws.auth.tokens import Identity, TokenType
from amiga_ws.handlers.guard import Guarded
from amiga_ws.handlers.parameters import number, text
from amiga_ws.snapshot import TASK_SORTS, TaskQuery
from amiga_ws.wire import DEFAULT_HOURS, RequestError, clamp_hours, encode

JSON_TYPE = "application/json; charset=UTF-8"
MAX_PAGE_SIZE = 100
DEFAULT_PAGE_SIZE = 20
MAX_PAGE = 1_000_000


class Api(Guarded):
    """Base of the JSON routes."""

    def reply(self, body: Any) -> None:
        """Finish with `body` (a struct or plain data) as JSON."""
        self.set_header("Content-Type", JSON_TYPE)
        self.finish(encode(body))

    def hours(self) -> int:
        """The `hours` parameter, clamped to 1-168."""
        try:
            return clamp_hours(number(self, "hours", DEFAULT_HOURS))[0]
        except RequestError as error:
            raise HTTPError(400, error.text) from error


class Overview(Api):
    """`GET /api/metrics/overview?hours=`: the snapshot, once."""

    async def get(self) -> None:
        hours, facts = self.hours(), self.services.facts
        await facts.refresh(self.services.hub.hours_in_use() | {hours})
        snapshot = facts.snapshot(hours)
        self.reply(msgspec.structs.replace(snapshot, timestamp=self.services.clock.wall()))


class Tasks(Api):
    """`GET /api/tasks?status=&search=&sort=&page=&page_size=`: AMIGA's tasks, page by page."""

    async def get(self) -> None:
        sort = text(self, "sort") or "-created_at"
        if sort.removeprefix("-") not in TASK_SORTS:
            raise HTTPError(400, f"sort is one of {', '.join(TASK_SORTS)}, with - before it for descending")
        query = TaskQuery(
            status=tuple(filter(None, text(self, "status").split(","))),
            search=text(self, "search"),
            sort=sort,
            page=self._whole("page", 1, MAX_PAGE),
            page_size=self._whole("page_size", DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE),
        )
        try:
            page = await self.services.facts.find_tasks(query)
        except TimeoutError as error:
            raise HTTPError(503, "AMIGA's database does not answer") from error
        self.reply(page)

    def _whole(self, name: str, default: int, most: int) -> int:
        value = number(self, name, default)
        if value != int(value):
            raise HTTPError(400, f"{name} is a whole number")
        return min(max(int(value), 1), most)


class Session(Api):
    """`/api/session`: sign in (POST, token as Bearer), who am I (GET), sign out (DELETE)."""

    explicit_types: ClassVar[tuple[TokenType, ...]] = ("access",)

    def prepare(self) -> None:
        # Signing in is what a login token is for, and a stale cookie must not stand in its way.
        if self.request.method == "POST":
            self.explicit_types = ("access", "login")  # type: ignore[misc]  # of this request only
            self.cookie = False  # type: ignore[misc]  # of this request only
        super().prepare()

    def get(self) -> None:
        self.reply(self._about(self.identity))

    def post(self) -> None:
        services, parent, now = self.services, self.identity, self.services.clock.wall()
        if parent.typ == "login" and not services.logins.use(parent.jti, parent.expires_at, now):
            self.set_status(401)
            self.set_header("WWW-Authenticate", 'Bearer realm="amiga_ws", error="invalid_token"')
            self.reply({"error": "this sign-in link has been used; make a new one", "code": "unauthorized"})
            return
        token, session = services.authority.mint_session(parent, now)
        self.set_cookie(
            self.cookie_name,
            token,
            expires=session.expires_at,
            path="/",
            httponly=True,
            samesite="Lax",
            secure=self.request.protocol == "https",
        )
        self.set_status(201)
        self.reply(self._about(session))

    def delete(self) -> None:
        """Forget the cookie."""
        self.clear_cookie(self.cookie_name, path="/", httponly=True, samesite="Lax")
        self.set_status(204)
        self.finish()

    def _about(self, identity: Identity) -> dict[str, Any]:
        return {
            "subject": identity.subject,
            "scopes": sorted(identity.scopes),
            "expires_in": round(identity.expires_at - self.services.clock.wall(), 1),
        }


class Health(Api):
    """`GET /health`: the process answers."""

    public: ClassVar[bool] = True
    rate_limited: ClassVar[bool] = False

    def get(self) -> None:
        self.reply({"status": "ok"})


class Ready(Api):
    """`GET /ready`: 200 while new viewers are welcome, 503 before and while we shut down."""

    public: ClassVar[bool] = True
    rate_limited: ClassVar[bool] = False

    def get(self) -> None:
        ready = self.services.ready()
        self.set_status(200 if ready else 503)
        self.reply({"ready": ready})
