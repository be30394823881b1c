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

_WORD = re.compile(
    r"pass(?:word|wd|phrase)?|pwd|(?<![a-z])otp(?![a-z])|secret|token|auth(?!or(?!iz))|credential|cookie|dsn"
    r"|(?:api|private|access|session|account)[_ -]?key|connection[_ -]?string",
    re.IGNORECASE,
)
# Names that only look like it: counts of tokens, what has passed, errors, which say what is wrong.
_COUNT = (
    r"(?:max|min|num|total|input|output|in|out|cached?|creation|read|write|prompt|completion|reasoning|thinking"
    r"|used|usage|count|limit|budget|left|remaining|to_sample)"
)
_HARMLESS = re.compile(
    rf"(?:{_COUNT}[_. -]?)*+(?:tokens|token(?=[_ -]?(?:count|usage|limit|budget)))(?:[_. -]?{_COUNT})*+|pass(?:ed)?"
    r"|.*(?:error|exception|warning)",
    re.IGNORECASE,
)

# Keys known by how they begin, those of letters and digits and those with other characters.
_PLAIN_KEY = r"(?:gh[pousr]_|npm_|hf_|gsk_|dop_v1_|shpat_)"
_KEY = r"(?:github_pat_|glpat-|pypi-|ya29\.|xai-|nvapi-|hvs\.|dckr_pat_|GOCSPX-|ATATT|xapp-|xox[abeoprs]-|AIza|whsec_)"
# Where none of these stands, none of the patterns can match. Most texts have none, and one search for all
# takes a tenth of the time of the patterns.
_HINT = re.compile(
    rf"-----begin|://|authorization|bearer|basic|eyj|[spr]k[-_]|{_PLAIN_KEY}|{_KEY.lower()}|sg\.|akia|asia|:aa"
    r"|cookie|hooks|sig(?:nature)?=|\s-\w{0,5}u|--user|sshpass|mysql|mariadb"
)
_WORD_OF_A_SHELL = r"(?:\\ |\"[^\"\n]*+\"|'[^'\n]*+'|`[^`\n]*+`|\S)++"
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # Private keys, also when the text was cut before their end.
    (
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?"
            r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)",
            re.DOTALL,
        ),
        MASK,
    ),
    # user:password@ in a URL, up to the last @; not a port and a path with an @ in it
    (
        re.compile(
            r"\b([a-z][a-z0-9+.-]{1,20}://[^\s/:@'\"]{0,200}:)(?!\d{1,5}/)[^\s\"]{1,400}@", re.IGNORECASE
        ),
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
    # Signatures of addresses that are open to whoever has them
    (re.compile(r"\b(sig(?:nature)?=)[^\s&'\"]+", re.IGNORECASE), rf"\1{MASK}"),
    # curl -u user:password, in quotes or not; sshpass -p password; mysql -ppassword
    (
        re.compile(
            r"(?<!\S)(-u\s*|-\w{1,5}u\s+|--user[=\s]\s*)(\\*+[\"'])([^\s:'\"]{1,100}):(?!//)(?:(?!\2)\\*+[^\\])++",
            re.DOTALL,
        ),
        rf"\1\2\3:{MASK}",
    ),
    (
        re.compile(
            rf"(?<!\S)(-u\s*|-\w{{1,5}}u\s+|--user[=\s]\s*)([^\s:'\"]{{1,100}}):(?!//){_WORD_OF_A_SHELL}"
        ),
        rf"\1\2:{MASK}",
    ),
    (re.compile(r"\b(sshpass\s+-p\s*)\S+"), rf"\1{MASK}"),
    (re.compile(r"\b((?:mysql|mariadb)\w*\b[^\n|;&]{0,200}?\s-p)(?=\S)\S+"), rf"\1{MASK}"),
    # JSON Web Tokens
    (re.compile(r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{3,}(?:\.[A-Za-z0-9_-]*)?"), MASK),
    # Keys known by how they begin
    (re.compile(rf"\b{_PLAIN_KEY}[A-Za-z0-9]{{16,}}|\b{_KEY}[A-Za-z0-9_+/=-]{{16,}}"), MASK),
    (
        re.compile(
            r"\b(?:sk|pk|rk)[-_](?:ant[-_]|live[-_]|test[-_]|proj[-_]|or[-_])?[A-Za-z0-9_-]{12,}"
            r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"
            r"|(?<!\d)\d{8,10}:AA[A-Za-z0-9_-]{30,}"
        ),
        MASK,
    ),
)


def _value(quote: str) -> str:
    """A pattern of a value as programs write it: all of a quoted string, or what a shell takes for one word.

    `quote` names its group. The string ends at the quote it began with, with as many backslashes before it: it may
    be in a string itself.
    """
    return (
        rf"(?:(?P<{quote}>\\*+(?:\"\"\"|'''|[\"']))(?:[^\\\"']++|(?!(?P={quote}))\\*+[^\\])*+(?P={quote})?+"
        rf"(?:(?=[\w$]|(?P={quote})){_WORD_OF_A_SHELL})?+|{_WORD_OF_A_SHELL})"
    )


# A name and its value. Nothing in these is tried twice (++, *+): a text that is made for it must not cost more than
# another one of its length.
_NAME = re.compile(r"[a-z0-9_.-]++(?: key\b| string\b)?+", re.IGNORECASE)
_BLOCK = (  # of YAML: all lines that are indented as its first one; in a string, all of that
    r"[|>][-+\d]*+[ \t]*+\n(?:[ \t]*+\n)*+(?P<indent>[ \t]++)[^\n]*+(?:\n(?:(?P=indent)[^\n]*+|[ \t]*+(?=\n|\Z)))*+"
    r"|[|>][-+\d]*+\\++n[^\"]*+"
)
# name=value, name: value, "name": "value", 'name' => 'value', x["name"] == "value", name: type = "value",
# name: NAME and below it value: VALUE
_ASSIGNED = re.compile(
    r"(?:\]|%5D)?+(?:\\*+[\"']\]?+)?+(?:[,;\s]++(?:\\*+[\"'])?+value(?:\\*+[\"'])?+)?+"
    r"\s*+(?:[:!]?=++>?+|%3D|:(?!//))\s*+"
    rf"(?P<value>{_BLOCK}|{_value('quote')}(?:(?:[ \t]*+\|[ \t]*+\w++)?+[ \t]*+=[ \t]*+{_value('inner')})*+)",
    re.IGNORECASE | re.DOTALL,
)
# --name value, "--name", "value"
_FOLLOWING = re.compile(
    rf"(?:\\*+[\"']\s*+,\s*+(?!\\*+[\"']-)|\s++(?!-))(?P<value>{_value('quote')})", re.DOTALL
)
# <name>value<
_ELEMENT = re.compile(r"(?:\s[^<>]*+)?+>(?P<quote>)(?:<!\[CDATA\[)?+\s*+(?P<value>[^<\s][^<]*+)")
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
    folded = text.casefold()  # searched in half the time that ignoring case takes
    if _HINT.search(folded):
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
    if _WORD.search(folded):
        text = _mask_named(text, "", _ASSIGNED)
        text = _mask_named(text, "-", _FOLLOWING)
        text = _mask_named(text, "<", _ELEMENT)
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
        # {"name": NAME, "value": VALUE}, with whatever word for the name
        is_pair = any(isinstance(one, str) and _is_secret_name(one) for _, one in items)
        return {
            redact(str(key)): MASK
            if _is_secret_name(str(key)) or (is_pair and str(key).lower() == "value")
            else redact_value(one, depth + 1)
            for key, one in items
        }
    if isinstance(value, list):
        items = value[:MAX_ITEMS]
        return [
            MASK if _is_option_with_value(before, one) else redact_value(one, depth + 1)
            for before, one in zip([None, *items], items, strict=False)
        ]
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
    return _WORD.search(name) is not None and not _is_harmless(name)


def _is_harmless(name: str) -> bool:
    return len(name) <= _NAME_CHARS and _HARMLESS.fullmatch(name.lstrip("-")) is not None


def _is_option_with_value(name: object, value: object) -> bool:
    """Whether these two arguments of a program are --name and value."""
    if not (isinstance(name, str) and name.startswith("-") and _is_secret_name(name)):
        return False
    return not (str(value).startswith("-") or "=" in name or " " in name)


def _mask_named(text: str, before: str, what_follows: re.Pattern[str]) -> str:
    """The text with the values masked that follow a name with one of the words in it.

    `before`: "-" only from a dash in the name on, "<" only where that stands before the name.
    """
    parts: list[str] = []
    done = 0  # what comes before this is in `parts`
    for name in _NAME.finditer(text):
        start, end = name.span()
        if before == "-":
            start = text.find("-", start, end)
        if start < done or not _WORD.search(text, start, end) or _is_harmless(text[start:end]):
            continue
        if before == "<" and text[start - 1 : start] != "<":
            continue
        if (found := what_follows.match(text, end)) is not None:
            quote = found["quote"] or ""
            parts += (text[done : found.start("value")], f"{quote}{MASK}{quote}")
            done = found.end()
    return "".join((*parts, text[done:]))
