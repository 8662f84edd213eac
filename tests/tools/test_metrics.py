"""Metrics against values worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tools import metrics

# Bona fide 0 1 2 3, spoof 2.5 3.5 4.5 5.5: one pair of sixteen is in the wrong order.
SCORES = np.array([0.0, 1.0, 2.0, 3.0, 2.5, 3.5, 4.5, 5.5])
SPOOF = np.array([False] * 4 + [True] * 4)


def test_the_equal_error_rate_is_where_one_in_four_is_wrong_on_both_sides() -> None:
    assert metrics.eer(SCORES, SPOOF) == pytest.approx(0.25)


def test_the_equal_error_rate_lies_on_the_line_between_two_operating_points() -> None:
    # Thresholds give (miss, false alarm) = (0, 1), (0, 1/3), (1/2, 1/3), (1/2, 0), (1, 0):
    # from (0, 1/3) to (1/2, 1/3) the line meets the diagonal at 1/3.
    scores = np.array([0.0, 1.0, 3.0, 2.0, 4.0])
    spoof = np.array([False, False, False, True, True])
    assert metrics.eer(scores, spoof) == pytest.approx(1 / 3)


def test_perfect_and_reversed_scores_have_the_extreme_error_rates() -> None:
    scores = np.array([0.0, 1.0, 2.0, 3.0])
    spoof = np.array([False, False, True, True])
    assert metrics.eer(scores, spoof) == 0.0
    assert metrics.eer(-scores, spoof) == 1.0
    assert metrics.auc(scores, spoof) == 1.0
    assert metrics.auc(-scores, spoof) == 0.0


def test_scores_that_are_all_equal_say_nothing() -> None:
    scores, spoof = np.zeros(6), np.array([False, True] * 3)
    assert metrics.eer(scores, spoof) == pytest.approx(0.5)
    assert metrics.auc(scores, spoof) == pytest.approx(0.5)
    assert metrics.min_dcf(scores, spoof) == pytest.approx(1.0)
    assert metrics.min_cllr(scores, spoof) == pytest.approx(1.0)


def test_the_area_counts_pairs_in_the_right_order() -> None:
    assert metrics.auc(SCORES, SPOOF) == pytest.approx(15 / 16)


def test_the_area_counts_ties_half() -> None:
    assert metrics.auc(np.array([1.0, 1.0, 2.0]), np.array([False, True, True])) == 0.75


def test_the_detection_cost_takes_the_best_threshold() -> None:
    # Prior 1/2, equal costs: at 2.5, miss 0 and false alarm 1/4: 0.125 of a default of 0.5.
    found = metrics.min_dcf(SCORES, SPOOF, prior=0.5, cost_miss=1.0, cost_false_alarm=1.0)
    assert found == pytest.approx(0.25)
    # Prior 0.05 and tenfold cost: only thresholds without false alarms pay; miss 1/4.
    assert metrics.min_dcf(SCORES, SPOOF) == pytest.approx(0.25)


def test_cllr_of_no_evidence_is_one_bit() -> None:
    assert metrics.cllr(np.zeros(4), np.array([True, False, True, False])) == pytest.approx(1.0)


def test_cllr_of_one_right_and_one_wrong_ratio_is_worked_by_hand() -> None:
    # spoof at log 3: log2(1 + 1/3); bona fide at log 3: log2(1 + 3) = 2.
    found = metrics.cllr(np.array([math.log(3.0)] * 2), np.array([True, False]))
    assert found == pytest.approx((math.log2(4 / 3) + 2.0) / 2)


def test_the_least_cllr_is_not_moved_by_a_monotone_map() -> None:
    least = metrics.min_cllr(SCORES, SPOOF)
    assert 0.0 < least < 1.0
    assert metrics.min_cllr(np.exp(SCORES), SPOOF) == pytest.approx(least)
    assert least <= metrics.cllr(SCORES - 2.75, SPOOF)


def test_the_least_cllr_of_perfect_scores_is_zero() -> None:
    assert metrics.min_cllr(np.arange(4.0), np.array([False, False, True, True])) == 0.0


def test_detection_at_a_false_alarm_rate_uses_the_lowest_threshold_allowed() -> None:
    assert metrics.detection_at(SCORES, SPOOF, 0.0) == pytest.approx(0.75)
    assert metrics.detection_at(SCORES, SPOOF, 0.25) == pytest.approx(1.0)


def test_false_alarms_where_most_spoofs_are_detected() -> None:
    assert metrics.fpr_at(SCORES, SPOOF, 0.95) == pytest.approx(0.25)
    assert metrics.fpr_at(SCORES, SPOOF, 0.75) == pytest.approx(0.0)


@pytest.mark.parametrize("metric", [metrics.eer, metrics.auc, metrics.cllr, metrics.min_cllr])
def test_a_missing_class_is_an_error(metric: object) -> None:
    assert callable(metric)
    with pytest.raises(ValueError, match="both classes"):
        metric(np.zeros(2), np.array([True, True]))


def test_nan_is_an_error() -> None:
    with pytest.raises(ValueError, match="NaN"):
        metrics.eer(np.array([np.nan, 0.0]), np.array([True, False]))


def test_the_bootstrap_draws_sources_not_clips() -> None:
    # Two sources, one separable, one reversed: drawing one of them twice gives 0 or 1.
    scores = np.array([0.0, 1.0, 1.0, 0.0])
    spoof = np.array([False, True, False, True])
    found = metrics.bootstrap_by_source(metrics.eer, scores, spoof, ["a", "a", "b", "b"])
    assert (found.low, found.high) == (0.0, 1.0)
    alone = metrics.bootstrap_by_source(metrics.eer, scores[:2], spoof[:2], ["a", "a"])
    assert (alone.value, alone.low, alone.high) == (0.0, 0.0, 0.0)


def test_rejections_count_as_errors_of_either_kind() -> None:
    # Four of each class in perfect order, one more of each rejected: one in five is an error.
    scores = np.arange(8.0)
    spoof = np.array([False] * 4 + [True] * 4)
    assert metrics.eer(scores, spoof) == 0.0
    assert metrics.eer(scores, spoof, metrics.Rejected(1, 1)) == pytest.approx(0.2)
    points = metrics.rates(scores, spoof, metrics.Rejected(bonafide=1, spoof=0))
    assert (points.miss[-1], points.false_alarm[-1]) == (1.0, pytest.approx(0.2))
    assert (points.miss[0], points.false_alarm[0]) == (0.0, 1.0)


def test_rejected_spoofs_are_all_that_perfect_scores_miss() -> None:
    # One in five is missed at any threshold; false alarms fall to 0 before more are.
    scores = np.arange(8.0)
    spoof = np.array([False] * 4 + [True] * 4)
    assert metrics.eer(scores, spoof, metrics.Rejected(spoof=1)) == pytest.approx(0.2)


def test_draws_hold_whole_sources_and_both_classes() -> None:
    sources = ["a", "b", "a", "c", "b"]
    spoof = np.array([True, False, True, False, False])
    draws = list(metrics.draw_sources(sources, draws=50, both=spoof))
    assert len(draws) == 50
    for drawn in draws:
        assert 0 < spoof[drawn].sum() < len(drawn)
        counts = np.bincount(drawn, minlength=5)
        assert counts[0] == counts[2]
        assert counts[1] == counts[4]
        assert counts[0] + counts[1] + counts[3] == 3
    with pytest.raises(ValueError, match="both classes"):
        next(metrics.draw_sources(sources, both=np.ones(5, np.bool_)))


def test_a_reliability_bin_weighs_classes_as_halves() -> None:
    # Three bona fide at p = 0.25, one spoof at p = 0.25 and one at 0.75.
    llr = math.log(3.0)
    scores = np.array([-llr, -llr, -llr, -llr, llr])
    spoof = np.array([False, False, False, True, True])
    low, high = metrics.reliability(scores, spoof, bins=2)
    assert (low.said, low.seen, low.share) == pytest.approx((0.25, 0.25 / 0.75, 0.75))
    assert (high.said, high.seen, high.share) == pytest.approx((0.75, 1.0, 0.25))


def test_classes_are_reported_as_worked_by_hand() -> None:
    # Class 0: two right, one called 1. Class 1: one right, one called 2. Class 2 never occurs.
    found = metrics.classify(np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 2]), 3)
    assert found.confusion.tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 0]]
    assert found.precision.tolist() == pytest.approx([1.0, 0.5, 0.0])
    assert found.recall.tolist() == pytest.approx([2 / 3, 0.5, 0.0])
    assert found.f1.tolist() == pytest.approx([0.8, 0.5, 0.0])
    assert found.accuracy == pytest.approx(0.6)
    assert found.balanced_accuracy == pytest.approx((2 / 3 + 0.5) / 2)
    assert found.macro_f1 == pytest.approx(0.65)
    assert found.macro_precision == pytest.approx(0.75)


def test_nothing_cannot_be_classified() -> None:
    with pytest.raises(ValueError, match="nothing"):
        metrics.classify(np.zeros(0, np.int64), np.zeros(0, np.int64), 2)


# Known items at 1 to 4, unknown ones at 0 and 2.5.
CONFIDENCE = np.array([1.0, 2.0, 3.0, 4.0, 0.0, 2.5])
KNOWN = np.array([True, True, True, True, False, False])


def test_open_set_measures_are_those_of_the_known_as_the_positives() -> None:
    found = metrics.open_set(CONFIDENCE, KNOWN, KNOWN)
    assert (found.known, found.unknown) == (4, 2)
    assert found.auroc == pytest.approx(6 / 8)
    # All known are accepted from 1.0 on; there one of two unknown is accepted, too.
    assert found.fpr95 == pytest.approx(0.5)
    # At 2.5 and above: two of four known rejected, one of two unknown accepted.
    assert found.ood_eer == pytest.approx(0.5)
    assert found.eerc == pytest.approx(found.ood_eer)


def test_eerc_counts_a_wrong_class_like_a_rejection() -> None:
    # Perfect rejection, but one of four known is called another class: 1/4 missed at any threshold.
    confidence = np.array([2.0, 3.0, 4.0, 5.0, 0.0, 1.0])
    right = np.array([True, True, True, False, False, False])
    found = metrics.open_set(confidence, KNOWN, right)
    assert (found.ood_eer, found.fpr95) == (0.0, 0.0)
    assert found.eerc == pytest.approx(0.25)
    assert metrics.eerc(confidence, KNOWN, np.zeros(6, np.bool_)) == 1.0


def test_open_set_without_an_unknown_is_an_error() -> None:
    with pytest.raises(ValueError, match="both classes"):
        metrics.open_set(CONFIDENCE, np.ones(6, np.bool_), np.ones(6, np.bool_))
