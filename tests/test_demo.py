"""The demonstration's place among our own files."""

from __future__ import annotations

import os

from servers import settings_in

from amiga_ws.demo import Demo


def test_a_demonstration_that_is_the_first_start_makes_a_private_state_folder(tmp_path):
    before = os.umask(0o022)
    try:
        shown = Demo(settings_in(tmp_path))
    finally:
        os.umask(before)
    shown.end()
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
