"""State: secrets are made once and kept private, what was promised survives a kill, one server a folder."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amiga_ws.state import (
    KEPT_LONGER_S,
    SECRET_FILE,
    USED_LOGINS_FILE,
    AppendLog,
    NotKeptError,
    StateError,
    StateLock,
    UsedLogins,
    announce_server,
    load_secret,
    make_private_dir,
    parse_secret,
    read_server_url,
    withdraw_server,
)

CHECKOUT = Path(__file__).parent.parent
NOW = 1_800_000_000.0
GOOD = "3f9c1be07a52d86411c0ffee5ad2e9b7604831f5c29e7d0ab61834579dcfe210"


def child(code, *args, **more):
    """A Python process that runs `code` with the product importable; its first line in is the start signal."""
    return subprocess.Popen(  # noqa: S603 - our own code
        [sys.executable, "-c", code, *map(str, args)],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **more,
    )


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def generous_umask():
    """Rights come from us, not from the umask."""
    old = os.umask(0)
    yield
    os.umask(old)


# -- secret --------------------------------------------------------------------------------------


def test_missing_secret_is_made_once_and_private(tmp_path, generous_umask):
    folder = tmp_path / "var" / "state"
    secret = load_secret(folder)
    assert len(secret) == 32
    assert load_secret(folder) == secret
    assert mode(folder / SECRET_FILE) == 0o600
    assert mode(folder) == 0o700
    assert [path.name for path in folder.iterdir()] == [SECRET_FILE]


def test_each_installation_has_its_own_secret(tmp_path):
    assert load_secret(tmp_path / "a") != load_secret(tmp_path / "b")


def test_processes_that_start_at_once_agree_on_one_secret(tmp_path):
    code = (
        "import sys, pathlib; from amiga_ws.state import load_secret; sys.stdin.readline(); "
        "print(load_secret(pathlib.Path(sys.argv[1])).hex())"
    )
    children = [child(code, tmp_path / "state") for _ in range(6)]
    for one in children:
        one.stdin.write("go\n")
        one.stdin.flush()
    secrets = {one.communicate(timeout=30)[0].strip() for one in children}
    assert secrets == {load_secret(tmp_path / "state").hex()}
    assert [path.name for path in (tmp_path / "state").iterdir()] == [SECRET_FILE]


@pytest.mark.parametrize("rights", [0o640, 0o604, 0o660, 0o644, 0o601, 0o610])
def test_secret_others_can_read_is_refused_with_the_cure(tmp_path, rights):
    load_secret(tmp_path)
    (tmp_path / SECRET_FILE).chmod(rights)
    with pytest.raises(StateError, match="chmod 600"):
        load_secret(tmp_path)


@pytest.mark.parametrize("rights", [0o600, 0o400])
def test_secret_only_we_can_read_is_used(tmp_path, rights):
    secret = load_secret(tmp_path)
    (tmp_path / SECRET_FILE).chmod(rights)
    assert load_secret(tmp_path) == secret


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        GOOD[:-1],
        GOOD[:-2],
        GOOD + "00",
        "secret",
        "changeme" * 8,
        "g" * 64,
        "0" * 64,
        "ab" * 32,
        "0123456789abcdef" * 4,
        "deadbeef" * 8,
        "".join(f"{n:02x}" for n in range(32)),
        "00112233445566778899aabbccddeeff" * 2,
        " ".join(GOOD),
        "ü" * 64,
        "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQ\n-----END PUBLIC KEY-----\n",
    ],
)
def test_weak_or_malformed_secret_is_refused_and_not_repeated(tmp_path, text):
    path = tmp_path / SECRET_FILE
    path.write_text(text, "utf-8")
    path.chmod(0o600)
    with pytest.raises(StateError) as caught:
        load_secret(tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(text.strip()) < 8 or text.strip() not in str(caught.value)
    assert path.read_text("utf-8") == text  # refused, never replaced


def test_good_secret_is_read_with_or_without_a_line_end():
    assert parse_secret(GOOD) == parse_secret(f" {GOOD.upper()}\n") == bytes.fromhex(GOOD)


@given(st.binary(max_size=40) | st.text(max_size=80))
def test_any_text_is_a_secret_of_32_bytes_or_a_state_error(value):
    try:
        found = parse_secret(value.hex() if isinstance(value, bytes) else value)
    except StateError:
        return
    assert len(found) == 32


def test_secret_that_cannot_be_used_is_a_sentence(tmp_path):
    (tmp_path / "a").write_text("a file", "utf-8")
    with pytest.raises(StateError, match="cannot use"):
        load_secret(tmp_path / "a" / "state")
    (tmp_path / SECRET_FILE).symlink_to(tmp_path / "nowhere")
    with pytest.raises(StateError, match="cannot use"):
        load_secret(tmp_path)


# -- the bound URL -------------------------------------------------------------------------------


def test_server_is_announced_while_it_runs(tmp_path, generous_umask):
    assert read_server_url(tmp_path) is None
    announce_server(tmp_path, "http://127.0.0.1:3001")
    assert read_server_url(tmp_path) == "http://127.0.0.1:3001"
    assert mode(tmp_path / "server.json") == 0o600
    announce_server(tmp_path, "http://127.0.0.1:3002")
    assert read_server_url(tmp_path) == "http://127.0.0.1:3002"
    withdraw_server(tmp_path)
    assert read_server_url(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    withdraw_server(tmp_path)


def test_half_written_announcement_of_a_killed_server_stops_nobody(tmp_path):
    """In a container every life of the server has the same pid."""
    (tmp_path / f".server.json.{os.getpid()}").write_text('{"ur', "utf-8")
    announce_server(tmp_path, "http://127.0.0.1:3001")
    assert read_server_url(tmp_path) == "http://127.0.0.1:3001"


def test_announcement_of_a_killed_server_is_not_believed(tmp_path):
    code = (
        "import sys, pathlib; from amiga_ws.state import announce_server; "
        "announce_server(pathlib.Path(sys.argv[1]), 'http://127.0.0.1:3001'); print('up', flush=True); "
        "sys.stdin.readline()"
    )
    with child(code, tmp_path) as server:
        assert server.stdout.readline() == "up\n"
        assert read_server_url(tmp_path) == "http://127.0.0.1:3001"
        withdraw_server(tmp_path)  # not ours
        assert read_server_url(tmp_path) == "http://127.0.0.1:3001"
        server.kill()
    assert read_server_url(tmp_path) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"url": "http://a"}',
        '{"url": 1, "pid": 1}',
        '{"url": "http://a", "pid": "1"}',
        '{"url": "http://a", "pid": 0}',
        '{"url": "http://a", "pid": -1}',
        '{"url": "http://a", "pid": 99999999999999999999}',
        '{"url": "http://a", "pid": 4194305}',
        "\udcff",
    ],
)
def test_damaged_announcement_is_none(tmp_path, text):
    (tmp_path / "server.json").write_text(text, "utf-8", errors="surrogateescape")
    assert read_server_url(tmp_path) is None


# -- append-only files ---------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.jsonl"


def test_each_entry_is_read_once(path):
    log, writer = AppendLog(path), AppendLog(path)
    assert log.read_new() == []
    writer.append({"n": 1})
    writer.append({"n": 2, "text": "a\nb\u2028c\r"})
    assert log.read_new() == [{"n": 1}, {"n": 2, "text": "a\nb\u2028c\r"}]
    assert log.read_new() == []
    writer.append({"n": 3})
    assert log.read_new() == [{"n": 3}]


def test_log_is_private(path, generous_umask):
    log = AppendLog(path)
    log.append({"n": 1})
    assert mode(path) == 0o600
    log.append({"n": 2})
    log.rewrite(lambda entry: entry["n"] > 1)
    assert mode(path) == 0o600


def test_half_written_last_line_is_left_until_it_is_whole(path):
    log = AppendLog(path)
    log.append({"n": 1})
    with path.open("a") as file:
        file.write('{"n": 2')
    assert log.read_new() == [{"n": 1}]
    with path.open("a") as file:
        file.write("}\n")
    assert log.read_new() == [{"n": 2}]


def test_append_after_a_torn_line_is_not_lost_with_it(path):
    log = AppendLog(path)
    log.append({"n": 1})
    with path.open("a") as file:
        file.write('{"n": 2')
    AppendLog(path).append({"n": 3})
    assert AppendLog(path).read_new() == [{"n": 1}, {"n": 3}]


@pytest.mark.parametrize("junk", ["", "[]", "1", "null", "{", '"a"', "\x00" * 100, "{}{}"])
def test_junk_between_the_lines_is_passed_over(path, junk):
    log = AppendLog(path)
    log.append({"n": 1})
    with path.open("a") as file:
        file.write(junk + "\n")
    log.append({"n": 2})
    assert log.read_new() == [{"n": 1}, {"n": 2}]
    log.rewrite(lambda entry: entry["n"] == 2)
    assert log.read_new() == [{"n": 2}]


def test_bytes_that_are_no_text_are_passed_over(path):
    path.write_bytes(b'{"n": 1}\n\xff\xfe\n{"n": 2}\n')
    assert AppendLog(path).read_new() == [{"n": 1}, {"n": 2}]


def test_append_that_waited_for_a_rewrite_goes_to_the_new_file(path):
    log = AppendLog(path)
    log.append({"n": 1})
    code = (
        "import sys, pathlib; from amiga_ws.state import AppendLog; log = AppendLog(pathlib.Path(sys.argv[1])); "
        "print('up', flush=True); log.append({'n': 2})"
    )
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with child(code, path) as writer:
            writer.stdout.readline()
            with pytest.raises(subprocess.TimeoutExpired):
                writer.wait(0.2)
            path.unlink()  # as a rewrite replaces it
            fcntl.flock(held, fcntl.LOCK_UN)
            assert writer.wait(30) == 0
    assert AppendLog(path).read_new() == [{"n": 2}]


def test_rewritten_log_is_read_from_its_start(path):
    log, reader = AppendLog(path), AppendLog(path)
    for number in range(5):
        log.append({"n": number})
    assert len(reader.read_new()) == 5
    log.rewrite(lambda entry: entry["n"] >= 3)
    log.append({"n": 9})
    assert reader.read_new() == [{"n": 3}, {"n": 4}, {"n": 9}]


def test_truncated_log_is_read_from_its_start(path):
    log = AppendLog(path)
    log.append({"n": 1})
    log.append({"n": 2})
    log.read_new()
    path.write_text('{"n": 7}\n', "utf-8")
    assert log.read_new() == [{"n": 7}]


def test_rewrite_that_drops_nothing_touches_nothing(path):
    log = AppendLog(path)
    log.append({"n": 1})
    before = path.stat()
    log.rewrite(lambda entry: True)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_leftover_of_a_killed_rewrite_stops_nobody(path):
    log = AppendLog(path)
    log.append({"n": 1})
    path.with_name(f".{path.name}.{os.getpid()}").write_text("half", "utf-8")
    log.rewrite(lambda entry: False)
    assert log.read_new() == []
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_appends_of_many_processes_and_rewrites_between_them_lose_nothing(path):
    code = (
        "import sys, pathlib; from amiga_ws.state import AppendLog; log = AppendLog(pathlib.Path(sys.argv[1])); "
        "sys.stdin.readline(); [log.append({'by': int(sys.argv[2]), 'n': n}) for n in range(60)]"
    )
    children = [child(code, path, number) for number in range(3)]
    for one in children:
        one.stdin.write("go\n")
        one.stdin.flush()
    log = AppendLog(path)
    rewrites = 0
    while any(one.poll() is None for one in children):
        log.append({"old": True})
        log.rewrite(lambda entry: "old" not in entry)
        rewrites += 1
    for one in children:
        one.communicate(timeout=30)
        assert one.returncode == 0
    assert rewrites > 0
    kept = [(entry["by"], entry["n"]) for entry in AppendLog(path).read_new() if "by" in entry]
    assert sorted(kept) == [(by, n) for by in range(3) for n in range(60)]


def test_append_that_does_not_fit_on_the_disk_is_an_error_and_the_next_is_not_lost(path):
    """A limit on the file's size writes half a line, as a full disk does."""
    log = AppendLog(path)
    log.append({"n": 1})
    code = (
        "import sys, pathlib, resource; from amiga_ws.state import AppendLog, NotKeptError\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 5,) * 2)\n"
        "try: AppendLog(path).append({'n': 2})\n"
        "except NotKeptError as error: print('refused')\n"
    )
    assert child(code, path).communicate(timeout=30)[0] == "refused\n"
    log.append({"n": 3})
    assert AppendLog(path).read_new() == [{"n": 1}, {"n": 3}]


