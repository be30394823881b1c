"""Whether AMIGA's hooks are installed, as far as its folder tells."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from amiga_ws.collectors.amiga.files import read_regular
from amiga_ws.collectors.amiga.redact import one_line

SETTINGS = (".claude/settings.json", ".claude/settings.local.json")
WANTED = {"PreToolUse": "starts", "PostToolUse": "endings"}
SIZE_LIMIT = 1 << 20
_PATH = re.compile(r"(?:\$CLAUDE_PROJECT_DIR|\$\{CLAUDE_PROJECT_DIR\}|~)?/?[\w.@+-]+(?:/[\w.@+-]+)+")


def hooks_installed(root: Path) -> Iterator[tuple[Literal["ok", "note", "warn", "bad"], str, str]]:
    """(level, text, meaning) for each kind of hook and each script that cannot be found."""
    commands = _commands(root)
    if commands is None:
        yield (
            "warn",
            "no .claude/settings.json in AMIGA's folder",
            "hooks that are set elsewhere cannot be checked; without hooks no tool call is recorded",
        )
        return
    for event, what in WANTED.items():
        named = commands.get(event, [])
        if not named:
            yield (
                "bad",
                f"{event}: not registered in .claude/settings.json",
                f"no {what} of tool calls are recorded",
            )
            continue
        missing = [path for command in named for path in _missing(root, command)]
        for path in missing:
            yield (
                "bad",
                f"{event}: {one_line(path, 160)} does not exist",
                "the hook fails silently: the session logs grow, the database does not",
            )
        if not missing:
            yield "ok", f"{event}: registered", ""


def _commands(root: Path) -> dict[str, list[str]] | None:
    contents = [content for name in SETTINGS if (content := _load(root / name)) is not None]
    if not contents:
        return None
    found: dict[str, list[str]] = {}
    for content in contents:
        hooks = content.get("hooks")
        for event, entries in hooks.items() if isinstance(hooks, dict) else ():
            for entry in entries if isinstance(entries, list) else ():
                inner = entry.get("hooks") if isinstance(entry, dict) else None
                for hook in inner if isinstance(inner, list) else ():
                    if isinstance(hook, dict) and isinstance(hook.get("command"), str):
                        found.setdefault(str(event), []).append(hook["command"])
    return found


def _load(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(read_regular(path, SIZE_LIMIT))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _missing(root: Path, command: str) -> list[str]:
    """Paths in a command that are no files; a relative one is looked for in AMIGA's folder."""
    missing = []
    for match in _PATH.finditer(command):
        text = re.sub(r"^\$\{?CLAUDE_PROJECT_DIR\}?/?", "", match[0])
        path = Path(text).expanduser() if text.startswith("~") else root / text
        if not path.exists():
            missing.append(match[0])
    return missing
