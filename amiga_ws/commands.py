"""The command that makes a token here, as pages, errors and the terminal name it."""

from __future__ import annotations

import shlex
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent
SCRIPT = Path("scripts/mktoken.py")  # an installation has none


def in_checkout() -> bool:
    """Whether this is a checkout, whose scripts can be called in its folder."""
    return (CHECKOUT / SCRIPT).is_file()


def token_command(home: Path | None = None, cwd: Path | None = None) -> str:
    """To be typed in `cwd`, with the configuration of `home`; without them where the server was started."""
    home = home or CHECKOUT
    there = cwd is None or home.absolute() == cwd
    if (home / SCRIPT).is_file():
        return shlex.quote(str(SCRIPT if there else home / SCRIPT))
    words = ["python", "-m", "amiga_ws"]  # without its path: who is not let in reads this too
    return shlex.join([*words, *([] if there else ["--home", str(home)]), "token"])
