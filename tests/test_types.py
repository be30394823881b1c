"""The pages' own modules, read by the TypeScript compiler: what their JSDoc says must hold."""

from __future__ import annotations

from nodejs import HERE, NODE, needs_node
from processes import completed

TSC = HERE / "node_modules" / "typescript" / "bin" / "tsc"


@needs_node
def test_modules_keep_to_their_types():
    done = completed([NODE, TSC, "--project", HERE, "--pretty", "false"])
    assert done.returncode == 0, done.stdout
