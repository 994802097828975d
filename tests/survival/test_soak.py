"""The soak in short, and what it has found."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from children import environment
from cli.processes import PATIENCE_S
from trunkline.actor import Dispatcher, PooledActor
from trunkline.timers import Timers


@pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")
def test_connections_that_come_and_go_leave_nothing_behind() -> None:
    soak = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("soak.py")), "--connections", "300"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=environment(),
        check=False,
    )
    assert soak.returncode == 0, soak.stdout + soak.stderr
    assert soak.stdout.endswith("left over: nothing\n")


def test_a_timer_keeps_no_actor_alive_that_has_stopped() -> None:
    dispatcher, timers = Dispatcher(), Timers()
    dispatcher.start()
    timers.start()
    try:
        ref = PooledActor.start(dispatcher=dispatcher)
        timers.tell_later(1000.0, ref, "too late")
        ref.stop(block=True, timeout=PATIENCE_S)
        actor = ref._actor_weakref
        del ref
        assert dispatcher.stop(PATIENCE_S)
        gc.collect()
        assert isinstance(actor, weakref.ref)
        assert actor() is None
    finally:
        assert timers.stop(PATIENCE_S)
        dispatcher.stop(PATIENCE_S)
