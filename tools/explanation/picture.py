"""Pictures of explanations that an analyst can read: seconds, kilohertz, plain sentences."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from streamguard.clock import SAMPLE_RATE_HZ
from tools.evaluation.plots import INK
from tools.explanation.bands import BandPlane
from tools.explanation.saliency import Randomised, Region, Saliency

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Floats = npt.NDArray[np.float64]

FRAME_S = 0.01
_DPI = 100
_POINTER = "#ffd600"
_FLOOR_DB = 70.0
_LINE = 150
"""Characters of the sentences below a picture."""
_NAME = 60
"""Characters of a name in a title."""


@dataclass(frozen=True, slots=True, eq=False)
class Explained:
    """One window by one network, with all that is said of it."""

    file: str
    run: str
    start_s: float
    """Of the first frame, in the file."""
    speech: npt.NDArray[np.bool_]
    """``[frames]``."""
    power: Floats
    """``[frames, bins]`` of the window, 0 to 8 kHz."""
    plane: BandPlane
    saliency: Saliency
    regions: tuple[Region, ...]
    randomised: tuple[Randomised, ...]
    llr: float | None
    """Calibrated; None without a bundle."""
    rejected: str | None
    """Why the daemon would let the window abstain."""
    speech_share_shap: float
    speech_share_cam: float | None

    @property
    def end_s(self) -> float:
        return self.start_s + len(self.speech) * FRAME_S

    @property
    def speech_share_time(self) -> float:
        return float(self.speech.mean())

    def verdict(self) -> str:
        """What the network says, in a few words."""
        score = self.saliency.logit if self.llr is None else self.llr
        said = "likely synthetic" if score > 0 else "likely bona fide"
        if self.rejected is not None:
            said = f"abstains ({self.rejected}), would lean to {said}"
        calibrated = "not calibrated" if self.llr is None else f"LLR {self.llr:+.2f}"
        return f"{said}; logit {self.saliency.logit:+.2f}, {calibrated}"

    def pointed(self) -> str:
        """The regions in plain words."""
        if not self.regions:
            return "Points at nothing in particular."
        places = "; ".join(
            f"{r.start_s:.2f}–{r.end_s:.2f} s, {r.low_hz / 1000:.1f}–{r.high_hz / 1000:.1f} kHz"
            f" ({100 * r.share:.0f} %)"
            for r in self.regions
        )
        return f"Points at {places} of what speaks for the verdict."

    def grounds(self) -> str:
        """How much of it lies in speech, and whether it depends on the model."""
        same, last = self.randomised[0], self.randomised[-1]
        cam = (
            "" if self.speech_share_cam is None else f", of Grad-CAM {_pct(self.speech_share_cam)}"
        )
        alike = "" if last.cam is None else f", Grad-CAM {last.cam:.2f}"
        return (
            f"In speech: {_pct(self.speech_share_shap)} of SHAP{cam} (speech is"
            f" {_pct(self.speech_share_time)} of the time). Likeness to a model with random"
            f" weights: SHAP {last.shap:.2f}, with signs {last.shap_signed:.2f}{alike} (the model"
            f" itself once more: {same.shap:.2f}; as much would mean that the model plays no part)."
        )


def draw(explained: Explained, path: Path) -> None:
    """Spectrogram with what is pointed at, SHAP values over frequency, and the network's plane."""
    from matplotlib.figure import Figure

    found, plane = explained.saliency, explained.plane
    coefficients = plane.cepstral
    rows = 2 + (found.cam_columns is not None) + coefficients
    figure: Figure = Figure(figsize=(10.5, 2.0 + 2.35 * rows), layout="constrained")
    axes: list[Axes] = list(figure.subplots(rows, 1, sharex=True))
    figure.suptitle(
        f"{_short(explained.file)}, {explained.start_s:.2f}–{explained.end_s:.2f} s\n{plane.name}"
        f" network {_short(explained.run)}: {explained.verdict()}",
        fontsize=12,
        color=INK,
        x=0.01,
        ha="left",
    )
    _spectrogram(figure, axes[0], explained)
    _bands(figure, axes[1], explained)
    at = 2
    if found.cam_columns is not None:
        _cam(figure, axes[at], explained, found.cam_columns)
        at += 1
    if coefficients:
        _coefficients(figure, axes[at], explained)
    axes[-1].set_xlabel("seconds in the file")
    said = (textwrap.fill(text, _LINE) for text in (explained.pointed(), explained.grounds()))
    figure.supxlabel("\n".join(said), fontsize=9, color=INK, x=0.01, ha="left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DPI)


def draw_comparison(items: Sequence[Explained], path: Path) -> None:
    """SHAP values over frequency of the same window by several networks, one under the other."""
    from matplotlib.figure import Figure

    figure: Figure = Figure(figsize=(10.5, 1.2 + 2.6 * (len(items) + 1)), layout="constrained")
    axes: list[Axes] = list(figure.subplots(len(items) + 1, 1, sharex=True))
    first = items[0]
    figure.suptitle(
        f"{_short(first.file)}, {first.start_s:.2f}–{first.end_s:.2f} s\nThe same window by"
        f" {len(items)} networks. SHAP values of the bands: red speaks for synthetic, blue for bona"
        " fide",
        fontsize=12,
        color=INK,
        x=0.01,
        ha="left",
    )
    _spectrogram(figure, axes[0], first, marks=False)
    for axis, item in zip(axes[1:], items, strict=True):
        _bands(figure, axis, item)
        axis.set_title(
            f"{item.plane.name} ({_short(item.run)}): {item.verdict()}", fontsize=9, loc="left"
        )
    axes[-1].set_xlabel("seconds in the file")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DPI)


