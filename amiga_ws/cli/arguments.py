"""What the commands' options have in common: the configuration, durations, and how a misuse is told."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from amiga_ws.config import Settings, load
from amiga_ws.config.kinds import seconds

EXIT_USAGE = 2


class UsageError(Exception):
    """The command cannot do what was asked; the text is one sentence."""


def add_configuration(parser: argparse.ArgumentParser) -> None:
    """`--config FILE` and `--set section.key=value`."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="configuration file (default: config.yaml, if there is one)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="section.key=value",
        help="one setting, over file and environment; may be repeated (docs/configuration.md lists them)",
    )


def settings_of(args: argparse.Namespace) -> Settings:
    """The settings a command runs with. Raises ConfigError."""
    # A file the person named is found from where they are, also when `--home` is another folder.
    file = Path.cwd() / args.config if args.home and args.config else args.config
    return load(file, args.overrides, cwd=args.home and args.home.absolute())


def configuration_options(args: argparse.Namespace) -> str:
    """The options that give another command the same configuration, for a shell."""
    words = ["--config", str(args.config)] if args.config else []
    for override in args.overrides:
        words += ["--set", override]
    return shlex.join(words)


def duration(text: str) -> float:
    """An option's `15m` as seconds."""
    try:
        return seconds(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected a duration such as 90s, 15m, 8h or 30d, got {text!r}"
        ) from None
