"""A picture of every state of the dashboard in all its variants, and one page to leaf through them."""

from __future__ import annotations

import html
import sys
import time

from states import STATES, staged
from viewing import Viewer

STYLE = """
:root { color-scheme: light dark; }
body { margin: 0 auto; padding: 24px; max-width: 1800px; font: 16px/1.5 system-ui, sans-serif; }
nav { display: flex; flex-wrap: wrap; gap: 4px 16px; }
section { margin-top: 40px; border-top: 1px solid #8888; }
div { display: flex; flex-wrap: wrap; gap: 16px; align-items: flex-start; }
figure { margin: 0; }
img { display: block; height: 460px; border: 1px solid #8888; border-radius: 6px; }
figcaption { font-size: 13px; opacity: 0.7; }
"""


def build(browser, temporary, folder):
    """Take them all; the path of the page."""
    parts = []
    for number, state in enumerate(STATES):
        place = temporary / str(number)
        place.mkdir()
        figures = []
        for viewer in staged(
            state, place, lambda site, **options: Viewer(browser.new_context(**options), site)
        ):
            picture = folder / f"{state.name}-{viewer.variant}.png"
            viewer.page.screenshot(path=picture, animations="disabled", caret="initial")
            viewer.page.context.close()
            figures.append(
                f'<figure><a href="{picture.name}"><img src="{picture.name}" alt="{state.name}, {viewer.variant}"></a>'
                f"<figcaption>{viewer.variant}</figcaption></figure>"
            )
        says = html.escape(state.says)
        parts.append(
            f'<section id="{state.name}"><h2>{state.name}</h2><p>{says}</p><div>{"".join(figures)}</div></section>'
        )
        print(f"{number + 1} of {len(STATES)}: {state.name}", file=sys.stderr)  # noqa: T201 - a command's progress
    links = "".join(f'<a href="#{state.name}">{state.name}</a>' for state in STATES)
    page = folder / "index.html"
    page.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>States of the dashboard</title>'
        f"<style>{STYLE}</style><h1>States of the dashboard</h1>"
        f"<p>Taken {time.strftime('%Y-%m-%d %H:%M')} in Chromium.</p><nav>{links}</nav>{''.join(parts)}",
        encoding="utf-8",
    )
    return page
