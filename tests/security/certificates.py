"""Certificates for tests."""

from __future__ import annotations

from pathlib import Path

import trustme


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """Make a certificate for localhost, with the authority that signed it behind it, and its key.

    Returns:
        Where they are. The first is also what clients are told to trust.

    """
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    cert, key = directory / "cert.pem", directory / "key.pem"
    leaf.private_key_pem.write_to_path(key)
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems) + authority.cert_pem.bytes()
    cert.write_bytes(chain)
    return cert, key
