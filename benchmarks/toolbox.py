"""What must be made before anything can be measured: the load generator and the peers' packages."""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PEERS = HERE / "peers"


class MissingToolError(Exception):
    """Something that cannot be made here; the text says what and why."""


@dataclass(frozen=True)
class Toolbox:
    """Paths of what was made, below the cache folder."""

    tree: Path  # our own package as it was when the run began: a run measures one state of it
    load: Path
    load_speaks_tls: bool
    python: Path | None  # of the peers' environment
    node_modules: Path | None
    missing: tuple[str, ...]  # what could not be made, for the report

    def peer_command(self, server: str) -> list[str]:
        """How to start a file of peers/. Raises MissingToolError."""
        name, *options = server.split()
        script = PEERS / name
        if name == "floor.py":  # has no need of the peers' packages
            return [sys.executable, str(script), *options]
        if script.suffix == ".mjs":
            if self.node_modules is None:
                raise MissingToolError("no node, or its packages cannot be installed")
            return ["node", str(script), *options]
        if self.python is None:
            raise MissingToolError("the peers' Python packages cannot be installed")
        return [str(self.python), str(script), *options]


def prepare(cache: Path, *, peers: bool) -> Toolbox:
    """Make what is not there yet. Raises MissingToolError without a C compiler."""
    load, speaks_tls = build_load(cache)
    missing: list[str] = []
    python = _made(lambda: python_packages(cache), missing) if peers else None
    node = _made(lambda: node_packages(cache), missing) if peers else None
    return Toolbox(copy_of_ours(cache), load, speaks_tls, python, node, tuple(missing))


def copy_of_ours(cache: Path) -> Path:
    """The server's package and pages, copied until this process ends."""
    tree = cache / f"tree-{os.getpid()}"
    atexit.register(shutil.rmtree, tree, ignore_errors=True)
    for name in ("amiga_ws", "templates"):
        shutil.copytree(HERE.parent / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tree


def build_load(cache: Path) -> tuple[Path, bool]:
    """Compile load.c, with TLS where OpenSSL's headers are."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise MissingToolError("the load generator needs a C compiler (cc)")
    cache.mkdir(parents=True, exist_ok=True)
    source = HERE / "load.c"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    for tls, options in ((True, ["-DWITH_TLS", "-lssl", "-lcrypto"]), (False, [])):
        target = cache / f"load-{digest}{'-tls' if tls else ''}"
        if target.exists():
            return target, tls
        command = [compiler, "-O2", "-o", str(target), str(source), *options]
        made = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
        if made.returncode == 0:
            return target, tls
    raise MissingToolError(f"load.c does not compile: {made.stderr[:500]}")


def python_packages(cache: Path) -> Path:
    """A virtual environment with requirements.txt."""
    wanted = HERE / "requirements.txt"
    venv, mark = cache / "venv", cache / "venv" / "installed.txt"
    python = venv / "bin" / "python"
    if not (mark.exists() and mark.read_text() == wanted.read_text()):
        _run([sys.executable, "-m", "venv", str(venv)])
        _run([str(python), "-m", "pip", "install", "--quiet", "-r", str(wanted)])
        mark.write_text(wanted.read_text())
    return python


def node_packages(cache: Path) -> Path:
    """node_modules with package.json."""
    wanted = HERE / "package.json"
    folder = cache / "node"
    mark = folder / "node_modules" / "installed.json"
    if not (mark.exists() and mark.read_text() == wanted.read_text()):
        folder.mkdir(exist_ok=True)
        shutil.copy(wanted, folder / "package.json")
        _run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)])
        mark.write_text(wanted.read_text())
    return folder


def _made(make: object, missing: list[str]) -> Path | None:
    try:
        return make()  # type: ignore[operator]  # one of the two functions above
    except (MissingToolError, OSError) as error:
        missing.append(str(error))
        return None


def _run(command: list[str]) -> None:
    print("preparing:", " ".join(command[:6]), flush=True)
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603 - our own words
    if done.returncode:
        raise MissingToolError(f"{Path(command[0]).name} failed: {(done.stderr or done.stdout)[-400:]}")
