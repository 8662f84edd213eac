"""Gated fusion: hop by hop against whole windows, the gate, its ablations, the bundle."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from models.gated_fusion.deep import DeepWeightsError, LavaLatent, Xlsr53
from models.gated_fusion.network import (
    FUSIONS,
    HOP_SAMPLES,
    LEFT_CONTEXT,
    GatedFusion,
    NetworkSettings,
    Projection,
    build,
    full_window,
    graphs,
)
from models.lava.network import Autoencoder, Lava
from streamguard.config import load_config
from streamguard.inference.bundle import find_bundle, load_bundle
from streamguard.resources import packaged_config
from tests.models.torchaudio_oracle import torchaudio_transforms
from tools.bundle_writer import read_document
from tools.check_parity import HopSystem, WindowSystem, main, torch_system
from tools.export import export
from tools.training import Recipe, load_recipe, recipe_sha256, save_checkpoint

pytestmark = [pytest.mark.train, pytest.mark.timeout(90)]
FOLDER = Path(__file__).parents[2] / "models" / "gated_fusion"
LABELS: dict[str, list[Any]] = {
    "technology": ["codec", "tts"],
    "generator": [{"name": "dac", "technology": "codec"}, {"name": "vits", "technology": "tts"}],
}


def _recipe(**changes: object) -> Recipe:
    overrides = {f"network.{key}": value for key, value in changes.items()}
    return load_recipe(FOLDER / "recipe.yaml", overrides)


def _system(**changes: object) -> GatedFusion:
    """Statistics and gate that leave no part trivial."""
    torch.manual_seed(5)
    system = build(_recipe(**changes), LABELS)
    _settle(system)
    return system.eval()


def _settle(system: GatedFusion) -> None:
    with torch.no_grad():
        for name, buffer in system.named_buffers():
            if name.endswith("running_var"):
                buffer.copy_(torch.rand_like(buffer) + 0.5)
        for parameter in system.gate.parameters() if system.gate is not None else ():
            parameter.normal_(0.0, 0.05)
    system.eval()
    system.fit_statistics(_samples(4, 2), torch.ones(4, 2, dtype=torch.bool))


def _samples(batch: int, hops: int) -> Tensor:
    shape = (batch, LEFT_CONTEXT + hops * HOP_SAMPLES)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(11))
    return torch.cumsum(noise, dim=1) * 0.001 + noise * torch.linspace(0.02, 0.1, batch)[:, None]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_hop_by_hop_equals_whole_windows(fusion: str) -> None:
    system = _system(fusion=fusion)
    samples = _samples(2, 3)
    with torch.no_grad():
        expected = full_window(system, samples)
    daemon = torch_system(graphs(system))
    assert isinstance(daemon, HopSystem)
    said = daemon.window(samples.numpy())
    assert list(said) == list(expected)
    for name, value in said.items():
        torch.testing.assert_close(torch.from_numpy(value), expected[name], atol=1e-4, rtol=1e-4)


def test_a_run_becomes_a_bundle_that_says_the_same(tmp_path: Path) -> None:
    file = tmp_path / "gated_fusion" / "recipe.yaml"
    file.parent.mkdir()
    file.write_text(yaml.safe_dump(_recipe()))
    state = {"recipe": _recipe(), "labels": LABELS, "model": _system().state_dict()}
    save_checkpoint(tmp_path / "run" / "best.pt", state)
    out = export(file, tmp_path / "run", file.parent / "bundle")
    manifest = load_bundle(out).manifest
    assert (manifest.name, manifest.task) == ("gated_fusion", "attribution")
    assert sum(path.stat().st_size for path in out.iterdir()) < 12_000_000
    assert main([str(out), "--run", str(tmp_path / "run"), "--windows", "2"]) == 0


def test_sizes_are_those_of_the_text() -> None:
    """XLSR-53's 1024 dimensions and 24 known systems: "0.897 M parameters"."""
    system = GatedFusion(NetworkSettings(ssl="xlsr53"), 2, 24)
    assert system.gate is not None
    parts: list[nn.Module] = [*system.branches, system.gate, system.generator]
    assert sum(p.numel() for part in parts for p in part.parameters()) == 896_922
    assert isinstance(system.branches[0], Projection)


