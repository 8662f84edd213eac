"""LAVA's encoder out of a bundle: ``python -m tools.gallery.encoder BUNDLE --data D --out FILE``.

A checkpoint for ``tools.benchmark_models --checkpoint lava_autoencoder=FILE``, so that LAVA's heads
and the fusion begin with the encoder that the committed bundles have. Of a bundle of
``gated_fusion`` it is the autoencoder's own, of one of ``lava`` its last layer was trained with the
heads. A bundle keeps the norms folded into the convolutions and no decoder: norms are set so that
nothing changes, the last one with statistics of training hops, because heads train through it; the
decoder is one of chance, which nothing reads.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.lava.network import LEFT_CONTEXT, Autoencoder
from streamguard.inference.bundle import find_bundle, load_bundle
from tools.command import run
from tools.crops import Crops, normalised
from tools.data import DEFAULT_SPLIT, AudioCache, data_folder, read_manifest, read_split
from tools.gallery.rows import MODELS
from tools.labels import Labels
from tools.train import DEFAULT_CACHE
from tools.training import CheckpointError, load_recipe, save_checkpoint, seed_everything

RECIPE = MODELS / "lava" / "autoencoder.yaml"
_LAYERS = {
    "gated_fusion": ("encoder.0", "encoder.2", "encoder.4", "encoder.6"),
    "lava": ("trunk.0", "trunk.2", "trunk.4", "branches.0.last.0"),
}
"""Names of the convolutions by the system of the bundle."""
_HOPS = 64
"""Whose statistics the last norm gets."""


def read_encoder(bundle: Path) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of each convolution, norms folded in. Raises BundleError, CheckpointError."""
    loaded = load_bundle(bundle)
    name = loaded.manifest.name
    if name not in _LAYERS:
        raise CheckpointError(bundle, f"{name}: a bundle of " + " or ".join(_LAYERS))
    file = bundle / loaded.manifest.graphs[loaded.choose("fp32").body].file
    weights = {
        item.name: torch.from_numpy(onnx.numpy_helper.to_array(item).copy())
        for item in onnx.load(file).graph.initializer
    }
    try:
        return [(weights[f"{at}.weight"], weights[f"{at}.bias"]) for at in _LAYERS[name]]
    except KeyError as err:
        raise CheckpointError(file, f"{err}: there is no such tensor") from err


def autoencoder(layers: Sequence[tuple[Tensor, Tensor]], hops: Tensor) -> Autoencoder:
    """One whose encoder gives what the folded layers give; ``hops`` ``[n, 108 + 8000]``."""
    seed_everything(0)
    model = Autoencoder().eval()
    convolutions, norms = model.encoder.convolutions, model.encoder.norms
    frames = hops[:, None]
    with torch.no_grad():
        for layer, (weight, bias) in enumerate(layers):
            conv, norm = convolutions[layer], norms[layer]
            assert isinstance(conv, nn.Conv1d)
            assert isinstance(norm, nn.BatchNorm1d)
            conv.load_state_dict({"weight": weight, "bias": bias})
            frames = functional.conv1d(frames, weight, bias, stride=2)
            if layer == len(layers) - 1:
                assert norm.running_mean is not None
                assert norm.running_var is not None
                norm.running_mean.copy_(frames.mean(dim=(0, 2)))
                norm.running_var.copy_(frames.var(dim=(0, 2)))
            _undo(norm)
            frames = torch.relu(frames)
    return model


def _undo(norm: nn.BatchNorm1d) -> None:
    """Let a norm in evaluation mode change nothing, by its own statistics."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.weight.copy_((norm.running_var + norm.eps).sqrt())
    norm.bias.copy_(norm.running_mean)


def training_hops(data: Path, cache: Path, split: Path) -> Tensor:
    """Spoofed hops of the training sources, as heads hear them but not augmented."""
    clips = read_manifest(data / "manifest.csv")
    train = [clip for clip in read_split(split).select(clips, "train") if clip.spoof]
    chosen = [train[i * len(train) // _HOPS] for i in range(min(_HOPS, len(train)))]
    crops = Crops(chosen, AudioCache.open(data, cache, clips), LEFT_CONTEXT)
    samples, _ = crops.take(np.arange(len(crops.clips)), 1, np.random.default_rng(0))
    return torch.from_numpy(normalised(samples))


def main(argv: Sequence[str] | None = None) -> int:
    """Write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tools.gallery.encoder")
    parser.add_argument("bundle", help="folder, or name of a committed one")
    parser.add_argument("--data", type=Path, help="folder with manifest.csv ($STREAMGUARD_DATA)")
    parser.add_argument("--split", type=Path, default=DEFAULT_SPLIT)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="decoded audio")
    parser.add_argument("--crops", type=int, required=True, help="that it was trained on, in all")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint")
    options = parser.parse_args(argv)
    data = data_folder(options.data)
    layers = read_encoder(find_bundle(options.bundle))
    model = autoencoder(layers, training_hops(data, options.cache, options.split))
    changes: Mapping[str, object] = {"train.epochs": 1, "train.crops_per_epoch": options.crops}
    recipe = load_recipe(RECIPE, changes)
    clips = read_split(options.split).select(read_manifest(data / "manifest.csv"), "train")
    state = {
        "recipe": recipe,
        "labels": Labels.of(clips, recipe).plain(),
        "epoch": 1,
        "model": model.state_dict(),
    }
    save_checkpoint(options.out, state)
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
