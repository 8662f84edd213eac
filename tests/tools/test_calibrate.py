"""The calibrator writes what the daemon loads, for every precision of a bundle of either task."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from streamguard.errors import BundleError
from streamguard.inference.bundle import load_bundle
from streamguard.verdict.scores import Channel
from tests.inference.makers import attribution_document, write_bundle
from tests.tools.calibration.test_attribution import GENERATORS, TECHNOLOGIES, made_up
from tests.tools.calibration.test_detection import channel
from tests.tools.test_data import HEADER
from tools import calibrate
from tools.bundle_writer import dump_yaml, read_document, update_document
from tools.calibration import detection
from tools.calibration.attribution import Promise, calibrate_attribution
from tools.data import AudioCache, DataError

pytestmark = pytest.mark.train
DETECTOR = Path(__file__).parents[2] / "models" / "cnn_lstm" / "bundle"
STUB = bytes([0x3A, 0x00])


def add_int8(folder: Path) -> None:
    """The same graph again, called int8."""
    document = read_document(folder)
    (folder / "hop_int8.onnx").write_bytes((folder / "hop_fp32.onnx").read_bytes())
    graph = document["graphs"]["hop_fp32"] | {"file": "hop_int8.onnx", "precision": "int8"}
    document["graphs"]["hop_int8"] = graph
    (folder / "bundle.yaml").write_text(dump_yaml(document), encoding="utf-8")


def test_a_detector_is_calibrated_in_each_of_its_precisions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(DETECTOR, tmp_path / "bundle")
    add_int8(folder)
    targets = []

    class Scorer:
        def __init__(self, bundle: Path, target: str, *, raw: bool) -> None:
            assert raw
            targets.append(target)

        def close(self) -> None:
            pass

    heard = {Channel.WIDE: channel(120, ood=False), Channel.LOW_RATE: channel(120, ood=False)}
    monkeypatch.setattr(calibrate, "DaemonScorer", Scorer)
    monkeypatch.setattr(detection, "listen", lambda *rest: heard)
    nothing: Any = None
    cache: AudioCache = nothing
    update_document(folder, calibrate.calibrate(folder, (), cache, Promise()))
    assert targets == ["cpu-fp32", "cpu-int8"]
    bundle = load_bundle(folder)
    for precision in ("fp32", "int8"):
        low_rate = bundle.calibration(precision, Channel.LOW_RATE)
        assert low_rate is not None
        assert low_rate.false_alarms is not None
        assert low_rate.false_alarms.sources == 6
        assert bundle.calibration(precision, Channel.NARROW) is None


@pytest.mark.parametrize(
    ("clips", "apart", "why"), [(60, 4.0, "too few clips"), (240, -4.0, "do not rise")]
)
def test_a_detector_that_nothing_can_be_said_of_is_refused(
    monkeypatch: pytest.MonkeyPatch, clips: int, apart: float, why: str
) -> None:
    class Scorer:
        def __init__(self, bundle: Path, target: str, *, raw: bool) -> None:
            pass

        def close(self) -> None:
            pass

    monkeypatch.setattr(calibrate, "DaemonScorer", Scorer)
    monkeypatch.setattr(
        detection, "listen", lambda *rest: {Channel.WIDE: channel(clips, apart=apart)}
    )
    nothing: Any = None
    cache: AudioCache = nothing
    with pytest.raises(BundleError, match=why):
        calibrate.calibrate(DETECTOR, (), cache, Promise())


def test_without_clips_for_calibration_the_bundle_stays_as_it_was(tmp_path: Path) -> None:
    folder = shutil.copytree(DETECTOR, tmp_path / "bundle")
    before = (folder / "bundle.yaml").read_bytes()
    soundfile.write(tmp_path / "a.wav", np.ones(16000, np.int16), 16000)
    row = "a.wav,core,bonafide,human,human,a,anna,en,16000,1.0,,00"
    (tmp_path / "manifest.csv").write_text(f"{HEADER}\n{row}\n")
    split = tmp_path / "split.yaml"
    split.write_text("schema: streamguard.split/1\nsources: {a: train}\n")
    arguments = [str(folder), "--data", str(tmp_path), "--split", str(split)]
    with pytest.raises(DataError, match=r"--split.*calibration"):
        calibrate.main([*arguments, "--cache", str(tmp_path / "cache")])
    assert (folder / "bundle.yaml").read_bytes() == before


def test_an_attribution_network_is_calibrated_in_words_that_the_daemon_knows(
    tmp_path: Path,
) -> None:
    document = attribution_document()
    document["graphs"]["head_fp32"]["outputs"].append(
        {"name": "ood", "dtype": "float32", "shape": ["batch", 1]}
    )
    channels, thresholds, _ = calibrate_attribution(
        {Channel.NARROW: made_up(800, 3.0)}, TECHNOLOGIES, GENERATORS, Promise(0.8, 0.7)
    )
    files = {"hop_fp32.onnx": STUB, "head_fp32.onnx": STUB + bytes([0x08, 0x0A])}
    folder = write_bundle(tmp_path / "bundle", document, files)
    update_document(folder, {"calibration": {"fp32": channels}, "thresholds": thresholds})
    bundle = load_bundle(folder)
    narrow = bundle.calibration("fp32", Channel.NARROW)
    assert narrow is not None
    assert narrow.ood is not None
    assert narrow.technology_answers.labels.keys() == {"tts", "vc"}
    assert bundle.manifest.thresholds.generator == 0.7
