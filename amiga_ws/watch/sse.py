"""Reading an event stream (WHATWG HTML, 9.2): bytes in, events out. Pure."""

from __future__ import annotations

from collections.abc import Iterator

UNNAMED = "message"
MAX_LINE_BYTES = 16 * 1024 * 1024  # a peer that never ends its line must not fill our memory


class EventParser:
    """Takes bytes as they arrive and yields whole events. `retry_ms` is the last one the stream has told.

    Lines end in LF or CRLF; a CR alone, which the format allows, is written by nobody we know.
    """

    def __init__(self) -> None:
        self.retry_ms: int | None = None
        self._rest = bytearray()
        self._name = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[tuple[str, str]]:
        """(name, data) of each event that `chunk` completes; the unnamed one is `UNNAMED`.

        Raises:
            ValueError: a line beyond `MAX_LINE_BYTES`.
        """
        self._rest += chunk
        *lines, rest = self._rest.split(b"\n")
        self._rest = rest
        if len(rest) > MAX_LINE_BYTES:
            raise ValueError("a line of the event stream is too long")
        for line in lines:
            yield from self._line(line.removesuffix(b"\r").decode("utf-8", "replace"))

    def _line(self, line: str) -> Iterator[tuple[str, str]]:
        if not line:
            if self._data:
                yield self._name or UNNAMED, "\n".join(self._data)
            self._name, self._data = "", []
            return
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value
        elif field == "retry" and value.isascii() and value.isdigit():
            self.retry_ms = int(value[:9])
