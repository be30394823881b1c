"""`watch`: follow a server from a terminal."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import logging
import math
import os
import sys
from pathlib import Path

from amiga_ws import commands
from amiga_ws.cli.arguments import UsageError
from amiga_ws.watch.address import Address
from amiga_ws.wire import DEFAULT_HOURS

HELP = "follow a server from a terminal: a live table, or JSON lines"
TOKEN_VARIABLE = "AMIGA_WS_TOKEN"  # noqa: S105 - a name, no token
EXIT_STOPPED, EXIT_SIGN_IN = 1, 3
EPILOG = """
exit codes: 0 ended as asked (also by Ctrl-C), 1 no connection, the server ended it for good, or nothing can be
written, 2 misuse, 3 not signed in, or not allowed
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `watch` and scripts/watch.py."""
    parser.epilog = EPILOG
    parser.add_argument("url", metavar="URL", help="where the server is, such as http://127.0.0.1:3000")
    parser.add_argument(
        "--token", metavar="T", help=f"who we are; `-`: a line of standard input (default: ${TOKEN_VARIABLE})"
    )
    parser.add_argument(
        "--hours", type=int, default=DEFAULT_HOURS, metavar="N", help="the window, 1-168 (%(default)s)"
    )
    parser.add_argument(
        "--interval", type=_positive, metavar="S", help="seconds between updates, 1-60 (the server's default)"
    )
    parser.add_argument("--json", action="store_true", help="every event as one line of JSON")
    parser.add_argument("--once", action="store_true", help="print one state and end")
    parser.add_argument("--seconds", type=_positive, metavar="N", help="end after so long")
    parser.add_argument("--sse", action="store_true", help="by Server-Sent Events instead of WebSocket")
    parser.add_argument(
        "--no-delta", action="store_true", help="ask for whole states instead of patches to the last one"
    )
    parser.add_argument(
        "--ca", type=Path, metavar="FILE", help="certificates to trust, PEM (default: the system's)"
    )


def run(args: argparse.Namespace) -> int:
    """Follow until the end, which gives the exit code. Raises UsageError."""
    from amiga_ws.watch.client import SignInError, WatchError  # noqa: PLC0415 - other commands need no Tornado
    from amiga_ws.watch.session import Options, watch  # noqa: PLC0415 - likewise
    from amiga_ws.watch.streams import Access, Wanted  # noqa: PLC0415 - likewise
    from amiga_ws.watch.text import clean  # noqa: PLC0415 - likewise
    from amiga_ws.watch.views import JsonLines, Lines, Once, Screen, View  # noqa: PLC0415 - likewise

    try:
        address = Address.parse(args.url)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if args.ca and not args.ca.is_file():
        raise UsageError(f"--ca: there is no file {args.ca}")
    options = Options(
        access=Access(address, _token(args), args.ca),
        wanted=Wanted(args.hours, args.interval, delta=not args.no_delta),
        sse=args.sse,
        once=args.once,
        seconds=args.seconds,
    )
    out, err = sys.stdout, sys.stderr
    for stream in (out, err):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr] # an alphabet it lacks is no reason to end
    terminal = out.isatty() and os.environ.get("TERM") != "dumb"
    colours = terminal and not os.environ.get("NO_COLOR")
    # It reports untrusted certificates and the like, which we say ourselves, into the middle of the table.
    logging.getLogger("tornado.general").disabled = True
    view: View
    if args.json:
        view = JsonLines(out, err, once=args.once)
    elif args.once:
        view = Once(out, err, colours=colours)
    elif terminal:
        view = Screen(out, transport="SSE" if args.sse else "WebSocket", colours=colours)
    else:
        view = Lines(out, err)
    try:
        asyncio.run(watch(options, view))
    except WatchError as error:
        err.write(f"amiga_ws: {address}: {clean(str(error))}\n")
        return EXIT_SIGN_IN if isinstance(error, SignInError) else EXIT_STOPPED
    return 0


def _token(args: argparse.Namespace) -> str:
    """The token, from where it was put. Raises UsageError, without it in the text."""
    if args.token == "-":  # noqa: S105 - where it comes from
        token = getpass.getpass("token: ") if sys.stdin.isatty() else sys.stdin.readline()
    elif args.token is not None:
        sys.stderr.write(
            "amiga_ws: others on this machine can read --token in the list of processes; "
            f"--token - or ${TOKEN_VARIABLE} hides it\n"
        )
        token = args.token
    else:
        token = os.environ.get(TOKEN_VARIABLE, "")
    token = token.strip()
    if not token:
        raise UsageError(
            f"a token is needed: in ${TOKEN_VARIABLE}, or as a line of standard input with --token - "
            f"({commands.token_command()} --subject NAME makes one, where the server runs)"
        )
    if "#login=" in token:
        make = f"{commands.token_command()} --subject NAME"
        raise UsageError(f"that is a sign-in link; make a token with {make}, where the server runs")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError("what was given as a token is none: it holds blanks or other characters")
    return token


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return number
