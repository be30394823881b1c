"""AMIGA's files and processes, read only. `AmigaCollector` is the door; docs/protocol.md names the numbers."""

from amiga_ws.collectors.amiga.collector import AmigaCollector
from amiga_ws.collectors.amiga.options import AmigaConfig

__all__ = ["AmigaCollector", "AmigaConfig"]
