"""The words of ``bundle.yaml`` (schema ``streamguard.bundle/1``), and what must fit together.

Pydantic checks types and refuses unknown keys, straight into frozen dataclasses;
:func:`inconsistencies` checks one field against another.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter

from streamguard.clock import HOP_SAMPLES, SAMPLE_RATE_HZ, WINDOW_HOPS
from streamguard.verdict.calibration import (
    Answers,
    Exposure,
    FalseAlarms,
    LegModel,
    LlrAffine,
    Reliability,
)
from streamguard.verdict.scores import Channel

MAX_LEFT_CONTEXT = SAMPLE_RATE_HZ
"""A second; a network that needs more declares ``unit: window``."""
MAX_TENSOR_ITEMS = 1 << 24
"""Of one row of a batch: 64 MiB; larger is a mistake or an attack."""

Precision = Literal["fp32", "int8", "fp16"]
Unit = Literal["hop", "head", "window"]
Task = Literal["detection", "attribution"]

_K = TypeVar("_K")
_V = TypeVar("_V")


def _frozen(mapping: Mapping[_K, _V]) -> Mapping[_K, _V]:
    return MappingProxyType(dict(mapping))


Text = Annotated[str, Field(min_length=1, max_length=4096)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
TensorName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,127}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\.onnx$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, Field(ge=1, le=MAX_TENSOR_ITEMS)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Shares = Annotated[tuple[Share, ...], Field(min_length=1, max_length=100_000)]
Numbers = Annotated[tuple[float, ...], Field(min_length=1, max_length=100_000)]
Alpha = Annotated[float, Field(gt=0.0, lt=0.5)]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of a graph."""

    name: TensorName
    dtype: Literal["float32"]
    shape: Annotated[tuple[Literal["batch"] | Size, ...], Field(min_length=2, max_length=5)]
    """The first is ``batch``, the others are numbers."""
    meaning: str = ""

    @property
    def row(self) -> tuple[int, ...]:
        """The shape of one item of a batch."""
        return tuple(size for size in self.shape if isinstance(size, int))


@dataclass(frozen=True, slots=True)
class StateSpec:
    """What a graph carries from hop to hop; the leg keeps it, zeros at the start of a segment."""

    source: Annotated[TensorName, Field(alias="in")]
    target: Annotated[TensorName, Field(alias="out")]
    shape: Annotated[tuple[Size, ...], Field(min_length=1, max_length=4)]


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """One ONNX file of the bundle."""

    file: FileName
    sha256: Sha256
    unit: Unit
    inputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1, max_length=16)]
    outputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1, max_length=16)]
    precision: Precision = "fp32"
    left_context: Annotated[int, Field(ge=0, le=MAX_LEFT_CONTEXT)] = 0
    state: Annotated[tuple[StateSpec, ...], Field(max_length=8)] = ()

    @property
    def sums(self) -> tuple[TensorSpec, ...]:
        """Outputs that add up over hops: all but the state."""
        carried = {state.target for state in self.state}
        return tuple(tensor for tensor in self.outputs if tensor.name not in carried)


@dataclass(frozen=True, slots=True)
class GeneratorLabel:
    """A generator, and the technology that it belongs to."""

    name: Name
    technology: Name


@dataclass(frozen=True, slots=True)
class Labels:
    """Classes in the order of the logits; both empty for detection."""

    technology: tuple[Name, ...]
    generator: tuple[GeneratorLabel, ...]


@dataclass(frozen=True, slots=True)
class ConformalDoc:
    """Sorted scores of held-out clips; null where the bundle has no such score."""

    technology: Shares | None = None
    """1 - p(true label)."""
    generator: Shares | None = None
    ood: Numbers | None = None
    """The head's output ``ood``: of both classes for detection, of spoofed clips otherwise."""
    generator_ood: Numbers | None = None
    """The same, of clips of listed generators."""
    generator_sme: Numbers | None = None
    """Softmax energy of the generator logits, of clips of listed generators."""


CONFORMAL_TABLES = tuple(table.name for table in fields(ConformalDoc))


@dataclass(frozen=True, slots=True)
class AnswersDoc:
    """What the confidence of each head means."""

    technology: Answers = field(default_factory=Answers)
    generator: Answers = field(default_factory=Answers)


@dataclass(frozen=True, slots=True)
class CalibrationDoc:
    """What is calibrated for one precision and one channel class, as written."""

    llr: LlrAffine | None = None
    leg: LegModel | None = None
    conformal: ConformalDoc | None = None
    answers: AnswersDoc | None = None
    false_alarms: FalseAlarms | None = None
    exposure: Exposure = field(default_factory=Exposure)


