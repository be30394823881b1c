"""The newest facts of every collector; read by the broadcaster's tick and by REST.

Each collector runs in one daemon thread of its own. `refresh` asks them all and waits no longer than a
deadline: a late one keeps its last good facts, and says so in `sources`, until it answers.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from amiga_ws.collectors import Collector, TaskCollector
from amiga_ws.questions import (
    SessionDetail,
    SessionPage,
    SessionQuery,
    TaskDetail,
    TaskFilter,
    TaskPage,
    TaskQuery,
    TaskSpan,
)
from amiga_ws.snapshot import (
    AmigaFacts,
    HostFacts,
    Snapshot,
    Source,
    SourceState,
    Task,
    compose,
)

logger = logging.getLogger(__name__)

FactsT = TypeVar("FactsT", HostFacts, AmigaFacts)
Result = TypeVar("Result")

DEADLINE_S = 0.8  # of one refresh; the tick is 1 s
STALE_AFTER_S = 10.0  # without an answer
TOLD_EACH_S = 60.0  # how a source stands is logged no more often
SETTLED_S = 15.0  # and not before: a demonstration writes its files meanwhile, a boot mounts disks
# Collectors are asked at most once a second in all, but for a window that nobody has asked for lately: that one is
# made at once. Ticks jitter a little.
FRESH_S = 0.9
# How long a window that was asked for is read along with others: longer than anybody waits for his
# refresh, so that a read for somebody else cannot take his window away before he has composed it.
WANTED_S = 2.0
MAX_WANTED = 32  # windows read at once: 16 can be in use, and REST may ask for any of 168 one after the other


class _Worker:
    """One daemon thread that runs jobs in order. Daemon: a hung read must not hold up our exit."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"collector-{name}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def submit(self, work: Callable[[], Result]) -> asyncio.Future[Result]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()

        def settle(result: Result | None, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]  # None only beside an error, or as Result

        def job() -> None:
            result, failure = None, None
            if future.done():  # whoever asked has given up waiting
                return
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 - a collector's boundary: handed to who waits
                failure = error
            try:
                loop.call_soon_threadsafe(settle, result, failure)
            except RuntimeError:
                logger.debug("the loop ended before this answer")

        self._jobs.put(job)
        return future

    def stop(self, last: Callable[[], None], timeout_s: float) -> bool:
        self._jobs.put(last)
        self._jobs.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()


class Runner(Generic[FactsT]):
    """One collector, its thread and its last good facts."""

    def __init__(self, collector: Collector[FactsT], unknown: FactsT, *, windowed: bool) -> None:
        self._windowed = windowed  # whether its facts differ by window
        self.collector: Collector[FactsT] = collector
        self.facts: FactsT = unknown  # last good ones, with `sources` telling how they stand
        self._worker = _Worker(collector.name)
        self._running: asyncio.Future[FactsT] | None = None  # the read that has not answered yet
        self._asked: frozenset[int] = frozenset()  # windows of the running or last read
        self._asked_at = float("-inf")  # monotonic; when that read was started
        self._wanted: dict[int, float] = {}  # hours → monotonic; when last asked for
        self._good_at = time.monotonic()  # when the last good answer came
        self._failing = False  # an exception was logged and nothing good came since
        self._told: dict[str, tuple[SourceState, float]] = {}  # by source: its state in the log, monotonic
        self._quiet_until = self._good_at + SETTLED_S  # monotonic; for what is not yet well

    async def refresh(self, windows: frozenset[int], deadline_s: float) -> None:
        """Have facts that cover `windows` and are at most a second old, as far as the deadline allows."""
        ends = time.monotonic() + deadline_s
        while not self.covers(windows):
            if self._running is None:
                self._start()
            left = ends - time.monotonic()
            if left <= 0 or not await self._wait(left):
                self._note_late()
                return
            if self._failing:
                return

    def covers(self, windows: frozenset[int]) -> bool:
        """Whether there is nothing to wait for; if there is, these windows are read at the next occasion."""
        now = time.monotonic()
        if self._windowed:
            self._wanted.update(dict.fromkeys(windows, now))
        else:
            windows = frozenset()
        return self._running is None and windows <= self._asked and now - self._asked_at < FRESH_S

    def _start(self) -> None:
        now = time.monotonic()
        newest = sorted(self._wanted.items(), key=lambda item: item[1])[-MAX_WANTED:]
        self._wanted = {hours: at for hours, at in newest if now - at < WANTED_S}
        self._asked = windows = frozenset(self._wanted)
        self._asked_at = now
        self._running = self._worker.submit(lambda: self.collector.collect(windows))

    async def _wait(self, timeout_s: float) -> bool:
        running = self._running
        if running is None:
            return True
        done, _ = await asyncio.wait({running}, timeout=timeout_s)
        if not done:
            return False
        if self._running is running:  # not taken yet by another waiter
            self._running = None
            self._take(running)
        return True

    def _take(self, answered: asyncio.Future[FactsT]) -> None:
        error = answered.exception()
        if error is None:
            self.facts, self._good_at, self._failing = answered.result(), time.monotonic(), False
            self._tell_changes()
            return
        if not self._failing:
            logger.error("collector %s failed; its last good facts stay", self.collector.name, exc_info=error)
        self._failing = True
        self._mark("error", f"internal error ({type(error).__name__}); see the server's log")

    def _note_late(self) -> None:
        late_s = time.monotonic() - self._good_at
        if late_s > STALE_AFTER_S:
            # No clock reading in the text: it would make every tick of a hang a change for everybody.
            self._mark("stale", f"no answer for more than {STALE_AFTER_S:.0f} s")

    def _mark(self, state: SourceState, error: str) -> None:
        known = self.facts.sources
        marked = {
            name: msgspec.structs.replace(known.get(name, Source()), state=state, error=error)
            for name in self.collector.source_names
        }
        self.facts = msgspec.structs.replace(self.facts, sources=known | marked)
        self._tell_changes()

    def _tell_changes(self) -> None:
        """Log how sources stand where that has changed: who looks there alone must not think that all is well."""
        now = time.monotonic()
        for name, source in self.facts.sources.items():
            before, at = self._told.get(name, ("loading", float("-inf")))
            if source.state in (before, "loading") or now - at < TOLD_EACH_S:
                continue
            if source.state != "ok" and now < self._quiet_until:
                continue
            self._told[name] = source.state, now
            if source.path is None and not source.error:
                continue  # not asked for, or no file
            words = "; ".join(part for part in (source.error, source.hint) if part)
            if source.state == "ok":
                logger.info("source %s is read: %s", name, source.path)
            elif source.error:
                logger.warning("source %s cannot be read: %s", name, words)
            else:
                logger.info("source %s is %s: %s", name, source.state, words)

    async def call(self, work: Callable[[], Result], deadline_s: float = 2.0) -> Result:
        """Run `work` in the collector's thread. Raises TimeoutError, or what `work` raises."""
        async with asyncio.timeout(deadline_s):
            return await self._worker.submit(work)

    def stop(self, timeout_s: float) -> None:
        """Close the collector in its thread and end it; a hung one is left to die with the process."""
        if not self._worker.stop(self.collector.close, timeout_s):
            logger.warning("collector %s did not end in %.1f s", self.collector.name, timeout_s)


