"""The table as people read it: the shipped `config.yaml` and docs/configuration.md."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from amiga_ws.config.kinds import Raw
from amiga_ws.config.table import ROWS, Row, Settings, sections

YAML_HEAD = """\
# Configuration of amiga_ws. Every key stands here at its default, commented out:
# remove the one `#` in front of a key to set it. docs/configuration.md explains the rest.
#
# Made by `python -m amiga_ws config --yaml`; change the table in amiga_ws/config/table.py instead.
"""

MARKDOWN_HEAD = """\
# Configuration

Everything has a default: without a file, an environment or an option the server runs.

A value comes from the first of these that names it:

1. `--set section.key=value` on the command line, as often as needed; the last one of a key wins
2. the environment, `AMIGA_WS_<SECTION>_<KEY>`
3. the configuration file: `--config FILE`, else `config.yaml` in the working directory if it is there
4. the default

```sh
python -m amiga_ws serve --config /etc/amiga_ws.yaml --set server.port=8080
AMIGA_WS_AMIGA_ROOT=/srv/amiga python -m amiga_ws serve
python -m amiga_ws config          # the values in force, and where each comes from
```

An unknown key, section or `AMIGA_WS_…` name, a wrong type or a value out of range ends the command with
exit code 2 and one line that says where it stands, which key it is and what was expected:
`config.yaml:12: server.port: expected a whole number from 0 to 65535, got text '80a'`.
(`AMIGA_WS_TOKEN` is no setting: command line clients read their token from it.)

- **Durations** are a number of seconds, or a number with a unit: `10s`, `15m`, `8h`, `30d`.
- **Lists** are YAML lists in the file; in the environment and in `--set` they are separated by commas.
- **Relative paths** start at the folder of the configuration file, without one at the working directory;
  `~` is the home folder. The commands in `scripts/` take the checkout as working directory.
- **`null`** in the environment and in `--set` is the word `null`, or nothing.
- **AMIGA's own environment**, `AGENTLAB_DATA_DIR` and `AGENTLAB_DB_PATH`, is followed until `amiga.root`
  is set.

This page and `config.yaml` are made from the table in `amiga_ws/config/table.py` by
`python -m amiga_ws config --markdown` and `--yaml`.
"""


RELOAD = """
## Reload

SIGHUP (`systemctl reload amiga-ws`) has a running server read its configuration file, secret, keys and certificate
anew. No connection is lost but those of a key that is gone. `--set` and the environment stay as they were at the
start, and still come before the file. Where something is wrong, nothing changes, and the log says why.
"""

LONG = 100  # characters of a default


def config_yaml() -> str:
    """The text of the shipped `config.yaml`."""
    return "".join(_yaml_lines())


def configuration_markdown(reloaded: tuple[str, ...]) -> str:
    """The text of docs/configuration.md; a reload takes in the keys that begin with one of `reloaded`."""
    return "".join(_markdown_lines(reloaded))


def yaml_value(raw: Raw) -> str:
    """A default as YAML: `null`, `false`, `[]`, `8h`, `3000`."""
    if raw is None or isinstance(raw, bool):
        return {None: "null", True: "true", False: "false"}[raw]
    return f"[{', '.join(map(yaml_value, raw))}]" if isinstance(raw, list) else str(raw)


def _yaml_lines() -> Iterator[str]:
    yield YAML_HEAD
    for name, kind, rows in _groups():
        indent = "  " * len(name.split(".")) if name else ""
        outer = indent[2:]
        yield f"\n{outer}# {kind.__doc__}\n{outer}{name.rpartition('.')[2]}:\n" if name else ""
        for row in rows:
            yield "" if name and row is rows[0] else "\n"
            for text in (row.help, f"Accepted: {_accepted(row)}."):
                yield textwrap.fill(text, 100, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
                yield "\n"
            yield from _yaml_setting(row, indent)


def _yaml_setting(row: Row, indent: str) -> Iterator[str]:
    """Commented out; a long list with a line for each item."""
    name, value = row.key.rpartition(".")[2], yaml_value(row.default)
    if not isinstance(row.default, list) or len(value) < LONG:
        yield f"{indent}#{name}: {value}\n"
        return
    yield f"{indent}#{name}:\n"
    yield from (f"{indent}#  - {yaml_value(item)}\n" for item in row.default)


def _markdown_lines(reloaded: tuple[str, ...]) -> Iterator[str]:
    yield MARKDOWN_HEAD
    yield RELOAD
    for beginning, taken_in, end in (
        ("A reload takes in", True, " (TLS itself is switched on or off by a restart alone)."),
        ("These wait for the next start, and the log says so", False, "."),
    ):
        text = f"{beginning}: {'; '.join(_summary(reloaded, taken_in=taken_in))}{end}"
        yield f"\n{textwrap.fill(text, 115, break_long_words=False, break_on_hyphens=False)}\n"
    for name, kind, rows in _groups():
        if name:
            yield f"\n## `{name}`\n\n{kind.__doc__}\n"
        else:
            yield "\n## Without a section\n"
        yield "\n| key | default | what it is | accepted |\n|---|---|---|---|\n"
        for row in rows:
            value = yaml_value(row.default)
            default = f"`{value}`" if len(value) < LONG else "see config.yaml"
            yield f"| `{row.key}` | {default} | {row.help} | {_accepted(row)} |\n"


def _summary(reloaded: tuple[str, ...], *, taken_in: bool) -> Iterator[str]:
    """The keys that a reload takes in, or does not, as short as that can be said."""
    for name, _, rows in _groups():
        keys = [f"`{row.key}`" for row in rows if row.key.startswith(reloaded) == taken_in]
        others = [f"`{row.key}`" for row in rows if row.key.startswith(reloaded) != taken_in]
        if not name or len(keys) < len(others):
            yield from keys
        elif keys:
            yield f"all of `{name}`" + (f" but {' and '.join(others)}" if others else "")


def _groups() -> Iterator[tuple[str, type, list[Row]]]:
    yield "", Settings, [row for row in ROWS.values() if "." not in row.key]
    for name, kind in sections():
        yield name, kind, [row for row in ROWS.values() if row.key.rpartition(".")[0] == name]


def _accepted(row: Row) -> str:
    # A duration tells its unit itself.
    unit = f", {row.kind.unit}" if row.kind.unit not in ("", "s") else ""
    return row.kind.expects.partition(" (a number of seconds")[0] + unit
