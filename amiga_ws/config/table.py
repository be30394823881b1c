"""The one table of settings: each with its default, kind (unit, range) and help.

The loader, `config.yaml` and docs/configuration.md are all made from it. Instances are frozen; they come
from `load`, which checks every value and turns every path and every default that depends on the machine
into something concrete.
"""

# ruff: noqa: RUF009 - `setting()` and `section()` return dataclasses.field(), no shared value

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from amiga_ws.config import kinds
from amiga_ws.config.kinds import Kind, Raw
from amiga_ws.config.prices import DEFAULT_LINES, Price, price


def setting(default: Raw, kind: Kind, text: str) -> Any:  # noqa: ANN401 - stands for any field's default
    """A row of the table. `default` is written as in YAML and passes `kind` like any other value."""
    value = kind.check(default)
    return field(default=value, metadata={"kind": kind, "default": default, "help": text})


def section(kind: type) -> Any:  # noqa: ANN401 - stands for any section
    """A group of rows."""
    return field(default_factory=kind, metadata={"section": kind})


@dataclass(frozen=True)
class Tls:
    """TLS of our own; leave both null behind a proxy that ends it. SIGHUP reads the files again."""

    cert: Path | None = setting(
        None, kinds.optional(kinds.path()), "PEM file with the certificate and its chain."
    )
    key: Path | None = setting(
        None, kinds.optional(kinds.path()), "PEM file with the certificate's private key."
    )


@dataclass(frozen=True)
class Server:
    """Where we listen, and under which names."""

    host: str = setting(
        "127.0.0.1",
        kinds.host(),
        "Address to listen on. 127.0.0.1 is this machine alone; 0.0.0.0 and :: are every interface.",
    )
    port: int = setting(
        3000,
        kinds.integer(0, 65535),
        "Port to listen on; 0 takes any free one. When it is not set and 3000 is taken (AMIGA's own server "
        "uses it), the next free one of 3001-3010 is used.",
    )
    public_url: str | None = setting(
        None,
        kinds.optional(kinds.origin()),
        "The origin under which people reach us, where a reverse proxy or a name stands in front. Sign-in "
        "links point there, and its host and origin count as our own.",
    )
    allowed_hosts: tuple[str, ...] = setting(
        [],
        kinds.list_of(kinds.host_header()),
        "More names a request's Host header may carry, exactly; loopback, the address a connection arrived "
        "at and public_url always may. Any other is refused with 421 (this stops DNS rebinding).",
    )
    trusted_proxies: tuple[str, ...] = setting(
        [],
        kinds.list_of(kinds.network()),
        "Addresses or networks of reverse proxies whose X-Forwarded-For and X-Forwarded-Proto are believed; "
        "from anybody else they are ignored.",
    )
    drain_s: float = setting(
        0,
        kinds.duration("0s", "5m"),
        "How long to report 'not ready' on /ready before streams are closed at shutdown, so that a load "
        "balancer can look away.",
    )
    deflate: bool = setting(
        False,
        kinds.flag(),
        "Whether WebSocket clients that offer permessage-deflate get compressed messages: an eighth of the "
        "bytes, compressed once for all. Of use on slow lines.",
    )
    tls: Tls = section(Tls)


@dataclass(frozen=True)
class Amiga:
    """The AMIGA installation we watch. Its files are read, never written."""

    root: Path = setting(
        None,
        kinds.optional(kinds.path()),
        "AMIGA's folder. null: the parent of AGENTLAB_DATA_DIR where AMIGA's environment names one, "
        "else /opt/amiga.",
    )
    database: Path = setting(
        None,
        kinds.optional(kinds.path()),
        "AMIGA's SQLite database. null: data/agentlab.db in amiga.root; while amiga.root is null too, "
        "AGENTLAB_DB_PATH or agentlab.db in AGENTLAB_DATA_DIR come first.",
    )
    sessions: Path = setting(
        None,
        kinds.optional(kinds.path()),
        "Folder of the hooks' session logs. null: logs/sessions in amiga.root.",
    )
    timezone: str | None = setting(
        None,
        kinds.optional(kinds.zone()),
        "Time zone of AMIGA's host: its database keeps local times without a zone. null: this machine's.",
    )
    transcripts: Path | None = setting(
        None,
        kinds.optional(kinds.path()),
        "Claude Code's projects folder (~/.claude/projects of the user AMIGA runs as): the only full source of "
        "token counts. null: costs come from AMIGA's own, partial records.",
    )
    hide_parameters: bool = setting(
        False,
        kinds.flag(),
        "Leave tool parameters out altogether, instead of redacting secrets in them.",
    )
    name: str = setting(
        None,
        kinds.optional(kinds.line(64)),
        "What the pages call this installation. null: this machine's host name.",
    )


