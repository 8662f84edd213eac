"""Scores of the table are those of the daemon's own path, which ``tools.evaluate`` takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tools.clips import speaking_collection
from tools.data import AudioCache, Split, read_manifest, read_split
from tools.evaluation.detection import measure
from tools.evaluation.samples import first_windows
from tools.gallery.scores import Listening, detected, named, score
from tools.scoring import AttributedClip, AttributionScorer, DaemonScorer, ScoredClip, over

MODELS = Path(__file__).parents[3] / "models"
DETECTOR = MODELS / "cnn_lstm" / "bundle"
ATTRIBUTOR = MODELS / "subband_attribution" / "bundle"


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> tuple[Listening, AudioCache]:
    for bundle in (DETECTOR, ATTRIBUTOR):
        if not (bundle / "bundle.yaml").exists():
            pytest.skip(f"{bundle} is not there")
    folder = speaking_collection(tmp_path_factory.mktemp("speech"))
    clips = read_manifest(folder / "manifest.csv")
    split: Split = read_split(folder / "split.yaml")
    audio = AudioCache.open(folder, folder / "cache", clips)
    return Listening.of(clips, audio, split, folder / "hops"), audio


@pytest.mark.parametrize("line", ["direct", "telephone"])
def test_a_detector_says_of_recorded_hops_what_it_says_of_the_clip(
    heard: tuple[Listening, AudioCache], line: str
) -> None:
    listening, audio = heard
    scorer = DaemonScorer(DETECTOR, raw=True)
    whole = [
        ScoredClip(clip, line, scorer.windows(*over(line, audio.samples(clip), number)))
        for number, clip in enumerate(listening.clips)
    ]
    scorer.close()
    quick = detected(DETECTOR, listening, line)
    expected, found = first_windows(whole), first_windows(quick)
    assert len(found.clips) == 8
    assert found.clips == expected.clips
    np.testing.assert_array_equal(found.llrs, expected.llrs)
    assert any(
        len(item.windows) < len(other.windows) for item, other in zip(quick, whole, strict=True)
    )
    numbers = score(DETECTOR, listening)[line]
    assert numbers["eer"] == measure(expected).eer.value
    assert numbers["auc"] == measure(expected).auc


def test_an_attributor_says_of_recorded_hops_what_it_says_of_the_clip(
    heard: tuple[Listening, AudioCache],
) -> None:
    listening, audio = heard
    scorer = AttributionScorer(ATTRIBUTOR)
    whole = [
        AttributedClip(clip, "direct", scorer.windows(audio.samples(clip), 16000))
        for clip in listening.clips
    ]
    scorer.close()
    _, quick = named(ATTRIBUTOR, listening, "direct")
    for item, other in zip(quick, whole, strict=True):
        assert item.clip == other.clip
        for head in ("technology_logits", "generator_logits"):
            np.testing.assert_array_equal(
                item.accepted[0].outputs[head], other.accepted[0].outputs[head]
            )
    numbers = score(ATTRIBUTOR, listening)["direct"]
    assert numbers["windows"] == 4
    assert numbers["technology"] is not None
