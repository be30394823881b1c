"""How a log line looks: one line an event, nothing from outside unescaped, no token ever, no flood of one kind."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections import Counter
from collections.abc import Callable

from amiga_ws.ratelimit import BucketTable

# Three base64url parts: a JWT, wherever it came from. The signature's absence does not make it harmless.
# No character is looked at for two beginnings, or 16 KiB that are made for it take 0.16 s.
_JWT = re.compile(r"eyJ(?:(?!eyJ)[\w-]){8,}+\.[\w-]++(?:\.[\w-]*+)?")
# C0 but the line end (tracebacks), DEL, C1 and the Unicode line separators: a terminal would obey them.
_CONTROLS = {code: f"\\x{code:02x}" for code in [*range(10), *range(11, 32), *range(127, 160)]}
_CONTROLS |= {0x2028: "\\u2028", 0x2029: "\\u2029"}


def without_tokens(text: str) -> str:
    """The text with anything that could be a token taken out."""
    return _JWT.sub("[token]", text)


class LineFormatter(logging.Formatter):
    """`time LEVEL logger: message`; a traceback follows indented, so no outside text can fake a line."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record).translate(_CONTROLS)
        return _JWT.sub("[token]", text).replace("\n", "\n    ")


class Sparing(logging.Filter):
    """Of lines of one kind (logger and template) lets pass 20 at once and one each 5 s: a peer may cause as many as
    it likes. The next one that passes says how many were left out. Debug lines all pass."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._allowed = BucketTable(rate=0.2, burst=20, capacity=1000)
        self._left_out: Counter[tuple[str, str]] = Counter()  # there are as many kinds as places that log

    def filter(self, record: logging.LogRecord) -> bool:
        kind = (record.name, str(record.msg))
        if record.levelno <= logging.DEBUG:
            return True
        if self._allowed.take(kind, self._clock()):
            self._left_out[kind] += 1
            return False
        if left_out := self._left_out.pop(kind, 0):
            record.msg = f"{record.msg} (and {left_out} like it)"
        return True


def configure(level: str) -> None:
    """Send everything from `level` on to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    handler.addFilter(Sparing())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Tornado reports each malformed request and failed handshake at these; peers must not fill our log.
    logging.getLogger("tornado.general").setLevel(logging.ERROR)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
