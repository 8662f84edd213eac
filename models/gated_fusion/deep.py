"""The frozen deep branch: LAVA's latent, or XLSR-53 with weights that the user has."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.lava.network import LATENT, Encoder
from streamguard.errors import StreamguardError

XLSR53_SIZE = 1024


class DeepWeightsError(StreamguardError):
    """The weights of the frozen branch are missing, or belong to another network."""


class LavaLatent(nn.Module):
    """LAVA's encoder as it was trained; the plain mean of its latent frames."""

    size = LATENT

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder().requires_grad_(False).eval()

    def forward(self, hops: Tensor) -> Tensor:
        """Hops ``[n, at least 108 + 8000]`` -> ``[n, 256]``."""
        latent: Tensor = self.encoder(hops, padded=False)
        return latent.mean(dim=2)

    def take_pretrained(self, state: Mapping[str, Tensor]) -> None:
        """The encoder of a LAVA checkpoint's weights: of its autoencoder, or of its heads."""
        found = {
            name.removeprefix("encoder."): value
            for name, value in state.items()
            if name.startswith("encoder.")
        }
        if not found:
            found = _trunk_and_branch(state)
        try:
            self.encoder.load_state_dict(found)
        except RuntimeError as err:
            raise DeepWeightsError(f"not the weights of a LAVA encoder: {err}") from err


def _trunk_and_branch(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The layers of LAVA with heads: a trunk, and the last layer of its (first) branch."""
    last = len(Encoder().norms) - 1
    found = {}
    for name, value in state.items():
        if name.startswith("trunk."):
            found[name.removeprefix("trunk.")] = value
        elif name.startswith("branches.0.last."):
            kind, _, rest = name.removeprefix("branches.0.last.").split(".", 2)
            found[f"{kind}.{last}.{rest}"] = value
    return found


class Xlsr53(nn.Module):
    """XLSR-53 (Conneau et al. 2020), the mean of its last hidden states: a whole window at once.

    The weights are torchaudio's for its pipeline ``WAV2VEC2_XLSR53``, in a file of the user's. They
    are no part of checkpoints: the file is read when they are first needed.
    """

    size = XLSR53_SIZE

    def __init__(self, weights: str | None) -> None:
        super().__init__()
        self._file = weights
        # In a tuple, so that the 300 million weights are not among this module's.
        self._model: tuple[nn.Module, ...] = ()

    def forward(self, samples: Tensor) -> Tensor:
        """Windows ``[n, samples]`` -> ``[n, 1024]``."""
        model = self.model().to(samples.device)
        # As the weights were trained: no mean, unit variance.
        normed = functional.layer_norm(samples, samples.shape[1:])
        states, _ = model(normed)
        mean: Tensor = states.mean(dim=1)
        return mean

    def model(self) -> nn.Module:
        """The network with its weights; raises DeepWeightsError."""
        if not self._model:
            if not self._file:
                raise DeepWeightsError(
                    "network.ssl_weights: empty: a file with the weights of torchaudio's pipeline "
                    "WAV2VEC2_XLSR53; nothing is downloaded"
                )
            model = xlsr53_model()
            _load(model, Path(self._file))
            self._model = (model.requires_grad_(False).eval(),)
        return self._model[0]


def xlsr53_model() -> nn.Module:
    """XLSR-53 without weights; raises DeepWeightsError where torchaudio cannot be imported."""
    try:
        models = importlib.import_module("torchaudio.models")
    except (ImportError, OSError) as err:
        raise DeepWeightsError(f"network.ssl: xlsr53: needs torchaudio ({err})") from err
    model: nn.Module = models.wav2vec2_model(**XLSR53)
    return model


XLSR53: Mapping[str, Any] = {
    "extractor_mode": "layer_norm",
    "extractor_conv_layer_config": [(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512, 2, 2)] * 2,
    "extractor_conv_bias": True,
    "encoder_embed_dim": XLSR53_SIZE,
    "encoder_projection_dropout": 0.0,
    "encoder_pos_conv_kernel": 128,
    "encoder_pos_conv_groups": 16,
    "encoder_num_layers": 24,
    "encoder_num_heads": 16,
    "encoder_attention_dropout": 0.0,
    "encoder_ff_interm_features": 4096,
    "encoder_ff_interm_dropout": 0.0,
    "encoder_dropout": 0.0,
    "encoder_layer_norm_first": True,
    "encoder_layer_drop": 0.0,
    "aux_num_out": None,
}
"""torchaudio's configuration of the pipeline."""


def _load(model: nn.Module, file: Path) -> None:
    try:
        model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    except OSError as err:
        raise DeepWeightsError(f"network.ssl_weights: {file}: {err.strerror}") from err
    except Exception as err:  # torch raises a dozen kinds for bytes that are no such weights
        raise DeepWeightsError(
            f"network.ssl_weights: {file}: not the weights of XLSR-53 ({type(err).__name__})"
        ) from err
