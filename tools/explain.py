"""Say why a network said what it said: ``python -m tools.explain FILE --at 12.5 --run RUN``.

Grad-CAM and SHAP values of the 3 s window around a time, as arrays (``.npz``), as numbers
(``.json``) and as a picture over the spectrogram, for networks on filter energies or cepstra
(``cnn_lstm`` with any feature, ``subband``). Beside each stand the share that lies in speech and
how alike the explanation of a model with random weights is. ``--run`` may be given several times:
the same window by several networks, LFCC beside MFCC and GFCC, say.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.cnn_lstm.features import equal_bands
from models.spectrum import Power, arranged, hann
from streamguard.clock import HOP_SAMPLES, SAMPLE_RATE_HZ
from streamguard.verdict.scores import WindowScore
from tools.command import run
from tools.evaluation.tables import number, percent, table
from tools.explanation.bands import band_plane
from tools.explanation.hearing import ExplanationError, HeardFile, hear
from tools.explanation.picture import FRAME_S, Explained, draw, draw_comparison
from tools.explanation.saliency import (
    Saliency,
    explain,
    for_verdict,
    randomisation,
    regions,
    share_in_speech,
)
from tools.export import network_module, trained_model
from tools.scoring import DaemonScorer
from tools.training import load_checkpoint

_FRAMES_PER_HOP = 50
_FRAME_CENTRE = 40
"""Samples by which the middle of a 25 ms frame lies before the 10 ms that it belongs to."""
_SPECTRUM_FFT = 512
HIGH_HZ = 4000.0
_SAME_LOGIT = 0.02


def explain_file(file: Path, at_s: float, run_path: Path, bundle: str | None = None) -> Explained:
    """The window of a file around a time. Raises StreamguardError.

    ``run_path``: a checkpoint, or the folder of one; ``bundle``: the one that was exported from
    it, whose calibration then says how strong the evidence is.
    """
    checkpoint = run_path / "best.pt" if run_path.is_dir() else run_path
    state = load_checkpoint(checkpoint)
    model: Any = trained_model(state)
    plane = band_plane(model)
    heard = hear(file, network_module(state["recipe"]["system"]).LEFT_CONTEXT)
    window = heard.window_at(at_s)
    if not heard.usable[window].any():
        raise ExplanationError(f"{file}: no speech in the window around {at_s:g} s")
    rows = slice(window.start, window.stop)
    valid = torch.from_numpy(heard.usable)[None]
    with torch.no_grad():
        features = model.features(torch.from_numpy(heard.samples)[None], valid)
    chosen, mask = features[:, rows], valid[:, rows]
    saliency = explain(model, chosen, mask)
    frames = slice(window.start * _FRAMES_PER_HOP, window.stop * _FRAMES_PER_HOP)
    speech = heard.speech[frames]
    start_s = frames.start * FRAME_S - _FRAME_CENTRE / SAMPLE_RATE_HZ - heard.delay_s
    llr, rejected = None, None
    if bundle is not None:
        score = _bundle_says(bundle, heard, window.stop - 1, saliency.logit)
        llr, rejected = score.llr, None if score.rejected is None else str(score.rejected)
    return Explained(
        file=file.name,
        run=run_path.name if run_path.is_dir() else run_path.stem,
        start_s=start_s,
        speech=speech,
        power=_power(heard, rows),
        plane=plane,
        saliency=saliency,
        regions=regions(
            saliency.shap_bands * (1.0 if saliency.logit > 0 else -1.0),
            plane.edges_hz,
            start_s,
            FRAME_S,
        ),
        randomised=randomisation(model, chosen, mask, saliency),
        llr=llr,
        rejected=rejected,
        speech_share_shap=share_in_speech(saliency.shap_columns, speech),
        speech_share_cam=(
            None if saliency.cam_columns is None else share_in_speech(saliency.cam_columns, speech)
        ),
    )


def write(explained: Explained, stem: Path) -> list[Path]:
    """``.npz``, ``.json`` and ``.png`` of one explanation."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    found, plane = explained.saliency, explained.plane
    arrays = {
        "times_s": explained.start_s + FRAME_S * (np.arange(len(explained.speech)) + 0.5),
        "band_edges_hz": plane.edges_hz,
        "shap_bands": found.shap_bands,
        "shap_columns": found.shap_columns,
        "speech": explained.speech,
    }
    if found.cam_columns is not None and found.cam_bands is not None:
        arrays |= {"cam_columns": found.cam_columns, "cam_bands": found.cam_bands}
    paths = [stem.with_name(stem.name + suffix) for suffix in (".npz", ".json", ".png")]
    np.savez_compressed(paths[0], allow_pickle=False, **arrays)
    paths[1].write_text(json.dumps(numbers(explained), indent=1) + "\n", encoding="utf-8")
    draw(explained, paths[2])
    return paths


