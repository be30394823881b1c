"""What AMIGA's hooks make of a tool's parameters and errors before they store them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

# First match decides, as in AMIGA's hook.
_CATEGORIES = (
    ("permission_error", ("permission denied", "access denied", "forbidden", "not permitted")),
    ("file_not_found", ("no such file", "file not found", "cannot find", "does not exist")),
    ("timeout", ("timed out", "timeout", "deadline exceeded")),
    ("syntax_error", ("syntax error", "invalid syntax", "parsing error", "parse error")),
    ("network_error", ("connection", "network", "refused", "unreachable", "dns", "socket", "ssl", "tls")),
    ("git_error", ("git error", "merge conflict", "rebase", "detached head", "not a git")),
    ("validation_error", ("validation", "invalid", "malformed", "bad request")),
    ("resource_error", ("out of memory", "disk full", "quota", "too many", "resource", "limit exceeded")),
    ("command_not_found", ("command not found", "not recognized", "no such command")),
)
_SENSITIVE = ("token", "password", "secret", "api_key", "auth", "credential")


def category(error: str) -> str:
    """AMIGA's class of an error text: the first whose pattern occurs in it."""
    text = error.lower()
    return next((name for name, hints in _CATEGORIES if any(h in text for h in hints)), "unknown_error")


def stored(parameters: Mapping[str, Any]) -> str | None:
    """Parameters as AMIGA's hook stores them: top-level keys redacted, long strings cut at 500."""
    kept: dict[str, object] = {}
    for key, value in parameters.items():
        if any(word in key.lower() for word in _SENSITIVE):
            kept[key] = "<redacted>"
        elif isinstance(value, str) and len(value) > 500:  # noqa: PLR2004 - AMIGA's cut
            kept[key] = value[:500] + "..."
        else:
            kept[key] = value
    return json.dumps(kept) if kept else None
