"""A stated share of legs leans to spoof, whatever the detector says; all of it runs the same."""

from __future__ import annotations

from collections import Counter

import pytest

from streamguard.bench.steered import LEANING_LLR, SteeredScorer
from streamguard.inference.network import Network
from streamguard.inference.scorer import Models
from streamguard.verdict.scores import Channel
from tests.inference.makers import (
    NumpyEngine,
    PlainFrontEnd,
    block,
    bundle_of,
    detection_document,
    judge,
)


def scorer(share: float, channel: Channel = Channel.WIDE) -> SteeredScorer:
    """``channel``: the one that the bundle is calibrated for; legs of the tests are wide."""
    kind = type("Steered", (SteeredScorer,), {"share": share})
    models = Models(Network(bundle_of(detection_document(), channel), NumpyEngine()))
    made: SteeredScorer = kind(models, front_end=PlainFrontEnd, judge=judge)
    return made


def leaning(steered: SteeredScorer, legs: int) -> Counter[bool]:
    seen: Counter[bool] = Counter()
    for hop in range(7):
        for result in steered.process([block(f"leg{n}", hop) for n in range(legs)]):
            if result.score is not None:
                assert result.score.llr is not None
                assert abs(result.score.llr) == pytest.approx(LEANING_LLR, rel=1e-4)
                seen[result.score.llr > 0] += 1
    return seen


@pytest.mark.parametrize(("share", "of_twenty"), [(0.0, 0), (0.1, 2), (0.5, 10), (1.0, 20)])
def test_the_share_of_legs_leans_to_spoof_on_every_window(share: float, of_twenty: int) -> None:
    seen = leaning(scorer(share), 20)
    assert (seen[True], seen[False]) == (2 * of_twenty, 2 * (20 - of_twenty))


def test_every_network_runs_as_without_steering() -> None:
    steered = scorer(1.0)
    leaning(steered, 3)
    assert steered.counts["hops"] == 21
    assert steered.counts["windows"] == 6


def test_a_leg_that_has_ended_gives_its_place_to_another() -> None:
    steered = scorer(0.5)
    for turn in range(4):
        for n in range(2):
            for hop in range(6):
                steered.process([block(f"{turn}.{n}", hop)])
        assert sum(steered._leaning.values()) == 1
        for n in range(2):
            steered.close_leg(f"{turn}.{n}")


def test_a_leg_that_ends_before_its_first_window_keeps_no_place() -> None:
    steered = scorer(0.5)
    for hop in range(3):
        steered.process([block("short", hop)])
    assert [result.score is not None for result in steered.close_leg("short")] == [True]
    assert steered._leaning == {}


def test_what_is_not_calibrated_stays_rejected() -> None:
    steered = scorer(1.0, Channel.NARROW)
    for hop in range(6):
        results = steered.process([block("a", hop)])
    (result,) = results
    assert result.score is not None
    assert result.score.llr is None
