"""What is kept: the fixed names of all series, their units, and how a reading of the facts fills them."""

from __future__ import annotations

from dataclasses import dataclass

from amiga_ws.snapshot import AmigaFacts, HostFacts


@dataclass(frozen=True)
class Series:
    """One series. `number` stands for it in the file and is never used for another one.

    `by_minute`: comes whole minutes at a time from what AMIGA wrote, also for minutes in which we did not run.
    """

    number: int
    unit: str
    by_minute: bool = False


SERIES: dict[str, Series] = {
    "host.cpu": Series(1, "%"),
    "host.load1": Series(2, ""),
    "host.mem": Series(3, "%"),
    "host.swap": Series(4, "%"),
    "host.disk": Series(5, "%"),  # of the fullest one
    "host.rx": Series(6, "B/s"),
    "host.tx": Series(7, "B/s"),
    "host.read": Series(8, "B/s"),
    "host.write": Series(9, "B/s"),
    "bot.rss": Series(10, "B"),
    "bot.cpu": Series(11, "%"),
    "bot.threads": Series(12, ""),
    "tasks.running": Series(13, ""),
    "tasks.pending": Series(14, ""),
    "tasks.completed": Series(15, "1/min", by_minute=True),
    "tasks.failed": Series(16, "1/min", by_minute=True),
    "tasks.stopped": Series(17, "1/min", by_minute=True),
    "tools.calls": Series(18, "1/min", by_minute=True),
    "tools.errors": Series(19, "1/min", by_minute=True),
    "tools.p50": Series(20, "ms", by_minute=True),
    "tools.p95": Series(21, "ms", by_minute=True),
    "tokens.in": Series(22, "1/min", by_minute=True),
    "tokens.out": Series(23, "1/min", by_minute=True),
    "tokens.cache": Series(24, "1/min", by_minute=True),
    "cost.usd": Series(25, "USD/h", by_minute=True),
    "tokens.haiku": Series(26, "1/min", by_minute=True),
    "tokens.sonnet": Series(27, "1/min", by_minute=True),
    "tokens.opus": Series(28, "1/min", by_minute=True),
    "tokens.other": Series(29, "1/min", by_minute=True),
    "cost.haiku": Series(30, "USD/h", by_minute=True),
    "cost.sonnet": Series(31, "USD/h", by_minute=True),
    "cost.opus": Series(32, "USD/h", by_minute=True),
    "cost.other": Series(33, "USD/h", by_minute=True),
}


def reading(host: HostFacts | None, amiga: AmigaFacts | None) -> dict[str, float]:
    """What two sets of facts say now, by name of series; what is unknown or not to be believed is absent."""
    found: dict[str, float | None] = {}
    if host is not None and _good(host, "host"):
        system = host.system
        found |= {
            "host.cpu": system.cpu_percent,
            "host.load1": system.load[0] if system.load else None,
            "host.mem": system.memory.percent,
            "host.swap": system.swap.percent,
            "host.disk": max((disk.percent for disk in system.disks), default=None),
            "host.rx": system.network.rx_bytes_s,
            "host.tx": system.network.tx_bytes_s,
            "host.read": system.disk_io.read_bytes_s,
            "host.write": system.disk_io.write_bytes_s,
        }
    if amiga is not None and _good(amiga, "amiga"):
        found |= {"tasks.running": amiga.totals.running, "tasks.pending": amiga.totals.pending}
    # The bot's process is looked at whether or not its database can be read; a hung reading is not news.
    if amiga is not None and amiga.amiga_process is not None and not _hung(amiga):
        bot = amiga.amiga_process
        found |= {"bot.rss": bot.rss, "bot.cpu": bot.cpu_percent, "bot.threads": bot.threads}
    return {name: value for name, value in found.items() if value is not None}


def _good(facts: HostFacts | AmigaFacts, source: str) -> bool:
    return source in facts.sources and facts.sources[source].state == "ok"


def _hung(facts: AmigaFacts) -> bool:
    return any(source.state == "stale" for source in facts.sources.values())
