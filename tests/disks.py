"""A disk of 1 MiB that a test can fill."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager

import pytest


@contextmanager
def small_disk(folder):
    """`folder` as a disk of its own; the test is skipped where that cannot be had."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk needs root")
    folder.mkdir()
    command = [shutil.which("mount"), "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - ours
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        # Lazily: who failed to close a file is told by another test.
        subprocess.run([shutil.which("umount"), "--lazy", str(folder)], check=True)  # noqa: S603 - ours


@contextmanager
def read_only(disk):
    """`small_disk` while it cannot be written, as a kernel makes one that has failed."""
    mount = shutil.which("mount")
    # A second mount over it: the first one cannot be made read-only while a server has its lock open.
    subprocess.run([mount, "--bind", str(disk), str(disk)], check=True)  # noqa: S603 - ours
    try:
        subprocess.run([mount, "-o", "remount,ro,bind", str(disk)], check=True)  # noqa: S603 - ours
        yield
    finally:
        subprocess.run([shutil.which("umount"), "--lazy", str(disk)], check=True)  # noqa: S603 - ours


def fill(folder, leave=0):
    """Write until only `leave` bytes are free; the file that does it."""
    ballast = folder / "ballast"
    space = os.statvfs(folder)
    ballast.write_bytes(b"x" * max(0, space.f_bavail * space.f_frsize - leave))
    return ballast
