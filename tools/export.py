"""Assemble a bundle from a trained checkpoint and what was calibrated on its graphs.

    python -m tools.export SYSTEM --run runs/SYSTEM [--checkpoint FILE] [--out models/SYSTEM/bundle]

The run folder holds ``fragment.yaml`` (``name, version, task, licence, trained_on, calibration,
thresholds, metrics``, and under ``graphs`` the sha256 of every graph that was calibrated) and
``CARD.md``. ``models/SYSTEM/network.py`` offers ``build(recipe[, labels])`` and ``graphs(model)``.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import yaml

from streamguard.errors import StreamguardError
from tools.bundle_writer import BundleDraft, GraphSpec, read_document, write_bundle
from tools.training import load_checkpoint

MODELS = Path(__file__).parent.parent / "models"
_DRAFT_KEYS = (
    "name",
    "version",
    "task",
    "licence",
    "trained_on",
    "calibration",
    "thresholds",
    "metrics",
)


class ExportError(StreamguardError):
    """A run folder does not hold what a bundle needs."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")


def trained_model(system: str, state: Mapping[str, Any]) -> torch.nn.Module:
    """The network of a checkpoint, in evaluation mode."""
    network = network_module(system)
    labels = state.get("labels")
    model: torch.nn.Module = (
        network.build(state["recipe"], labels) if labels else network.build(state["recipe"])
    )
    model.load_state_dict(state["model"])
    return model.eval()


def network_module(system: str) -> ModuleType:
    """``models.<system>.network``."""
    return importlib.import_module(f"models.{system}.network")


def read_fragment(path: Path) -> dict[str, Any]:
    """``fragment.yaml`` of a run; raises ExportError naming what is missing or unknown."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as err:
        raise ExportError(path, f"not readable YAML ({err})") from err
    if not isinstance(content, dict):
        raise ExportError(path, "must be a mapping")
    missing = [key for key in (*_DRAFT_KEYS, "graphs") if key not in content]
    unknown = [key for key in content if key not in (*_DRAFT_KEYS, "graphs")]
    if missing or unknown:
        raise ExportError(path, f"missing keys {missing}, unknown keys {unknown}")
    return content


def export(system: str, checkpoint: Path, fragment: Path, card: Path, out: Path) -> Path:
    """Write the bundle; raises ExportError if other graphs were calibrated than these."""
    state = load_checkpoint(checkpoint)
    content = read_fragment(fragment)
    labels = state.get("labels") or {"technology": (), "generator": ()}
    draft = BundleDraft(
        **{key: content[key] for key in _DRAFT_KEYS},
        technology=labels["technology"],
        generator=labels["generator"],
    )
    text = card.read_text(encoding="utf-8")
    specs: tuple[GraphSpec, ...] = network_module(system).graphs(trained_model(system, state))
    folder = write_bundle(draft, specs, state["recipe"], text, out, content["graphs"])
    for name, graph in read_document(folder)["graphs"].items():
        size = (folder / graph["file"]).stat().st_size
        print(f"{folder}: {name} {size / 1e6:.2f} MB sha256 {graph['sha256']}")
    return folder


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write a bundle.", prog="python -m tools.export")
    parser.add_argument("system", help="a folder of models/, e.g. lava")
    parser.add_argument("--run", type=Path, help="run folder (default: runs/SYSTEM)")
    parser.add_argument("--checkpoint", type=Path, help="default: RUN/heads.pt or RUN/best.pt")
    parser.add_argument("--out", type=Path, help="default: models/SYSTEM/bundle")
    options = parser.parse_args(arguments)
    run = options.run or Path("runs") / options.system
    candidates = [options.checkpoint] if options.checkpoint else [run / "heads.pt", run / "best.pt"]
    checkpoint = next((path for path in candidates if path.is_file()), candidates[-1])
    out = options.out or MODELS / options.system / "bundle"
    try:
        export(options.system, checkpoint, run / "fragment.yaml", run / "CARD.md", out)
    except (StreamguardError, OSError, ModuleNotFoundError) as err:
        print(err, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
