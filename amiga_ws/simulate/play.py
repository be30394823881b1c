"""AMIGA at work: workers, a terminal user, a chat, new jobs, each a generator that yields seconds to wait.

One play serves the past and the present: `Stage.run_until` leads a virtual clock through the history in
one go, or is called again and again with the real time. Nothing here sleeps.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from amiga_ws.simulate.simulator import RESTARTED, STOPPED, Simulator
from amiga_ws.simulate.spending import MODELS, Transcripts
from amiga_ws.simulate.story import Story
from amiga_ws.simulate.truth import Call, Task

WORKSPACE = "/srv/code/ledger-api"
MOST_QUEUED = 3  # so that the list stays readable
LINES_EVERY = 4  # calls, between two lines of output in a task's log
TWO_AT_ONCE = 0.12  # of the answers of a model
STOPPED_THEN_FAILED = 0.7  # of the stops: AMIGA overwrites them
DAY_HOURS = range(7, 22)
Act = Iterator[float]  # yields seconds to wait


@dataclass(frozen=True)
class Pace:
    """Usual seconds between things; every wait is drawn around its value."""

    think_s: float  # between two tool calls of a task
    job_s: float  # between two new tasks
    chat_s: float
    cli_think_s: float
    cli_pause_s: float  # between two sessions started by hand
    tool_factor: float  # tools take this much of their usual time
    calls: tuple[int, int]  # of one task, fewest and most
    nights: bool  # little happens from 22 to 7 o'clock UTC


HISTORY = Pace(14.0, 400.0, 900.0, 20.0, 2400.0, 1.0, (4, 40), nights=True)
LIVE = Pace(1.1, 9.0, 11.0, 2.0, 20.0, 0.5, (3, 9), nights=False)


class Processes(Protocol):
    """Makes and ends the processes behind running tasks."""

    def spawn(self, task: Task, model: str) -> int | None:
        """Start the process of a task; its pid, or None where there are none."""

    def end(self, pid: int | None) -> None:
        """End it; an unknown pid is no error."""


class NoProcesses:
    """Pids that are only written down, for a history whose processes are long gone."""

    def __init__(self) -> None:
        self._pids = itertools.count(4_100_000)  # above the kernel's default pid_max of 2**22 most of the way

    def spawn(self, task: Task, model: str) -> int | None:
        """A pid that belongs to nobody."""
        return next(self._pids)

    def end(self, pid: int | None) -> None:
        """Nothing to end."""


class Stage:
    """Runs acts in the order in which they are due."""

    def __init__(self, now: float, speed: float = 1.0) -> None:
        self.now = now
        self._speed = speed
        self._due: list[tuple[float, int, Act]] = []
        self._order = itertools.count()

    def add(self, act: Act, delay_s: float = 0.0) -> None:
        """Let an act begin after a while."""
        heapq.heappush(self._due, (self.now + delay_s / self._speed, next(self._order), act))

    def run_until(self, now: float) -> float:
        """Do all that is due by `now`; returns when the next is due (epoch seconds)."""
        while self._due and self._due[0][0] <= now:
            due, _, act = heapq.heappop(self._due)
            self.now = max(self.now, due)
            delay_s = next(act, None)
            if delay_s is not None:
                self.add(act, delay_s)
        self.now = max(self.now, now)
        return self._due[0][0] if self._due else now + 1.0


class Play:
    """The acts of one AMIGA; they share the queue of waiting tasks."""

    def __init__(
        self, sim: Simulator, story: Story, pace: Pace, processes: Processes, transcripts: Transcripts
    ) -> None:
        self.sim = sim
        self.story = story
        self.pace = pace
        self.processes = processes
        self.transcripts = transcripts
        self.queue: deque[Task] = deque()
        self._models: dict[str, str] = {}  # of waiting tasks, by id

    def cast(self, stage: Stage, workers: int) -> None:
        """Put the usual acts on stage."""
        stage.add(self.jobs())
        for number in range(workers):
            stage.add(self.worker(), 1.0 + 7.0 * number)
        stage.add(self.terminal(), 2.0)
        stage.add(self.chat(), 3.0)

    def jobs(self) -> Act:
        """New tasks; held back while some wait."""
        while True:
            if len(self.queue) < MOST_QUEUED:
                self.enqueue()
            yield self._wait(self.pace.job_s)

    def enqueue(self) -> Task:
        """Queue one invented task."""
        job = self.story.job()
        task = self.sim.queue_task(**job)
        self._models[task.task_id] = job["model"]
        self.queue.append(task)
        return task

    def worker(self) -> Act:
        """One of AMIGA's workers: takes the oldest waiting task, works on it, takes the next."""
        while True:
            while not self.queue:
                yield self.pace.think_s / 2
            task = self.queue.popleft()
            yield from self.work(task)
            yield 0.5

    def work(self, task: Task) -> Act:
        """One task from start to end, in one of the ways in which they end."""
        rng, sim = self.sim.rng, self.sim
        # AMIGA guesses the session: mostly an invented one or a neighbour's.
        guess = rng.choice(
            (None, sim.new_uuid(), *[other.session for other in list(sim.tasks.values())[-3:]])
        )
        model = self._models.pop(task.task_id, "sonnet")
        pid = self.processes.spawn(task, model)
        sim.start_task(task, pid=pid, stored_session=guess)
        yield self._wait(self.pace.think_s)
        for number in range(rng.randint(*self.pace.calls)):
            yield from self.use_tools(task, model)
            if number % LINES_EVERY == LINES_EVERY - 1:
                lines = rng.randint(3, 90)
                sim.add_activity(task, f"Processing... {lines} output lines", lines)
            yield self._wait(self.pace.think_s)
        yield from self.finish(task)
        self.processes.end(pid)

    def use_tools(self, owner: Task | str, model: str = "sonnet") -> Act:
        """One answer of the model and the tool call it asks for, now and then two side by side."""
        session = owner.session if isinstance(owner, Task) else owner
        self.transcripts.invent(session, MODELS[model], at=self.sim.clock())
        uses = [self.story.use(WORKSPACE) for _ in range(1 if self.sim.rng.random() < 1 - TWO_AT_ONCE else 2)]
        calls: list[Call] = []
        for use in uses:
            calls.append(self.sim.start_tool(owner, use.tool, use.parameters))
            yield 0.2
        for use, call in zip(uses, calls, strict=True):
            yield use.seconds * self.pace.tool_factor
            if use.tool == "Task":
                at, name = self.sim.clock(), f"{call.number:08x}"
                self.transcripts.invent(session, MODELS[model], at=at, subagent=name)
            self.sim.end_tool(call, ok=use.error is None, error=use.error, tokens=use.tokens)

    def finish(self, task: Task) -> Act:
        """70 % complete, 15 % fail, 9 % are stopped, 6 % lose their process."""
        sim = self.sim
        way = sim.rng.choices(("complete", "fail", "stop", "die"), (70, 15, 9, 6))[0]
        if way == "complete":
            sim.complete_task(task, f"Changed {sim.rng.randint(1, 9)} files, all tests pass.")
        elif way == "fail":
            sim.fail_task(task, self.story.failure())
        else:
            use = self.story.use(WORKSPACE)  # in the middle of a call, which stays open for ever
            sim.start_tool(task, use.tool, use.parameters)
            yield self._wait(self.pace.think_s)
            if way == "stop":
                sim.stop_task(task, STOPPED, then_fails=sim.rng.random() < STOPPED_THEN_FAILED)
            else:
                self.processes.end(task.pid)
                yield self._wait(self.pace.think_s * 3)
                sim.fail_task(task, f"[dead_process] Process {task.pid} no longer running (dead/killed)")

    def terminal(self) -> Act:
        """Somebody at a terminal: Claude sessions that belong to no task."""
        while True:
            session = self.sim.new_uuid()
            for _ in range(self.sim.rng.randint(5, 25)):
                yield from self.use_tools(session)
                yield self._wait(self.pace.cli_think_s)
            yield self._wait(self.pace.cli_pause_s)

    def chat(self) -> Act:
        """Users talk to AMIGA's chat model, whose answers cost tokens."""
        while True:
            request, reply, tokens = self.story.chat()
            user = self.sim.rng.choice((123456789, 987654321))
            self.sim.add_message("user", request, user_id=user)
            yield 2.0
            self.sim.add_message("assistant", reply, user_id=user, tokens=tokens, model="claude-haiku-4-5")
            yield self._wait(self.pace.chat_s)

    def patient(self, minutes_ago: float, real_now: Callable[[], float]) -> Act:
        """A task that is busy and yet nears AMIGA's 30-minute kill, for only its tools move; then the kill."""
        sim = self.sim
        while True:
            began = real_now() - minutes_ago * 60
            task = sim.queue_task("Run the whole browser suite of storefront and mend what fails", at=began)
            # A process that begins now is not the one of a task that began long ago: a reader would call it dead.
            pid = None if minutes_ago else self.processes.spawn(task, "opus")
            sim.start_task(task, pid=pid, at=began + 1)
            while real_now() < began + 30.2 * 60:
                call = sim.start_tool(
                    task, "Bash", {"command": "npx playwright test", "description": "Suite"}
                )
                yield 12.0
                sim.end_tool(call)
                yield 3.0
            self.processes.end(pid)
            sim.fail_task(task, "[timeout] No updates for 30.2min (timeout: 30min)")
            yield 60.0
            minutes_ago = 0.0

    def _wait(self, usual_s: float) -> float:
        seconds = usual_s * self.sim.rng.uniform(0.4, 1.6)
        if self.pace.nights and datetime.fromtimestamp(self.sim.clock(), UTC).hour not in DAY_HOURS:
            seconds *= 5
        return seconds


def backfill(sim: Simulator, story: Story, transcripts: Transcripts, begin: float, end: float) -> None:
    """Write the history from `begin` to `end` (epoch seconds); what still runs then is stopped.

    One task that waited then waits for ever, as after each of AMIGA's restarts.

    `sim.clock` is the history's while this runs and is left to the caller to set afterwards.
    """
    stage = Stage(begin)
    sim.clock = lambda: stage.now
    play = Play(sim, story, HISTORY, NoProcesses(), transcripts)
    play.cast(stage, workers=3)
    with sim.batch():
        stage.run_until(end)
        sim.queue_task(**story.job(), at=max(begin, end - 3 * 3600))
        sim.stop_running(RESTARTED, at=end)
    sim.save_chats()
    sim.date_hook_logs()
