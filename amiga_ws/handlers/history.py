"""`GET /api/metrics/timeseries`: what was, in at most 300 points a series; or as a file."""

from __future__ import annotations

import asyncio
import gzip
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from tornado.web import HTTPError

from amiga_ws.handlers.compression import LEVEL, finish_compressed
from amiga_ws.handlers.guard import JSON_TYPE
from amiga_ws.handlers.lists import CSV_TYPE
from amiga_ws.handlers.operations import JSON, answers
from amiga_ws.handlers.parameters import read
from amiga_ws.handlers.refusals import Problem, unavailable
from amiga_ws.handlers.rest import Api
from amiga_ws.handlers.tables import csv_table
from amiga_ws.history import SERIES, HistoryError
from amiga_ws.history.points import HOUR_S, HOURS_RANGE, Answer
from amiga_ws.wire import DEFAULT_HOURS, encode

ANSWER_S = 5.0  # a year of everything takes a tenth of that
MOST_TEXT = 1000  # all names are 450 characters
LATEST = 1 << 33  # epoch; the year 2242


class TimeseriesQuery(msgspec.Struct, frozen=True, rename={"since": "from", "until": "to"}):
    """`series`: all when absent; `spans`: when tasks ran. With `from`, `hours` is not looked at."""

    series: Annotated[
        tuple[Annotated[str, Meta(extra_json_schema={"enum": list(SERIES)})], ...],
        Meta(max_length=MOST_TEXT),
    ] = ()
    hours: Annotated[int, Meta(ge=HOURS_RANGE[0], le=HOURS_RANGE[1])] = DEFAULT_HOURS
    since: Annotated[float, Meta(ge=0, le=LATEST, description="epoch; 0: the last `hours`")] = 0
    until: Annotated[float, Meta(ge=0, le=LATEST, description="epoch; 0: now")] = 0
    spans: bool = False
    format: Annotated[Literal["", "json", "csv"], Meta(description="a file; empty: none")] = ""


class Timeseries(Api):
    """`series`: names separated by commas, all when absent; `hours` 1-9600, or `from` and `to`; `spans=1`:
    when tasks ran; `format`: as a file.
    """

    @answers(Answer, query=TimeseriesQuery, also={503: Problem}, media=(JSON, "text/csv"))
    async def get(self) -> None:
        asked = read(self, TimeseriesQuery)
        names = list(dict.fromkeys(asked.series)) or list(SERIES)
        for name in names:
            if name not in SERIES:
                raise HTTPError(400, f"series {name[:40]!a} is not known; there are {', '.join(SERIES)}")
        between = self._between(asked)
        try:
            answer = asyncio.wrap_future(self.services.history.read(names, asked.hours, between))
            found = await asyncio.wait_for(answer, ANSWER_S)
            if asked.spans:
                found["spans"] = await self.services.facts.find_spans(found["from"], found["to"])
        except (TimeoutError, HistoryError) as error:
            raise unavailable("the history does not answer") from error
        body, zipped = await asyncio.to_thread(_packed, found, asked.format)
        if asked.format:
            now = datetime.fromtimestamp(self.services.clock.wall(), UTC)
            name = f"amiga-history-{now:%Y%m%dT%H%M%SZ}.{asked.format}"
            self.set_header("Content-Disposition", f'attachment; filename="{name}"')
        self.set_header("Content-Type", CSV_TYPE if asked.format == "csv" else JSON_TYPE)
        finish_compressed(self, body, zipped)

    def _between(self, asked: TimeseriesQuery) -> tuple[float, float] | None:
        """Clamped to what can have been kept and to now; None where the last `hours` are asked for."""
        if not asked.since:
            return None
        now = self.services.clock.wall()
        start = max(asked.since, now - HOURS_RANGE[1] * HOUR_S)
        end = min(asked.until or now, now)
        if start >= end:
            raise HTTPError(400, "from lies before to, and before now")
        return start, end


def _packed(found: Answer, form: str) -> tuple[bytes, bytes]:
    """All series of a year are 400 KB: not on the loop."""
    body = _table(found) if form == "csv" else encode(found)
    return body, gzip.compress(body, LEVEL, mtime=0)


def _table(found: Answer) -> bytes:
    """A row for each time, three columns for each series; what comes by minute stands in its minute's row."""
    names = found["series"].keys()
    rows: dict[int, list[Any]] = {}
    for index, series in enumerate(found["series"].values()):
        for at, time in enumerate(series["t"]):
            row = rows.setdefault(time, [time, *[None] * (3 * len(names))])
            row[1 + 3 * index : 4 + 3 * index] = (series["avg"][at], series["min"][at], series["max"][at])
    header = [f"{name} {part}" for name in names for part in ("avg", "min", "max")]
    return csv_table(["time", *header], [rows[time] for time in sorted(rows)])
