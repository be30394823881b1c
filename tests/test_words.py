"""Values as the pages write them, in Node: the module has no DOM and no clock."""

from __future__ import annotations

import json

import pytest
from nodejs import NODE, needs_node
from processes import CHECKOUT, completed

pytestmark = needs_node

SPACE = "\N{NO-BREAK SPACE}"
CALL = """
const [module, name, given] = process.argv.slice(1);
const format = await import(module);
process.stdout.write(format[name](...JSON.parse(given)));
"""


def written(name, *values):
    module = (CHECKOUT / "amiga_ws/static/format.js").as_uri()
    done = completed([NODE, "--input-type=module", "-e", CALL, module, name, json.dumps(values)])
    assert done.returncode == 0, done.stderr
    return done.stdout.replace(SPACE, " ")


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (100, 0, "100 %"),
        (99.67, 0, "99 %"),  # beside "Failed 1"
        (99.4, 0, "99 %"),
        (99.97, 1, "99.9 %"),
        (0, 0, "0 %"),
        (0.2, 0, "1 %"),
        (0.04, 1, "0.1 %"),
        (50.5, 1, "50.5 %"),
        (230.4, 0, "230 %"),  # of several cores
        (None, 0, "\N{EN DASH}"),
    ],
)
def test_a_share_is_all_or_nothing_only_where_it_is(value, digits, text):
    assert written("percent", value, digits) == text


@pytest.mark.parametrize(
    ("value", "currency", "text"),
    [
        (0, "USD", "$0.00"),
        (0.00004, "USD", "< $0.0001"),
        (0.00004, "EUR", "< 0.0001 EUR"),
        (0.0123, "USD", "$0.012"),
    ],
)
def test_little_money_is_not_none(value, currency, text):
    assert written("money", value, currency) == text


@pytest.mark.parametrize("hour", [-1, 0, 1])  # their clocks may change until then
@pytest.mark.parametrize(("ahead", "began"), [(0, 0), (3600, -1), (-5 * 3600, 5), (14 * 3600, -14)])
def test_a_day_is_told_as_it_is_called_there(ahead, began, hour):
    midnight = 1_795_651_200  # 26 Nov 2026 in UTC
    assert written("dayThere", midnight + (began + hour) * 3600, ahead) == "26 Nov"
