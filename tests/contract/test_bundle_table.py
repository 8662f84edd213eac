"""The bundle table, which users rely on: the keys of ``bundle.yaml``, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from streamguard.errors import BundleError
from streamguard.inference.bundle import load_bundle
from streamguard.resources import packaged_bundle, packaged_bundles
from tests.inference.makers import attribution_document, detection_document, write_bundle

OPTIONAL = {"acceptance"}
"""Of a precision beside fp32: how its answers differ, and whether they were accepted."""
TOP = {
    *("schema", "name", "version", "task", "sample_rate_hz", "hop_samples", "window_hops"),
    *("normalisation", "graphs", "labels", "calibration", "thresholds", "licence"),
    *("trained_on", "metrics", "made_with"),
}
GRAPH = {"file", "sha256", "unit", "left_context", "precision", "inputs", "outputs", "state"}
TENSOR = {"name", "dtype", "shape", "meaning"}
STATE = {"in", "out", "shape"}
CALIBRATION = {"llr", "leg", "conformal", "answers", "false_alarms", "exposure"}
CONFORMAL = {"technology", "generator", "ood", "generator_ood", "generator_sme"}
ANSWERS = {"technology", "generator"}
FALSE_ALARMS = {
    *("rule", "legs", "speakers", "sources", "hours", "raised"),
    *("per_1000_call_hours", "upper_95", "leg_share_upper_95", "modelled"),
}
THRESHOLDS = {"technology", "generator", "ood", "generator_ood"}
# The smallest message with a graph in it: enough for loading.
STUB = bytes([0x3A, 0x00])
FILES = {"hop_fp32.onnx": STUB, "head_fp32.onnx": STUB + bytes([0x08, 0x0A])}
HOP = ("graphs", "hop_fp32")
WIDE = ("calibration", "fp32", "wide")


def whole_document() -> dict[str, Any]:
    """One with every key of the table in it."""
    document = detection_document(state=True)
    document["graphs"]["head_fp32"]["outputs"] += [
        {"name": "embedding", "dtype": "float32", "shape": ["batch", 8]},
        {"name": "ood", "dtype": "float32", "shape": ["batch", 1]},
    ]
    document["calibration"]["fp32"]["wide"] |= {
        "conformal": {"ood": [1.0, 2.0]},
        "answers": None,
        "false_alarms": dict.fromkeys(FALSE_ALARMS, 1.0)
        | {"rule": "sequential"}
        | dict.fromkeys(("legs", "speakers", "sources", "raised"), 1),
    }
    document["thresholds"] = {"ood": 0.01}
    for graph in document["graphs"].values():
        graph.setdefault("left_context", 0)
        graph.setdefault("precision", "fp32")
        graph.setdefault("state", [])
        for tensor in (*graph["inputs"], *graph["outputs"]):
            tensor.setdefault("meaning", "")
    return document


def keys_of(document: dict[str, Any]) -> dict[str, set[str]]:
    graphs = document["graphs"].values()
    tensors = [tensor for graph in graphs for tensor in (*graph["inputs"], *graph["outputs"])]
    states = [state for graph in graphs for state in graph.get("state", ())]
    channels = [doc for precision in document["calibration"].values() for doc in precision.values()]
    return {
        "top": set(document),
        "graph": {key for graph in graphs for key in graph},
        "tensor": {key for tensor in tensors for key in tensor},
        "state": {key for state in states for key in state},
        "labels": set(document["labels"]),
        "calibration": {key for doc in channels for key in doc},
    }


def refusal(document: dict[str, Any], folder: Path) -> str:
    write_bundle(folder, document, FILES)
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    return str(caught.value)


def test_a_bundle_with_every_key_of_the_table_loads(tmp_path: Path) -> None:
    document = whole_document()
    assert keys_of(document) == {
        "top": TOP,
        "graph": GRAPH,
        "tensor": TENSOR,
        "state": STATE,
        "labels": {"technology", "generator"},
        "calibration": CALIBRATION,
    }
    load_bundle(write_bundle(tmp_path / "detection", document, FILES))
    load_bundle(write_bundle(tmp_path / "attribution", attribution_document(), FILES))


@pytest.mark.parametrize("key", sorted(TOP))
def test_every_key_is_needed(key: str, tmp_path: Path) -> None:
    document = whole_document()
    removed = document.pop(key)
    if key == "graphs":  # write_bundle looks for them
        assert removed
        document["graphs"] = {}
    assert f"{tmp_path / 'bundle.yaml'}: {key}" in refusal(document, tmp_path)


@pytest.mark.parametrize(
    "place",
    [
        (),
        ("labels",),
        ("thresholds",),
        HOP,
        (*HOP, "inputs", 0),
        (*HOP, "outputs", 0),
        (*HOP, "state", 0),
        WIDE,
        (*WIDE, "llr"),
        (*WIDE, "leg"),
        (*WIDE, "conformal"),
        (*WIDE, "false_alarms"),
        (*WIDE, "exposure"),
    ],
    ids=lambda place: ".".join(map(str, place)) or "top",
)
def test_an_unknown_key_is_an_error_that_names_it(
    place: tuple[str | int, ...], tmp_path: Path
) -> None:
    document = whole_document()
    at: Any = document
    for part in place:
        at = at[part]
    at["colour"] = "red"
    assert ".".join(map(str, (*place, "colour"))) in refusal(document, tmp_path)


def test_every_word_of_an_attribution_calibration_is_known(tmp_path: Path) -> None:
    document = attribution_document()
    document["graphs"]["head_fp32"]["outputs"].append(
        {"name": "ood", "dtype": "float32", "shape": ["batch", 1]}
    )
    line = {"confidence": [0.5, 0.9], "right": [0.4, 0.8]}
    answers = {"temperature": 1.5, "common": line}
    document["calibration"]["fp32"]["wide"] |= {
        "conformal": {key: [0.1, 0.2] for key in CONFORMAL},
        "answers": {
            "technology": answers | {"labels": {"tts": line}},
            "generator": answers | {"labels": {}},
        },
    }
    document["thresholds"] = dict.fromkeys(THRESHOLDS, 0.1)
    load_bundle(write_bundle(tmp_path / "whole", document, FILES))
    for place in ("conformal", "answers"):
        document["calibration"]["fp32"]["wide"][place]["colour"] = [0.1]
        assert f"{place}.colour" in refusal(document, tmp_path / place)
        del document["calibration"]["fp32"]["wide"][place]["colour"]


def test_what_came_with_later_versions_may_be_missing(tmp_path: Path) -> None:
    document = detection_document()
    for key in ("conformal", "exposure"):
        document["calibration"]["fp32"]["wide"].pop(key)
    document["thresholds"] = {}
    load_bundle(write_bundle(tmp_path, document, FILES))


@pytest.mark.parametrize(
    ("key", "allowed"),
    [
        ("task", ("detection", "attribution")),
        ("normalisation", ("running_peak", "window_peak", "none")),
    ],
)
def test_a_word_outside_the_table_is_refused_with_those_allowed(
    key: str, allowed: tuple[str, ...], tmp_path: Path
) -> None:
    message = refusal(whole_document() | {key: "other"}, tmp_path)
    assert all(word in message for word in (key, *allowed))


@pytest.mark.parametrize("name", packaged_bundles())
def test_a_packaged_bundle_keeps_to_the_table(name: str) -> None:
    text = (packaged_bundle(name) / "bundle.yaml").read_text(encoding="utf-8")
    found = keys_of(yaml.safe_load(text))
    assert found["top"] - OPTIONAL == TOP
    assert found["graph"] <= GRAPH
    assert found["tensor"] <= TENSOR
    assert found["state"] <= STATE
    assert found["calibration"] <= CALIBRATION
