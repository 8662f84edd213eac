"""Paired differences: what is accepted as the same answers, and what is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tools.quantisation.compare import ALLOWED, Pairs, accuracy_difference, eer_difference

if TYPE_CHECKING:
    import numpy.typing as npt

pytestmark = pytest.mark.train
WINDOWS = 4000


def pairs(noise: float, shift: float = 0.0) -> Pairs:
    """Two classes that overlap; the other precision adds noise, and moves spoofs down."""
    rng = np.random.default_rng(0)
    spoof = np.arange(WINDOWS) % 2 == 1
    plain = rng.normal(np.where(spoof, 1.5, -1.5), 1.0)
    other = plain + rng.normal(0, noise, WINDOWS) - shift * spoof
    sources = [f"source{row // 2 % 20}" for row in range(WINDOWS)]
    return Pairs(np.stack((plain, other), axis=1), spoof, sources)


def inside(low: float, high: float) -> bool:
    return -ALLOWED <= low and high <= ALLOWED


def test_small_noise_on_every_score_leaves_the_error_rate_alone() -> None:
    found = eer_difference(pairs(0.01))
    assert inside(found.low, found.high)
    assert found.low <= found.value <= found.high


def test_scores_that_lose_spoofs_have_a_higher_error_rate() -> None:
    found = eer_difference(pairs(0.01, shift=0.5))
    assert found.low > ALLOWED


def test_pairing_makes_the_interval_narrower_than_the_error_rates_are_known() -> None:
    """Unpaired, 4000 windows know an error rate of 7 % to about one point."""
    same = eer_difference(pairs(0.0))
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("lost", "accepted"), [(0, True), (4, True), (200, False)])
def test_accuracy_is_compared_window_by_window(lost: int, accepted: bool) -> None:
    right: npt.NDArray[np.bool_] = np.ones((WINDOWS, 2), np.bool_)
    right[: 2 * lost : 2, 1] = False
    found = accuracy_difference(right, [f"source{row % 20}" for row in range(WINDOWS)])
    assert found.value == pytest.approx(-lost / WINDOWS)
    assert inside(found.low, found.high) is accepted
