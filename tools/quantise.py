"""A bundle in int8: ``python -m tools.quantise BUNDLE --data D``, the last step before evaluation.

Static quantisation of the graph that runs on every hop (the head stays fp32: its input is a sum of
six hops), calibrated on training clips as the daemon's front end gives them; then the int8 graph's
own calibration, on the calibration split; then the comparison with fp32 on the validation split.

The bundle changes only if the int8 answers are accepted: the 95 % interval (whole sources drawn
anew) of every difference in EER or accuracy within half a point. Otherwise exit code 1; ``--keep``
then writes graph, calibration and figures all the same, but ``engine: auto`` will not take them.

``--signed`` makes a graph as TensorRT asks for (target ``tensorrt-int8``), in place of the one
that is fastest on a CPU; its calibration and comparison are made on the CPU all the same.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from streamguard.errors import BundleError
from streamguard.inference.bundle import find_bundle, load_bundle
from streamguard.inference.schema import AcceptanceDoc
from tools.bundle_writer import add_graph, replace_folder, update_document
from tools.calibrate import calibrate
from tools.calibration.attribution import Promise
from tools.command import run
from tools.data import (
    DEFAULT_SPLIT,
    AudioCache,
    Clip,
    chosen_corpus,
    corpus_options,
    speech_of,
)
from tools.ood import drawn
from tools.quantisation.compare import accept_attributor, accept_detector
from tools.quantisation.graph import MOST_DAMAGE, Quantised, quantise
from tools.quantisation.rows import service_rows
from tools.train import DEFAULT_CACHE

PRECISION = "int8"


def add_int8(
    folder: Path,
    clips: Sequence[Clip],
    cache: AudioCache,
    most_damage: float = MOST_DAMAGE,
    *,
    signed: bool = False,
) -> Quantised:
    """Put the int8 graph into the bundle, calibrated on these clips of training sources.

    Raises BundleError if no node is worth it.
    """
    bundle = load_bundle(folder)
    body = bundle.choose("fp32").body
    graph = bundle.manifest.graphs[body]
    carried = frozenset(state.target for state in graph.state)
    try:
        rows = service_rows(bundle, clips, cache)
        made = quantise(bundle.read_graph(body), rows, carried, most_damage, signed=signed)
    except ValueError as err:
        raise BundleError(str(folder), f"graphs.{body}: {err}") from err
    add_graph(folder, f"{graph.unit}_{PRECISION}", made.data, body, PRECISION)
    return made


def accept(folder: Path, clips: Sequence[Clip], cache: AudioCache) -> AcceptanceDoc:
    """Compare on validation clips, and write what came out into the bundle."""
    if load_bundle(folder).manifest.task == "detection":
        found = accept_detector(folder, clips, cache)
    else:
        found = accept_attributor(folder, clips, cache)
    update_document(folder, {"acceptance": {PRECISION: asdict(found)}})
    return found


def _say(made: Quantised, found: AcceptanceDoc) -> None:
    for one in made.candidates:
        told = "int8" if one.chosen else "stays fp32"
        print(f"{one.node} ({one.operator}, {one.products:,} products): "
              f"damage {one.damage:.4f}, {told}")  # fmt: skip
    print(f"all int8 nodes together: damage {made.damage:.4f}")
    for name, apart in found.differences.items():
        print(f"{name}: {100 * apart.value:+.2f} points, 95 % [{100 * apart.low:+.2f}, "
              f"{100 * apart.high:+.2f}], allowed +-{100 * found.allowed:.1f}")  # fmt: skip
    if found.median_llr_difference is not None:
        print(f"median |LLR difference| of a window: {found.median_llr_difference:.3f}")
        print(f"verdicts that differ: {found.flips} of {found.legs} pseudo-legs")
    else:
        print(f"windows with other labels: {found.flips} of {found.windows}")
    print("accepted" if found.accepted else "NOT accepted")


def main(argv: Sequence[str] | None = None) -> int:
    """Quantise, calibrate and compare; the bundle changes at the end or not at all."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        prog="python -m tools.quantise",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", help="folder, or the name of a packaged bundle")
    corpus_options(parser)
    parser.add_argument("--split", type=Path, default=DEFAULT_SPLIT)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="decoded audio")
    parser.add_argument("--per-class", type=int, default=2, help="training clips of a generator")
    parser.add_argument(
        "--most-damage",
        type=float,
        default=MOST_DAMAGE,
        help="of all int8 nodes together: change of what the graph says, by its deviation",
    )
    parser.add_argument(
        "--keep", action="store_true", help="write the bundle even if int8 is not accepted"
    )
    parser.add_argument("--signed", action="store_true", help="symmetric bytes, for TensorRT")
    options = parser.parse_args(argv)
    folder = find_bundle(options.bundle)
    manifest = load_bundle(folder).manifest
    if not manifest.calibration.get("fp32"):
        raise BundleError(str(folder), "calibration.fp32: calibrate the bundle first")
    corpus = chosen_corpus(options)
    cache = AudioCache.open(corpus.root, options.cache, corpus.clips)
    roles = {
        role: speech_of(corpus, role, options.split)
        for role in ("train", "calibration", "validation")
    }
    if manifest.task == "attribution":
        roles["train"] = [clip for clip in roles["train"] if clip.spoof]
    thresholds = manifest.thresholds
    promise = Promise(thresholds.technology or 0.0, thresholds.generator or 0.0)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        work = Path(temporary) / folder.name
        shutil.copytree(folder, work)
        clips = drawn(roles["train"], options.per_class)
        made = add_int8(work, clips, cache, options.most_damage, signed=options.signed)
        update_document(work, calibrate(work, roles["calibration"], cache, promise, PRECISION))
        found = accept(work, roles["validation"], cache)
        _say(made, found)
        if found.accepted or options.keep:
            replace_folder(work, folder, Path(temporary) / "replaced")
            print(f"{folder}: {PRECISION} written")
    return 0 if found.accepted or options.keep else 1


if __name__ == "__main__":
    raise SystemExit(run(main))
