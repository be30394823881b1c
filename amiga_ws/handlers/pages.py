"""The pages a person navigates to, and their static files."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import ClassVar

from tornado.web import StaticFileHandler

from amiga_ws.handlers.guard import SERVER_VERSION, Guarded, Services

PACKAGE = Path(__file__).parent.parent
STATIC = PACKAGE / "static"


def templates_dir() -> Path:
    """Beside the package in a checkout (an editable install does not map it), inside it in a wheel."""
    beside = PACKAGE.parent / "templates"
    return beside if (beside / "login.html").is_file() else Path(str(files("amiga_ws"))) / "templates"


class Page(Guarded):
    """One template; everything that moves in it comes over the stream."""

    page: ClassVar[bool] = True
    template: str

    def initialize(self, services: Services, template: str = "") -> None:
        """`template` is the file's name."""
        super().initialize(services)
        self.template = template

    def get(self) -> None:
        self.render(self.template, demo=self.services.demo, version=SERVER_VERSION, static="/static/")

    def head(self) -> None:
        """As GET; Tornado leaves the body out."""
        self.get()


class LoginPage(Page):
    """`GET /login`: for anybody."""

    public: ClassVar[bool] = True


class Static(Guarded, StaticFileHandler):
    """`/static/*`: the pages' own files, for anybody; revalidated each time (ETag), never stale."""

    public: ClassVar[bool] = True
    rate_limited: ClassVar[bool] = False

    def initialize(self, services: Services, path: str = str(STATIC)) -> None:  # type: ignore[override]
        """Both bases take their own arguments."""
        Guarded.initialize(self, services)
        StaticFileHandler.initialize(self, path)

    def set_extra_headers(self, path: str) -> None:
        self.set_header("Cache-Control", "no-cache")


class Favicon(Static):
    """`GET /favicon.ico`: the one icon there is."""

    async def get(self, path: str = "", include_body: bool = True) -> None:
        await super().get("favicon.svg", include_body)

    async def head(self, path: str = "") -> None:
        await self.get(include_body=False)
