"""An attributor's numbers, from logits of our own making."""

from __future__ import annotations

import pytest

from tests.tools.evaluation.makers import named, spoof, unheard
from tests.tools.test_crops import CLIP
from tools.evaluation.attribution import SME, Heard, generator, report_line, technology
from tools.evaluation.names import Names

NAMES = Names(
    technologies=("codec", "tts"),
    generators=(("codec", "dac"), ("tts", "vits")),
    trained={
        ("codec", "dac"): frozenset({"x"}),
        ("tts", "vits"): frozenset({"x", "y"}),
        ("tts", "heard"): frozenset({"y"}),
    },
)
DAC, VITS = spoof("codec", "dac"), spoof("tts", "vits")


def test_the_technology_is_measured_with_and_without_thresholds() -> None:
    heard = Heard.of(
        [
            named(DAC, [2, 0], [2, 0], ("codec", "dac")),
            named(DAC, [0, 1], [0, 1]),
            named(VITS, [0, 2], [0, 2], ("tts", None)),
            named(VITS, [0, 2], [0, 2], ("codec", None)),
            unheard(VITS),
        ],
        first=True,
    )
    found = technology(heard, NAMES)
    assert found.confusion == ((1, 1), (0, 2))
    assert found.balanced_accuracy.value == pytest.approx(0.75)
    assert found.coverage == pytest.approx(4 / 5)
    assert (found.labelled, found.labelled_accuracy) == pytest.approx((3 / 4, 2 / 3))
    # Codec: one of two labelled rightly; tts: one of three, one being unheard.
    assert found.balanced_accuracy_rejections_as_errors == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert [(row.label, row.windows, row.recall) for row in found.classes] == [
        ("codec", 2, 0.5),
        ("tts", 2, 1.0),
    ]


def test_a_bundle_that_never_speaks_has_no_accuracy_of_what_it_says() -> None:
    found = technology(Heard.of([named(DAC, [2, 0], [2, 0])], first=True), NAMES)
    assert (found.labelled, found.labelled_accuracy) == (0.0, None)
    assert found.balanced_accuracy_rejections_as_errors == 0.0


def test_a_generator_counts_only_if_it_was_learned_from_another_source() -> None:
    assert NAMES.elsewhere(DAC)
    assert not NAMES.elsewhere(spoof("codec", "dac", source="x"))
    assert NAMES.elsewhere(spoof("tts", "vits", source="x"))
    assert not NAMES.elsewhere(spoof("tts", "heard"))
    assert Names(NAMES.technologies, NAMES.generators, None).elsewhere(DAC)


def test_unlisted_generators_are_no_errors_of_the_generator_but_of_whoever_names_them() -> None:
    items = [
        named(DAC, [2, 0], [3, 0], ("codec", "dac")),
        named(VITS, [0, 2], [0, 3], ("tts", "vits")),
        named(spoof("tts", "heard"), [0, 2], [0, 1], ("tts", "vits")),
        named(spoof("tts", "new"), [0, 2], [0.1, 0], ("tts", None)),
        named(CLIP, [0, 2], [0, 1], ("tts", "vits")),
    ]
    line = report_line(items, NAMES, {"pooled": lambda clip: True})
    assert line.generator["first"].windows == 2
    assert line.generator["first"].balanced_accuracy.value == 1.0
    assert line.technology["pooled"]["first"].windows == 4
    shares = {row.who: (row.windows, row.technology, row.generator) for row in line.named}
    assert shares == {
        "human speech": (1, 1.0, 1.0),
        "listed generators": (2, 1.0, 1.0),
        "generators never trained on": (1, 1.0, 0.0),
        "generators not listed": (2, 1.0, 0.5),
    }
    for scores in line.open_set.values():
        assert (scores[SME].auroc, scores[SME].fpr95, scores[SME].eerc) == (1.0, 0.0, 0.0)
    assert line.open_set["never trained on"][SME].unknown == 1
    assert line.open_set["not listed"][SME].unknown == 2


def test_a_generator_named_for_two_technologies_is_two_classes() -> None:
    names = Names(("tts", "vc"), (("tts", "yourtts"), ("vc", "yourtts")), None)
    items = [
        named(spoof("tts", "yourtts"), [1, 0], [1, 0], ("tts", "yourtts")),
        named(spoof("vc", "yourtts"), [0, 1], [1, 0], ("vc", "yourtts")),
    ]
    found = generator(Heard.of(items, first=True), names)
    assert found.labels == ("tts/yourtts", "vc/yourtts")
    assert found.confusion == ((1, 0), (1, 0))
