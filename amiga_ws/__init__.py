"""Live monitoring server for AMIGA. See README.md; `python -m amiga_ws --help` is the way in."""

__version__ = "0.1.0"
