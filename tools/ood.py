"""How far a window is from what a network was trained on; puts that score into a bundle.

    python -m tools.ood BUNDLE --data D

The head of the bundle must give ``embedding``. Windows of the training split go through the
bundle's own graphs, over every line that it will be calibrated for; :class:`DistanceOod` is fitted
on them and grafted onto the head as its output ``ood``. Calibrate the bundle afterwards.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.compose
import torch
from sklearn.covariance import ledoit_wolf
from torch import Tensor, nn

from streamguard.audio.frontend import FrontEnd
from streamguard.audio.settings import GateSettings
from streamguard.errors import BundleError
from streamguard.inference.bundle import find_bundle, load_bundle
from streamguard.inference.network import Network
from streamguard.inference.ort import OrtEngine
from streamguard.inference.target import load_target
from tools.bundle_writer import GraphSpec, TensorSpec, export_graph, replace_graph
from tools.command import run
from tools.data import (
    DEFAULT_SPLIT,
    AudioCache,
    Clip,
    DataError,
    chosen_corpus,
    corpus_options,
    read_split,
)
from tools.progress import track
from tools.scoring import LINES, LOW_RATE_LINE, blocks, codec_of, over
from tools.train import DEFAULT_CACHE

if TYPE_CHECKING:
    import numpy.typing as npt

    from streamguard.inference.network import Row

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

MEANING = "Mahalanobis distance from the training data; higher is farther"
_WINDOW_HOPS = 6


class DistanceOod(nn.Module):
    """``embedding [batch, E]`` to ``ood [batch, 1]``: squared Mahalanobis distance.

    To the nearest class mean, under a covariance that the classes share (Lee et al., NeurIPS 2018);
    ``relative``: less that to the mean of all under the covariance of all (Ren et al. 2021), so
    that what is merely an unusual voice or room, far from everything, is not strange; but nothing
    is then that differs only where no two classes do. Covariances are shrunk (Ledoit and Wolf
    2004), so E may be large for the data.
    """

    centre: Tensor
    whiten_class: Tensor
    whiten_all: Tensor
    means: Tensor

    def __init__(self, size: int, classes: int, *, relative: bool = False) -> None:
        super().__init__()
        self.relative = relative
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("whiten_class", torch.eye(size))
        self.register_buffer("whiten_all", torch.eye(size))
        self.register_buffer("means", torch.zeros(classes, size))

    @classmethod
    def fit(
        cls, embeddings: npt.NDArray[np.floating], labels: Ints, *, relative: bool = False
    ) -> DistanceOod:
        """From training windows ``[n, E]`` and their classes ``[n]`` (any integers).

        Raises ValueError without two classes or with fewer windows than classes and two.
        """
        x = np.asarray(embeddings, np.float64)
        kinds, rows = np.unique(labels, return_inverse=True)
        if len(kinds) < 2 or len(x) < len(kinds) + 2:
            raise ValueError(f"{len(x)} windows of {len(kinds)} classes are too few to fit on")
        centre = x.mean(axis=0)
        x = x - centre
        means = np.stack([x[rows == row].mean(axis=0) for row in range(len(kinds))])
        whiten = _whitening(x - means[rows])
        module = cls(x.shape[1], len(kinds), relative=relative)
        for buffer, values in (
            (module.centre, centre),
            (module.whiten_class, whiten),
            (module.whiten_all, _whitening(x)),
            (module.means, means @ whiten),
        ):
            buffer.copy_(torch.from_numpy(values.astype(np.float32)))
        return module

    def forward(self, embedding: Tensor) -> Tensor:
        centred = embedding - self.centre
        apart = (centred @ self.whiten_class)[:, None] - self.means
        nearest = apart.square().sum(dim=2).min(dim=1, keepdim=True).values
        if not self.relative:
            return nearest
        return nearest - (centred @ self.whiten_all).square().sum(dim=1, keepdim=True)


def _whitening(centred: Floats) -> Floats:
    """``[E, E]``: rows times it have about the identity for a covariance.

    Dimensions that never move are left out, as they say nothing of what was seen.
    """
    covariance, _ = ledoit_wolf(centred, assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    scale = np.where(values > 1e-9 * values.max(), 1 / np.sqrt(np.maximum(values, 1e-30)), 0.0)
    whitening: Floats = vectors * scale
    return whitening


def graft(head: bytes, distance: DistanceOod) -> bytes:
    """The head graph with one output more, ``ood``, computed from its ``embedding``."""
    model = onnx.load_from_string(head)
    if "ood" in {output.name for output in model.graph.output}:
        raise ValueError("the head has an output ood already: export the bundle anew")
    spec = GraphSpec(
        name="ood",
        module=distance,
        unit="head",
        inputs=(TensorSpec("embedding", tuple(distance.centre.shape)),),
        outputs=(TensorSpec("ood", (1,)),),
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ood.onnx"
        export_graph(spec, file)
        extra = onnx.compose.add_prefix(onnx.load(file), "ood_", rename_outputs=False)
    merged = onnx.compose.merge_models(
        model,
        extra,
        io_map=[("embedding", "ood_embedding")],
        outputs=[*(output.name for output in model.graph.output), "ood"],
    )
    onnx.checker.check_model(merged)
    data: bytes = merged.SerializeToString(deterministic=True)
    return data


def embeddings(network: Network, clips: Sequence[Clip], cache: AudioCache, line: str) -> Floats:
    """``[clips, E]``: one window each, of its first six hops of speech; NaN where it has none."""
    gate = GateSettings()
    found = []
    for number, clip in enumerate(track(clips, f"embedding, {line}", len(clips))):
        front_end = FrontEnd("clip", network.left_context, gate)
        parts: list[Row] = []
        state = network.fresh_state()
        heard = over(line, cache.samples(clip), number)
        for block in blocks(*heard, codec=codec_of(line, number)):
            for hop in front_end.process(block):
                # As in the daemon, a whole window holds the pauses that follow.
                wanted = hop.usable or (network.whole_window and parts)
                if wanted and len(parts) < _WINDOW_HOPS:
                    (output,) = network.hops([np.concatenate((hop.context, hop.samples))], [state])
                    state = output.state
                    parts.append(output.parts)
        found.append(network.windows([parts])[0]["embedding"] if parts else None)
    size = next((len(row) for row in found if row is not None), 0)
    return np.array([np.full(size, np.nan) if row is None else row for row in found], np.float64)


def class_of(clip: Clip) -> str:
    """Generators are clusters of their own; human speech is one."""
    return f"{clip.technology}/{clip.generator}"


def add_ood(
    folder: Path, clips: Sequence[Clip], cache: AudioCache, per_class: int, *, relative: bool
) -> None:
    """Fit on training clips, at most ``per_class`` of each class, and write the bundle.

    Every head gets the same distance, that of the fp32 embedding; its tables are its own.
    """
    bundle = load_bundle(folder)
    heads = {n: graph for n, graph in bundle.manifest.graphs.items() if graph.unit != "hop"}
    for name, graph in heads.items():
        names = {tensor.name for tensor in graph.outputs}
        if "embedding" not in names or "ood" in names:
            reason = f"graphs.{name}.outputs: an embedding is needed, and no ood as yet"
            raise BundleError(str(folder), reason)
    network = Network(bundle, OrtEngine(bundle, load_target("cpu-fp32")))
    chosen = drawn(clips, per_class)
    kinds = sorted({class_of(clip) for clip in chosen})
    x, labels = [], []
    for line in (*LINES, LOW_RATE_LINE):
        x.append(embeddings(network, chosen, cache, line))
        labels += [kinds.index(class_of(clip)) for clip in chosen]
    network.close()
    seen = np.concatenate(x)
    spoken = np.isfinite(seen).all(axis=1)
    try:
        distance = DistanceOod.fit(seen[spoken], np.array(labels)[spoken], relative=relative)
    except ValueError as err:
        raise BundleError(str(folder), str(err)) from err
    for name in heads:
        head = graft(bundle.read_graph(name), distance)
        replace_graph(folder, name, head, (TensorSpec("ood", (1,), MEANING),))


def drawn(clips: Sequence[Clip], per_class: int) -> list[Clip]:
    """At most so many of each class, the same on every machine; classes of one clip are left out.

    They have no spread, and would be a class mean at a single voice.
    """
    rng = np.random.default_rng(0)
    groups: dict[str, list[Clip]] = {}
    for clip in clips:
        groups.setdefault(class_of(clip), []).append(clip)
    return [
        members[place]
        for members in groups.values()
        if len(members) > 1
        for place in np.sort(rng.permutation(len(members))[:per_class])
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Add ``ood`` to a bundle in place."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tools.ood")
    parser.add_argument("bundle", help="folder, or the name of a packaged bundle")
    corpus_options(parser)
    parser.add_argument("--split", type=Path, default=DEFAULT_SPLIT)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="decoded audio")
    parser.add_argument(
        "--relative", action="store_true", help="less the distance from speech in general"
    )
    parser.add_argument("--per-class", type=int, default=40, help="training clips of a generator")
    options = parser.parse_args(argv)
    corpus = chosen_corpus(options)
    cache = AudioCache.open(corpus.root, options.cache, corpus.clips)
    folder = find_bundle(options.bundle)
    manifest = load_bundle(folder).manifest
    # An attribution network is asked whether a window is of a generator that it can name.
    listed = {(label.technology, label.name) for label in manifest.labels.generator}
    chosen = [
        clip
        for clip in corpus.select("train", read_split(options.split))
        if clip.speech
        and (manifest.task == "detection" or (clip.technology, clip.generator) in listed)
    ]
    if not chosen:
        allowed = "a corpus some of whose speech is for training"
        raise DataError(corpus.root, 0, "--split", str(options.split), allowed)
    add_ood(folder, chosen, cache, options.per_class, relative=options.relative)
    print(f"{folder}: output ood added")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
