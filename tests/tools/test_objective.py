"""Losses: what lowers them, and what cannot."""

from __future__ import annotations

import dataclasses

import numpy as np
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


def _known_and_unknown() -> Truth:
    """Two spoofs of listed generators, two of others, one human."""
    truth = _truth([1.0, 1.0, 1.0, 1.0, 0.0])
    return dataclasses.replace(truth, generator=torch.tensor([0, 1, NO_LABEL, NO_LABEL, NO_LABEL]))


def _open_set_loss(logits: torch.Tensor, **weights: float) -> float:
    objective = Objective(detection=0.0, **weights)
    said = Outputs(logit=torch.zeros(len(logits)), generator=logits)
    return float(objective(said, _known_and_unknown()))


def test_the_energy_term_is_silent_once_both_margins_are_kept() -> None:
    known, unknown = [9.0, 0.0], [0.0, 0.0]
    kept = torch.tensor([known, known, unknown, unknown, known])
    assert _open_set_loss(kept, energy=1.0, energy_known=-8.0, energy_unknown=-3.0) == 0.0


def test_the_energy_term_asks_for_more_of_the_known_and_less_of_the_unknown() -> None:
    """Squared distances from the margins; human speech is asked for nothing."""
    flat = torch.zeros(5, 2)
    energy = -float(torch.log(torch.tensor(2.0)))
    weights = {"energy": 0.5, "energy_known": -8.0}
    only_known = _open_set_loss(flat, energy_unknown=-3.0, **weights)
    assert only_known == pytest.approx(0.5 * (energy + 8.0) ** 2)
    both = _open_set_loss(flat, energy_unknown=0.0, **weights)
    assert both - only_known == pytest.approx(0.5 * energy**2)


def test_gates_are_rewarded_for_differing_between_known_and_unknown() -> None:
    truth = _known_and_unknown()
    objective = Objective(detection=0.0, gate_diversity=1.0)
    apart = torch.tensor([[0.8, 0.2]] * 2 + [[0.4, 0.6]] * 2 + [[0.9, 0.1]])
    alike = torch.full((5, 2), 0.5)
    said = [float(objective(Outputs(logit=torch.zeros(5), gate=g), truth)) for g in (apart, alike)]
    expected = 0.8 * np.log(0.8 / 0.4) + 0.2 * np.log(0.2 / 0.6)
    assert said == pytest.approx([-expected, 0.0], abs=1e-6)


def test_even_gates_are_rewarded_for_their_entropy() -> None:
    objective = Objective(detection=0.0, gate_entropy=2.0)
    one_hot = torch.tensor([[1.0, 0.0]] * 5)
    truth = _known_and_unknown()
    said = [
        float(objective(Outputs(logit=torch.zeros(5), gate=g), truth))
        for g in (one_hot, torch.full((5, 2), 0.5))
    ]
    assert said == pytest.approx([0.0, -2.0 * float(np.log(2.0))])
