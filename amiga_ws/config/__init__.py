"""Settings: one table (table.py), read from YAML, environment and command line (loading.py).

`load` gives frozen `Settings`; nothing else in the package reads the configuration file or the environment.
"""

from amiga_ws.config.loading import ConfigError, load
from amiga_ws.config.table import ROWS, Limits, Settings

__all__ = ["ROWS", "ConfigError", "Limits", "Settings", "load"]
