"""The commands of `python -m amiga_ws`: each has `HELP`, `add_arguments` and `run`, and no logic of its own."""
