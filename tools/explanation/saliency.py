"""Grad-CAM and SHAP values of one window, and whether they depend on the model at all.

Grad-CAM: Selvaraju et al., ICCV 2017; SHAP values as expected gradients (GradientShap): Lundberg
and Lee, NeurIPS 2017, and Erion et al. 2021; both from captum. Model randomisation: Adebayo et al.,
"Sanity checks for saliency maps", NeurIPS 2018.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import ndimage, stats
from torch import Tensor, nn

from tools.explanation.bands import BandPlane, band_plane
from tools.training import seed_everything

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

Logit = Callable[[Tensor], Tensor]
"""``[batch, hops, frames, columns]`` -> ``[batch]``, positive for spoof."""
SHAP_SAMPLES = 48
"""Of a path from the mean spectrum to what was heard; see the sum that a test asks for."""
ROUGH_SAMPLES = 12
"""For an explanation that is only compared with another."""
_SPREAD = 0.1
"""Deviation of the noise on the features (whose own is about one) over which SHAP is averaged."""
RANDOM_SEEDS = (1, 2, 3)
_POINTED = 0.5
"""Of the largest saliency: what is above it is pointed at."""
_MOST_REGIONS = 3
_SMOOTH = (6.0, 1.0)
"""Frames and bands over which saliency is smoothed before regions are sought."""


@dataclass(frozen=True, slots=True, eq=False)
class Saliency:
    """Of one window; frames run over its hops. SHAP values are in the unit of the logit."""

    logit: float
    shap_bands: Floats
    """``[frames, bands]``: positive speaks for spoof."""
    shap_columns: Floats
    """``[frames, columns]`` of the features: coefficients of a cepstrum."""
    baseline_logit: float
    """What the network says of the mean spectrum of the leg: the values sum to the difference."""
    cam_columns: Floats | None
    """``[frames, columns]``, 0 to 1: where the last convolution found what speaks for the verdict;
    None for a network without one."""
    cam_bands: Floats | None
    """``[frames, bands]``, 0 to 1: for a cepstrum, the spectral shape that the coefficients under
    the map describe; else the map itself."""


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the plane that an explanation points at."""

    start_s: float
    end_s: float
    low_hz: float
    high_hz: float
    share: float
    """Of the saliency for the verdict."""


@dataclass(frozen=True, slots=True)
class Randomised:
    """Rank correlation of an explanation with that of the model whose weights were drawn anew."""

    what: str
    """Which layers."""
    shap: float
    """Of absolute values. They hold the input as a factor, which no weights change: 0 is not to be
    had."""
    shap_signed: float
    cam: float | None


def explain(model: nn.Module, features: Tensor, valid: Tensor) -> Saliency:
    """Both explanations of a window.

    ``features`` ``[1, hops, frames, columns]`` and ``valid`` ``[1, hops]`` as in
    ``tools.outputs.HopNetwork``. The same numbers at every call.
    """
    plane = band_plane(model)
    logit = logit_of(model, valid)
    with torch.no_grad():
        said = float(logit(features))
        silent = float(logit(torch.zeros_like(features)))
    matrix = plane.matrix.float()
    bands = plane.bands_of(features.double()).float()
    shap_bands = shap_values(lambda x: logit(x @ matrix), bands)
    shap_columns = shap_values(logit, features)
    cam = grad_cam(model, logit, features, 1.0 if said > 0 else -1.0)
    return Saliency(
        logit=said,
        shap_bands=shap_bands,
        shap_columns=shap_columns,
        baseline_logit=silent,
        cam_columns=cam,
        cam_bands=None if cam is None else _cam_of_bands(cam, features, plane),
    )


def logit_of(model: Any, valid: Tensor) -> Logit:
    """The logit of windows as a function of their features."""

    def logit(features: Tensor) -> Tensor:
        mask = valid.expand(len(features), -1)
        said: Tensor = model.outputs(model.activations(features), mask).logit
        return said

    return logit


def shap_values(logit: Logit, x: Tensor, samples: int | None = None) -> Floats:
    """Expected gradients against zeros, which are the running mean of the leg.

    ``[1, hops, frames, columns]`` -> ``[hops frames, columns]``; they sum to about the difference
    of the logits.
    """
    from captum.attr import GradientShap

    seed_everything(0)
    values = GradientShap(logit).attribute(
        x, baselines=torch.zeros_like(x), n_samples=samples or SHAP_SAMPLES, stdevs=_SPREAD
    )
    return _plane(values)


def grad_cam(model: nn.Module, logit: Logit, features: Tensor, sign: float) -> Floats | None:
    """What of the last two-dimensional convolution speaks for the verdict, 0 to 1.

    ``[hops frames, columns]``; ``sign`` is that of the logit.
    """
    from captum.attr import LayerAttribution, LayerGradCam

    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    if not layers:
        return None
    found = LayerGradCam(lambda x: sign * logit(x), layers[-1]).attribute(
        features, relu_attributions=True
    )
    size = (features.shape[2], features.shape[3])
    whole = LayerAttribution.interpolate(found, size, interpolate_mode="bilinear")
    values = _plane(whole)
    return values / max(float(values.max()), 1e-12)


