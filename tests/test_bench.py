"""The bench: one object in the agreed shape, ratios against a baseline of the same run."""

from __future__ import annotations

import importlib.util
import json

import pytest

from streamguard.cli import main
from streamguard.resources import packaged_bundles

STAGES = {"front_end", "detector_hop", "detector_head", "attribution_hop", "attribution_head"}


@pytest.mark.skipif(
    not {"cnn_lstm", "lava"} <= set(packaged_bundles()), reason="the default bundles are not here"
)
def test_the_bench_prints_one_object_with_ratios_of_what_it_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["bench", "--json", "--seconds", "0.2"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    report = json.loads(line)
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
