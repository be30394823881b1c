"""What must survive us, under `state_dir`: the signing secret, the bound URL while we run, used logins.

Every file is private (0600). Nothing here knows Tornado or the network.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import stat
from pathlib import Path
from typing import Any

SECRET_FILE = "secret.hex"  # noqa: S105 - the name of a file
SERVER_FILE = "server.json"
USED_LOGINS_FILE = "used_logins.jsonl"
SECRET_BYTES = 32  # 256 bits: HS256's own block; shorter keys are refused (RFC 7518, 3.2)


class StateError(Exception):
    """Something under `state_dir` cannot be used; the text says what and what to do about it."""


# -- secret --------------------------------------------------------------------------------------


def load_secret(state_dir: Path) -> bytes:
    """The HS256 secret (32 bytes) of this installation; a missing one is created, atomically and 0600.

    Raises:
        StateError: unreadable, not 64 hex digits, one byte repeated, or readable by group or others.
    """
    path = state_dir / SECRET_FILE
    try:
        make_private_dir(state_dir)
        if not path.exists():
            _create_secret(path)
        return _read_secret(path)
    except OSError as error:
        raise StateError(
            f"cannot use {path}: {error.strerror}; check the owner and rights of state_dir"
        ) from error


def _create_secret(path: Path) -> None:
    # Written aside and linked into place: of two first starts at once exactly one wins, and nobody
    # ever reads half a secret.
    aside = path.with_name(f".{SECRET_FILE}.{os.getpid()}.{secrets.token_hex(4)}")
    _write_private(aside, secrets.token_hex(SECRET_BYTES) + "\n")
    try:
        path.hardlink_to(aside)
    except FileExistsError:
        pass  # the other start was first; its secret is as good
    finally:
        aside.unlink()


def _read_secret(path: Path) -> bytes:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise StateError(f"{path} can be read by others (mode {mode:04o}); run: chmod 600 {path}")
    text = path.read_text("ascii", errors="replace").strip()
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        secret = b""
    if len(text) != 2 * SECRET_BYTES or len(secret) != SECRET_BYTES or len(set(secret)) < SECRET_BYTES // 4:
        raise StateError(
            f"{path} holds no usable secret (64 random hex digits are expected); "
            "remove it to have a new one made: every token issued so far then ends"
        )
    return secret


# -- the bound URL -------------------------------------------------------------------------------


def announce_server(state_dir: Path, url: str) -> None:
    """Write where we listen into `server.json`, for commands that print links."""
    make_private_dir(state_dir)
    aside = state_dir / f".{SERVER_FILE}.{os.getpid()}"
    _write_private(aside, json.dumps({"url": url, "pid": os.getpid()}) + "\n")
    aside.replace(state_dir / SERVER_FILE)


def withdraw_server(state_dir: Path) -> None:
    """Remove `server.json` if it is ours."""
    path = state_dir / SERVER_FILE
    if _server_json(path).get("pid") == os.getpid():
        path.unlink(missing_ok=True)


def read_server_url(state_dir: Path) -> str | None:
    """Where a running server listens, e.g. `http://127.0.0.1:3001`; None when none runs.

    A file left by a killed server (its pid is gone) is not believed.
    """
    found = _server_json(state_dir / SERVER_FILE)
    url, pid = found.get("url"), found.get("pid")
    if not isinstance(url, str) or not isinstance(pid, int) or not _alive(pid):
        return None
    return url


def _server_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # another user's: alive all the same
    return True


# -- used logins ---------------------------------------------------------------------------------


class UsedLogins:
    """The `jti`s of login tokens that have been used, kept until those tokens end anyway.

    Append-only file of `{"jti": ..., "exp": ...}` lines, fsynced before `use` returns: a login link stays
    used after a kill -9. The file is rewritten without ended entries when it is opened. A half-written
    last line (power loss) is skipped: its `use` never returned.
    """

    def __init__(self, state_dir: Path, now: float) -> None:
        self._path = state_dir / USED_LOGINS_FILE
        self._exp: dict[str, float] = {}  # jti -> epoch at which the token ends
        make_private_dir(state_dir)
        for line in self._lines():
            try:
                entry = json.loads(line)
                if entry["exp"] > now:
                    self._exp[str(entry["jti"])] = float(entry["exp"])
            except (ValueError, KeyError, TypeError):
                continue
        aside = self._path.with_suffix(".new")
        aside.unlink(missing_ok=True)
        _write_private(aside, "".join(_login_line(jti, exp) for jti, exp in self._exp.items()))
        aside.replace(self._path)

    def _lines(self) -> list[str]:
        try:
            return self._path.read_text("utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []

    def use(self, jti: str, exp: float, now: float) -> bool:
        """Note the use; False when it had been used before. Raises OSError when it cannot be kept."""
        if jti in self._exp:
            return False
        for old in [known for known, ends in self._exp.items() if ends <= now]:
            del self._exp[old]
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, _login_line(jti, exp).encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._exp[jti] = exp
        return True


def _login_line(jti: str, exp: float) -> str:
    return json.dumps({"jti": jti, "exp": exp}) + "\n"


# -- files ---------------------------------------------------------------------------------------


class StateLock:
    """Holds `state_dir` for one server: two on one folder would undo each other's files.

    Raises:
        StateError: another server holds it.
    """

    def __init__(self, state_dir: Path) -> None:
        make_private_dir(state_dir)
        self._descriptor = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._descriptor)
            url = read_server_url(state_dir)
            where = f" (it listens on {url})" if url else ""
            raise StateError(
                f"another amiga_ws server uses {state_dir}{where}; stop it, or set another state_dir for this one"
            ) from error

    def release(self) -> None:
        """Let the next server have it."""
        os.close(self._descriptor)


def make_private_dir(path: Path) -> None:
    """Create `path` (0700) when it is missing."""
    if not path.is_dir():
        path.mkdir(mode=0o700, parents=True, exist_ok=True)


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
