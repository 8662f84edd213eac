"""Add fp16 graphs for GPUs to bundles, in place: ``python -m tools.half BUNDLE...``.

The head stays fp32 (tools.halving says what else does). Whoever adds a graph must calibrate it, on
a CPU with ``tools.calibrate`` and the target cpu-fp16: a window without a calibration of its own
precision is rejected.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from streamguard.inference.bundle import find_bundle
from tools.bundle_writer import add_graph, read_document
from tools.command import run
from tools.halving import halve

PRECISION = "fp16"


def add_half(folder: Path) -> list[str]:
    """Put an fp16 graph beside each fp32 graph of unit hop or window; returns their names."""
    added = []
    for name, graph in read_document(folder)["graphs"].items():
        if graph["precision"] == "fp32" and graph["unit"] != "head":
            half = f"{graph['unit']}_{PRECISION}"
            data = halve((folder / graph["file"]).read_bytes())
            add_graph(folder, half, data, like=name, precision=PRECISION)
            added.append(half)
    return added


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Add fp16 graphs to bundles.", prog="python -m tools.half"
    )
    parser.add_argument("bundle", nargs="+", help="folder, or name of a packaged bundle")
    for bundle in parser.parse_args(arguments).bundle:
        folder = find_bundle(bundle)
        for name in add_half(folder):
            print(f"{folder}: {name}: to be calibrated (tools.calibrate) before it says anything")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
