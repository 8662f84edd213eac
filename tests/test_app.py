"""What the daemon decides by itself; how it runs as a whole is in ``tests/e2e``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streamguard import app
from streamguard.app import Daemon
from streamguard.config import Config
from streamguard.sources.base import Refusal, SourceStats

RTP = {"type": "rtp", "name": "trunk", "ports": [40_000], "host": "127.0.0.1"}
MIC = {"type": "mic", "name": "desk"}


class Trunk:
    """A source with calls of which the monitor may not have heard yet."""

    def __init__(self, legs_active: int) -> None:
        self.legs_active = legs_active

    def refuse_calls(self, why: Refusal | None) -> None:
        """There are no new ones."""

    def stats(self) -> SourceStats:
        return SourceStats(0, {}, self.legs_active, 0, None)


async def test_draining_waits_for_a_call_that_is_still_on_its_way_to_the_monitor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app, "DRAIN_TICK_S", 0.01)
    daemon: Any = Daemon(Config.model_validate({"sources": [RTP, MIC]}), Path("config.yaml"))
    trunk = Trunk(1)
    # Neither a microphone is waited for, nor a recording that broke off.
    sources = {"trunk": trunk, "desk": Trunk(1), "tape": Trunk(1)}
    daemon._played.add("tape")
    admission = SimpleNamespace(drain=lambda: None)
    daemon._board = SimpleNamespace(admission=admission, sources=sources)
    daemon._monitor = SimpleNamespace(legs=lambda: ())
    daemon.drain()
    drained = asyncio.create_task(daemon._drained())
    await asyncio.sleep(0.05)
    assert not daemon._stop.is_set()
    trunk.legs_active = 0
    await drained
    assert daemon._stop.is_set()
