"""Where settings come from: `--set`, then the environment, then a YAML file, then the defaults.

This and nothing else reads the configuration file and the environment. Every value is checked where it
stands, also one that a stronger source overrides, and the first fault ends the reading.
"""

from __future__ import annotations

import difflib
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from amiga_ws.config.kinds import Raw, spoken
from amiga_ws.config.table import ROWS, Amiga, Auth, Settings, sections, variable_of

DEFAULT_FILE = "config.yaml"
PREFIX = "AMIGA_WS_"
# Names with our prefix that are no settings: the token of command line clients.
NO_SETTINGS = frozenset({"AMIGA_WS_TOKEN"})
KEY_OF_VARIABLE = {variable_of(key): key for key in ROWS}
DEFAULT_AMIGA_ROOT = Path("/opt/amiga")


class ConfigError(Exception):
    """The configuration cannot be used; the text is one line: where, which key, what was expected."""


@dataclass(frozen=True)
class _Given:
    key: str
    value: Any  # checked
    where: str  # for people: `config.yaml:3`, `AMIGA_WS_SERVER_PORT`, `--set`


def load(
    config_file: Path | None = None,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Settings:
    """The settings of this process.

    Args:
        config_file: must exist when given; without it `config.yaml` in `cwd` is used if it is there.
        overrides: `section.key=value` texts, the last of a key wins.
        environ: by default the process's own.
        cwd: by default the process's own.

    Raises:
        ConfigError: any unknown key or name, wrong type or value, or an unreadable file.
    """
    environ = os.environ if environ is None else environ
    cwd = cwd or _working_directory()
    file = _file(config_file, cwd)
    found: dict[str, _Given] = {}
    for each in (
        *(_from_file(file, config_file) if file else ()),
        *_from_environment(environ),
        *_from_overrides(overrides),
    ):
        found[each.key] = each
    return _build(found, environ, file, cwd)


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        raise ConfigError(f"the working directory cannot be used: {error.strerror}") from error


def _file(named: Path | None, cwd: Path) -> Path | None:
    if named is not None:
        return cwd / named
    try:
        return cwd / DEFAULT_FILE if (cwd / DEFAULT_FILE).exists() else None
    except OSError:  # it may be there; the reading says what is wrong
        return cwd / DEFAULT_FILE


# -- sources -------------------------------------------------------------------------------------


def _from_file(file: Path, named: Path | None) -> Iterator[_Given]:
    shown = _one_line(str(named or file.name), most=1000)
    try:
        root: yaml.Node | None = yaml.compose(file.read_text("utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(f"{shown}: cannot read the configuration file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{shown}: expected UTF-8 text") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not readable"
        raise ConfigError(f"{shown}{at}: expected YAML: {_one_line(str(problem))}") from error
    except (ValueError, OverflowError, RecursionError) as error:
        # PyYAML's own slips: an escape beyond Unicode, thousands of open brackets.
        raise ConfigError(f"{shown}: expected YAML: {_one_line(str(error))}") from error
    if root is None or _is_null(root):
        return
    seen: set[str] = set()
    for key, node, line in _leaves(root, "", shown):
        where = f"{shown}:{line}"
        if key in seen:
            raise ConfigError(f"{where}: {key}: expected once, it stands in this file twice")
        seen.add(key)
        yield _checked(key, _plain(node, key, where), where)


def _leaves(node: yaml.Node, prefix: str, shown: str) -> Iterator[tuple[str, yaml.Node, int]]:
    """Key, value and line of every setting under a mapping."""
    if not isinstance(node, yaml.MappingNode):
        what = prefix.rstrip(".") or "the file"
        raise ConfigError(f"{shown}:{node.start_mark.line + 1}: {what}: expected a mapping of keys to values")
    seen: set[str] = set()
    for name, value in node.value:
        line = name.start_mark.line + 1
        key = f"{prefix}{name.value}" if isinstance(name, yaml.ScalarNode) else f"{prefix}?"
        if key in ROWS:
            yield key, value, line
            continue
        if not any(row.startswith(f"{key}.") for row in ROWS):
            raise ConfigError(f"{shown}:{line}: {_unknown(key)}")
        if key in seen:
            raise ConfigError(f"{shown}:{line}: {key}: expected once, it stands in this file twice")
        seen.add(key)
        if not _is_null(value):  # a section whose keys are all commented out
            yield from _leaves(value, f"{key}.", shown)


def _plain(node: yaml.Node, key: str, where: str) -> Raw:
    """What a YAML node holds, without the surprises of YAML 1.1 (`017` is 17, `1:30` and dates are text)."""
    if isinstance(node, yaml.SequenceNode) and all(isinstance(each, yaml.ScalarNode) for each in node.value):
        return [_plain(each, key, where) for each in node.value]
    if not isinstance(node, yaml.ScalarNode):
        raise _wrong(key, where, "a mapping" if isinstance(node, yaml.MappingNode) else "a list of lists")
    text: str = node.value
    readers: dict[str, Callable[[], Raw]] = {
        "tag:yaml.org,2002:null": lambda: None,
        "tag:yaml.org,2002:bool": lambda: text.lower() in ("true", "yes", "on"),
        "tag:yaml.org,2002:int": lambda: int(text) if len(text) < 20 else text,  # noqa: PLR2004 - 64 bits
        "tag:yaml.org,2002:float": lambda: float(text),
    }
    try:
        return readers.get(node.tag, lambda: text)()
    except ValueError:
        return text


def _from_environment(environ: Mapping[str, str]) -> Iterator[_Given]:
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in NO_SETTINGS:
            continue
        if (key := KEY_OF_VARIABLE.get(name)) is None:
            near = _nearest(name, KEY_OF_VARIABLE)
            raise ConfigError(f"environment: {_one_line(name)}: expected the name of a setting{near}")
        yield _checked(key, ROWS[key].kind.from_text(environ[name].strip()), f"environment {name}")


def _from_overrides(overrides: Iterable[str]) -> Iterator[_Given]:
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {_one_line(text)}: expected section.key=value")
        key = key.strip()
        if key not in ROWS:
            raise ConfigError(f"--set: {_unknown(key)}")
        yield _checked(key, ROWS[key].kind.from_text(value.strip()), "--set")


def _checked(key: str, raw: Raw, where: str) -> _Given:
    try:
        return _Given(key, ROWS[key].kind.check(raw), where)
    except ValueError as error:
        raise _wrong(key, where, _shown(raw), str(error)) from error


# -- from values to settings ---------------------------------------------------------------------


def _build(found: Mapping[str, _Given], environ: Mapping[str, str], file: Path | None, cwd: Path) -> Settings:
    base = file.parent if file else cwd
    values = {
        key: base / given.value if ROWS[key].kind.is_path and given.value is not None else given.value
        for key, given in found.items()
    }
    groups: dict[str, Any] = {}
    for name, kind in reversed(list(sections())):  # an inner section before the one it is in
        mine = {key.rpartition(".")[2]: v for key, v in values.items() if key.rpartition(".")[0] == name}
        inner = {key: groups.pop(f"{name}.{key}") for key in _names(kind) if f"{name}.{key}" in groups}
        groups[name] = kind(**mine, **inner)
    groups["amiga"] = _located(groups["amiga"], environ, cwd)
    groups["auth"] = _consistent(groups["auth"], found)
    state_dir = values.get("state_dir", base / Settings.state_dir)
    given = {key: each.where for key, each in found.items()}
    return Settings(state_dir=state_dir, **groups, given=given, config_file=file)


def _names(kind: Any) -> list[str]:  # noqa: ANN401 - a dataclass; typeshed has no name for it
    return [each.name for each in fields(kind)]


def _located(amiga: Amiga, environ: Mapping[str, str], cwd: Path) -> Amiga:
    """AMIGA's folders, by our settings or else by the names AMIGA's own environment uses."""
    data_dir, db_path = environ.get("AGENTLAB_DATA_DIR"), environ.get("AGENTLAB_DB_PATH")
    root, database = amiga.root, amiga.database
    if root is None:
        root = (cwd / data_dir).parent if data_dir else DEFAULT_AMIGA_ROOT
        if database is None and (db_path or data_dir):
            database = cwd / db_path if db_path else cwd / str(data_dir) / "agentlab.db"
    return replace(
        amiga,
        root=root,
        database=database or root / "data" / "agentlab.db",
        sessions=amiga.sessions or root / "logs" / "sessions",
        name=amiga.name or _host_name(),
    )


def _consistent(auth: Auth, found: Mapping[str, _Given]) -> Auth:
    """No life beyond its limit: a default follows the limit, a value that was given is an error."""
    for name, most in (("ttl", "max_ttl"), ("login_ttl", "max_ttl"), ("session_ttl", "session_max")):
        value, limit = getattr(auth, name), getattr(auth, most)
        if value <= limit:
            continue
        if given := found.get(f"auth.{name}"):
            raise ConfigError(
                f"{given.where}: auth.{name}: expected at most auth.{most} ({spoken(limit)}), got {spoken(value)}"
            )
        auth = replace(auth, **{name: limit})
    return auth


def _host_name() -> str:
    name = socket.gethostname()
    return name[:64] if name.isprintable() and name.strip() else "AMIGA"


# -- what is said --------------------------------------------------------------------------------


def _wrong(key: str, where: str, got: str, better: str = "") -> ConfigError:
    return ConfigError(f"{where}: {key}: expected {better or ROWS[key].kind.expects}, got {got}")


def _unknown(key: str) -> str:
    return f"{_one_line(key)}: expected the key of a setting{_nearest(key, ROWS)}"


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else "; docs/configuration.md lists them"


def _shown(raw: Raw) -> str:
    if raw is None or isinstance(raw, bool):
        return {None: "null", True: "true", False: "false"}[raw]
    if isinstance(raw, list):
        return f"[{', '.join(_shown(each) for each in raw[:5])}{', …' if len(raw) > 5 else ''}]"  # noqa: PLR2004 - enough to see
    if isinstance(raw, str):
        # A password pasted into a URL must not come back in a log.
        return f"text '{_one_line(re.sub(r'//[^/@]*@', '//…@', raw))}'"
    return str(raw)


def _one_line(text: str, most: int = 60) -> str:
    cut = text if len(text) <= most else f"{text[:most]}…"
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in cut)


def _is_null(node: yaml.Node) -> bool:
    return bool(node.tag == "tag:yaml.org,2002:null")
