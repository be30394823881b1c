#!/usr/bin/env python3
"""Issue a token or a sign-in link for the server of this checkout: `python -m amiga_ws token`, from anywhere."""

import sys

from launch import main

if __name__ == "__main__":
    sys.exit(main("token"))
