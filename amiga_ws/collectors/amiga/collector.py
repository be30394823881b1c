"""AmigaCollector: one reading of an AMIGA installation, from its files and its processes."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable

import msgspec

from amiga_ws.collectors.amiga import detail, listing, minutes, view
from amiga_ws.collectors.amiga.attention import Surroundings, attention, of_rows
from amiga_ws.collectors.amiga.database import Database, DatabaseError, DatabaseMissingError
from amiga_ws.collectors.amiga.hooks import HookLogs
from amiga_ws.collectors.amiga.model import Model
from amiga_ws.collectors.amiga.options import AmigaConfig
from amiga_ws.collectors.amiga.processes import Processes
from amiga_ws.collectors.amiga.redact import one_line
from amiga_ws.collectors.amiga.times import Times, zone_named
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
    AmigaProcess,
    AmigaWindow,
    Attention,
    Source,
    SourceState,
    Task,
    TaskProcess,
    shown_path,
)

logger = logging.getLogger(__name__)

PROCESSES_EVERY_S = 2.0


class AmigaCollector:
    """Reads AMIGA's database, hook logs and processes; writes nothing near them.

    Raises zoneinfo.ZoneInfoNotFoundError if `config.timezone` names none.
    """

    name = "amiga"
    source_names: tuple[str, ...] = ("amiga", "hooks", "transcripts")

    def __init__(self, config: AmigaConfig, clock: Callable[[], float] = time.time) -> None:
        self._config = config
        self._clock = clock
        self._times = Times(zone_named(config.timezone))
        self._database = Database(config.database, config.private_dir)
        self._hooks = HookLogs(config.sessions, self._times)
        self._processes = Processes(config.root)
        self._around = Surroundings(config.root, config.database)
        self._model: Model | None = None
        self._generation = 0  # of the database that the model was read from
        self._replaced_at: float | None = None
        self._source = Source()
        self._looked = float("-inf")  # when the file was last seen as it is
        self._server: AmigaProcess | None = None
        self._task_processes: list[TaskProcess] = []
        self._processes_read = float("-inf")  # by the given clock
        self._windows: dict[int, tuple[tuple[int, int], AmigaWindow]] = {}  # by hours: what it was made of
        self._noticed: dict[tuple[str, str], float] = {}  # see attention()
        self._of_rows: list[Attention] = []  # items of the last time the rows could be read
        self._lists: tuple[object, AmigaFacts] | None = None  # the parts that no window changes

    def collect(self, windows: frozenset[int]) -> AmigaFacts:
        """Read what is new. See the Collector protocol."""
        now = self._clock()
        hooks_moved = self._hooks.poll(now)
        self._update(now)
        sources = {
            "amiga": self._source,
            "hooks": self._hooks_source(now),
            "transcripts": self._transcripts(now),
        }
        self._read_processes(now)
        server = self._server
        model = self._model
        if model is None:
            self._hooks.moved.clear()  # a model to come begins with all that there is
            self._hooks.written.clear()
        if model is None or not model.loaded:
            return AmigaFacts(sources=sources, amiga_process=server)
        if hooks_moved:
            model.revision += 1
        model.poll_files(now)
        model.settle(now)
        self._around.look(now)
        if self._lists is None or self._lists[0] != (id(model), model.revision):
            facts = AmigaFacts(
                sources={},
                totals=view.totals(model),
                tasks=view.tasks(model),
                activity=view.activity(model),
            )
            self._lists = ((id(model), model.revision), facts)
        lists = self._lists[1]
        if self._source.state == "ok":
            # Of rows that cannot be read nobody knows whether they stand still.
            self._of_rows = of_rows(model, now, server, self._noticed)
        return AmigaFacts(
            sources=sources,
            totals=lists.totals,
            tasks=lists.tasks,
            activity=lists.activity,
            attention=attention(
                self._of_rows, now, self._processes, server, self._around, self._replaced_at, self._noticed
            ),
            amiga_process=server,
            task_processes=[
                msgspec.structs.replace(one, task_id=view.shown_id(one.task_id))
                for one in self._task_processes
            ],
            windows={hours: self._window(model, now, hours) for hours in windows},
        )

    def find_tasks(self, query: TaskQuery) -> TaskPage:
        """One page of tasks. See the TaskCollector protocol."""
        model = self._loaded()
        if model is None:
            return TaskPage(tasks=[], total=0, page=query.page, page_size=query.page_size)
        return listing.page_of(model, query, self._clock())

    def all_tasks(self, wanted: TaskFilter) -> list[Task]:
        """All tasks that match. See the TaskCollector protocol."""
        model = self._loaded()
        return [] if model is None else listing.matching(model, wanted, self._clock())[: listing.MAX_TASKS]

    def find_sessions(self, query: SessionQuery) -> SessionPage:
        """One page of sessions. See the TaskCollector protocol."""
        model = self._loaded()
        if model is None:
            return SessionPage(sessions=[], total=0, page=query.page, page_size=query.page_size)
        return listing.sessions(model, query, self._clock())

    def task_detail(self, task_id: str) -> TaskDetail | None:
        """One task in full. See the TaskCollector protocol."""
        model, now = self._loaded(), self._clock()
        record = None if model is None else model.tasks.by_id.get(task_id)
        if model is None or record is None:
            return None
        return detail.task_detail(model, self._database, record, now, hide=self._config.hide_parameters)

    def session_detail(self, session_id: str) -> SessionDetail | None:
        """One session in full. See the TaskCollector protocol."""
        model, now = self._loaded(), self._clock()
        if model is None:
            return None
        owner, log = model.calls.owners.get(session_id), model.hooks.sessions.get(session_id)
        if owner is not None:
            session = view.session(model, owner, now)
        elif log is not None and log.last is not None:
            session = view.hook_session(model, log, log.last, now)
        else:
            return None
        return detail.session_detail(
            model, self._database, session, session_id, now, hide=self._config.hide_parameters
        )

    def minutes(self, first: int, last: int) -> dict[str, dict[int, float]]:
        """What happened in each minute. See the TaskCollector protocol."""
        model = self._loaded()
        return {} if model is None else minutes.minutes(model, first, last)

    def spans(self, since: float, until: float) -> list[TaskSpan]:
        """When tasks ran. See the TaskCollector protocol."""
        model = self._loaded()
        return [] if model is None else minutes.spans(model, since, until, self._clock())

    def close(self) -> None:
        """Release the database."""
        self._database.close()

    # -- within --------------------------------------------------------------------------------

    def _loaded(self) -> Model | None:
        model = self._model
        return None if model is None or not model.loaded else model

    def _update(self, now: float) -> None:
        path = shown_path(self._config.database)
        try:
            changed = self._database.changed()
            model = self._current_model(now)
            if changed:
                model.tail.note_change()
            if changed or not model.loaded or not model.settled:
                model.tail.since = self._looked if model.loaded else float("-inf")
                self._read(model, now)
            self._looked = now
            state: SourceState = "ok" if self._model is not None and self._model.loaded else "loading"
            self._source = Source(state=state, as_of=now, path=path)
        except DatabaseMissingError:
            self._database.forget()
            self._model = None
            self._source = Source(
                state="missing",
                path=path,
                error="no AMIGA database at this path",
                hint=(
                    f"looked at {path}; set `amiga.root: /path/to/amiga` in config.yaml "
                    "(or --set amiga.root=/path/to/amiga) and start again, or try `serve --demo`"
                ),
            )
        except DatabaseError as error:
            # The last good numbers stay; their age and the reason are told.
            self._database.forget()
            self._source = Source(
                state="error",
                as_of=self._source.as_of,
                path=path,
                error=one_line(f"AMIGA's database {error}", 300),
                hint=error.hint,
            )

    def _current_model(self, now: float) -> Model:
        generation = self._database.generation
        if self._model is None or generation != self._generation:
            if self._model is not None:
                self._replaced_at = now
            self._model = Model(self._config, self._times, self._hooks)
            self._generation = generation
            self._windows.clear()
        return self._model

    def _read(self, model: Model, now: float) -> None:
        loading = not model.loaded
        if loading:
            # A slice makes a million objects, none of them garbage: looking for cycles among them, again and
            # again, takes a sixth of the time.
            gc.disable()
        try:
            self._database.open()
            if not model.read(self._database, now):
                logger.info("AMIGA's database no longer has the rows it had; reading it anew")
                self._replaced_at = now
                self._model = model = Model(self._config, self._times, self._hooks)
                self._windows.clear()
                model.read(self._database, now)
            if loading:
                # What was loaded stays: the collector need not look at it at each full round, which would stop the
                # whole server for a tenth of a second.
                gc.freeze()
        finally:
            if loading:
                gc.enable()
            self._database.close()

    def _read_processes(self, now: float) -> None:
        """AMIGA's server and the processes of running tasks; a reading costs 0.1 ms each."""
        if 0 <= now - self._processes_read < PROCESSES_EVERY_S:
            return
        self._processes_read = now
        self._server = self._processes.server()
        model = self._model
        if model is None or not model.loaded:
            self._task_processes = []
            return
        self._task_processes = self._processes.tasks(model.processes())
        model.set_dead_tasks(one.task_id for one in self._task_processes if not one.alive)

    def _window(self, model: Model, now: float, hours: int) -> AmigaWindow:
        # A state that the clock alone changes (a session falls idle) is looked at once a minute.
        made_of = (model.revision, int(now // 60))
        known = self._windows.get(hours)
        if known is not None and known[0] == made_of:
            return known[1]
        made = view.window(model, now, hours)
        if len(self._windows) > 64:  # noqa: PLR2004 - windows in use are 16 at most
            self._windows.clear()
        self._windows[hours] = (made_of, made)
        return made

    def _hooks_source(self, now: float) -> Source:
        path = shown_path(self._config.sessions)
        if self._hooks.state == "missing":
            return Source(
                state="missing",
                path=path,
                hint="no hook has written here yet; AMIGA's hooks log below the directory they run in",
            )
        if self._hooks.state == "error":
            return Source(state="error", path=path, error=one_line(self._hooks.error, 200))
        return Source(state="loading" if self._hooks.state == "loading" else "ok", as_of=now, path=path)

    def _transcripts(self, now: float) -> Source:
        root = self._config.transcripts
        if root is None:
            return Source(
                state="missing",
                hint="set `amiga.transcripts` to Claude Code's projects directory to count all tokens",
            )
        path = shown_path(root)
        if self._source.state not in ("ok", "loading"):
            hint = "transcripts are read together with AMIGA's database, and that is not being read"
            return Source(state="missing", path=path, hint=hint)
        known = None if self._model is None else self._model.transcripts
        state = "loading" if known is None else known.state
        if state == "missing":
            return Source(state="missing", path=path, hint="`amiga.transcripts` names no directory")
        if state == "error":
            error = one_line(known.error if known else "", 200)
            return Source(state="error", path=path, error=error)
        return Source(state="ok" if state == "ok" else "loading", as_of=now, path=path)
