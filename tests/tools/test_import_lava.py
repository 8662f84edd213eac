"""The published LAVA files as a bundle, against a plain re-statement of the authors' networks."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from streamguard.inference.bundle import load_bundle
from streamguard.inference.network import Network
from streamguard.inference.ort import OrtEngine
from streamguard.inference.target import load_target
from streamguard.verdict.scores import Channel
from tools import import_lava
from tools.check_parity import TOLERANCE, bundle_system, noise_windows
from tools.import_lava import FILES
from tools.training import CheckpointError, save_checkpoint

pytestmark = [pytest.mark.train, pytest.mark.timeout(120)]
torch.set_num_threads(1)

WEIGHTS = "STREAMGUARD_LAVA_WEIGHTS"


def encoder() -> nn.Sequential:
    """Table 3 of the text."""
    layers: list[nn.Module] = []
    for i, o in ((1, 32), (32, 64), (64, 128), (128, 256)):
        layers += [nn.Conv1d(i, o, 9, stride=2, padding=4), nn.BatchNorm1d(o), nn.ReLU()]
    return nn.Sequential(*layers)


class PlainAutoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = encoder()
        up = [
            nn.ConvTranspose1d(i, o, 9, stride=2, padding=4, output_padding=1)
            for i, o in ((256, 128), (128, 64), (64, 32), (32, 1))
        ]
        layers: list[nn.Module] = []
        for convolution, o in zip(up[:3], (128, 64, 32), strict=True):
            layers += [convolution, nn.BatchNorm1d(o), nn.ReLU()]
        self.decoder = nn.Sequential(*layers, nn.Dropout(0.3), up[3], nn.Tanh())

    def forward(self, samples: Tensor) -> Tensor:
        audio = samples[:, None]
        made = self.decoder(self.encoder(audio))
        loss = nn.functional.smooth_l1_loss(made, audio, beta=1e-4, reduction="none")
        return loss.mean(dim=(1, 2))[:, None]


class PlainHead(nn.Module):
    """Table 4 of the text on the encoder."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.encoder = encoder()
        self.attention = nn.Sequential(nn.Conv1d(256, 256, 1), nn.Sigmoid())
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Linear(256, 128),
            nn.ReLU(),
            nn.Linear(128, classes),
        )

    def forward(self, samples: Tensor) -> Tensor:
        latent = self.encoder(samples[:, None])
        logits: Tensor = self.classifier(latent * self.attention(latent))
        return logits


def plain() -> dict[str, nn.Module]:
    """The three networks by what the bundle calls their output, in the order of ``FILES``."""
    return {"ood": PlainAutoencoder(), "technology_logits": PlainHead(3),
            "generator_logits": PlainHead(6)}  # fmt: skip


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights and statistics in the layout of the authors' files."""
    folder = tmp_path_factory.mktemp("published")
    torch.manual_seed(3)
    for file, network in zip(FILES, plain().values(), strict=True):
        for norm in network.modules():
            if isinstance(norm, nn.BatchNorm1d):
                nn.init.normal_(norm.weight, 1.0, 0.2)
                nn.init.normal_(norm.bias, 0.1, 0.2)
                assert norm.running_mean is not None
                assert norm.running_var is not None
                norm.running_mean.normal_(0.0, 0.1)
                norm.running_var.uniform_(0.05, 0.5)
        save_checkpoint(folder / file, network.state_dict())
    return folder


@pytest.fixture(scope="module")
def bundle(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("imported") / "bundle"
    assert import_lava.main([str(published), "--out", str(out)]) == 0
    return out


def assert_parity(files: Path, bundle: Path) -> None:
    samples = noise_windows(2, 0)
    said = bundle_system(bundle).window(samples)
    assert said.keys() == plain().keys()
    for file, (name, network) in zip(FILES, plain().items(), strict=True):
        network.load_state_dict(torch.load(files / file, "cpu", weights_only=True))
        with torch.no_grad():
            expected = network.eval()(torch.from_numpy(samples)).numpy()
        np.testing.assert_allclose(said[name], expected, rtol=1e-5, atol=TOLERANCE, err_msg=name)
        assert float(np.abs(expected).max()) > TOLERANCE, "not trivially equal"


def test_the_bundle_says_what_the_three_networks_say(published: Path, bundle: Path) -> None:
    assert_parity(published, bundle)


@pytest.mark.skipif(WEIGHTS not in os.environ, reason=f"${WEIGHTS}: folder of the authors' files")
def test_the_bundle_of_the_published_weights_says_what_they_say(tmp_path: Path) -> None:
    files = Path(os.environ[WEIGHTS])
    assert_parity(files, import_lava.import_lava(files, tmp_path / "bundle"))


def test_the_daemon_divides_by_the_peak_of_the_window_and_asks_the_whole_of_it(
    published: Path, bundle: Path
) -> None:
    loaded = load_bundle(bundle)
    assert loaded.manifest.normalisation == "window_peak"
    network = Network(loaded, OrtEngine(loaded, load_target("cpu-fp32")))
    assert network.whole_window
    samples = noise_windows(1, 0)[0]
    quiet = (0.1 * samples).reshape(6, -1)
    parts = [out.parts for out in network.hops(list(quiet), [{}] * 6)]
    said = network.windows([parts])[0]
    network.close()
    ada = PlainHead(3)
    ada.load_state_dict(torch.load(published / "ADA_model.pt", weights_only=True))
    with torch.no_grad():
        expected = ada.eval()(torch.from_numpy(samples / np.abs(samples).max())[None])[0]
    np.testing.assert_allclose(said["technology_logits"], expected, atol=TOLERANCE)


def test_labels_are_families_and_codecs_at_the_confidence_of_the_authors(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    labels = loaded.manifest.labels
    assert labels.technology == ("codec", "asvspoof2021_family", "fakeorreal_family")
    assert [g.name for g in labels.generator][:2] == ["soundstream", "speechtokenizer"]
    assert {g.technology for g in labels.generator} == {"codec"}
    thresholds = loaded.manifest.thresholds
    assert (thresholds.technology, thresholds.generator) == (0.85, 0.9)
    wide = loaded.calibration("fp32", Channel.WIDE)
    assert wide is not None
    assert wide.technology_answers.confidence("codec", 0.87) == 0.87
    assert loaded.calibration("fp32", Channel.NARROW) is None, "nobody trained it on that"
    assert "Nothing here is calibrated" in (bundle / "CARD.md").read_text()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state.pop("attention.0.weight"), r"attention\.0\.weight: there is no such"),
        (
            lambda state: state.update({"classifier.4.bias": torch.zeros(4)}),
            r"classifier\.4\.bias: its shape is \[4\]; it must be \[6\]",
        ),
    ],
)
def test_a_file_of_another_network_is_refused_by_the_tensor(
    published: Path, tmp_path: Path, change: object, reason: str
) -> None:
    for file in FILES:
        state = torch.load(published / file, weights_only=True)
        if file == "ADMR_model.pt":
            assert callable(change)
            change(state)
        save_checkpoint(tmp_path / file, state)
    with pytest.raises(CheckpointError, match=reason):
        import_lava.import_lava(tmp_path, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"autoencoder\.pt: no such checkpoint"):
        import_lava.import_lava(tmp_path, tmp_path / "bundle")
