"""What a user without any write right sees of AMIGA's files: real files, a real server, another uid.

The rights are those of docs/operations.md: AMIGA's files belong to AMIGA's user and group, the server's user
is in that group and may read, nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import pytest
from installation import Installation
from processes import CHECKOUT, Running, clean_environment, completed

from amiga_ws import state
from amiga_ws.auth.tokens import Authority
from amiga_ws.config import load

AMIGA, AMIGAS_GROUP, OURS = 65530, 65531, 65532
ENVIRONMENT = clean_environment(PYTHONPATH=os.pathsep.join(map(str, (CHECKOUT, *sys.path))))
AS_US = ["setpriv", f"--reuid={OURS}", f"--regid={OURS}", f"--groups={AMIGAS_GROUP}"]


@pytest.fixture
def folder():
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv (util-linux) is not installed")
    made = Path(tempfile.mkdtemp(prefix="amiga_ws-rights-"))
    made.chmod(0o755)
    if completed([*AS_US, sys.executable, "-c", "import amiga_ws"], env=ENVIRONMENT, cwd=made).returncode:
        pytest.skip("another user cannot read this Python or this checkout")
    (made / "state").mkdir(mode=0o700)
    os.chown(made / "state", OURS, OURS)
    yield made
    shutil.rmtree(made)


def give_to_amiga(root, *, group_may_read=True):
    """Files 0640, folders 0750 (or nothing at all for the group), as AMIGA's user has them with UMask=0027."""
    for path in (root, *root.rglob("*")):
        os.chown(path, AMIGA, AMIGAS_GROUP)
        mode = 0o750 if path.is_dir() else 0o640
        path.chmod(mode if group_may_read else mode & 0o700)


def listing(root):
    """What must be as before: names, sizes, times of change."""
    return {
        str(path.relative_to(root)): (path.stat().st_size, path.stat().st_mtime_ns, path.stat().st_ino)
        for path in root.rglob("*")
    }


def snapshot_of(folder):
    """The snapshot that a server of our user sends, once it has read."""
    given = [f"state_dir={folder / 'state'}", f"amiga.root={folder / 'amiga'}", "server.port=0"]
    options = [word for each in given for word in ("--set", each)]
    command = [*AS_US, sys.executable, "-m", "amiga_ws", "serve", *options]
    with Running(command, folder, folder / "stderr", env=ENVIRONMENT) as server:
        settings = load(None, [given[0]], {}, folder)
        authority = Authority(state.load_secret(settings.state_dir), settings.auth)
        token = authority.issue(subject="ada", scope="metrics:read", ttl_s=600, now=time.time())
        deadline = time.monotonic() + 20
        while True:
            status, _, body = server.request(
                "GET", "/api/metrics/overview", {"Authorization": f"Bearer {token}"}
            )
            assert status == 200
            found = json.loads(body)
            if found["sources"]["amiga"]["state"] != "loading":
                assert "Traceback" not in server.stderr()
                return found
            assert time.monotonic() < deadline, "never loaded"
            time.sleep(0.05)


@pytest.mark.parametrize(
    "left", ["nothing", "a live writer's -wal and -shm", "a killed one's", "a -wal alone"]
)
def test_a_reader_without_write_rights_sees_all_and_leaves_nothing(folder, left):
    amiga = Installation(folder / "amiga")
    for number in range(3):
        amiga.task(f"{number:06x}", "completed", time.time() - 60)
    amiga.tool("000001", "Read", time.time() - 50, success=1)
    amiga.hook("000001", "Read", time.time() - 50)
    try:
        if left == "nothing":
            amiga.close()
        elif left != "a live writer's -wal and -shm":
            amiga.crash(keep_shm=left == "a killed one's")
        names = {f"agentlab.db{suffix}" for suffix in ("", "-wal", "-shm")}
        assert amiga.files() == names - {
            "nothing": {"agentlab.db-wal", "agentlab.db-shm"},
            "a -wal alone": {"agentlab.db-shm"},
        }.get(left, set())
        give_to_amiga(amiga.root)
        before = listing(amiga.root)
        found = snapshot_of(folder)
        assert found["sources"]["amiga"]["state"] == "ok", found["sources"]["amiga"]
        assert found["sources"]["hooks"]["state"] == "ok", found["sources"]["hooks"]
        assert found["overview"]["tasks"]["completed"] == 3
        assert found["overview"]["tools"]["total_calls"] == 1
        assert listing(amiga.root) == before
        copies = [path for path in (folder / "state").rglob("*") if path.name.endswith("-wal")]
        assert all(path.stat().st_uid == OURS for path in copies)
    finally:
        amiga.db.close()


