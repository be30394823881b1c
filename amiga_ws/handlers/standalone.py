"""The WebSocket test page in one file that works from disk, where a browser loads no modules and no styles.

The modules go into an import map as `data:` URLs, each under a name of its own, so that they stay what they are;
nothing is bundled or rewritten but the names they import each other by.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from urllib.parse import quote

from tornado.template import Loader

from amiga_ws import commands
from amiga_ws.handlers.pages import STATIC, templates_dir

IMPORTED = re.compile(r'(?<=from )"\./([\w-]+\.js)"')
PREFIX = "amiga/"  # a relative name means nothing to a module that has no address
ENTRY = f'import "{PREFIX}tester.js";'


def standalone_page() -> str:
    """The text of `websocket_test_standalone.html`."""
    blocks = {
        "style": "".join(_source(name) for name in ("base.css", "tester.css")),
        "theme": _source("theme.js"),
        "modules": json.dumps({"imports": _modules("tester.js")}, indent=1).replace("</", "<\\/"),
        "entry": ENTRY,
    }
    scripts = " ".join(_hash(blocks[name]) for name in ("theme", "modules", "entry"))
    policy = (
        f"default-src 'none'; script-src {scripts} data:; style-src {_hash(blocks['style'])}; img-src data:; "
        "connect-src http: https: ws: wss:; base-uri 'none'; form-action 'none'"
    )
    template = Loader(str(templates_dir())).load("websocket_test_standalone.html")
    return template.generate(policy=policy, make=commands.token_command(), **blocks).decode()


def _modules(entry: str) -> dict[str, str]:
    """Name → `data:` URL of a module and all that it imports."""
    found: dict[str, str] = {}
    names = [entry]
    while names:
        name = names.pop()
        source = _source(name)
        names += [each for each in IMPORTED.findall(source) if PREFIX + each not in found]
        named = IMPORTED.sub(rf'"{PREFIX}\1"', source)
        found[PREFIX + name] = "data:text/javascript;charset=utf-8," + quote(named, safe="")
    return dict(sorted(found.items()))


def _source(name: str) -> str:
    return (STATIC / name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
