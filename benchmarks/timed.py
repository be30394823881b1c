#!/usr/bin/env python3
"""`python -m amiga_ws`, which tells how long its loop was busy and what updates took: floods.py serves with it.

At each SIGUSR1 it writes one line of JSON to its stdout, of the time since the last one, in microseconds: `passes`,
what the loop used of the processor between two looks for events, and `updates`, what the process used of it from when a
tick was due until all had been sent, each beside what a fixed piece of work took just then. Processor time, so that
what else goes on on the machine is not in it; the fixed piece, for that changes the processor's pace.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
import time
from typing import Any

from tornado.ioloop import PeriodicCallback

from amiga_ws import app
from amiga_ws.__main__ import main
from amiga_ws.broadcaster import Broadcaster

FIXED = 20_000  # turns of an empty loop: 0.4 ms


def time_it() -> None:
    """Time what lies between two looks for events, and the ticks."""
    told: dict[str, list[Any]] = {"passes": [], "updates": []}
    select = selectors.EpollSelector.select
    since = time.thread_time_ns()
    looked, used = time.monotonic(), time.process_time()  # at the last look for events

    def timed(self: selectors.EpollSelector, timeout: float | None = None) -> object:
        nonlocal since, looked, used
        told["passes"].append((time.thread_time_ns() - since) // 1000)
        looked, used = time.monotonic(), time.process_time()
        found = select(self, timeout)
        since = time.thread_time_ns()
        return found

    class Timed(PeriodicCallback):
        async def _run(self) -> None:
            nonlocal since
            # Due before the loop looked, it waited for what the loop did then.
            begun = used - max(0.0, looked - self._next_timeout)
            await super()._run()
            if getattr(self.callback, "__func__", None) is Broadcaster.tick:
                ended = time.process_time()
                for _ in range(FIXED):
                    pass
                fixed = time.process_time() - ended
                since += round(fixed * 1e9)  # our own work is no wait of anybody's
                told["updates"].append((round((ended - begun) * 1e6), round(fixed * 1e6)))

    def tell(_number: int, _frame: object) -> None:
        os.write(1, f"{json.dumps(told)}\n".encode())
        for figures in told.values():
            figures.clear()

    selectors.EpollSelector.select = timed  # type: ignore[assignment,method-assign]  # to time it
    app.PeriodicCallback = Timed  # type: ignore[misc]  # likewise
    signal.signal(signal.SIGUSR1, tell)


if __name__ == "__main__":
    time_it()
    sys.exit(main())
