"""The pages a person navigates to, and their static files."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
import re
import stat
from importlib.resources import files
from pathlib import Path
from typing import ClassVar

from tornado.web import HTTPError

from amiga_ws import bundle, commands
from amiga_ws.config.kinds import in_words
from amiga_ws.handlers.compression import finish_compressed
from amiga_ws.handlers.guard import SERVER_VERSION, Guarded, Services

PACKAGE = Path(__file__).parent.parent
STATIC = bundle.STATIC
PLAIN_NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,63}", re.IGNORECASE | re.ASCII)  # no separator in it
SERVED = {".css", ".html", ".js", ".json", ".map", ".png", ".svg", ".txt", ".woff2"}


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
        text = self.render_string(
            self.template,
            demo=self.services.demo,
            version=SERVER_VERSION,
            static="/static/",
            charts=(STATIC / "uplot.js").is_file(),  # comes with the build, not with a checkout
            built=bundle.modules(STATIC),
            make=commands.token_command(),
            checkout=commands.in_checkout(),
            login_ttl=in_words(self.services.settings.auth.login_ttl),
        )
        finish_compressed(self, text)

    def head(self) -> None:
        """As GET; Tornado leaves the body out."""
        self.get()


class LoginPage(Page):
    """`GET /login`: for anybody."""

    public: ClassVar[bool] = True


class AdminPage(Page):
    """`GET /admin`: who is connected, what was refused; for the owner."""

    scope: ClassVar[str] = "admin"


class _File:
    """A static file in memory, plain and gzipped, as of its modification time."""

    def __init__(self, path: Path) -> None:
        self.mtime_ns = path.stat().st_mtime_ns
        self.body = path.read_bytes()
        self.zipped = gzip.compress(self.body, 9, mtime=0)
        # Weak, for it stands for both (RFC 9110, 8.8.1).
        self.etag = f'W/"{hashlib.sha256(self.body).hexdigest()}"'
        self.media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        if path.suffix == ".js":
            self.media_type = "text/javascript"  # whatever this host's table says


class Static(Guarded):
    """`/static/*`: the pages' own files, for anybody; revalidated each time (ETag), never stale.

    Only a plain file name is one, so no path of a peer's making is ever opened, and no link is followed.
    """

    public: ClassVar[bool] = True
    rate_limited: ClassVar[bool] = False
    _files: ClassVar[dict[str, _File]] = {}

    def get(self, name: str) -> None:
        file = self._find(name)
        self.set_header("Content-Type", f"{file.media_type}; charset=utf-8")
        self.set_header("Cache-Control", "no-cache")
        self.etag = file.etag
        finish_compressed(self, file.body, file.zipped)

    def head(self, name: str) -> None:
        """As GET; Tornado leaves the body out."""
        self.get(name)

    def _find(self, name: str) -> _File:
        path = STATIC / name
        try:
            if not PLAIN_NAME.fullmatch(name) or path.suffix not in SERVED:
                raise FileNotFoundError
            found = path.lstat()
            if not stat.S_ISREG(found.st_mode):
                raise FileNotFoundError
            file = self._files.get(name)
            if file is None or file.mtime_ns != found.st_mtime_ns:
                file = self._files[name] = _File(path)
        except OSError as error:
            raise HTTPError(404, "there is no such file") from error
        return file


class Favicon(Static):
    """`GET /favicon.ico`: the one icon there is."""

    def get(self, name: str = "favicon.svg") -> None:
        super().get(name)

    def head(self, name: str = "favicon.svg") -> None:
        super().get(name)