def _plane(values: Tensor) -> Floats:
    """``[1, hops, frames, columns]`` or ``[hops, 1, frames, columns]`` -> ``[all, columns]``."""
    flat = values.detach().double().reshape(-1, values.shape[-1])
    return np.asarray(flat.numpy(), np.float64)


def _cam_of_bands(cam: Floats, features: Tensor, plane: BandPlane) -> Floats:
    if not plane.cepstral:
        return cam
    weighted = torch.from_numpy(cam) * features.double().reshape(cam.shape)
    shape = np.asarray(plane.bands_of(weighted).abs().numpy(), np.float64)
    return shape / max(float(shape.max()), 1e-12)


def randomisation(
    model: nn.Module, features: Tensor, valid: Tensor, trained: Saliency
) -> tuple[Randomised, ...]:
    """How alike the explanations stay when ever more layers forget what they learned.

    From the output down: no layer (the same model once more, which is how alike explanations can
    be), the last one, all but the convolutions over the plane, all. An explanation that stays alike
    to the end shows the input, not the model.
    """
    layers = [module for module in model.modules() if hasattr(module, "reset_parameters")]
    steps: tuple[tuple[str, Sequence[nn.Module]], ...] = (
        ("none", ()),
        ("the output layer", layers[-1:]),
        ("all above the convolutions", [m for m in layers if not _in_the_plane(m)]),
        ("all layers", layers),
    )
    return tuple(_randomised(model, what, found, features, valid, trained) for what, found in steps)


def _in_the_plane(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d | nn.BatchNorm2d)


def _randomised(
    model: nn.Module,
    what: str,
    chosen: Sequence[nn.Module],
    features: Tensor,
    valid: Tensor,
    trained: Saliency,
) -> Randomised:
    names = [name for name, module in model.named_modules() if module in chosen]
    shap, signed, cam = [], [], []
    for seed in RANDOM_SEEDS if names else RANDOM_SEEDS[:1]:
        other = copy.deepcopy(model)
        seed_everything(seed)
        for name in names:
            reset: Callable[[], None] = getattr(other.get_submodule(name), "reset_parameters")  # noqa: B009 # modules have no common type that promises it
            reset()
        logit = logit_of(other, valid)
        values = shap_values(logit, features, ROUGH_SAMPLES)
        shap.append(similarity(np.abs(trained.shap_columns), np.abs(values)))
        signed.append(similarity(trained.shap_columns, values))
        if trained.cam_columns is not None:
            map_ = grad_cam(other, logit, features, 1.0 if trained.logit > 0 else -1.0)
            assert map_ is not None, "a copy has the layers of the model"
            cam.append(similarity(trained.cam_columns, map_))
    return Randomised(
        what,
        float(np.mean(shap)),
        float(np.mean(signed)),
        float(np.mean(cam)) if cam else None,
    )


def similarity(first: Floats, second: Floats) -> float:
    """Spearman's rank correlation; 0 where one of them is the same everywhere.

    Near 1: both point at the same places; near 0: they have nothing to do with each other.
    """
    a, b = first.reshape(-1), second.reshape(-1)
    if np.ptp(a) == 0.0 or np.ptp(b) == 0.0:
        return 0.0
    return float(stats.spearmanr(a, b).statistic)


def for_verdict(shap: Floats, logit: float) -> Floats:
    """The part of SHAP values that speaks for what the network said."""
    return np.maximum(shap if logit > 0 else -shap, 0.0)


def share_in_speech(saliency: Floats, speech: Bools) -> float:
    """Share of absolute saliency ``[frames, ...]`` that lies in frames of speech."""
    by_frame = np.abs(saliency).sum(axis=1)
    total = float(by_frame.sum())
    return float(by_frame[speech].sum()) / total if total else 0.0


def regions(
    saliency: Floats, edges_hz: Floats, start_s: float, frame_s: float
) -> tuple[Region, ...]:
    """Where smoothed saliency ``[frames, bands]`` is above half of its largest value, the greatest
    part first; what speaks against the verdict is negative, and cancels. ``start_s`` is the time of
    the first frame."""
    smooth = np.maximum(ndimage.gaussian_filter(saliency, _SMOOTH), 0.0)
    if not smooth.max() > 0.0:
        return ()
    labels, count = ndimage.label(smooth >= _POINTED * smooth.max())
    total = smooth.sum()
    found = []
    for number, place in enumerate(ndimage.find_objects(labels), 1):
        frames, bands = place
        mass = float(smooth[labels == number].sum() / total)
        found.append(
            Region(
                start_s=start_s + frames.start * frame_s,
                end_s=start_s + frames.stop * frame_s,
                low_hz=float(edges_hz[bands.start]),
                high_hz=float(edges_hz[bands.stop]),
                share=mass,
            )
        )
    assert len(found) == count, "one object per label"
    return tuple(sorted(found, key=lambda region: -region.share)[:_MOST_REGIONS])
