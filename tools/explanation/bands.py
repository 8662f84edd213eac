"""The frequencies behind the columns of a network's features.

A cepstrum has no frequency axis. But it is linear in the compressed energies of the filters (the
cosine transform, then a scale), so an explanation can be asked of these energies instead of the
coefficients: bands -> matrix -> features -> network. What is said of a band then holds exactly; it
is no picture of coefficients that was stretched over a frequency axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from models.cnn_lstm.features import KINDS, linear_filterbank
from models.cnn_lstm.network import Detector
from models.subband.network import Subband
from streamguard.clock import SAMPLE_RATE_HZ
from tools.explanation.hearing import ExplanationError

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class BandPlane:
    """Features are ``bands @ matrix``; bands are what is left when their running mean is gone."""

    name: str
    """Of the feature, for people."""
    matrix: Tensor
    """``[bands, width]``."""
    edges_hz: Floats
    """``[bands + 1]``: each band is drawn from one to the next."""
    cepstral: bool
    """Whether the columns of the features have no frequency of their own."""

    @property
    def centres_hz(self) -> Floats:
        return (self.edges_hz[:-1] + self.edges_hz[1:]) / 2

    def bands_of(self, features: Tensor) -> Tensor:
        """``[..., width]`` -> ``[..., bands]``: the least bands that give these features."""
        bands: Tensor = features @ torch.linalg.pinv(self.matrix)
        return bands


def band_plane(model: object) -> BandPlane:
    """Of a network that reads filter energies or their cepstra. Raises ExplanationError."""
    if isinstance(model, Detector):
        kind = KINDS[model.settings.features]
        bank = kind.bank(model.settings.filters, model.settings.fft)
        dct = model.extractor.dct
        transform = torch.eye(model.settings.filters) if dct is None else dct
        return BandPlane(
            name=model.settings.features.upper(),
            matrix=transform.double().cpu() / model.deviation.double().cpu(),
            edges_hz=_edges(bank),
            cepstral=kind.cepstral,
        )
    if isinstance(model, Subband):
        bank = linear_filterbank(model.settings.bands, model.settings.fft)
        return BandPlane(
            name="sub-bands",
            matrix=model.whitening.double().cpu(),
            edges_hz=_edges(bank),
            cepstral=False,
        )
    raise ExplanationError(
        f"{type(model).__name__}: only networks on filter energies or cepstra (cnn_lstm, subband)"
        " can be explained over frequency"
    )


def _edges(bank: npt.NDArray[np.float32]) -> Floats:
    """Half way between the centres of neighbouring filters ``[bins, bands]``; 0 and 8 kHz."""
    hertz = np.arange(len(bank)) * SAMPLE_RATE_HZ / 2 / (len(bank) - 1)
    centres = (hertz @ bank.astype(np.float64)) / bank.sum(axis=0)
    between = (centres[:-1] + centres[1:]) / 2
    return np.concatenate(([0.0], between, [SAMPLE_RATE_HZ / 2]))
