"""`standalone`: the WebSocket test page as one file."""

from __future__ import annotations

import argparse
import sys

HELP = "print the WebSocket test page as one file that works from disk"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has no options: the page asks for the server and the token."""


def run(args: argparse.Namespace) -> int:
    """Print it."""
    from amiga_ws.handlers.standalone import standalone_page  # noqa: PLC0415 - others start without Tornado

    sys.stdout.write(standalone_page())
    return 0
