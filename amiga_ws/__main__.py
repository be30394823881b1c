"""`python -m amiga_ws`: the commands' names and options; what they do is in `cli/`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from amiga_ws import __version__

try:
    from amiga_ws.auth.keys import BadKeyError
    from amiga_ws.auth.tokens import TokenRefusedError
    from amiga_ws.cli import check, revoke, serve, show, standalone, token, watch
    from amiga_ws.cli.arguments import EXIT_USAGE, UsageError
    from amiga_ws.config import ConfigError
    from amiga_ws.state import StateError
except KeyboardInterrupt:
    if __name__ != "__main__":
        raise
    sys.exit(130)  # EXIT_INTERRUPTED; nothing has begun yet
except ModuleNotFoundError as missing:
    if __name__ != "__main__" or (missing.name or "").startswith("amiga_ws"):
        raise  # scripts/mktoken.py looks for another interpreter
    sys.exit(
        f"amiga_ws: {missing.name} is not installed for {sys.executable}. "
        "In a checkout scripts/run installs what is needed and starts; else: pip install PATH-OF-THE-CHECKOUT"
    )

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells say it
EXIT_PIPE = 141  # 128 + SIGPIPE


def build_parser() -> argparse.ArgumentParser:
    """All commands; each leaves its function in `run`."""
    parser = argparse.ArgumentParser(
        prog="python -m amiga_ws",
        description="Live monitoring server for AMIGA: watch an installation and its host in a browser.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"amiga_ws {__version__}")
    parser.add_argument(
        "--home",
        type=Path,
        metavar="DIR",
        help="stands for the working directory: its config.yaml is the default, relative paths start there",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    named = {
        "serve": serve,
        "token": token,
        "revoke": revoke,
        "config": show,
        "watch": watch,
        "check": check,
        "standalone": standalone,
    }
    for name, module in named.items():
        command = commands.add_parser(name, help=module.HELP, description=module.HELP, allow_abbrev=False)
        module.add_arguments(command)
        command.set_defaults(run=module.run, command=command)
    # Has a parser of its own, and is handed over before this one sees its options.
    simulate = commands.add_parser(
        "simulate", help="write an AMIGA-shaped installation, live", add_help=False
    )
    simulate.set_defaults(run=_simulate_alone)
    return parser


def _simulate_alone(_: argparse.Namespace) -> int:
    raise UsageError("simulate takes no --home: python -m amiga_ws simulate --help tells what it takes")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 2 for what was asked wrongly, with one sentence."""
    _open_standard_streams()
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["simulate"]:
        from amiga_ws.simulate import main as simulate  # noqa: PLC0415 - SQLite is no use to the others

        return simulate(argv[1:])
    parser = build_parser()
    args, unknown = parser.parse_known_args(argv)
    if unknown:  # told by the command's own parser, under its own usage
        getattr(args, "command", parser).error(f"unrecognized arguments: {' '.join(unknown)}")
    return run(args)


def run(args: argparse.Namespace) -> int:
    """The parsed command, with its errors told as sentences."""
    _open_standard_streams()
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except (BadKeyError, ConfigError, StateError, TokenRefusedError, UsageError) as error:
        sys.stderr.write(f"amiga_ws: {error}\n")
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read has left (`| head`); Python would complain again when it flushes at exit.
        _give_up_output()
        return EXIT_PIPE
    except OSError as error:
        if not _output_is_stuck():
            raise
        _give_up_output()
        sys.stderr.write(f"amiga_ws: cannot write to standard output: {error.strerror}\n")
        return EXIT_FAILED
    return code


def _open_standard_streams() -> None:
    """Where one is closed (`>&-`) Python has None, and its number would go to the next file that is opened."""
    # Of stdout writing fails as before: what was asked for must not be lost without a word.
    modes = {"stdin": os.O_RDONLY, "stdout": os.O_RDONLY, "stderr": os.O_WRONLY}
    for number, (name, mode) in enumerate(modes.items()):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, mode), number)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115 - it stays


def _output_is_stuck() -> bool:
    """Whether it is stdout that cannot be written: an error does not say of what it is."""
    try:
        os.write(sys.stdout.fileno(), b"\n")
    except OSError:
        return True
    return False


def _give_up_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
