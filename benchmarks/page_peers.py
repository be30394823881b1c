"""The pages of Glances and Flower, as they come: started, opened once, watched for ten seconds."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

REQUIREMENTS = Path(__file__).with_name("page-requirements.txt")
COMMANDS = {
    "Glances": ("glances", "-w", "--bind", "127.0.0.1", "--disable-autodiscover", "--port", "{port}"),
    # Neither a broker nor a worker: nothing but the page.
    "Flower": ("celery", "--broker=memory://", "flower", "--address=127.0.0.1", "--port={port}"),
}
START_S, LOADED_S, WATCHED_S = 30.0, 3.0, 10.0

Look = Callable[[], AbstractContextManager[tuple[Any, Any]]]  # a page, and what counts its loads


def peers(look: Look, cache: Path) -> dict[str, Any]:
    """By name: figures, or why there are none."""
    folder = cache / "venv"
    if not (folder / "bin" / "celery").exists():
        for command in (
            (sys.executable, "-m", "venv", folder),
            (folder / "bin" / "pip", "install", "-q", "-r", REQUIREMENTS),
        ):
            words = [str(word) for word in command]
            done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
            if done.returncode:
                shutil.rmtree(folder, ignore_errors=True)
                return dict.fromkeys(COMMANDS, f"cannot be installed: {done.stderr.strip()[-200:]}")
    return {name: _peer(look, folder / "bin", command) for name, command in COMMANDS.items()}


def _peer(look: Look, folder: Path, command: tuple[str, ...]) -> dict[str, Any] | str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [str(folder / command[0]), *(word.format(port=port) for word in command[1:])]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(words, stdin=quiet, stdout=quiet, stderr=quiet, cwd=folder)  # noqa: S603 - our own words
    try:
        if not _listens(port):
            return f"did not listen within {START_S:.0f} s"
        with look() as (page, load):
            page.goto(f"http://127.0.0.1:{port}/", wait_until="load")
            page.wait_for_timeout(1000 * LOADED_S)
            first = load.told()
            page.wait_for_timeout(1000 * WATCHED_S)
            again = (load.told()["requests"] - first["requests"]) / WATCHED_S
            return {
                **first,
                "charts": page.locator("canvas").count(),
                "again": f"{again:.1f} requests a second",
            }
    except Exception as error:  # noqa: BLE001 - another program's page: said in its row
        return f"its page did not load: {type(error).__name__}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def _listens(port: int) -> bool:
    ends = time.monotonic() + START_S
    while time.monotonic() < ends:
        with socket.socket() as door:
            if door.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.2)
    return False
