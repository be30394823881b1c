"""Public keys of somebody who issues tokens elsewhere."""

from __future__ import annotations

import jwt
import pytest
from test_state import GOOD
from test_tokens import NOW, SECRET, Lifetimes, claims, session_claims, signed

from amiga_ws.auth.gate import Gate
from amiga_ws.auth.keys import BadKeyError, load_keys, own_key, public_key
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


def test_revoking_a_subject_ends_what_an_issuer_has_signed_whose_clock_is_ahead(tmp_path):
    private, public = key_pair("ES256")
    authority = Authority(SECRET, Lifetimes(), [public_key("issuer", "ES256", public)])
    gate = Gate(authority, Lifetimes(), tmp_path, lambda: NOW)

    def foreign(iat):
        return jwt.encode(claims(iat=iat), private, algorithm="ES256", headers={"kid": "issuer"})

    token = foreign(NOW + 20)
    _, session = gate.sign_in(gate.verify(token, "access"))
    gate.revoke_subject(session.subject)
    with pytest.raises(TokenError, match="revoked"):
        gate.verify(token, "access")
    assert not gate.still_good(session)
    # Our own clock is the one that says when: what it dates later was issued later.
    own = authority.issue(subject=session.subject, scope="metrics:read", ttl_s=60, now=NOW)
    assert gate.verify(own, "access")


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


# -- auth.keys -----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """A secret, and a public key, in files."""
    (tmp_path / "old.hex").write_text(GOOD + "\n", "ascii")
    (tmp_path / "old.hex").chmod(0o600)
    (tmp_path / "issuer.pem").write_bytes(key_pair("ES256")[1])
    return tmp_path


def test_keys_are_loaded_from_their_files(folder):
    old, issuer = load_keys(
        ["alg=HS256 file=old.hex until=2027-01-31", "alg=ES256 file=issuer.pem kid=issuer"], folder
    )
    assert (old.kid, old.material) == (own_key(bytes.fromhex(GOOD)).kid, bytes.fromhex(GOOD))
    assert old.valid_until == 1_801_353_600.0  # UTC midnight
    assert (issuer.kid, issuer.algorithm, issuer.valid_until) == ("issuer", "ES256", None)


def test_end_of_a_key_may_name_its_zone(folder):
    (key,) = load_keys(["alg=HS256 file=old.hex until=2027-01-31T12:00+02:00"], folder)
    assert key.valid_until == 1_801_353_600.0 + 10 * 3600


def test_file_may_stand_anywhere(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("elsewhere")
    assert load_keys([f"alg=HS256 file={folder / 'old.hex'}"], other)


@pytest.mark.parametrize("rights", [0o640, 0o604, 0o666])
def test_old_secret_others_can_read_is_refused_with_the_cure(folder, rights):
    (folder / "old.hex").chmod(rights)
    with pytest.raises(BadKeyError, match=f"auth.keys: {folder}/old.hex: .* run: chmod 600"):
        load_keys(["alg=HS256 file=old.hex"], folder)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("", "expected"),
        ("file=old.hex", "expected"),
        ("alg=HS256", "expected"),
        ("alg=HS256 file=old.hex colour=red", "expected"),
        ("alg=none file=old.hex", "HS256"),
        ("alg=RS512 file=issuer.pem kid=k", "RS256"),
        ("alg=HS256 file=nowhere.hex", "nowhere.hex"),
        ("alg=HS256 file=issuer.pem", "PEM"),
        ("alg=ES256 file=issuer.pem", "kid="),
        ("alg=ES256 file=issuer.pem kid=", "kid="),
        ("alg=ES256 file=old.hex kid=k", "PEM"),
        ("alg=RS256 file=issuer.pem kid=k", "RS256"),
        ("alg=HS256 file=old.hex until=soon", "until"),
    ],
)
def test_key_that_cannot_be_used_is_a_sentence_that_says_which(folder, spec, says):
    with pytest.raises(BadKeyError, match=says) as caught:
        load_keys([spec], folder)
    assert "auth.keys" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert GOOD not in str(caught.value)


def test_one_name_stands_for_one_key(folder):
    with pytest.raises(BadKeyError, match="twice"):
        load_keys(["alg=ES256 file=issuer.pem kid=k", "alg=ES256 file=issuer.pem kid=k"], folder)
