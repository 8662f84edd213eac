"""Which label is said of a window, and when none is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from streamguard.verdict.calibration import ChannelCalibration, ConformalTable
from streamguard.verdict.labels import LabelRules, label_window
from streamguard.verdict.scores import Attribution, Label, Rejection

RULES = LabelRules(
    technologies=("tts", "vc", "codec"),
    generators=("alpha", "beta", "gamma"),
    technology_of=("tts", "tts", "vc"),
    technology_floor=0.6,
    generator_floor=0.7,
)
WIDE = ConformalTable(tuple(i / 100 for i in range(100)))
"""Anything up to a nonconformity of 0.95 is ordinary."""
TIGHT = ConformalTable((0.0,) * 100)
"""Only certainty is ordinary."""


def said(
    technology: list[float],
    generator: list[float],
    tables: tuple[ConformalTable | None, ConformalTable | None] = (WIDE, WIDE),
    rules: LabelRules = RULES,
) -> Attribution:
    calibration = ChannelCalibration(technology=tables[0], generator=tables[1])
    return label_window(np.array(technology), np.array(generator), rules, calibration)


def test_a_clear_window_gets_both_labels_with_p_values() -> None:
    attribution = said([5, 0, 0], [0, 5, 0])
    assert isinstance(attribution.technology, Label)
    assert isinstance(attribution.generator, Label)
    assert (attribution.technology.label, attribution.generator.label) == ("tts", "beta")
    confidence = np.exp(5) / (np.exp(5) + 2)
    assert attribution.technology.p_value == WIDE.p_value(1 - confidence)


def test_low_confidence_rejects_the_technology_and_runs_no_generator() -> None:
    assert said([0.5, 0, 0], [0, 9, 0]) == Attribution(Rejection.LOW_CONFIDENCE, None)


def test_a_strange_technology_is_out_of_distribution() -> None:
    assert said([2, 0, 0], [0, 9, 0], (TIGHT, WIDE)) == Attribution(
        Rejection.OUT_OF_DISTRIBUTION, None
    )


def test_a_generator_of_another_technology_is_never_named() -> None:
    attribution = said([5, 0, 0], [0, 0, 9])
    assert isinstance(attribution.technology, Label)
    assert attribution.generator is Rejection.LOW_CONFIDENCE


def test_a_strange_generator_is_out_of_distribution() -> None:
    attribution = said([9, 0, 0], [2, 0, 0], (WIDE, TIGHT))
    assert attribution.generator is Rejection.OUT_OF_DISTRIBUTION


def test_a_technology_without_generators_is_said_alone() -> None:
    attribution = said([0, 0, 5], [9, 0, 0])
    assert isinstance(attribution.technology, Label)
    assert attribution.technology.label == "codec"
    assert attribution.generator is None


@pytest.mark.parametrize("calibration", [None, ChannelCalibration()])
def test_without_calibration_nothing_is_said(calibration: ChannelCalibration | None) -> None:
    attribution = label_window(np.array([9, 0, 0]), np.array([9, 0, 0]), RULES, calibration)
    assert attribution == Attribution(Rejection.UNCALIBRATED, None)


def test_a_floor_of_one_is_never_reached_even_by_certainty() -> None:
    """The probability of the first class is exactly 1 here."""
    never = dataclasses.replace(RULES, generator_floor=1.0)
    attribution = said([0, 0, 0], [0, 1e4, 0], rules=dataclasses.replace(RULES, technology_floor=0))
    assert attribution.generator == Label("beta", 1.0)
    attribution = said([1e4, 0, 0], [0, 1e4, 0], rules=never)
    assert attribution == Attribution(Label("tts", 1.0), Rejection.LOW_CONFIDENCE)
    never = dataclasses.replace(RULES, technology_floor=1.0)
    assert said([1e4, 0, 0], [0, 1e4, 0], rules=never) == Attribution(Rejection.LOW_CONFIDENCE)


def test_large_logits_do_not_overflow() -> None:
    attribution = said([1e4, 0, 0], [1e4, 0, 0])
    assert isinstance(attribution.generator, Label)