@dataclass(frozen=True)
class Costs:
    """What tokens cost, and how much may be spent."""

    prices: tuple[Price, ...] = setting(
        DEFAULT_LINES,
        kinds.list_of(price()),
        "The price table per million tokens, by model and day; a list here replaces it whole. A model that is "
        "not in it is counted as unpriced, never as free.",
    )
    currency: str = setting("USD", kinds.line(8), "Of the prices and the budget; only shown.")
    budget: float | None = setting(
        None,
        kinds.optional(kinds.number(0.01, 1e9)),
        "Money per calendar month. The page shows the share used and, if it will not last, the day it will be used up.",
    )


@dataclass(frozen=True)
class Auth:
    """How long what we issue is good for."""

    ttl: float = setting(
        "8h", kinds.duration("1s", "3650d"), "Life of an access token for which none is asked."
    )
    max_ttl: float = setting(
        "30d",
        kinds.duration("1s", "3650d"),
        "The longest life a token may have: a longer one is not issued and not accepted.",
    )
    login_ttl: float = setting(
        "2m", kinds.duration("1s", "1d"), "Life of a sign-in link; it works once in any case."
    )
    session_ttl: float = setting(
        "12h",
        kinds.duration("1m", "3650d"),
        "Life of a browser's session; an open page renews it.",
    )
    session_max: float = setting(
        "30d",
        kinds.duration("1m", "3650d"),
        "How long after sign-in a session can be renewed at all.",
    )
    keys: tuple[str, ...] = setting(
        [],
        kinds.list_of(kinds.line(300)),
        "More keys that tokens may be signed with, each as 'alg=HS256 file=old.hex until=2027-01-31' (an older "
        "secret, mode 0600) or 'alg=RS256 kid=NAME file=NAME.pem' (a public key: RS256, ES256, EdDSA; until= is "
        "optional). Files are relative to state_dir.",
    )


@dataclass(frozen=True)
class Origins:
    """Which web pages other than our own may speak to us, with a token of their own."""

    allowed: tuple[str, ...] = setting(
        [],
        kinds.list_of(kinds.origin()),
        "Foreign origins, exactly as the browser sends them. They never get to use the sign-in cookie.",
    )
    allow_null: bool = setting(
        False,
        kinds.flag(),
        "Whether `Origin: null` (sandboxed frames, pages from a file) may pass with an explicit token.",
    )


@dataclass(frozen=True)
class Limits:
    """What one viewer, one address and all together may take. Every refusal names its limit."""

    connections: int = setting(
        2000,
        kinds.integer(1, 1_000_000),
        "Open streams in all. Lowered with a warning where the descriptor limit cannot carry it.",
    )
    connections_per_subject: int = setting(
        10, kinds.integer(1, 1_000_000), "Open streams of one subject (the `sub` of its tokens)."
    )
    connections_per_address: int = setting(20, kinds.integer(1, 1_000_000), "Open streams from one address.")
    new_connections_per_second: float = setting(
        10, kinds.number(0.01, 100_000, "1/s"), "New streams from one address."
    )
    new_connections_burst: int = setting(
        20, kinds.integer(1, 100_000), "New streams from one address at once."
    )
    messages_per_second: float = setting(20, kinds.number(0.01, 100_000, "1/s"), "Messages on one WebSocket.")
    messages_burst: int = setting(40, kinds.integer(1, 100_000), "Messages on one WebSocket at once.")
    refreshes_per_second: float = setting(
        1, kinds.number(0.01, 1000, "1/s"), "`request_refresh` messages on one WebSocket."
    )
    refreshes_burst: int = setting(3, kinds.integer(1, 1000), "`request_refresh` messages at once.")
    misuses_per_minute: float = setting(
        2,
        kinds.number(0.01, 100_000, "1/min"),
        "Connections with one token that end for what they sent (floods, broken frames, messages that do not parse).",
    )
    misuses_burst: int = setting(
        3,
        kinds.integer(1, 100_000),
        "Such connections at once; after them the token opens no stream for a while, others of its subject do.",
    )
    requests_per_second: float = setting(
        20, kinds.number(0.01, 100_000, "1/s"), "Plain HTTP requests from one address."
    )
    requests_burst: int = setting(
        40, kinds.integer(1, 100_000), "Plain HTTP requests from one address at once."
    )
    deflate_connections: int = setting(
        500,
        kinds.integer(1, 1_000_000),
        "WebSockets with compression (server.deflate) at a time; further ones come to be without.",
    )
    message_bytes: int = setting(
        16384,
        kinds.integer(1024, 1_048_576, "bytes"),
        "The largest message a WebSocket client may send; a larger one closes it with 1009.",
    )