@dataclass(frozen=True, slots=True)
class Difference:
    """What a precision adds to an error rate or takes from an accuracy, as shares, and its 95 %
    interval from whole sources drawn anew."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class AcceptanceDoc:
    """How far the answers of a precision are from those of fp32, on sources that made neither."""

    accepted: bool
    """Only then does ``engine: auto`` take it."""
    differences: Annotated[Mapping[Text, Difference], Field(min_length=1, max_length=32)]
    """By measure and line, e.g. ``eer_direct``."""
    allowed: Share
    """Within plus and minus this every interval had to lie."""
    windows: Annotated[int, Field(ge=1)]
    sources: Annotated[int, Field(ge=1)]
    legs: Annotated[int, Field(ge=0)] = 0
    """Pseudo-legs that were judged (detection)."""
    flips: Annotated[int, Field(ge=0)] = 0
    """Of them, those whose verdict is another; of windows, those whose labels are (attribution)."""
    median_llr_difference: float | None = None
    """Median of the absolute difference of a window's calibrated LLR; None for attribution."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When the bundle abstains."""

    technology: Share | None = None
    """Calibrated confidence below which a label is not said (1: never said); None for detection."""
    generator: Share | None = None
    ood: Alpha | None = None
    """A window is out of distribution at a conformal p-value of ``ood`` below this."""
    generator_ood: Alpha | None = None
    """The generator alone is, at a p-value of both its scores below this."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The whole of ``bundle.yaml``."""

    schema: Literal["streamguard.bundle/1"]
    name: Name
    version: Text
    task: Task
    sample_rate_hz: int
    hop_samples: int
    window_hops: int
    normalisation: Literal["running_peak", "window_peak", "none"]
    graphs: Annotated[
        Mapping[Name, GraphSpec],
        Field(min_length=1, max_length=16),
        AfterValidator(_frozen),
    ]
    labels: Labels
    calibration: Annotated[
        Mapping[Precision, Mapping[Channel, CalibrationDoc]], AfterValidator(_frozen)
    ]
    thresholds: Thresholds
    licence: Text
    trained_on: Text
    metrics: Annotated[Mapping[Text, float], Field(max_length=256), AfterValidator(_frozen)]
    made_with: Annotated[Mapping[Text, Text], Field(max_length=64), AfterValidator(_frozen)]
    acceptance: Annotated[Mapping[Precision, AcceptanceDoc], AfterValidator(_frozen)] = field(
        default_factory=dict
    )
    """precision -> how it compares with fp32; bundles of before have none."""

    # Nested dataclasses inherit this (pydantic: configuration propagation).
    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


MANIFEST: TypeAdapter[Manifest] = TypeAdapter(Manifest)


def inconsistencies(manifest: Manifest) -> Iterator[str]:
    """Everything that does not fit together, each as ``field: what is wrong``."""
    fixed = {
        "sample_rate_hz": SAMPLE_RATE_HZ,
        "hop_samples": HOP_SAMPLES,
        "window_hops": WINDOW_HOPS,
    }
    for name, must in fixed.items():
        if (value := getattr(manifest, name)) != must:
            yield f"{name}: {value}: this version runs {must} only"
    yield from _labels(manifest)
    for name, graph in manifest.graphs.items():
        yield from (f"graphs.{name}.{problem}" for problem in _graph(manifest, graph))
    yield from _partners(manifest)
    yield from _calibration(manifest)
    yield from _acceptance(manifest)
    yield from _thresholds(manifest.task, manifest.thresholds)


def _acceptance(manifest: Manifest) -> Iterator[str]:
    bodies = {graph.precision for graph in manifest.graphs.values() if graph.unit != "head"}
    for precision in manifest.acceptance:
        if precision == "fp32" or precision not in bodies:
            yield f"acceptance.{precision}: there is no such graph to compare with fp32"


def _thresholds(task: Task, thresholds: Thresholds) -> Iterator[str]:
    of_labels = (thresholds.technology, thresholds.generator)
    if task == "detection" and (*of_labels, thresholds.generator_ood) != (None, None, None):
        yield "thresholds: detection has none but ood"
    if task == "attribution" and None in of_labels:
        yield "thresholds: attribution needs technology and generator"


