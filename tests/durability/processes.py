"""Servers in a process of their own, which a test may kill, limit or take the disk away from."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

from children import environment
from helpers import Client
from wires import PATIENCE_S, WebSocketWire

__all__ = ["Process", "TappedWire"]


class TappedWire(WebSocketWire):
    """Keeps the texts as they came."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.texts: list[str] = []

    def receive(self, timeout_s: float) -> list[str]:
        texts = super().receive(timeout_s)
        self.texts += texts
        return texts


class Process:
    """A server that can be killed."""

    def __init__(self, store: Path) -> None:
        command = [
            sys.executable,
            "-m",
            "trunkline_cli",
            "serve",
            "--agent",
            "script",
            "--log-level",
            "error",
        ]
        self.child = subprocess.Popen(
            [*command, "--listen", "ws://127.0.0.1:0", "--store", str(store)],
            stderr=subprocess.PIPE,
            env=environment(),
        )
        assert self.child.stderr is not None
        line = self.child.stderr.readline().decode()
        assert line.startswith("listening on: "), line
        self.url = line.split()[-1]

    @staticmethod
    def obey_permissions() -> None:
        """Have a child of root be bound by the permissions of files. To be called between fork and exec."""
        if os.geteuid() == 0:
            drop_from_bounding_set, overrides = 24, (1, 2)  # PR_CAPBSET_DROP; CAP_DAC_OVERRIDE, …_READ_SEARCH
            for capability in overrides:
                ctypes.CDLL(None).prctl(drop_from_bounding_set, capability, 0, 0, 0)

    def connect(self, name: str) -> tuple[Client, TappedWire]:
        wire = TappedWire(self.url)
        client = Client(wire, name)
        client.initialize()
        return client, wire

    def stop(self) -> str:
        """Stop it in order, and return what it logged."""
        self.child.terminate()
        assert self.child.stderr is not None
        with self.child.stderr:
            log = self.child.stderr.read().decode()
        assert self.child.wait(PATIENCE_S) == 0, log
        return log

    def kill(self) -> None:
        self.child.send_signal(signal.SIGKILL)
        self.child.wait(PATIENCE_S)
        assert self.child.stderr is not None
        self.child.stderr.close()
