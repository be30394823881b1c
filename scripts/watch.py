#!/usr/bin/env python3
"""Follow a server from a terminal: `python -m amiga_ws watch`, from anywhere. docs/watch.md explains it.

Runs under the interpreter it was started with where the package and what it needs are installed, else
under the checkout's .venv.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"


def main() -> int:
    """Exit code of the command; 1 when there is no interpreter to run it."""
    sys.path.insert(0, str(ROOT))
    if sys.version_info < (3, 11):  # noqa: UP036 - a system's own python3 may be older: it hands over
        return in_venv("Python 3.11 or newer is needed")
    try:
        from amiga_ws.__main__ import run  # noqa: PLC0415 - not under an interpreter that lacks its needs
        from amiga_ws.cli import watch  # noqa: PLC0415
    except ImportError as error:
        return in_venv("the module {} cannot be used".format(error.name))  # noqa: UP032 - parsed by older ones too
    import argparse  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="watch.py", description=watch.HELP, allow_abbrev=False)
    watch.add_arguments(parser)
    parser.set_defaults(command=parser, run=watch.run)
    return run(parser.parse_args())


def in_venv(reason: str) -> int:
    """Start again under .venv's interpreter; comes back only when that cannot be."""
    python = VENV / "bin" / "python"
    if python.exists() and Path(sys.prefix).resolve() != VENV.resolve():
        os.execv(str(python), [str(python), __file__, *sys.argv[1:]])  # noqa: S606 - our own interpreter
    sys.stderr.write("watch.py: {}; run {} once\n".format(reason, ROOT / "scripts" / "venv run"))
    return 1


if __name__ == "__main__":
    sys.exit(main())
