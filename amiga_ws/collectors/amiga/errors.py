"""Names for what went wrong: classes of AMIGA's task errors, and tool errors that are probably none."""

from __future__ import annotations

import re

# In the order tried; the texts are those AMIGA's code writes.
_TASK_CLASSES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("dead_process", re.compile(r"\[dead_process\]|Process \d+ no longer running")),
    ("timeout", re.compile(r"\[timeout\]|No updates for [\d.]+ ?min")),
    ("no_output", re.compile(r"Claude produced no output")),
    ("minimal_output", re.compile(r"Claude produced minimal output")),
    ("start_failed", re.compile(r"Failed to start Claude")),
    ("database_locked", re.compile(r"database is locked")),
    ("execution_error", re.compile(r"Task execution error")),
    ("restart", re.compile(r"bot restart|bot shutdown|server restart")),
    ("stopped_by_user", re.compile(r"[Ss]topped by user")),
    ("cleaned_up", re.compile(r"[Cc]leaned up")),
    ("never_started", re.compile(r"pending for more than")),
)

# AMIGA's hook calls an answer an error when it contains such words; reading a log file does too.
_WORDS_ONLY = re.compile(r"error:|failed:|traceback|exception:|fatal:", re.IGNORECASE)
CONSTANT_ERROR = "Tool output contains error"  # old hooks; 91 % of a day's errors, mostly false
_READERS = frozenset({"Read", "Grep", "Glob", "WebFetch", "WebSearch", "BashOutput", "LS", "NotebookRead"})
# The category is chosen by words too. These read files and run nothing: such an error can only be in the file.
_FILE_READERS = frozenset({"Read", "Grep", "Glob", "LS", "NotebookRead"})
_NOT_OF_FILES = frozenset({"git_error", "command_not_found", "network_error"})


def task_error_class(error: str | None) -> str | None:
    """The class of a task's error text; None without one, "other" for an unknown text."""
    if not error:
        return None
    for name, pattern in _TASK_CLASSES:
        if pattern.search(error):
            return name
    return "other"


def suspect(tool: str, error: str | None, category: str | None) -> bool:
    """Whether a recorded tool error is probably none: it only stands in what the tool showed.

    Tools that show other people's text (a log file, a page) and were given no particular category, or one
    that they cannot have; and the constant text of old hooks.
    """
    if error == CONSTANT_ERROR or (tool in _FILE_READERS and category in _NOT_OF_FILES):
        return True
    if tool not in _READERS or category not in (None, "", "unknown_error"):
        return False
    return error is None or _WORDS_ONLY.search(error) is not None