# -- used logins ---------------------------------------------------------------------------------


def test_login_works_once(tmp_path):
    logins = UsedLogins(tmp_path, NOW)
    assert logins.use("j1", NOW + 120, NOW)
    assert not logins.use("j1", NOW + 120, NOW)
    assert logins.use("j2", NOW + 120, NOW)


def test_used_login_stays_used_after_a_restart(tmp_path):
    UsedLogins(tmp_path, NOW).use("j1", NOW + 120, NOW)
    again = UsedLogins(tmp_path, NOW + 60)
    assert not again.use("j1", NOW + 120, NOW + 60)
    assert again.use("j2", NOW + 120, NOW + 60)


def test_ended_logins_are_forgotten(tmp_path):
    logins = UsedLogins(tmp_path, NOW)
    for number in range(50):
        logins.use(f"j{number}", NOW + 120, NOW)
    ended = NOW + 120 + KEPT_LONGER_S
    UsedLogins(tmp_path, ended - 1)
    assert len((tmp_path / USED_LOGINS_FILE).read_text("utf-8").splitlines()) == 50
    UsedLogins(tmp_path, ended)
    assert (tmp_path / USED_LOGINS_FILE).read_text("utf-8") == ""
    logins.use("late", ended + 300, ended)
    assert len(logins._exp) == 1


