"""`/openapi.json` says what happens: every route is in it, and schemathesis finds nothing else."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from processes import clean_environment, completed
from tornado.web import RequestHandler

from amiga_ws.handlers import openapi
from amiga_ws.handlers.operations import operation_of
from amiga_ws.handlers.routes import ROUTES

TESTS = Path(__file__).parent
# Not part of the REST interface, each for its reason.
EXCLUDED = {
    r"/": "a page",
    r"/login": "a page",
    r"/websocket-test": "a page",
    r"/admin": "a page",
    r"/static/(.*)": "files of the pages",
    r"/favicon\.ico": "a file of the pages",
    r"/ws": "a stream: docs/protocol.md",
    r"/api/stream/metrics": "a stream: docs/protocol.md",
}
EXAMPLES = "12"  # for each operation


@pytest.mark.parametrize("pattern", [pattern for pattern, _, _ in ROUTES])
def test_every_method_of_every_route_is_described_or_excluded_by_name(pattern):
    (handler,) = (handler for path, handler, _ in ROUTES if path == pattern)
    methods = [
        method
        for method in openapi.METHODS
        if getattr(handler, method) is not RequestHandler._unimplemented_method
    ]
    described = [method for method in methods if operation_of(handler, method)]
    assert described == ([] if pattern in EXCLUDED else methods)


def test_what_is_excluded_exists():
    assert set(EXCLUDED) <= {pattern for pattern, _, _ in ROUTES}


async def test_it_wants_the_scope_and_names_ranges_refusals_and_the_scope(server):
    assert (await server.ask("/openapi.json")).status == 401
    reply = await server.ask_as(server.token(), "/openapi.json")
    assert reply.status == 200
    found = reply.json
    assert found["openapi"].startswith("3.1")
    overview = found["paths"]["/api/metrics/overview"]["get"]
    (hours,) = overview["parameters"]
    assert (hours["name"], hours["schema"]["default"], hours["schema"]["x-clamped"]) == (
        "hours",
        24,
        [1, 168],
    )
    assert {"200", "400", "401", "403", "405", "421", "429"} <= set(overview["responses"])
    assert found["components"]["responses"]["405"]["headers"].keys() == {"Allow"}
    assert found["paths"]["/api/admin/refusals"]["get"]["x-scope"] == "admin"
    assert found["paths"]["/health"]["get"]["security"] == []
    (client_id,) = found["paths"]["/api/admin/connections/{client_id}"]["parameters"]
    assert client_id["schema"]["pattern"] == "^[0-9a-f]{16}$"


def test_schemathesis_finds_nothing(threaded, tmp_path):
    """Each operation with data that fits its description and data that does not, from a fixed seed."""
    generous = ("limits.requests_per_second=100000", "limits.requests_burst=100000")
    with threaded(*generous) as server:
        server.services.rates.sign_in_failures.set_limit(100000, 100000)
        done = completed(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"),
                *("--header", f"Authorization: Bearer {server.token(scope='metrics:read admin')}"),
                *("--max-examples", EXAMPLES, "--seed", "1", "--workers", "1", "--generation-deterministic"),
            ],
            cwd=tmp_path,
            env=clean_environment(
                PYTHONPATH=os.pathsep.join([str(TESTS), *sys.path]),
                SCHEMATHESIS_HOOKS="openapi_hooks",
                OPENAPI_STATE_DIR=str(server.settings.state_dir),
            ),
            within_s=100,
        )
    assert done.returncode == 0, done.stdout + done.stderr
