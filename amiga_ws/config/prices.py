"""The price table: what a million tokens of a model cost, from which day on. One line of text each."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

from amiga_ws.config.kinds import Kind, Raw

_MODEL = re.compile(r"[A-Za-z0-9][\w.@: /-]{0,79}")
_RATES = ("input", "output", "cache_write", "cache_read")
_EXPECTS = "model=NAME since=YYYY-MM-DD input=N output=N cache_write=N cache_read=N [cache_write_1h=N]"


@dataclass(frozen=True, kw_only=True)
class Price:
    """Money (`costs.currency`) per million tokens from the day `since` on.

    `model` is an alias, matched as a whole, or a version such as `sonnet-4-5`, matched inside an id.
    """

    model: str
    since: dt.date
    input: float
    output: float
    cache_write: float
    cache_read: float
    cache_write_1h: float | None = None  # None: as cache_write x 1.6, twice the input price as a rule

    def __str__(self) -> str:
        """As it stands in the configuration."""
        told = f"model={self.model} since={self.since} input={self.input:g} output={self.output:g}"
        told += f" cache_write={self.cache_write:g} cache_read={self.cache_read:g}"
        return told if self.cache_write_1h is None else f"{told} cache_write_1h={self.cache_write_1h:g}"


def price() -> Kind:
    """A line of the table."""

    def check(raw: Raw) -> Price:
        if not isinstance(raw, str):
            raise ValueError
        parts = dict(part.partition("=")[::2] for part in raw.split())
        if not {"model", "since", *_RATES} <= parts.keys() <= {"model", "since", "cache_write_1h", *_RATES}:
            raise ValueError
        model, since = parts.pop("model"), parts.pop("since")
        if not _MODEL.fullmatch(model):
            raise ValueError
        try:
            rates = {name: float(text) for name, text in parts.items()}
            day = dt.date.fromisoformat(since)
        except ValueError:
            raise ValueError from None  # without a text: not what is expected
        if not all(0 <= rate < 1e6 for rate in rates.values()):  # noqa: PLR2004 - also not NaN
            raise ValueError("a price is a number from 0 to 1000000")
        return Price(model=model, since=day, **rates)

    return Kind(_EXPECTS, check)


def _line(model: str, since: str, *rates: float) -> str:
    named = dict(zip(_RATES, rates, strict=True))
    return str(Price(model=model, since=dt.date.fromisoformat(since), **named))


# The public list prices as known on 2025-11-24, in US dollars. An alias ("sonnet") means whatever model
# carried it on the day.
DEFAULT_LINES = [
    _line("haiku", "2024-11-04", 0.80, 4.0, 1.0, 0.08),
    _line("haiku", "2025-10-15", 1.0, 5.0, 1.25, 0.10),
    _line("sonnet", "2024-06-20", 3.0, 15.0, 3.75, 0.30),
    _line("opus", "2024-03-04", 15.0, 75.0, 18.75, 1.50),
    _line("opus", "2025-11-24", 5.0, 25.0, 6.25, 0.50),
    _line("haiku-4-5", "2025-10-15", 1.0, 5.0, 1.25, 0.10),
    _line("3-5-haiku", "2024-11-04", 0.80, 4.0, 1.0, 0.08),
    _line("haiku-3-5", "2024-11-04", 0.80, 4.0, 1.0, 0.08),
    _line("sonnet-4-5", "2025-09-29", 3.0, 15.0, 3.75, 0.30),
    _line("sonnet-4", "2025-05-22", 3.0, 15.0, 3.75, 0.30),
    _line("3-7-sonnet", "2025-02-24", 3.0, 15.0, 3.75, 0.30),
    _line("3-5-sonnet", "2024-06-20", 3.0, 15.0, 3.75, 0.30),
    _line("opus-4-5", "2025-11-24", 5.0, 25.0, 6.25, 0.50),
    _line("opus-4-1", "2025-08-05", 15.0, 75.0, 18.75, 1.50),
    _line("opus-4", "2025-05-22", 15.0, 75.0, 18.75, 1.50),
    _line("3-opus", "2024-03-04", 15.0, 75.0, 18.75, 1.50),
]
DEFAULT_PRICES: tuple[Price, ...] = tuple(map(price().check, DEFAULT_LINES))
