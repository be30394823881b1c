"""`token`: issue an access token, or a sign-in link."""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from typing import Literal

import segno

from amiga_ws import state
from amiga_ws.auth.tokens import Authority
from amiga_ws.cli import links
from amiga_ws.cli.arguments import UsageError, add_configuration, duration, settings_of
from amiga_ws.config.kinds import spoken

HELP = "issue an access token, or a link that signs a browser in"
OWNER = "owner"
DEFAULT_SCOPE = "metrics:read"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `token` and scripts/mktoken.py."""
    parser.add_argument("--subject", metavar="NAME", help=f"who it is for (with --login: {OWNER})")
    parser.add_argument(
        "--scope", default=DEFAULT_SCOPE, help="what it may: metrics:read, admin, or both (%(default)s)"
    )
    parser.add_argument(
        "--ttl", type=duration, metavar="TIME", help="its life: 90s, 15m, 8h, 30d (auth.ttl, auth.login_ttl)"
    )
    parser.add_argument("--login", action="store_true", help="print a link that signs a browser in, once")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--qr", action="store_true", help="print the link as a QR code; implies --login")
    output.add_argument("--json", action="store_true", help="print an object with all about it")
    add_configuration(parser)


def run(args: argparse.Namespace) -> int:
    """Print the token, the link, the QR code or the object, and nothing else, on stdout."""
    login = args.login or args.qr
    if not args.subject and not login:
        args.command.error("--subject is needed (who is the token for?), or --login for a sign-in link")
    settings = settings_of(args)
    auth = settings.auth
    typ: Literal["access", "login"] = "login" if login else "access"
    usual = auth.login_ttl if login else auth.ttl
    if args.ttl is not None and args.ttl < 1:
        raise UsageError("--ttl: a lifetime is at least 1s")
    if args.ttl is not None and args.ttl > auth.max_ttl:
        raise UsageError(
            f"--ttl {spoken(args.ttl)} is longer than auth.max_ttl ({spoken(auth.max_ttl)}); "
            "ask for a shorter life, or raise auth.max_ttl for the server too"
        )
    # Before the secret: a refused command should leave nothing behind.
    base = links.base_url(settings) if login else None
    fresh = not state.has_secret(settings.state_dir)
    authority = Authority(state.load_secret(settings.state_dir), auth)
    life = usual if args.ttl is None else args.ttl
    now = time.time()
    token = authority.issue(
        subject=OWNER if args.subject is None else args.subject,
        scope=args.scope,
        ttl_s=life,
        now=now,
        typ=typ,
    )
    link = links.sign_in_link(base, token) if base else None
    if fresh:
        sys.stderr.write(
            f"amiga_ws: made a new secret in {settings.state_dir}: no server has used it yet "
            "(a server's own folder is named by its --config, or by --set state_dir=…)\n"
        )
    if link and state.read_server_url(settings.state_dir) is None:
        sys.stderr.write(
            f"amiga_ws: no server runs on {settings.state_dir}: "
            f"the link works when one does, and ends in {spoken(life)}\n"
        )
    if args.json:
        sys.stdout.write(_description(authority, token, typ, now, link))
    elif args.qr and link:
        _print_qr(link)
    else:
        sys.stdout.write(f"{link or token}\n")
    return 0


def _description(
    authority: Authority, token: str, typ: Literal["access", "login"], now: float, link: str | None
) -> str:
    identity = authority.verify(token, typ=typ, now=now)
    told = {
        "token": token,
        "type": typ,
        "subject": identity.subject,
        "scope": " ".join(sorted(identity.scopes)),
        "jti": identity.jti,
        "issued_at": identity.issued_at,
        "expires_at": identity.expires_at,
        "expires_in": round(identity.expires_at - identity.issued_at),
    }
    return json.dumps(told | ({"link": link} if link else {})) + "\n"


def _print_qr(link: str) -> None:
    drawn = io.StringIO()
    code = segno.make(link, error="l", micro=False)
    try:
        code.terminal(drawn, compact=True)
        drawn.getvalue().encode(sys.stdout.encoding)
    except UnicodeEncodeError:  # a terminal without block characters: colours instead, twice the size
        drawn = io.StringIO()
        code.terminal(drawn)
    sys.stdout.write(drawn.getvalue())
    if links.is_loopback(link):
        sys.stderr.write(
            "amiga_ws: this link opens on this machine only; set server.public_url to where others reach it\n"
        )
