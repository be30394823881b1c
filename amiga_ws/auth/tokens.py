"""JSON Web Tokens in, identities out. Pure: the clock and the secret are given, nothing is read or kept.

A token says who (`sub`), what for (`scope`) and of which kind it is (`typ`):
`access` is what a client presents, `login` is exchanged once for a session, `session` lives in the cookie.
"""

from __future__ import annotations

import math
import secrets
from base64 import urlsafe_b64decode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, get_args

import jwt
import msgspec

from amiga_ws.auth.keys import Key, own_key

TokenType = Literal["access", "login", "session"]

ISSUER = AUDIENCE = "amiga_ws"
SCOPES = frozenset({"metrics:read", "admin"})
# Decoding junk blocks the loop: 5 ms at 64 KB, 300 ms at 5 MB (measured with PyJWT 2.15.1).
MAX_TOKEN_BYTES = 8192
MAX_SUBJECT_CHARS = 128
# Hosts' clocks differ a little; `exp` gets no such grace.
ISSUED_LEEWAY_S = 30.0
LAST_TIME = 1e11  # the year 5138: nothing sane is later
REQUIRED = ["iss", "aud", "sub", "iat", "exp", "jti", "typ", "scope"]


class TokenError(Exception):
    """A presented token is not acceptable.

    `reason` is for the log, never for the peer. `forged` tells a wrong signature or garbage from a token
    that was good once (expired, wrong place): only the first kind counts against an address.
    """

    def __init__(self, reason: str, *, forged: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.forged = forged


class TokenRefusedError(Exception):
    """A token that was asked for must not be issued; the text says why."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a verified token speaks for. Times are epoch seconds."""

    subject: str
    scopes: frozenset[str]
    typ: TokenType
    jti: str
    issued_at: float
    expires_at: float
    sid: str | None = None  # session id; sessions only
    parent_jti: str | None = None  # the token the session was signed in with
    parent_typ: str | None = None
    parent_kid: str | None = None  # of the key that signed that token
    parent_issued_at: float | None = None
    auth_time: float | None = None  # when the person signed in; sessions only
    session_ends_at: float | None = None  # no renewal goes beyond; sessions only
    kid: str = ""  # of the key that signed it

    @property
    def root_jti(self) -> str:
        """The token that was handed out: of a session the one it was signed in with."""
        return self.parent_jti or self.jti


class Lifetimes(Protocol):
    """The settings this module needs, in seconds."""

    @property
    def max_ttl(self) -> float: ...
    @property
    def session_ttl(self) -> float: ...
    @property
    def session_max(self) -> float: ...


def parse_scope(text: str) -> frozenset[str]:
    """`"metrics:read admin"` → the set. Raises TokenRefusedError naming an unknown scope, or for none."""
    found = frozenset(text.split())
    if unknown := found - SCOPES:
        raise TokenRefusedError(
            f"unknown scope {sorted(unknown)[0]!r}; known are: {' '.join(sorted(SCOPES))}"
        )
    if not found:
        raise TokenRefusedError(f"a token needs a scope; known are: {' '.join(sorted(SCOPES))}")
    return found


def is_name(text: str) -> bool:
    """Whether a text can be a subject or an id: 1-128 printable characters, which go into any log and reply."""
    return 0 < len(text) <= MAX_SUBJECT_CHARS and text.isprintable()


class _Header(msgspec.Struct):
    """All that is looked at before the signature: which of our keys to try."""

    kid: str | msgspec.UnsetType = msgspec.UNSET


class Authority:
    """Issues and verifies the tokens of one installation."""

    def __init__(self, secret: bytes, lifetimes: Lifetimes, others: Sequence[Key] = ()) -> None:
        self._own = own_key(secret)  # signs; the others only verify
        self._keys = {key.kid: key for key in (*others, self._own)}
        self._lifetimes = lifetimes

    def vouches(self, identity: Identity, now: float) -> bool:
        """Whether the keys behind an identity that was verified before are still ours and have not ended."""
        kids = [identity.kid, *([] if identity.parent_kid is None else [identity.parent_kid])]
        keys = [self._keys.get(kid) for kid in kids]
        return all(key is not None and not key.ended(now) for key in keys)

    def ahead_s(self, identity: Identity) -> float:
        """How far its time of issue may lie ahead of our clock: not at all where it is our own clock's."""
        key = self._keys.get(identity.parent_kid or identity.kid)
        return 0.0 if key is None or key.algorithm == self._own.algorithm else ISSUED_LEEWAY_S

    def replaced(self, before: Authority) -> frozenset[str]:
        """The ids of keys that stand for something else than they did before."""
        both = self._keys.keys() & before._keys.keys()
        return frozenset(kid for kid in both if self._keys[kid].material != before._keys[kid].material)

    # -- issue -----------------------------------------------------------------------------------

    def issue(
        self,
        *,
        subject: str,
        scope: str,
        ttl_s: float,
        now: float,
        typ: Literal["access", "login"] = "access",
    ) -> str:
        """A signed token.

        Raises:
            TokenRefusedError: unknown scope, no or a too long subject, a lifetime over `auth.max_ttl`.
        """
        if not subject.strip() or not is_name(subject):
            raise TokenRefusedError(f"a subject is 1-{MAX_SUBJECT_CHARS} printable characters")
        if not 0 < ttl_s <= self._lifetimes.max_ttl:
            raise TokenRefusedError(
                f"a lifetime of {ttl_s:g} s is not within auth.max_ttl ({self._lifetimes.max_ttl:g} s); "
                "ask for a shorter one or raise auth.max_ttl in the configuration"
            )
        return self._sign(subject, parse_scope(scope), typ, now, now + ttl_s, {})

    def mint_session(self, parent: Identity, now: float) -> tuple[str, Identity]:
        """The session that `parent` (an access or login token) signs in to.

        One from an access token never outlives that token; one from a login token may be renewed up to
        `auth.session_max` after sign-in.
        """
        ends = parent.expires_at if parent.typ == "access" else now + self._lifetimes.session_max
        expires = min(now + self._lifetimes.session_ttl, ends)
        extra = {
            "sid": secrets.token_urlsafe(16),
            "pjti": parent.jti,
            "ptyp": parent.typ,
            "pkid": parent.kid,
            "piat": parent.issued_at,
            "auth_time": now,
            "session_ends": ends,
        }
        token = self._sign(parent.subject, parent.scopes, "session", now, expires, extra)
        return token, self.verify(token, typ="session", now=now)

    def renew_session(self, session: Identity, now: float) -> tuple[str, Identity]:
        """The same session (`sid`), sliding: a new token that ends `auth.session_ttl` from now.

        Raises:
            TokenRefusedError: it has reached the end of its parent or `auth.session_max`.
        """
        ends = session.session_ends_at or session.expires_at
        # By today's settings: they may have become shorter since the sign-in.
        if session.parent_typ == "login" and session.auth_time is not None:
            ends = min(ends, session.auth_time + self._lifetimes.session_max)
        elif session.parent_issued_at is not None:
            ends = min(ends, session.parent_issued_at + self._lifetimes.max_ttl)
        expires = min(now + self._lifetimes.session_ttl, ends)
        if expires - now < 1:  # less than what our clock ticks in would not verify
            raise TokenRefusedError("this session has reached its end: sign in again")
        extra = {
            "sid": session.sid,
            "pjti": session.parent_jti,
            "ptyp": session.parent_typ,
            "pkid": session.parent_kid,
            "piat": session.parent_issued_at,
            "auth_time": session.auth_time,
            "session_ends": ends,
        }
        token = self._sign(session.subject, session.scopes, "session", now, expires, extra)
        return token, self.verify(token, typ="session", now=now)

    def _sign(
        self,
        subject: str,
        scopes: frozenset[str],
        typ: TokenType,
        now: float,
        expires: float,
        extra: dict[str, Any],
    ) -> str:
        issued = _tick(now)
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "scope": " ".join(sorted(scopes, reverse=True)),
            "typ": typ,
            "jti": secrets.token_urlsafe(12),
            "iat": issued,
            "exp": _tick(issued + expires - now),
        }
        own = self._own
        return jwt.encode(claims | extra, own.material, algorithm=own.algorithm, headers={"kid": own.kid})

    # -- verify ----------------------------------------------------------------------------------

    def verify(
        self, token: str, *, typ: TokenType | tuple[TokenType, ...], now: float, late_s: float = 0.0
    ) -> Identity:
        """The identity a token of (one of) `typ` speaks for; one that has ended counts `late_s` longer.

        Never cache by the token's text: PyJWT accepts a trailing `=`, so two strings can be one token.

        Raises:
            TokenError: for anything else (RFC 8725, 3.1-3.12 are followed).
        """
        identity, not_before = self._read(token)
        wanted = (typ,) if isinstance(typ, str) else typ
        if identity.typ not in wanted:
            raise TokenError(f"a {identity.typ} token where {' or '.join(wanted)} is expected", forged=False)
        longest, setting = self._longest(identity.typ)
        if identity.expires_at - identity.issued_at > longest:
            raise TokenError(f"lives longer than {setting} allows", forged=False)
        if now - late_s >= identity.expires_at:
            raise TokenError("expired", forged=False)
        if max(identity.issued_at, not_before) > now + ISSUED_LEEWAY_S:
            raise TokenError("not valid yet: check the clocks", forged=False)
        return self.limited(identity, now - late_s)

    def recognise(self, token: str) -> Identity:
        """Whose token this is or was, whether or not it may still be used: to take it back. Raises TokenError."""
        return self._read(token)[0]

    def _read(self, token: str) -> tuple[Identity, float]:
        """What a token signed by one of our keys says, and its `nbf` (0.0 for none); no time is judged."""
        if len(token) > MAX_TOKEN_BYTES:
            raise TokenError("token too long", forged=True)
        key = self._key_of(token)
        claims = self._decode(token, key)
        typ = claims["typ"]
        if typ not in get_args(TokenType):
            raise TokenError("unknown typ", forged=True)
        if typ != "access" and key.algorithm != self._own.algorithm:
            raise TokenError("only our own keys sign logins and sessions", forged=True)
        issued, expires = _number(claims, "iat"), _number(claims, "exp")
        return _identity(claims, typ, issued, expires, key.kid), _number(claims, "nbf", 0.0)

    def limited(self, identity: Identity, now: float) -> Identity:
        """The identity, ending when a key behind it does. Raises TokenError when one has ended or gone."""
        if not self.vouches(identity, now):
            raise TokenError("its key is no longer valid", forged=False)
        kids = (identity.kid, identity.parent_kid)
        ends = [key.valid_until for kid in kids if kid and (key := self._keys[kid]).valid_until is not None]
        return replace(identity, expires_at=min([identity.expires_at, *ends]))

    def _key_of(self, token: str) -> Key:
        """By `kid` from our own table; nothing else in the header (jku, jwk, x5u) is looked at."""
        # Not PyJWT's get_unverified_header: it decodes all three parts, a tenth of a connection's cost.
        segment = token.partition(".")[0]
        try:
            header = msgspec.json.decode(urlsafe_b64decode(segment + "=" * (-len(segment) % 4)), type=_Header)
        except (ValueError, msgspec.DecodeError, RecursionError) as error:
            raise TokenError("its header is no JSON object", forged=True) from error
        key = self._keys.get(self._own.kid if header.kid is msgspec.UNSET else header.kid)
        if key is None:
            raise TokenError("unknown kid", forged=True)
        return key

    def _decode(self, token: str, key: Key) -> dict[str, Any]:
        """Signature, issuer, audience, presence of the claims; times are judged by the caller's clock."""
        options: Any = {
            "require": REQUIRED,
            "enforce_minimum_key_length": True,
            "verify_exp": False,
            "verify_iat": False,
            "verify_nbf": False,
        }
        try:
            return jwt.decode(
                token,
                key.material,
                algorithms=[key.algorithm],
                audience=AUDIENCE,
                issuer=ISSUER,
                options=options,
            )
        except (jwt.PyJWTError, RecursionError, ValueError) as error:
            raise TokenError(type(error).__name__, forged=True) from error

    def _longest(self, typ: TokenType) -> tuple[float, str]:
        """How long such a token may live, in s, and which setting says so."""
        if typ == "session":
            return self._lifetimes.session_ttl, "auth.session_ttl"
        return self._lifetimes.max_ttl, "auth.max_ttl"


