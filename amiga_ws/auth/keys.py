"""The keys tokens are verified with, by `kid`, each with one algorithm. Pure: contents are given.

Our own secret signs; others only verify: older secrets until their end, and the public keys of somebody
who issues tokens elsewhere.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import jwt

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
    material: Any
    valid_until: float | None = None


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
            "public keys need the package cryptography: pip install 'amiga_ws[keys]'"
        ) from error
    except (ValueError, TypeError, jwt.PyJWTError) as error:
        raise BadKeyError(f"not a PEM public key for {algorithm}") from error
    bits = getattr(material, "key_size", MIN_RSA_BITS)
    if algorithm == "RS256" and bits < MIN_RSA_BITS:
        raise BadKeyError(f"an RSA key of {bits} bits is too weak; at least {MIN_RSA_BITS} are needed")
    return Key(kid, algorithm, material, valid_until)