def numbers(explained: Explained) -> dict[str, Any]:
    """Everything but the arrays."""
    found = explained.saliency
    return {
        "file": explained.file,
        "run": explained.run,
        "features": explained.plane.name,
        "start_s": round(explained.start_s, 4),
        "end_s": round(explained.end_s, 4),
        "logit": found.logit,
        "baseline_logit": found.baseline_logit,
        "shap_sum": float(found.shap_columns.sum()),
        "llr": explained.llr,
        "rejected": explained.rejected,
        "points_at": [
            {
                "start_s": round(region.start_s, 3),
                "end_s": round(region.end_s, 3),
                "low_hz": round(region.low_hz),
                "high_hz": round(region.high_hz),
                "share": region.share,
            }
            for region in explained.regions
        ],
        "speech_share": {
            "time": explained.speech_share_time,
            "shap": explained.speech_share_shap,
            "grad_cam": explained.speech_share_cam,
        },
        "above_4_khz": high_share(found, explained.plane.centres_hz),
        "for_verdict": verdict_share(found),
        "top_tenth": top_share(found.shap_bands),
        "randomised": [
            {
                "layers": row.what,
                "shap": row.shap,
                "shap_signed": row.shap_signed,
                "grad_cam": row.cam,
            }
            for row in explained.randomised
        ],
    }


def high_share(saliency: Saliency, centres_hz: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """Share of absolute SHAP in bands above 4 kHz, where a telephone has none."""
    by_band = np.abs(saliency.shap_bands).sum(axis=0)
    return float(by_band[centres_hz > HIGH_HZ].sum() / max(by_band.sum(), 1e-12))


def verdict_share(saliency: Saliency) -> float:
    """Share of absolute SHAP that speaks for the verdict; one half is as much for as against."""
    total = max(float(np.abs(saliency.shap_bands).sum()), 1e-12)
    return float(for_verdict(saliency.shap_bands, saliency.logit).sum()) / total


def top_share(values: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """Share of absolute saliency in the tenth of the cells that has most: 0.1 if it is spread."""
    ordered = np.sort(np.abs(values).reshape(-1))[::-1]
    return float(ordered[: -(-len(ordered) // 10)].sum() / max(ordered.sum(), 1e-12))


def comparison(items: Sequence[Explained]) -> str:
    """Networks beside each other, as a table."""
    return table(
        (
            "network",
            "logit",
            "speaks for the verdict",
            "above 4 kHz",
            "in the top tenth",
            "in speech (of the time)",
            "random weights: SHAP",
            "with signs",
            "Grad-CAM",
        ),
        (
            (
                f"{item.plane.name} ({item.run})",
                number(item.saliency.logit),
                percent(verdict_share(item.saliency)),
                percent(high_share(item.saliency, item.plane.centres_hz)),
                percent(top_share(item.saliency.shap_bands)),
                f"{percent(item.speech_share_shap)} ({percent(item.speech_share_time)})",
                number(item.randomised[-1].shap),
                number(item.randomised[-1].shap_signed),
                number(item.randomised[-1].cam),
            )
            for item in items
        ),
    )


def _bundle_says(bundle: str, heard: HeardFile, last: int, logit: float) -> WindowScore:
    """The daemon's window that ends with hop ``last``; refuses a bundle of another network."""
    scorer = DaemonScorer(bundle)
    try:
        windows = scorer.windows(heard.source, heard.rate_hz)
    finally:
        scorer.close()
    score = next((window for window in windows if window.index == last), None)
    if score is None:
        raise ExplanationError(f"{bundle}: no window ends with hop {last}")
    if score.raw is None or abs(score.raw - logit) > _SAME_LOGIT:
        raise ExplanationError(
            f"{bundle}: its logit of this window is {score.raw}, that of the checkpoint"
            f" {logit:.4f}: it was not exported from it"
        )
    return score


def _power(heard: HeardFile, hops: slice) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Power spectra ``[frames, 257]`` of the frames that the network saw."""
    context = 240
    start = heard.left_context + hops.start * HOP_SAMPLES - context
    samples = heard.samples[max(0, start) : heard.left_context + hops.stop * HOP_SAMPLES]
    samples = np.concatenate((np.zeros(max(0, -start), np.float32), samples))
    bins = _SPECTRUM_FFT // 2 + 1
    bank = torch.from_numpy(arranged(equal_bands(bins, _SPECTRUM_FFT)))
    power = Power(_SPECTRUM_FFT, hann())(torch.from_numpy(samples)[None]) @ bank
    return np.asarray(power[0].double().numpy(), np.float64)


def main(argv: Sequence[str] | None = None) -> int:
    """Explain a window by one network or several."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tools.explain")
    parser.add_argument("file", type=Path)
    parser.add_argument("--at", type=float, required=True, metavar="SECONDS", help="in the file")
    parser.add_argument(
        "--run", type=Path, action="append", required=True, help="checkpoint or its folder"
    )
    parser.add_argument("--bundle", help="exported from the run: gives the calibrated LLR")
    parser.add_argument("--out", type=Path, default=Path("explanations"))
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    options = parser.parse_args(argv)
    if options.bundle is not None and len(options.run) > 1:
        parser.error("--bundle: of one run, and several are given")
    torch.set_num_threads(options.threads)
    items = []
    for path in options.run:
        explained = explain_file(options.file, options.at, path, options.bundle)
        stem = options.out / f"{options.file.stem}-{options.at:g}s-{explained.run}"
        print(f"{explained.plane.name} {explained.run}: {explained.verdict()}")
        print(explained.pointed())
        print(explained.grounds())
        print(", ".join(str(written) for written in write(explained, stem)))
        items.append(explained)
    if len(items) > 1:
        picture = options.out / f"{options.file.stem}-{options.at:g}s-comparison.png"
        draw_comparison(items, picture)
        print(comparison(items))
        print(picture)
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
