"""Query parameters: a wrong type is 400 and names the parameter; ranges are clamped by who uses them."""

from __future__ import annotations

import re

from tornado.web import HTTPError, RequestHandler

_NUMBER = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?")  # nothing that float() turns into inf
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


def number(handler: RequestHandler, name: str, default: float) -> float:
    """A decimal number, e.g. `24` or `1.5`."""
    text = handler.get_query_argument(name, None)
    if text is None:
        return default
    if not _NUMBER.fullmatch(text):
        raise HTTPError(400, f"{name} is a number")
    return float(text)


def flag(handler: RequestHandler, name: str) -> bool:
    """`true`, `1`, `false` or `0`; false when absent."""
    text = handler.get_query_argument(name, "false").lower()
    if text not in _FLAGS:
        raise HTTPError(400, f"{name} is true or false")
    return _FLAGS[text]


def text(handler: RequestHandler, name: str, most: int = 200) -> str:
    """Free text of at most `most` characters; empty when absent."""
    found = handler.get_query_argument(name, "")
    if len(found) > most:
        raise HTTPError(400, f"{name} has at most {most} characters")
    return found
