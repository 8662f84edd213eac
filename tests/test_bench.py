"""The bench: one object in the agreed shape, ratios against a baseline of the same run."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import pytest

from streamguard.inference.pair import DEFAULT_ATTRIBUTION, DEFAULT_DETECTOR
from streamguard.resources import packaged_bundles
from tests.commands.cli import streamguard

PAIR = {"front_end", "detector_hop", "detector_head", "attribution_hop", "attribution_head"}
SAME_NETWORKS = {"same_networks_hop", "same_networks_head"}

needs_bundles = pytest.mark.skipif(
    not {DEFAULT_DETECTOR, DEFAULT_ATTRIBUTION, "lava"} <= set(packaged_bundles()),
    reason="the default bundles are not here",
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
    assert set(target["stages"]) == PAIR | SAME_NETWORKS
    assert target["requested"] == target["effective"]
    whole = sum(target["stages"][name]["cpu_ms"] for name in PAIR)
    assert target["cpu_ms_per_window"] == pytest.approx(whole, rel=0.01)
    if importlib.util.find_spec("torch") is None:
        assert "train" in reference["why_not_measured"]
        assert report["ratios"]["attribution"] == {}
    else:
        ratio = reference["cpu_ms_per_window"] / target["ways_cpu_ms"]["attribution"]
        assert report["ratios"]["attribution"]["cpu-fp32"] == pytest.approx(ratio, rel=0.01)


@needs_bundles
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_bench_of_rtp_counts_every_packet_that_it_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streamguard.bench_rtp._most_legs", lambda: 2)
    done = streamguard("bench", "--source", "rtp", "--ingest-only", "--seconds", "1", "--json")
    assert done.code == 0, done.err
    capacity = done.json()["capacity"]
    rtp = capacity["rtp"]
    trial = rtp["best"] or rtp["first_harmed"]
    assert 2 * 25 < trial["sent"] <= 2 * 50  # legs begin within half a second
    assert capacity["rtp_legs"] == (rtp["best"]["legs"] if rtp["best"] else 0)
    assert rtp["path"].startswith("ingest only")
    assert trial["windows_scored"] == 0
    assert capacity["budget_ms"] == 500
