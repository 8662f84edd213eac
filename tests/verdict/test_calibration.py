"""Conformal p-values and what confidence means."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamguard.verdict.calibration import Answers, ConformalTable, Reliability

NUMBERS = st.floats(-1e6, 1e6)


@given(st.lists(NUMBERS, min_size=1, max_size=50), st.integers(0, 49))
def test_the_ranks_of_exchangeable_scores_are_at_least_uniform(
    scores: list[float], place: int
) -> None:
    """Of n + 1 exchangeable scores each is the new one with equal probability: then at most k of
    them may get a p-value of k / (n + 1) or less."""
    n = len(scores)
    p_values = [
        ConformalTable(tuple(sorted(scores[:new] + scores[new + 1 :]))).p_value(scores[new])
        for new in range(n)
        if n > 1
    ]
    k = place % n
    assert sum(p <= k / n + 1e-12 for p in p_values) <= k


def test_exchangeable_points_get_uniform_p_values_and_far_ones_small_ones() -> None:
    rng = np.random.default_rng(3)
    table = ConformalTable(tuple(np.sort(rng.standard_normal(999)).tolist()))
    same = np.array([table.p_value(x) for x in rng.standard_normal(4000)])
    for alpha in (0.01, 0.05, 0.2, 0.5):
        # Three standard errors, of the points and of the table.
        slack = 3 * math.sqrt(alpha * (1 - alpha) * (1 / 4000 + 1 / 999))
        assert np.mean(same <= alpha) == pytest.approx(alpha, abs=slack)
    assert all(table.p_value(x) < 0.002 for x in (5.0, 9.0, math.inf))


def test_what_is_no_number_is_the_strangest_of_all() -> None:
    table = ConformalTable((0.0, 1.0, 2.0))
    assert table.p_value(math.nan) == table.p_value(math.inf) == 0.25


def test_a_line_of_reliability_goes_through_its_points_and_is_level_beyond() -> None:
    line = Reliability((0.2, 0.6, 0.8), (0.1, 0.5, 0.5))
    assert [line.at(x) for x in (0.0, 0.2, 0.6, 0.7, 0.8, 1.0)] == pytest.approx(
        [0.1, 0.1, 0.5, 0.5, 0.5, 0.5]
    )
    assert line.at(0.3) == pytest.approx(0.2)


def test_a_label_has_its_own_line_or_the_common_one() -> None:
    common, own = Reliability((0.5,), (0.4,)), Reliability((0.5,), (0.9,))
    answers = Answers(common=common, labels={"tts": own})
    assert answers.confidence("tts", 0.7) == 0.9
    assert answers.confidence("vc", 0.7) == 0.4
    assert Answers().confidence("vc", 0.7) == 0.7, "without a line the softmax is taken at its word"
