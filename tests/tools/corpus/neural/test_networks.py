"""The networks: shapes, budgets, and that every part can learn."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.tools.corpus.sounds import voice
from tools.corpus.neural.networks import Codec, Discriminator, ResidualCodes, Vocoder, build
from tools.corpus.neural.recipes import RECIPES, recipe_of

pytestmark = pytest.mark.train

SMALL_VOCODER: dict[str, Any] = {"mels": 20, "channels": 16, "depth": 1, "size": 256, "hop": 64}
SMALL_CODEC: dict[str, Any] = {
    "channels": 16,
    "depth": 1,
    "size": 256,
    "strides": (4, 4, 4),
    "stages": 3,
    "words": 16,
    "width": 4,
}


@pytest.mark.parametrize("kind", sorted(RECIPES))
def test_a_network_has_at_most_two_million_parameters(kind: str) -> None:
    network = build(RECIPES[kind])
    assert sum(weights.numel() for weights in network.parameters()) <= 2_000_000


@pytest.mark.parametrize("network", [Vocoder(**SMALL_VOCODER), Codec(**SMALL_CODEC)])
@pytest.mark.parametrize("length", [4000, 4096, 5001])
def test_speech_comes_out_as_long_as_it_went_in(network: Vocoder | Codec, length: int) -> None:
    speech = torch.from_numpy(voice())[None, :length].repeat(2, 1)
    made, penalty = network(speech)
    assert made.shape == speech.shape
    assert torch.isfinite(made).all()
    assert torch.isfinite(penalty)


@pytest.mark.parametrize("network", [Vocoder(**SMALL_VOCODER), Codec(**SMALL_CODEC).eval()])
def test_every_weight_gets_a_gradient(network: Vocoder | Codec) -> None:
    made, penalty = network(torch.from_numpy(voice())[None, :4096])
    loss: Any = made.square().mean() + penalty  # torch leaves backward untyped
    loss.backward()
    for name, weights in network.named_parameters():
        assert weights.grad is not None, name
        assert weights.grad.abs().sum() > 0, name


def test_more_stages_are_nearer_to_the_features_once_learnt() -> None:
    torch.manual_seed(0)
    codes = ResidualCodes(8, 3, 32, 4)
    features = torch.randn(4, 8, 50)
    optimiser = torch.optim.Adam(codes.parameters(), 0.03)
    for _ in range(40):
        loss: Any = features.new_zeros(())  # torch leaves backward untyped
        for stages in (1, 2, 3):
            coded, penalty = codes(features, stages)
            loss = loss + (coded - features).square().mean() + penalty
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        errors = [float((codes(features, n)[0] - features).square().mean()) for n in (1, 2, 3)]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 0.7 * float(features.square().mean())


def test_a_codec_of_few_stages_says_less() -> None:
    torch.manual_seed(0)
    codec = Codec(**SMALL_CODEC).eval()
    speech = torch.from_numpy(voice())[None, :4096]
    assert not torch.equal(codec(speech, 1).speech, codec(speech, 3).speech)
    assert torch.equal(codec(speech).speech, codec(speech, 3).speech)


def test_the_discriminator_judges_at_three_resolutions() -> None:
    judged = Discriminator(4)(torch.from_numpy(voice())[None, :8000])
    assert [len(features) for features in judged] == [4, 4, 4]
    assert all(features[-1].shape[1] == 1 for features in judged)


def test_a_recipe_of_ones_own_leaves_the_published_one_as_it_is() -> None:
    recipe = recipe_of("codec", 7, 12)
    assert (recipe["seed"], recipe["train"]["steps"]) == (7, 12)
    assert RECIPES["codec"]["train"]["steps"] > 12
    assert RECIPES["codec"] is not recipe
