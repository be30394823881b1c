"""What a route answers to a method, said beside the method: `@answers(TaskPage, query=TaskQuery)`.

openapi.py makes the document of it; tests/test_openapi.py keeps a route from being forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

JSON = "application/json"

MethodT = TypeVar("MethodT", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one route."""

    answer: Any  # the type of the body; None: it has none
    status: int
    query: type[msgspec.Struct] | None  # its fields are the query parameters
    body: tuple[type[msgspec.Struct], ...]  # the request's, as JSON, is one of these; empty: it has none
    also: Mapping[int, Any]  # status → type of the body, beside what the guard may answer
    media: tuple[str, ...]  # of the answer


_operations: dict[Callable[..., Any], Operation] = {}


def answers(
    answer: Any,
    *,
    status: int = 200,
    query: type[msgspec.Struct] | None = None,
    body: tuple[type[msgspec.Struct], ...] = (),
    also: Mapping[int, Any] | None = None,
    media: tuple[str, ...] = (JSON,),
) -> Callable[[MethodT], MethodT]:
    """Declare what a handler's method takes and answers."""

    def declare(method: MethodT) -> MethodT:
        _operations[method] = Operation(answer, status, query, body, also or {}, media)
        return method

    return declare


def operation_of(handler: type, method: str) -> Operation | None:
    """What a handler class declares for `get`, `post` or `delete`."""
    return _operations.get(getattr(handler, method, None))  # type: ignore[arg-type]  # None: declared by none
