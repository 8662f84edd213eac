"""The picture of `analyze --plot`: waveform, LLRs, rejections and state over time."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from streamguard.clock import HOP_SECONDS
from streamguard.commands.report import FileReport, LegReport
from streamguard.console import printable
from streamguard.errors import MissingExtraError, StreamguardError
from streamguard.verdict.scores import Rejection, State

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes

T = TypeVar("T")

STATE_COLOURS = {
    State.UNKNOWN: "#b0bec5",
    State.BONAFIDE: "#2e7d32",
    State.SUSPECT: "#f9a825",
    State.SPOOF: "#c62828",
}
REJECTION_COLOURS = {
    Rejection.SILENCE: "#cfd8dc",
    Rejection.NON_SPEECH: "#90a4ae",
    Rejection.CLIPPED: "#ff8a65",
    Rejection.PACKET_LOSS: "#8d6e63",
    Rejection.TONE: "#4fc3f7",
    Rejection.MUSIC: "#ba68c8",
    Rejection.OVERLOAD: "#5d4037",
    Rejection.UNCALIBRATED: "#dce775",
    Rejection.OUT_OF_DISTRIBUTION: "#f06292",
    Rejection.LOW_CONFIDENCE: "#ffd54f",
    Rejection.ANNOUNCEMENT: "#a1887f",
}
MAX_COLUMNS = 4000
"""Columns of the waveform's envelope: more than a screen has, fewer than the samples."""
MANY_WINDOWS = 150
"""Above, the window LLRs are a line without markers."""
_LETTER_SHARE = 0.009
"""Of the width of the picture that a letter takes: a segment's name must fit into it."""
_TICKS_S = (20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
"""Distances of ticks that people count time in."""


class Envelope:
    """Minimum and maximum of a signal in at most ``2 * MAX_COLUMNS`` columns, in bounded memory."""

    def __init__(self, block: int = 16) -> None:
        """``block``: samples per column to begin with."""
        self._block = block
        self._low: list[float] = []
        self._high: list[float] = []
        self._rest = np.zeros(0, np.float32)

    def add(self, samples: npt.NDArray[np.float32]) -> None:
        """Take the next samples; halves its resolution whenever it has become too long."""
        data = np.concatenate([self._rest, samples])
        whole = len(data) // self._block
        self._rest = data[whole * self._block :]
        shaped = data[: whole * self._block].reshape(whole, self._block)
        if whole:
            self._low.extend(shaped.min(axis=1).tolist())
            self._high.extend(shaped.max(axis=1).tolist())
        while len(self._low) >= 2 * MAX_COLUMNS:
            self._halve()

    def _halve(self) -> None:
        if len(self._low) % 2:  # an odd column has no partner: it waits as samples of its own
            pair = np.array([self._low.pop(), self._high.pop()], np.float32)
            self._rest = np.concatenate([np.resize(pair, self._block), self._rest])
        self._low = np.array(self._low).reshape(-1, 2).min(axis=1).tolist()
        self._high = np.array(self._high).reshape(-1, 2).max(axis=1).tolist()
        self._block *= 2

    def columns(self, rate_hz: int) -> tuple[list[float], list[float], list[float]]:
        """(seconds, minima, maxima)."""
        seconds = [i * self._block / rate_hz for i in range(len(self._low))]
        return seconds, self._low, self._high


def need_matplotlib() -> None:
    """Raises MissingExtraError where there is none: before the work, not after it."""
    try:
        import matplotlib  # noqa: F401  # whether it can be imported is the question
    except ImportError as err:
        raise MissingExtraError("analyze --plot", "plot", str(err)) from err


def plot_paths(plot: Path, files: Sequence[str]) -> list[Path]:
    """Where the pictures go: with several files, the name of each is put into the name."""
    if len(files) == 1:
        return [plot]
    taken: set[str] = set()
    paths = []
    for file in files:
        own = re.sub(r"[^\w.-]+", "_", Path(file).stem)[:100]
        stem = f"{plot.stem}-{own}"
        names = itertools.chain([stem], (f"{stem}-{n}" for n in itertools.count(2)))
        name = next(name for name in names if name not in taken)
        taken.add(name)
        paths.append(plot.with_name(name + plot.suffix))
    return paths


def draw(report: FileReport, envelope: Envelope, rate_hz: int, path: Path) -> None:
    """Write the timeline of one file as a picture. Raises StreamguardError if it cannot."""
    from matplotlib.figure import Figure  # here: it is an extra, and slow to import
    from matplotlib.ticker import MultipleLocator

    leg = report.worst
    length_s = max(report.duration_s, HOP_SECONDS)
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    wave, scores, abstained, states = figure.subplots(
        4, 1, sharex=True, gridspec_kw={"height_ratios": [2, 3, 0.34, 0.34]}
    )
    _draw_title(wave, report, leg)
    _draw_wave(wave, envelope, rate_hz)
    _draw_scores(scores, leg, length_s)
    rejections = merged(
        # The hop that a window adds, not all 3 s: neighbours would paint over each other.
        (max(window.start_s, window.end_s - HOP_SECONDS), window.end_s, window.rejected)
        for window in leg.windows
    )
    _draw_strip(
        abstained,
        "abstains",
        [(a, b, kind.value, REJECTION_COLOURS[kind]) for a, b, kind in rejections if kind],
        length_s,
    )
    spans = merged(_state_spans(leg, length_s))
    _draw_strip(
        states,
        "verdict",
        [(a, b, state.value, STATE_COLOURS[state]) for a, b, state in spans],
        length_s,
    )
    states.set_xlim(0, length_s)
    if length_s > 120:
        step = next((s for s in _TICKS_S if length_s / s <= 12), _TICKS_S[-1])
        states.xaxis.set_major_locator(MultipleLocator(step))
    states.xaxis.set_major_formatter(lambda seconds, _: _clock_text(seconds, length_s))
    states.set_xlabel("time" if length_s > 120 else "seconds")
    try:
        figure.savefig(path, dpi=110)
    except OSError as err:
        raise StreamguardError(f"{path}: cannot be written: {err.strerror or err}") from err


def _draw_title(axes: Axes, report: FileReport, leg: LegReport) -> None:
    verdict = leg.verdict
    name = printable(Path(report.file).name).replace("$", r"\$")  # no formulas in file names
    name = name if len(name) <= 60 else f"{name[:57]}..."
    if len(report.legs) > 1:
        name += f", channel {leg.index}"
    facts = (
        f"{verdict.state.value}    LLR {verdict.llr:+.2f}    p(spoof) {verdict.p_spoof:.3f}    "
        f"net speech {verdict.net_speech_s:.1f} s    {leg.channel} band"
    )
    axes.set_title(name, loc="left", fontsize=12, fontweight="bold")
    axes.set_title(facts, loc="right", fontsize=10, color="#37474f")


def _draw_wave(axes: Axes, envelope: Envelope, rate_hz: int) -> None:
    seconds, low, high = envelope.columns(rate_hz)
    axes.fill_between(seconds, low, high, color="#546e7a", linewidth=0.4)
    peak = max([0.05, *(abs(x) for x in low), *high])
    axes.set_ylim(-1.1 * peak, 1.1 * peak)
    axes.set_ylabel("waveform")
    _plain(axes)


def _draw_scores(axes: Axes, leg: LegReport, length_s: float) -> None:
    # A gap where a window abstains: no line is drawn through what was not judged.
    nan = float("nan")
    ends = [w.end_s for w in leg.windows]
    accepted = [nan if w.rejected or w.llr is None else w.llr for w in leg.windows]
    markers = "o" if len(ends) <= MANY_WINDOWS else ""
    axes.plot(
        ends,
        accepted,
        color="#1565c0",
        marker=markers,
        markersize=4.5,
        linewidth=1.2 if markers else 0.7,
        label="window (at its end)",
    )
    aside = [(w.end_s, w.llr) for w in leg.windows if w.rejected and w.llr is not None]
    if aside and markers:
        axes.plot(*zip(*aside, strict=True), "o", mfc="white", mec="#90a4ae", markersize=4.5)
        axes.plot([], [], "o", mfc="white", mec="#90a4ae", markersize=4.5, label="abstains")
    axes.step(
        [*(end_s for end_s, _, _ in leg.course), length_s],
        [*(llr for _, _, llr in leg.course), leg.verdict.llr],
        where="post",
        color="#263238",
        linewidth=1.8,
        label="whole leg so far",
    )
    low, high = axes.get_ylim()
    low, high = min(1.15 * low, -1.0), max(1.15 * high, 1.0)
    axes.axhspan(0, high, color=STATE_COLOURS[State.SPOOF], alpha=0.06, linewidth=0)
    axes.axhspan(low, 0, color=STATE_COLOURS[State.BONAFIDE], alpha=0.06, linewidth=0)
    axes.axhline(0, color="#90a4ae", linewidth=0.8)
    axes.set_ylim(low, high)
    for y, words in ((0.97, "towards spoof"), (0.03, "towards bona fide")):
        place = "top" if y > 0.5 else "bottom"
        axes.text(0.005, y, words, transform=axes.transAxes, va=place, color="#78909c")
    axes.set_ylabel("LLR")
    axes.grid(axis="y", alpha=0.25)
    axes.legend(loc="upper center", fontsize=8, ncols=3, framealpha=0.85)
    _plain(axes)


def _draw_strip(
    axes: Axes, title: str, spans: Sequence[tuple[float, float, str, str]], length_s: float
) -> None:
    """A row of coloured segments, each with its name in it, or else in the legend beside it."""
    unnamed: dict[str, str] = {}
    named: set[str] = set()
    for start, stop, name, colour in spans:
        axes.axvspan(start, stop, color=colour, linewidth=0)
        if min(stop, length_s) - start >= _LETTER_SHARE * len(name) * length_s:
            dark = colour in (STATE_COLOURS[State.SPOOF], STATE_COLOURS[State.BONAFIDE])
            axes.text(
                (start + min(stop, length_s)) / 2,
                0.5,
                name,
                ha="center",
                va="center",
                fontsize=8,
                color="white" if dark else "#263238",
                transform=axes.get_xaxis_transform(),
            )
            named.add(name)
        else:
            unnamed[name] = colour
    handles = [
        axes.plot([], [], "s", color=colour, label=name)[0]
        for name, colour in unnamed.items()
        if name not in named
    ]
    if handles:
        axes.legend(
            handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False
        )
    axes.set_yticks([])
    axes.set_ylabel(title, rotation=0, ha="right", va="center")
    _plain(axes)


def _plain(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _state_spans(leg: LegReport, length_s: float) -> Iterable[tuple[float, float, State]]:
    edges = [(0.0, State.UNKNOWN), *((end_s, state) for end_s, state, _ in leg.course)]
    stops = [start for start, _ in edges[1:]] + [length_s]
    return [
        (start, stop, state)
        for (start, state), stop in zip(edges, stops, strict=True)
        if start < stop
    ]


def merged(spans: Iterable[tuple[float, float, T]]) -> list[tuple[float, float, T]]:
    """Neighbours that say the same as one span: ten hours are not 72,000 rectangles."""
    out: list[tuple[float, float, T]] = []
    for start, stop, what in spans:
        if out and out[-1][2] == what and start <= out[-1][1] + 1e-6:
            out[-1] = (out[-1][0], stop, what)
        else:
            out.append((start, stop, what))
    return out


def _clock_text(seconds: float, length_s: float) -> str:
    if length_s <= 120:
        return f"{seconds:g}"
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
        if length_s >= 3600
        else (f"{minutes}:{rest:02d}")
    )
