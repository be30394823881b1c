"""What must survive us, under `state_dir`: the signing secret, the bound URL while we run, used logins.

Every file is private (0600). Nothing here knows Tornado or the network.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

SECRET_FILE = "secret.hex"  # noqa: S105 - the name of a file
SERVER_FILE = "server.json"
USED_LOGINS_FILE = "used_logins.jsonl"

SECRET_BYTES = 32  # 256 bits: HS256's own block; shorter keys are refused (RFC 7518, 3.2)
# 32 random bytes have 30 different values on average; 1 of 10^9 has fewer than 20.
MIN_DISTINCT_BYTES = 20
# How long what has ended is kept all the same: a clock that ran ahead, as one set to local time does until it is
# corrected, must not have made us forget what is not over.
KEPT_LONGER_S = 86_400.0
# How a wildcard address is reached from this machine.
REACHABLE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
_SAMPLES = (bytes(range(32)), bytes(range(1, 33)), bytes(range(31, -1, -1)))


class StateError(Exception):
    """Something under `state_dir` cannot be used; the text says what and what to do about it."""


class BadSecretError(StateError):
    """What is there must not be used as a secret: no later start will like it better."""


class NotKeptError(StateError):
    """A line could not be written, so nothing has changed. `full`: there is no room for it."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"cannot write {path}: {reason(error)}")
        self.full = _is_full(error)


def reason(error: OSError) -> str:
    """Why something under `state_dir` cannot be used, and what to do about it."""
    advice = "make room on its disk" if _is_full(error) else "check the owner and rights of state_dir"
    if error.errno == errno.ELOOP:
        return "a link stands where a file should; put the file itself there"
    return f"{error.strerror or error}; {advice}"


def _is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


# -- secret --------------------------------------------------------------------------------------


def has_secret(state_dir: Path) -> bool:
    """Whether a secret was ever made there; what cannot be looked at counts as one, for `load_secret` to tell of."""
    try:
        (state_dir / SECRET_FILE).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


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
        raise StateError(f"cannot use {path}: {reason(error)}") from error


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
    with os.fdopen(_open_plain(path, os.O_RDONLY), encoding="ascii", errors="replace") as file:
        if shared := shared_with(path, os.fstat(file.fileno()).st_mode):
            raise BadSecretError(f"{path}: {shared}")
        text = file.read().strip()
    try:
        return parse_secret(text)
    except StateError as error:
        raise BadSecretError(
            f"{path} holds no usable secret: {error}; remove it to have a new one made "
            "(every token issued so far then ends)"
        ) from error


def shared_with(path: Path, mode: int) -> str | None:
    """What is wrong with the mode of a secret's file, and the cure; None where only its owner may read it."""
    if mode & 0o077:
        return f"it can be read by others (mode {stat.S_IMODE(mode):04o}); run: chmod 600 {path}"
    return None


def parse_secret(text: str) -> bytes:
    """64 hex digits → 32 bytes. Raises StateError for anything else, a sample, or what is not random."""
    if text.lstrip().startswith("-----BEGIN"):
        raise StateError("this is a PEM file: a public key must never be used as an HS256 secret")
    try:
        secret = bytes.fromhex(text.strip())
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES or len(text.strip()) != 2 * SECRET_BYTES:
        raise StateError("expected 64 random hex digits (32 bytes)")
    if len(set(secret)) < MIN_DISTINCT_BYTES or secret in _SAMPLES:
        raise StateError("these digits are not random: a sample or a pattern")
    return secret


# -- the bound URL -------------------------------------------------------------------------------


def url_of(host: str, port: int, *, tls: bool) -> str:
    """`http://[::1]:3000`."""
    scheme = "https" if tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def reachable_url(host: str, port: int, *, tls: bool) -> str:
    """Where a server that listens on `host` is reached from this machine."""
    return url_of(REACHABLE.get(host, host), port, tls=tls)


def announce_server(state_dir: Path, url: str) -> None:
    """Write where we listen into `server.json`, for commands that print links."""
    make_private_dir(state_dir)
    aside = state_dir / f".{SERVER_FILE}.{os.getpid()}"
    # A server that was killed here may have left one: in a container each has the same pid.
    aside.unlink(missing_ok=True)
    _write_private(aside, json.dumps({"url": url, "pid": os.getpid()}) + "\n")
    aside.replace(state_dir / SERVER_FILE)


def withdraw_server(state_dir: Path) -> None:
    """Remove `server.json` if it is ours."""
    path = state_dir / SERVER_FILE
    if _server_json(path).get("pid") == os.getpid():
        with suppress(OSError):  # a disk that has become read-only: nobody believes it once our pid has gone
            path.unlink()


def read_server_url(state_dir: Path) -> str | None:
    """Where a running server listens, e.g. `http://127.0.0.1:3001`; None when none runs.

    A file left by a killed server (its pid is gone) is not believed.
    """
    found = _running(state_dir)
    return None if found is None else found[0]


def _running(state_dir: Path) -> tuple[str, int] | None:
    """(where it listens, its pid) of the server that runs."""
    found = _server_json(state_dir / SERVER_FILE)
    url, pid = found.get("url"), found.get("pid")
    if not isinstance(url, str) or not isinstance(pid, int) or pid < 1 or not _alive(pid):
        return None
    return url, pid


def _server_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_read_plain(path))
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
    except OverflowError:
        return False
    return True


# -- append-only files ---------------------------------------------------------------------------


