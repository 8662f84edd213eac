"""Classes count alike, and sources by the root of what they gave."""

from __future__ import annotations

import numpy as np
import pytest

from tools.calibration.weights import source_weights


def test_each_class_weighs_alike_and_sources_by_the_root_of_their_clips() -> None:
    sources = ["a"] * 9 + ["b"] + ["c"] * 4
    spoof = np.array([False] * 10 + [True] * 4)
    weights = source_weights(sources, spoof, np.ones(14))
    assert weights[~spoof].sum() == pytest.approx(0.5)
    assert weights[spoof].sum() == pytest.approx(0.5)
    assert weights[:9].sum() / weights[9] == pytest.approx(3.0)


def test_the_windows_of_one_clip_share_its_weight() -> None:
    spoof = np.array([False, False, False, True])
    weights = source_weights(["a"] * 4, spoof, np.array([0.5, 0.5, 1.0, 1.0]))
    assert weights[0] + weights[1] == pytest.approx(weights[2])


def test_any_number_of_classes_shares_one() -> None:
    kinds = np.array([0, 0, 1, 2, 2, 2])
    weights = source_weights(list("aabbcc"), kinds, np.ones(6))
    assert [weights[kinds == kind].sum() for kind in range(3)] == pytest.approx([1 / 3] * 3)
