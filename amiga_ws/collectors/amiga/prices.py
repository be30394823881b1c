"""What tokens cost: a dated table per model. A model that is not in it is unpriced, never free.

AMIGA stores an alias ("sonnet") or a full id ("claude-sonnet-4-5-20250929"). An alias means whatever
model carried it on the day, so its prices are dated; of an id, the version decides.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from dataclasses import dataclass

from amiga_ws.config.prices import DEFAULT_PRICES, Price

NANO = 1_000_000_000  # money is summed in whole billionths, so that sums do not depend on their order
_PER_TOKEN = 1_000_000


@dataclass(frozen=True, slots=True)
class Tokens:
    """The four classes; `cache_write_1h` is the part of `cache_write` that is kept for an hour."""

    input: int = 0
    output: int = 0
    cache_write: int | None = None
    cache_read: int | None = None
    cache_write_1h: int = 0

    @property
    def total(self) -> int:
        """All classes together."""
        return self.input + self.output + (self.cache_write or 0) + (self.cache_read or 0)


_ALIAS = re.compile(r"[a-z]+")


class PriceTable:
    """Finds prices and computes costs."""

    def __init__(self, prices: Iterable[Price] = DEFAULT_PRICES) -> None:
        self._by_model: dict[str, list[Price]] = {}
        for price in sorted(prices, key=lambda price: price.since):
            self._by_model.setdefault(_plain(price.model), []).append(price)
        self._known: dict[str, list[Price]] = {}  # by a model's name as it was met

    @property
    def dated(self) -> str | None:
        """The newest date in the table, ISO."""
        days = [prices[-1].since for prices in self._by_model.values()]
        return max(days).isoformat() if days else None

    def cost(self, model: str, day: dt.date, tokens: Tokens) -> int | None:
        """Billionths of the currency for one answer, None if the model has no price on that day."""
        price = self._price_on(model, day)
        if price is None:
            return None
        write, hour = tokens.cache_write or 0, min(tokens.cache_write_1h, tokens.cache_write or 0)
        hour_price = price.cache_write * 1.6 if price.cache_write_1h is None else price.cache_write_1h
        amount = (
            tokens.input * price.input
            + tokens.output * price.output
            + (write - hour) * price.cache_write
            + hour * hour_price
            + (tokens.cache_read or 0) * price.cache_read
        )
        return round(amount * NANO / _PER_TOKEN)

    def _price_on(self, model: str, day: dt.date) -> Price | None:
        prices = self._known.get(model)
        if prices is None:
            prices = self._find(_plain(model))
            if len(self._known) < 1000:  # noqa: PLR2004 - names come from foreign files
                self._known[model] = prices
        valid = [price for price in prices if price.since <= day]
        # A day before the first price: the model existed, or it could not have been used.
        return valid[-1] if valid else prices[0] if prices else None

    def _find(self, model: str) -> list[Price]:
        if _ALIAS.fullmatch(model):
            return self._by_model.get(model, [])
        keys = [key for key in self._by_model if not _ALIAS.fullmatch(key) and _holds(model, key)]
        return self._by_model[max(keys, key=len)] if keys else []


def _plain(model: str) -> str:
    return re.sub(r"[._@: ]+", "-", model.strip().lower())


def _holds(model: str, key: str) -> bool:
    """Whether `key` stands in `model` as whole parts; a date or the 0 of 4.0 may follow, another digit not."""
    pattern = rf"(?:^|-|/){re.escape(key)}(?:$|-(?:0|\d{{6,8}}|latest|v\d+|fast|thinking)\b|\[)"
    return re.search(pattern, model) is not None
