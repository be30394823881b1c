"""Tokens: what is issued, and everything that must not be believed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amiga_ws.auth.keys import own_key
from amiga_ws.auth.tokens import (
    ISSUED_LEEWAY_S,
    MAX_TOKEN_BYTES,
    Authority,
    Identity,
    TokenError,
    TokenRefusedError,
    parse_scope,
)

NOW = 1_800_000_000.0
SECRET = hashlib.sha256(b"a secret for tests").digest()
DAY = 86_400.0


@dataclass(frozen=True)
class Lifetimes:
    max_ttl: float = 30 * DAY
    session_ttl: float = 12 * 3600.0
    session_max: float = 30 * DAY


AUTHORITY = Authority(SECRET, Lifetimes())


def claims(**changes):
    """Claims that verify; a change to None takes one away."""
    good = {
        "iss": "amiga_ws",
        "aud": "amiga_ws",
        "sub": "ada",
        "iat": int(NOW),
        "exp": int(NOW) + 3600,
        "jti": "j1",
        "typ": "access",
        "scope": "metrics:read admin",
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def session_claims(**changes):
    extra = {
        "typ": "session",
        "sid": "s1",
        "pjti": "j0",
        "ptyp": "access",
        "pkid": own_key(SECRET).kid,
        "piat": int(NOW),
        "auth_time": int(NOW),
        "session_ends": int(NOW) + 3600,
    }
    return claims(**(extra | changes))


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def signed(payload, header=None, key=SECRET):
    """An HS256 token with any header and any payload (an object, or JSON text as it is)."""
    header = {"alg": "HS256", "typ": "JWT"} if header is None else header
    text = payload if isinstance(payload, str) else json.dumps(payload)
    body = b64(json.dumps(header).encode()) + b"." + b64(text.encode())
    return (body + b"." + b64(hmac.new(key, body, hashlib.sha256).digest())).decode()


def verify(token, typ="access", now=NOW):
    return AUTHORITY.verify(token, typ=typ, now=now)


def refusal(token, typ="access", now=NOW):
    with pytest.raises(TokenError) as caught:
        verify(token, typ, now)
    return caught.value


# -- issue ---------------------------------------------------------------------------------------


def test_issued_token_speaks_for_who_asked():
    token = AUTHORITY.issue(subject="ada", scope="admin metrics:read", ttl_s=60, now=NOW)
    found = verify(token)
    assert (found.subject, found.scopes, found.typ) == ("ada", {"metrics:read", "admin"}, "access")
    assert (found.issued_at, found.expires_at) == (NOW, NOW + 60)
    assert found.sid is None
    assert AUTHORITY.vouches(found, NOW)


def test_issued_token_carries_every_claim_of_the_contract():
    token = AUTHORITY.issue(subject="ada", scope="metrics:read", ttl_s=60, now=NOW + 0.9)
    body = jwt.decode(token, options={"verify_signature": False})
    assert set(body) == {"iss", "aud", "sub", "iat", "exp", "jti", "typ", "scope"}
    assert (body["iss"], body["aud"], body["scope"]) == ("amiga_ws", "amiga_ws", "metrics:read")
    assert body["exp"] - body["iat"] == 60
    assert jwt.get_unverified_header(token)["alg"] == "HS256"


def test_nothing_that_is_printed_shows_the_secret():
    shown = repr(own_key(SECRET)) + repr(AUTHORITY) + repr(vars(AUTHORITY))
    assert repr(SECRET)[2:-1] not in shown
    assert SECRET.hex() not in shown


def test_two_tokens_never_share_their_jti():
    tokens = [AUTHORITY.issue(subject="a", scope="admin", ttl_s=60, now=NOW) for _ in range(50)]
    assert len({verify(token).jti for token in tokens}) == 50


@pytest.mark.parametrize("ttl_s", [0, -1, 30 * DAY + 1, float("inf"), float("nan")])
def test_lifetime_outside_max_ttl_is_not_issued(ttl_s):
    with pytest.raises(TokenRefusedError, match=r"auth\.max_ttl"):
        AUTHORITY.issue(subject="ada", scope="admin", ttl_s=ttl_s, now=NOW)


@pytest.mark.parametrize("now", [NOW, NOW + 0.001, NOW + 0.999])
@pytest.mark.parametrize("max_ttl", [30 * DAY, 10.5])
def test_longest_lifetime_verifies_at_any_fraction_of_a_second(now, max_ttl):
    authority = Authority(SECRET, Lifetimes(max_ttl=max_ttl))
    token = authority.issue(subject="ada", scope="admin", ttl_s=max_ttl, now=now)
    found = authority.verify(token, typ="access", now=now)
    assert found.expires_at <= now + max_ttl


@pytest.mark.parametrize("subject", ["", "  ", "x" * 129, "a\nb", "a\x1b[2J", "a\u2028b", "\ud800"])
def test_subject_that_could_hurt_a_log_is_not_issued(subject):
    with pytest.raises(TokenRefusedError, match="subject"):
        AUTHORITY.issue(subject=subject, scope="admin", ttl_s=60, now=NOW)


@pytest.mark.parametrize(
    ("scope", "says"), [("metrics:write", "metrics:write"), ("", "needs"), (" ", "needs")]
)
def test_unknown_or_no_scope_is_refused_with_the_known_ones(scope, says):
    with pytest.raises(TokenRefusedError, match=says) as caught:
        parse_scope(scope)
    assert "metrics:read" in str(caught.value)


# -- sessions ------------------------------------------------------------------------------------


def parent(typ="access", ttl_s=3600.0):
    token = AUTHORITY.issue(subject="ada", scope="metrics:read", ttl_s=ttl_s, now=NOW, typ=typ)
    return verify(token, typ=typ)


def test_session_from_an_access_token_never_outlives_it():
    token, session = AUTHORITY.mint_session(parent(ttl_s=3600), NOW + 10)
    assert session.expires_at == session.session_ends_at == NOW + 3600
    assert verify(token, typ="session", now=NOW + 3599) == session
    assert refusal(token, typ="session", now=NOW + 3600).reason == "expired"


def test_session_from_a_long_access_token_lives_session_ttl():
    _, session = AUTHORITY.mint_session(parent(ttl_s=20 * DAY), NOW)
    assert (session.expires_at, session.session_ends_at) == (NOW + 12 * 3600, NOW + 20 * DAY)


def test_session_from_a_login_token_may_be_renewed_up_to_session_max():
    login = parent("login", ttl_s=120)
    _, session = AUTHORITY.mint_session(login, NOW + 5)
    assert (session.expires_at, session.session_ends_at) == (NOW + 5 + 12 * 3600, NOW + 5 + 30 * DAY)


def test_session_knows_its_parent_and_has_names_of_its_own():
    of = parent()
    (_, one), (_, two) = AUTHORITY.mint_session(of, NOW), AUTHORITY.mint_session(of, NOW)
    assert (one.parent_jti, one.parent_typ, one.subject, one.scopes) == (of.jti, "access", "ada", of.scopes)
    assert one.auth_time == NOW
    assert len({of.jti, one.jti, two.jti}) == 3
    assert one.sid != two.sid


@pytest.mark.parametrize("session_ttl", [12 * 3600.0, 10.5])
def test_session_minted_at_any_fraction_of_a_second_verifies(session_ttl):
    authority = Authority(SECRET, Lifetimes(session_ttl=session_ttl))
    _, session = authority.mint_session(parent(), NOW + 0.6)
    assert session.expires_at <= NOW + 0.6 + session_ttl


@pytest.mark.parametrize("gone", ["sid", "pjti", "ptyp", "pkid", "piat", "auth_time", "session_ends"])
def test_session_lacking_one_of_its_claims_is_refused(gone):
    assert verify(signed(session_claims()), typ="session").sid == "s1"
    assert refusal(signed(session_claims(**{gone: None})), typ="session").forged


def test_session_over_session_ttl_is_refused():
    long = session_claims(exp=int(NOW) + 12 * 3600 + 1)
    found = refusal(signed(long), typ="session")
    assert (found.reason, found.forged) == ("lives longer than auth.session_ttl allows", False)


def test_renewed_session_slides_and_stays_the_same_session():
    _, first = AUTHORITY.mint_session(parent("login", ttl_s=120), NOW)
    token, second = AUTHORITY.renew_session(first, NOW + 3600)
    assert (second.sid, second.auth_time, second.session_ends_at) == (first.sid, NOW, first.session_ends_at)
    assert (second.parent_jti, second.parent_typ) == (first.parent_jti, "login")
    assert second.expires_at == NOW + 3600 + 12 * 3600
    assert second.jti != first.jti
    assert verify(token, typ="session", now=NOW + 3600) == second


def test_renewal_never_goes_beyond_the_end_of_the_session():
    _, first = AUTHORITY.mint_session(parent(ttl_s=3600), NOW)
    _, second = AUTHORITY.renew_session(first, NOW + 3000)
    assert second.expires_at == first.expires_at


def test_a_shorter_session_max_binds_sessions_that_were_signed_in_before():
    shorter = Authority(SECRET, Lifetimes(session_max=DAY))
    _, first = AUTHORITY.mint_session(parent("login", ttl_s=120), NOW)
    _, second = shorter.renew_session(first, NOW + 0.75 * DAY)
    assert second.expires_at == second.session_ends_at == NOW + DAY
    with pytest.raises(TokenRefusedError, match="sign in again"):
        shorter.renew_session(first, NOW + DAY)


def test_a_shorter_max_ttl_binds_sessions_of_access_tokens_that_were_signed_in_before():
    shorter = Authority(SECRET, Lifetimes(max_ttl=DAY))
    _, first = AUTHORITY.mint_session(parent(ttl_s=20 * DAY), NOW)
    assert shorter.renew_session(first, NOW + 0.75 * DAY)[1].session_ends_at == NOW + DAY
    with pytest.raises(TokenRefusedError, match="sign in again"):
        shorter.renew_session(first, NOW + DAY)


def test_a_longer_session_max_prolongs_no_session_that_was_signed_in_before():
    longer = Authority(SECRET, Lifetimes(session_max=60 * DAY))
    _, first = AUTHORITY.mint_session(parent("login", ttl_s=120), NOW)
    assert longer.renew_session(first, NOW + 3600)[1].session_ends_at == NOW + 30 * DAY


def test_session_max_shortens_no_session_of_an_access_token():
    shorter = Authority(SECRET, Lifetimes(session_max=DAY))
    _, first = AUTHORITY.mint_session(parent(ttl_s=20 * DAY), NOW)
    assert shorter.renew_session(first, NOW + 2 * DAY)[1].session_ends_at == NOW + 20 * DAY


@pytest.mark.parametrize("left_s", [0.9, 0.001, 0.0001, 0.0, -1.0])
def test_renewal_at_the_very_end_is_refused_not_an_error(left_s):
    _, first = AUTHORITY.mint_session(parent(ttl_s=3600), NOW)
    with pytest.raises(TokenRefusedError, match="sign in again"):
        AUTHORITY.renew_session(first, first.expires_at - left_s)


# -- places --------------------------------------------------------------------------------------


@pytest.mark.parametrize("found", ["access", "login", "session"])
@pytest.mark.parametrize("wanted", ["access", "login", "session"])
def test_each_typ_counts_in_its_own_place_only(found, wanted):
    token = signed(session_claims(typ=found))
    if found == wanted:
        assert verify(token, typ=wanted).typ == found
    else:
        assert not refusal(token, typ=wanted).forged  # a good token in a wrong place is no attack
    assert refusal(token, typ=()).forged is False  # a page takes no token at all


def test_a_place_may_take_two_types():
    assert verify(signed(claims(typ="login")), typ=("access", "login")).typ == "login"
    assert "session" in refusal(signed(session_claims()), typ=("access", "login")).reason


# -- everything that must not be believed ---------------------------------------------------------


@pytest.mark.parametrize(
    "alg", ["none", "None", "nOnE", "NONE", "HS384", "HS512", "RS256", "ES256", "", None, 1, []]
)
@pytest.mark.parametrize("signature", [True, False])
def test_any_other_algorithm_is_refused(alg, signature):
    header = {"typ": "JWT"} | ({} if alg is None else {"alg": alg})
    token = signed(claims(), header)
    if not signature:
        token = token.rpartition(".")[0] + "."
    assert refusal(token).forged


def test_really_signed_hs512_is_refused():
    assert refusal(jwt.encode(claims(), SECRET + SECRET, algorithm="HS512")).forged


def test_public_key_text_as_hmac_secret_is_refused():
    """RFC 8725, 2.1: RS256's public key is no secret; neither its text nor the header's wish makes it one."""
    pem = b"-----BEGIN PUBLIC KEY-----\nMFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAK\n-----END PUBLIC KEY-----\n"
    for header in ({"alg": "RS256"}, {"alg": "HS256"}):
        assert refusal(signed(claims(), header, key=pem)).forged
    # And if the owner's secret file held one, nothing would be verified with it.
    with pytest.raises(TokenError):
        Authority(pem, Lifetimes()).verify(signed(claims(), key=pem), typ="access", now=NOW)


@pytest.mark.parametrize(
    "key", [b"", b"\0" * 32, b"secret", SECRET[:31], SECRET + b"x", bytes(reversed(SECRET))]
)
def test_another_key_is_refused(key):
    assert refusal(signed(claims(), key=key)).forged


@pytest.mark.parametrize("key", [b"", b"k", SECRET[:16], SECRET[:31]])
def test_weak_key_verifies_nothing(key):
    with pytest.raises(TokenError):
        Authority(key, Lifetimes()).verify(signed(claims(), key=key), typ="access", now=NOW)


@pytest.mark.parametrize(
    "header",
    [
        {"jku": "http://127.0.0.1:1/jwks.json"},
        {"x5u": "file:///etc/passwd", "x5c": ["AAAA"], "x5t": "a"},
        {"jwk": {"kty": "oct", "k": "AAAA"}},
        {"typ": "at+jwt"},
        {"cty": "JWT", "zip": "DEF"},
    ],
)
def test_header_cannot_choose_the_key(header):
    """Ignored, as RFC 8725, 3.10 wants: the token passes with our key and fails with any other."""
    header = {"alg": "HS256"} | header
    assert verify(signed(claims(), header)).subject == "ada"
    assert refusal(signed(claims(), header, key=b"x" * 32)).forged


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"crit": []},
        {"kid": 1},
        {"kid": None},
        {"kid": ["a"]},
    ],
)
def test_header_that_demands_the_unknown_is_refused(header):
    assert refusal(signed(claims(), {"alg": "HS256"} | header)).forged


@pytest.mark.parametrize("gone", ["iss", "aud", "sub", "iat", "exp", "jti", "typ", "scope"])
def test_every_claim_is_required(gone):
    assert refusal(signed(claims(**{gone: None}))).forged
    null = json.dumps(claims() | {gone: None})
    assert refusal(signed(null)).forged


@pytest.mark.parametrize(
    "iss", ["amiga", "amiga_ws2", "AMIGA_WS", "amiga_ws ", "", ["amiga_ws"], {"amiga_ws": 1}, 1]
)
def test_issuer_is_compared_whole(iss):
    assert refusal(signed(claims(iss=iss))).forged


@pytest.mark.parametrize(
    "aud", ["amiga", "amiga_ws2", "", [], ["other"], ["amiga_ws", 1], 7, {"amiga_ws": 1}]
)
def test_audience_must_be_us(aud):
    assert refusal(signed(claims(aud=aud))).forged


def test_audience_may_be_a_list_that_names_us():
    assert verify(signed(claims(aud=["other", "amiga_ws"]))).subject == "ada"


@pytest.mark.parametrize("typ", ["refresh", "Access", "access ", "", 1, True, ["access"], {"access": 1}])
def test_unknown_typ_is_refused(typ):
    assert refusal(signed(claims(typ=typ))).forged


@pytest.mark.parametrize("name", ["sub", "jti"])
@pytest.mark.parametrize(
    "value",
    [1, True, "", "x" * 129, [], ["ada"], {"a": 1}, 1.5, "a\0b", "a\x1b[2J", "a\n", "\u202ea", "\ud800"],
)
def test_subject_and_jti_are_short_texts(name, value):
    assert refusal(signed(claims(**{name: value}))).forged


@pytest.mark.parametrize("scope", [1, True, [], ["metrics:read"], {"admin": 1}, "x" * 1025])
def test_scope_is_a_short_text(scope):
    assert refusal(signed(claims(scope=scope))).forged


@pytest.mark.parametrize("scope", ["", " ", "other", "metrics:read2 Admin METRICS:READ"])
def test_scopes_we_do_not_know_grant_nothing(scope):
    assert verify(signed(claims(scope=scope))).scopes == frozenset()


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize(
    "value",
    [
        '"1800003600"',
        "1e308",
        "-1",
        "-1e308",
        "NaN",
        "Infinity",
        "-Infinity",
        "true",
        "[]",
        "{}",
        '""',
        "1" + "0" * 400,
    ],
)
def test_time_that_is_none_is_refused(name, value):
    text = json.dumps(claims(**{name: None}))[:-1] + f', "{name}": {value}}}'
    assert refusal(signed(text)).forged


@pytest.mark.parametrize("name", ["piat", "auth_time", "session_ends"])
@pytest.mark.parametrize("value", ['"1800003600"', "1e308", "NaN", "true"])
def test_session_time_that_is_none_is_refused(name, value):
    text = json.dumps(session_claims(**{name: None}))[:-1] + f', "{name}": {value}}}'
    assert refusal(signed(text), typ="session").forged


def test_exp_has_no_leeway():
    token = signed(claims(exp=int(NOW) + 1))
    assert verify(token, now=NOW + 0.999).subject == "ada"
    for late in (1.0, 1.001, 29.0):
        found = refusal(token, now=NOW + late)
        assert (found.reason, found.forged) == ("expired", False)


@pytest.mark.parametrize("name", ["iat", "nbf"])
def test_clocks_may_differ_by_thirty_seconds_and_no_more(name):
    assert verify(signed(claims(**{name: int(NOW) + int(ISSUED_LEEWAY_S)}))).subject == "ada"
    found = refusal(signed(claims(**{name: int(NOW) + int(ISSUED_LEEWAY_S) + 1})))
    assert not found.forged
    assert "clocks" in found.reason


def test_lifetime_over_max_ttl_is_refused_even_when_signed():
    top = int(NOW + 30 * DAY)
    assert verify(signed(claims(exp=top))).expires_at == top
    assert "max_ttl" in refusal(signed(claims(exp=top + 1))).reason
    assert refusal(signed(claims(iat=0))).forged is False


def test_last_of_two_claims_of_one_name_counts():
    """PyJWT's json takes the last; only who has the secret can write either."""
    text = json.dumps(claims())[:-1] + ', "sub": "bob"}'
    assert verify(signed(text)).subject == "bob"


