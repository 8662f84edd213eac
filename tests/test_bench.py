"""The bench: one object in the agreed shape, ratios against a baseline of the same run."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import pytest

from streamguard.resources import packaged_bundles
from tests.commands.cli import streamguard

STAGES = {"front_end", "detector_hop", "detector_head", "attribution_hop", "attribution_head"}

needs_bundles = pytest.mark.skipif(
    not {"cnn_lstm", "lava"} <= set(packaged_bundles()), reason="the default bundles are not here"
)


@functools.cache
def short_bench() -> dict[str, Any]:
    """One short run for every test that reads it: it takes seconds."""
    done = streamguard("bench", "--json", "--seconds", "0.2")
    assert done.code == 0, done.err
    return done.json()


@needs_bundles
def test_the_bench_prints_one_object_with_ratios_of_what_it_measured() -> None:
    report = short_bench()
    target, reference = report["targets"]["cpu-fp32"], report["targets"]["reference"]
    assert set(target["stages"]) == STAGES
    assert target["requested"] == target["effective"]
    whole = sum(stage["cpu_ms"] for stage in target["stages"].values())
    assert target["cpu_ms_per_window"] == pytest.approx(whole, rel=0.01)
    if importlib.util.find_spec("torch") is None:
        assert "train" in reference["why_not_measured"]
        assert report["ratios"]["attribution"] == {}
    else:
        ratio = reference["cpu_ms_per_window"] / target["ways_cpu_ms"]["attribution"]
        assert report["ratios"]["attribution"]["cpu-fp32"] == pytest.approx(ratio, rel=0.01)