def _times(explained: Explained) -> Floats:
    """Edges of the frames."""
    edges: Floats = explained.start_s + FRAME_S * np.arange(len(explained.speech) + 1.0)
    return edges


def _spectrogram(figure: Figure, axes: Axes, explained: Explained, *, marks: bool = True) -> None:
    from matplotlib.patches import Rectangle

    level = 10.0 * np.log10(explained.power + 1e-12)
    hertz = np.linspace(0.0, SAMPLE_RATE_HZ / 2000, level.shape[1] + 1)
    mesh = axes.pcolormesh(
        _times(explained), hertz, level.T, cmap="Greys", vmin=level.max() - _FLOOR_DB,
        rasterized=True,
    )  # fmt: skip
    figure.colorbar(mesh, ax=axes, label="dB", pad=0.01)
    if marks:
        for number, region in enumerate(explained.regions, 1):
            corner = (region.start_s, region.low_hz / 1000)
            width, height = region.end_s - region.start_s, (region.high_hz - region.low_hz) / 1000
            axes.add_patch(Rectangle(corner, width, height, fill=False, ec="black", lw=3.4))
            axes.add_patch(Rectangle(corner, width, height, fill=False, ec=_POINTER, lw=1.8))
            axes.text(
                region.start_s, region.high_hz / 1000 + 0.1, str(number), va="bottom",
                fontsize=8, fontweight="bold", color="black",
                bbox={"facecolor": _POINTER, "pad": 1, "edgecolor": "none"},
            )  # fmt: skip
    top = SAMPLE_RATE_HZ / 2000
    axes.fill_between(
        np.repeat(_times(explained), 2)[1:-1],
        top + 0.15,
        top + 0.45,
        where=np.repeat(explained.speech, 2),
        color="#2e7d32",
        linewidth=0,
    )
    axes.set_ylim(0, top + 0.5)
    axes.set_ylabel("kHz")
    axes.set_title(
        ("What was heard; frames: what the explanation points at" if marks else "What was heard")
        + "; green: speech",
        fontsize=9,
        loc="left",
    )


def _signed(values: Floats) -> dict[str, Any]:
    """Colours that are white at zero, and not set by a few cells."""
    limit = max(float(np.quantile(np.abs(values), 0.995)), 1e-12)
    return {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit, "rasterized": True}


def _bands(figure: Figure, axes: Axes, explained: Explained) -> None:
    values = explained.saliency.shap_bands
    kilohertz = explained.plane.edges_hz / 1000
    mesh = axes.pcolormesh(_times(explained), kilohertz, values.T, **_signed(values))
    figure.colorbar(mesh, ax=axes, label="logit per cell", pad=0.01)
    axes.set_ylabel("kHz")
    axes.set_title(
        "SHAP values of the bands: red speaks for synthetic, blue for bona fide", fontsize=9,
        loc="left",
    )  # fmt: skip


def _cam(figure: Figure, axes: Axes, explained: Explained, values: Floats) -> None:
    plane = explained.plane
    edges = np.arange(values.shape[1] + 1) - 0.5 if plane.cepstral else plane.edges_hz / 1000
    mesh = axes.pcolormesh(
        _times(explained), edges, values.T, cmap="inferno", vmin=0.0, vmax=1.0, rasterized=True
    )
    figure.colorbar(mesh, ax=axes, label="of the largest", pad=0.01)
    axes.set_ylabel("coefficient" if plane.cepstral else "kHz")
    axes.set_title(
        "Grad-CAM of the last convolution: what speaks for the verdict", fontsize=9, loc="left"
    )


def _coefficients(figure: Figure, axes: Axes, explained: Explained) -> None:
    values = explained.saliency.shap_columns
    edges = np.arange(values.shape[1] + 1) - 0.5
    mesh = axes.pcolormesh(_times(explained), edges, values.T, **_signed(values))
    figure.colorbar(mesh, ax=axes, label="logit per cell", pad=0.01)
    axes.set_ylabel("coefficient")
    axes.set_title(
        f"SHAP values of the {explained.plane.name} coefficients (no frequency axis)", fontsize=9,
        loc="left",
    )  # fmt: skip


def _short(name: str) -> str:
    """A name that fits into a title: its beginning and its end."""
    if len(name) <= _NAME:
        return name
    half = (_NAME - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def _pct(share: float) -> str:
    return f"{100 * share:.0f} %"
