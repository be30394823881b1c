"""Public keys of somebody who issues tokens elsewhere."""

from __future__ import annotations

import jwt
import pytest
from test_tokens import NOW, SECRET, Lifetimes, claims, session_claims, signed

from amiga_ws.auth.keys import BadKeyError, public_key
from amiga_ws.auth.tokens import Authority, TokenError

serialization = pytest.importorskip(
    "cryptography.hazmat.primitives.serialization", reason="public keys need the package cryptography"
)
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: E402 - after the skip


def key_pair(algorithm):
    """(private PEM, public PEM)."""
    make = {
        "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate,
        "weak": lambda: rsa.generate_private_key(public_exponent=65537, key_size=1024),  # noqa: S505 - to be refused
    }
    private = make[algorithm]()
    pem = serialization.Encoding.PEM
    return (
        private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        private.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo),
    )


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_public_key_verifies_access_tokens_of_its_algorithm_only(algorithm):
    private, public = key_pair(algorithm)
    both = Authority(SECRET, Lifetimes(), [public_key("issuer", algorithm, public)])

    def foreign(**changes):
        return jwt.encode(claims(**changes), private, algorithm=algorithm, headers={"kid": "issuer"})

    assert both.verify(foreign(), typ="access", now=NOW).kid == "issuer"
    # The classic: HS256 with the public key's text as the secret, under that key's own name.
    for text in (public, public.strip(), public.replace(b"\n", b"\r\n")):
        with pytest.raises(TokenError):
            both.verify(signed(claims(), {"alg": "HS256", "kid": "issuer"}, key=text), typ="access", now=NOW)
    # Nor does that key speak for ours, or ours for it.
    unnamed = jwt.encode(claims(), private, algorithm=algorithm)
    for token in (unnamed, signed(claims(), {"alg": "HS256", "kid": "issuer"})):
        with pytest.raises(TokenError):
            both.verify(token, typ="access", now=NOW)
    # Logins and sessions are ours alone to sign.
    for typ in ("login", "session"):
        with pytest.raises(TokenError, match="only our own"):
            both.verify(foreign(**session_claims(typ=typ)), typ=typ, now=NOW)


@pytest.mark.parametrize("algorithm", ["HS256", "none", "RS512", ""])
def test_public_key_takes_no_other_algorithm(algorithm):
    with pytest.raises(BadKeyError, match="known are"):
        public_key("k", algorithm, key_pair("ES256")[1])


def test_private_weak_or_wrong_key_is_no_public_key():
    with pytest.raises(BadKeyError, match="private"):
        public_key("k", "ES256", key_pair("ES256")[0])
    with pytest.raises(BadKeyError, match="1024 bits"):
        public_key("k", "RS256", key_pair("weak")[1])
    for algorithm, pem in (
        ("RS256", key_pair("ES256")[1]),
        ("EdDSA", key_pair("ES256")[1]),
        ("ES256", b"junk"),
    ):
        with pytest.raises(BadKeyError):
            public_key("k", algorithm, pem)
