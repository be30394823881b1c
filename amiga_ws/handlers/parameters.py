"""Query parameters: a wrong type is 400 and names the parameter; a number outside its range is clamped.

What a route may be asked stands in a struct whose fields are the parameters; `read` reads a request by it,
openapi.py describes the route by it.
"""

from __future__ import annotations

import functools
import re
from typing import Any, TypeVar

import msgspec
from msgspec import inspect
from tornado.web import HTTPError, RequestHandler

ShapeT = TypeVar("ShapeT", bound=msgspec.Struct)

_NUMBER = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?")  # nothing that float() turns into inf
MOST_CHARS = 200
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


def text(handler: RequestHandler, name: str, most: int = MOST_CHARS) -> str:
    """Free text of at most `most` characters; empty when absent."""
    found = handler.get_query_argument(name, "")
    if len(found) > most:
        raise HTTPError(400, f"{name} has at most {most} characters")
    return found


def read(handler: RequestHandler, shape: type[ShapeT]) -> ShapeT:
    """All parameters that `shape` (a `…Query`) names, as it describes them. 400 for a wrong one."""
    return shape(**{field.name: _value(handler, field) for field in _fields(shape)})


@functools.cache
def _fields(shape: type[msgspec.Struct]) -> tuple[inspect.Field, ...]:
    described = inspect.type_info(shape)
    assert isinstance(described, inspect.StructType)  # noqa: S101 - for mypy
    return described.fields


def _value(handler: RequestHandler, field: inspect.Field) -> Any:
    name, kind = field.encode_name, field.type
    if isinstance(kind, inspect.Metadata):  # a description around it
        kind = kind.type
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        value = number(handler, name, field.default)
        if isinstance(kind, inspect.IntType):
            if value != int(value):
                raise HTTPError(400, f"{name} is a whole number")
            value = int(value)
        least, most = kind.ge, kind.le
        if least is None or most is None:
            raise TypeError(f"{name} has no range")  # whatever a peer can make grow has a cap
        return min(max(value, least), most)
    if isinstance(kind, inspect.VarTupleType):
        return tuple(filter(None, text(handler, name, kind.max_length or MOST_CHARS).split(",")))
    if isinstance(kind, inspect.BoolType):
        return flag(handler, name)
    if isinstance(kind, inspect.LiteralType):
        word = handler.get_query_argument(name, field.default)
        if word not in kind.values:
            raise HTTPError(400, f"{name} is one of {', '.join(str(one) for one in kind.values if one)}")
        return word
    if isinstance(kind, inspect.StrType):
        return text(handler, name, kind.max_length or MOST_CHARS)
    raise TypeError(f"no parameter is read as {kind}")
