"""Gate: tokens, keys, revocations and used logins as one judge, without a server."""

from __future__ import annotations

import hashlib
import json

import pytest
from test_tokens import DAY, NOW, SECRET, Lifetimes, claims, signed

from amiga_ws.auth import revocations
from amiga_ws.auth.gate import Gate
from amiga_ws.auth.keys import own_key
from amiga_ws.auth.revocations import FILE, Revocation, Revocations
from amiga_ws.auth.tokens import Authority, TokenError
from amiga_ws.state import KEPT_LONGER_S

OTHER = hashlib.sha256(b"another secret").digest()


class Wall:
    """A wall clock moved by hand."""

    now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def wall():
    return Wall()


@pytest.fixture
def gate(tmp_path, wall):
    return Gate(Authority(SECRET, Lifetimes()), Lifetimes(), tmp_path, wall)


def issued(gate, wall, **more):
    """A token and its identity."""
    given = {"subject": "ada", "scope": "metrics:read", "ttl_s": 3600.0, "now": wall.now}
    token = gate.authority.issue(**(given | more))
    return token, gate.verify(token, ("access", "login"))


def refused(gate, token, typ="access"):
    with pytest.raises(TokenError) as caught:
        gate.verify(token, typ)
    assert not caught.value.forged
    return caught.value.reason


def test_revoked_token_is_refused_and_others_are_not(gate, wall):
    (bad, identity), (good, other) = issued(gate, wall), issued(gate, wall)
    gate.revoke(identity)
    assert refused(gate, bad) == "revoked"
    assert gate.verify(good, "access") == other
    assert not gate.still_good(identity)
    assert gate.still_good(other)


def test_two_strings_of_one_token_are_revoked_together(gate, wall):
    token, identity = issued(gate, wall)
    gate.revoke(identity)
    assert refused(gate, token + "=") == "revoked"


def test_revoking_a_token_ends_its_sessions_and_their_renewals(gate, wall):
    _, parent = issued(gate, wall)
    _, first = gate.sign_in(parent)
    _, second = gate.renew(first)
    gate.revoke(parent)
    assert not gate.still_good(first)
    assert not gate.still_good(second)


def test_signing_out_ends_the_session_in_all_its_tokens_and_not_its_parent(gate, wall):
    token, parent = issued(gate, wall)
    old, first = gate.sign_in(parent)
    new, second = gate.renew(first)
    _, other = gate.sign_in(parent)
    gate.revoke(second)
    assert refused(gate, old, "session") == refused(gate, new, "session") == "revoked"
    assert gate.verify(token, "access")
    assert gate.still_good(other)


def test_revoking_a_subject_spares_what_is_issued_a_moment_later(gate, wall):
    token, identity = issued(gate, wall)
    other, _ = issued(gate, wall, subject="bob")
    wall.now += 0.5
    gate.revoke_subject("ada")
    assert refused(gate, token) == "revoked"
    assert not gate.still_good(identity)
    assert gate.verify(other, "access")
    wall.now += 0.01
    assert issued(gate, wall)


def test_unknown_token_cannot_be_revoked(gate):
    with pytest.raises(TokenError):
        gate.revoke_token(signed(claims(), key=OTHER))


def test_ended_login_can_be_revoked_with_what_it_signed_in(gate, wall):
    token, login = issued(gate, wall, typ="login", ttl_s=120.0)
    _, session = gate.sign_in(login)
    wall.now += 3600
    gate.revoke_token(token)
    assert not gate.still_good(session)


def test_revoked_sign_in_link_stays_revoked_until_it_ends_by_itself(tmp_path, wall):
    """A link may live longer than any session of it."""
    lifetimes = Lifetimes(session_max=12 * 3600.0)
    gate = Gate(Authority(SECRET, lifetimes), lifetimes, tmp_path, wall)
    token, login = issued(gate, wall, typ="login", ttl_s=7 * DAY)
    gate.revoke(login)
    wall.now += 2 * DAY
    again = Gate(gate.authority, lifetimes, tmp_path, wall)
    assert refused(again, token, "login") == "revoked"


def test_login_signs_in_once(gate, wall):
    _, login = issued(gate, wall, typ="login", ttl_s=120.0)
    assert gate.sign_in(login)
    with pytest.raises(TokenError, match="used"):
        gate.sign_in(login)


def test_late_renewal_is_judged_by_the_time_it_was_due(gate, wall):
    token, session = gate.sign_in(issued(gate, wall)[1])
    wall.now = session.expires_at + 10
    assert refused(gate, token, "session") == "expired"
    assert gate.verify(token, "session", late_s=20).sid == session.sid


def test_what_is_still_good_late_may_be_issued_by_a_clock_that_is_a_little_ahead(gate, wall):
    """Signing out looks 25 s back for the end, and that alone."""
    token, _ = issued(gate, wall, now=wall.now + 20)
    assert gate.verify(token, "access", late_s=25)


# -- rules ---------------------------------------------------------------------------------------


