"""Explanations: they sum to the logit, find what was hidden, and depend on the model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from models.cnn_lstm.network import Detector, NetworkSettings
from tools.explanation.bands import band_plane
from tools.explanation.saliency import (
    Saliency,
    explain,
    for_verdict,
    grad_cam,
    logit_of,
    randomisation,
    regions,
    shap_values,
    share_in_speech,
    similarity,
)

pytestmark = [pytest.mark.train, pytest.mark.timeout(120)]
HOPS = 2
VALID = torch.ones(1, HOPS, dtype=torch.bool)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _network(**settings: object) -> Detector:
    torch.manual_seed(3)
    return Detector(NetworkSettings(**settings)).eval()  # type: ignore[arg-type] # keys of ours


def _features(columns: int = 20) -> Tensor:
    return torch.randn(1, HOPS, 50, columns, generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="module")
def explained() -> tuple[Detector, Tensor, Saliency]:
    model, features = _network(), _features()
    return model, features, explain(model, features, VALID)


def test_shap_values_of_a_linear_logit_are_its_terms() -> None:
    weights = torch.randn(HOPS, 50, 20, generator=torch.Generator().manual_seed(5))
    x = _features()
    found = shap_values(lambda given: (given * weights).sum(dim=(1, 2, 3)), x)
    terms = (x[0] * weights).reshape(100, 20).double().numpy()
    # Noise of a tenth on the features, averaged over the draws.
    np.testing.assert_allclose(found, terms, atol=0.3)
    assert np.corrcoef(found.reshape(-1), terms.reshape(-1))[0, 1] > 0.999


def test_shap_values_of_a_network_sum_to_what_it_says_beyond_the_mean_spectrum(
    explained: tuple[Detector, Tensor, Saliency],
) -> None:
    _, _, found = explained
    difference = found.logit - found.baseline_logit
    largest = np.abs(found.shap_columns).sum()
    assert found.shap_columns.sum() == pytest.approx(difference, abs=0.03 * largest)
    assert found.shap_bands.sum() == pytest.approx(difference, abs=0.03 * largest)
    assert found.shap_bands.shape == found.shap_columns.shape == (100, 20)


def test_the_same_window_is_explained_the_same_way_twice(
    explained: tuple[Detector, Tensor, Saliency],
) -> None:
    model, features, found = explained
    again = explain(model, features, VALID)
    np.testing.assert_array_equal(again.shap_bands, found.shap_bands)
    np.testing.assert_array_equal(again.cam_columns, found.cam_columns)


@pytest.mark.parametrize("kind", ["lfcc", "mfcc", "gfcc"])
def test_bands_give_back_the_features_that_they_were_made_of(kind: str) -> None:
    plane = band_plane(_network(features=kind))
    features = _features().double()
    torch.testing.assert_close(plane.bands_of(features) @ plane.matrix, features)
    assert plane.cepstral
    assert plane.edges_hz[0] == 0.0
    assert plane.edges_hz[-1] == 8000.0
    assert (np.diff(plane.edges_hz) > 0).all()


def test_a_tone_lies_in_the_band_that_is_drawn_at_its_frequency() -> None:
    for kind in ("lfcc", "mfcc", "gfcc", "fbank", "spectrogram"):
        model = _network(features=kind)
        plane = band_plane(model)
        tone = torch.sin(2 * torch.pi * 2500.0 / 16000 * torch.arange(8240))[None]
        columns = model.extractor(tone)
        dct = model.extractor.dct
        energies = columns if dct is None else columns @ torch.linalg.pinv(dct)
        loudest = int(energies[0, 10].argmax())
        assert plane.edges_hz[loudest] - 200 <= 2500.0 <= plane.edges_hz[loudest + 1] + 200, kind


def test_an_explanation_points_at_the_band_that_decides() -> None:
    """A logit that reads one band between two frames, of a cepstrum."""
    plane = band_plane(_network())
    matrix = plane.matrix.float()
    inverse = torch.linalg.pinv(matrix)

    def logit(features: Tensor) -> Tensor:
        bands: Tensor = features @ inverse
        return bands[:, 0, 20:40, 8].sum(dim=1)

    bands = torch.zeros(1, HOPS, 50, 20)
    bands[:, 0, 20:40, 8] = 1.0
    values = shap_values(lambda x: logit(x @ matrix), bands)
    (place, *_) = regions(values, plane.edges_hz, start_s=10.0, frame_s=0.01)
    assert place.start_s == pytest.approx(10.20, abs=0.06)
    assert place.end_s == pytest.approx(10.40, abs=0.06)
    assert place.low_hz <= plane.centres_hz[8] <= place.high_hz
    assert place.high_hz - place.low_hz < 2000


def test_grad_cam_speaks_for_the_verdict_and_is_scaled_to_one(
    explained: tuple[Detector, Tensor, Saliency],
) -> None:
    model, features, _ = explained
    logit = logit_of(model, VALID)
    maps = [grad_cam(model, logit, features, sign) for sign in (1.0, -1.0)]
    for found in maps:
        assert found is not None
        assert found.min() >= 0.0
        assert found.max() == pytest.approx(1.0)
    assert not np.array_equal(maps[0], maps[1])  # type: ignore[arg-type] # neither is None


def test_a_network_without_convolutions_has_shap_values_only() -> None:
    model = _network(convolutions=False)
    found = explain(model, _features(), VALID)
    assert found.cam_columns is None
    assert np.abs(found.shap_columns).sum() > 0
    assert all(row.cam is None for row in randomisation(model, _features(), VALID, found))


def test_an_explanation_depends_on_the_model(
    explained: tuple[Detector, Tensor, Saliency],
) -> None:
    """Adebayo et al. 2018. Weights of chance stand in for learned ones: others of chance must give
    another explanation, and the same ones the same."""
    model, features, found = explained
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    rows = randomisation(model, features, VALID, found)
    assert [row.what for row in rows] == [
        "none",
        "the output layer",
        "all above the convolutions",
        "all layers",
    ]
    assert rows[0].shap > 0.85
    assert rows[0].cam == pytest.approx(1.0)
    assert abs(rows[-1].shap) < 0.7
    assert rows[0].shap_signed > 0.85
    assert abs(rows[-1].shap_signed) < 0.3
    assert rows[-1].cam is not None
    assert abs(rows[-1].cam) < 0.6
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, weights[name], msg=name)


def test_the_check_finds_an_explanation_that_only_shows_the_input() -> None:
    """The energy of the features is such a one: it stays, whatever the weights are."""
    energy = _features().square()[0].reshape(100, 20).double().numpy()
    assert similarity(energy, energy) == pytest.approx(1.0)
    rng = np.random.default_rng(0)
    assert abs(similarity(energy, rng.random(energy.shape))) < 0.1
    assert similarity(energy, np.zeros_like(energy)) == 0.0


def test_shares_count_what_lies_in_speech_and_what_speaks_for_the_verdict() -> None:
    values = np.array([[1.0, -1.0], [2.0, 0.0], [-4.0, 0.0]])
    assert share_in_speech(values, np.array([True, True, False])) == 0.5
    assert for_verdict(values, 1.0).sum() == 3.0
    assert for_verdict(values, -1.0).sum() == 5.0
    assert share_in_speech(np.zeros((3, 2)), np.array([True, True, False])) == 0.0


def test_nothing_is_pointed_at_where_nothing_speaks_for_the_verdict() -> None:
    assert regions(-np.ones((50, 4)), np.linspace(0, 8000, 5), 0.0, 0.01) == ()
