"""Write a model bundle: torch graphs to ONNX, hashes, ``bundle.yaml``, ``CARD.md``; atomically.

A system's ``models/<system>/network.py`` describes its graphs as :class:`GraphSpec`; whoever
trained it adds a :class:`BundleDraft`. The schema is ``streamguard.bundle/1``; the daemon's own
loader has the last word on every bundle before it takes its place.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import torch
import yaml

from tools.training import recipe_sha256

SCHEMA = "streamguard.bundle/1"
OPSET = 18
EXAMPLE_BATCH = 2  # 1 would be taken for a constant by the exporter

Plain = dict[str, Any]
"""What YAML holds: dicts, lists, strings, numbers."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One float32 input or output; the leading batch axis is not part of ``shape``."""

    name: str
    shape: tuple[int, ...]
    meaning: str = ""
    """For outputs."""


@dataclass(frozen=True, slots=True)
class StateSpec:
    """A state that the leg keeps: ``source`` (input) is the last hop's ``target`` (output)."""

    source: str
    target: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """A torch module and what its graph is called, takes and gives.

    ``module.forward`` takes the inputs by position, named as in ``inputs``, and returns a tensor or
    a tuple in the order of ``outputs``.
    """

    name: str
    """E.g. ``hop_fp32``; the file is ``<name>.onnx``."""
    module: torch.nn.Module
    unit: str
    """``hop`` | ``head`` | ``window``."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    left_context: int = 0
    """Samples before the hop in the input of a hop graph."""
    precision: str = "fp32"
    state: tuple[StateSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class BundleDraft:
    """What a bundle says of itself beside its graphs. Plain values, as they go to YAML."""

    name: str
    version: str
    task: str
    """``detection`` | ``attribution``."""
    licence: str
    trained_on: str
    calibration: Mapping[str, Any]
    """``{precision: {channel class: {...}}}``; see :func:`merge_calibration`."""
    technology: Sequence[str] = ()
    generator: Sequence[Mapping[str, str]] = ()
    """``{"name": ..., "technology": ...}`` in the order of the logits."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    normalisation: str = "running_peak"
    sample_rate_hz: int = 16000
    hop_samples: int = 8000
    window_hops: int = 6


def merge_calibration(*fragments: Mapping[str, Any]) -> Plain:
    """Join ``{precision: {channel: {...}}}`` fragments; a channel given twice is an error."""
    merged: Plain = {}
    for fragment in fragments:
        for precision, channels in fragment.items():
            into = merged.setdefault(precision, {})
            for channel, values in channels.items():
                if channel in into:
                    raise ValueError(f"calibration.{precision}.{channel} is given twice")
                into[channel] = _plain(values)
    return merged


def export_graph(spec: GraphSpec, path: Path) -> None:
    """One module to one self-contained ONNX file (opset 18, dynamic batch, no external data)."""
    example = tuple(torch.zeros(EXAMPLE_BATCH, *tensor.shape) for tensor in spec.inputs)
    batch = torch.export.Dim("batch", min=1, max=4096)
    # It logs every operator of torchvision, which nothing here needs.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings():
        # The exporter warns of its own internals (deprecations inside copyreg and onnxscript).
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            spec.module.eval(),
            example,
            dynamo=True,
            dynamic_shapes=tuple({0: batch} for _ in example),
            opset_version=OPSET,
            external_data=False,
            input_names=[tensor.name for tensor in spec.inputs],
            output_names=[tensor.name for tensor in spec.outputs],
            verbose=False,
        )
    assert program is not None, "torch.onnx.export(dynamo=True) returns a program"
    model = program.model_proto
    _anonymise(model)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def write_bundle(
    draft: BundleDraft,
    graphs: Sequence[GraphSpec],
    recipe: Mapping[str, Any],
    card: str,
    folder: Path,
) -> Path:
    """Make ``folder`` a complete bundle, or leave what was there untouched; returns it.

    ``recipe`` is the one that the checkpoint carries; ``card`` is the text of ``CARD.md``. Raises
    BundleError if the daemon's loader would refuse it.
    """
    from streamguard.inference.bundle import load_bundle

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        fresh = Path(temporary) / folder.name
        fresh.mkdir()
        entries: Plain = {}
        for spec in graphs:
            file = fresh / f"{spec.name}.onnx"
            export_graph(spec, file)
            entries[spec.name] = _graph_entry(spec, file)
        document = _document(draft, entries, recipe)
        (fresh / "bundle.yaml").write_text(dump_yaml(document), encoding="utf-8")
        (fresh / "CARD.md").write_text(card, encoding="utf-8")
        load_bundle(fresh)
        replace_folder(fresh, folder, Path(temporary) / "replaced")
    return folder


def read_document(folder: Path) -> Plain:
    """``bundle.yaml`` of a bundle as plain values, to be changed and written back."""
    document: Plain = yaml.safe_load((folder / "bundle.yaml").read_text(encoding="utf-8"))
    return document


def update_document(folder: Path, changes: Mapping[str, Any], card: str | None = None) -> None:
    """Replace top-level keys of a bundle's YAML (calibration, thresholds, metrics) in place.

    For what is measured with the exported graphs themselves; the graphs stay as they are.
    """
    from streamguard.inference.bundle import load_bundle

    document = read_document(folder)
    unknown = changes.keys() - document.keys() - {"acceptance"}
    if unknown:
        raise ValueError(f"{folder}: no such keys in bundle.yaml: {sorted(unknown)}")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        fresh = Path(temporary) / folder.name
        shutil.copytree(folder, fresh)
        document.update(_plain(changes))
        (fresh / "bundle.yaml").write_text(dump_yaml(document), encoding="utf-8")
        if card is not None:
            (fresh / "CARD.md").write_text(card, encoding="utf-8")
        load_bundle(fresh)
        replace_folder(fresh, folder, Path(temporary) / "replaced")


