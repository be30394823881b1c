"""`check`: what stands in an AMIGA installation, and what it means; for when a number looks odd."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from amiga_ws.app import amiga_config
from amiga_ws.cli.arguments import add_configuration, settings_of
from amiga_ws.collectors.amiga.report import lines, report

HELP = "report on an AMIGA installation: schema, rows, ages, duplicates, broken links, hooks"
EPILOG = "exit codes: 0 nothing is bad, 1 something is (BAD), 2 misuse"
EXIT_BAD = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `check`."""
    parser.add_argument("--amiga", type=Path, metavar="DIR", help="AMIGA's folder (default: amiga.root)")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    add_configuration(parser)
    parser.epilog = EPILOG


def run(args: argparse.Namespace) -> int:
    """Print the report; 1 if anything in it is bad."""
    if args.amiga is not None:
        inside = ("amiga.database=null", "amiga.sessions=null")  # those of the configuration are another's
        args.overrides = [*inside, *args.overrides, f"amiga.root={args.amiga.absolute()}"]
    with tempfile.TemporaryDirectory(prefix="amiga_ws-check-") as private:
        findings = report(replace(amiga_config(settings_of(args)), private_dir=Path(private)))
    if args.json:
        sys.stdout.write(json.dumps([asdict(finding) for finding in findings], indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(lines(findings)).lstrip() + "\n")
    return EXIT_BAD if any(finding.level == "bad" for finding in findings) else 0