def test_clock_that_ran_ahead_for_hours_makes_no_used_login_good_again(tmp_path):
    UsedLogins(tmp_path, NOW).use("j1", NOW + 120, NOW)
    ahead = UsedLogins(tmp_path, NOW + 14 * 3600)
    assert ahead.use("j2", NOW + 15 * 3600, NOW + 14 * 3600)
    assert not ahead.use("j1", NOW + 120, NOW + 10)
    assert not UsedLogins(tmp_path, NOW + 10).use("j1", NOW + 120, NOW + 10)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_writes_belongs_to_the_owner_of_the_folder(tmp_path):
    """`sudo … revoke` must leave nothing the server's user cannot read."""
    folder = tmp_path / "state"
    folder.mkdir()
    os.chown(folder, 12345, 12346)
    load_secret(folder)
    log = AppendLog(folder / "entries.jsonl")
    log.append({"a": 1})
    log.append({"a": 2})
    log.rewrite(lambda entry: entry["a"] == 2)
    announce_server(folder, "http://127.0.0.1:3000")
    owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in folder.iterdir()}
    assert set(owners.values()) == {(12345, 12346)}, owners
    assert len(owners) == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
@pytest.mark.parametrize("write", ["append", "rewrite"])
def test_what_root_writes_is_never_a_file_of_root_that_the_folder_links_to(tmp_path, link, write):
    folder, victim = tmp_path / "state", tmp_path / "victim"
    folder.mkdir()
    os.chown(folder, 12345, 12346)
    victim.write_text('{"a": 1}\n', "utf-8")
    victim.chmod(0o600)
    link(folder / "entries.jsonl", victim)
    log = AppendLog(folder / "entries.jsonl")
    with pytest.raises((NotKeptError, OSError), match="link"):
        log.append({"a": 2}) if write == "append" else log.rewrite(lambda entry: False)
    assert victim.read_text("utf-8") == '{"a": 1}\n'
    assert (victim.stat().st_uid, victim.stat().st_gid) == (0, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_belongs_to_another_user_is_not_given_away(path):
    path.touch(0o600)
    os.chown(path, 12345, 12346)
    AppendLog(path).append({"a": 1})
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12346)


