"""JSON Patch (RFC 6902) in `add`, `replace` and `remove`: `diff` finds one, `apply` obeys it. Pure.

Made for small patches: equal parts are skipped by comparing structs in C, rows of a list are matched by
what identifies them, so that one new activity line is one `add` and one `remove`, never the list again.
A member of an object is set by `add`, whether it was there or not (RFC 6902, 4.1): `replace` is four bytes a step
more, a twentieth of a patch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, Literal

import msgspec

# Stamped outside the patched document: metrics_patch carries them itself.
STAMPS = frozenset({"timestamp", "position"})
# What identifies a row among its like; a list without any is compared element by element.
ROW_KEYS = ("task_id", "session_id", "mount", "error_class", "subject", "timestamp", "pid")
ARRAY_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One step; `path` is a JSON Pointer (RFC 6901), `value` is absent from `remove`."""

    op: Literal["add", "replace", "remove"]
    path: str
    value: Any = msgspec.UNSET


def diff(base: msgspec.Struct, newest: msgspec.Struct) -> list[Operation]:
    """The steps that turn `base` into `newest`, two structs of one type, but for their `STAMPS`."""
    return list(_struct(base, newest, "", STAMPS))


def _change(base: Any, op: Literal["add", "replace"], path: str, newest: Any) -> list[Operation]:  # noqa: ANN401 - any JSON value
    """The steps from `base` to what differs from it, or the whole again where that is less: two fields of three are."""
    whole = [Operation(op=op, path=path, value=newest)]
    if type(base) is not type(newest):
        return whole
    if isinstance(base, msgspec.Struct):
        steps = list(_struct(base, newest, path))
    elif isinstance(base, dict):
        steps = list(_mapping(base, newest, path))
    elif isinstance(base, list) and base and newest:
        steps = list(_rows(base, newest, path))
    else:
        return whole
    return steps if len(steps) == 1 or len(_encoded(steps)) < len(_encoded(whole)) else whole


def _struct(
    base: msgspec.Struct, newest: msgspec.Struct, path: str, skipped: frozenset[str] = frozenset()
) -> Iterator[Operation]:
    for name, wire_name in zip(base.__struct_fields__, base.__struct_encode_fields__, strict=True):
        if name not in skipped and (old := getattr(base, name)) != (value := getattr(newest, name)):
            yield from _change(old, "add", f"{path}/{wire_name}", value)


def _mapping(base: dict[str, Any], newest: dict[str, Any], path: str) -> Iterator[Operation]:
    for key in base.keys() - newest.keys():
        yield Operation(op="remove", path=f"{path}/{_escaped(key)}")
    for key, value in newest.items():
        if (old := base.get(key, msgspec.UNSET)) != value:
            yield from _change(old, "add", f"{path}/{_escaped(key)}", value)


def _rows(base: list[Any], newest: list[Any], path: str) -> Iterator[Operation]:
    """From the end to the start: what is done to a row never moves those before it."""
    matcher = SequenceMatcher(None, _identities(base), _identities(newest), autojunk=False)
    for _, start, end, new_start, new_end in reversed(matcher.get_opcodes()):
        common = min(end - start, new_end - new_start)
        for index in reversed(range(start + common, end)):
            yield Operation(op="remove", path=f"{path}/{index}")
        for value in reversed(newest[new_start + common : new_end]):
            yield Operation(op="add", path=f"{path}/{start + common}", value=value)
        for offset in reversed(range(common)):
            if (old := base[start + offset]) != (value := newest[new_start + offset]):
                yield from _change(old, "replace", f"{path}/{start + offset}", value)


def _identities(rows: Sequence[Any]) -> list[Any]:
    first = rows[0]
    if not isinstance(first, msgspec.Struct):
        return list(range(len(rows)))
    names = [name for name in ROW_KEYS if name in first.__struct_fields__]
    return [tuple(getattr(row, name) for name in names) for row in rows]


_encoded = msgspec.json.Encoder().encode


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


# -- the other side ------------------------------------------------------------------------------


class PatchError(Exception):
    """A patch does not fit the document it was applied to; nothing of it counts."""


def apply(document: Any, operations: Iterable[Mapping[str, Any]]) -> Any:  # noqa: ANN401 - any JSON value
    """What `operations` (as decoded from the wire) make of `document`, which stays as it is.

    Containers on the way to a change are copied, all others are shared with the old document.

    Raises:
        PatchError: a step names what is not there, or is no `add`, `replace` or `remove`.
    """
    for operation in operations:
        op, path = operation.get("op"), operation.get("path")
        if op not in ("add", "replace", "remove") or not isinstance(path, str):
            raise PatchError(f"not a step of a patch: {op!r} {path!r}")
        if op != "remove" and "value" not in operation:
            raise PatchError(f"{op} {path} has no value")
        document = _changed(document, _parts(path), op, operation.get("value"))
    return document


def _parts(pointer: str) -> list[str]:
    """`/a~1b/0` → `["a/b", "0"]` (RFC 6901, 4: `~1` first, or `~01` would become `/`)."""
    if pointer and not pointer.startswith("/"):
        raise PatchError(f"not a JSON Pointer: {pointer!r}")
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def _changed(node: Any, parts: list[str], op: str, value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if not parts:
        if op == "remove":
            raise PatchError("the whole document cannot be removed")
        return value
    last = len(parts) == 1
    adding = last and op == "add"
    key: Any
    if isinstance(node, list):
        key = _index(parts[0], len(node), adding=adding)
    elif isinstance(node, dict):
        key = parts[0]
        if key not in node and not adding:
            raise PatchError(f"there is no {key!r}")
    else:
        raise PatchError(f"there is nothing below which {parts[0]!r} could be")
    copy = node.copy()
    if not last:
        copy[key] = _changed(node[key], parts[1:], op, value)
    elif op == "remove":
        del copy[key]
    elif isinstance(copy, list) and adding:
        copy.insert(key, value)
    else:
        copy[key] = value
    return copy


def _index(part: str, length: int, *, adding: bool) -> int:
    """An array index (RFC 6901, 4): digits without a leading zero; `-`, the end, only to add."""
    if part == "-" and adding:
        return length
    if not ARRAY_INDEX.fullmatch(part):
        raise PatchError(f"not an array index: {part!r}")
    index = int(part)
    if index >= length + adding:
        raise PatchError(f"there is no row {index} among {length}")
    return index
