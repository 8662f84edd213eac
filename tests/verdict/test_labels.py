"""Which label is said of a window, and when none is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from streamguard.verdict.calibration import (
    Answers,
    ChannelCalibration,
    ConformalTable,
    Reliability,
)
from streamguard.verdict.labels import LabelRules, generator_p_value, label_window, sme, softmax
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


CLEAR = (np.array([5.0, 0, 0]), np.array([0, 5.0, 0]))
FAR = ConformalTable(tuple(float(i) for i in range(199)))
"""Scores of up to 198 have been seen."""


def labelled(calibration: ChannelCalibration, ood: float | None) -> Attribution:
    return label_window(*CLEAR, RULES, calibration, ood)


def test_a_window_far_from_all_training_data_gets_no_label() -> None:
    calibration = ChannelCalibration(technology=WIDE, generator=WIDE, ood=FAR)
    assert labelled(calibration, 500.0) == Attribution(Rejection.OUT_OF_DISTRIBUTION, None)
    assert isinstance(labelled(calibration, 190.0).technology, Label)
    assert isinstance(labelled(calibration, None).technology, Label), "a head without the output"


def test_a_window_unlike_the_listed_generators_keeps_its_technology() -> None:
    calibration = ChannelCalibration(technology=WIDE, generator=WIDE, generator_ood=FAR)
    attribution = labelled(calibration, 500.0)
    assert isinstance(attribution.technology, Label)
    assert attribution.generator is Rejection.OUT_OF_DISTRIBUTION
    assert isinstance(labelled(calibration, 100.0).generator, Label)


def test_softmax_energy_alone_rejects_a_generator_that_is_like_none() -> None:
    sure = ConformalTable(tuple(np.linspace(sme(CLEAR[1]) - 0.01, sme(CLEAR[1]) + 0.001, 199)))
    calibration = ChannelCalibration(technology=WIDE, generator=WIDE, generator_sme=sure)
    assert isinstance(labelled(calibration, None).generator, Label)
    unsure = label_window(CLEAR[0], np.array([0.0, 1.0, 0.0]), RULES, calibration)
    assert unsure.generator is Rejection.OUT_OF_DISTRIBUTION


def test_two_scores_are_joined_by_twice_the_smaller_p_value() -> None:
    calibration = ChannelCalibration(generator_ood=FAR, generator_sme=ConformalTable((9.0,) * 99))
    assert generator_p_value(CLEAR[1], 190.0, calibration) == pytest.approx(2 * 10 / 200)
    assert generator_p_value(CLEAR[1], 0.0, calibration) == 1.0
    assert generator_p_value(CLEAR[1], 1e9, calibration) == pytest.approx(2 / 200)
    assert generator_p_value(CLEAR[1], 0.0, ChannelCalibration()) is None


def test_softmax_energy_rises_with_doubt() -> None:
    sure, leaning, lost = (np.array([x, 0.0, 0.0]) for x in (50.0, 1.0, 0.0))
    assert sme(sure) < sme(leaning) < sme(lost)
    assert sme(sure) == pytest.approx(-np.log(np.e + 2))
    assert sme(lost) == pytest.approx(-np.log(3 * np.exp(1 / 3)))


def test_confidence_is_what_it_has_meant_on_other_sources() -> None:
    """The softmax says 0.99; of such windows 55 % were right, below the floor of 60 %."""
    hollow = Answers(common=Reliability((0.5, 1.0), (0.3, 0.55)))
    calibration = ChannelCalibration(technology=WIDE, technology_answers=hollow)
    assert labelled(calibration, None) == Attribution(Rejection.LOW_CONFIDENCE, None)
    solid = Answers(common=hollow.common, labels={"tts": Reliability((0.5,), (0.8,))})
    calibration = dataclasses.replace(calibration, technology_answers=solid)
    assert isinstance(labelled(calibration, None).technology, Label)


def test_temperature_softens_before_anything_is_decided() -> None:
    calibration = ChannelCalibration(technology=WIDE, technology_answers=Answers(temperature=10.0))
    assert labelled(calibration, None) == Attribution(Rejection.LOW_CONFIDENCE, None)
    assert softmax(np.array([2.0, 0.0]), 2.0) == pytest.approx(softmax(np.array([1.0, 0.0])))
