"""`serve`: run the server."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from amiga_ws import commands, state
from amiga_ws.auth.tokens import Authority
from amiga_ws.cli import links
from amiga_ws.cli.arguments import add_configuration, configuration_options, settings_of
from amiga_ws.cli.token import OWNER
from amiga_ws.config import Settings

HELP = "run the server, until SIGTERM or Ctrl-C"
OWNERS_SCOPE = "metrics:read admin"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `serve` and scripts/run."""
    add_configuration(parser)
    parser.add_argument("--demo", action="store_true", help="watch a simulated AMIGA, in demo/ of state_dir")
    parser.add_argument(
        "--sign-in-link", action="store_true", help="when it listens, print a sign-in link on stderr"
    )


def run(args: argparse.Namespace) -> int:
    """Serve; the exit code is the server's."""
    settings = settings_of(args)
    from amiga_ws import app  # noqa: PLC0415 - `token` and `config` start without Tornado

    if not args.sign_in_link:
        return app.run(settings, demo=args.demo, load=lambda: settings_of(args))

    def greet() -> None:
        sys.stderr.write(links.welcome(settings, _owners_link(settings), _again(args)))
        sys.stderr.flush()

    return app.run(settings, demo=args.demo, on_listening=greet, load=lambda: settings_of(args))


def _owners_link(settings: Settings) -> str:
    authority = Authority(state.load_secret(settings.state_dir), settings.auth)
    token = authority.issue(
        subject=OWNER, scope=OWNERS_SCOPE, ttl_s=settings.auth.login_ttl, now=time.time(), typ="login"
    )
    return links.sign_in_link(links.base_url(settings), token)


def _again(args: argparse.Namespace) -> str:
    """The command that prints another link, as it can be typed where the server was started."""
    command = commands.token_command(args.home or Path.cwd(), Path.cwd())
    return f'{command} --login --scope "{OWNERS_SCOPE}" {configuration_options(args)}'.rstrip()