def test_trailing_padding_makes_two_strings_of_one_token():
    """Why nothing may be keyed by a token's text: revocation and caches go by `jti`."""
    token = signed(claims())
    assert verify(token + "=") == verify(token)


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "é.é.é",
        "\0",
        "\ud800",
        " ",
        "eyJ",
        "Bearer x",
        "e30.e30.e30",
        "W10.W10.",
    ],
)
def test_garbage_is_refused(token):
    assert refusal(token).forged


@pytest.mark.parametrize("payload", ["[]", "1", '"a"', "null", "", "{", "[" * 3000, '{"a":' * 1500])
def test_signed_payload_that_is_no_object_is_refused(payload):
    assert refusal(signed(payload)).forged


def test_changed_payload_or_signature_is_refused():
    head, body, signature = signed(claims()).split(".")
    other = b64(json.dumps(claims(sub="eve")).encode()).decode()
    assert refusal(f"{head}.{other}.{signature}").forged
    assert refusal(f"{head}.{body}.{signature[::-1]}").forged
    assert refusal(f"{head}.{body}.").forged
    assert refusal(f"{head}.{body}").forged


def test_token_over_eight_kib_is_refused_before_it_is_decoded():
    fits = signed(claims(), {"alg": "HS256", "pad": "x" * 5000})
    assert len(fits) <= MAX_TOKEN_BYTES
    assert verify(fits).subject == "ada"
    long = signed(claims(), {"alg": "HS256", "pad": "x" * 6500})
    assert len(long) > MAX_TOKEN_BYTES
    assert refusal(long).reason == "token too long"


