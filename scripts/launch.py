"""Runs one command of the package from anywhere; scripts/*.py are a line each above this.

Under the interpreter that was started where the package and what it needs are installed, else under the
checkout's .venv. Parsed by older Pythons too: a system's own python3 must be able to hand over.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells say it


def main(command: str) -> int:
    """Exit code of `python -m amiga_ws COMMAND`; 1 when there is no interpreter to run it."""
    sys.path.insert(0, str(ROOT))
    if sys.version_info < (3, 11):  # noqa: UP036 - see above
        return _in_venv("Python 3.11 or newer is needed")
    try:
        import importlib  # noqa: PLC0415 - not under an interpreter that lacks the package's needs

        package = importlib.import_module("amiga_ws.__main__")
        module = importlib.import_module("amiga_ws.cli." + command)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED  # nothing has begun yet
    except ImportError as error:
        return _in_venv("the module {} cannot be used".format(error.name))  # noqa: UP032 - see above
    import argparse  # noqa: PLC0415 - not before it is known that this Python will do

    name = Path(sys.argv[0]).name
    parser = argparse.ArgumentParser(prog=name, description=module.HELP, allow_abbrev=False)
    module.add_arguments(parser)
    parser.set_defaults(home=ROOT, command=parser, run=module.run)
    return package.run(parser.parse_args())


def _in_venv(reason: str) -> int:
    """Start again under .venv's interpreter; comes back only when that cannot be."""
    python = VENV / "bin" / "python"
    if python.exists() and Path(sys.prefix).resolve() != VENV.resolve():
        os.execv(str(python), [str(python), *sys.argv])  # noqa: S606 - our own interpreter
    name = Path(sys.argv[0]).name
    sys.stderr.write("{}: {}; run {} once\n".format(name, reason, ROOT / "scripts" / "venv run"))
    return 1
