"""Our own history of the host and of what AMIGA did: a small SQLite with roll-ups.

`series` names what is kept, `points` does the arithmetic, `recent` is the last hour in memory, `database` is the
file, `keeper` brings them together and `thread` runs that beside the loop. docs/adr/0004-history.md says why it is
made this way.
"""

from amiga_ws.history.keeper import HistoryError
from amiga_ws.history.series import SERIES, reading
from amiga_ws.history.thread import History

__all__ = ["SERIES", "History", "HistoryError", "reading"]