def test_reason_never_holds_the_token():
    for token in (signed(claims(), key=b"k" * 32), signed(claims(typ="x")), "a.b.c", signed(claims(exp=1))):
        error = refusal(token)
        assert token not in str(error)
        assert len(error.reason) < 100


def test_identity_is_immutable():
    with pytest.raises(AttributeError):
        verify(signed(claims())).subject = "eve"


# -- anything at all -----------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
HEADER_NAMES = st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jku", "jwk", "x5u", "x5c", "cty", "zip"])
CLAIM_NAMES = st.sampled_from([*session_claims(), "nbf", "other"])


def outcome(token, typ=("access", "login", "session")):
    """An Identity or a TokenError; anything else escapes and fails the test."""
    try:
        return verify(token, typ=typ)
    except TokenError as error:
        return error


@given(header=st.dictionaries(HEADER_NAMES, JSON, max_size=6), base=st.booleans())
def test_no_header_breaks_verification_or_gets_round_it(header, base):
    header = ({"alg": "HS256"} | header) if base else header
    assert isinstance(outcome(signed(claims(), header, key=b"wrong" * 8)), TokenError)
    if header.get("alg") != "HS256":
        assert isinstance(outcome(signed(claims(), header)), TokenError)
    else:
        outcome(signed(claims(), header))


