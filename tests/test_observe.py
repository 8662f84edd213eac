"""What the daemon counts of hops and windows: each once, and drops apart from rejections."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamguard.audio.frames import HopQuality
from streamguard.clock import SystemClock
from streamguard.inference.leg import HopKind
from streamguard.inference.scorer import HopResult, StageSeconds
from streamguard.monitor import Leg
from streamguard.observe import Observation
from streamguard.telemetry.metrics import Metrics
from streamguard.verdict.scores import Channel, Rejection, WindowScore
from tests.test_monitor import House

QUALITY = HopQuality(-26.0, 0.9, 0.0, 0.0, 0.0, 0.0, None, 45)


def score(rejected: Rejection | None = None) -> WindowScore:
    return WindowScore("leg", 0, 5, 0.0, 3.0, 1.0, 1.0, rejected, 6, 6, 0.5, Channel.NARROW)


@pytest.fixture
async def leg() -> Leg:
    house = House()
    await house.start_leg()
    (leg,) = house.monitor.legs()
    return leg


def counts(observation: Observation) -> dict[str, float]:
    text = observation.metrics.render().decode()
    found = {}
    for line in text.splitlines():
        if line.startswith("streamguard_") and "_total{" in line:
            name, _, value = line.rpartition(" ")
            found[name.removeprefix("streamguard_")] = float(value)
    return found


async def test_a_scored_window_counts_one_hop_and_its_stages(leg: Leg) -> None:
    observation = Observation(Metrics(), SystemClock())
    stages = StageSeconds(front_end=0.001, detector=0.002, head=0.001, attribution=0.0)
    observation.result(leg, HopResult("leg", 0, 5, QUALITY, score(), stages=stages), 0.010)
    assert counts(observation) == {'windows_total{outcome="scored",source="trunk"}': 1.0}
    assert observation.audio_seconds == 0.5
    ms = observation.latency.as_ms()
    assert set(ms) == {"queue", "front_end", "detection", "verdict"}
    assert ms["queue"]["p50"] == pytest.approx(6.0, rel=0.05)


async def test_a_dropped_hop_is_counted_as_dropped_and_its_window_as_rejected(leg: Leg) -> None:
    observation = Observation(Metrics(), SystemClock())
    dropped = HopResult("leg", 0, 5, None, score(Rejection.OVERLOAD), kind=HopKind.DROPPED)
    observation.result(leg, dropped, 0.010)
    assert counts(observation) == {
        'windows_dropped_total{reason="overload",source="trunk"}': 1.0,
        'windows_total{outcome="rejected",source="trunk"}': 1.0,
        'verdict_rejections_total{reason="overload",source="trunk"}': 1.0,
    }
    assert observation.audio_seconds == 0.0


async def test_the_rest_of_a_short_leg_is_a_window_but_no_hop(leg: Leg) -> None:
    observation = Observation(Metrics(), SystemClock())
    observation.result(leg, HopResult("leg", 0, 3, None, score(), kind=HopKind.REST), 0.010)
    assert counts(observation) == {'windows_total{outcome="scored",source="trunk"}': 1.0}
    assert observation.audio_seconds == 0.0


async def test_a_late_attribution_counts_nothing_again(leg: Leg) -> None:
    observation = Observation(Metrics(), SystemClock())
    observation.result(leg, HopResult("leg", 0, 5, None, None, kind=HopKind.LATE), 0.010)
    assert counts(observation) == {}


async def test_scores_and_ends_are_counted_by_trunk_and_codec(leg: Leg) -> None:
    observation = Observation(Metrics(), SystemClock())
    leg.trunk = "carrier-a"
    observation.result(leg, HopResult("leg", 0, 5, QUALITY, score()), 0.010)
    observation.finished(leg)
    text = observation.metrics.render().decode()
    labels = 'codec="PCMU",source="trunk",trunk="carrier-a"'
    assert f"streamguard_window_llr_count{{{labels}}} 1.0" in text
    ended = 'codec="PCMU",source="trunk",state="UNKNOWN",trunk="carrier-a"'
    assert f"streamguard_legs_total{{{ended}}} 1.0" in text


async def test_a_codec_that_nobody_knows_is_one_label(leg: Leg) -> None:
    observation = Observation(Metrics(), SystemClock())
    for codec in ("x-1", "x-2"):
        leg.context = replace(leg.context, codec=codec)
        observation.finished(leg)
    assert 'codec="other",' in observation.metrics.render().decode()
    assert "x-1" not in observation.metrics.render().decode()