@pytest.mark.parametrize(
    "use", [load_secret, read_server_url, StateLock, lambda f: AppendLog(f / "log").read_new()]
)
@pytest.mark.parametrize("put", [lambda file: file.symlink_to(file.parent.parent / "victim"), os.mkfifo])
def test_what_is_no_file_of_the_folder_is_not_opened(tmp_path, use, put):
    """Neither a link, which may lead to what only root can read, nor a pipe, which would be waited for."""
    folder, victim = tmp_path / "state", tmp_path / "victim"
    folder.mkdir()
    victim.write_text(GOOD, "utf-8")
    victim.chmod(0o600)
    for name in (SECRET_FILE, "server.json", "lock", "log"):
        put(folder / name)
    if use is read_server_url:
        victim.write_text(f'{{"url": "http://a", "pid": {os.getpid()}}}', "utf-8")
        assert use(folder) is None
        return
    with pytest.raises((StateError, OSError), match=r"link|no plain file"):
        use(folder)


@pytest.mark.parametrize(
    "torn", ['{"jti": "j2", "ex', '{"jti": "j2"}\n', '{"exp": "soon", "jti": 1}\n', "\x00\x00\n"]
)
def test_half_written_login_was_never_used_and_harms_no_other(tmp_path, torn):
    UsedLogins(tmp_path, NOW).use("j1", NOW + 120, NOW)
    with (tmp_path / USED_LOGINS_FILE).open("a") as file:
        file.write(torn)
    again = UsedLogins(tmp_path, NOW)
    assert not again.use("j1", NOW + 120, NOW)
    assert again.use("j2", NOW + 120, NOW)
    third = UsedLogins(tmp_path, NOW)
    assert not third.use("j1", NOW + 120, NOW)
    assert not third.use("j2", NOW + 120, NOW)


