"""What networks on several features look at: ``python -m tools.gallery.saliency --data D --run R``.

Explains the same windows (the middle of some clips of every source of a role) by every ``--run``,
as ``tools.explain`` does one, and writes the means: how much lies above 4 kHz and in speech, how
alike the networks are, and how alike they are to networks with random weights. ``--out`` gets the
numbers of every window; ``--page`` gets the table.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from tools.command import run
from tools.data import (
    DEFAULT_SPLIT,
    ROLES,
    Clip,
    DataError,
    data_folder,
    read_manifest,
    read_split,
)
from tools.evaluation.tables import number, percent, table
from tools.explain import HIGH_HZ, explain_file, high_share, top_share
from tools.explanation.hearing import ExplanationError
from tools.explanation.picture import Explained
from tools.explanation.saliency import share_in_speech, similarity
from tools.gallery.table import put_between
from tools.progress import track

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

MAKER = "tools.gallery.saliency"
_SHORTEST_S = 2.0
"""A clip has to offer most of a window."""

Numbers = Mapping[str, float | None]
"""Of one window by one network."""


@dataclass(frozen=True, slots=True)
class Looked:
    """One window by one network."""

    features: str
    source: str
    path: str
    spoof: bool
    numbers: Numbers


def windows(clips: Sequence[Clip], each: int) -> list[Clip]:
    """``each`` clips of every source and class, evenly over the manifest."""
    groups: dict[tuple[str, str], list[Clip]] = {}
    for clip in clips:
        if clip.speech and clip.seconds >= _SHORTEST_S:
            groups.setdefault((clip.source_repo, clip.label), []).append(clip)
    return [
        found[i * len(found) // min(each, len(found))]
        for found in groups.values()
        for i in range(min(each, len(found)))
    ]


def look(data: Path, clips: Sequence[Clip], runs: Sequence[Path]) -> list[Looked]:
    """Every window by every network; a clip without speech in its middle is left out."""
    found = []
    for clip in track(clips, "explaining", len(clips)):
        try:
            items = [explain_file(data / clip.path, clip.seconds / 2, path) for path in runs]
        except ExplanationError:
            continue
        found += [
            Looked(
                item.plane.name, clip.source_repo, clip.path, clip.spoof, numbers(item, clip, items)
            )
            for item in items
        ]
    return found


def numbers(item: Explained, clip: Clip, beside: Sequence[Explained]) -> Numbers:
    """What is averaged."""
    found, plane, last = item.saliency, item.plane, item.randomised[-1]
    others = [
        similarity(_by_frame(item), _by_frame(other)) for other in beside if other is not item
    ]
    return {
        "right": float((found.logit > 0) == clip.spoof),
        "high_bands": float((plane.centres_hz > HIGH_HZ).mean()),
        "high": high_share(found, plane.centres_hz),
        "speech_time": item.speech_share_time,
        "speech_shap": item.speech_share_shap,
        "speech_cam": (
            None if found.cam_columns is None else share_in_speech(found.cam_columns, item.speech)
        ),
        "synthetic": _positive_share(found.shap_bands),
        "top_tenth": top_share(found.shap_bands),
        "others": float(np.mean(others)) if others else None,
        "random_shap": last.shap,
        "random_signed": last.shap_signed,
        "random_cam": last.cam,
    }


def _positive_share(shap: Floats) -> float:
    """Share of absolute SHAP that speaks for synthetic."""
    return float(np.maximum(shap, 0.0).sum() / max(np.abs(shap).sum(), 1e-12))


def _by_frame(item: Explained) -> Floats:
    by_frame: Floats = np.abs(item.saliency.shap_bands).sum(axis=1)
    return by_frame


def mean_over_sources(items: Sequence[Looked], key: str) -> tuple[float, float] | None:
    """Mean of the sources' means, and its standard error; None where no window has the number."""
    by_source: dict[str, list[float]] = {}
    for item in items:
        value = item.numbers[key]
        if value is not None:
            by_source.setdefault(item.source, []).append(value)
    means = [float(np.mean(values)) for values in by_source.values()]
    if not means:
        return None
    error = float(np.std(means, ddof=1) / np.sqrt(len(means))) if len(means) > 1 else float("nan")
    return float(np.mean(means)), error


def markdown(items: Sequence[Looked]) -> str:
    """A line per network and class."""
    groups = {(item.features, item.spoof): None for item in items}
    rows = []
    for features, spoof in groups:
        chosen = [i for i in items if i.features == features and i.spoof is spoof]
        share = {key: _share(chosen, key) for key in chosen[0].numbers}
        sources = len({item.source for item in chosen})
        rows.append(
            (
                features,
                f"{'synthetic' if spoof else 'human'}, {len(chosen)} ({sources})",
                share["right"],
                f"{share['high']} ({_plain(chosen, 'high_bands')})",
                f"{share['speech_shap']} ({_plain(chosen, 'speech_time')})",
                share["speech_cam"],
                share["synthetic"],
                share["top_tenth"],
                _likeness(chosen, "others"),
                _likeness(chosen, "random_shap"),
                _likeness(chosen, "random_signed"),
                _likeness(chosen, "random_cam"),
            )
        )
    return table(
        (
            "features", "windows (sources)", "right", "SHAP above 4 kHz (of the bands)",
            "SHAP in speech (of the time)", "Grad-CAM in speech", "SHAP for synthetic",
            "SHAP in the top tenth", "frames like the others'", "random weights: SHAP",
            "with signs", "Grad-CAM",
        ),
        rows,
    )  # fmt: skip


def _share(items: Sequence[Looked], key: str) -> str:
    found = mean_over_sources(items, key)
    if found is None:
        return percent(None)
    mean, error = found
    return percent(mean) if np.isnan(error) else f"{percent(mean)} ± {100 * error:.1f}"


def _plain(items: Sequence[Looked], key: str) -> str:
    found = mean_over_sources(items, key)
    return percent(None if found is None else found[0])


def _likeness(items: Sequence[Looked], key: str) -> str:
    found = mean_over_sources(items, key)
    return number(None if found is None else found[0])


def main(argv: Sequence[str] | None = None) -> int:
    """Explain many windows by several networks."""
    parser = argparse.ArgumentParser(description=__doc__, prog=f"python -m {MAKER}")
    parser.add_argument("--data", type=Path, help="folder with manifest.csv ($STREAMGUARD_DATA)")
    parser.add_argument(
        "--run", type=Path, action="append", required=True, help="checkpoint or its folder"
    )
    parser.add_argument("--each", type=int, default=2, help="clips of every source and class")
    parser.add_argument("--split", type=Path, default=DEFAULT_SPLIT)
    parser.add_argument("--role", choices=ROLES, default="validation", help="of the sources")
    parser.add_argument("--out", type=Path, default=Path("runs/saliency"), help="folder")
    parser.add_argument("--page", type=Path, help="Markdown page that gets the table")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    options = parser.parse_args(argv)
    if options.each < 1:
        parser.error("--each: 1 or more")
    torch.set_num_threads(options.threads)
    data = data_folder(options.data)
    clips = read_split(options.split).select(read_manifest(data / "manifest.csv"), options.role)
    found = look(data, windows(clips, options.each), options.run)
    if not found:
        raise DataError(data / "manifest.csv", 0, "--role", options.role, "sources with speech")
    options.out.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"features": i.features, "path": i.path, "spoof": i.spoof, **i.numbers})
        for i in found
    ]
    (options.out / "windows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = markdown(found)
    print(text)
    if options.page is not None:
        put_between(options.page, text, MAKER)
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
