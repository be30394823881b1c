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
    r"pass(?<!bypass)(?<!compass)(?!age|eng|ing|ive|port|[_-]?thr|e[ds])|pwd|(?<![a-z])(?:otp|psk|pw|creds)(?![a-z])"
    r"|secret|token(?!i[sz])|auth(?<!unauth)(?!or(?!iz))|credential|cookie|dsn|contrase[nñ]a|connection[_ -]?string"
    r"|(?:api|private|access|session|account|master|shared|signing|encryption|subscription|application)[_ -]?key"
    r"|(?-i:_KEY(?![A-Za-z_]))",  # of the environment: in code there are keys of many other kinds
    re.IGNORECASE,
)
# Names that only look like it: counts of tokens, errors, which say what is wrong.
_COUNT = (
    r"(?:max|min|num|total|input|output|in|out|cached?|creation|read|write|prompt|completion|reasoning|thinking"
    r"|used|usage|count|limit|budget|left|remaining|to_sample)"
)
_HARMLESS = re.compile(
    rf"(?:{_COUNT}[_. -]?)*+(?:tokens|token(?=[_ -]?(?:count|usage|limit|budget)))(?:[_. -]?{_COUNT})*+"
    r"|.*(?:error|exception|warning)",
    re.IGNORECASE,
)
# Names with values that are no secret: words of languages, counts of tokens, what a test did, a place in a file, the
# folder one is in. They end somewhere: what is passed over is looked at again from each name in it.
_HARMLESS_PAIR = re.compile(
    r"[^:=]++[:=]++>?\s*+(?:(?:true|false|null|none|nil|undefined|str|string|bool|boolean)\b[\s|=:,;()\[\]{}?]*+)++"
    r"|(?=[^:=]*tokens)[^:=]++[:=]\s*+[\d.,_]++k?\W*+"
    r"|pass(?:[_ -]?(?:rate|count))?(?:\\*[\"'])?\s*(?:[:=]\s*[\d.,]++%?\W*+|:\s+(?!\\*[\"']).{0,300})"
    r"|[\w.-]*\.(?!pass|pwd|otp|pin|auth)[a-z]{1,4}:\d++(?:[:),].{0,80})?"
    r"|(?:old)?pwd[:=]\s*/.{0,300}",
    re.IGNORECASE | re.DOTALL,
)