def _labels(manifest: Manifest) -> Iterator[str]:
    labels = manifest.labels
    generators = [generator.name for generator in labels.generator]
    if manifest.task == "detection":
        if labels.technology or labels.generator:
            yield "labels: must be empty for detection"
        return
    if not labels.technology or not labels.generator:
        yield "labels: attribution needs technology and generator"
    if len(set(labels.technology)) != len(labels.technology):
        yield "labels.technology: a label is given twice"
    if len(set(generators)) != len(generators):
        yield "labels.generator: a label is given twice"
    for generator in labels.generator:
        if generator.technology not in labels.technology:
            yield f"labels.generator: {generator.name}: {generator.technology} is no technology"


def _graph(manifest: Manifest, graph: GraphSpec) -> Iterator[str]:
    for where, tensors in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        names = [tensor.name for tensor in tensors]
        if len(set(names)) != len(names):
            yield f"{where}: a name is given twice"
        for tensor in tensors:
            if tensor.shape[0] != "batch" or "batch" in tensor.shape[1:]:
                yield f"{where}.{tensor.name}.shape: batch first, then numbers"
            elif math.prod(tensor.row) > MAX_TENSOR_ITEMS:
                yield f"{where}.{tensor.name}.shape: more than {MAX_TENSOR_ITEMS} items a row"
    if graph.unit != "hop" and graph.state:
        yield f"state: must be empty for unit {graph.unit}"
    if graph.unit != "hop" and graph.left_context:
        yield f"left_context: {graph.left_context}: must be 0 for unit {graph.unit}"
    yield from _state(graph)
    if graph.unit in ("hop", "window"):
        hops = 1 if graph.unit == "hop" else manifest.window_hops
        yield from _samples(graph, graph.left_context + hops * manifest.hop_samples)
    if graph.unit in ("head", "window"):
        yield from _logits(manifest, graph)
    if graph.unit == "hop" and not graph.sums:
        yield "outputs: a hop graph needs an output that is not state"
    if graph.unit == "hop" and manifest.normalisation == "window_peak":
        yield "unit: hop: normalisation window_peak needs unit window"


def _state(graph: GraphSpec) -> Iterator[str]:
    inputs = {tensor.name: tensor for tensor in graph.inputs}
    outputs = {tensor.name: tensor for tensor in graph.outputs}
    if len({s.source for s in graph.state} | {s.target for s in graph.state}) != 2 * len(
        graph.state
    ):
        yield "state: a name is given twice"
    for state in graph.state:
        for name, tensors in ((state.source, inputs), (state.target, outputs)):
            if name not in tensors:
                yield f"state: {name}: no such tensor"
            elif tensors[name].row != state.shape:
                yield f"state: {name}: shape {list(state.shape)} is not {list(tensors[name].row)}"


def _samples(graph: GraphSpec, length: int) -> Iterator[str]:
    carried = {state.source for state in graph.state}
    free = [tensor for tensor in graph.inputs if tensor.name not in carried]
    if [tensor.name for tensor in free] != ["samples"]:
        yield "inputs: must be samples, and the state if there is one"
    elif free[0].row != (length,):
        yield f"inputs.samples.shape: {list(free[0].shape)}: must be [batch, {length}]"


def _logits(manifest: Manifest, graph: GraphSpec) -> Iterator[str]:
    if manifest.task == "detection":
        needed = {"logit": 1}
    else:
        needed = {
            "technology_logits": len(manifest.labels.technology),
            "generator_logits": len(manifest.labels.generator),
        }
    outputs = {tensor.name: tensor for tensor in graph.outputs}
    for name, size in needed.items():
        if name not in outputs:
            yield f"outputs: {name} is missing"
        elif outputs[name].row != (size,):
            yield f"outputs.{name}.shape: {list(outputs[name].shape)}: must be [batch, {size}]"
    if "ood" in outputs and outputs["ood"].row != (1,):
        yield f"outputs.ood.shape: {list(outputs['ood'].shape)}: must be [batch, 1]"
    for name in outputs.keys() - needed.keys() - {"embedding", "ood"}:
        yield f"outputs.{name}: unknown; allowed are {', '.join(needed)}, embedding, ood"


