"""Scores of how known a window is."""

from __future__ import annotations

import numpy as np
import pytest

from tools.confidence import SCORERS

SURE, UNSURE = [8.0, 0.0, 0.0], [1.0, 0.9, 0.8]


@pytest.mark.parametrize("scorer", SCORERS)
def test_what_is_named_with_certainty_is_more_known_than_what_is_not(scorer: str) -> None:
    sure, unsure = SCORERS[scorer](np.array([SURE, UNSURE]))
    assert sure > unsure


def test_they_are_the_published_formulas() -> None:
    logits = np.array([[2.0, 1.0, -1.0]])
    p = np.exp(logits) / np.exp(logits).sum()
    said = {name: float(score(logits)[0]) for name, score in SCORERS.items()}
    assert said == pytest.approx(
        {
            "sme": float(np.log(np.exp(p).sum())),
            "msp": float(p.max()),
            "energy": float(np.log(np.exp(logits).sum())),
        }
    )


def test_only_energy_hears_what_is_added_to_all_logits() -> None:
    logits = np.array([SURE])
    moved = {name: score(logits + 5.0) - score(logits) for name, score in SCORERS.items()}
    assert {name: float(by[0]) for name, by in moved.items()} == pytest.approx(
        {"sme": 0.0, "msp": 0.0, "energy": 5.0}, abs=1e-12
    )
