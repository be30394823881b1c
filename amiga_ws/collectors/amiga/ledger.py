"""Tokens and money by minute, day, model and task. Every answer of a model is booked once, here."""

from __future__ import annotations

import datetime as dt
from collections import Counter, OrderedDict
from dataclasses import dataclass

from amiga_ws.collectors.amiga.prices import NANO, PriceTable, Tokens
from amiga_ws.collectors.amiga.redact import one_line
from amiga_ws.collectors.amiga.times import Times
from amiga_ws.collectors.amiga.windows import MINUTE_S, Buckets
from amiga_ws.snapshot import Budget, ClaudeApi, Costs, ModelCost

MAX_MODELS = 100
KEEP_DAYS = 62  # this month, the last one, and the 30 days of the longest sum
MAX_OWNERS = 20_000  # tasks and sessions remembered, those booked to last
MAX_ANSWERS = 32
UNKNOWN_MODEL = "unknown"
OTHER_MODEL = "other"  # those beyond MAX_MODELS together
FAMILIES = ("haiku", "sonnet", "opus")
_CALLS, _UNPRICED, _COST, _INPUT, _OUTPUT, _WRITE, _READ, _WRITE_KNOWN, _READ_KNOWN = range(9)
_FIELDS = 16


@dataclass(slots=True)
class Spent:
    """Of one day, or one task. `cost` in billionths of the currency, of the `calls - unpriced` priced ones."""

    calls: int = 0
    unpriced: int = 0
    cost: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of a model. `owner` is a task or session, None if it cannot be told."""

    when: float
    model: str
    tokens: Tokens
    owner: str | None = None


class Ledger:
    """The books. `book` costs a few dictionary updates; windows are answered from buckets."""

    def __init__(self, prices: PriceTable, times: Times, budget: float | None, currency: str) -> None:
        self.owners: OrderedDict[str, Spent] = OrderedDict()  # the one booked to last at the end
        self.moved: set[str] = set()  # owners whose sums have changed, for who asks to take out
        self._prices = prices
        self._times = times
        self._budget = budget
        self._currency = currency
        self._buckets = Buckets()
        self._models: list[str] = []
        self._families: list[str] = []  # of each of these
        self._model_ids: dict[str, int] = {}
        self._days: dict[dt.date, Spent] = {}
        self._revision = 0  # grows with whatever is booked
        self._answers: dict[int, tuple[Costs, ClaudeApi]] = {}  # by first minute
        self._answered: tuple[int, dt.date] | None = None  # the revision and the day of these

    def book(self, answer: Answer, sign: int = 1) -> None:
        """Count one answer; with `sign` -1 take it back."""
        self._revision += 1
        tokens = answer.tokens
        day = self._times.day(answer.when)
        cost = self._prices.cost(answer.model, day, tokens)
        minute = int(answer.when // MINUTE_S)
        base = self._model(answer.model) * _FIELDS
        amounts = {
            _CALLS: 1,
            _UNPRICED: int(cost is None),
            _COST: cost or 0,
            _INPUT: tokens.input,
            _OUTPUT: tokens.output,
            _WRITE: tokens.cache_write or 0,
            _READ: tokens.cache_read or 0,
            _WRITE_KNOWN: int(tokens.cache_write is not None),
            _READ_KNOWN: int(tokens.cache_read is not None),
        }
        for field, amount in amounts.items():
            if amount:
                self._buckets.add(minute, base + field, sign * amount)
        self._book_to(self._days.setdefault(day, Spent()), tokens, cost, sign)
        # Of one that was forgotten there is nothing to take back.
        if answer.owner is not None and (sign > 0 or answer.owner in self.owners):
            spent = self.owners.setdefault(answer.owner, Spent())
            self.owners.move_to_end(answer.owner)
            self._book_to(spent, tokens, cost, sign)
            if not spent.calls:
                del self.owners[answer.owner]  # unknown again, not zero
            self.moved.add(answer.owner)
            if len(self.owners) > MAX_OWNERS:
                self.moved.add(self.owners.popitem(last=False)[0])

    def window(self, minute: int, now: float) -> tuple[Costs, ClaudeApi]:
        """Everything since an epoch minute, and the calendar's sums as of `now`."""
        today = self._times.day(now)
        if self._answered != (self._revision, today) or len(self._answers) >= MAX_ANSWERS:
            self._answers.clear()
            self._answered = (self._revision, today)
        known = self._answers.get(minute)
        if known is None:
            known = self._answers[minute] = self._window(minute, today)
        return known

    def _window(self, minute: int, today: dt.date) -> tuple[Costs, ClaudeApi]:
        by_model: dict[int, dict[int, int]] = {}
        for key, amount in self._buckets.since(minute).items():
            model, field = divmod(key, _FIELDS)
            by_model.setdefault(model, {})[field] = amount
        by_model = {model: fields for model, fields in by_model.items() if fields.get(_CALLS)}
        names = {model: self._models[model] for model in by_model}
        costs = {
            names[model]: ModelCost(cost=_money(_spent_of(fields)), calls=fields[_CALLS])
            for model, fields in sorted(by_model.items(), key=lambda item: -item[1].get(_COST, 0))
        }
        everything = [_spent_of(fields) for fields in by_model.values()]
        families = {
            name: _money(_sum([_spent_of(f) for m, f in by_model.items() if name == self._families[m]]))
            for name in FAMILIES
        }
        return (
            Costs(
                total_cost=_money(_sum(everything)),
                haiku_cost=families["haiku"],
                sonnet_cost=families["sonnet"],
                opus_cost=families["opus"],
                by_model=costs,
                currency=self._currency,
                unpriced_calls=sum(one.unpriced for one in everything),
                prices_dated=self._prices.dated,
                today=self._days_sum(today, 1),
                d7=self._days_sum(today, 7),
                d30=self._days_sum(today, 30),
                utc_offset_s=self._utc_offset_s(today),
                budget=self._budget_of(today),
            ),
            ClaudeApi(
                total_requests=sum(one.calls for one in everything),
                total_input_tokens=_total(by_model, _INPUT),
                total_output_tokens=_total(by_model, _OUTPUT),
                cache_creation_tokens=_total(by_model, _WRITE, _WRITE_KNOWN),
                cache_read_tokens=_total(by_model, _READ, _READ_KNOWN),
            ),
        )

    def minute(self, minute: int) -> dict[str, float | None]:
        """Tokens, and money per hour at that pace, of one minute; no money where no answer has a price.

        By family too, for those of which anything is known: `tokens.opus`, `cost.opus`, …, `cost.other`.
        """
        families = {family: Counter[int]() for family in self._families}
        for key, amount in self._buckets.minute(minute).items():
            model, field = divmod(key, _FIELDS)
            families[self._families[model]][field] += amount
        fields = sum(families.values(), Counter[int]())
        found: dict[str, float | None] = {
            "tokens.in": fields[_INPUT],
            "tokens.out": fields[_OUTPUT],
            "tokens.cache": fields[_WRITE] + fields[_READ],
            "cost.usd": _pace(fields),
        }
        for family, parts in families.items():
            found[f"tokens.{family}"] = sum(parts[field] for field in (_INPUT, _OUTPUT, _WRITE, _READ))
            found[f"cost.{family}"] = _pace(parts)
        return found

    def first_minute(self) -> int | None:
        """The oldest minute of which anything is known."""
        return self._buckets.first_minute()

    def of_owners(self, owners: list[str]) -> tuple[int | None, float | None]:
        """(tokens, cost) of a task and its sessions; None where nothing is known."""
        spent = [self.owners[one] for one in owners if one in self.owners] if self.owners else []
        if not spent:
            return None, None
        return sum(one.tokens for one in spent), _money(_sum(spent))

    def prune(self, now: float) -> None:
        """Forget what nobody can ask for any more."""
        self._buckets.prune(int(now // MINUTE_S))
        oldest = self._times.day(now) - dt.timedelta(days=KEEP_DAYS)
        for day in [one for one in self._days if one < oldest]:
            del self._days[day]

    # -- within --------------------------------------------------------------------------------

    def _model(self, name: str) -> int:
        index = self._model_ids.get(name)
        if index is None:
            shown = one_line(name, 60) or UNKNOWN_MODEL
            if len(self._models) >= MAX_MODELS and shown not in self._models:
                shown = OTHER_MODEL
            if shown not in self._models:
                self._models.append(shown)
                self._families.append(next((name for name in FAMILIES if name in shown.lower()), "other"))
            index = self._models.index(shown)
            if len(self._model_ids) < 10 * MAX_MODELS:
                self._model_ids[name] = index
        return index

    @staticmethod
    def _book_to(spent: Spent, tokens: Tokens, cost: int | None, sign: int) -> None:
        spent.calls += sign
        spent.unpriced += sign * (cost is None)
        spent.cost += sign * (cost or 0)
        spent.tokens += sign * tokens.total

    def _days_sum(self, today: dt.date, days: int) -> float | None:
        # What is stamped later than today was spent all the same.
        first = today - dt.timedelta(days=days - 1)
        return _money(_sum([spent for day, spent in self._days.items() if day >= first]))

    def _utc_offset_s(self, today: dt.date) -> int:
        midnight = dt.datetime.combine(today, dt.time(), dt.UTC).timestamp()
        return round(midnight - self._times.day_start(today))

    def _budget_of(self, today: dt.date) -> Budget | None:
        if self._budget is None or self._budget <= 0:
            return None
        month = today.replace(day=1)
        used = _money(_sum([spent for day, spent in self._days.items() if day >= month]))
        if used is None:
            return Budget(limit=self._budget)
        # By whole days, so that the answer holds still within a day.
        per_day = used / today.day
        projected = None
        if per_day > 0:
            day = month + dt.timedelta(days=min(int(self._budget / per_day), 31))
            if day.month == month.month:  # else it will last
                projected = self._times.day_start(day)
        return Budget(limit=self._budget, share=round(used / self._budget, 3), projected_day=projected)


def _spent_of(fields: dict[int, int]) -> Spent:
    return Spent(fields.get(_CALLS, 0), fields.get(_UNPRICED, 0), fields.get(_COST, 0))


def _sum(parts: list[Spent]) -> Spent:
    return Spent(
        sum(one.calls for one in parts),
        sum(one.unpriced for one in parts),
        sum(one.cost for one in parts),
    )


def _money(spent: Spent) -> float | None:
    """None where there are calls and not one of them has a price: unknown, not free."""
    if spent.calls and spent.unpriced == spent.calls:
        return None
    return round(spent.cost / NANO, 6)


def _pace(fields: dict[int, int]) -> float | None:
    """Money per hour of a minute's sums."""
    money = _money(_spent_of(fields))
    return None if money is None else 60 * money


def _total(by_model: dict[int, dict[int, int]], field: int, known: int | None = None) -> int | None:
    if known is not None and by_model and not any(fields.get(known) for fields in by_model.values()):
        return None
    return sum(fields.get(field, 0) for fields in by_model.values())
