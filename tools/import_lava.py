"""The LAVA authors' three published files as a bundle: ``python -m tools.import_lava FOLDER``.

FOLDER holds ``autoencoder.pt``, ``ADA_model.pt`` and ``ADMR_model.pt``, as at
https://github.com/adipiz99/LAVA-framework (MIT). They are taken as three networks: the convolutions
are the same in all, but the running statistics of every norm drifted while the heads were trained,
so that no trunk serves two of them. The window graph gives the logits of both heads and, as
``ood``, the loss of the autoencoder.

Nothing is calibrated: the softmax is taken at its word, against the confidences of the authors' own
pipeline, and only for wide-band speech. Not for distribution with this software.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from models.lava.network import CHANNELS, LATENT, Autoencoder, Classifier, Encoder
from streamguard.clock import HOP_SAMPLES, WINDOW_HOPS
from streamguard.verdict.scores import Channel
from tools.bundle_writer import BundleDraft, GraphSpec, TensorSpec, sha256_of, write_bundle
from tools.command import run
from tools.corpora.codecfake import CODECS
from tools.training import CheckpointError, load_checkpoint

FILES = ("autoencoder.pt", "ADA_model.pt", "ADMR_model.pt")
CODEC = "codec"
TECHNOLOGIES = (CODEC, "asvspoof2021_family", "fakeorreal_family")
"""CodecFake, ASVspoof 2021, FakeOrReal: corpora, so all but the first are families at best."""
PUBLISHED_GENERATORS = tuple(CODECS[f"F0{number}"] for number in range(1, 7))
THRESHOLDS = {"technology": 0.85, "generator": 0.90}
"""Softmax confidences in the example of the authors' ``pipeline.py``; none are in their text."""
NOTHING_IS_STRANGE = [1.0]
"""A conformal table that rejects nothing: there are no held-out scores."""

_CARD = """\
# LAVA as its authors published it

Three networks of Di Pierno, Guarnera, Allegra and Battiato, "Towards Reliable Audio Deepfake
Attribution and Model Recognition" (DFF '25), copied number by number (MIT, © 2025 Andrea Di
Pierno): ADA (`technology_logits`), ADMR (`generator_logits`) and the autoencoder, whose Smooth L1
loss is `ood`.

- **Nothing here is calibrated.** Confidence is the softmax as it is; the thresholds
  ({technology:.2f} and {generator:.2f}) are the example of the authors' own pipeline.
- ADA's classes are corpora: `asvspoof2021_family` and `fakeorreal_family` say which corpus a clip
  is like, not how it was made. There is no bona fide class.
- Trained on wide-band corpora: speech of a telephone line is rejected as uncalibrated.
- A window is divided by its peak, as in the text; before that the daemon's front end has divided it
  by its running peak, whose slow changes inside the window remain.
"""


class Recogniser(nn.Module):
    """ADA or ADMR: ``[batch, 48000]`` to logits."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.gate = nn.Conv1d(LATENT, LATENT, 1)
        self.classifier = Classifier(classes)

    def forward(self, samples: Tensor) -> Tensor:
        latent = self.encoder(samples, padded=True)
        gated = latent * torch.sigmoid(self.gate(latent))
        logits: Tensor = self.classifier(gated.mean(dim=2))[1]
        return logits


class Published(nn.Module):
    """``[batch, 48000]`` to ADA's logits, ADMR's logits and the autoencoder's loss."""

    def __init__(self) -> None:
        super().__init__()
        self.technology = Recogniser(len(TECHNOLOGIES))
        self.generator = Recogniser(len(PUBLISHED_GENERATORS))
        self.autoencoder = Autoencoder()

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        losses = self.autoencoder.reconstruction_losses(samples)
        return self.technology(samples), self.generator(samples), losses[:, None]


def read_published(folder: Path) -> Published:
    """The three networks in evaluation mode. Raises CheckpointError."""
    published = Published()
    encoder = {
        f"{part}.{layer}.": f"encoder.{3 * layer + at}."
        for at, part in enumerate(("convolutions", "norms"))
        for layer in range(len(CHANNELS) - 1)
    }
    # Theirs has a dropout before the last convolution of the decoder.
    decoder = {f"layers.{at}.": f"decoder.{at if at < 9 else at + 1}." for at in range(10)}
    head = {
        "gate.": "attention.0.",
        "classifier.hidden.": "classifier.2.",
        "classifier.logits.": "classifier.4.",
    }
    inside = {f"encoder.{ours}": theirs for ours, theirs in encoder.items()}
    inside_autoencoder = inside | {f"decoder.{ours}": theirs for ours, theirs in decoder.items()}
    parts = (
        (published.autoencoder, inside_autoencoder),
        (published.technology, inside | head),
        (published.generator, inside | head),
    )
    for name, (module, names) in zip(FILES, parts, strict=True):
        _load(module, names, folder / name)
    return published.eval()


def _load(module: nn.Module, names: Mapping[str, str], file: Path) -> None:
    """``names``: prefix of our weights to prefix in the file.

    Raises CheckpointError naming the tensor that is missing or of another shape.
    """
    state = load_checkpoint(file)
    taken = {}
    for name, tensor in module.state_dict().items():
        ours = next(prefix for prefix in names if name.startswith(prefix))
        theirs = names[ours] + name.removeprefix(ours)
        if not isinstance(state.get(theirs), Tensor):
            raise CheckpointError(file, f"{theirs}: there is no such tensor")
        if state[theirs].shape != tensor.shape:
            has, must = list(state[theirs].shape), list(tensor.shape)
            raise CheckpointError(file, f"{theirs}: its shape is {has}; it must be {must}")
        taken[name] = state[theirs]
    module.load_state_dict(taken)


def import_lava(folder: Path, out: Path) -> Path:
    """Write the bundle. Raises BundleError, CheckpointError."""
    graph = GraphSpec(
        name="window_fp32",
        module=read_published(folder),
        unit="window",
        inputs=(TensorSpec("samples", (WINDOW_HOPS * HOP_SAMPLES,)),),
        outputs=(
            TensorSpec("technology_logits", (len(TECHNOLOGIES),), "ADA: labels.technology"),
            TensorSpec("generator_logits", (len(PUBLISHED_GENERATORS),), "ADMR: labels.generator"),
            TensorSpec("ood", (1,), "Smooth L1 loss of the autoencoder"),
        ),
    )
    at_its_word = {
        "llr": None,
        "leg": None,
        "conformal": {"technology": NOTHING_IS_STRANGE, "generator": NOTHING_IS_STRANGE},
    }
    draft = BundleDraft(
        name="lava_published",
        version="1",
        task="attribution",
        licence="MIT, (c) 2025 Andrea Di Pierno (github.com/adipiz99/LAVA-framework)",
        trained_on="CodecFake, ASVspoof 2021 and FakeOrReal, by the authors of LAVA",
        calibration={"fp32": {Channel.WIDE.value: at_its_word}},
        technology=TECHNOLOGIES,
        generator=[{"name": name, "technology": CODEC} for name in PUBLISHED_GENERATORS],
        thresholds=THRESHOLDS,
        normalisation="window_peak",
    )
    files = {name: sha256_of(folder / name) for name in FILES}
    return write_bundle(draft, (graph,), {"imported": files}, _CARD.format(**THRESHOLDS), out)


def main(argv: Sequence[str] | None = None) -> int:
    """Import the published files."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tools.import_lava")
    parser.add_argument("folder", type=Path, help="with " + ", ".join(FILES))
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle to be made")
    options = parser.parse_args(argv)
    out = import_lava(options.folder, options.out)
    print(f"{out}: in a configuration: attribution: {out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
