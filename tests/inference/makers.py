"""Small bundles, engines and front ends for the tests of inference."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from streamguard.audio.frames import Hop, HopQuality, Mask, MaskedSpan, RawBlock
from streamguard.clock import HOP_SAMPLES
from streamguard.inference.bundle import Bundle
from streamguard.inference.engine import EngineInfo
from streamguard.inference.schema import MANIFEST
from streamguard.verdict.calibration import ChannelCalibration, ConformalTable, LegModel, LlrAffine
from streamguard.verdict.scores import Channel, Rejection

if TYPE_CHECKING:
    import numpy.typing as npt

    from streamguard.inference.engine import Tensors

    Array = npt.NDArray[np.float32]

CONTEXT = 16
NO_HASH = "0" * 64


def _tensor(name: str, *row: int, meaning: str = "") -> dict[str, Any]:
    tensor: dict[str, Any] = {"name": name, "dtype": "float32", "shape": ["batch", *row]}
    return tensor | ({"meaning": meaning} if meaning else {})


def detection_document(*, state: bool = False, left_context: int = CONTEXT) -> dict[str, Any]:
    """A valid ``bundle.yaml`` of a detector as plain data."""
    hop: dict[str, Any] = {
        "file": "hop_fp32.onnx",
        "sha256": NO_HASH,
        "unit": "hop",
        "left_context": left_context,
        "precision": "fp32",
        "inputs": [_tensor("samples", left_context + HOP_SAMPLES)],
        "outputs": [_tensor("sums", 2, meaning="sum over frames"), _tensor("count", 1)],
    }
    if state:
        hop["inputs"].append(_tensor("state_in", 1))
        hop["outputs"].append(_tensor("state_out", 1))
        hop["state"] = [{"in": "state_in", "out": "state_out", "shape": [1]}]
    return {
        "schema": "streamguard.bundle/1",
        "name": "tiny",
        "version": "0.1.0",
        "task": "detection",
        "sample_rate_hz": 16000,
        "hop_samples": 8000,
        "window_hops": 6,
        "normalisation": "running_peak",
        "graphs": {
            "hop_fp32": hop,
            "head_fp32": {
                "file": "head_fp32.onnx",
                "sha256": NO_HASH,
                "unit": "head",
                "inputs": [_tensor("sums", 2), _tensor("count", 1)],
                "outputs": [_tensor("logit", 1, meaning="positive for spoof")],
            },
        },
        "labels": {"technology": [], "generator": []},
        "calibration": {
            "fp32": {
                "wide": {
                    "llr": {"scale": 2.0, "offset": 0.5},
                    "leg": {
                        "bonafide_mean": -1.0,
                        "spoof_mean": 1.0,
                        "between_sd": 1.2,
                        "within_sd": 1.5,
                        "correlation_hops": 1.0,
                    },
                    "conformal": None,
                    "exposure": {"clips": 10, "legs": 5, "speakers": 4, "sources": 2, "hours": 0.5},
                }
            }
        },
        "thresholds": {},
        "licence": "Apache-2.0",
        "trained_on": "nothing",
        "metrics": {"eer": 0.5},
        "made_with": {"torch": "none"},
    }


def attribution_document() -> dict[str, Any]:
    """A valid ``bundle.yaml`` of an attribution model as plain data."""
    document = detection_document()
    head = document["graphs"]["head_fp32"]
    head["outputs"] = [_tensor("technology_logits", 2), _tensor("generator_logits", 3)]
    scores = [i / 100 for i in range(100)]
    document |= {
        "name": "tiny_attribution",
        "task": "attribution",
        "labels": {
            "technology": ["tts", "vc"],
            "generator": [
                {"name": "alpha", "technology": "tts"},
                {"name": "beta", "technology": "tts"},
                {"name": "gamma", "technology": "vc"},
            ],
        },
        "calibration": {
            "fp32": {
                "wide": {
                    "llr": None,
                    "leg": None,
                    "conformal": {"technology": scores, "generator": scores},
                }
            }
        },
        "thresholds": {"technology": 0.6, "generator": 0.7},
    }
    return document


def write_bundle(folder: Path, document: dict[str, Any], files: Mapping[str, bytes]) -> Path:
    """A bundle folder; the hashes of the document become those of the files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    for graph in document["graphs"].values():
        if graph["file"] in files and graph["sha256"] == NO_HASH:
            graph["sha256"] = hashlib.sha256(files[graph["file"]]).hexdigest()
    # Through JSON, so that values used twice are written twice: aliases are refused.
    text = yaml.safe_dump(json.loads(json.dumps(document)))
    (folder / "bundle.yaml").write_text(text, encoding="utf-8")
    return folder


def bundle_of(document: dict[str, Any], *channels: Channel) -> Bundle:
    """A bundle in memory, for engines that read no files."""
    conformal = ConformalTable(tuple(i / 100 for i in range(100)))
    if document["task"] == "detection":
        calibration = ChannelCalibration(LlrAffine(2.0, 0.5), LegModel(-1.0, 1.0, 1.2, 1.5))
    else:
        calibration = ChannelCalibration(technology=conformal, generator=conformal)
    by_channel = MappingProxyType(dict.fromkeys(channels or (Channel.WIDE,), calibration))
    return Bundle(
        folder=Path("nowhere"),
        manifest=MANIFEST.validate_json(json.dumps(document)),
        sha256=NO_HASH,
        calibrations=MappingProxyType({"fp32": by_channel}),
    )