def test_rules_survive_and_end(tmp_path):
    Revocations(tmp_path, NOW).add(Revocation("jti", "j1", NOW, NOW + 100), NOW)
    assert [rule.value for rule in Revocations(tmp_path, NOW + 99).all(NOW + 99)] == ["j1"]
    assert Revocations(tmp_path, NOW + 100).all(NOW + 100) == []
    assert Revocations(tmp_path, NOW + 100 + KEPT_LONGER_S).all(0) == []
    assert (tmp_path / FILE).read_text("utf-8") == ""


def test_clock_that_ran_ahead_for_hours_has_forgotten_no_rule(tmp_path, gate, wall):
    """A machine whose hardware clock is in local time starts hours ahead, until it has asked for the time."""
    token, identity = issued(gate, wall)
    gate.revoke(identity)
    wall.now = NOW + 14 * 3600
    ahead = Gate(gate.authority, Lifetimes(), tmp_path, wall)
    wall.now = NOW + 10
    assert refused(ahead, token) == "revoked"
    assert refused(Gate(gate.authority, Lifetimes(), tmp_path, wall), token) == "revoked"


def test_rules_that_have_ended_are_swept_while_the_server_runs(tmp_path, gate, wall, monkeypatch):
    """Who signs in and out all day fills neither disk nor memory."""
    monkeypatch.setattr(revocations, "SWEEP_AFTER", 20)
    rules = Revocations(tmp_path, wall.now)
    for number in range(20):
        rules.add(Revocation("sid", f"s{number}", wall.now, wall.now + 60), wall.now)
    _, identity = issued(gate, wall, ttl_s=7 * 86_400.0)
    wall.now += KEPT_LONGER_S + 61
    rules.add(Revocation("jti", identity.jti, wall.now, identity.expires_at), wall.now)
    assert [rule.value for rule in rules.all(0)] == [identity.jti]
    assert len((tmp_path / FILE).read_text("utf-8").splitlines()) == 1
    assert rules.hit(identity)
    rules.follow()
    assert rules.hit(identity)


def test_earlier_rule_of_a_subject_does_not_undo_a_later_one(tmp_path, gate, wall):
    _, identity = issued(gate, wall)
    gate.revoke_subject("ada", NOW + 10)
    gate.revoke_subject("ada", NOW - 10)
    assert not gate.still_good(identity)
    assert len(gate.revocations.all(NOW)) == 1


def test_rule_somebody_else_appends_is_followed(tmp_path, gate, wall):
    _, identity = issued(gate, wall)
    assert not gate.revocations.follow()
    Revocations(tmp_path, NOW).add(Revocation("jti", identity.jti, NOW, NOW + 3600), NOW)
    assert gate.still_good(identity)
    assert gate.revocations.follow()
    assert not gate.still_good(identity)


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "[]",
        "{",
        json.dumps({"kind": "all", "value": "x", "issued_before": 1, "until": 2e10}),
        json.dumps({"kind": "jti", "value": 1, "issued_before": 1, "until": 2e10}),
        json.dumps({"kind": "jti", "value": "x", "issued_before": "1", "until": 2e10}),
        json.dumps({"kind": "jti", "value": "x", "until": 2e10}),
        '{"kind": "sub", "value": "ada", "issued_before": NaN, "until": 2e10}',
        '{"kind": "sub", "value": "ada", "issued_before": 1, "until": NaN}',
        '{"kind": "sub", "value": "\\ud800", "issued_before": 1, "until": 2e10}',
        '{"kind": "sub", "value": "", "issued_before": 1, "until": 2e10}',
        "[" * 200_000,
        '{"a":' * 200_000,
    ],
)
def test_line_that_is_no_rule_revokes_nothing_and_hides_no_other(tmp_path, gate, wall, line):
    (_, identity), (_, other) = issued(gate, wall), issued(gate, wall)
    with (tmp_path / FILE).open("a") as file:
        file.write(line + "\n")
    gate.revoke(identity)
    assert not gate.still_good(identity)
    assert gate.still_good(other)
    assert not Revocations(tmp_path, NOW).hit(other)
    assert [rule.value for rule in gate.revocations.all(0)] == [identity.jti]
    wall.now += 1
    gate.revoke_subject("ada")
    assert not gate.still_good(other)


# -- keys ----------------------------------------------------------------------------------------


def test_keys_that_change_leave_end_or_shorten_what_they_vouched_for(gate, wall):
    _, identity = issued(gate, wall)
    session = gate.sign_in(identity)[1]
    same = gate.change_keys(Authority(SECRET, Lifetimes()), Lifetimes())
    assert (same(identity), same(session)) == (identity, session)

    ending = own_key(SECRET, valid_until=NOW + 60)
    shorter = gate.change_keys(Authority(OTHER, Lifetimes(), [ending]), Lifetimes())
    assert shorter(identity).expires_at == shorter(session).expires_at == NOW + 60

    gone = gate.change_keys(Authority(OTHER, Lifetimes()), Lifetimes())
    assert gone(identity) is None
    assert gone(session) is None


def test_ended_key_vouches_for_nothing(gate, wall):
    _, identity = issued(gate, wall)
    left = gate.change_keys(Authority(OTHER, Lifetimes(), [own_key(SECRET, NOW + 60)]), Lifetimes())
    wall.now += 60
    assert left(identity) is None
    assert not gate.still_good(identity)
