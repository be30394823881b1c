"""A network that misbehaves: a proxy between a peer and the server, and a host of its own behind a cable."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import struct
import subprocess

import pytest

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST


class Proxy:
    """Carries bytes between its `port` and the server's.

    `delay_s` holds each piece back on its way, `black` holds everything back until it is False again,
    `cut(reset=...)` ends all connections at once.
    """

    def __init__(self, target_port):
        self._target_port = target_port
        self._pairs = set()
        self._pumps = set()
        self._open = asyncio.Event()
        self._open.set()
        self.delay_s = 0.0
        self.port = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        self.black = False
        self.cut()
        await asyncio.gather(*self._pumps)

    @property
    def black(self):
        return not self._open.is_set()

    @black.setter
    def black(self, value):
        if value:
            self._open.clear()
        else:
            self._open.set()

    def cut(self, *, reset=False):
        for pair in list(self._pairs):
            self.cut_one(pair, reset=reset)

    def cut_one(self, pair, *, reset=False):
        for writer in pair:
            if reset:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                writer.transport.abort()
            else:
                writer.close()

    def pairs(self):
        return list(self._pairs)

    async def _accept(self, reader, writer):
        task = asyncio.current_task()
        self._pumps.add(task)
        pair = None
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            pair = (writer, far_writer)
            self._pairs.add(pair)
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        except OSError:
            writer.close()
        finally:
            self._pairs.discard(pair)
            self._pumps.discard(task)
            for each in pair or ():
                each.close()

    async def _pump(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


class Cable:
    """Another host (a network namespace) with a cable to this one; `pull()` is the end of the network to it."""

    here, there = "10.213.77.1", "10.213.77.2"

    def __init__(self):
        self.name = f"amiga_ws_{os.getpid()}"
        self._near, self._far = f"aw{os.getpid() % 100000}a", f"aw{os.getpid() % 100000}b"

    def __enter__(self):
        if os.geteuid() != 0 or shutil.which("ip") is None:
            pytest.skip("a host of its own needs root and iproute2")
        if self._ip("netns", "add", self.name, check=False):
            pytest.skip("no network namespaces here")
        self._ip("link", "add", self._near, "type", "veth", "peer", "name", self._far, "netns", self.name)
        self._ip("addr", "add", f"{self.here}/30", "dev", self._near)
        self._ip("link", "set", self._near, "up")
        self._ip("-n", self.name, "addr", "add", f"{self.there}/30", "dev", self._far)
        self._ip("-n", self.name, "link", "set", self._far, "up")
        return self

    def __exit__(self, *_):
        self._ip("link", "del", self._near, check=False)
        self._ip("netns", "del", self.name, check=False)

    def inside(self, *words):
        """A command that runs on the other host."""
        return [shutil.which("ip"), "netns", "exec", self.name, *words]

    def pull(self):
        self._ip("-n", self.name, "link", "set", self._far, "down")

    @staticmethod
    def _ip(*words, check=True):
        command = [shutil.which("ip"), *words]
        return subprocess.run(command, check=check, capture_output=True).returncode  # noqa: S603 - ours