class AppendLog:
    """A file of JSON lines that several processes append to, and that is never edited in place.

    `append` returns when the line is on disk (fsync): it survives a kill -9 from then on. A half-written
    line (power loss) is skipped: its `append` never returned. `rewrite` drops old entries; an append that
    races with it is not lost, because both hold the file's lock and look whether it is still the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file_id: tuple[int, int] | None = None  # device and inode `_offset` belongs to
        self._offset = 0  # bytes read so far, up to the last complete line
        make_private_dir(path.parent)

    def append(self, entry: dict[str, Any]) -> None:
        """Add one line, durably. Raises NotKeptError."""
        line = json.dumps(entry).encode() + b"\n"
        try:
            with self._locked() as descriptor:
                end = os.lseek(descriptor, 0, os.SEEK_END)
                if end and os.pread(descriptor, 1, end - 1) != b"\n":
                    line = b"\n" + line  # after a torn line
                try:
                    if os.write(descriptor, line) != len(line):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    os.fsync(descriptor)
                except OSError:
                    with suppress(OSError):
                        os.ftruncate(
                            descriptor, end
                        )  # who is told that it was not kept must not find it kept
                    raise
        except OSError as error:
            raise NotKeptError(self._path, error) from error

    def read_new(self) -> list[dict[str, Any]]:
        """The complete lines since the last call (all, the first time, and when the file was rewritten)."""
        try:
            with os.fdopen(_open_plain(self._path, os.O_RDONLY), "rb") as file:
                found = os.fstat(file.fileno())
                if (found.st_dev, found.st_ino) != self._file_id or found.st_size < self._offset:
                    self._file_id, self._offset = (found.st_dev, found.st_ino), 0
                if found.st_size == self._offset:
                    return []
                file.seek(self._offset)
                content = file.read()
        except FileNotFoundError:
            return []
        complete = content[: content.rfind(b"\n") + 1]
        self._offset += len(complete)
        return [entry for line in complete.splitlines() if (entry := _object(line)) is not None]

    def rewrite(self, keep: Callable[[dict[str, Any]], bool]) -> int:
        """Drop the entries that `keep` denies; how many are left. Raises OSError."""
        with self._locked():
            lines = _read_plain(self._path).splitlines()
            entries = [entry for line in lines if (entry := _object(line)) is not None]
            kept = [entry for entry in entries if keep(entry)]
            if len(kept) == len(entries):
                return len(kept)
            aside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
            aside.unlink(missing_ok=True)
            _write_private(aside, "".join(json.dumps(entry) + "\n" for entry in kept))
            aside.replace(self._path)
        return len(kept)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        descriptor = self._lock()
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _lock(self) -> int:
        while True:
            descriptor = _open_plain(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                _give_to_owner(descriptor, self._path)
            except OSError:
                os.close(descriptor)
                raise
            held = os.fstat(descriptor)
            if held.st_nlink and (held.st_dev, held.st_ino) == _file_id(self._path):
                return descriptor
            os.close(descriptor)  # replaced while we waited for the lock


def _file_id(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


class UsedLogins:
    """The `jti`s of login tokens that have been used, kept until those tokens end anyway."""

    def __init__(self, state_dir: Path, now: float) -> None:
        self._log = AppendLog(state_dir / USED_LOGINS_FILE)
        self._exp: dict[str, float] = {}  # jti -> epoch at which the token ends
        self._log.rewrite(lambda entry: _time(entry, "exp") > now - KEPT_LONGER_S)
        for entry in self._log.read_new():
            self._exp[str(entry.get("jti"))] = _time(entry, "exp")

    def use(self, jti: str, exp: float, now: float) -> bool:
        """Note the use; False when it had been used before. Raises NotKeptError, and it is not used then."""
        if jti in self._exp:
            return False
        for old in [known for known, ends in self._exp.items() if ends <= now - KEPT_LONGER_S]:
            del self._exp[old]
        self._log.append({"jti": jti, "exp": exp})
        self._exp[jti] = exp
        return True


def _time(entry: dict[str, Any], name: str) -> float:
    value = entry.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


# -- files ---------------------------------------------------------------------------------------


class StateLock:
    """Holds `state_dir` for one server: two on one folder would undo each other's files.

    Raises:
        StateError: another server holds it.
    """

    def __init__(self, state_dir: Path) -> None:
        make_private_dir(state_dir)
        self._descriptor = _open_plain(state_dir / "lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._descriptor)
            running = _running(state_dir)
            where = f" (pid {running[1]}, it listens on {running[0]})" if running else ""
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


def _open_plain(path: Path, flags: int) -> int:
    """A descriptor of a file of the folder, made 0600 where `flags` say so. Raises OSError, also for a link.

    The folder's owner may have put a link to root's files there, and root may be who runs a command.
    """
    # Not to wait for who writes into a named pipe; for a file it means nothing.
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no plain file")
    return descriptor


def _read_plain(path: Path) -> bytes:
    with os.fdopen(_open_plain(path, os.O_RDONLY), "rb") as file:
        return file.read()


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    _give_to_owner(descriptor, path)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)  # on a full disk each start would leave one more
        raise


def _give_to_owner(descriptor: int, path: Path) -> None:
    """A command that root runs must leave no file behind that the server's user cannot read.

    Nor may it give away, or write to, a file that stands elsewhere, too. Raises OSError.
    """
    if os.geteuid() != 0:
        return
    found = os.fstat(descriptor)
    if found.st_nlink > 1:
        raise OSError(errno.EMLINK, "it has another name, too (a hard link)")
    if found.st_uid == 0:
        folder = path.parent.stat()
        os.fchown(descriptor, folder.st_uid, folder.st_gid)
