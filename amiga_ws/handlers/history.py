"""`GET /api/metrics/timeseries`: what was, in at most 300 points a series."""

from __future__ import annotations

import asyncio
import gzip
from typing import Annotated

import msgspec
from msgspec import Meta
from tornado.web import HTTPError

from amiga_ws.handlers.compression import LEVEL
from amiga_ws.handlers.operations import answers
from amiga_ws.handlers.parameters import read
from amiga_ws.handlers.refusals import Problem, unavailable
from amiga_ws.handlers.rest import Api
from amiga_ws.history import SERIES, HistoryError
from amiga_ws.history.points import HOURS_RANGE, Answer
from amiga_ws.wire import DEFAULT_HOURS, encode

ANSWER_S = 5.0  # a year of everything takes a tenth of that
MOST_TEXT = 1000  # all names are 300 characters


class TimeseriesQuery(msgspec.Struct, frozen=True):
    """`series`: all when absent; `spans`: when tasks ran."""

    series: Annotated[
        tuple[Annotated[str, Meta(extra_json_schema={"enum": list(SERIES)})], ...],
        Meta(max_length=MOST_TEXT),
    ] = ()
    hours: Annotated[int, Meta(ge=HOURS_RANGE[0], le=HOURS_RANGE[1])] = DEFAULT_HOURS
    spans: bool = False


class Timeseries(Api):
    """`series`: names separated by commas, all when absent; `hours` 1-9600; `spans=1`: when tasks ran."""

    @answers(Answer, query=TimeseriesQuery, also={503: Problem})
    async def get(self) -> None:
        asked = read(self, TimeseriesQuery)
        names = list(dict.fromkeys(asked.series)) or list(SERIES)
        for name in names:
            if name not in SERIES:
                raise HTTPError(400, f"series {name[:40]!a} is not known; there are {', '.join(SERIES)}")
        try:
            answer = asyncio.wrap_future(self.services.history.read(names, asked.hours))
            found = await asyncio.wait_for(answer, ANSWER_S)
            if asked.spans:
                found["spans"] = await self.services.facts.find_spans(found["from"], found["to"])
        except (TimeoutError, HistoryError) as error:
            raise unavailable("the history does not answer") from error
        body, zipped = await asyncio.to_thread(_packed, found)
        self.reply_encoded(body, zipped)


def _packed(found: Answer) -> tuple[bytes, bytes]:
    """All series of a year are 400 KB: not on the loop."""
    body = encode(found)
    return body, gzip.compress(body, LEVEL, mtime=0)
