"""What the server says of itself."""

from __future__ import annotations

import platform
from pathlib import Path

from trunkline.protocol.params import ClientInfo
from trunkline.types import JsonObject
from trunkline.version import COMPATIBLE_VERSION, VERSION

__all__ = ["server_json"]


def server_json(client: ClientInfo) -> JsonObject:
    """Return the result of `initialize` for a client."""
    os_name = {"Darwin": "macos", "Windows": "windows"}.get(platform.system(), "linux")
    system = f"{platform.system()} {platform.release()}; {platform.machine()}"
    return {
        # The reference puts the first client's name in front, for everybody; this is the server's.
        "userAgent": f"trunkline/{VERSION} ({system}) ({client.name}; {client.version})",
        # Not in the reference: events carry their number, and thread/resume takes `afterSeq`.
        "threadSequence": True,
        "serverInfo": {"name": "trunkline", "version": COMPATIBLE_VERSION},
        "codexHome": str(Path.home()),
        "platformFamily": "windows" if os_name == "windows" else "unix",
        "platformOs": os_name,
    }
