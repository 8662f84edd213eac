"""Two levels of labels: thresholds, errors passed on, and what unseen speech is called."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tools.evaluation.makers import named, spoof
from tests.tools.test_crops import CLIP
from tools.evaluation.attribution import AttributionReport, report_line
from tools.evaluation.hierarchy import (
    ALL_LABELS,
    BUNDLE_RULE,
    LEAST_ACCEPTED,
    TEXT_RULE,
    Cut,
    Hierarchy,
    PropagationRow,
    cut,
    cuts,
    hierarchy,
)
from tools.evaluation.hierarchy_tables import destinations, per_class, propagation
from tools.evaluation.names import Names
from tools.scoring import AttributedClip

NAMES = Names(
    technologies=("codec", "tts"),
    generators=(("codec", "dac"), ("codec", "encodec"), ("tts", "vits")),
    trained={
        ("codec", "dac"): frozenset({"x"}),
        ("codec", "encodec"): frozenset({"x"}),
        ("tts", "vits"): frozenset({"x"}),
        ("tts", "heard"): frozenset({"x"}),
    },
)
DAC, VITS = spoof("codec", "dac"), spoof("tts", "vits")
CODEC, TTS = [4.0, 0.0], [0.0, 4.0]
SAYS_DAC, SAYS_ENCODEC, SAYS_VITS = [3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 3.0]


def of(items: list[AttributedClip], found: tuple[Cut, ...] = (), names: Names = NAMES) -> Hierarchy:
    return hierarchy(
        [item.clip for item in items], [item.windows[0] for item in items], names, found
    )


def row(found: Hierarchy, rule: str) -> PropagationRow:
    return next(row for row in found.propagation if row.rule == rule)


def test_confidences_are_cut_where_85_percent_of_those_above_are_right() -> None:
    # From the top: 30 right, then wrong and right in turn; 85 % of 40 are right, then no more.
    confidence = np.linspace(0.99, 0.5, 50)
    right = np.array([True] * 30 + [False, True] * 10)
    found = cut("technology", confidence, right)
    assert found.threshold is not None
    accepted = confidence >= found.threshold
    assert right[accepted].mean() >= 0.85
    assert found.accepted == pytest.approx(accepted.mean())
    lower = confidence >= confidence[int(accepted.sum()) + 1]
    assert right[lower].mean() < 0.85


def test_windows_of_one_confidence_are_accepted_together() -> None:
    confidence = np.array([0.9] * LEAST_ACCEPTED + [0.8] * 10)
    found = cut("technology", confidence, np.array([True] * LEAST_ACCEPTED + [True] + [False] * 9))
    assert found.threshold == 0.9
    assert found.accepted == pytest.approx(2 / 3)


def test_a_head_that_is_never_right_often_enough_is_silent() -> None:
    confidence = np.linspace(0.9, 0.5, 40)
    assert cut("generator", confidence, np.arange(40) % 2 == 0).threshold is None
    few = cut("generator", confidence[:5], np.ones(5, np.bool_))
    assert few.threshold is None, "five windows say nothing"
    assert cut("generator", np.empty(0), np.empty(0, np.bool_)).threshold is None


def test_the_generator_is_cut_on_listed_ones_whose_technology_was_said() -> None:
    items = [named(DAC, CODEC, SAYS_DAC)] * LEAST_ACCEPTED
    items += [named(VITS, CODEC, SAYS_DAC), named(spoof("tts", "new"), TTS, SAYS_VITS)]
    items += [named(CLIP, TTS, SAYS_VITS)]
    first, second = cuts([item.clip for item in items], [item.windows[0] for item in items], NAMES)
    assert (first.windows, second.windows) == (LEAST_ACCEPTED + 2, LEAST_ACCEPTED)
    assert second.accepted == 1.0


def test_errors_of_the_first_level_are_counted_where_they_reach_the_second() -> None:
    found = of(
        [
            named(DAC, CODEC, SAYS_DAC),
            named(DAC, CODEC, SAYS_ENCODEC),
            named(DAC, TTS, SAYS_DAC),
            named(spoof("codec", "new"), CODEC, SAYS_DAC),
            named(CLIP, CODEC, SAYS_DAC),
            named(spoof("vocoder", "hifigan"), CODEC, SAYS_DAC),
        ]
    )
    assert row(found, ALL_LABELS) == PropagationRow(
        rule=ALL_LABELS,
        spoofed=4,
        human=1,
        technology_right=3,
        technology_wrong=1,
        human_named=1,
        forwarded=5,
        generator_right=1,
        generator_wrong=1,
        passed_on=1,
        unlisted=1,
        human_generator=1,
    )
    assert row(found, ALL_LABELS).technology_error == pytest.approx(2 / 5)
    assert row(found, ALL_LABELS).generator_error == pytest.approx(4 / 5)


def test_the_second_level_is_asked_only_for_generators_of_the_technology_said() -> None:
    names = Names(("codec", "tts"), (("codec", "dac"),), None)
    found = of([named(VITS, TTS, [3.0]), named(DAC, CODEC, [3.0])], names=names)
    said = row(found, ALL_LABELS)
    assert (said.forwarded, said.generator_right, said.generator_error) == (1, 1, 0.0)
    # Its dac is more probable than its vits, but it has said tts.
    within = row(of([named(VITS, TTS, [3.0, 0.0, 1.0])]), ALL_LABELS)
    assert (within.generator_right, within.generator_wrong) == (1, 0)


def test_each_rule_rejects_by_its_own_thresholds() -> None:
    items = [
        named(DAC, CODEC, SAYS_DAC, ("codec", None)),
        named(DAC, [0.1, 0.0], SAYS_DAC, ("codec", "dac")),
        named(VITS, TTS, [0.0, 0.0, 0.5]),
    ]
    found = of(items, (Cut("technology", 0.9, 30, 0.5), Cut("generator", 0.8, 30, 0.5)))
    text, bundle = row(found, TEXT_RULE), row(found, BUNDLE_RULE)
    assert (text.technology_right, text.generator_right) == (2, 1)
    assert (bundle.technology_right, bundle.generator_right) == (2, 1)
    assert row(found, ALL_LABELS).generator_right == 3
    silent = of(items, (Cut("technology", 0.9, 30, 0.5), Cut("generator", None, 30, 0.0)))
    assert row(silent, TEXT_RULE).forwarded == 2
    assert row(silent, TEXT_RULE).generator_error is None
    assert TEXT_RULE not in {row.rule for row in of(items).propagation}


def test_unseen_spoofs_are_counted_by_where_they_go() -> None:
    items = [
        named(spoof("tts", "new"), TTS, SAYS_VITS),
        named(spoof("tts", "new"), CODEC, SAYS_DAC),
        named(spoof("unknown", "a07"), [0.1, 0.0], SAYS_DAC),
        named(spoof("tts", "heard"), TTS, SAYS_VITS),
        named(CLIP, TTS, SAYS_VITS),
    ]
    found = of(items, (Cut("technology", 0.9, 30, 0.5), Cut("generator", None, 30, 0.0)))
    rows = {(row.who, row.rule): row for row in found.destinations}
    everything = rows["unseen spoofs", TEXT_RULE]
    assert (everything.windows, everything.rejected) == (3, 1)
    assert everything.said == {"codec": 1, "tts": 1}
    assert rows["unseen unknown", ALL_LABELS].said == {"codec": 1, "tts": 0}
    assert rows["human speech", TEXT_RULE].said == {"codec": 0, "tts": 1}
    assert rows["unseen spoofs", BUNDLE_RULE].rejected == 3
    foreign = of(items, names=Names(NAMES.technologies, NAMES.generators, None))
    assert next(row for row in foreign.destinations if row.who == "unseen spoofs").windows == 4


def test_a_corpus_of_which_nothing_is_listed_is_still_counted_and_printed() -> None:
    items = [named(spoof("unknown", "a07"), CODEC, SAYS_DAC)]
    line = report_line(items, NAMES, {"pooled": lambda clip: True})
    report = AttributionReport(clips=0, human=0, lines={"direct": line})
    assert "| direct | unseen unknown | every label | 1 | 0.0 % | 100.0 % | 0.0 % |" in (
        destinations(report)
    )
    assert "| direct | every label | 0 + 0 |" in propagation(report)
    assert list(per_class(report)) == []
    assert hierarchy([], [], NAMES) == Hierarchy()
