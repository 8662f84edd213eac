"""Thresholds, conformal tables and accuracies of LAVA on made-up probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from streamguard.verdict.calibration import ConformalTable
from tools.lava_scores import (
    NEVER,
    Judged,
    accepted,
    balanced_accuracy,
    confidence_threshold,
    conformal_table,
    join,
    p_values,
    softmax,
)

if TYPE_CHECKING:
    import numpy.typing as npt

pytestmark = pytest.mark.train


def judged(confidence: list[float], correct: list[bool]) -> Judged:
    """Two classes; class 0 is always said."""
    high = np.array(confidence, np.float32)
    truth = np.array([0 if right else 1 for right in correct], np.int64)
    return Judged((), np.stack((high, 1 - high), axis=1), truth)


def test_the_threshold_is_the_lowest_confidence_that_keeps_the_accepted_accurate() -> None:
    scored = judged([0.9, 0.8, 0.7, 0.6, 0.55], [True, True, False, True, False])
    assert confidence_threshold(scored, 0.75, 1) == pytest.approx(0.6)
    assert confidence_threshold(scored, 0.85, 1) == pytest.approx(0.8)


def test_a_head_that_is_never_reliable_abstains() -> None:
    wrong = judged([0.9, 0.8, 0.7], [False, True, False])
    assert confidence_threshold(wrong, 0.85, 1) == NEVER
    assert not accepted(np.array([1.0, 0.5], np.float32), NEVER).any()


def test_a_threshold_that_accepts_too_few_is_not_believed() -> None:
    scored = judged([0.9, 0.8, 0.7], [True, False, False])
    assert confidence_threshold(scored, 0.85, 1) == pytest.approx(0.9)
    assert confidence_threshold(scored, 0.85, 2) == NEVER


def test_a_thinned_conformal_table_is_sorted_and_keeps_both_ends() -> None:
    scores = np.random.default_rng(0).random(5000).astype(np.float32)
    table = conformal_table(scores, 200)
    assert len(table) == 200
    assert table == sorted(table)
    assert table[0] == pytest.approx(float(scores.min()), abs=1e-5)
    assert table[-1] == pytest.approx(float(scores.max()), abs=1e-5)
    assert conformal_table(scores[:7], 200) == pytest.approx(sorted(scores[:7].tolist()), abs=1e-5)


def test_p_values_are_those_of_the_daemon() -> None:
    table = [0.1, 0.2, 0.2, 0.9]
    wanted = ConformalTable(tuple(table))
    strange: npt.NDArray[np.float32] = np.array([0.0, 0.15, 0.5, 0.95], np.float32)
    assert p_values(table, strange).tolist() == pytest.approx(
        [wanted.p_value(float(score)) for score in strange]
    )


def test_balanced_accuracy_weighs_rare_classes_like_frequent_ones() -> None:
    scored = judged([0.9] * 10, [True] * 9 + [False])
    assert balanced_accuracy(scored) == pytest.approx(0.5)
    assert float(scored.correct.mean()) == pytest.approx(0.9)


def test_strangeness_is_one_minus_the_probability_of_the_truth() -> None:
    scored = judged([0.9, 0.6], [True, False])
    assert scored.strangeness.tolist() == pytest.approx([0.1, 0.6])
    assert len(join([scored, scored]).truth) == 4


def test_softmax_stays_finite_for_large_logits() -> None:
    assert softmax(np.array([1000.0, 0.0], np.float32)).tolist() == pytest.approx([1.0, 0.0])
