"""The kinds of values a setting can have: what is accepted, and how it is said.

A value arrives *raw*: as YAML typed it, or as text (environment, `--set`) that the kind turns into the
same shapes first. So `port: "3000"` is a wrong type in a file while `AMIGA_WS_SERVER_PORT=3000` is right.
"""

from __future__ import annotations

import ipaddress
import re
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from amiga_ws.auth.origins import parse_host, parse_origin

Raw = None | bool | int | float | str | list[Any]

UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_WORDS = {"s": "second", "m": "minute", "h": "hour", "d": "day"}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
_INTEGER = re.compile(r"[+-]?\d+")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}$)(?=.*[A-Za-z]){_LABEL}(?:\.{_LABEL})*\.?")


def _same(text: str) -> Raw:
    return text


@dataclass(frozen=True)
class Kind:
    """One kind of value.

    `check` takes the raw value and returns the usable one; ValueError without a text means "not what
    `expects` says", with a text it is the better explanation.
    """

    expects: str
    check: Callable[[Raw], Any]
    from_text: Callable[[str], Raw] = _same
    unit: str = ""
    is_path: bool = False  # relative ones are resolved by the loader


# -- numbers -------------------------------------------------------------------------------------


def integer(low: int, high: int, unit: str = "") -> Kind:
    """A whole number from `low` to `high`."""

    def check(raw: Raw) -> int:
        if isinstance(raw, bool) or not isinstance(raw, int) or not low <= raw <= high:
            raise ValueError
        return raw

    def from_text(text: str) -> Raw:
        return int(text) if _INTEGER.fullmatch(text) and len(text) < 20 else text  # noqa: PLR2004 - 64 bits

    return Kind(f"a whole number from {low} to {high}", check, from_text, unit)


def number(low: float, high: float, unit: str = "") -> Kind:
    """A number from `low` to `high`."""

    def check(raw: Raw) -> float:
        if isinstance(raw, bool) or not isinstance(raw, int | float) or not low <= raw <= high:
            raise ValueError
        return float(raw)

    def from_text(text: str) -> Raw:
        try:
            return float(text)
        except ValueError:
            return text

    return Kind(f"a number from {low:g} to {high:g}", check, from_text, unit)


def duration(low: str, high: str, *, whole: bool = False) -> Kind:
    """Seconds, as a number or as `10s`, `15m`, `8h`, `30d`; an int when `whole`, else a float."""
    least, most = seconds(low), seconds(high)

    def check(raw: Raw) -> float:
        if isinstance(raw, bool) or not isinstance(raw, int | float | str):
            raise ValueError
        value = seconds(raw) if isinstance(raw, str) else float(raw)
        if not least <= value <= most or (whole and value != int(value)):
            raise ValueError
        return int(value) if whole else value

    step = "in whole seconds " if whole else ""
    return Kind(
        f"a duration {step}from {low} to {high} (a number of seconds, or 10s, 15m, 8h, 30d)", check, unit="s"
    )


def seconds(text: str) -> float:
    """`"15m"` → 900.0; a bare number is seconds. Raises ValueError."""
    found = _DURATION.fullmatch(text.strip())
    if not found:
        raise ValueError
    return float(found[1]) * UNIT_SECONDS[found[2] or "s"]


def spoken(value: float) -> str:
    """900.0 → `"15m"`: what `seconds` reads back, in the largest unit that needs no fraction."""
    for unit, length in reversed(UNIT_SECONDS.items()):
        if value and value % length == 0:
            return f"{value / length:.0f}{unit}"
    return f"{value:g}s"


def in_words(value: float) -> str:
    """120.0 → `"2 minutes"`: as `spoken`, for a page."""
    number, unit = spoken(value)[:-1], spoken(value)[-1]
    return f"{number} {_WORDS[unit]}{'' if number == '1' else 's'}"


def flag() -> Kind:
    """true or false."""

    def check(raw: Raw) -> bool:
        if not isinstance(raw, bool):
            raise ValueError
        return raw

    def from_text(text: str) -> Raw:
        return {"true": True, "false": False}.get(text.lower(), text)

    return Kind("true or false", check, from_text)