# Keys known by how they begin, those of letters and digits and those with other characters.
_PLAIN_KEY = r"(?:gh[pousr]_|npm_|hf_|gsk_|dop_v1_|shpat_)"
_KEY = (
    r"(?:github_pat_|gl(?:pat|[dr]t|ptt|cbt|soat)-|pypi-|AGE-SECRET-KEY-|ya29\.|xai-|nvapi-|hvs\.|dckr_pat_|GOCSPX-|ATATT"
    r"|xapp-|xox[abeoprs]-|AIza|whsec_)"
)
# Where none of these stands, none of the patterns can match. Most texts have none, and one search for all
# takes a tenth of the time of the patterns.
_HINT = re.compile(
    rf"---- ?begin|ls0tls1crudjti|:\\*/|authorization|bearer|basic|eyj|[spr]k[-_]|{_PLAIN_KEY}|{_KEY.lower()}|sg\."
    r"|akia|asia|:aa|\.[\w-]{6}\.[\w-]{27}|cookie|hooks?\.|webhooks|sig(?:nature)?=|(?<!\S)-\w{0,5}u|-user|(?<!\S)-b\s"
    r"|[\"']-u\\*[\"']|sshpass|mysql|mariadb|redis-cli|login\s+\S+\s+password|identified\s"
    r"|\|[^\n|;]{0,200}?(?:passw|-token|secret\s|sudo\s+-)"
)
_WORD_OF_A_SHELL = r"(?:\\[ ']|\"[^\"\n]*+\"|'[^'\n]*+'|`[^`\n]*+`|\S)++"
_USER = r"(?<!\S)(-[uU]\s*|-\w{1,5}u\s+|--(?:proxy-)?user[=\s]\s*)"
_USER_OPTIONS = ("-u", "-U", "--user", "--proxy-user")
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # Private keys, also when the text was cut before their end.
    (
        re.compile(
            r"-{4,5} ?BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}.*?"
            r"(?:-{4,5} ?END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}|\Z)",
            re.DOTALL,
        ),
        MASK,
    ),
    # and in base64, as a kubeconfig and a Kubernetes secret have it
    (re.compile(r"LS0tLS1CRUdJTi[A-Za-z0-9+/]*+=*"), MASK),
    # user:password@ in a URL, up to the last @ or where the text was cut; not a port and a path with an @ in it
    (
        re.compile(
            r"\b([a-z][a-z0-9+.-]{1,20}:\\*/\\*/(?!\[)[^\s/:@'\"]{0,200}:)"
            r"(?:(?!\d{1,5}/)[^\s\"]{1,400}(@)|(?!\d{1,5}(?!\.?\w))[^\s\"]{1,400}\Z)",
            re.IGNORECASE,
        ),
        rf"\1{MASK}\2",
    ),
    # scheme://token@host
    (re.compile(r"\b(https?:\\*/\\*/)[^\s/:@'\"]{12,400}@", re.IGNORECASE), rf"\1{MASK}@"),
    # Authorization headers, with a scheme or without, and bearer words; those in prose are all small letters
    (
        re.compile(
            r"\b(authorization\s*[:=]\s*)(?:[a-z][\w-]*[ \t]+)?(?:\\*[\"'])?[^\s'\",;\\]+", re.IGNORECASE
        ),
        rf"\1{MASK}",
    ),
    (
        re.compile(
            r"\b((?i:bearer|basic))\s+(?=[\w.~+/-]*?(?:[\d=]|[a-z][A-Z][\w.~+/-]*?[a-z][A-Z]))[A-Za-z0-9._~+/=-]{8,}"
        ),
        rf"\1 {MASK}",
    ),
    # Cookie headers, all of their cookies
    (re.compile(r"\b((?:set-)?cookie\s*:\s*)(?:=\\*\"[^\"\n]*+\"|[^\n'\"\\])+", re.IGNORECASE), rf"\1{MASK}"),
    # Webhooks, whose address is the secret
    (
        re.compile(
            r"\b((?:web)?hooks?\.[\w-]+\.\w+\\*/|discord(?:app)?\.com\\*/api\\*/(?:v\d+\\*/)?webhooks\\*/)[^\s'\"]+",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
    # Signatures of addresses that are open to whoever has them
    (re.compile(r"\b(sig(?:nature)?=)[^\s&'\"]+", re.IGNORECASE), rf"\1{MASK}"),
    # curl -u user:password, in quotes or not, or -u token: alone; no user:group as numbers
    (
        re.compile(
            rf"{_USER}(\\*+[\"'])(?!\d+:\d+\b)([^\s:'\"]{{0,100}}):(?!//)(?:(?!\2)\\*+[^\\])++",
            re.DOTALL,
        ),
        rf"\1\2\3:{MASK}",
    ),
    (
        re.compile(rf"{_USER}(?!\d+:\d+\b)([^\s:'\"]{{0,100}}):(?!//){_WORD_OF_A_SHELL}"),
        rf"\1\2:{MASK}",
    ),
    # "-u", "user:password"
    (
        re.compile(
            rf"([\"'](?:{'|'.join(_USER_OPTIONS)})\\*+[\"']\s*+,\s*+)(\\*+[\"'])(?!\d+:\d+\b)([^\s:'\"]{{0,100}}):(?!//)"
            r"(?:(?!\2)\\*+[^\\])++",
            re.DOTALL,
        ),
        rf"\1\2\3:{MASK}",
    ),
    (re.compile(rf"{_USER}(\\*[\"']?)[^\s:'\"\\]{{12,200}}:(?=[\s'\"\\]|\Z)"), rf"\1\2{MASK}:"),
    # -u user -p password, not a port; mysql -ppassword, sshpass -p password, redis-cli -a password; curl -b cookies
    (
        re.compile(
            rf"(?<!\S)(-[uU]\s*+\S++\s++-[pP]\s*+)(?![\d.:]+(?:/\w+)?(?!\S)){_WORD_OF_A_SHELL}"
            rf"|\b((?:mysql|mariadb)\w*\b[^\n|;&]{{0,200}}?\s-p(?=\S)){_WORD_OF_A_SHELL}"
            rf"|\b((?:sshpass|redis-cli)\b[^\n|;&]{{0,200}}?\s-[pa]\s*){_WORD_OF_A_SHELL}"
            rf"|(?<!\S)(-b\s+)(?=\\*[\"']?[\w.-]+=){_WORD_OF_A_SHELL}"
        ),
        rf"\1\2\3\4{MASK}",
    ),
    # echo password | chpasswd; of .netrc; of SQL
    (
        re.compile(
            r"\b((?:echo|printf)\s++)[^\n|]{1,4000}+(?=\|[^\n|;]{0,200}?(?:passw|-token|secret\s|sudo\s+-\w*S))"
        ),
        rf"\1{MASK} ",
    ),
    (re.compile(r"\b(login\s+\S+\s+password\s+)\S+"), rf"\1{MASK}"),
    (
        re.compile(
            r"\b(identified\s+(?:with\s+\S+\s+)?by\s+)(\\*+[\"'])(?:(?!\2)\\*+[^\\])++",
            re.IGNORECASE | re.DOTALL,
        ),
        rf"\1\2{MASK}",
    ),
    # JSON Web Tokens, and what is in three parts too, a Discord bot's. No character is looked at for two beginnings.
    (re.compile(r"eyJ(?:(?!eyJ)[\w-]){5,}+\.[\w-]{3,}+(?:\.[\w-]*+)?"), MASK),
    (re.compile(r"\b(?=[a-zA-Z_-]{0,30}\d)[\w-]{23,28}\.[\w-]{6}\.[\w-]{27,}"), MASK),
    # Keys known by how they begin
    (re.compile(rf"\b{_PLAIN_KEY}[A-Za-z0-9]{{16,}}|\b{_KEY}[A-Za-z0-9_+/=-]{{16,}}"), MASK),
    (
        re.compile(
            r"\b(?:sk|pk|rk)[-_](?=[A-Za-z_-]{0,80}\d)[A-Za-z0-9_-]{12,}"
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
        rf"(?:(?=[\w$]|(?P={quote})|\\'|\"'\"){_WORD_OF_A_SHELL})?+|{_WORD_OF_A_SHELL})"
    )


# A name and its value. Nothing in these is tried twice (++, *+): a text that is made for it must not cost more than
# another one of its length.
_NAME = re.compile(r"[\w.-]++(?: key\b| string\b)?+", re.IGNORECASE)
_STRING = re.compile(r"(?P<quote>\\*+[\"'`])(?:[^\\\"'`]++|(?!(?P=quote))\\*+[^\\])*+")
_BLOCK = (  # of YAML: all lines that are indented as its first one; in a string, all of that
    r"[|>][-+\d]*+[ \t]*+\n(?:[ \t]*+\n)*+(?P<indent>[ \t]++)[^\n]*+(?:\n(?:(?P=indent)[^\n]*+|[ \t]*+(?=\n|\Z)))*+"
    r"|[|>][-+\d]*+\\++n[^\"]*+"
)
# name=value, name: value, "name": "value", 'name' => 'value', x["name"] == "value", names: [value, value], name: NAME
# and below it value: VALUE; password "value"; name value, where that looks random
_ASSIGNED = re.compile(
    r"(?:(?:\]|%5D)?+(?:\\*+[\"']\]?+)?+(?:[,;\s]++(?:\\*+[\"'])?+value(?:\\*+[\"'])?+)?+"
    r"\s*+(?:[:!]?=++>?+|%3D|:(?!//|:))\s*+|(?<=password)\s++(?=\\*+[\"'])"
    r"|[ \t]++(?=\\*+[\"']?+(?=[a-z+/_~-]*+\d)(?=[\d+/_~-]*+[a-z])[\w+/=~-]{16,}+(?!\.\w)))"
    rf"(?P<value>{MASK}(?=[,;)}}\]]*+(?:\s|\Z)|\\*+[\"'](?:[\s,;)}}\]]|\Z))|{_BLOCK}|\[[^\[\]\n]*+\]|{_value('quote')})",
    re.IGNORECASE | re.DOTALL,
)
# What goes on behind it: name: type = "value", name = x or "value". Not in the pattern above: a possessive repetition
# with a group in it makes `re` raise SystemError.
_MORE = re.compile(
    r"(?:(?:[ \t]*+\|[ \t]*+\w++)?+[ \t]*+=|[ \t]*+(?:\|\||\?\?|\bor\b|\+)[ \t]*+(?=\\*+[\"']))[ \t]*+"
    + _value("quote")
)
# "name=" and right behind that string what it is joined with: 'name='value, "name=" + "value"
_JOINED = re.compile(
    r"\s*+(?:[:!]?=++>?+|%3D|:)\s*+(?P<ends>\\*+[\"'`])(?:(?=[\w$\"'`])|[ \t]*+[+.][ \t]*+(?=\\*+[\w$\"'`]))"
    rf"(?P<value>{_value('quote')})"
)
# What a shell joins with the string that a value ends: 'name=it'\''s
_REST = re.compile(rf"[\"'`](?=[\w$]|\\'|\"'\"|[\"'][\w$]){_WORD_OF_A_SHELL}")
# --name value, "--name", "value", f("name", "value")
_FOLLOWING = re.compile(
    rf"(?:\\*+[\"']\s*+,\s*+(?!\\*+[\"']-)|\s++(?!-)(?:<<<\s*+)?+)(?P<value>{_value('quote')})", re.DOTALL
)
_CALL = re.compile(r"\(\s?\\*[\"']\Z")
# <name>value<
_ELEMENT = re.compile(r"(?:\s[^<>]*+)?+>(?P<quote>)(?:<!\[CDATA\[)?+\s*+(?P<value>[^<\s][^<]*+)")
_NAME_CHARS = 80  # a longer one is not harmless
_NEAR = 200  # a value may have taken in the beginning of the next name's: so much before its end is looked at again
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
    if _WORD.search(folded) or "_KEY" in text:
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
        is_pair = any(isinstance(one, str) and one != "pass" and _is_secret_name(one) for _, one in items)
        return {
            redact(str(key)): MASK
            if _is_secret_pair(str(key), one) or (is_pair and str(key).lower() == "value")
            else redact_value(one, depth + 1)
            for key, one in items
        }
    if isinstance(value, list):
        items = value[:MAX_ITEMS]
        return [
            MASK
            if _is_option_with_value(before, one)
            else redact_value(_without_password(before, one), depth + 1)
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


def _is_secret_pair(name: str, value: object) -> bool:
    return _is_secret_name(name) and not _HARMLESS_PAIR.fullmatch(f"{name}={value}")


def _is_harmless(name: str) -> bool:
    return len(name) <= _NAME_CHARS and _HARMLESS.fullmatch(name.lstrip("-")) is not None


def _is_option_with_value(name: object, value: object) -> bool:
    """Whether these two arguments of a program are --name and value."""
    if not (isinstance(name, str) and name.startswith("-") and _is_secret_name(name)):
        return False
    return not (str(value).startswith("-") or "=" in name or " " in name)


def _without_password(option: object, value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Of a program's arguments -u and user:password the second without the password; no user:group as numbers."""
    if option not in _USER_OPTIONS or not isinstance(value, str):
        return value
    user, _, password = value.partition(":")
    if not password or password.startswith("//") or (user.isdecimal() and password.isdecimal()):
        return value
    return f"{user}:{MASK}"


def _mask_named(text: str, before: str, what_follows: re.Pattern[str]) -> str:
    """The text with the values masked that follow a name with one of the words in it.

    `before`: "-" only from a dash in the name on, "<" only where that stands before the name.
    """
    parts: list[str] = []
    done = 0  # what comes before this is in `parts`
    whole = True  # the value before was a string, which takes in nothing else
    for name in _NAME.finditer(text):
        start, end = name.span()
        if before == "<" and text[start - 1 : start] != "<":
            continue
        if start < done and (whole or start < done - _NEAR):
            continue
        if before == "-" and not (
            text[end : end + 1] in {'"', "'", "\\"} and _CALL.search(text, start - 9, start)
        ):
            start = text.find("-", start, end)
        if start < 0 or not _WORD.search(text, start, end) or _is_harmless(text[start:end]):
            continue
        limit = _end_of_string(text, name.start(), end)
        found = what_follows.match(text, end, limit)
        if found is None and limit < len(text) and what_follows is _ASSIGNED:
            found = _JOINED.match(text, end)
            if found is not None and found.start("ends") != limit:
                found = None
            limit = len(text)
        more = found
        while more is not None:
            end, more = more.end(), _MORE.match(text, more.end(), limit)
        if found is not None and end == limit < len(text) and (rest := _REST.match(text, limit)) is not None:
            end = rest.end()
        if found is None or end <= done or _HARMLESS_PAIR.fullmatch(text, start, end):
            continue
        quote = found["quote"] or ""
        if found.start("value") >= done:
            parts += (text[done : found.start("value")], f"{quote}{MASK}{quote}")
        done, whole = end, bool(quote)
    return "".join((*parts, text[done:]))


def _end_of_string(text: str, start: int, end: int) -> int:
    """Where the string ends that begins right before a name; of the whole text if none does."""
    if text[start - 1 : start] not in {'"', "'", "`"}:
        return len(text)
    at = start - 1
    while text[at - 1 : at] == "\\":
        at -= 1
    found = _STRING.match(text, at)
    return len(text) if found is None or found.end() <= end else found.end()
