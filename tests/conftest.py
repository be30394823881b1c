"""What every test of the server shares: a started server that must not have complained at the end."""

from __future__ import annotations

import asyncio
import gc
import logging
import os

import pytest
from hypothesis import settings
from servers import JWT, InThread, ServerInHand, settings_in

from amiga_ws.collectors.amiga import processes

pytest_plugins = ["promises"]

# Or the first test that asks for the thread's loop is given one made for it, which nobody closes.
asyncio.set_event_loop(None)

# An example's time says more about what else the machine does than about the code.
settings.register_profile("shared machine", deadline=None)
# Where a change waits for its verdict, the same examples each time; new ones are found at the desk.
settings.register_profile("verdict", deadline=None, derandomize=True)
settings.load_profile("verdict" if os.environ.get("CI") == "true" else "shared machine")


@pytest.fixture(autouse=True)
def on_the_host(monkeypatch):
    """The tests may run in a container: what AMIGA's processes run beside is that."""
    if processes.NAMESPACE.exists():
        monkeypatch.setattr(processes, "HOST_NAMESPACE", processes.NAMESPACE.stat().st_ino)


@pytest.fixture
def start(io_loop, tmp_path, caplog):
    """await start("limits.connections=2", ...) → a started server.

    When the test is over the server stops, and its log is read: nothing may stand there that says `error`,
    no token, and no control character. A test that provokes an error clears `caplog` after looking at it.
    """
    caplog.set_level(logging.DEBUG)
    started = []

    async def start(*overrides):
        folder = tmp_path / str(len(started))
        folder.mkdir()
        server = ServerInHand(settings_in(folder, *overrides))
        await server.start()
        started.append(server)
        return server

    yield start
    for server in started:
        io_loop.run_sync(server.leave, timeout=10)
    gc.collect()  # a future nobody asked about its exception says so when it goes
    assert_clean(caplog.records)


@pytest.fixture
def server(io_loop, start):
    """A server with default limits."""
    return io_loop.run_sync(start, timeout=10)


@pytest.fixture
def threaded(tmp_path, caplog):
    """threaded("key=value", ...) → a context manager: a server on a thread of its own, for blocking clients."""
    caplog.set_level(logging.DEBUG)
    yield lambda *overrides: InThread(settings_in(tmp_path, *overrides))
    gc.collect()
    assert_clean(caplog.records)


def assert_clean(records):
    """No complaint of ours or of the loop's, no token, nothing a terminal would obey."""
    for record in records:
        if record.name.partition(".")[0] not in ("amiga_ws", "tornado", "asyncio"):
            continue
        line = record.getMessage()
        assert record.levelno < logging.ERROR, f"logged: {line}\n{record.exc_text or record.exc_info}"
        assert not JWT.search(line), f"a token in the log: {line}"
        if record.name.startswith("amiga_ws"):
            assert line.isprintable(), f"a control character in the log: {line!r}"