class NumpyEngine:
    """Graphs in numpy: mean level and mean product of neighbours, with or without a state."""

    def __init__(self, *, task: str = "detection", state: bool = False) -> None:
        self.info = EngineInfo("numpy", "numpy", "numpy", "fp32", "fp32", "numpy")
        self.calls: list[tuple[str, int]] = []
        self.state = state
        self.task = task
        self.warm = 0
        self.closed = False

    def run(self, graph: str, inputs: Tensors) -> Tensors:
        rows = len(next(iter(inputs.values())))
        self.calls.append((graph, rows))
        return self._hop(inputs) if graph.startswith("hop") else self._head(inputs)

    def _hop(self, inputs: Tensors) -> Tensors:
        x = inputs["samples"].astype(np.float64)
        now, before = x[:, CONTEXT:], x[:, :-CONTEXT]
        sums = np.stack([now.sum(axis=1), (now * before).sum(axis=1)], axis=1)
        out = {"count": np.full((len(x), 1), now.shape[1], np.float32)}
        if self.state:
            carried = inputs["state_in"].astype(np.float64)
            sums += carried * now.shape[1]
            out["state_out"] = (0.5 * carried + now.mean(axis=1, keepdims=True)).astype(np.float32)
        return out | {"sums": sums.astype(np.float32)}

    def _head(self, inputs: Tensors) -> Tensors:
        mean = inputs["sums"] / inputs["count"]
        if self.task == "detection":
            return {"logit": (4 * mean[:, :1] + mean[:, 1:]).astype(np.float32)}
        level = mean[:, 0]
        zeros = np.zeros_like(level)
        return {
            "technology_logits": np.stack([20 * level, zeros], axis=1).astype(np.float32),
            "generator_logits": np.stack([20 * level, zeros, zeros], axis=1).astype(np.float32),
        }

    def warm_up(self) -> None:
        self.warm += 1

    def close(self) -> None:
        self.closed = True


GOOD = HopQuality(
    level_dbfs=-20.0,
    speech_fraction=0.8,
    clipped_fraction=0.0,
    lost_fraction=0.0,
    tone_fraction=0.0,
    music_likelihood=0.0,
    highband_db=-10.0,
    active_frames=40,
)
SILENT = HopQuality(-90.0, 0.0, 0.0, 0.0, 0.0, 0.0, None, 0)


class PlainFrontEnd:
    """Passes blocks of exactly one hop at 16 kHz; a hop of zeros is not usable."""

    def __init__(self, leg: str, left_context: int) -> None:
        self.leg = leg
        self.left_context = left_context
        self.channel = Channel.WIDE
        self.replays = 0
        self.kept: dict[int, Array] = {}
        self.keep_hops = 8
        self.segment = -1

    def process(self, block: RawBlock) -> list[Hop]:
        if block.segment != self.segment:
            self.segment = block.segment
            self.kept.clear()
        index = block.first_sample // HOP_SAMPLES
        samples = block.samples.astype(np.float32) / np.float32(32768)
        context = self._context(index, self.left_context)
        self.kept[index] = samples
        for old in [i for i in self.kept if i <= index - self.keep_hops]:
            del self.kept[old]
        usable = bool(samples.any())
        quality = GOOD if usable else SILENT
        return [
            Hop(
                block.leg, block.segment, index, context, samples, quality, usable,
                block.received_at,
            )
        ]  # fmt: skip

    def _context(self, index: int, count: int) -> Array:
        before = self.kept.get(index - 1, np.zeros(HOP_SAMPLES, np.float32))
        return before[HOP_SAMPLES - count :]

    def replay(self, index: int, left_context: int) -> Array | None:
        self.replays += 1
        if index not in self.kept:
            return None
        return np.concatenate([self._context(index, left_context), self.kept[index]])


def judge(qualities: Sequence[HopQuality | None]) -> Rejection | None:
    """Overload if a hop is missing, silence if less than half of the hops are speech."""
    if any(quality is None for quality in qualities):
        return Rejection.OVERLOAD
    speech = sum(quality is not None and quality.active_frames > 0 for quality in qualities)
    return None if 2 * speech >= len(qualities) else Rejection.SILENCE


def block(
    leg: str, index: int, *, level: float = 0.25, segment: int = 0, seed: int | None = None
) -> RawBlock:
    """One hop of noise around ``level`` (of full scale), the same for the same arguments."""
    name = int.from_bytes(leg.encode(), "big") if seed is None else seed
    noise = np.random.default_rng([name, index]).normal(0.0, 0.02, HOP_SAMPLES)
    x = (level + noise) * 32768 if level else np.zeros(HOP_SAMPLES)
    samples = np.clip(x, -32768, 32767).astype(np.int16)
    return RawBlock(leg, segment, index * HOP_SAMPLES, samples, 16000, (), received_at=0.5 * index)


def dropped_block(leg: str, index: int) -> RawBlock:
    """A hop whose samples were dropped for overload."""
    first = index * HOP_SAMPLES
    span = MaskedSpan(first, first + HOP_SAMPLES, Mask.OVERLOAD)
    return RawBlock(leg, 0, first, np.zeros(HOP_SAMPLES, np.int16), 16000, (span,), 0.5 * index)
