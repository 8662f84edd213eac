"""A detector's numbers, from scores of our own making."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from streamguard.verdict.scores import Rejection
from tests.tools.evaluation.makers import collection, item, window
from tests.tools.test_crops import CLIP
from tools.evaluation.detection import (
    DET_POINTS,
    by_source,
    decide,
    det,
    measure,
    report_line,
)
from tools.evaluation.samples import PAIRED, POOLED, UNSEEN, first_windows, groups
from tools.metrics import rates

KNOWN = frozenset({"vits"})


def test_the_pooled_number_stands_beside_that_of_paired_sources() -> None:
    items = collection()
    clips = [part.clip for part in items]
    found = report_line(items, groups(clips, clips, KNOWN), KNOWN)
    pooled, paired = found.measured[POOLED]["first"], found.measured[PAIRED]["first"]
    assert (pooled.sources, paired.sources) == (2, 1)
    assert pooled.eer.value < paired.eer.value
    assert paired.eer.value == pytest.approx(found.within_source_eer)
    unseen = found.measured[UNSEEN]["first"]
    assert (unseen.bonafide, unseen.spoof) == (20, 20)
    assert found.measured[POOLED]["all"] == pooled  # one window a clip


def test_coverage_stands_beside_the_error_and_rejections_cost() -> None:
    items = collection()
    items[0] = item(items[0].clip, window(0.0, Rejection.SILENCE))
    items[-1] = item(items[-1].clip, window(0.0, Rejection.MUSIC))
    found = measure(first_windows(items))
    assert found.coverage_bonafide == pytest.approx(19 / 20)
    assert found.coverage_spoof == pytest.approx(39 / 40)
    assert found.coverage == pytest.approx(58 / 60)
    assert found.eer_rejections_as_errors > found.eer.value
    assert found.detected_at_1pct_rejections_missed == pytest.approx(
        found.detected_at_1pct.value * 39 / 40
    )


def test_detection_at_a_tenth_of_a_percent_is_never_above_that_at_one() -> None:
    found = measure(first_windows(collection()))
    assert found.detected_at_01pct.value <= found.detected_at_1pct.value
    assert found.eer.low <= found.eer.value <= found.eer.high


def test_a_source_with_one_class_has_no_error_rate() -> None:
    a, b = by_source(collection())
    assert a.eer is not None
    assert (b.eer, b.bonafide, b.mean_llr_bonafide, b.rejected) == (None, 0, None, 0)


def test_decisions_count_what_is_called_what_and_what_is_rejected() -> None:
    human, fabricated = CLIP, replace(CLIP, label="spoof", technology="vc")
    said = decide(
        [
            item(replace(human, path="1"), window(-1.0)),
            item(replace(human, path="2"), window(1.0)),
            item(replace(fabricated, path="3"), window(2.0)),
            item(replace(fabricated, path="4"), window(None, Rejection.TONE)),
        ]
    )
    assert said.confusion == ((1, 1), (0, 1))
    assert said.by_technology == {"human": (1, 1, 0), "vc": (0, 1, 1)}
    assert said.precision == pytest.approx((1.0, 0.5))
    assert said.macro_f1 == pytest.approx(2 / 3)


def test_unseen_generators_are_told_by_certainty_and_by_nearness_if_the_head_says_it() -> None:
    items = collection()
    clips = [part.clip for part in items]
    found = report_line(items, groups(clips, clips, KNOWN), KNOWN)
    assert set(found.open_set) == {"certainty"}
    assert (found.open_set["certainty"].known, found.open_set["certainty"].unknown) == (40, 20)
    far = [
        replace(part, windows=(replace(part.windows[0], ood=float(part.clip.generator != "vits")),))
        if part.clip.spoof
        else replace(part, windows=(replace(part.windows[0], ood=0.0),))
        for part in items
    ]
    nearness = report_line(far, groups(clips, clips, KNOWN), KNOWN).open_set["nearness"]
    assert (nearness.auroc, nearness.fpr95) == (1.0, 0.0)
    assert nearness.eerc > 0.0
    assert report_line(items, groups(clips, clips, None), None).open_set == {}


def test_the_trade_off_goes_from_all_alarms_to_all_missed_and_is_thinned() -> None:
    sample = first_windows(collection())
    points = det(rates(sample.llrs, sample.spoof))
    assert points[0] == (1.0, 0.0)
    assert points[-1] == (0.0, 1.0)
    assert len(points) == 61
    scores = np.arange(1000.0)
    assert len(det(rates(scores, scores % 2 == 0))) == DET_POINTS
