from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamguard.telemetry.latency import LatencyBook, Quantiles, QuantileTracker, Stage


def test_quantiles_are_within_two_and_a_half_percent_of_the_true_ones() -> None:
    rng = np.random.default_rng(1)
    values = rng.lognormal(math.log(0.03), 0.6, 1500)
    tracker = QuantileTracker()
    for value in values:
        tracker.add(float(value))
    found = tracker.quantiles()
    assert found is not None
    assert found.count == 1500
    for q, got in ((50, found.p50), (95, found.p95), (99, found.p99)):
        true = float(np.percentile(values, q, method="inverted_cdf"))
        assert got == pytest.approx(true, rel=0.025)


def test_nothing_observed_gives_no_quantiles() -> None:
    assert QuantileTracker().quantiles() is None
    assert LatencyBook().quantiles(Stage.VERDICT) is None
    assert LatencyBook().as_ms() == {}


def test_an_old_incident_is_forgotten() -> None:
    tracker = QuantileTracker(window=100)
    for _ in range(100):
        tracker.add(5.0)
    for _ in range(201):
        tracker.add(0.01)
    found = tracker.quantiles()
    assert found is not None
    assert found.p99 < 0.011


def test_memory_does_not_grow_with_observations() -> None:
    tracker = QuantileTracker(window=10)
    sizes = set()
    for index in range(1000):
        tracker.add(index / 100)
        sizes.add(sys.getsizeof(tracker._new) + sys.getsizeof(tracker._old))
    assert len(sizes) == 1
    found = tracker.quantiles()
    assert found is not None
    assert found.count <= 20


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=50))
def test_any_float_is_counted_and_quantiles_are_ordered(values: list[float]) -> None:
    tracker = QuantileTracker()
    for value in values:
        tracker.add(value)
    found = tracker.quantiles()
    assert found is not None
    assert found.count == len(values)
    assert 0 < found.p50 <= found.p95 <= found.p99 < 200


def test_milliseconds_are_what_payloads_carry() -> None:
    assert Quantiles(3, 0.0105, 0.02, 1.5).as_ms() == {"p50": 10.5, "p95": 20.0, "p99": 1500.0}


def test_stages_are_kept_apart() -> None:
    book = LatencyBook()
    book.add(Stage.QUEUE, 0.001)
    book.add(Stage.VERDICT, 0.1)
    assert list(book.as_ms()) == ["queue", "verdict"]
    assert book.as_ms()["verdict"]["p50"] == pytest.approx(100, rel=0.025)


def test_a_window_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        QuantileTracker(window=0)