def _tick(seconds: float) -> float:
    """Times in 1/1024 s: a fraction, so that a revocation "issued before now" spares a token made a moment
    later, and exact in binary, so that `exp - iat` is the lifetime that was asked for."""
    return math.floor(seconds * 1024) / 1024


def _number(claims: dict[str, Any], name: str, default: float | None = None) -> float:
    value = claims.get(name, default)
    # A digit string or a bool would pass float(); RFC 7519 says number. 1e308 and NaN fail the comparison.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < LAST_TIME:
        raise TokenError(f"{name} is no time", forged=True)
    return float(value)


def _text(claims: dict[str, Any], name: str) -> str:
    value = claims.get(name)
    # JSON can hold half a surrogate pair: one such subject, and no reply that names it could be written.
    if not isinstance(value, str) or not is_name(value):
        raise TokenError(f"{name} is no short text", forged=True)
    return value


def _identity(claims: dict[str, Any], typ: TokenType, issued: float, expires: float, kid: str) -> Identity:
    subject, jti, scope = _text(claims, "sub"), _text(claims, "jti"), claims["scope"]
    if not isinstance(scope, str) or len(scope) > 1024:  # noqa: PLR2004 - any bound will do
        raise TokenError("scope is no short text", forged=True)
    scopes = frozenset(scope.split()) & SCOPES
    if typ != "session":
        return Identity(subject, scopes, typ, jti, issued, expires, kid=kid)
    return Identity(
        subject,
        scopes,
        typ,
        jti,
        issued,
        expires,
        sid=_text(claims, "sid"),
        parent_jti=_text(claims, "pjti"),
        parent_typ=_text(claims, "ptyp"),
        parent_kid=_text(claims, "pkid"),
        parent_issued_at=_number(claims, "piat"),
        auth_time=_number(claims, "auth_time"),
        session_ends_at=_number(claims, "session_ends"),
        kid=kid,
    )
