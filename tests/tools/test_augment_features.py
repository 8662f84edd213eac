"""SpecAugment masks features, and crops have random lengths."""

from __future__ import annotations

import numpy as np
import torch

from tools.augment.features import SpecAugmentSettings, draw_hops, spec_augment


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _features(batch: int = 200) -> torch.Tensor:
    return torch.randn((batch, 100, 60), generator=_generator(9)) + 5.0


def test_masks_are_whole_bands_and_stretches_at_the_mean() -> None:
    features = _features(40)
    before = features.clone()
    settings = SpecAugmentSettings(share=1.0, bin_masks=1, bins=8, frame_masks=1, frames=20)
    out = spec_augment(features, settings, _generator())
    torch.testing.assert_close(features, before, rtol=0, atol=0)
    for row, clean in zip(out, features, strict=True):
        changed = row != clean
        torch.testing.assert_close(row[changed], clean.mean().expand(int(changed.sum())))
        bins, frames = changed.all(dim=0), changed.all(dim=1)
        assert int(bins.sum()) <= 8
        assert int(frames.sum()) <= 20
        assert torch.equal(changed, bins[None, :] | frames[:, None])


def test_the_number_of_masks_is_drawn_from_the_least_to_the_most() -> None:
    settings = SpecAugmentSettings(share=1.0, bin_masks=3, bins=1, frame_masks=0, frames=0, least=1)
    features = torch.randn((4000, 2, 400), generator=_generator(9))
    masked = (spec_augment(features, settings, _generator()) != features).all(dim=1).sum(dim=1)
    # A mask of at most one bin is there half of the time; two hardly ever meet in 400 bins.
    shares = [float((masked == count).float().mean()) for count in range(4)]
    expected = [(1 / 2 + 1 / 4 + 1 / 8) / 3, (1 / 2 + 2 / 4 + 3 / 8) / 3]
    expected += [(1 / 4 + 3 / 8) / 3, (1 / 8) / 3]
    for found, wanted in zip(shares, expected, strict=True):
        assert abs(found - wanted) < 0.03


def test_only_the_asked_share_is_masked() -> None:
    features = _features()
    out = spec_augment(features, SpecAugmentSettings(share=0.3), _generator())
    share = float((out != features).flatten(1).any(dim=1).float().mean())
    assert 0.18 < share < 0.42
    whole = spec_augment(features, SpecAugmentSettings(share=0.0), _generator())
    assert torch.equal(whole, features)


def test_the_same_seed_gives_the_same_masks() -> None:
    features = _features(8)
    settings = SpecAugmentSettings(share=1.0)
    assert torch.equal(
        spec_augment(features, settings, _generator(4)),
        spec_augment(features, settings, _generator(4)),
    )


def test_masks_wider_than_the_features_are_cut() -> None:
    settings = SpecAugmentSettings(share=1.0, bins=100, frames=400)
    out = spec_augment(torch.randn((4, 10, 6), generator=_generator()), settings, _generator())
    assert out.shape == (4, 10, 6)


def test_lengths_reach_from_one_to_six_seconds() -> None:
    rng = np.random.default_rng(0)
    hops = [draw_hops(rng) for _ in range(500)]
    assert set(hops) == set(range(2, 13))
    assert draw_hops(rng, (3.0, 3.0)) == 6
