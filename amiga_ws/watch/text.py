"""Text for a terminal: what must not get there, how wide it is, how numbers and times are said. Pure.

Whatever comes from AMIGA or a server may hold what a terminal obeys; `clean` is the only way to the screen.
"""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

NOTHING = "–"  # noqa: RUF001 - an en dash: unknown is never 0
MINUTE, HOUR, DAY = 60, 3600, 86_400
KIB = 1024
CENT = 0.01
SHORTEST_TENTHS = 10  # below this a number gets one decimal

Segment = tuple[str, str]  # text and the name of its style, "" for none
Line = list[Segment]

STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36", "alarm": "1;31"}


# -- what reaches the terminal -----------------------------------------------------------------------


def clean(text: str) -> str:
    """One line without anything a terminal obeys or that hides or reorders text.

    Controls (C0, C1, DEL) and line ends become blanks; invisible formatting characters, among them those
    that turn the direction of writing, go; surrogates and unassigned ones become U+FFFD.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_clean_character(character) for character in text)


@lru_cache(maxsize=4096)
def _clean_character(character: str) -> str:
    category = unicodedata.category(character)
    if category in ("Cc", "Zl", "Zp"):
        return " "
    if category == "Cf":
        return ""
    return "\N{REPLACEMENT CHARACTER}" if category in ("Cs", "Cn", "Co") else character


def width(text: str) -> int:
    """Columns that clean `text` takes: East Asian wide characters two, combining ones none (UAX 11)."""
    return len(text) if text.isascii() else sum(map(_columns, text))


@lru_cache(maxsize=4096)
def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, most: int) -> str:
    """Clean `text` in at most `most` columns, with an ellipsis where something is missing."""
    if width(text) <= most:
        return text
    taken, columns = [], 0
    for character in text:
        columns += _columns(character)
        if columns > most - 1:
            break
        taken.append(character)
    return "".join(taken) + "…" if most > 0 else ""


def cell(text: str, columns: int, *, right: bool = False) -> str:
    """`text`, cleaned, in exactly `columns` columns."""
    fitted = cut(clean(text), columns)
    blanks = " " * (columns - width(fitted))
    return blanks + fitted if right else fitted + blanks


def painted(line: Iterable[Segment], columns: int, *, colours: bool) -> str:
    """A line for the terminal: cleaned, in at most `columns` columns, with its styles if wanted."""
    pieces, left = [], columns
    for text, style in line:
        piece = cut(clean(text), left)
        left -= width(piece)
        pieces.append(f"\x1b[{STYLES[style]}m{piece}\x1b[0m" if colours and style and piece else piece)
        if left <= 0:
            break
    return "".join(pieces)


# -- numbers and times ---------------------------------------------------------------------------


def duration(seconds: float | None) -> str:
    """`47s`, `12m`, `3h 05m`, `2d 4h`."""
    if seconds is None:
        return NOTHING
    whole = max(0, int(seconds))
    if whole < MINUTE:
        return f"{whole}s"
    if whole < HOUR:
        return f"{whole // MINUTE}m {whole % MINUTE:02}s"
    if whole < DAY:
        return f"{whole // HOUR}h {whole % HOUR // MINUTE:02}m"
    return f"{whole // DAY}d {whole % DAY // HOUR}h"


def clock(epoch: float | None) -> str:
    """`14:02:07`, in this terminal's time zone."""
    try:
        return NOTHING if epoch is None else time.strftime("%H:%M:%S", time.localtime(epoch))
    except (OverflowError, ValueError, OSError):  # a year no calendar has
        return NOTHING


def percent(value: float | None) -> str:
    """`43%`."""
    return NOTHING if value is None else f"{value:.0f}%"


def count(value: float | None) -> str:
    """`812`, `12.3k`, `4.1M`."""
    if value is None:
        return NOTHING
    return _scaled(value, 1000, ("", "k", "M", "G", "T"))


def size(value: float | None) -> str:
    """Bytes as `812 B`, `1.5 GiB`."""
    if value is None:
        return NOTHING
    return _scaled(value, KIB, (" B", " KiB", " MiB", " GiB", " TiB"))


def money(value: float | None, currency: str) -> str:
    """`$1.23`, `0.004 EUR`: a cost below a hundredth shows its first digit that counts."""
    if value is None:
        return NOTHING
    number = f"{value:.2f}" if value == 0 or abs(value) >= CENT else f"{value:.1g}"
    return f"${number}" if currency == "USD" else f"{number} {currency}"


def _scaled(value: float, step: int, units: tuple[str, ...]) -> str:
    unit = 0
    while abs(value) >= step and unit < len(units) - 1:
        value, unit = value / step, unit + 1
    digits = 1 if unit and abs(value) < SHORTEST_TENTHS * 10 else 0
    return f"{value:.{digits}f}{units[unit]}"
