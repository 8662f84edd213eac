"""Report, card, pictures and JSON of what was measured."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from streamguard.inference.bundle import load_bundle
from tests.e2e.bundles import opinionated_bundle
from tests.tools.evaluation.makers import collection, named, spoof
from tests.tools.evaluation.test_attribution import DAC, NAMES, VITS
from tools.data import Split
from tools.evaluation.attribution import AttributionReport
from tools.evaluation.attribution import report_line as attribution_line
from tools.evaluation.card import ABOUT, card_text
from tools.evaluation.detection import (
    ConditionRow,
    DetectionReport,
    by_source,
    measure,
    report_line,
)
from tools.evaluation.plots import draw_attribution, draw_detection
from tools.evaluation.report import Subject, bundle_metrics, markdown, to_json
from tools.evaluation.samples import first_windows, groups
from tools.legs import VOICES, DurationRow, LegRow
from tools.metrics import Interval

SUBJECT = Subject("toy", "1", "detection", "ab" * 32, "cpu-fp32", "the collection", "validation")
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def detected() -> DetectionReport:
    items = collection()
    clips = [item.clip for item in items]
    known = frozenset({"vits"})
    line = report_line(items, groups(clips, clips, known), known)
    sample = first_windows(items)
    rate = Interval(0.3, 0.2, 0.4)
    return DetectionReport(
        clips=len(items),
        prompts=None,
        lines={"direct": line, "telephone": line},
        sources=tuple(by_source(items)),
        durations=(
            DurationRow("direct", VOICES[0], 3.0, 6, 7, 2, 1.0, rate, 0.3, rate, None),
            DurationRow("direct", "all", 3.0, 6, 7, 2, 1.0, rate, 0.3, rate, 0.25),
            DurationRow("direct", "all", 9.0, 6, 7, 2, 1.0, rate, 0.3, rate, 0.25),
            DurationRow("direct", "all", 15.0, 0, 0, 0, None, None, None, None, None),
        ),
        legs=(LegRow("direct", True, 12, 9.5, 0.25, 0.5),),
        codecs=(
            ConditionRow("gsm", 1.0, measure(sample)),
            ConditionRow("low rate", 0.0, None),
        ),
        samples={"direct": sample, "telephone": sample},
    )


@pytest.fixture(scope="module")
def attributed() -> AttributionReport:
    items = [
        named(DAC, [2, 0], [3, 0], ("codec", "dac")),
        named(VITS, [0, 2], [0, 3]),
        named(spoof("tts", "new"), [0, 2], [0.1, 0]),
    ]
    line = attribution_line(items, NAMES, {"pooled": lambda clip: True})
    return AttributionReport(clips=3, human=0, lines={"direct": line})


def test_the_report_says_what_was_measured_and_shows_the_pictures(
    detected: DetectionReport, tmp_path: Path
) -> None:
    pictures = draw_detection(detected, tmp_path)
    text = markdown(SUBJECT, detected, pictures)
    assert "paired sources" in text
    assert "joins hide the drift" in text
    assert "| low rate | 0.0 % | – |" in text
    for name in pictures:
        assert f"]({name})" in text
        assert (tmp_path / name).read_bytes().startswith(PNG)


def test_the_report_of_an_attributor_has_its_confusion(
    attributed: AttributionReport, tmp_path: Path
) -> None:
    pictures = draw_attribution(attributed, tmp_path)
    text = markdown(replace(SUBJECT, task="attribution"), attributed, pictures)
    assert "never trained on" in text
    assert "| **codec** | 1 | 0 |" in text
    assert set(pictures) == {"technology_direct.png", "generator_direct.png"}


def test_every_number_is_in_the_json(detected: DetectionReport) -> None:
    plain = json.loads(to_json(SUBJECT, detected))
    assert plain["name"] == "toy"
    pooled = plain["lines"]["direct"]["measured"]["pooled"]["first"]
    assert pooled["eer"]["low"] <= pooled["eer"]["value"] <= pooled["eer"]["high"]
    assert plain["durations"][3]["eer"] is None
    assert "samples" not in plain


def test_what_is_not_a_number_is_null_in_the_json(detected: DetectionReport) -> None:
    leg = replace(detected.legs[0], raised=math.nan)
    plain = json.loads(to_json(SUBJECT, replace(detected, legs=(leg,))))
    assert plain["legs"][0]["raised"] is None


def test_a_few_numbers_travel_in_the_bundle(
    detected: DetectionReport, attributed: AttributionReport
) -> None:
    metrics = bundle_metrics(SUBJECT, detected)
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["validation_direct_eer"] < metrics["validation_direct_paired_sources_eer"]
    assert metrics["validation_direct_9s_eer"] == 0.3
    assert "validation_direct_all_windows_eer" in metrics
    named_metrics = bundle_metrics(SUBJECT, attributed)
    assert named_metrics["validation_direct_technology_balanced_accuracy"] == 1.0
    assert named_metrics["validation_direct_never_trained_on_fpr95"] == 0.0


def test_a_card_names_every_source_and_the_systems_own_words(
    detected: DetectionReport, tmp_path: Path
) -> None:
    bundle = load_bundle(opinionated_bundle(tmp_path / "toy" / "bundle", 1.0))
    clips = [item.clip for item in collection()]
    split = Split({"a": "train", "b": "validation"}, frozenset({"secret"}))
    assert "own words" not in card_text(bundle, SUBJECT, detected, clips, split)
    (tmp_path / "toy" / ABOUT).write_text("Its own words.\n", encoding="utf-8")
    card = card_text(bundle, SUBJECT, detected, clips, split)
    assert "Its own words." in card
    assert "direct | paired sources" in card
    assert "**train**, 40 clips of 1 sources: a (40)." in card
    assert "b (20)" in card
    assert "secret" in card
    assert "espeak-ng" in card
    assert "fake" not in card
