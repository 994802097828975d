"""Certificates for tests."""

from __future__ import annotations

import subprocess
from pathlib import Path

from wires import PATIENCE_S


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """Make a self-signed certificate for localhost, and its key; return where they are."""
    cert, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
            *("-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
        timeout=PATIENCE_S,
    )
    return cert, key
