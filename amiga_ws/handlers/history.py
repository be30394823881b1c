"""`GET /api/metrics/timeseries`: what was, in at most 300 points a series."""

from __future__ import annotations

import asyncio
import gzip
import math
from typing import Any

from tornado.web import HTTPError

from amiga_ws.handlers.compression import LEVEL, finish_compressed
from amiga_ws.handlers.parameters import flag, number, text
from amiga_ws.handlers.refusals import unavailable
from amiga_ws.handlers.rest import JSON_TYPE, Api
from amiga_ws.history import SERIES, HistoryError
from amiga_ws.history.points import HOURS_RANGE
from amiga_ws.wire import DEFAULT_HOURS, encode

ANSWER_S = 5.0  # a year of everything takes a tenth of that
MOST_TEXT = 1000  # all names are 300 characters


class Timeseries(Api):
    """`series`: names separated by commas, all when absent; `hours` 1-9600; `spans=1`: when tasks ran."""

    async def get(self) -> None:
        names, hours, with_spans = self._names(), self._hours(), flag(self, "spans")
        try:
            answer = asyncio.wrap_future(self.services.history.read(names, hours))
            found = await asyncio.wait_for(answer, ANSWER_S)
            if with_spans:
                found["spans"] = await self.services.facts.find_spans(found["from"], found["to"])
        except (TimeoutError, HistoryError) as error:
            raise unavailable("the history does not answer") from error
        body, zipped = await asyncio.to_thread(_packed, found)
        self.set_header("Content-Type", JSON_TYPE)
        finish_compressed(self, body, zipped)

    def _names(self) -> list[str]:
        given = [name for name in text(self, "series", MOST_TEXT).split(",") if name]
        for name in given:
            if name not in SERIES:
                raise HTTPError(400, f"series {name[:40]!a} is not known; there are {', '.join(SERIES)}")
        return list(dict.fromkeys(given)) or list(SERIES)

    def _hours(self) -> int:
        hours = number(self, "hours", DEFAULT_HOURS)
        if hours != math.floor(hours):
            raise HTTPError(400, "hours is a whole number")
        return min(max(int(hours), HOURS_RANGE[0]), HOURS_RANGE[1])


def _packed(found: dict[str, Any]) -> tuple[bytes, bytes]:
    """All series of a year are 400 KB: not on the loop."""
    body = encode(found)
    return body, gzip.compress(body, LEVEL, mtime=0)
