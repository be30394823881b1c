"""`config`: the settings in force, and the files that are made from the table of settings."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from amiga_ws.cli.arguments import add_configuration, settings_of
from amiga_ws.config import ROWS, Settings
from amiga_ws.config.kinds import spoken
from amiga_ws.config.render import config_yaml, configuration_markdown

MAX_WIDTH = 60  # of what is padded: a table of prices would push all remarks out of the window
HELP = "show the settings in force and where each comes from"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `config`."""
    add_configuration(parser)
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--yaml", action="store_true", help="print the shipped config.yaml instead")
    output.add_argument("--markdown", action="store_true", help="print docs/configuration.md instead")


def run(args: argparse.Namespace) -> int:
    """Print one line a setting, or the file that was asked for."""
    if args.yaml:
        sys.stdout.write(config_yaml())
    elif args.markdown:
        from amiga_ws.app import RELOADED  # noqa: PLC0415 - the others start without Tornado

        sys.stdout.write(configuration_markdown(RELOADED))
    else:
        sys.stdout.write(_in_force(settings_of(args)))
    return 0


def _in_force(settings: Settings) -> str:
    lines = [
        (f"{key}: {_shown(settings.get(key), row.kind.unit)}", settings.given.get(key, "default"))
        for key, row in ROWS.items()
    ]
    width = max(len(text) for text, _ in lines if len(text) <= MAX_WIDTH)
    return "".join(f"{text:<{width}}  # {where}\n" for text, where in lines)


def _shown(value: Any, unit: str) -> str:  # noqa: ANN401 - whatever a setting is
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    if unit == "s":
        return spoken(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
