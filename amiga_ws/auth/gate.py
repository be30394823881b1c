"""Gate: who may come in, and who may no longer stay. Tokens, keys, revocations and used logins in one place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from amiga_ws.auth.revocations import Revocation, Revocations, of_identity
from amiga_ws.auth.tokens import Authority, Identity, Lifetimes, TokenError, TokenType
from amiga_ws.state import UsedLogins


class Gate:
    """The one judge of credentials, for handshakes and for streams that are open already."""

    def __init__(
        self, authority: Authority, lifetimes: Lifetimes, state_dir: Path, wall: Callable[[], float]
    ) -> None:
        self.authority = authority  # set anew by change_keys
        self.lifetimes = lifetimes  # likewise
        self._wall = wall
        self._logins = UsedLogins(state_dir, wall())
        self.revocations = Revocations(state_dir, wall())

    def verify(self, token: str, typ: TokenType | tuple[TokenType, ...], *, late_s: float = 0.0) -> Identity:
        """The identity of a token that may be used now, or could `late_s` ago. Raises TokenError."""
        identity = self.authority.verify(token, typ=typ, now=self._wall(), late_s=late_s)
        if self._revoked(identity):
            raise TokenError("revoked", forged=False)
        return identity

    def sign_in(self, parent: Identity) -> tuple[str, Identity]:
        """A session for the holder of an access or login token; a login token works once.

        Raises:
            TokenError: the login has been used.
            NotKeptError: its use cannot be noted, so it is as good as before.
        """
        now = self._wall()
        if parent.typ == "login" and not self._logins.use(parent.jti, parent.expires_at, now):
            raise TokenError("this sign-in link has been used", forged=False)
        return self.authority.mint_session(parent, now)

    def renew(self, session: Identity) -> tuple[str, Identity]:
        """The same session with a later end. Raises TokenRefusedError, TokenError when it has reached its last."""
        return self.authority.renew_session(session, self._wall())

    def revoke(self, identity: Identity) -> None:
        """Take back a token, or a whole session. Raises NotKeptError, as all that revoke do."""
        now = self._wall()
        self.revocations.add(of_identity(identity, now, self.lifetimes.session_max), now)

    def revoke_token(self, token: str) -> None:
        """Take back a token, also one that has ended: what was signed in with it may live longer.

        Raises:
            TokenError: none of ours.
        """
        self.revoke(self.authority.recognise(token))

    def revoke_jti(self, jti: str) -> None:
        """Take back a token that is known by its id only; kept as long as one could live."""
        now = self._wall()
        self.revocations.add(Revocation("jti", jti, now, now + self._longest()), now)

    def revoke_subject(self, subject: str, issued_before: float | None = None) -> None:
        """Take back all that was issued to `subject` before a time (default: now).

        By a public key's owner also what seems to be issued up to 30 s later: his clock may be ahead of ours.
        """
        now = self._wall()
        before = now if issued_before is None else issued_before
        self.revocations.add(Revocation("sub", subject, before, max(now, before) + self._longest()), now)

    def _longest(self) -> float:
        return max(self.lifetimes.max_ttl, self.lifetimes.session_max)

    def change_keys(
        self, authority: Authority, lifetimes: Lifetimes
    ) -> Callable[[Identity], Identity | None]:
        """Judge by other keys from now on.

        Returns what is left of an identity that the former ones vouched for: the same, one that ends with
        its key, or None.
        """
        replaced = authority.replaced(self.authority)
        self.authority, self.lifetimes = authority, lifetimes

        def left_of(identity: Identity) -> Identity | None:
            if replaced & {identity.kid, identity.parent_kid} or not self.still_good(identity):
                return None
            return authority.limited(identity, self._wall())

        return left_of

    def still_good(self, identity: Identity) -> bool:
        """Whether an open stream's identity has not been revoked and its key not been withdrawn."""
        return self.authority.vouches(identity, self._wall()) and not self._revoked(identity)

    def _revoked(self, identity: Identity) -> bool:
        return self.revocations.hit(identity, self.authority.ahead_s(identity))