PRIVATE = {
    "a file": (lambda private, _: private.write_text("in the way"), "it is no folder"),
    "a link": (lambda private, folder: private.symlink_to(folder), "it is no folder"),
    "another's": (lambda private, _: private.mkdir(mode=0o755), "Permission denied"),
}


@pytest.mark.parametrize("private", PRIVATE)
def test_a_folder_for_the_copy_that_cannot_be_used_is_told_with_what_to_do(folder, private):
    make, cause = PRIVATE[private]
    amiga = Installation(folder / "amiga")
    amiga.task("aaaaaa", "completed", time.time() - 60)
    amiga.crash(keep_shm=False)
    give_to_amiga(amiga.root)
    make(folder / "state/private", folder)
    source = snapshot_of(folder)["sources"]["amiga"]
    assert (source["state"], source["as_of"]) == ("error", None)
    assert source["error"].endswith(f"no copy can be made in {folder}/state/private: {cause}")
    assert "private/ in state_dir must be a folder of this server's user" in source["hint"]


def test_files_that_cannot_be_read_are_told_with_what_to_do(folder):
    amiga = Installation(folder / "amiga")
    amiga.close()
    give_to_amiga(amiga.root, group_may_read=False)
    source = snapshot_of(folder)["sources"]["amiga"]
    assert source["state"] in ("missing", "error")
    assert "Permission denied" in source["error"]
    assert "docs/operations.md" in source["hint"]


def test_a_database_that_cannot_be_read_is_told_so_by_the_report_too(folder):
    amiga = Installation(folder / "amiga")
    amiga.close()
    give_to_amiga(amiga.root)
    amiga.database.chmod(0o600)
    check = [*AS_US, sys.executable, "-m", "amiga_ws", "check", "--amiga", amiga.root]
    done = completed(check, cwd=folder, env=ENVIRONMENT)
    assert done.returncode == 1, done.stderr
    assert f"Permission denied: {amiga.database}" in done.stdout
    assert "docs/operations.md, Rights" in done.stdout


def test_an_acl_lets_in_as_the_group_does_but_not_to_files_that_are_made_for_their_owner_alone(folder):
    """What docs/operations.md says of Claude Code's transcripts: a default ACL is cut by a file's own mode."""
    if shutil.which("setfacl") is None:
        pytest.skip("setfacl (acl) is not installed")
    projects = folder / "projects"
    projects.mkdir(mode=0o700)
    grant = ["setfacl", "-R", "-m", f"u:{OURS}:rX", "-m", f"d:u:{OURS}:rX", str(projects)]
    if completed(grant).returncode:
        pytest.skip("this file system keeps no ACLs")
    for name, mode in (("shared", 0o644), ("alone", 0o600)):
        os.close(os.open(projects / name, os.O_CREAT | os.O_WRONLY, mode))
    cat = ["setpriv", f"--reuid={OURS}", f"--regid={OURS}", "--clear-groups", "cat"]
    assert completed([*cat, projects / "shared"]).returncode == 0
    assert completed([*cat, projects / "alone"]).returncode == 1


@pytest.mark.parametrize("left", ["nothing", "a live writer's", "a -wal alone"])
def test_amigas_own_user_reads_all_through_a_read_only_mount(folder, left):
    """What deploy/as-amiga.conf makes of the unit: the owner, to whom the files are read-only even so."""
    amiga = Installation(folder / "amiga")
    amiga.task("aaaaaa", "completed", time.time() - 60)
    if left == "nothing":
        amiga.close()
    elif left == "a -wal alone":
        amiga.crash(keep_shm=False)
    give_to_amiga(amiga.root)
    before = listing(amiga.root)
    mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    read_only = ["unshare", "--mount", "sh", "-c", mount, str(amiga.root)]
    as_amiga = ["setpriv", f"--reuid={AMIGA}", f"--regid={AMIGAS_GROUP}", "--clear-groups"]
    if completed([*read_only, "true"]).returncode:
        pytest.skip("no mounts can be made here")
    assert completed([*read_only, *as_amiga, "touch", amiga.root / "data/x"]).returncode != 0
    check = [sys.executable, "-m", "amiga_ws", "check", "--amiga", amiga.root]
    done = completed([*read_only, *as_amiga, *check], cwd=folder, env=ENVIRONMENT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tasks: 1 rows" in done.stdout
    assert listing(amiga.root) == before
    amiga.db.close()
