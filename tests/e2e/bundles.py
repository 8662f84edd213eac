"""A detector with an opinion, for tests of what comes after the model.

It is no model and says so in its name: what is tested with it is the way of an alert, not the
accuracy of a verdict.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from streamguard.clock import HOP_SAMPLES


def _value(name: str, *row: int) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *row])


def _graph(nodes: list[Any], inputs: list[Any], outputs: list[Any], **weights: float) -> bytes:
    stored = [
        numpy_helper.from_array(np.array(value, np.int64 if name == "axis" else np.float32), name)
        for name, value in weights.items()
    ]
    graph = helper.make_graph(nodes, "opinionated", inputs, outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    data: bytes = model.SerializeToString()
    return data


def opinionated_bundle(folder: Path, logit: float, per_loudness: float = 0.0) -> Path:
    """A detection bundle whose every window has this raw score.

    ``per_loudness`` adds that much per unit of mean absolute sample, so that windows differ.
    """
    hop = _graph(
        [
            helper.make_node("Abs", ["samples"], ["magnitude"]),
            helper.make_node("ReduceMean", ["magnitude", "axis"], ["mean"], keepdims=1),
            helper.make_node("Mul", ["mean", "gain"], ["said_of_it"]),
            helper.make_node("Add", ["said_of_it", "opinion"], ["sums"]),
            helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
            helper.make_node("Add", ["nothing", "one"], ["count"]),
        ],
        [_value("samples", HOP_SAMPLES)],
        [_value("sums", 1), _value("count", 1)],
        axis=[1],  # type: ignore[arg-type]  # the one weight that is a list
        zero=0.0,
        gain=per_loudness,
        opinion=logit,
        one=1.0,
    )
    head = _graph(
        [helper.make_node("Div", ["sums", "count"], ["logit"])],
        [_value("sums", 1), _value("count", 1)],
        [_value("logit", 1)],
    )
    folder.mkdir(parents=True)
    (folder / "hop.onnx").write_bytes(hop)
    (folder / "head.onnx").write_bytes(head)

    def tensor(name: str, *row: int, **more: str) -> dict[str, Any]:
        return {"name": name, "dtype": "float32", "shape": ["batch", *row], **more}

    calibration = {
        "llr": {"scale": 1.0, "offset": 0.0},
        "leg": {
            "bonafide_mean": -3.0,
            "spoof_mean": 3.0,
            "between_sd": 1.0,
            "within_sd": 1.0,
            "correlation_hops": 1.0,
        },
    }
    parts = [tensor("sums", 1, meaning="sum over frames"), tensor("count", 1, meaning="frames")]
    document = {
        "schema": "streamguard.bundle/1",
        "name": "opinionated",
        "version": "0.0.0",
        "task": "detection",
        "sample_rate_hz": 16000,
        "hop_samples": HOP_SAMPLES,
        "window_hops": 6,
        "normalisation": "running_peak",
        "graphs": {
            "hop_fp32": {
                "file": "hop.onnx",
                "sha256": hashlib.sha256(hop).hexdigest(),
                "unit": "hop",
                "left_context": 0,
                "precision": "fp32",
                "inputs": [tensor("samples", HOP_SAMPLES)],
                "outputs": parts,
            },
            "head_fp32": {
                "file": "head.onnx",
                "sha256": hashlib.sha256(head).hexdigest(),
                "unit": "head",
                "left_context": 0,
                "precision": "fp32",
                "inputs": [tensor("sums", 1), tensor("count", 1)],
                "outputs": [tensor("logit", 1, meaning="positive for spoof")],
            },
        },
        "labels": {"technology": [], "generator": []},
        "calibration": {"fp32": {"wide": calibration, "narrow": calibration}},
        "thresholds": {},
        "licence": "Apache-2.0",
        "trained_on": "nothing: its opinion is made up",
        "metrics": {},
        "made_with": {"onnx": onnx.__version__},
    }
    # JSON is YAML, without the aliases that bundles must not have.
    (folder / "bundle.yaml").write_text(json.dumps(document, indent=1))
    return folder
