"""The one redactor: every text that AMIGA, its users or its tools wrote passes here before it is kept.

It errs on the side of hiding. What it returns is still foreign text: it must be escaped where it is shown.
"""

from __future__ import annotations

import json
import re
from typing import Any

MASK = "•••"
SCAN_LIMIT = 20_000  # characters looked at; the rest is cut off before, never shown unscanned
MAX_DEPTH = 12
MAX_ITEMS = 200

_WORDS = (
    r"(?:pass(?:word|wd|phrase)?|secret|token|api[_-]?key|apikey|private[_-]?key|access[_-]?key"
    r"|credential|authorization|auth|cookie|session[_-]?key|client[_-]?secret|connection[_-]?string|dsn)"
)
_WORD = re.compile(_WORDS, re.IGNORECASE)
_KEY_NAME = re.compile(rf"[a-z0-9_.-]{{0,40}}?{_WORDS}[a-z0-9_.-]{{0,40}}", re.IGNORECASE)
# Names that only look like it: counts of tokens, who wrote something.
_HARMLESS = re.compile(
    r"(?:max_|input_|output_|total_|cache_\w*)?tokens(?:_\w+)?|author(?:s|ed)?|pass(?:ed)?", re.IGNORECASE
)

# Where none of these stands, none of the patterns can match. Most texts have none, and one search for all
# takes a tenth of the time of the patterns.
_HINT = re.compile(
    r"-----begin|://|authorization|bearer|basic|eyj|[spr]k[-_]|gh[pousr]_|github_|glpat-|xox[abeoprs]-|akia|asia|aiza"
    r"|npm_|pypi-|hf_|ya29\.|sg\.|:aa|cookie|hooks|\s-u|--user|sshpass|mysql|mariadb",
    re.IGNORECASE,
)
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # Private keys, also when the text was cut before their end.
    (
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----|\Z)",
            re.DOTALL,
        ),
        MASK,
    ),
    # user:password@ in a URL
    (
        re.compile(r"\b([a-z][a-z0-9+.-]{1,20}://[^\s/:@'\"]{0,200}:)[^\s/@'\"]{1,400}@", re.IGNORECASE),
        rf"\1{MASK}@",
    ),
    # scheme://token@host
    (re.compile(r"\b(https?://)[^\s/:@'\"]{12,400}@", re.IGNORECASE), rf"\1{MASK}@"),
    # Authorization headers and bearer words
    (
        re.compile(
            r"\b(authorization\s*[:=]\s*)(?:(?:bearer|basic|token|digest)\s+)?[^\s'\",;]+", re.IGNORECASE
        ),
        rf"\1{MASK}",
    ),
    (
        re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE),
        rf"\1 {MASK}",
    ),
    # Cookie headers, all of their cookies
    (re.compile(r"\b((?:set-)?cookie\s*:\s*)[^\n'\"]+", re.IGNORECASE), rf"\1{MASK}"),
    # Webhooks, whose address is the secret
    (
        re.compile(r"\b(hooks\.slack\.com/|discord(?:app)?\.com/api/webhooks/)[^\s'\"]+", re.IGNORECASE),
        rf"\1{MASK}",
    ),
    # curl -u user:password; sshpass -p password; mysql -ppassword
    (re.compile(r"(?<!\S)(-u\s*|--user[=\s]\s*)([^\s:'\"]{1,100}):[^\s'\"]+"), rf"\1\2:{MASK}"),
    (re.compile(r"\b(sshpass\s+-p\s*)\S+"), rf"\1{MASK}"),
    (re.compile(r"\b((?:mysql|mariadb)\w*\b[^\n|;&]{0,200}?\s-p)(?=\S)\S+"), rf"\1{MASK}"),
    # JSON Web Tokens
    (re.compile(r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{3,}(?:\.[A-Za-z0-9_-]*)?"), MASK),
    # Keys known by their prefix
    (
        re.compile(
            r"\b(?:sk|pk|rk)[-_](?:ant[-_]|live[-_]|test[-_]|proj[-_]|or[-_])?[A-Za-z0-9_-]{12,}"
            r"|\bgh[pousr]_[A-Za-z0-9]{16,}|\bgithub_pat_[A-Za-z0-9_]{20,}|\bglpat-[A-Za-z0-9_-]{16,}"
            r"|\bxox[abeoprs]-[A-Za-z0-9-]{10,}|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[A-Za-z0-9_-]{30,}"
            r"|\bnpm_[A-Za-z0-9]{20,}|\bpypi-[A-Za-z0-9_-]{20,}|\bhf_[A-Za-z0-9]{20,}|\bya29\.[A-Za-z0-9_-]{20,}"
            r"|\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}|(?<!\d)\d{8,10}:AA[A-Za-z0-9_-]{30,}"
        ),
        MASK,
    ),
)
# name=value, name: value, "name": "value", export NAME=value (.env lines), --name value. Nothing in them is tried
# twice (++, *+): a text that is made for it must not cost more than another one of its length.
_NAME = re.compile(r"[a-z0-9_.-]++", re.IGNORECASE)
_ASSIGNED = re.compile(
    r"(?:\\*+[\"'])?+\s*+(?:=|%3D|:(?!//))\s*+"
    r"(?P<value>\\*+\"[^\"\n]*+\"?+|'[^'\n]*+'?+|[^\s,;&}\])]++)",
    re.IGNORECASE,
)
_FOLLOWING = re.compile(r"\s++(?P<value>\"[^\"\n]*+\"?+|'[^'\n]*+'?+|[^\s-]\S*+)")
_NAME_CHARS = 80  # a longer one is not harmless
_SPACE = re.compile(r"\s+")
# Control characters could colour a terminal or reorder a line. JSON can hold halves of surrogate pairs, which are no
# text: a snapshot with one could be sent to nobody.
_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def redact(text: str) -> str:
    """`text` (its first 20,000 characters) with everything that looks like a credential masked."""
    text = text[:SCAN_LIMIT]
    if not text.isprintable():
        text = _CONTROL.sub("", text)
    if _HINT.search(text):
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
    if _WORD.search(text):
        text = _mask_named(text, _ASSIGNED, option=False)
        text = _mask_named(text, _FOLLOWING, option=True)
    return text


def one_line(text: object, limit: int = 200) -> str:
    """Any foreign value as one redacted line of at most `limit` characters."""
    if text is None:
        return ""
    # Redact first: a credential cut in half would no longer be recognised.
    line = _SPACE.sub(" ", redact(str(text)[:SCAN_LIMIT])).strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"


def redact_value(value: Any, depth: int = 0) -> Any:  # noqa: ANN401 - any JSON value
    """A JSON value with secrets masked: by the name of their key at any depth, and inside strings."""
    if depth > MAX_DEPTH:
        return "…"
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        items = list(value.items())[:MAX_ITEMS]
        return {
            redact(str(key)): MASK if _is_secret_name(str(key)) else redact_value(one, depth + 1)
            for key, one in items
        }
    if isinstance(value, list):
        return [redact_value(one, depth + 1) for one in value[:MAX_ITEMS]]
    return value


def redact_json(text: str | None, *, hide: bool = False) -> Any:  # noqa: ANN401 - any JSON value
    """The `parameters` column: parsed and redacted; a string when it is no JSON, None when `hide`."""
    if hide or not text:
        return None
    try:
        value = json.loads(text) if len(text) <= SCAN_LIMIT else text
    except (ValueError, RecursionError):
        value = text
    return redact_value(value)


def _is_secret_name(name: str) -> bool:
    return _KEY_NAME.fullmatch(name) is not None and _HARMLESS.fullmatch(name) is None


def _mask_named(text: str, what_follows: re.Pattern[str], *, option: bool) -> str:
    """The text with the values masked that follow a name with one of the words in it (`option`: after a dash)."""
    parts: list[str] = []
    done = 0  # what comes before this is in `parts`
    for name in _NAME.finditer(text):
        start, end = name.span()
        if option:
            start = text.find("-", start, end)
        if start < done or not _WORD.search(text, start, end) or _is_harmless(text[start:end]):
            continue
        if (found := what_follows.match(text, end)) is not None:
            quote = found["value"][0] if found["value"][0] in "\"'" else ""
            parts += (text[done : found.start("value")], f"{quote}{MASK}{quote}")
            done = found.end()
    return "".join((*parts, text[done:]))


def _is_harmless(name: str) -> bool:
    return len(name) <= _NAME_CHARS and _HARMLESS.fullmatch(name.lstrip("-")) is not None