def test_the_gate_is_even_and_learns_nothing_until_it_is_released() -> None:
    system = build(_recipe(), LABELS)
    assert system.gate is not None
    valid = torch.ones(4, 2, dtype=torch.bool)
    system.fit_statistics(_samples(4, 2), valid)
    features = system.features(_samples(4, 2), valid)
    for epoch, learns in ((9, False), (10, True)):
        system.start_epoch(epoch)
        system.train()
        said = system.outputs(features, valid)
        assert said.gate is not None
        torch.testing.assert_close(said.gate, torch.full((4, 2), 0.5))
        assert {p.requires_grad for p in system.gate.parameters()} == {learns}


def test_the_fused_embedding_is_the_weighted_sum_of_both_branches() -> None:
    system = _system()
    mean = system.features(_samples(4, 2), torch.ones(4, 2)).mean(dim=1)
    with torch.no_grad():
        embedding, gate = system.fuse(mean)
        assert gate is not None
        torch.testing.assert_close(gate.sum(dim=1), torch.ones(4))
        assert float(gate.std()) > 0.0, "the gate looks at its input"
        features = (mean - system.mean) / system.deviation
        deep, cores = (
            branch(part)
            for branch, part in zip(
                system.branches, torch.split(features, system.parts, dim=1), strict=True
            )
        )
    torch.testing.assert_close(embedding, gate[:, :1] * deep + gate[:, 1:] * cores)


def test_a_hop_that_holds_no_speech_changes_nothing() -> None:
    system = _system()
    samples = _samples(1, 3)
    other = samples.clone()
    other[:, LEFT_CONTEXT + HOP_SAMPLES : LEFT_CONTEXT + 2 * HOP_SAMPLES - LEFT_CONTEXT] = 0.3
    valid = torch.tensor([[True, False, True]])
    with torch.no_grad():
        left, right = (system.outputs(system.features(x, valid), valid) for x in (samples, other))
    torch.testing.assert_close(left.embedding, right.embedding)


@pytest.mark.parametrize(("fusion", "unused"), [("deep", "cores"), ("cores", "deep")])
def test_an_ablation_does_not_see_the_other_branch(fusion: str, unused: str) -> None:
    system = _system(fusion=fusion)
    mean = torch.randn(3, len(system.mean))[:, None]
    other = mean.clone()
    size = system.deep.size
    other[..., size:] += 5.0 * (unused == "cores")
    other[..., :size] += 5.0 * (unused == "deep")
    valid = torch.ones(3, 1, dtype=torch.bool)
    with torch.no_grad():
        said = [system.outputs(x, valid) for x in (mean, other)]
    torch.testing.assert_close(said[0].generator, said[1].generator)
    assert said[0].gate is None


def test_a_fusion_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match=r"network\.fusion: 'sum': one of gated"):
        NetworkSettings(fusion="sum")
    with pytest.raises(ValueError, match=r"network\.ssl: 'wavlm': null or one of xlsr53"):
        NetworkSettings(ssl="wavlm")


class TestTheEncoderOfLava:
    def test_comes_from_its_autoencoder(self) -> None:
        torch.manual_seed(1)
        autoencoder = Autoencoder()
        system = build(_recipe(), LABELS)
        system.take_pretrained(autoencoder.state_dict())
        assert isinstance(system.deep, LavaLatent)
        for name, value in autoencoder.encoder.state_dict().items():
            torch.testing.assert_close(system.deep.encoder.state_dict()[name], value)

    def test_or_from_its_heads(self) -> None:
        torch.manual_seed(1)
        lava = Lava(2, 2).eval()
        latent = LavaLatent().eval()
        latent.take_pretrained(lava.state_dict())
        samples = _samples(2, 1)
        with torch.no_grad():
            trunk = lava.trunk(samples, padded=False)
            branch: Any = lava.branches[0]
            expected = branch.last(trunk, padded=False).mean(dim=2)
            torch.testing.assert_close(latent(samples), expected)

    def test_nothing_else_will_do(self) -> None:
        with pytest.raises(DeepWeightsError, match="not the weights of a LAVA encoder"):
            LavaLatent().take_pretrained({"logit.weight": torch.zeros(1)})

    def test_learns_nothing_and_keeps_its_statistics(self) -> None:
        system = build(_recipe(), LABELS)
        system.train()
        assert not any(module.training for module in system.deep.modules())
        assert not any(weight.requires_grad for weight in system.deep.parameters())