@given(header=JSON)
def test_header_that_is_no_object_is_refused(header):
    assert isinstance(outcome(signed(claims(), header if header is not None else 0)), TokenError)


@given(changes=st.dictionaries(CLAIM_NAMES, JSON, min_size=1, max_size=4))
def test_signed_claims_of_any_shape_give_a_sound_identity_or_a_token_error(changes):
    found = outcome(signed(session_claims() | changes))
    if isinstance(found, Identity):
        assert isinstance(found.subject, str)
        assert NOW < found.expires_at <= found.issued_at + 30 * DAY


@given(text=st.text(max_size=200))
def test_any_text_is_refused_without_another_exception(text):
    assert isinstance(outcome(text), TokenError)


@given(data=st.binary(max_size=300))
def test_any_bytes_in_three_parts_are_refused(data):
    third = len(data) // 3
    parts = (data[:third], data[third : 2 * third], data[2 * third :])
    assert isinstance(outcome(".".join(b64(part).decode() for part in parts)), TokenError)


@given(position=st.integers(0, 400), character=st.characters(codec="ascii"))
def test_one_changed_character_never_changes_who_it_is(position, character):
    token = signed(claims())
    position %= len(token)
    found = outcome(token[:position] + character + token[position + 1 :])
    if isinstance(found, Identity):
        assert found == verify(token)