# -- texts ---------------------------------------------------------------------------------------


def choice(*options: str) -> Kind:
    """One of a few words."""

    def check(raw: Raw) -> str:
        if not isinstance(raw, str) or raw.lower() not in options:
            raise ValueError
        return raw.lower()

    return Kind(f"one of {', '.join(options)}", check)


def line(most: int) -> Kind:
    """A short text without control characters."""

    def check(raw: Raw) -> str:
        if not isinstance(raw, str) or not raw.strip() or len(raw) > most or not raw.isprintable():
            raise ValueError
        return raw

    return Kind(f"a text of 1 to {most} printable characters (in quotes when it is a number)", check)


def path() -> Kind:
    """A file or folder."""

    def check(raw: Raw) -> Path:
        if not isinstance(raw, str) or not raw or not raw.isprintable():
            raise ValueError
        try:
            return Path(raw).expanduser()
        except RuntimeError as error:
            raise ValueError(f"the home folder of {raw.split('/')[0]} is not known") from error

    return Kind("a path", check, is_path=True)


def host() -> Kind:
    """An address or a host name to bind to."""

    def check(raw: Raw) -> str:
        if not isinstance(raw, str):
            raise ValueError
        name = raw[1:-1] if raw.startswith("[") and raw.endswith("]") else raw
        if not is_host(name):
            raise ValueError
        return name

    return Kind("an IP address or a host name, without scheme and port", check)


def host_header() -> Kind:
    """What a Host header may say: `name` or `name:port`; lower case."""

    def check(raw: Raw) -> str:
        found = parse_host(raw, "http") if isinstance(raw, str) else None
        if found is None or not is_host(found.host):
            raise ValueError
        return str(raw).lower()

    return Kind("a host name or address, with its port where it is not the scheme's own", check)


def network() -> Kind:
    """An IP address or a CIDR network."""

    def check(raw: Raw) -> str:
        if not isinstance(raw, str):
            raise ValueError
        try:
            ipaddress.ip_network(raw, strict=False)
        except ValueError:
            raise ValueError from None
        return raw

    return Kind("an address or a network such as 127.0.0.1 or 10.0.0.0/8", check)


def origin() -> Kind:
    """An exact origin, in the form in which a browser sends it."""

    def check(raw: Raw) -> str:
        found = parse_origin(raw.strip().removesuffix("/")) if isinstance(raw, str) else None
        if found is None or not is_host(found.host):
            raise ValueError
        return str(found)

    return Kind("an exact origin such as https://monitor.example:8443 (no path, no wildcard)", check)


def zone() -> Kind:
    """An IANA time zone."""

    def check(raw: Raw) -> str:
        if not isinstance(raw, str) or not raw:
            raise ValueError
        try:
            zoneinfo.ZoneInfo(raw)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError from error
        return raw

    return Kind("an IANA time zone this machine knows, such as Europe/Berlin", check)


def is_host(text: str) -> bool:
    """Whether `text` is an IP address or a DNS name (ASCII, so internationalised names as xn--…)."""
    if _HOST_NAME.fullmatch(text):
        return True
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


# -- of other kinds ------------------------------------------------------------------------------


def list_of(kind: Kind, most: int = 100) -> Kind:
    """Up to `most` values of `kind`, as a tuple; in text they are separated by commas."""

    def check(raw: Raw) -> tuple[Any, ...]:
        if not isinstance(raw, list) or len(raw) > most:
            raise ValueError
        return tuple(dict.fromkeys(kind.check(each) for each in raw))

    def from_text(text: str) -> Raw:
        if text.strip() in ("", "[]"):
            return []
        return [kind.from_text(part.strip()) for part in text.split(",")]

    return Kind(f"a list (up to {most}), each {kind.expects}", check, from_text)


def optional(kind: Kind) -> Kind:
    """`kind`, or null."""

    def check(raw: Raw) -> Any:  # noqa: ANN401 - whatever the kind is
        return None if raw is None else kind.check(raw)

    def from_text(text: str) -> Raw:
        return None if text in ("", "null") else kind.from_text(text)

    return replace(kind, expects=f"{kind.expects}, or null", check=check, from_text=from_text)
