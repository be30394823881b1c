"""The keys tokens are verified with, by `kid`, each with one algorithm.

Our own secret signs; others only verify: older secrets until their end, and the public keys of somebody
who issues tokens elsewhere.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt

from amiga_ws.state import StateError, parse_secret, shared_with

OWN_ALGORITHM = "HS256"
PUBLIC_ALGORITHMS = ("RS256", "ES256", "EdDSA")
ALGORITHMS = (OWN_ALGORITHM, *PUBLIC_ALGORITHMS)
MIN_RSA_BITS = 2048


class BadKeyError(Exception):
    """A key cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key. `valid_until` is an epoch, None for no end."""

    kid: str
    algorithm: str
    material: Any = field(repr=False)  # a secret, where the algorithm is our own
    valid_until: float | None = None

    def ended(self, now: float) -> bool:
        """Whether it verifies nothing any more."""
        return self.valid_until is not None and now >= self.valid_until


def own_key(secret: bytes, valid_until: float | None = None) -> Key:
    """An HS256 key; its `kid` is derived from the secret, so that a rotated one needs no name of its own."""
    return Key(hashlib.sha256(b"amiga_ws kid " + secret).hexdigest()[:12], OWN_ALGORITHM, secret, valid_until)


def public_key(kid: str, algorithm: str, pem: bytes, valid_until: float | None = None) -> Key:
    """A verifying key from PEM text. Raises BadKeyError for a private or weak one, or another kind."""
    if algorithm not in PUBLIC_ALGORITHMS:
        raise BadKeyError(
            f"algorithm {algorithm} takes no public key; known are {', '.join(PUBLIC_ALGORITHMS)}"
        )
    if b"PRIVATE" in pem:
        raise BadKeyError("this is a private key: give the public one, and keep the private one elsewhere")
    try:
        algorithms = jwt.algorithms.get_default_algorithms()
        material = algorithms[algorithm].prepare_key(pem)
    except KeyError as error:
        raise BadKeyError(
            f"public keys need the package cryptography: {sys.executable} -m pip install cryptography"
        ) from error
    except (ValueError, TypeError, jwt.PyJWTError) as error:
        raise BadKeyError(f"not a PEM public key for {algorithm}") from error
    bits = getattr(material, "key_size", MIN_RSA_BITS)
    if algorithm == "RS256" and bits < MIN_RSA_BITS:
        raise BadKeyError(f"an RSA key of {bits} bits is too weak; at least {MIN_RSA_BITS} are needed")
    return Key(kid, algorithm, material, valid_until)


def load_keys(specs: Iterable[str], folder: Path) -> list[Key]:
    """The keys that `auth.keys` names: `alg=… file=… [kid=…] [until=…]`, files relative to `folder`.

    Raises:
        BadKeyError: a spec or a file that cannot be used, or a secret that others can read; the text names it.
    """
    keys = [_load_key(spec, folder) for spec in specs]
    kids = [key.kid for key in keys]
    if twice := {kid for kid in kids if kids.count(kid) > 1}:
        raise BadKeyError(f"auth.keys: {sorted(twice)[0]} stands there twice")
    return keys


def _load_key(spec: str, folder: Path) -> Key:
    parts = dict(part.partition("=")[::2] for part in spec.split())
    if not {"alg", "file"} <= parts.keys() <= {"alg", "file", "kid", "until"}:
        raise BadKeyError(f"auth.keys: expected 'alg=… file=… [kid=…] [until=…]', got '{spec[:60]}'")
    algorithm, path = parts["alg"], folder / parts["file"]
    if algorithm not in ALGORITHMS:
        raise BadKeyError(f"auth.keys: alg is one of {', '.join(ALGORITHMS)}")
    try:
        until = _epoch(parts["until"]) if "until" in parts else None
        content = path.read_bytes()
        if algorithm == OWN_ALGORITHM:
            secret = parse_secret(content.decode("ascii", "replace"))
            if shared := shared_with(path, path.stat().st_mode):
                raise BadKeyError(shared)
            return own_key(secret, until)
        if not parts.get("kid"):
            raise BadKeyError("a public key needs kid=, the name its tokens carry")
        return public_key(parts["kid"], algorithm, content, until)
    except OSError as error:
        raise BadKeyError(f"auth.keys: cannot read {path}: {error.strerror}") from error
    except (BadKeyError, StateError) as error:
        raise BadKeyError(f"auth.keys: {path}: {error}") from error


def _epoch(text: str) -> float:
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadKeyError(
            f"until is a date or time such as 2027-01-31 or 2027-01-31T12:00Z, got '{text[:40]}'"
        ) from error
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