# -- keys ----------------------------------------------------------------------------------------

OLD = hashlib.sha256(b"an older secret").digest()


@pytest.mark.parametrize("kid", ["../../dev/null", "' OR 1=1 --", "", "x" * 5000, "\0", "__class__"])
def test_kid_is_a_name_in_our_table_and_nothing_else(kid):
    assert refusal(signed(claims(), {"alg": "HS256", "kid": kid})).reason == "unknown kid"


def test_token_of_an_older_secret_counts_until_that_key_ends():
    old = own_key(OLD, valid_until=NOW + 100)
    token = Authority(OLD, Lifetimes()).issue(subject="ada", scope="admin", ttl_s=3600, now=NOW)
    both = Authority(SECRET, Lifetimes(), [old])
    assert both.verify(token, typ="access", now=NOW + 99).kid == old.kid
    with pytest.raises(TokenError, match="no longer valid") as caught:
        both.verify(token, typ="access", now=NOW + 100)
    assert not caught.value.forged
    with pytest.raises(TokenError, match="unknown kid"):
        AUTHORITY.verify(token, typ="access", now=NOW)
    identity = both.verify(token, typ="access", now=NOW)
    assert both.vouches(identity, NOW + 99)
    assert not both.vouches(identity, NOW + 100)
    assert not AUTHORITY.vouches(identity, NOW)


def test_kid_of_one_key_never_lets_another_sign():
    old = own_key(OLD)
    both = Authority(SECRET, Lifetimes(), [old])
    crossed = signed(claims(), {"alg": "HS256", "kid": old.kid}, key=SECRET)
    with pytest.raises(TokenError, match="InvalidSignature"):
        both.verify(crossed, typ="access", now=NOW)


def test_kid_does_not_tell_the_secret():
    assert own_key(SECRET).kid not in (SECRET.hex()[:12], hashlib.sha256(SECRET).hexdigest()[:12])
    assert own_key(SECRET).kid != own_key(OLD).kid
