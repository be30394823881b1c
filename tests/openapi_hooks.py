"""Loaded by schemathesis (tests/test_openapi.py): every request has a token of its own, or a sign-out would end all."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path

import schemathesis

from amiga_ws import state
from amiga_ws.auth.tokens import Authority
from amiga_ws.config import load

STATE = Path(os.environ["OPENAPI_STATE_DIR"])
AUTHORITY = Authority(state.load_secret(STATE), load(cwd=STATE, environ={}).auth)


@schemathesis.auth(refresh_interval=None)
class FreshToken:
    """Of a subject of its own, too: one may be revoked."""

    def get(self, case, ctx):
        subject = f"schemathesis-{secrets.token_hex(4)}"
        return AUTHORITY.issue(subject=subject, scope="metrics:read admin", ttl_s=600, now=time.time())

    def set(self, case, data, ctx):
        case.headers["Authorization"] = f"Bearer {data}"