def replace_graph(
    folder: Path, name: str, data: bytes, new_outputs: Sequence[TensorSpec] = ()
) -> None:
    """Put another ONNX file in the place of a graph of a bundle; it gives ``new_outputs`` besides.

    The calibration goes with the graph that it was made with. Raises BundleError, and leaves the
    bundle as it was, if the daemon's loader would refuse the result.
    """
    from streamguard.inference.bundle import load_bundle

    document = read_document(folder)
    graph = document["graphs"][name]
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        fresh = Path(temporary) / folder.name
        shutil.copytree(folder, fresh)
        (fresh / graph["file"]).write_bytes(data)
        graph["sha256"] = sha256_of(fresh / graph["file"])
        graph["outputs"] += [_tensor_entry(tensor, meaning=True) for tensor in new_outputs]
        document["calibration"] = {}
        document.pop("acceptance", None)
        (fresh / "bundle.yaml").write_text(dump_yaml(document), encoding="utf-8")
        load_bundle(fresh)
        replace_folder(fresh, folder, Path(temporary) / "replaced")


def add_graph(folder: Path, name: str, data: bytes, like: str, precision: str) -> None:
    """Put a graph beside ``like``, the same in another precision; one of that name is replaced.

    What was calibrated and accepted for that precision goes. Raises BundleError, and leaves the
    bundle as it was, if the daemon's loader would refuse the result.
    """
    from streamguard.inference.bundle import load_bundle

    document = read_document(folder)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        fresh = Path(temporary) / folder.name
        shutil.copytree(folder, fresh)
        file = fresh / f"{name}.onnx"
        file.write_bytes(data)
        document["graphs"][name] = {
            **document["graphs"][like],
            "file": file.name,
            "sha256": sha256_of(file),
            "precision": precision,
        }
        for section in ("calibration", "acceptance"):
            document.get(section, {}).pop(precision, None)
        (fresh / "bundle.yaml").write_text(dump_yaml(document), encoding="utf-8")
        load_bundle(fresh)
        replace_folder(fresh, folder, Path(temporary) / "replaced")


def dump_yaml(document: Mapping[str, Any]) -> str:
    """YAML with keys in the order given and lists of plain values on one line."""
    return yaml.dump(
        _plain(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100
    )


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class _Dumper(yaml.SafeDumper):
    """Leaves (lists and mappings without nesting) in flow style, the rest in block style."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> Any:
        leaf = not any(isinstance(item, dict | list) for item in sequence)
        return super().represent_sequence(tag, sequence, flow_style=leaf)

    def ignore_aliases(self, data: object) -> bool:
        return True


def _document(draft: BundleDraft, graphs: Plain, recipe: Mapping[str, Any]) -> Plain:
    return {
        "schema": SCHEMA,
        "name": draft.name,
        "version": draft.version,
        "task": draft.task,
        "sample_rate_hz": draft.sample_rate_hz,
        "hop_samples": draft.hop_samples,
        "window_hops": draft.window_hops,
        "normalisation": draft.normalisation,
        "graphs": graphs,
        "labels": {
            "technology": list(draft.technology),
            "generator": [dict(entry) for entry in draft.generator],
        },
        "calibration": merge_calibration(draft.calibration),
        "thresholds": dict(draft.thresholds),
        "licence": draft.licence,
        "trained_on": draft.trained_on,
        "metrics": dict(draft.metrics),
        "made_with": {
            "torch": str(torch.__version__),
            "onnx": onnx.__version__,
            "onnxscript": importlib.metadata.version("onnxscript"),
            "recipe_sha256": recipe_sha256(dict(recipe)),
        },
    }


def _tensor_entry(spec: TensorSpec, *, meaning: bool) -> Plain:
    entry: Plain = {"name": spec.name, "dtype": "float32", "shape": ["batch", *spec.shape]}
    return {**entry, "meaning": spec.meaning} if meaning else entry


def _graph_entry(spec: GraphSpec, file: Path) -> Plain:
    return {
        "file": file.name,
        "sha256": sha256_of(file),
        "unit": spec.unit,
        "left_context": spec.left_context,
        "precision": spec.precision,
        "inputs": [_tensor_entry(item, meaning=False) for item in spec.inputs],
        "outputs": [_tensor_entry(item, meaning=True) for item in spec.outputs],
        "state": [
            {"in": item.source, "out": item.target, "shape": list(item.shape)}
            for item in spec.state
        ],
    }


def _anonymise(model: onnx.ModelProto) -> None:
    """Drop stack traces and module paths: they name folders of this machine and change the hash."""
    del model.metadata_props[:]
    model.doc_string = ""
    for container in (model.graph, *model.functions):
        del container.metadata_props[:]
        container.doc_string = ""
        for node in container.node:
            del node.metadata_props[:]
            node.doc_string = ""
        for value in container.value_info:
            del value.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
        value.doc_string = ""
    # Shapes of intermediate values are inferred again by whoever loads the graph.
    del model.graph.value_info[:]


def _plain(value: Any) -> Any:
    """Only what YAML can say: numpy scalars to Python's, mappings to dicts, tuples to lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, str):
        return value.item()
    return value


def replace_folder(fresh: Path, folder: Path, replaced: Path) -> None:
    """Put ``fresh`` in the place of ``folder``; both are on one file system."""
    if folder.exists():
        os.replace(folder, replaced)
    os.replace(fresh, folder)