@dataclass(frozen=True)
class Metrics:
    """What is sent, and how often."""

    update_interval: int = setting(
        2,
        kinds.duration("1s", "60s", whole=True),
        "Seconds between updates for a viewer that asks for nothing else.",
    )


@dataclass(frozen=True)
class History:
    """What the charts reach back to: 10 s for a day, minutes for two weeks, hours for 400 days."""

    enabled: bool = setting(
        True,
        kinds.flag(),
        "Whether history is kept on disk, in history.db in state_dir; else in memory, until we stop.",
    )
    max_mb: int = setting(
        64,
        kinds.integer(8, 100_000, "MB"),
        "How large that file may grow; beyond it the oldest points go first.",
    )


@dataclass(frozen=True)
class Log:
    """Our own log, on stderr."""

    level: str = setting(
        "info", kinds.choice("debug", "info", "warning", "error"), "The least that is logged."
    )


@dataclass(frozen=True)
class Settings:
    """Everything that can be set; `settings.server.port` is the key `server.port`."""

    state_dir: Path = setting(
        "var",
        kinds.path(),
        "Folder of what must outlive us: the signing secret, used sign-in links, the address while we run.",
    )
    server: Server = section(Server)
    amiga: Amiga = section(Amiga)
    costs: Costs = section(Costs)
    auth: Auth = section(Auth)
    origins: Origins = section(Origins)
    limits: Limits = section(Limits)
    metrics: Metrics = section(Metrics)
    history: History = section(History)
    log: Log = section(Log)
    # Where each key that was given came from (`config.yaml:3`, `--set`, a variable's name); no defaults.
    given: Mapping[str, str] = field(default_factory=dict, repr=False)
    # The configuration file that was read.
    config_file: Path | None = None

    def is_set(self, key: str) -> bool:
        """Whether `key` (`server.port`) was given anywhere, be it at its default. KeyError if unknown."""
        if key not in ROWS:
            raise KeyError(key)
        return key in self.given

    def get(self, key: str) -> Any:  # noqa: ANN401 - whatever the row holds
        """The value of a dotted key."""
        value: Any = self
        for part in key.split("."):
            value = getattr(value, part)
        return value

    def keeping(self, former: Settings, keys: Iterable[str]) -> Settings:
        """These settings, with what `former` has under `keys`."""
        kept: Settings = self
        for key in keys:
            kept = _with(kept, key.split("."), former.get(key))
        return kept


def _with(group: Any, path: Sequence[str], value: Any) -> Any:  # noqa: ANN401 - any section, any row's value
    name, *inner = path
    return dataclasses.replace(group, **{name: _with(getattr(group, name), inner, value) if inner else value})


@dataclass(frozen=True)
class Row:
    """One row of the table, as the loader and the documentation see it."""

    key: str
    kind: Kind
    default: Raw
    help: str

    @property
    def variable(self) -> str:
        """The environment's name for it."""
        return variable_of(self.key)


def variable_of(key: str) -> str:
    """`server.port` → `AMIGA_WS_SERVER_PORT`."""
    return "AMIGA_WS_" + key.replace(".", "_").upper()


def sections() -> Iterator[tuple[str, type]]:
    """Dotted name and class of each section, in order, each before those inside it."""
    yield from _sections_of("", Settings)


def _sections_of(prefix: str, kind: Any) -> Iterator[tuple[str, type]]:  # noqa: ANN401 - as below
    for each in fields(kind):
        if "section" in each.metadata:
            yield prefix + each.name, each.metadata["section"]
            yield from _sections_of(f"{prefix}{each.name}.", each.metadata["section"])


def _rows() -> Iterator[Row]:
    yield from _rows_of("", Settings)
    for name, kind in sections():
        yield from _rows_of(f"{name}.", kind)


def _rows_of(prefix: str, kind: Any) -> Iterator[Row]:  # noqa: ANN401 - a dataclass; typeshed has no name for it
    for each in dataclasses.fields(kind):
        if "kind" in (meta := each.metadata):
            yield Row(prefix + each.name, meta["kind"], meta["default"], meta["help"])


ROWS: Mapping[str, Row] = {row.key: row for row in _rows()}