def test_no_acknowledged_login_is_forgotten_by_a_kill(tmp_path):
    code = (
        "import sys, pathlib; from amiga_ws.state import UsedLogins; "
        f"logins = UsedLogins(pathlib.Path(sys.argv[1]), {NOW}); first = int(sys.argv[2])\n"
        f"for n in range(first, first + 10_000): logins.use(f'j{{n}}', {NOW} + 120, {NOW}); print(n, flush=True)"
    )
    acknowledged = []
    for life in range(3):
        with child(code, tmp_path, life * 10_000) as one:
            acknowledged += [int(one.stdout.readline()) for _ in range(20 * (life + 1))]
            one.send_signal(signal.SIGKILL)
            acknowledged += [int(line) for line in one.stdout if line.endswith("\n")]
    again = UsedLogins(tmp_path, NOW)
    assert len(acknowledged) >= 120
    assert [n for n in acknowledged if again.use(f"j{n}", NOW + 120, NOW)] == []


def test_login_that_cannot_be_kept_is_not_used(tmp_path):
    logins = UsedLogins(tmp_path, NOW)
    (tmp_path / USED_LOGINS_FILE).unlink()
    (tmp_path / USED_LOGINS_FILE).mkdir()
    with pytest.raises(NotKeptError, match=r"directory; check the owner and rights"):
        logins.use("j1", NOW + 120, NOW)
    (tmp_path / USED_LOGINS_FILE).rmdir()
    assert logins.use("j1", NOW + 120, NOW)


# -- lock ----------------------------------------------------------------------------------------


def test_second_server_on_one_folder_is_refused_and_told_where_the_first_is(tmp_path):
    first = StateLock(tmp_path)
    with pytest.raises(StateError, match="another amiga_ws server"):
        StateLock(tmp_path)
    announce_server(tmp_path, "http://127.0.0.1:3001")
    with pytest.raises(StateError, match=r"http://127\.0\.0\.1:3001"):
        StateLock(tmp_path)
    first.release()
    StateLock(tmp_path).release()


def test_refused_lock_leaves_no_descriptor(tmp_path):
    first = StateLock(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        with pytest.raises(StateError):
            StateLock(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    first.release()


def test_killed_server_leaves_no_lock(tmp_path):
    code = (
        "import sys, pathlib; from amiga_ws.state import StateLock; lock = StateLock(pathlib.Path(sys.argv[1])); "
        "print('held', flush=True); sys.stdin.readline()"
    )
    with child(code, tmp_path) as server:
        assert server.stdout.readline() == "held\n"
        with pytest.raises(StateError):
            StateLock(tmp_path)
        server.kill()
    StateLock(tmp_path).release()


def test_lock_does_not_pass_on_to_children(tmp_path):
    lock = StateLock(tmp_path)
    with child("import sys; print('up', flush=True); sys.stdin.readline()", close_fds=False) as one:
        one.stdout.readline()
        lock.release()
        StateLock(tmp_path).release()
        one.communicate("\n", timeout=30)


def test_private_dir_that_exists_keeps_its_rights(tmp_path):
    tmp_path.chmod(0o755)
    make_private_dir(tmp_path)
    assert mode(tmp_path) == 0o755
