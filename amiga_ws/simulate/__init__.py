"""An AMIGA to practise on: writes an installation's files, live, with AMIGA's known faults.

`Simulator` acts step by step under a given clock (tests), `main` plays a living installation (the
demo), `bulk.generate` makes large ones fast (benchmarks). Nothing here reads AMIGA's files for the
server, and nothing but tests, benchmarks and the command line may import this package.
"""

from amiga_ws.simulate.simulator import Simulator
from amiga_ws.simulate.truth import Call, ManualClock, Task

__all__ = ["Call", "ManualClock", "Simulator", "Task", "main"]


def main(argv: list[str]) -> int:
    """`python -m amiga_ws simulate`: play until SIGTERM; the exit code. Exits (2) on wrong arguments."""
    from amiga_ws.simulate.demo import main as play  # noqa: PLC0415 - tests of the simulator need not load the play

    return play(argv)
