"""Losses: what lowers them, and what cannot."""

from __future__ import annotations

import pytest
import torch

from tools.labels import NO_LABEL
from tools.objective import Objective, Truth, class_weights, pair_loss, window_mean
from tools.outputs import Outputs

pytestmark = pytest.mark.train


def _truth(spoof: list[float], source: str = "", technology: list[int] | None = None) -> Truth:
    count = len(spoof)
    return Truth(
        valid=torch.ones(count, 2, dtype=torch.bool),
        spoof=torch.tensor(spoof),
        technology=torch.tensor(technology or [NO_LABEL] * count),
        generator=torch.full((count,), NO_LABEL),
        source=source or "a" * count,
    )


def test_each_class_weighs_half_of_the_batch() -> None:
    weights = class_weights(torch.tensor([1.0, 0.0, 0.0, 0.0]))
    assert weights.tolist() == pytest.approx([2.0, 2 / 3, 2 / 3, 2 / 3])
    assert class_weights(torch.ones(3)).tolist() == [1.0, 1.0, 1.0]


def test_pairs_are_of_one_source_and_what_the_source_adds_to_all_its_scores_is_not_seen() -> None:
    truth = _truth([1.0, 0.0, 1.0, 0.0], source="aabb")
    scores = torch.tensor([3.0, 1.0, -5.0, -7.0])
    offset = torch.tensor([10.0, 10.0, 0.0, 0.0])
    expected = torch.nn.functional.softplus(torch.tensor(-1.0))
    assert float(pair_loss(scores, truth)) == pytest.approx(float(expected))
    assert float(pair_loss(scores + offset, truth)) == pytest.approx(float(expected))


def test_a_batch_without_pairs_adds_nothing() -> None:
    assert float(pair_loss(torch.tensor([1.0, 2.0]), _truth([1.0, 0.0], source="ab"))) == 0.0


def test_the_detection_loss_falls_as_the_scores_part() -> None:
    truth = _truth([1.0, 0.0])
    objective = Objective(label_smoothing=0.0)
    losses = [
        float(objective(Outputs(logit=torch.tensor([gap, -gap])), truth))
        for gap in (-1.0, 0.0, 1.0, 4.0)
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[1] == pytest.approx(float(torch.log(torch.tensor(2.0))))


def test_clips_without_a_label_teach_a_head_nothing() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 5.0]], requires_grad=True)
    objective = Objective(detection=0.0, technology=1.0)
    truth = _truth([1.0, 1.0], technology=[0, NO_LABEL])
    objective(Outputs(logit=torch.zeros(2), technology=logits), truth).backward()  # type: ignore[no-untyped-call] # torch leaves it unannotated
    assert logits.grad is not None
    assert bool(logits.grad[0].abs().sum() > 0)
    assert logits.grad[1].tolist() == [0.0, 0.0]
    nothing = objective(Outputs(logit=torch.zeros(2), technology=logits), _truth([1.0, 1.0]))
    assert float(nothing) == 0.0


def test_a_window_is_the_mean_of_its_valid_hops() -> None:
    values = torch.tensor([[1.0, 2.0, 9.0], [4.0, 5.0, 6.0]])
    valid = torch.tensor([[True, True, False], [False, False, False]])
    assert window_mean(values, valid).tolist() == [1.5, 0.0]
