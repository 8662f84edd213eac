"""Without originals: nothing but transformed copies comes out, of whatever class."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tools.augment import Augmenter, AugmentSettings
from tools.augment.draw import draw
from tools.augment.withheld import altered, transformed

SELDOM = AugmentSettings(
    eq=0.05, room=0.0, band=0.0, noise=0.0, clip=0.0, telephone=0.05, gain_db=(-6.0, 0.0)
)
NEVER = dataclasses.replace(SELDOM, eq=0.0, telephone=0.0)


def test_a_crop_without_a_fate_shares_that_of_another() -> None:
    fate = draw(SELDOM, 200, np.random.default_rng(0))
    kept = altered(fate)
    assert 0.0 < kept.mean() < 0.3
    after = transformed(fate, np.random.default_rng(1))
    assert altered(after).all()
    assert np.array_equal(after.gain_db[kept], fate.gain_db[kept]), "other fates stay as drawn"


def test_gain_and_place_alone_are_no_transformation() -> None:
    settings = dataclasses.replace(NEVER, shift=1.0)
    assert not altered(draw(settings, 50, np.random.default_rng(0))).any()


def test_settings_that_transform_nothing_are_refused() -> None:
    batch = np.random.default_rng(0).standard_normal((4, 4000)).astype(np.float32) * 0.1
    with pytest.raises(ValueError, match="transforms no crop"):
        Augmenter(NEVER)(batch, np.random.default_rng(0), originals=False)


def test_without_originals_every_crop_is_transformed() -> None:
    """The filter of this one is never flat, so what keeps its shape kept its samples."""
    batch = np.random.default_rng(0).standard_normal((40, 4000)).astype(np.float32) * 0.1
    augmenter = Augmenter(SELDOM)

    def untouched(*, originals: bool) -> float:
        out = augmenter(batch, np.random.default_rng(5), originals=originals)
        likeness = (out * batch).sum(1) / np.sqrt(np.square(out).sum(1) * np.square(batch).sum(1))
        return float((likeness > 0.9999).mean())

    assert untouched(originals=True) > 0.5
    assert untouched(originals=False) == 0.0
