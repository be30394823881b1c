"""The dashboard's modules and styles as one file each: made as the package is built, by packaging/backend.py.

Here is what both sides agree on. The bundle is served while it is of the very sources beside it; where one has been
edited since, or nothing was built, the page loads the sources themselves. Nothing but the standard library: the
build has no more.
"""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path

STATIC = Path(__file__).parent / "static"
PREFIX = "built-"  # of the files' names: built-dashboard.js, built-dashboard.css, and what these import
RECORD = "built.json"  # {"sources": digest, "modules": [names that built-dashboard.js imports]}
NOT_OURS = (PREFIX, "uplot.")

Stamp = tuple[str, int, int]  # (name, mtime in ns, bytes)


def stamps(folder: Path = STATIC) -> tuple[Stamp, ...]:
    """All sources as they are now."""
    sources = (file for file in folder.iterdir() if file.suffix in (".css", ".js"))
    mine = sorted(file for file in sources if not file.name.startswith(NOT_OURS))
    return tuple((file.name, (found := file.stat()).st_mtime_ns, found.st_size) for file in mine)


@functools.lru_cache(maxsize=1)
def digest(sources: tuple[Stamp, ...], folder: Path = STATIC) -> str:
    """SHA-256 of these sources, their names among it."""
    found = hashlib.sha256()
    for name, _, _ in sources:
        found.update(name.encode() + b"\0" + (folder / name).read_bytes() + b"\0")
    return found.hexdigest()


def modules(folder: Path = STATIC) -> list[str] | None:
    """Names of the modules that the bundle's own imports at once; None where there is no bundle of these sources."""
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
        return list(record["modules"]) if record["sources"] == digest(stamps(folder), folder) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
