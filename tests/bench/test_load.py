"""Live legs through the daemon's own worker: all are heard, and what is counted adds up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from streamguard.bench.load import LoadTrial, running
from streamguard.bench.options import BenchOptions
from streamguard.bench.rtp_rig import RigQuestion, Trial
from tests.bench.test_report import needs_bundles

HELD = LoadTrial(
    legs=10,
    seconds=4.0,
    windows=80,
    attributed=8,
    latency_ms={"p50": 10.0, "p95": 20.0, "p99": 30.0},
    batch_wait_ms=None,
    hops_dropped=0,
    windows_overload=0,
    attribution_shed=0,
    cores_used=0.1,
    inference_share=0.1,
    batch_size=1.0,
    rss_mb=100.0,
)
CLEAN = Trial(
    legs=1,
    answered=True,
    seconds=1.0,
    sent=50,
    lost=0,
    drops={},
    hops_dropped=0,
    hops_late=0,
    attribution_shed=0,
    windows_overload=0,
    windows_scored=1,
    windows_rejected=0,
    cpu_share_per_leg=0.01,
    lag_p99_ms=1.0,
    verdict_p99_ms=30.0,
    sender_late_ms=1.0,
    sender_cpu=0.1,
)


def test_legs_are_held_when_nothing_was_lost_and_verdicts_came_within_the_budget() -> None:
    assert HELD.holds(30.0)
    assert not HELD.holds(29.0)
    assert HELD.attributed_share == 0.1


@pytest.mark.parametrize("what", ["hops_dropped", "windows_overload", "attribution_shed"])
def test_legs_are_not_held_when_anything_was_given_up(what: str) -> None:
    worse: dict[str, Any] = {what: 1}
    assert not replace(HELD, **worse).holds(1000.0)


def test_no_verdict_at_all_is_no_capacity() -> None:
    assert not replace(HELD, latency_ms=None, windows=0).holds(1000.0)


PAIR = BenchOptions().pair("cpu-fp32")


@pytest.mark.parametrize(
    "harm",
    [
        {"answered": False},
        {"lost": 1},
        {"drops": {"late": 2}},
        {"hops_dropped": 1},
        {"hops_late": 1},
        {"attribution_shed": 1},
        {"windows_overload": 1},
    ],
)
def test_legs_over_rtp_are_held_only_without_any_harm(harm: dict[str, Any]) -> None:
    question = RigQuestion(PAIR, 0.1, budget_ms=1000.0)
    assert CLEAN.holds(question)
    assert not replace(CLEAN, **harm).holds(question)
    assert not replace(CLEAN, **harm).holds(replace(question, ingest_only=True))


@pytest.mark.parametrize(
    ("p99_ms", "whole", "ingest_only"),
    [(30.0, True, True), (30.1, False, True), (None, False, True)],
)
def test_legs_over_rtp_are_held_when_verdicts_came_within_the_budget(
    p99_ms: float | None, whole: bool, ingest_only: bool
) -> None:
    trial = replace(CLEAN, verdict_p99_ms=p99_ms)
    question = RigQuestion(PAIR, 0.1, budget_ms=30.0)
    assert trial.holds(question) is whole
    assert trial.holds(replace(question, ingest_only=True)) is ingest_only


@needs_bundles
@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_every_leg_is_heard_and_the_stated_share_is_attributed() -> None:
    async with running(PAIR, 0.5, 8) as rig:
        first = await rig.trial(4, 1.0)
        second = await rig.trial(2, 1.0)
        more = await rig.trial(4, 0.5)
    assert (first.legs, second.legs, more.legs) == (4, 2, 4)
    for trial in (first, second):
        assert abs(trial.windows - 2 * trial.legs * trial.seconds) <= trial.legs
        # Half of the legs lean; what waits at the ends of the measured time may differ by one each.
        assert abs(trial.attributed - trial.windows / 2) <= 2
    assert first.latency_ms is not None
    assert first.latency_ms["p50"] > 0
