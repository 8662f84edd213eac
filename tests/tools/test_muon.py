"""The optimiser of matrices."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tools.muon import Muon, muon_and_adamw, orthogonal
from tools.trainer import TrainSettings, optimisers


class Network(nn.Module):
    """A kernel, a matrix, vectors and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(3, 8, 3)
        self.dense = nn.Linear(8, 4)
        self.logit = nn.Linear(4, 2)
        self.narrow = nn.Linear(4, 1)


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (8, 8)])
def test_an_update_has_singular_values_near_one_whatever_those_of_the_gradient(
    shape: tuple[int, int],
) -> None:
    torch.manual_seed(1)
    gradient = torch.randn(shape) * torch.logspace(0, 1, shape[1])
    values = torch.linalg.svdvals(orthogonal(gradient))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_an_update_does_not_depend_on_the_scale_of_the_gradient() -> None:
    torch.manual_seed(2)
    gradient = torch.randn(5, 9)
    assert torch.allclose(orthogonal(gradient), orthogonal(1000 * gradient), atol=1e-4)


def test_kernels_and_matrices_go_to_muon_vectors_and_heads_to_adamw() -> None:
    network = Network()
    muon, adamw = muon_and_adamw(network, lr=0.01, weight_decay=0.0)
    matrices = {id(weights) for group in muon.param_groups for weights in group["params"]}
    others = {id(weights) for group in adamw.param_groups for weights in group["params"]}
    assert matrices == {id(network.maps.weight), id(network.dense.weight)}
    assert matrices | others == {id(weights) for weights in network.parameters()}
    assert not matrices & others


def test_muon_finds_a_linear_map_by_its_gradients() -> None:
    torch.manual_seed(3)
    wanted = torch.randn(6, 12)
    found = nn.Parameter(torch.zeros(6, 12))
    muon = Muon([found], lr=0.1, weight_decay=0.0)
    inputs = torch.randn(200, 12)
    first = float((wanted - found).square().mean().detach())
    for _ in range(200):
        loss = ((wanted - found) @ inputs.T).square().mean()
        muon.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it unannotated
        muon.step()
    assert float((wanted - found).square().mean().detach()) < 0.05 * first


def test_a_recipe_names_its_optimiser_or_gets_the_names_that_there_are() -> None:
    def settings(optimiser: str) -> TrainSettings:
        return TrainSettings(
            epochs=1,
            crops_per_epoch=1,
            batch=1,
            hops=(1, 1),
            learning_rate=0.1,
            weight_decay=0.0,
            warmup_epochs=0.0,
            clip_norm=1.0,
            bf16=False,
            patience=1,
            optimiser=optimiser,
        )

    assert len(optimisers(Network(), settings("adamw"))) == 1
    assert len(optimisers(Network(), settings("muon"))) == 2
    with pytest.raises(ValueError, match="sgd: adamw or muon"):
        optimisers(Network(), settings("sgd"))
