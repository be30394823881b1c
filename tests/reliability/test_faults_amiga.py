"""AMIGA's database is locked, cut short, replaced, gone, or on a full disk: we say so, go on, and see it healed."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from contextlib import closing

import apsw
import pytest
from disks import fill, small_disk
from installation import Installation
from servers import ServerInHand, settings_in

from amiga_ws.app import Server


class WithRealAmiga(ServerInHand):
    """The test's host, and the product's own collector of AMIGA's files."""

    def collectors(self):
        return self.host, Server.collectors(self)[1]


class Watcher:
    """One stream for the whole story."""

    def __init__(self, server, stream):
        self._server, self._stream = server, stream
        self.last = {}

    async def moves(self):
        """The next state: the host has moved, and says that all is well with it."""
        self._server.host.cpu_percent = (self._server.host.cpu_percent + 7) % 100
        self.last = (await self._stream.until(None)).data
        assert self.last["sources"]["host"]["state"] == "ok"

    async def until(self, condition):
        """The next state that fulfils it; the host goes on meanwhile."""
        for _ in range(60):
            if self.last and condition(self.last):
                return self.last
            await self.moves()
        raise AssertionError(f"it did not come true: {self.last['sources']['amiga']}")

    async def sees(self, total, state="ok"):
        """That many tasks, from a source in that state."""
        return await self.until(
            lambda seen: (
                seen["overview"]["tasks"]["total"] == total and seen["sources"]["amiga"]["state"] == state
            )
        )

    async def hears_of(self, *states):
        """The source is in one of these states, and says what is wrong and what to do."""
        source = (await self.until(lambda seen: seen["sources"]["amiga"]["state"] in states))["sources"][
            "amiga"
        ]
        assert source["error"]
        return source["error"]


def told(story, folder, root):
    """Run `story(watcher)` on a server that watches `root`."""

    async def run():
        server = WithRealAmiga(settings_in(folder, f"amiga.root={root}"))
        await server.start()
        try:
            return await story(Watcher(server, await server.events("?interval=1")))
        finally:
            await server.leave()

    return asyncio.run(run())


def task(amiga, number):
    amiga.task(f"{number:06x}", at=time.time())


@pytest.mark.timeout(180)
@pytest.mark.promise(
    "AMIGA's database locked, cut short, replaced or gone: said with its cause, the host live, healed by itself"
)
def test_whatever_becomes_of_amigas_file_is_said_and_healed(tmp_path, caplog, figure):
    amiga = Installation(tmp_path / "amiga")
    for number in range(3):
        task(amiga, number)
    causes = []

    async def story(watcher):
        await watcher.sees(3)
        # Held by somebody for himself alone, as VACUUM or a restore would: what was committed is still read.
        amiga.close()
        with closing(apsw.Connection(str(amiga.database))) as holder:
            holder.execute("PRAGMA locking_mode=EXCLUSIVE")
            holder.execute("BEGIN EXCLUSIVE")
            holder.execute("UPDATE tasks SET status = 'completed'")
            for _ in range(3):
                await watcher.moves()
            assert (
                watcher.last["overview"]["tasks"]["total"]
                == watcher.last["overview"]["tasks"]["running"]
                == 3
            )
            holder.execute("COMMIT")
            await watcher.until(lambda seen: seen["overview"]["tasks"]["completed"] == 3)
        amiga.reopen()
        task(amiga, 3)
        await watcher.sees(4)
        # Cut short under us.
        amiga.close()
        whole = amiga.database.read_bytes()
        os.truncate(amiga.database, len(whole) // 3)
        causes.append(await watcher.hears_of("error"))
        amiga.database.write_bytes(whole)
        amiga.reopen()
        task(amiga, 4)
        await watcher.sees(5)
        # Replaced by another one.
        amiga.close()
        other = Installation(tmp_path / "other")
        for number in range(20, 22):
            task(other, number)
        other.close()
        shutil.move(other.database, amiga.database)
        await watcher.sees(2)
        # Gone, and back.
        amiga.database.rename(tmp_path / "away")
        causes.append(await watcher.hears_of("missing"))
        (tmp_path / "away").rename(amiga.database)
        amiga.reopen()
        task(amiga, 5)
        await watcher.sees(3)
        amiga.close()

    told(story, tmp_path, amiga.root)
    assert amiga.files() == {"agentlab.db"}
    figure("; ".join(f"“{cause}”" for cause in causes))


def until_full(amiga):
    """Write tasks from number 1 on until the disk is full; how many fitted."""
    with pytest.raises(apsw.FullError):
        write_many(amiga, 10_000)
    (total,) = amiga.db.execute("SELECT count(*) - 1 FROM tasks").fetchone()
    return total


def write_many(amiga, last):
    for number in range(1, last):
        task(amiga, number)


@pytest.mark.promise(
    "AMIGA's disk full: what is there is read, nothing is written beside it, and it goes on when there is room"
)
def test_amigas_disk_full_is_amigas_trouble_alone(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        amiga = Installation(disk / "amiga")
        task(amiga, 0)

        async def story(watcher):
            await watcher.sees(1)
            ballast = fill(disk)
            written = until_full(amiga)
            await watcher.sees(1 + written)
            ballast.unlink()
            task(amiga, 1 + written)
            await watcher.sees(2 + written)

        told(story, tmp_path, amiga.root)
        amiga.close()
        assert amiga.files() == {"agentlab.db"}
