"""Tables as CSV: RFC 4180, and safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

Cell = str | int | float | None

# A spreadsheet takes a cell that begins so for a formula, which may call programs or send data away
# (OWASP, "CSV Injection"); the full-width forms count too. An apostrophe makes it text.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def csv_table(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> bytes:
    """UTF-8, CRLF, quotes where needed; None is an empty field. Numbers stay numbers, negative ones too."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([_safe(cell) for cell in row])
    return text.getvalue().encode("utf-8", "replace")


def _safe(cell: Cell) -> Cell:
    return f"'{cell}" if isinstance(cell, str) and cell.lstrip(" ").startswith(_FORMULA) else cell