def _tiny_wav2vec2() -> nn.Module:
    """Of XLSR-53's class, with random weights."""
    torchaudio_transforms()  # skips where torchaudio does not import
    models = importlib.import_module("torchaudio.models")
    torch.manual_seed(2)
    model: nn.Module = models.wav2vec2_model(
        extractor_mode="layer_norm",
        extractor_conv_layer_config=[(8, 10, 8), (8, 8, 8)],
        extractor_conv_bias=True,
        encoder_embed_dim=16,
        encoder_projection_dropout=0.0,
        encoder_pos_conv_kernel=8,
        encoder_pos_conv_groups=2,
        encoder_num_layers=1,
        encoder_num_heads=2,
        encoder_attention_dropout=0.0,
        encoder_ff_interm_features=16,
        encoder_ff_interm_dropout=0.0,
        encoder_dropout=0.0,
        encoder_layer_norm_first=True,
        encoder_layer_drop=0.0,
        aux_num_out=None,
    )
    return model.eval()


class TestXlsr53:
    @pytest.fixture
    def weights(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A network of the same class in the place of the large one, and its file."""
        file = tmp_path / "tiny.pth"
        torch.save(_tiny_wav2vec2().state_dict(), file)
        monkeypatch.setattr("models.gated_fusion.deep.xlsr53_model", _tiny_wav2vec2)
        monkeypatch.setattr(Xlsr53, "size", 16)
        return file

    def test_is_a_whole_window_graph_that_says_what_the_trainer_sees(self, weights: Path) -> None:
        system = build(_recipe(ssl="xlsr53", ssl_weights=str(weights)), LABELS)
        _settle(system)
        daemon = torch_system(graphs(system))
        assert isinstance(daemon, WindowSystem)
        heard = _samples(2, 6)
        with torch.no_grad():
            expected = full_window(system, heard)
        said = daemon.window(heard[:, LEFT_CONTEXT:].numpy())
        for name, value in said.items():
            torch.testing.assert_close(
                torch.from_numpy(value), expected[name], atol=1e-4, rtol=1e-4
            )

    @pytest.mark.slow
    @pytest.mark.timeout(240)  # the export is some 15 seconds of one core, however small it is
    def test_exports_and_keeps_its_weights_out_of_checkpoints(
        self, weights: Path, tmp_path: Path
    ) -> None:
        recipe = _recipe(ssl="xlsr53", ssl_weights=str(weights))
        system = build(recipe, LABELS)
        _settle(system)
        assert not any("deep" in name for name in system.state_dict())
        file = tmp_path / "gated_fusion" / "recipe.yaml"
        file.parent.mkdir()
        file.write_text(yaml.safe_dump(recipe))
        state = {"recipe": recipe, "labels": LABELS, "model": system.state_dict()}
        save_checkpoint(tmp_path / "run" / "best.pt", state)
        out = export(file, tmp_path / "run", file.parent / "bundle")
        assert main([str(out), "--run", str(tmp_path / "run"), "--windows", "1"]) == 0

    def test_asks_for_the_file(self) -> None:
        with pytest.raises(DeepWeightsError, match=r"network\.ssl_weights: empty: .* downloaded"):
            Xlsr53(None)(torch.zeros(1, 48000))

    def test_names_a_file_that_is_not_there_or_is_no_weights(
        self, weights: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(DeepWeightsError, match=r"missing\.pth: No such file"):
            Xlsr53(str(tmp_path / "missing.pth")).model()
        weights.write_bytes(b"no weights")
        with pytest.raises(DeepWeightsError, match=r"tiny\.pth: not the weights of XLSR-53"):
            Xlsr53(str(weights)).model()

    def test_says_that_torchaudio_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "torchaudio.models", None)
        with pytest.raises(DeepWeightsError, match=r"network\.ssl: xlsr53: needs torchaudio"):
            Xlsr53("any.pth").model()


def test_the_committed_bundle_was_made_with_the_recipe_beside_it() -> None:
    assert read_document(FOLDER / "bundle")["made_with"]["recipe_sha256"] == recipe_sha256(
        _recipe()
    )


def test_its_configuration_names_it() -> None:
    config = load_config(packaged_config("gated_fusion"))
    assert config.attribution == "gated_fusion"
    manifest = load_bundle(find_bundle(config.attribution)).manifest
    assert manifest.calibration, "what is not calibrated says nothing"
