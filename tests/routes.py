"""Every route of the server, without a server."""

from __future__ import annotations

import re

from amiga_ws.handlers.routes import application


class _Nothing:
    """Stands for the services that the table of routes hands on."""

    def __getattr__(self, name):
        return _Nothing()

    def __index__(self):
        return 1


def concrete(pattern):
    """A path that a route's pattern matches."""
    path = pattern.removesuffix("$").replace("(.*)", "client.js")
    return re.sub(r"\(.*?\)", "0123456789abcdef", path).replace("\\", "")


def every_route():
    """(path, handler class) of each."""
    rules = application(_Nothing()).wildcard_router.rules
    return [(concrete(rule.matcher.regex.pattern), rule.target) for rule in rules]
