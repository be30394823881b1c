"""Certificates for 127.0.0.1 and localhost, made by openssl."""

from __future__ import annotations

import subprocess


def make_certificate(folder, name="server", days=1):
    """(certificate, key) as PEM files in `folder`."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days {days}"
    subprocess.run(  # noqa: S603 - our own words
        [
            *command.split(),
            *("-subj", f"/CN={name}"),
            *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
            *("-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key
