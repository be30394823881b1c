#!/usr/bin/env python3
"""Follow a server from a terminal: `python -m amiga_ws watch`, from anywhere. docs/watch.md explains it."""

import sys

from launch import main

if __name__ == "__main__":
    sys.exit(main("watch"))
