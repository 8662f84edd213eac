"""What users read by machine: the objects of ``demo --json`` and ``bench --json``."""

from __future__ import annotations

import json

import pytest

from streamguard.demo.legs import Truth
from streamguard.demo.report import DemoReport, exact_quantiles
from streamguard.verdict.scores import State
from tests.bench.test_report import needs_bundles, short_bench
from tests.demo.test_report import outcome

pytestmark = pytest.mark.timeout(120)  # the bench may be run for them

QUANTILES = {"p50", "p95", "p99"}
TARGET = {"requested", "effective", "cpu_ms_per_window", "latency_ms", "stages"}
WAYS = {"detection", "attribution", "cascade", "default_pair"}
CAPACITY = {"engine_legs", "rtp_legs", "budget_ms", "cores"}


def test_demo_json_is_one_object_of_the_agreed_shape() -> None:
    latency = exact_quantiles([0.1, 0.2])
    report = DemoReport((outcome(Truth.SYNTHETIC, State.SPOOF, 6.0),), latency, latency, 0.1, 0.02)
    found = json.loads(json.dumps(report.as_dict()))
    assert found.keys() == {"legs", "latency_ms", "realtime_factor", "cpu_per_leg"}
    assert found["latency_ms"].keys() == {"verdict", "subscriber"}
    assert all(part.keys() == QUANTILES for part in found["latency_ms"].values())
    (leg,) = found["legs"]
    assert leg.keys() == {"name", "truth", "verdict", "windows", "alerts"}
    assert leg["verdict"].keys() == {"state", "llr", "p_spoof", "technology", "generator"}
    assert leg["windows"].keys() == {"scored", "rejected"}
    assert isinstance(leg["alerts"], list)
    for number in ("realtime_factor", "cpu_per_leg"):
        assert isinstance(found[number], float)


@needs_bundles
def test_bench_json_is_one_object_of_the_agreed_shape() -> None:
    bench = short_bench()
    assert bench.keys() >= {"machine", "versions", "targets", "ratios", "capacity"}
    assert "reference" in bench["targets"]
    for name, target in bench["targets"].items():
        if name == "reference" and "why_not_measured" in target:
            continue
        assert target.keys() >= TARGET, name
        assert target["latency_ms"].keys() == QUANTILES, name
        assert target["stages"], name
    measured = set(bench["targets"]) - {"reference"}
    assert all("mb_per_leg" in bench["targets"][name] for name in measured)
    assert bench["ratios"].keys() == WAYS
    for ratios in bench["ratios"].values():
        assert ratios.keys() <= measured


@needs_bundles
def test_a_capacity_that_was_not_measured_is_null_and_says_so() -> None:
    bench = short_bench()
    capacity = bench["capacity"]
    assert capacity.keys() >= CAPACITY | {"why_not_measured"}
    assert (capacity["engine_legs"], capacity["rtp_legs"]) == (None, None)
    assert "--no-capacity" in capacity["why_not_measured"]
    assert capacity["budget_ms"] == 150
    assert capacity["cores"] == bench["machine"]["cores"]
