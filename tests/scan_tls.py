"""Judges what sslyze finds at a server of ours: started by scripts/scan-tls, with sslyze and where to write."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from certificates import make_certificate
from processes import CHECKOUT, Running, completed

SCANS = (
    *(
        "--sslv2",
        "--sslv3",
        "--tlsv1",
        "--tlsv1_1",
        "--tlsv1_2",
        "--tlsv1_3",
        "--early_data",
        "--compression",
    ),
    *("--openssl_ccs", "--fallback", "--heartbleed", "--robot", "--reneg", "--ems", "--http_headers"),
)
OLD = ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1")
AEAD = ("_GCM_SHA256", "_GCM_SHA384", "_CHACHA20_POLY1305_SHA256")


def scan(sslyze, report):
    """What it found, as {scan: result}."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cert, key = make_certificate(folder)
        given = [
            f"state_dir={folder / 'state'}",
            f"amiga.root={folder / 'amiga'}",
            "server.port=0",
            "log.level=warning",
            "limits.new_connections_burst=100000",
        ]
        given += [f"server.tls.cert={cert}", f"server.tls.key={key}"]
        options = [word for each in given for word in ("--set", each)]
        command = [sys.executable, "-m", "amiga_ws", "serve", *options]
        with Running(command, CHECKOUT, folder / "stderr") as running:
            where = running.url.partition("//")[2]
            done = completed([sslyze, "--mozilla_config=disable", *SCANS, f"--json_out={report}", where])
            sys.stdout.write(done.stdout)
            assert done.returncode == 0, done.stderr
            assert running.stop()[0] == 0
            assert not running.stderr(), running.stderr()
    [scanned] = json.loads(report.read_text())["server_scan_results"]
    return {name: scan["result"] for name, scan in scanned["scan_result"].items() if scan["result"]}


def faults(found):
    """In words; none for a clean server."""
    for version in OLD:
        if found[f"{version}_cipher_suites"]["accepted_cipher_suites"]:
            yield f"{version} is spoken"
    for version in ("tls_1_2", "tls_1_3"):
        suites = [
            each["cipher_suite"]["name"]
            for each in found[f"{version}_cipher_suites"]["accepted_cipher_suites"]
        ]
        if not suites:
            yield f"{version} is not spoken"
        for suite in suites:
            if not suite.endswith(AEAD) or (version == "tls_1_2" and not suite.startswith("TLS_ECDHE_")):
                yield f"{suite} is spoken"
    wanted = {
        ("tls_1_3_early_data", "supports_early_data"): False,
        ("tls_compression", "supports_compression"): False,
        ("openssl_ccs_injection", "is_vulnerable_to_ccs_injection"): False,
        ("tls_fallback_scsv", "supports_fallback_scsv"): True,
        ("heartbleed", "is_vulnerable_to_heartbleed"): False,
        ("robot", "robot_result"): "NOT_VULNERABLE_RSA_NOT_SUPPORTED",
        ("session_renegotiation", "supports_secure_renegotiation"): True,
        ("session_renegotiation", "is_vulnerable_to_client_renegotiation_dos"): False,
        ("tls_extended_master_secret", "supports_ems_extension"): True,
    }
    if found["http_headers"]["strict_transport_security_header"] is None:
        yield "no Strict-Transport-Security"
    for (scan, name), value in wanted.items():
        if found[scan][name] != value:
            yield f"{name}: {found[scan][name]}"


if __name__ == "__main__":
    told = list(faults(scan(Path(sys.argv[1]), Path(sys.argv[2]))))
    sys.stdout.write("".join(f"FAULT: {fault}\n" for fault in told) or "clean\n")
    sys.exit(1 if told else 0)