class Facts:
    """All collectors together."""

    def __init__(self, instance: str, host: Collector[HostFacts], amiga: TaskCollector) -> None:
        self.instance = instance
        unknown = HostFacts(sources={name: Source() for name in host.source_names})
        self.host = Runner(host, unknown, windowed=False)
        self._tasks = amiga
        self.history_source: Callable[[], Source] | None = None  # set where there is a history
        self.amiga = Runner(
            amiga, AmigaFacts(sources={name: Source() for name in amiga.source_names}), windowed=True
        )

    async def refresh(self, windows: frozenset[int], deadline_s: float = DEADLINE_S) -> None:
        """Ask every collector at once; a broken or late one takes nothing from the others."""
        runners: tuple[Runner[Any], ...] = (self.host, self.amiga)
        # Mostly, after a restart and with many windows, somebody has just asked: no task is made for that.
        if old := [runner for runner in runners if not runner.covers(windows)]:
            await asyncio.gather(*(runner.refresh(windows, deadline_s) for runner in old))

    def loading(self) -> bool:
        """Whether a source is still being read for the first time, slice by slice: a slice at each `refresh`."""
        return any(
            source.state == "loading"
            for facts in (self.host.facts, self.amiga.facts)
            for source in facts.sources.values()
        )

    def snapshot(self, hours: int) -> Snapshot:
        """Compose from what is known now; `refresh` it with that window before."""
        snapshot = compose(hours, self.instance, self.host.facts, self.amiga.facts)
        if self.history_source is None:
            return snapshot
        sources = snapshot.sources | {"history": self.history_source()}
        return msgspec.structs.replace(snapshot, sources=sources)

    async def current(self, in_use: frozenset[int], hours: int) -> Snapshot:
        """The snapshot of a window as of now, read anew where what is known is a second old.

        `in_use`: the windows others wait for, so that one reading serves all.
        """
        await self.refresh(in_use | {hours})
        return self.snapshot(hours)

    async def find_tasks(self, query: TaskQuery) -> TaskPage:
        """List tasks. Raises TimeoutError while the database does not answer."""
        return await self.amiga.call(lambda: self._tasks.find_tasks(query))

    async def all_tasks(self, wanted: TaskFilter) -> list[Task]:
        """All tasks that match. Raises TimeoutError while the database does not answer."""
        return await self.amiga.call(lambda: self._tasks.all_tasks(wanted))

    async def find_sessions(self, query: SessionQuery) -> SessionPage:
        """List sessions. Raises TimeoutError while the database does not answer."""
        return await self.amiga.call(lambda: self._tasks.find_sessions(query))

    async def task_detail(self, task_id: str) -> TaskDetail | None:
        """One task with its calls, None if there is none. Raises TimeoutError while the database does not answer."""
        return await self.amiga.call(lambda: self._tasks.task_detail(task_id))

    async def session_detail(self, session_id: str) -> SessionDetail | None:
        """One session with its calls, as `task_detail`."""
        return await self.amiga.call(lambda: self._tasks.session_detail(session_id))

    async def find_minutes(self, first: int, last: int) -> dict[str, dict[int, float]]:
        """What happened minute by minute. Raises TimeoutError while the database does not answer."""
        return await self.amiga.call(lambda: self._tasks.minutes(first, last))

    async def find_spans(self, since: float, until: float) -> list[TaskSpan]:
        """When tasks ran. Raises TimeoutError while the database does not answer."""
        return await self.amiga.call(lambda: self._tasks.spans(since, until))

    def stop(self, timeout_s: float = 1.0) -> None:
        """End all collectors."""
        runners: tuple[Runner[Any], ...] = (self.host, self.amiga)
        for runner in runners:
            runner.stop(timeout_s)
