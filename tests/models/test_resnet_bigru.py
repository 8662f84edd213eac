"""The ResNet-BiGRU: its spectrogram, its window graph, its recipes, its bundle in the daemon."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from models.cnn_lstm.features import dct_matrix, mel_filterbank
from models.resnet_bigru.network import (
    FFT,
    MELS,
    SHIFT_SAMPLES,
    WINDOW_FRAMES,
    MelDecibels,
    NetworkSettings,
    ResNetBiGru,
)
from models.window import LEFT_CONTEXT, WINDOW_SAMPLES, graphs
from streamguard.config import load_config
from streamguard.inference.bundle import load_bundle
from streamguard.inference.pair import open_models
from streamguard.resources import packaged_config
from streamguard.scoring import pair_names
from tests.models.torchaudio_oracle import torchaudio_transforms
from tools.augment import AugmentSettings
from tools.augment.features import SpecAugmentSettings
from tools.bundle_writer import read_document
from tools.check_parity import TOLERANCE, bundle_system, compare, main, noise_windows
from tools.draws import Balance
from tools.export import export
from tools.training import Recipe, load_recipe, recipe_sha256, save_checkpoint

pytestmark = [pytest.mark.train, pytest.mark.timeout(60)]
FOLDER = Path(__file__).parents[2] / "models" / "resnet_bigru"
BUNDLE = FOLDER / "bundle"
MODES: dict[str, dict[str, float]] = {
    "original": {},
    "time shift": {"augment.roll": 1},
    "noise": {"augment.white": 1},
    "pitch shift": {"augment.pitch": 1},
    "SpecAugment": {"spec_augment.share": 1},
    "combined": {"augment.roll": 1, "augment.white": 1, "spec_augment.share": 1},
}
"""As in the head of text.yaml."""


def _recipe(name: str = "recipe.yaml", changes: Mapping[str, object] | None = None) -> Recipe:
    return load_recipe(FOLDER / name, changes)


def _small(*, whitened: bool = True) -> ResNetBiGru:
    """Four channels wide, with statistics that leave no normalisation trivial."""
    torch.manual_seed(0)
    system = ResNetBiGru(NetworkSettings(width=4, hidden=8, whitened=whitened))
    with torch.no_grad():
        for name, buffer in system.named_buffers():
            if name.endswith("running_var"):
                buffer.copy_(torch.rand_like(buffer) + 0.5)
            elif name.endswith("running_mean"):
                buffer.copy_(torch.randn_like(buffer) * 0.1)
    system.fit_statistics(_noise(4), torch.ones(4, 6, dtype=torch.bool))
    return system.eval()


def _noise(batch: int) -> Tensor:
    """Loud, then 100 dB softer: some of it lies under the floor."""
    noise = torch.randn(batch, WINDOW_SAMPLES, generator=torch.Generator().manual_seed(3)) * 0.2
    noise[:, 30000:] *= 1e-5
    return noise


def test_the_spectrogram_is_that_of_torchaudio() -> None:
    transforms = torchaudio_transforms()
    mel = transforms.MelSpectrogram(16000, n_fft=FFT, hop_length=SHIFT_SAMPLES, n_mels=MELS)
    to_db = transforms.AmplitudeToDB(top_db=80)
    # One at a time: with a batch, torchaudio takes its floor from the loudest window of it.
    expected = torch.stack([to_db(mel(row)).T for row in _noise(2)])
    expected -= expected.amax(dim=(1, 2), keepdim=True)
    found = MelDecibels()(_noise(2))
    assert found.shape == (2, WINDOW_FRAMES, MELS)
    assert float(found.min()) == -80.0
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)


def test_the_spectrogram_is_that_of_a_plain_restatement() -> None:
    samples = _noise(1)[0].double().numpy()
    padded = np.pad(samples, FFT // 2, mode="reflect")
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT) / FFT)
    frames = [
        np.square(np.abs(np.fft.rfft(hann * padded[begin : begin + FFT])))
        for begin in range(0, len(padded) - FFT + 1, SHIFT_SAMPLES)
    ]
    energy = np.stack(frames) @ mel_filterbank(MELS, FFT)
    decibels = 10 * np.log10(np.maximum(energy, 1e-10))
    expected = np.maximum(decibels - decibels.max(), -80.0)
    found = MelDecibels()(_noise(1))[0].numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("whitened", [False, True])
def test_a_gain_changes_nothing_and_silence_is_a_spectrogram_too(whitened: bool) -> None:
    system = _small(whitened=whitened)
    valid = torch.ones(2, 6, dtype=torch.bool)
    loud, soft = (system.features(_noise(2) * gain, valid) for gain in (1.0, 0.25))
    torch.testing.assert_close(loud, soft, atol=1e-4, rtol=0)
    assert bool(torch.isfinite(system.features(torch.zeros(2, WINDOW_SAMPLES), valid)).all())


def test_the_window_is_one_hop_to_the_trainer_whatever_is_valid() -> None:
    system = _small()
    valid = torch.zeros(2, 6, dtype=torch.bool)
    features = system.features(_noise(2), valid)
    assert features.shape == (2, 1, WINDOW_FRAMES, MELS)
    assert LEFT_CONTEXT == 0
    activations = system.activations(features)
    assert activations.shape == (2, 1, 16)
    logits = [system.outputs(activations, mask).logit for mask in (valid, ~valid)]
    torch.testing.assert_close(logits[0], logits[1])


def test_the_decibels_of_the_text_lose_the_mean_and_deviation_of_the_training_crops() -> None:
    system = _small(whitened=False)
    features = system.features(_noise(4), torch.ones(4, 6, dtype=torch.bool))[:, 0]
    assert float(features.mean()) == pytest.approx(0.0, abs=1e-4)
    assert float(features.std()) == pytest.approx(1.0, abs=1e-3)
    apart = system.mel(_noise(4)) - system.mean - features / system.scale[0, 0]
    torch.testing.assert_close(apart, torch.zeros_like(apart), atol=1e-3, rtol=0)


def test_whitened_bands_have_no_mean_and_one_variance_in_every_cepstral_direction() -> None:
    features = _small().features(_noise(4), torch.ones(4, 6, dtype=torch.bool))[:, 0]
    assert float(features.mean(dim=1).abs().max()) < 1e-3
    dct = torch.from_numpy(dct_matrix(MELS, MELS)).double()
    deviation = (features.flatten(0, 1).double() @ dct).square().mean(dim=0).sqrt()
    # The floor that is added keeps the smallest directions below one.
    assert float(deviation.max()) <= 1.0
    assert float(deviation.min()) > 0.8


def test_the_default_width_is_resnet18() -> None:
    """11.2 million weights of torchvision's ResNet18, without its 1000 classes and two of its
    three input channels."""
    resnet = ResNetBiGru(NetworkSettings()).resnet
    count = sum(parameter.numel() for parameter in resnet.parameters())
    assert count == 11_689_512 - (512 * 1000 + 1000) - 2 * 64 * 49


def test_what_the_window_holds_in_its_end_reaches_the_score() -> None:
    system, silent = _small(), torch.zeros(1, WINDOW_SAMPLES)
    other = silent.clone()
    other[:, -8000:] = 0.1 * torch.randn(8000, generator=torch.Generator().manual_seed(1))
    module = graphs(system)[0].module
    with torch.no_grad():
        assert abs(float(module(silent)[0] - module(other)[0])) > 1e-4


def test_a_run_becomes_a_bundle_that_says_the_same(tmp_path: Path) -> None:
    recipe = _recipe(changes={"network.width": 4, "network.hidden": 8})
    file = tmp_path / "resnet_bigru" / "recipe.yaml"
    file.parent.mkdir()
    file.write_text(yaml.safe_dump(recipe))
    labels: dict[str, list[str]] = {"technology": [], "generator": []}
    state = {"recipe": recipe, "labels": labels, "model": _small().state_dict()}
    save_checkpoint(tmp_path / "run" / "best.pt", state)
    out = export(file, tmp_path / "run", file.parent / "bundle")
    (graph,) = load_bundle(out).manifest.graphs.values()
    assert graph.unit == "window"
    assert main([str(out), "--run", str(tmp_path / "run"), "--windows", "2"]) == 0


@pytest.mark.parametrize(("mode", "changes"), MODES.items())
def test_every_mode_of_the_text_is_a_change_of_its_recipe(
    mode: str, changes: dict[str, float]
) -> None:
    assert mode in (FOLDER / "text.yaml").read_text() or mode == "original"
    recipe = _recipe("text.yaml", changes)
    assert not NetworkSettings(**recipe["network"]).whitened
    augment = AugmentSettings(**recipe["augment"])
    asked = {key.split(".")[1] for key in changes if key.startswith("augment.")}
    house = ("room", "eq", "band", "noise", "clip", "telephone", "codec", "shift", "speed")
    done = [name for name in (*house, "roll", "white", "pitch") if getattr(augment, name)]
    assert set(done) == asked
    assert SpecAugmentSettings(**recipe["spec_augment"]).share == ("spec_augment.share" in changes)


def test_the_sampling_of_the_text_is_seventy_to_thirty_and_ours_is_even() -> None:
    text, ours = (Balance(**_recipe(name)["balance"]) for name in ("text.yaml", "recipe.yaml"))
    resynthesised = text.technology["codec"] + text.technology["vocoder"]
    assert resynthesised == pytest.approx(0.7)
    assert sum(text.technology.values()) == pytest.approx(1.0)
    assert set(ours.technology.values()) == {0.25}
    by_technology = {"balance.technology": ours.technology}
    assert _recipe("text.yaml", by_technology)["balance"]["technology"] == ours.technology


def test_no_two_rows_are_of_one_recipe() -> None:
    hashes = [recipe_sha256(_recipe("text.yaml", changes)) for changes in MODES.values()]
    assert all(one != other for one, other in itertools.combinations(hashes, 2))


def test_the_committed_bundle_is_of_the_committed_recipe() -> None:
    assert read_document(BUNDLE)["made_with"]["recipe_sha256"] == recipe_sha256(_recipe())
    manifest = load_bundle(BUNDLE).manifest
    assert manifest.task == "detection"
    (graph,) = manifest.graphs.values()
    assert graph.unit == "window"
    assert manifest.calibration["fp32"], "or the daemon would reject every window"
    system = bundle_system(BUNDLE)
    signal = noise_windows(2, 0)
    together = system.window(signal)
    apart = {
        name: np.concatenate([system.window(row[None])[name] for row in signal])
        for name in together
    }
    # A squared distance is a large number: its error is relative.
    np.testing.assert_allclose(apart.pop("ood"), together.pop("ood"), rtol=1e-5)
    assert compare(together, apart).worst <= TOLERANCE


def test_the_ready_configuration_names_a_bundle_that_the_daemon_opens() -> None:
    names = pair_names(load_config(packaged_config("resnet_bigru")))
    assert (names.detector, names.attribution) == ("resnet_bigru", "subband_attribution")
    models = open_models(names)
    assert models.detector.whole_window
    models.close()
