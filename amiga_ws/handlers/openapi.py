"""The REST part as an OpenAPI 3.1 document, made from what the routes declare.

The types are the ones that read requests and are encoded into replies, so the document cannot differ from
what happens; tests/test_openapi.py runs schemathesis against it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from amiga_ws import __version__
from amiga_ws.handlers.guard import Guarded
from amiga_ws.handlers.operations import JSON, Operation, operation_of
from amiga_ws.handlers.refusals import Problem
from amiga_ws.wire import encode

Route = tuple[str, type[Guarded]]  # a pattern, whose groups are named, and its handler
Schema = dict[str, Any]
METHODS = ("get", "post", "delete")
_SCHEMAS = "#/components/schemas/{name}"
_GROUP = re.compile(r"\(\?P<(\w+)>([^)]*)\)")
_REFUSALS = {
    400: "A parameter, the body or the way of sending the token is wrong; the text names it.",
    401: "No credential, or one that is not accepted.",
    403: "The page that asks, or the scope of the token, may not.",
    404: "There is no such thing (any more).",
    405: "Not a method of this path; `Allow` lists those.",
    421: "This server does not answer to that Host.",
    429: "Too many requests from this address, or too many failed sign-ins.",
    500: "Our fault: the log knows more, under `ref`.",
    501: "A package that this needs is not installed on the server.",
    503: "What was asked for does not answer, or cannot be kept, just now.",
}
_HEADERS = {
    401: {"WWW-Authenticate": "RFC 6750"},
    405: {"Allow": "the methods of this path"},
    429: {"Retry-After": "seconds"},
    503: {"Retry-After": "seconds"},
}


def document(routes: Iterable[Route]) -> bytes:
    """The document of all routes that declare what they answer."""
    described = {path: handler for path, handler in routes if any(operation_of(handler, m) for m in METHODS)}
    schemas = _Schemas(
        kind
        for handler in described.values()
        for method in METHODS
        if (operation := operation_of(handler, method)) is not None
        for kind in (operation.answer, *operation.body, *operation.also.values())
    )
    return encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "amiga_ws",
                "version": __version__,
                "description": "Live monitoring for AMIGA. The streams are described in docs/protocol.md.",
            },
            "security": [{"bearer": []}],
            "paths": {_template(path): _path(path, handler, schemas) for path, handler in described.items()},
            "components": {
                "schemas": schemas.components,
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                },
                "responses": {str(status): _refusal(status, schemas) for status in _REFUSALS},
            },
        }
    )


class _Schemas:
    """JSON Schemas of the types that occur."""

    def __init__(self, kinds: Iterable[Any]) -> None:
        wanted = [Problem, *(kind for kind in kinds if kind is not None)]
        found, self.components = msgspec.json.schema_components(wanted, ref_template=_SCHEMAS)
        self._found = list(zip(wanted, found, strict=True))

    def of(self, kind: Any) -> Schema:
        """A reference to it, or itself."""
        return next(schema for known, schema in self._found if known is kind or known == kind)


def _template(pattern: str) -> str:
    return _GROUP.sub(r"{\1}", pattern).replace("\\", "")


def _path(pattern: str, handler: type[Guarded], schemas: _Schemas) -> Schema:
    item: Schema = {
        method: _method(handler, method, operation, schemas)
        for method in METHODS
        if (operation := operation_of(handler, method)) is not None
    }
    if named := _GROUP.findall(pattern):
        item["parameters"] = [
            {
                "name": name,
                "in": "path",
                "required": True,
                "schema": {"type": "string", "pattern": f"^{form}$"},
            }
            for name, form in named
        ]
    return item


def _method(handler: type[Guarded], method: str, operation: Operation, schemas: _Schemas) -> Schema:
    refusals = {400, 403, 405, 421, 500}
    if handler.rate_limited:
        refusals.add(429)
    if not handler.public:
        refusals.add(401)
    responses: Schema = {str(operation.status): _answer(operation, schemas)}
    for status in sorted(refusals | operation.also.keys()):
        kind = operation.also.get(status, Problem)
        if kind is Problem:
            responses[str(status)] = {"$ref": f"#/components/responses/{status}"}
        else:
            responses[str(status)] = {"description": _REFUSALS[status], **_content(kind, (JSON,), schemas)}
    summary, _, description = _documentation(handler, method)
    described: Schema = {
        "operationId": f"{method}{handler.__name__}",
        "summary": summary,
        "responses": responses,
    }
    if description:
        described["description"] = description
    if handler.public:
        described["security"] = []
    else:
        described["x-scope"] = handler.scope
    if operation.query is not None:
        described["parameters"] = _parameters(operation.query)
    if operation.body:
        one_of = {"oneOf": [schemas.of(kind) for kind in operation.body]}
        described["requestBody"] = {"required": True, "content": {JSON: {"schema": one_of}}}
    return described


def _documentation(handler: type[Guarded], method: str) -> tuple[str, str, str]:
    own = getattr(handler, method).__doc__ or handler.__doc__ or ""
    return inspect.cleandoc(own).partition("\n\n")


def _answer(operation: Operation, schemas: _Schemas) -> Schema:
    if operation.answer is None:
        return {"description": "Done."}
    return {"description": "The answer.", **_content(operation.answer, operation.media, schemas)}


def _content(kind: Any, media: Iterable[str], schemas: _Schemas) -> Schema:
    return {
        "content": {
            each: {"schema": schemas.of(kind) if each == JSON else {"type": "string"}} for each in media
        }
    }


def _refusal(status: int, schemas: _Schemas) -> Schema:
    headers = {
        name: {"description": text, "schema": {"type": "string"}}
        for name, text in _HEADERS.get(status, {}).items()
    }
    told = {"headers": headers} if headers else {}
    return {"description": _REFUSALS[status], **told, **_content(Problem, (JSON,), schemas)}


def _parameters(kind: type[msgspec.Struct]) -> list[Schema]:
    """Each field of a query. A range is no constraint: what lies outside is clamped, not refused."""
    _, components = msgspec.json.schema_components([kind], ref_template=_SCHEMAS)
    parameters = []
    for name, schema in components[kind.__name__]["properties"].items():
        parameter: Schema = {"name": name, "in": "query", "schema": schema}
        if text := schema.pop("description", ""):
            parameter["description"] = text
        limits = [schema.pop(bound) for bound in ("minimum", "maximum") if bound in schema]
        if len(limits) == 2:  # noqa: PLR2004 - both ends
            schema["x-clamped"] = limits
            parameter["description"] = f"{text} Clamped to {limits[0]}-{limits[1]}.".strip()
        if schema.get("type") == "array":
            _words(parameter, schema)
        parameters.append(parameter)
    return parameters


def _words(parameter: Schema, schema: Schema) -> None:
    """A list is written as words between commas; its limit is one of characters."""
    most, items = schema.pop("maxItems", None), schema.pop("items")
    schema.pop("default", None)
    if "enum" in items:
        schema["items"] = items
        parameter |= {"style": "form", "explode": False}
    else:
        schema |= {"type": "string", "maxLength": most}
        parameter["description"] = f"{parameter.get('description', '')} Words between commas.".strip()
