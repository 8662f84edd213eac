"""Model bundles: a folder with ``bundle.yaml`` and the ONNX graphs whose hashes it names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError

from streamguard.errors import BundleError
from streamguard.inference.onnx_scan import NotOnnxError, has_external_data
from streamguard.inference.plain import PlainDataError, parse_plain
from streamguard.inference.schema import (
    CONFORMAL_TABLES,
    MANIFEST,
    AnswersDoc,
    CalibrationDoc,
    GraphSpec,
    Manifest,
    inconsistencies,
)
from streamguard.resources import packaged_bundle, packaged_bundles
from streamguard.verdict.calibration import ChannelCalibration, ConformalTable
from streamguard.verdict.scores import Channel

MANIFEST_FILE = "bundle.yaml"
MAX_MANIFEST_BYTES = 8 << 20
MAX_GRAPH_BYTES = 512 << 20


@dataclass(frozen=True, slots=True)
class GraphChoice:
    """The graphs that serve one precision: hop and head, or one over the window."""

    body: str
    """Name of the graph of unit ``hop`` or ``window``."""
    head: str | None
    """Name of the head; None where the body is of unit ``window``."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose every byte was checked when it was loaded."""

    folder: Path
    manifest: Manifest
    sha256: str
    """Of ``bundle.yaml``, which holds the hashes of the graphs: it names the whole bundle."""
    calibrations: Mapping[str, Mapping[Channel, ChannelCalibration]]
    """precision -> channel class -> what was calibrated."""

    @property
    def name(self) -> str:
        return self.manifest.name

    def calibration(self, precision: str, channel: Channel) -> ChannelCalibration | None:
        """None where nothing was calibrated for this precision and channel class."""
        return self.calibrations.get(precision, {}).get(channel)

    def accepts(self, precision: str) -> bool:
        """Whether its answers were found to be those of fp32, and it is calibrated as widely."""
        found = {name: doc for name, doc in self.manifest.acceptance.items() if doc.accepted}
        channels = self.calibrations.get("fp32", {}).keys()
        return precision in found and channels <= self.calibrations.get(precision, {}).keys()

    def choose(self, precision: str) -> GraphChoice:
        """Graphs for a precision; only a head may be taken from fp32. Raises BundleError."""
        by_kind: dict[tuple[str, str], str] = {
            (g.unit, g.precision): n for n, g in self.manifest.graphs.items()
        }
        if hop := by_kind.get(("hop", precision)):
            head = by_kind.get(("head", precision)) or by_kind[("head", "fp32")]
            return GraphChoice(body=hop, head=head)
        if window := by_kind.get(("window", precision)):
            return GraphChoice(body=window, head=None)
        has = sorted({g.precision for g in self.manifest.graphs.values() if g.unit != "head"})
        path = str(self.folder / MANIFEST_FILE)
        raise BundleError(path, f"graphs: none in {precision}; it has {', '.join(has)}")

    def read_graph(self, name: str) -> bytes:
        """The bytes of a graph, checked again as they are read. Raises BundleError."""
        return _read_graph(self.folder, name, self.manifest.graphs[name])


def find_bundle(name_or_path: str | Path) -> Path:
    """The folder of a bundle: a folder if there is one of that path, else a packaged name.

    Raises BundleError naming what is there instead.
    """
    path = Path(name_or_path)
    is_name = path == Path(path.name) and not path.is_dir()
    folder = packaged_bundle(path.name) if is_name else path
    if not (folder / MANIFEST_FILE).is_file():
        known = ", ".join(packaged_bundles()) or "none"
        raise BundleError(
            str(folder), f"no {MANIFEST_FILE} in it (packaged bundles by name: {known})"
        )
    return folder


def load_bundle(path: str | Path) -> Bundle:
    """Read and verify the bundle in a folder. Raises BundleError naming file and field."""
    folder = Path(path)
    file = folder / MANIFEST_FILE
    data = _read(file, MAX_MANIFEST_BYTES)
    manifest = _parse(file, data)
    for name, graph in manifest.graphs.items():
        _read_graph(folder, name, graph)
    calibrations: dict[str, Mapping[Channel, ChannelCalibration]] = {
        precision: MappingProxyType(
            {channel: _calibration(doc) for channel, doc in channels.items()}
        )
        for precision, channels in manifest.calibration.items()
    }
    return Bundle(
        folder=folder,
        manifest=manifest,
        sha256=hashlib.sha256(data).hexdigest(),
        calibrations=MappingProxyType(calibrations),
    )


def _parse(file: Path, data: bytes) -> Manifest:
    try:
        # Through JSON: there pydantic's strict mode takes a list for a tuple, and no date passes.
        text = json.dumps(parse_plain(data), allow_nan=False)
    except PlainDataError as err:
        raise BundleError(str(file), str(err)) from err
    except (TypeError, ValueError) as err:
        raise BundleError(str(file), f"only text, numbers, lists, mappings: {err}") from err
    try:
        manifest = MANIFEST.validate_json(text)
    except ValidationError as err:
        problems = [
            f"{'.'.join(str(part) for part in error['loc']) or 'top level'}: {error['msg']}"
            for error in err.errors(include_url=False)
        ]
        raise BundleError(str(file), "; ".join(problems)) from err
    if problems := list(inconsistencies(manifest)):
        raise BundleError(str(file), "; ".join(problems))
    return manifest


def _calibration(doc: CalibrationDoc) -> ChannelCalibration:
    answers = doc.answers or AnswersDoc()
    tables: dict[str, ConformalTable] = {}
    for name in CONFORMAL_TABLES if doc.conformal else ():
        if scores := getattr(doc.conformal, name):
            tables[name] = ConformalTable(scores)
    return ChannelCalibration(
        llr=doc.llr,
        leg=doc.leg,
        technology_answers=answers.technology,
        generator_answers=answers.generator,
        false_alarms=doc.false_alarms,
        exposure=doc.exposure,
        **tables,
    )


def _read_graph(folder: Path, name: str, graph: GraphSpec) -> bytes:
    file = folder / graph.file
    data = _read(file, MAX_GRAPH_BYTES)
    actual = hashlib.sha256(data).hexdigest()
    if actual != graph.sha256:
        raise BundleError(
            str(file), f"graphs.{name}.sha256: {MANIFEST_FILE} says {graph.sha256}, it is {actual}"
        )
    try:
        external = has_external_data(data)
    except NotOnnxError as err:
        raise BundleError(str(file), f"graphs.{name}.file: not an ONNX model: {err}") from err
    if external:
        raise BundleError(
            str(file), f"graphs.{name}.file: it keeps tensors in other files; export it as one file"
        )
    return data


def _read(file: Path, max_bytes: int) -> bytes:
    try:
        if not file.is_file():
            raise BundleError(str(file), "there is no such file")
        size = file.stat().st_size
        if size > max_bytes:
            raise BundleError(str(file), f"{size} bytes; at most {max_bytes} are allowed")
        with file.open("rb") as stream:
            data = stream.read(max_bytes + 1)
    except OSError as err:
        raise BundleError(str(file), f"cannot be read: {err.strerror}") from err
    if len(data) > max_bytes:
        raise BundleError(str(file), f"more than {max_bytes} bytes")
    return data
