"""Versions: ours, and the reference server's that we are compatible with."""

from __future__ import annotations

__all__ = ["COMPATIBLE_VERSION", "VERSION"]

VERSION = "0.1.0"
"""The version of this package; the same as in setup.cfg."""

COMPATIBLE_VERSION = "0.169.0"
"""The app-server whose protocol is spoken here. Clients that look for features by version read it from
`serverInfo.version`, which takes precedence over `userAgent` for them."""