def _partners(manifest: Manifest) -> Iterator[str]:
    """One graph per unit and precision; each hop graph finds a head that takes its sums."""
    graphs = manifest.graphs
    for (a, one), (b, two) in itertools.combinations(graphs.items(), 2):
        if (one.unit, one.precision) == (two.unit, two.precision):
            yield f"graphs.{b}: unit and precision as in graphs.{a}"
        if one.file == two.file:
            yield f"graphs.{b}.file: {two.file}: as in graphs.{a}"
    if not any(graph.unit in ("hop", "window") for graph in graphs.values()):
        yield "graphs: there is no graph of unit hop or window"
    for name, graph in graphs.items():
        if graph.unit != "hop":
            continue
        heads = {head.precision: head for head in graphs.values() if head.unit == "head"}
        head = heads.get(graph.precision, heads.get("fp32"))
        if head is None:
            yield f"graphs.{name}: no head graph in {graph.precision} or fp32"
        elif {t.name: t.row for t in graph.sums} != {t.name: t.row for t in head.inputs}:
            yield f"graphs.{name}.outputs: without the state they must be the inputs of its head"


def _calibration(manifest: Manifest) -> Iterator[str]:
    scored = [graph for graph in manifest.graphs.values() if graph.unit != "hop"]
    tells_ood = all(any(t.name == "ood" for t in graph.outputs) for graph in scored)
    for precision, channels in manifest.calibration.items():
        for channel, doc in channels.items():
            at = f"calibration.{precision}.{channel}"
            yield from (f"{at}.{problem}" for problem in _calibration_of(manifest, doc))
            conformal = doc.conformal
            if not tells_ood and conformal and (conformal.ood or conformal.generator_ood):
                yield f"{at}.conformal: ood: the graphs have no such output"


def _calibration_of(manifest: Manifest, doc: CalibrationDoc) -> Iterator[str]:
    conformal = doc.conformal or ConformalDoc()
    of_labels = (conformal.technology, conformal.generator)
    if manifest.task == "detection":
        if doc.llr is None or doc.leg is None:
            yield "llr, leg: detection needs both"
        if (*of_labels, conformal.generator_ood, conformal.generator_sme) != (None,) * 4:
            yield "conformal: detection has none but ood"
        if doc.answers is not None:
            yield "answers: must be null for detection"
    else:
        if doc.llr is not None or doc.leg is not None or doc.false_alarms is not None:
            yield "llr, leg, false_alarms: must be null for attribution"
        if None in of_labels:
            yield "conformal: attribution needs technology and generator"
    if doc.llr is not None and doc.llr.scale <= 0:
        yield f"llr.scale: {doc.llr.scale}: must be above 0, or the sign of every score turns"
    if doc.leg is not None:
        if doc.leg.spoof_mean <= doc.leg.bonafide_mean:
            yield "leg.spoof_mean: must be above bonafide_mean"
        if doc.leg.between_sd < 0 or doc.leg.within_sd <= 0:
            yield "leg: between_sd must be at least 0 and within_sd above 0"
        if doc.leg.correlation_hops < 1:
            yield f"leg.correlation_hops: {doc.leg.correlation_hops}: must be at least 1"
    for name in CONFORMAL_TABLES:
        if not _ascends(getattr(conformal, name) or ()):
            yield f"conformal.{name}: must be sorted"
    if doc.answers is not None:
        yield from _answers(manifest.labels, doc.answers)
    if doc.false_alarms is not None and min(_numbers(doc.false_alarms)) < 0:
        yield "false_alarms: must not be negative"
    if min(_numbers(doc.exposure)) < 0:
        yield "exposure: must not be negative"


def _answers(labels: Labels, doc: AnswersDoc) -> Iterator[str]:
    known = {
        "technology": set(labels.technology),
        "generator": {generator.name for generator in labels.generator},
    }
    for head, answers in (("technology", doc.technology), ("generator", doc.generator)):
        if answers.temperature <= 0:
            yield f"answers.{head}.temperature: {answers.temperature}: must be above 0"
        for name in answers.labels.keys() - known[head]:
            yield f"answers.{head}.labels.{name}: no such label"
        lines = dict(answers.labels) | ({"common": answers.common} if answers.common else {})
        for name, line in lines.items():
            if problem := _line(line):
                yield f"answers.{head}.{name}: {problem}"


def _line(line: Reliability) -> str | None:
    if not line.confidence or len(line.confidence) != len(line.right):
        return "confidence and right must be as long as each other, and not empty"
    if min(*line.confidence, *line.right) < 0 or max(*line.confidence, *line.right) > 1:
        return "confidence and right lie between 0 and 1"
    if len(set(line.confidence)) < len(line.confidence) or not _ascends(line.confidence):
        return "confidence must rise"
    return None if _ascends(line.right) else "right must not fall"


def _ascends(values: Sequence[float]) -> bool:
    return all(a <= b for a, b in itertools.pairwise(values))


def _numbers(doc: FalseAlarms | Exposure) -> list[float]:
    return [value for value in asdict(doc).values() if not isinstance(value, str)]
