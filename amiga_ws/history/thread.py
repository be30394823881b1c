"""The keeper's thread. What the loop calls here returns at once; the disk may take as long as it likes."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from amiga_ws.history.keeper import HistoryError, Keeper, Minutes
from amiga_ws.history.points import Answer
from amiga_ws.snapshot import Source

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

FLUSH_S = 8.0  # kill -9 costs what came since the last flush: less than the 10 s promised
MOST_WAITING = 2000  # an hour's readings, should the disk hang


class BusyError(HistoryError):
    """The disk has not answered for so long that nothing more is queued."""


class History:
    """Starts at once: the file is opened in the thread. `path` None keeps everything in memory."""

    def __init__(self, path: Path | None, most_mb: int, wall: Callable[[], float] = time.time) -> None:
        self._keeper = Keeper(path, most_mb)
        self._wall = wall
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(MOST_WAITING)
        self._flushed = float("-inf")  # monotonic
        # Daemon: a hung disk must not hold up our exit.
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)
        self._thread.start()

    @property
    def source(self) -> Source:
        """How history stands, for `sources.history`."""
        return self._keeper.source

    def note(self, values: Mapping[str, float]) -> None:
        """Take in one reading of now."""
        now = self._wall()
        try:
            self._jobs.put_nowait(lambda: self._keeper.note(now, values))
        except queue.Full:
            logger.debug("history: a reading is lost, the disk does not answer")

    def put_minutes(self, minutes: Minutes) -> Future[bool]:
        """Whole minutes; whether they were written. Raises BusyError."""
        return self._submit(lambda: self._keeper.put_minutes(minutes))

    def read(
        self, names: list[str], hours: int, between: tuple[float, float] | None = None
    ) -> Future[Answer]:
        """See Keeper.read; the future raises HistoryError. Raises BusyError."""
        return self._submit(lambda: self._keeper.read(names, hours, self._wall(), between))

    def stop(self, timeout_s: float) -> None:
        """Write what is left and end; a hung disk is left behind."""
        try:
            self._jobs.put(None, timeout=timeout_s)
        except queue.Full:
            logger.warning("history did not end: the disk does not answer")
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            logger.warning("history did not end in %.1f s", timeout_s)

    def _submit(self, work: Callable[[], Result]) -> Future[Result]:
        future: Future[Result] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(work())
            except Exception as error:  # noqa: BLE001 - handed to who waits
                future.set_exception(error)

        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise BusyError from None
        return future

    def _run(self) -> None:
        self._do(lambda: self._keeper.open(self._wall()))
        while True:
            left = self._flushed + FLUSH_S - time.monotonic()
            if left <= 0:
                self._do(lambda: self._keeper.flush(self._wall()))
                self._flushed = time.monotonic()
                continue
            try:
                job = self._jobs.get(timeout=left)
            except queue.Empty:
                continue
            if job is None:
                break
            self._do(job)
        self._do(lambda: self._keeper.close(self._wall()))

    @staticmethod
    def _do(work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:  # the thread's boundary: a bug costs one job, not all history to come
            logger.exception("history: a step failed")
