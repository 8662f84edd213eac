"""MixStyle moves levels and spreads of bands between crops, and nothing else."""

from __future__ import annotations

import pytest
import torch

from tools.augment.style import MixStyleSettings, mix_style


def _crops() -> tuple[torch.Tensor, torch.Tensor]:
    """Two loud, lively crops and two quiet, dull ones; of the last only 30 frames count."""
    torch.manual_seed(5)
    scale = torch.tensor([4.0, 4.0, 0.5, 0.5])[:, None, None]
    level = torch.tensor([3.0, 3.0, -1.0, -1.0])[:, None, None]
    valid = torch.ones(4, 100, dtype=torch.bool)
    valid[3, 30:] = False
    return torch.randn(4, 100, 8) * scale + level, valid


def test_no_share_leaves_every_crop_as_it_is() -> None:
    features, valid = _crops()
    torch.testing.assert_close(mix_style(features, valid, MixStyleSettings(share=0.0)), features)


def test_statistics_move_between_those_of_two_crops_and_the_pattern_stays() -> None:
    features, valid = _crops()
    moved = 0
    for _ in range(50):
        out = mix_style(features, valid, MixStyleSettings(share=1.0, alpha=1.0))
        for row, clean, counts in zip(out, features, valid, strict=True):
            pattern = torch.stack((row[counts][:, 0], clean[counts][:, 0]))
            assert float(torch.corrcoef(pattern)[0, 1]) == pytest.approx(1.0, abs=1e-4)
            assert 0.15 < float(row[counts].std(dim=0).mean()) < 4.7
            assert torch.equal(row[~counts], clean[~counts])
            assert -1.4 < float(row[counts].mean()) < 3.6
            moved += not torch.allclose(row, clean, atol=1e-3)
    assert moved > 100  # a crop may meet itself


def test_only_the_asked_share_is_changed() -> None:
    torch.manual_seed(6)
    features = torch.randn(2000, 10, 3) * (1 + torch.rand(2000, 1, 1))
    valid = torch.ones(2000, 10, dtype=torch.bool)
    out = mix_style(features, valid, MixStyleSettings(share=0.4, alpha=1.0))
    changed = ~torch.isclose(out, features, atol=1e-5).flatten(1).all(dim=1)
    assert 0.35 < float(changed.float().mean()) < 0.45


def test_what_hardly_moves_or_does_not_count_at_all_is_not_blown_up() -> None:
    """One crop is still but for a click, one has no valid frame: both were, by a thousand times."""
    torch.manual_seed(7)
    features = torch.randn(4, 10, 3)
    features[0] = 0.0
    features[0, 5] = 0.01
    valid = torch.ones(4, 10, dtype=torch.bool)
    valid[1] = False
    for _ in range(50):
        out = mix_style(features, valid, MixStyleSettings(share=1.0, alpha=1.0))
        assert float(out.abs().max()) < 12.0
        assert torch.equal(out[1], features[1])


@pytest.mark.parametrize(
    ("values", "message"),
    [({"share": 1.5}, "mix_style.share: 1.5: from 0 to 1"), ({"alpha": 0.0}, "above 0")],
)
def test_impossible_settings_are_named(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MixStyleSettings(**values)
