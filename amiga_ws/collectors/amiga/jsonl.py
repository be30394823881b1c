"""Follows a file of JSON lines that somebody else appends to."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from amiga_ws.collectors.amiga.files import open_descriptor

Line = TypeVar("Line")

CHUNK_BYTES = 1 << 20  # read at once
MAX_LINE_BYTES = 4 << 20  # a longer line is skipped: hook lines hold whole files


class Follower(Generic[Line]):
    """One file by inode and offset; a half-written last line is left for the next time.

    `load` makes something of a line, None if it is none.
    """

    __slots__ = ("_inode", "_load", "_offset", "_rest", "_skipping", "path")

    def __init__(self, path: Path | str, load: Callable[[bytes], Line | None], offset: int = 0) -> None:
        self.path = os.fspath(path)
        self._load = load
        self._inode: tuple[int, int] | None = None
        self._offset = offset
        self._rest = b""  # of a line whose end is still to come
        self._skipping = offset > 0  # until the next line begins: we may have begun inside one

    def read(self, limit: int = CHUNK_BYTES) -> tuple[list[Line], int, bool]:
        """(what came of the new whole lines, how many lines were none, whether there is more to read).

        Reads at most `limit` bytes. Raises OSError. A file that was replaced or cut is read from its start.
        """
        descriptor, found = open_descriptor(self.path)
        try:
            inode = (found.st_dev, found.st_ino)
            if (self._inode is not None and inode != self._inode) or found.st_size < self._offset:
                self._offset, self._rest, self._skipping = 0, b"", False
            self._inode = inode
            data = os.pread(descriptor, min(limit, found.st_size - self._offset), self._offset)
        finally:
            os.close(descriptor)
        self._offset += len(data)
        more = self._offset < found.st_size
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if self._skipping and lines:
            del lines[0]
            self._skipping = False
        if len(self._rest) > MAX_LINE_BYTES:
            self._rest, self._skipping = b"", True
        loaded = [self._load(line) for line in lines if line.strip()]
        objects = [value for value in loaded if value is not None]
        return objects, len(loaded) - len(objects), more


def load_object(line: bytes) -> dict[str, Any] | None:
    """An object of any shape."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
