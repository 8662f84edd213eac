"""The bench: one object in the agreed shape, ratios against baselines of the same run."""

from __future__ import annotations

import functools
import importlib.util
import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from streamguard.bench.plot import plot_report
from streamguard.bench.stages import MEANING
from streamguard.bench.target import SAME_ENCODER, SAME_HEADS
from streamguard.inference.pair import DEFAULT_ATTRIBUTION, DEFAULT_DETECTOR
from streamguard.resources import packaged_bundles
from tests.commands.cli import streamguard

PAIR = {"gate", "features_encoder", "heads"} | {
    "attribution_features_encoder",
    "attribution_heads",
}

needs_bundles = pytest.mark.skipif(
    not {DEFAULT_DETECTOR, DEFAULT_ATTRIBUTION, "lava"} <= set(packaged_bundles()),
    reason="the default bundles are not here",
)
pytestmark = [needs_bundles, pytest.mark.timeout(120)]


def _fake_baseline() -> object:
    return np.linalg.svd(np.ones((100, 100)))


@functools.cache
def short_bench() -> dict[str, Any]:
    """One short run for every test that reads it: it takes seconds.

    The second baseline is a fake here: exporting its networks takes longer than all the rest.
    """
    with mock.patch("streamguard.bench.baselines._onnx", return_value=_fake_baseline):
        done = streamguard("bench", "--json", "--seconds", "0.1", "--no-capacity")
    assert done.code == 0, done.err
    return done.json()


def test_the_bench_prints_one_object_with_ratios_of_what_it_measured() -> None:
    report = short_bench()
    target, reference = report["targets"]["cpu-fp32"], report["targets"]["reference"]
    assert set(target["stages"]) == MEANING.keys() | {SAME_ENCODER, SAME_HEADS}
    assert target["requested"] == target["effective"]
    whole = sum(target["stages"][name]["cpu_ms"] for name in PAIR)
    assert target["cpu_ms_per_window"] == pytest.approx(whole, rel=0.01)
    if importlib.util.find_spec("torch") is None:
        assert "train" in reference["why_not_measured"]
        assert report["ratios"]["attribution"] == {}
        return
    for baseline, ratios in (
        (reference, report["ratios"]),
        (report["baselines"]["ort_full_window"], report["ratios_to_ort_full_window"]),
    ):
        for way, cpu_ms in target["ways_cpu_ms"].items():
            ratio = baseline["cpu_ms_per_window"] / cpu_ms
            assert ratios[way]["cpu-fp32"] == pytest.approx(ratio, rel=0.01, abs=0.01), way


def test_every_stage_says_what_is_in_it_and_names_who_ran() -> None:
    target = short_bench()["targets"]["cpu-fp32"]
    assert all(stage["what"] for stage in target["stages"].values())
    assert target["bundles"]["detector"]["name"] == DEFAULT_DETECTOR
    assert all(len(bundle["sha256"]) == 64 for bundle in target["bundles"].values())
    ways = target["ways_cpu_ms"]
    assert ways["detection"] < ways["cascade"] < ways["default_pair"]
    share = short_bench()["cascade_share"]
    attributed = ways["default_pair"] - ways["detection"]
    assert ways["cascade"] == pytest.approx(ways["detection"] + share * attributed, rel=0.01)


def test_the_picture_of_a_report_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot_report(short_bench(), tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_an_earlier_report_that_is_none_is_refused_before_anything_is_measured(
    tmp_path: Path,
) -> None:
    path = tmp_path / "earlier.json"
    path.write_text(json.dumps({"targets": {}}))
    done = streamguard("bench", "--compare", str(path))
    assert done.code == 1
    assert "is not a report" in done.err


@pytest.mark.parametrize(
    "wrong",
    [
        ("--attributed-share", "1.5"),
        ("--latency-budget-ms", "0"),
        ("--seconds", "soon"),
        ("--plot", "x.txt"),
        ("--plot", "x.png", "--source", "rtp"),
        ("--compare", "x.json", "--source", "rtp"),
        ("--ingest-only",),
    ],
)
def test_options_that_make_no_sense_are_refused(wrong: tuple[str, ...]) -> None:
    done = streamguard("bench", *wrong)
    assert done.code == 2
    assert wrong[0] in done.err
    assert "_" not in done.err.splitlines()[-1]  # no name of ours in the place of a reason
