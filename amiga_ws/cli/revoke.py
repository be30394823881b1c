"""`revoke`: take tokens back, whether or not the server runs."""

from __future__ import annotations

import argparse
import os
import sys
import time
from datetime import UTC, datetime

from amiga_ws import state
from amiga_ws.auth.gate import Gate
from amiga_ws.auth.keys import load_keys
from amiga_ws.auth.tokens import LAST_TIME, Authority, TokenError, is_name
from amiga_ws.cli.arguments import UsageError, add_configuration, settings_of

HELP = "take back a token, all of a subject's, or one by its id; streams that use it end within a second"
TOKEN_VARIABLE = "AMIGA_WS_TOKEN"  # noqa: S105 - a variable's name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `revoke`."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--token",
        metavar="T|-",
        help=f"the token; - reads it from stdin ({TOKEN_VARIABLE} is read for an empty one)",
    )
    what.add_argument("--jti", type=_name, metavar="J", help="the id of a token (token --json prints it)")
    what.add_argument("--subject", type=_name, metavar="S", help="all that was issued to this subject")
    parser.add_argument(
        "--issued-before", type=_time, metavar="TIME", help="with --subject: epoch or ISO time (default: now)"
    )
    add_configuration(parser)


def run(args: argparse.Namespace) -> int:
    """Append the revocation; a running server follows its file."""
    if args.issued_before is not None and args.subject is None:
        args.command.error("--issued-before goes with --subject")
    settings = settings_of(args)
    if not state.has_secret(settings.state_dir):
        raise UsageError(
            f"nothing was ever issued from {settings.state_dir}: name the server's configuration with --config, "
            "or its folder with --set state_dir=…"
        )
    authority = Authority(
        state.load_secret(settings.state_dir),
        settings.auth,
        load_keys(settings.auth.keys, settings.state_dir),
    )
    try:
        gate = Gate(authority, settings.auth, settings.state_dir, time.time)
        done = _revoke(gate, args)
    except TokenError as error:
        raise UsageError(f"this is no token of ours: {error.reason}") from error
    except OSError as error:
        raise UsageError(f"cannot write to {settings.state_dir}: {state.reason(error)}") from error
    sys.stderr.write(f"revoked: {done}\n")
    return 0


def _revoke(gate: Gate, args: argparse.Namespace) -> str:
    """Take back what was asked for; what that is, in words. Raises TokenError, OSError, NotKeptError."""
    if args.subject is not None:
        now = time.time()
        before = now if args.issued_before is None else args.issued_before
        gate.revoke_subject(args.subject, before)
        if before > now:
            sys.stderr.write(
                f"amiga_ws: --issued-before is in the future: until {_spoken_time(before)} "
                f"every new token of '{args.subject}' is refused, too\n"
            )
        return (
            f"all that was issued to '{args.subject}' before {_spoken_time(before)}; "
            "whether there was any cannot be told"
        )
    if args.jti is not None:
        gate.revoke_jti(args.jti)
        return f"the token with the id '{args.jti}'; whether there was one cannot be told"
    identity = gate.authority.recognise(_token(args.token))
    gate.revoke(identity)
    return f"the token '{identity.jti}' of '{identity.subject}'"


def _token(given: str) -> str:
    """From stdin or the environment, so that it need not stand in the process list."""
    if given == "-":
        return sys.stdin.readline().strip()
    return given or os.environ.get(TOKEN_VARIABLE, "")


def _name(text: str) -> str:
    if not is_name(text):
        raise argparse.ArgumentTypeError(f"no token has such a name: {text!r}")
    return text


def _time(text: str) -> float:
    try:
        epoch = float(text)
    except ValueError:
        epoch = _iso_time(text)
    if not 0 <= epoch < LAST_TIME:  # nan too
        raise argparse.ArgumentTypeError(f"{text!r} is no time a token could have been issued at")
    return epoch


def _spoken_time(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _iso_time(text: str) -> float:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected an epoch or an ISO time, got {text!r}") from None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
