"""The same windows by several networks, in means over sources."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tools.clips import clip, speaking_collection
from tests.tools.explained import quick_saliency, run_of_chance
from tools.gallery.saliency import MAKER, Looked, main, markdown, mean_over_sources, windows
from tools.gallery.table import marks

__all__ = ["quick_saliency"]
pytestmark = [
    pytest.mark.train,
    pytest.mark.timeout(120),
    pytest.mark.usefixtures("quick_saliency"),
]
MODELS = Path(__file__).parents[3] / "models"


def test_networks_are_compared_on_the_windows_of_both_classes(tmp_path: Path) -> None:
    data = speaking_collection(tmp_path)
    page, out = tmp_path / "page.md", tmp_path / "out"
    begin, end = marks(MAKER)
    page.write_text(f"{begin}\n{end}\n")
    words = ["--data", str(data), "--split", str(data / "split.yaml"), "--out", str(out)]
    words += ["--page", str(page), "--each", "1"]
    for kind in ("lfcc", "mfcc"):
        words += ["--run", str(run_of_chance(tmp_path / "runs", kind))]
    assert main(words) == 0
    found = [json.loads(line) for line in (out / "windows.jsonl").read_text().splitlines()]
    assert [(i["features"], i["spoof"]) for i in found] == [
        ("LFCC", False),
        ("MFCC", False),
        ("LFCC", True),
        ("MFCC", True),
    ]
    linear, mel = found[:2]
    assert linear["high_bands"] == pytest.approx(0.5, abs=0.05)
    assert mel["high_bands"] < 0.35
    assert linear["speech_time"] == mel["speech_time"] > 0.5
    assert linear["others"] == mel["others"]
    assert 0.0 < linear["synthetic"] < 1.0
    text = page.read_text()
    assert "| LFCC | human, 1 (1) |" in text
    assert "| MFCC | synthetic, 1 (1) |" in text


def test_windows_are_of_every_source_and_class_and_long_enough() -> None:
    spoofed = [
        replace(clip("vits", source, number), seconds=3.0 + number)
        for source in "ab"
        for number in range(5)
    ]
    short = replace(spoofed[0], source_repo="c", seconds=1.0)
    human = replace(spoofed[0], label="bonafide", path="human.flac")
    noise = replace(spoofed[0], label="noise")
    chosen = windows([*spoofed, short, human, noise], 2)
    assert [(c.source_repo, c.label, c.seconds) for c in chosen] == [
        ("a", "spoof", 3.0),
        ("a", "spoof", 5.0),
        ("b", "spoof", 3.0),
        ("b", "spoof", 5.0),
        ("a", "bonafide", 3.0),
    ]


def test_a_mean_counts_sources_not_windows() -> None:
    items = [
        Looked("LFCC", source, "x", spoof=True, numbers={"high": value, "random_cam": None})
        for source, value in (("a", 0.1), ("a", 0.1), ("a", 0.1), ("b", 0.5))
    ]
    found = mean_over_sources(items, "high")
    assert found is not None
    mean, error = found
    assert mean == pytest.approx(0.3)
    assert error == pytest.approx(0.2)
    assert mean_over_sources(items, "random_cam") is None


def test_a_network_without_convolutions_has_no_grad_cam() -> None:
    keys = (
        "right", "high_bands", "high", "speech_time", "speech_shap", "speech_cam", "synthetic",
        "top_tenth", "others", "random_shap", "random_signed", "random_cam",
    )  # fmt: skip
    shown = dict.fromkeys(keys, 0.25) | {"speech_cam": None, "random_cam": None, "others": None}
    line = markdown([Looked("LFCC", "a", "x", spoof=False, numbers=shown)]).splitlines()[-1]
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells[:4] == ["LFCC", "human, 1 (1)", "25.0 %", "25.0 % (25.0 %)"]
    assert (cells[5], cells[8], cells[11]) == ("–", "–", "–")
