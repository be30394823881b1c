#!/usr/bin/env python3
"""Floods against our own TLS, with the harness of floods.py: clients that say nothing, or begin and do not go on, or
shake hands again and again.

    .venv/bin/python benchmarks/floods_tls.py                      # 20 s for each: longer than a head may take

The certificate is made for the run, with openssl.
"""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

import floods
from floods import Target, flood
from floods_http import dripping_flood

floods.FLOODS.clear()  # the others have their run
flood(floods.NOTHING)(floods.nothing)

HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # how a ClientHello of 512 bytes begins


dripping_flood("silent clients", lambda _: b"", b"")
dripping_flood("half a ClientHello", lambda _: HELLO, b"\0")


@flood("handshakes")
async def handshakes(target: Target) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", target.port, ssl=context)
    target.done["let in"] += 1
    writer.transport.abort()


def main() -> int:
    """As that of floods.py, with a certificate of our own."""
    with tempfile.TemporaryDirectory() as name:
        cert, key = Path(name) / "cert.pem", Path(name) / "key.pem"
        words = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ]
        words += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
        subprocess.run([*words, "-out", cert, "-keyout", key], check=True, capture_output=True)  # noqa: S603 - ours
        context = ssl.create_default_context(cafile=cert)
        return floods.main(context, [f"server.tls.cert={cert}", f"server.tls.key={key}"])


if __name__ == "__main__":
    sys.exit(main())
