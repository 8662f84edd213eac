"""What the bench remembers of a run: only while it is asked to, and each thing once."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from streamguard.bench.recording import Heard, Recording
from streamguard.clock import SystemClock
from streamguard.inference.leg import HopKind
from streamguard.inference.scorer import HopResult, StageSeconds
from streamguard.monitor import Leg
from streamguard.telemetry.metrics import Metrics
from streamguard.verdict.scores import Rejection, WindowScore
from tests.test_monitor import House
from tests.test_observe import QUALITY, score


@pytest.fixture
async def leg() -> Leg:
    house = House()
    await house.start_leg()
    (leg,) = house.monitor.legs()
    return leg


def heard_s_ago(seconds: float, window: WindowScore | None) -> HopResult:
    stages = StageSeconds(front_end=0.1, detector=0.2, head=0.05, attribution=0.05)
    at = time.monotonic() - seconds
    return HopResult("leg", 0, 5, QUALITY, window, stages=stages, received_at=at)


async def test_windows_are_remembered_with_their_latency_and_what_of_it_was_no_work(
    leg: Leg,
) -> None:
    recording = Recording(Metrics(), SystemClock())
    recording.is_on = True
    recording.result(leg, heard_s_ago(1.0, score()), 0.0)
    recording.result(leg, heard_s_ago(1.0, score(Rejection.OVERLOAD)), 0.0)
    recording.result(leg, heard_s_ago(1.0, score(Rejection.TONE)), 0.0)
    recording.lost("trunk", 0.04)
    heard = recording.take()
    assert len(heard.latencies_s) == 3
    for latency_s, wait_s in zip(heard.latencies_s, heard.waits_s, strict=True):
        assert latency_s >= 1.0
        assert latency_s - wait_s == pytest.approx(0.4)
    assert (heard.rejected, heard.overload, heard.lost_s) == (2, 1, 0.04)
    assert recording.take() == Heard()


async def test_nothing_is_remembered_unasked_nor_of_what_is_no_window(leg: Leg) -> None:
    recording = Recording(Metrics(), SystemClock())
    recording.result(leg, heard_s_ago(1.0, score()), 0.0)
    recording.lost("trunk", 0.04)
    recording.is_on = True
    recording.result(leg, heard_s_ago(1.0, None), 0.0)
    recording.result(leg, replace(heard_s_ago(1.0, None), kind=HopKind.LATE), 0.0)
    assert recording.take() == Heard()
    assert recording.hops == 2  # the daemon's own counts go on all the time
