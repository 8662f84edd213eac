"""The evaluator from end to end, and that it says what `streamguard analyze --json` says."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import yaml

from tests.commands.cli import streamguard
from tests.e2e.bundles import opinionated_bundle
from tools import evaluate
from tools.bundle_writer import read_document, update_document
from tools.data import AudioCache, DataError, Split, read_manifest
from tools.evaluation.attribution import AttributionReport
from tools.evaluation.detection import DetectionReport
from tools.evaluation.hierarchy import METRIC
from tools.evaluation.samples import all_windows
from tools.scoring import AttributionScorer, DaemonScorer

COLUMNS = (
    "path,set,label,technology,generator,source_repo,speaker,language,orig_sr,seconds,detail,sha256"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, voice: Path) -> Path:
    """Six clips of two sources: lengths and levels differ, one is silent, two are narrow."""
    folder = tmp_path_factory.mktemp("data")
    speech, rate = sf.read(voice, dtype="int16")
    rows = []
    for number, (seconds, gain, source) in enumerate(
        ((6.0, 1.0, "a"), (4.0, 0.5, "a"), (2.2, 0.7, "b"), (5.3, 0.3, "b"), (3.0, 0, "a"))
    ):
        samples = (speech[: round(seconds * rate)] * gain).astype(np.int16)
        label = ("bonafide", "spoof")[number % 2]
        technology = ("human", "tts")[number % 2]
        path = f"{number}.wav"
        sf.write(folder / path, samples, rate)
        facts = (path, "core", label, technology, technology, source, "anna", "en", rate, seconds)
        rows.append([*facts, "", str(number)])
    with (folder / "manifest.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([COLUMNS.split(","), *rows])
    split = {"schema": "streamguard.split/1", "sources": {"a": "validation", "b": "validation"}}
    (folder / "split.yaml").write_text(yaml.safe_dump(split))
    return folder


def _analysed(config: Path, data: Path, paths: list[str]) -> list[list[dict[str, object]]]:
    done = streamguard("analyze", "--json", "--config", config, *(data / path for path in paths))
    assert done.code == 0, done.err
    return [found["windows"] for found in done.json_lines()]


def test_windows_are_those_of_analyze(small_models: Path, data: Path, tmp_path: Path) -> None:
    clips = read_manifest(data / "manifest.csv")
    cache = AudioCache.open(data, tmp_path, clips)
    config = yaml.safe_load(small_models.read_text())
    analysed = _analysed(small_models, data, [clip.path for clip in clips])
    scorer = DaemonScorer(config["detector"])
    scored = scorer.clips(clips, cache, "direct")
    scorer.close()
    told = [
        [
            {
                "start_s": round(window.start_s, 3),
                "end_s": round(window.end_s, 3),
                "llr": None if window.llr is None else round(window.llr, 4),
                "rejected": window.rejected and window.rejected.value,
            }
            for window in item.windows
        ]
        for item in scored
    ]
    kept = ("start_s", "end_s", "llr", "rejected")
    assert told == [[{key: w[key] for key in kept} for w in found] for found in analysed]
    sample = all_windows(scored)
    accepted = [w["llr"] for found in analysed for w in found if w["rejected"] is None]
    assert np.round(sample.llrs, 4).tolist() == accepted
    assert len(set(accepted)) > 5
    assert sample.rejected.bonafide > 0


def test_labels_are_those_of_analyze(small_models: Path, data: Path, tmp_path: Path) -> None:
    clips = read_manifest(data / "manifest.csv")
    cache = AudioCache.open(data, tmp_path, clips)
    config = yaml.safe_load(small_models.read_text())
    analysed = _analysed(small_models, data, [clip.path for clip in clips])
    scorer = AttributionScorer(config["attribution"])
    named = scorer.clips(clips, cache, "direct")
    scorer.close()
    told = [
        (window.start_s, window.said.technology.label, window.said.generator.label)  # type: ignore[union-attr]  # this bundle is sure of everything
        for item in named
        for window in item.accepted
    ]
    assert told == [
        (window["start_s"], window["technology"], window["generator"])
        for found in analysed
        for window in found
        if window["rejected"] is None
    ]
    assert len(told) > 5


def test_labels_behind_a_detector_are_those_of_analyze(
    small_models: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = yaml.safe_load(small_models.read_text())
    paths = [clip.path for clip in read_manifest(data / "manifest.csv") if clip.spoof]
    analysed = [w for found in _analysed(small_models, data, paths) for w in found]
    arguments = [config["attribution"], "--detector", config["detector"], "--data", str(data)]
    arguments += ["--split", str(data / "split.yaml"), "--json", str(tmp_path / "numbers.json")]
    assert evaluate.main([*arguments, "--cache", str(tmp_path)]) == 0
    assert "human speech labelled" in capsys.readouterr().out
    behind = json.loads((tmp_path / "numbers.json").read_text())["behind"]
    row = next(r for r in behind if (r["line"], r["head"]) == ("direct", "technology"))
    named = [w["technology"] for w in analysed if w["rejected"] is None]
    assert (row["what"], row["count"]) == ("windows", len(named))
    assert row["labelled"] == sum(name is not None for name in named) / len(named)
    assert row["accuracy"] == named.count("tts") / len(named) == 1.0


def test_the_command_writes_numbers_report_and_card(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = opinionated_bundle(tmp_path / "toy" / "bundle", -4.0, 20.0)
    arguments = [str(bundle), "--data", str(data), "--split", str(data / "split.yaml")]
    arguments += ["--cache", str(tmp_path / "cache"), "--json", str(tmp_path / "numbers.json")]
    assert evaluate.main([*arguments, "--report", str(tmp_path / "report"), "--card"]) == 0
    assert "| direct | pooled | first window |" in capsys.readouterr().out
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    pooled = numbers["lines"]["direct"]["measured"]["pooled"]["first"]
    assert (pooled["bonafide"], pooled["spoof"]) == (2, 2)
    assert pooled["coverage_bonafide"] == pytest.approx(2 / 3, abs=1e-6)
    assert numbers["lines"]["direct"]["rejected_clips"] == {"silence": 1}
    report = (tmp_path / "report" / evaluate.REPORT_FILE).read_text()
    assert "](det.png)" in report
    assert read_document(bundle)["metrics"]["validation_direct_eer"] == round(
        pooled["eer"]["value"], 4
    )
    assert "validation" in (bundle / "CARD.md").read_text()


@pytest.fixture
def two(data: Path, tmp_path: Path) -> evaluate.Material:
    """One clip of each class."""
    pytest.importorskip("av", reason="needs PyAV (extra 'codecs')")
    clips = read_manifest(data / "manifest.csv")[:2]
    cache = AudioCache.open(data, tmp_path, clips)
    return evaluate.Material("two", "all", clips, cache, clips, Split({}, frozenset()), None)


def test_everything_asked_for_adds_coders_and_packet_loss(
    two: evaluate.Material, small_models: Path
) -> None:
    config = yaml.safe_load(small_models.read_text())
    detected = evaluate.evaluate(Path(config["detector"]), two, "cpu-fp32", full=True)
    assert isinstance(detected, DetectionReport)
    coders = {row.line: row for row in detected.codecs}
    assert coders["g722"].coverage == 1.0
    assert coders["g722"].measured is not None
    # Nothing is calibrated for it: it is rejected, not scored as something else.
    assert (coders["gsm"].coverage, coders["gsm"].measured) == (0.0, None)
    losses = [row.measured for row in detected.losses]
    assert losses[0] is not None
    assert losses[0].coverage == 1.0


def test_labels_too_are_measured_through_coders_and_with_packet_loss(
    two: evaluate.Material, small_models: Path
) -> None:
    config = yaml.safe_load(small_models.read_text())
    named = evaluate.evaluate(Path(config["attribution"]), two, "cpu-fp32", full=True)
    assert isinstance(named, AttributionReport)
    assert named.losses[0].coverage == 1.0
    assert named.codecs[0].measured is not None
    assert named.codecs[0].measured.labelled == 1.0


def test_confidences_of_the_text_are_never_found_on_what_they_are_measured_on(
    data: Path, tmp_path: Path
) -> None:
    split = {"schema": "streamguard.split/1", "sources": {"a": "validation", "b": "calibration"}}
    (tmp_path / "split.yaml").write_text(yaml.safe_dump(split))
    options = argparse.Namespace(
        data=data,
        corpus=None,
        trained_here=False,
        split=tmp_path / "split.yaml",
        role="validation",
        cache=tmp_path / "cache",
        cut_on="calibration",
    )
    material = evaluate.gather(options)
    assert {clip.source_repo for clip in material.clips} == {"a"}
    assert [clip.path for clip in material.cut_clips] == ["3.wav"], "the spoof of the other source"
    options.cut_on = "validation"
    assert evaluate.gather(options).cut_clips == ()


def test_a_corpus_of_others_is_measured_with_the_confidences_in_the_bundle(
    data: Path, tmp_path: Path, small_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = yaml.safe_load(small_models.read_text())
    clips = read_manifest(data / "manifest.csv")
    bundle = shutil.copytree(config["attribution"], tmp_path / "bundle")
    metrics = {METRIC.format(head="technology"): 0.25}
    update_document(bundle, {"metrics": metrics})
    cache = AudioCache.open(data, tmp_path, clips)
    foreign = evaluate.Material("x", "all", clips, cache, clips, Split({}, frozenset()), None)
    report = evaluate.evaluate(bundle, foreign, "cpu-fp32", full=False)
    assert isinstance(report, AttributionReport)
    assert {cut.head: cut.threshold for cut in report.cuts} == {
        "technology": 0.25,
        "generator": None,
    }
    evaluate.say(report)
    printed = capsys.readouterr().out
    assert "| direct | confidence as in the text | 2 + 2 |" in printed
    assert "| technology | 0.250 |" in printed
    assert "| direct | unseen tts | thresholds of the bundle | 2 |" in printed
    assert "Technology, direct, first windows:" in printed
    # Of its own collection they may have been found on the very clips that are measured.
    own = dataclasses.replace(foreign, trained={})
    report = evaluate.evaluate(bundle, own, "cpu-fp32", full=False)
    assert isinstance(report, AttributionReport)
    assert report.cuts == ()


def test_a_role_without_speech_is_an_error_that_names_it(data: Path, tmp_path: Path) -> None:
    bundle = opinionated_bundle(tmp_path / "bundle", 1.0)
    arguments = [str(bundle), "--data", str(data), "--split", str(data / "split.yaml")]
    with pytest.raises(DataError, match="--role: 'test'"):
        evaluate.main([*arguments, "--role", "test"])


def test_a_card_is_not_made_of_a_corpus_that_trained_nothing(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        evaluate.main(["bundle", "--corpus", f"in_the_wild={data}", "--card"])
    assert "--card" in capsys.readouterr().err


def test_a_detector_needs_both_classes(data: Path, tmp_path: Path) -> None:
    bundle = opinionated_bundle(tmp_path / "bundle", 1.0)
    clips = tuple(clip for clip in read_manifest(data / "manifest.csv") if clip.spoof)
    cache = AudioCache.open(data, tmp_path, clips)
    material = evaluate.Material("one", "all", clips, cache, clips, Split({}, frozenset()), None)
    with pytest.raises(DataError, match="both bonafide and spoof"):
        evaluate.evaluate(bundle, material, "cpu-fp32", full=False)


def test_training_sources_of_each_generator_are_counted(data: Path) -> None:
    found = evaluate.trained_generators(read_manifest(data / "manifest.csv"))
    assert found == {("tts", "tts"): frozenset({"a", "b"})}
