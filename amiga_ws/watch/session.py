"""One run of the terminal client: from the options to the end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from amiga_ws.watch.client import Client, Listener, Opener, Phase, WatchError
from amiga_ws.watch.events import EventStream
from amiga_ws.watch.streams import Access, Received, Stream, Wanted
from amiga_ws.watch.views import View
from amiga_ws.watch.websocket import WebSocketStream

TICK_S = 1.0


@dataclass(frozen=True)
class Options:
    """What is followed and until when: `once` ends with the first state, `seconds` after so long."""

    access: Access
    wanted: Wanted
    sse: bool = False
    once: bool = False
    seconds: float | None = None


async def watch(options: Options, view: View) -> None:
    """Follow and show until that was asked to end, or SIGINT or SIGTERM says so.

    Raises:
        WatchError, SignInError: it has ended otherwise.
    """
    stop = asyncio.Event()
    listener = _UntilState(view, stop) if options.once else view
    client = Client(opener(options), options.wanted, listener)
    with _signals(stop, view):
        view.open()
        try:
            await _any_of(client.run(), _ticking(view), stop.wait(), within_s=options.seconds)
        finally:
            view.close()
    if options.once and client.document is None and not stop.is_set():
        raise WatchError(f"no state in {options.seconds:g} s")
    if not client.greeted and not stop.is_set():
        raise WatchError(f"no connection in {options.seconds:g} s")


def opener(options: Options) -> Opener:
    """How the client gets a stream."""

    async def by_websocket(_resume: str | None) -> Stream:
        return await WebSocketStream.open(options.access)

    async def by_events(resume: str | None) -> Stream:
        return await EventStream.open(options.access, options.wanted, resume)

    return by_events if options.sse else by_websocket


class _UntilState:
    """Passes all on, and stops after the first state."""

    def __init__(self, listener: Listener, stop: asyncio.Event) -> None:
        self._listener, self._stop = listener, stop

    def received(self, event: Received, document: dict[str, Any] | None) -> None:
        self._listener.received(event, document)
        if document is not None:
            self._stop.set()

    def entered(self, phase: Phase) -> None:
        self._listener.entered(phase)


async def _ticking(view: View) -> None:
    while True:
        await asyncio.sleep(TICK_S)
        view.tick()


async def _any_of(*jobs: Coroutine[Any, Any, object], within_s: float | None) -> None:
    """Until one has ended or time is up; its error is ours, the others are cancelled and awaited."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        done, _ = await asyncio.wait(tasks, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def _signals(stop: asyncio.Event, view: View) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    handlers = {signal.SIGINT: stop.set, signal.SIGTERM: stop.set, signal.SIGWINCH: view.tick}
    for signum, handler in handlers.items():
        loop.add_signal_handler(signum, handler)
    try:
        yield
    finally:
        for signum in handlers:
            loop.remove_signal_handler(signum)
