"""Which tokens have been taken back: by `jti`, by session, or by subject and time of issue.

The rules live in memory, their lines in an append-only file, so that a command line tool can revoke while
the server runs or is down. A rule is kept until nothing it could hit is alive any more.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from amiga_ws.auth.tokens import Identity, is_name
from amiga_ws.state import KEPT_LONGER_S, AppendLog

FILE = "revocations.jsonl"
SWEEP_AFTER = 1000  # new rules, and as many as there were: a sweep reads them all, a microsecond or two each
Kind = Literal["jti", "sid", "sub"]


@dataclass(frozen=True, slots=True)
class Revocation:
    """One rule. Times are epoch seconds; `issued_before` matters for `sub` alone."""

    kind: Kind
    value: str
    issued_before: float
    until: float  # when all it can hit has ended


class Revocations:
    """The rules of one installation; call `follow` now and then to learn of new ones."""

    def __init__(self, state_dir: Path, now: float) -> None:
        self._log = AppendLog(state_dir / FILE)
        self._rules: dict[tuple[Kind, str], Revocation] = {}
        self._sweep(now)
        self.follow()

    def add(self, rule: Revocation, now: float) -> None:
        """Revoke, durably, from now on. Raises NotKeptError, and nothing has changed then."""
        self._log.append(asdict(rule))
        self._learn(rule)
        self._unswept += 1
        with suppress(OSError):  # it is kept: what cannot be read back or swept now is another time
            self.follow()
            if self._unswept > self._sweep_after:
                self._sweep(now)

    def _sweep(self, now: float) -> None:
        """Forget the rules that have ended: who signs in and out all day must not fill disk and memory."""
        self._unswept = 0  # also where the disk has no room for it: not again at each rule
        self._rules = {key: rule for key, rule in self._rules.items() if _matters(rule, now)}
        kept = self._log.rewrite(lambda entry: (rule := _parse(entry)) is not None and _matters(rule, now))
        self._sweep_after = max(SWEEP_AFTER, kept)

    def follow(self) -> bool:
        """Take in what was appended by anybody; whether there was something."""
        entries = self._log.read_new()
        for entry in entries:
            rule = _parse(entry)
            if rule is not None:
                self._learn(rule)
        return bool(entries)

    def _learn(self, rule: Revocation) -> None:
        known = self._rules.get((rule.kind, rule.value))
        if known is None or (rule.issued_before, rule.until) > (known.issued_before, known.until):
            self._rules[rule.kind, rule.value] = rule

    def hit(self, identity: Identity, ahead_s: float = 0.0) -> bool:
        """Whether this identity has been revoked, itself or what it was signed in with.

        Its time of issue is of a clock that may be `ahead_s` ahead of the one that says before when.
        """
        rules = self._rules
        if not rules:
            return False
        if (
            ("jti", identity.jti) in rules
            or ("sid", identity.sid) in rules
            or ("jti", identity.parent_jti) in rules
        ):
            return True
        subject = rules.get(("sub", identity.subject))
        # A session counts as old as the token it was signed in with: a stolen one must not get round this.
        began = identity.issued_at if identity.parent_issued_at is None else identity.parent_issued_at
        return subject is not None and began < subject.issued_before + ahead_s

    def all(self, now: float) -> list[Revocation]:
        """The rules that still matter."""
        return [rule for rule in self._rules.values() if rule.until > now]


def _parse(entry: dict[str, Any]) -> Revocation | None:
    try:
        rule = msgspec.convert(entry, Revocation)
    except msgspec.ValidationError:
        return None
    # JSON as Python reads it has NaN, which is neither sooner nor later than anything, and half surrogate pairs.
    sound = is_name(rule.value) and not math.isnan(rule.issued_before) and not math.isnan(rule.until)
    return rule if sound else None


def _matters(rule: Revocation, now: float) -> bool:
    return rule.until > now - KEPT_LONGER_S


def of_identity(identity: Identity, now: float, session_max: float) -> Revocation:
    """The rule that ends a token and everything that was signed in with it.

    A session ends by its `sid` (its token changes with each renewal). A login token may live longer than its
    sessions, and they longer than it: up to `session_max` from now.
    """
    if identity.sid is not None:
        return Revocation("sid", identity.sid, now, identity.session_ends_at or identity.expires_at)
    sessions_end = now if identity.typ == "access" else now + session_max
    return Revocation("jti", identity.jti, now, max(identity.expires_at, sessions_end))
