#!/usr/bin/env python3
"""`python -m amiga_ws`, whose loop tells how long at a time it was busy: floods.py serves with it.

At each SIGUSR1 it writes one line of JSON to its stdout: what it used of the processor in each pass of the loop since
the last one, in microseconds. Processor time, so that what else goes on on the machine is not in it.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
import time

from amiga_ws.__main__ import main


def time_passes() -> None:
    """Time what lies between two looks for events."""
    passes: list[int] = []
    select = selectors.EpollSelector.select
    since = time.thread_time_ns()

    def timed(self: selectors.EpollSelector, timeout: float | None = None) -> object:
        nonlocal since
        passes.append((time.thread_time_ns() - since) // 1000)
        found = select(self, timeout)
        since = time.thread_time_ns()
        return found

    def tell(_number: int, _frame: object) -> None:
        told = json.dumps(passes)
        passes.clear()
        os.write(1, f"{told}\n".encode())

    selectors.EpollSelector.select = timed  # type: ignore[assignment,method-assign]  # to time it
    signal.signal(signal.SIGUSR1, tell)


if __name__ == "__main__":
    time_passes()
    sys.exit(main())
