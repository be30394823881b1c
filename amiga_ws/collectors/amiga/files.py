"""Opening what lies in folders that others write to: regular files alone, and without waiting.

Where a file is expected somebody may have put a FIFO, a device or a link to either: to open one can take for
ever, and to read one as well.
"""

from __future__ import annotations

import errno
import os
import stat
from io import FileIO


def open_regular(path: str | os.PathLike[str]) -> FileIO:
    """The file, unbuffered, for reading. Raises OSError: also for what is no regular file."""
    descriptor, _ = open_descriptor(path)
    try:
        return FileIO(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def open_descriptor(path: str | os.PathLike[str]) -> tuple[int, os.stat_result]:
    """As open_regular, without a file object: a descriptor, which the caller closes, and what the file is like."""
    # Without O_NONBLOCK a FIFO is open when somebody writes to it, and not before.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        require_regular(found, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, found


def require_regular(found: os.stat_result, path: str | os.PathLike[str]) -> None:
    """Raises OSError for what is no regular file."""
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))


def read_regular(path: str | os.PathLike[str], limit: int) -> bytes:
    """All of a file of at most `limit` bytes. Raises OSError: also for a longer one.

    The limit is no matter of its size: what /proc has says 0, and some of it has no end.
    """
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), os.fspath(path))
    return content
