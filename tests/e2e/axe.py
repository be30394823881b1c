"""axe-core in a page: what a machine can find of what keeps people out."""

from __future__ import annotations

import os

import pytest
from nodejs import HERE

SOURCE = HERE / "node_modules" / "axe-core" / "axe.min.js"
SERIOUS = ("serious", "critical")
RUN = """async () => {
  const {violations} = await axe.run(document, {resultTypes: ["violations"]});
  const where = (node) => `${node.target.join(" ")}: ${node.failureSummary}`;
  return violations.map(({id, impact, help, nodes}) => ({id, impact, help, nodes: nodes.slice(0, 5).map(where)}));
}"""


def serious_findings(viewer):
    """What is serious or critical on the page as it stands."""
    if not SOURCE.is_file() and os.environ.get("CI") != "true":
        pytest.skip("axe-core is not installed (scripts/test installs it)")
    if not viewer.page.evaluate("typeof axe === 'object'"):
        # by the debugger's way: the page's own policy lets in no script but ours
        viewer.page.evaluate(SOURCE.read_text(encoding="utf-8"))
    return [found for found in viewer.page.evaluate(RUN) if found["impact"] in SERIOUS]
