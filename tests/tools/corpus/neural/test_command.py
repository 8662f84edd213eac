"""``train-codec`` and ``copy --network`` together, on a small collection."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.corpus.__main__ import main
from tools.data import read_manifest
from tools.training import load_checkpoint

pytestmark = pytest.mark.train


def test_a_network_that_learned_nothing_makes_copies_that_are_thrown_away(
    collection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = collection.parent
    shared = ["--data", str(collection), "--split", str(root / "split.yaml"), "--workers", "1"]
    shared += ["--cache", str(root / "cache")]
    run = root / "run"
    assert main(["train-codec", *shared, "--run", str(run), "--steps", "1"]) == 0
    assert main(["train-codec", *shared, "--run", str(run), "--steps", "1", "--resume"]) == 0
    assert "trained to step 1" in capsys.readouterr().out
    assert load_checkpoint(run / "last.pt")["step"] == 1
    network = ["--methods", "lpc", "--network", str(run / "last.pt"), "--per-clip", "2"]
    assert main(["copy", *shared, "--out", str(root / "out"), *network]) == 0
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["neural_codec", "0", "2"] in [row[:3] for row in table]
    assert {clip.generator for clip in read_manifest(root / "out" / "manifest.csv")} == {"lpc"}
