"""Tables of held-out scores keep their promise, thinned or not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamguard.verdict.calibration import ConformalTable
from tools.calibration.conformal import (
    ALPHA,
    choose_alpha,
    conformal_table,
    left_out_p_values,
    p_values,
)


@given(st.integers(1, 400), st.integers(1, 60))
def test_a_table_of_any_size_gives_p_values_that_are_at_least_uniform(
    count: int, size: int
) -> None:
    """A new score has each rank among count + 1 with equal probability; take all of them."""
    table = conformal_table(np.arange(1.0, count + 1), size)
    every = p_values(table, np.arange(0.5, count + 1.5))
    for p in np.unique(every):
        assert np.mean(every <= p) <= p + 1e-12


def test_few_scores_are_kept_and_many_are_thinned_evenly() -> None:
    assert conformal_table(np.array([3.0, 1.0, 2.0])) == [1.0, 2.0, 3.0]
    table = conformal_table(np.arange(5000.0), 99)
    assert len(table) == 99
    assert np.ptp(np.diff(table)) <= 1.0


def test_tables_are_read_as_the_daemon_reads_them() -> None:
    rng = np.random.default_rng(0)
    table = conformal_table(rng.standard_normal(300))
    scores = np.concatenate((rng.standard_normal(50), table[:5]))
    daemon = ConformalTable(tuple(table))
    assert p_values(table, scores).tolist() == [daemon.p_value(x) for x in scores]


def test_points_far_out_get_small_p_values_and_exchangeable_ones_do_not() -> None:
    rng = np.random.default_rng(1)
    table = conformal_table(rng.standard_normal(2000))
    assert p_values(table, np.array([8.0])) == pytest.approx(1 / 201)
    assert np.mean(p_values(table, rng.standard_normal(4000)) < 0.01) == pytest.approx(
        0.01, abs=0.006
    )


def test_a_source_is_judged_by_all_others() -> None:
    """Alone in the table, a source that is far from all others loses all its windows."""
    scores = np.concatenate((np.linspace(0, 1, 150), np.linspace(5, 6, 50)))
    left_out = left_out_p_values(scores, ["a"] * 75 + ["b"] * 75 + ["far"] * 50)
    assert (left_out[150:] == 1 / 151).all()
    assert left_out[:150].min() > 0.2
    assert (left_out_p_values(scores, ["one"] * 200) == 1.0).all(), "there are no others"


def test_alpha_gives_way_to_coverage() -> None:
    uniform = (np.arange(1000) + 1) / 1000
    assert choose_alpha(uniform) == ALPHA
    hopeless = np.concatenate((np.full(60, 0.001), uniform[60:]))
    assert choose_alpha(hopeless) is None, "rather nothing rejected than a source lost"
