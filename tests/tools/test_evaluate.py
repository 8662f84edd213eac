"""The report and the card, from scores of our own making."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from streamguard.verdict.scores import Channel, Rejection, WindowScore
from tests.tools.test_crops import CLIP
from tools import evaluate
from tools.card import write_card
from tools.data import Clip, Split
from tools.scoring import ScoredClip


def _window(llr: float | None, rejected: Rejection | None = None) -> WindowScore:
    return WindowScore(
        leg="clip",
        segment=0,
        index=5,
        start_s=0.0,
        end_s=3.0,
        raw=0.5,
        llr=llr,
        rejected=rejected,
        new_hops=6,
        usable_hops=6,
        net_speech_s=2.0,
        channel=Channel.WIDE,
    )


def _item(clip: Clip, *windows: WindowScore) -> ScoredClip:
    return ScoredClip(clip, "direct", windows)


def _collection(shift: float = 3.0) -> list[ScoredClip]:
    """Source a has both classes, b and c one each; b's condition gives it away."""
    rng = np.random.default_rng(1)
    items = []
    for source, label, offset in (("a", "bonafide", 0), ("a", "spoof", 1.0), ("b", "spoof", shift)):
        for number in range(20):
            clip = replace(
                CLIP,
                path=f"{source}{label}{number}",
                source_repo=source,
                label=label,
                technology="tts" if label == "spoof" else "human",
                generator="vits" if source == "a" else "secret",
            )
            items.append(_item(clip, _window(float(rng.standard_normal() + offset))))
    return items


def test_the_first_accepted_window_of_a_clip_counts() -> None:
    item = _item(CLIP, _window(9.0, Rejection.SILENCE), _window(1.0), _window(7.0))
    rejected = _item(CLIP, _window(9.0, Rejection.TONE))
    assert evaluate.first_windows([item, rejected]).llrs.tolist() == [1.0]


def test_an_uncalibrated_bundle_is_refused() -> None:
    with pytest.raises(ValueError, match="calibrate"):
        evaluate.first_windows([_item(CLIP, _window(None, Rejection.UNCALIBRATED))])


def test_the_pooled_number_stands_beside_that_of_paired_sources() -> None:
    result = evaluate.report({"direct": _collection()}, frozenset({"vits"}))
    pooled, paired = result.measured["direct"], result.measured["direct, paired sources"]
    assert (pooled.sources, paired.sources) == (2, 1)
    assert pooled.eer.value < paired.eer.value
    assert paired.eer.value == pytest.approx(result.within_source_eer["direct"])
    unseen = result.measured["direct, unseen generators"]
    assert (unseen.bonafide, unseen.spoof) == (20, 20)
    assert result.accepted == {"direct, bonafide": 1.0, "direct, spoof": 1.0}


def test_a_source_with_one_class_has_no_error_rate() -> None:
    a, b = evaluate.by_source(evaluate.first_windows(_collection()))
    assert a.eer is not None
    assert (b.eer, b.bonafide, b.mean_llr_bonafide) == (None, 0, None)


def test_technologies_are_counted_above_zero() -> None:
    shares = evaluate.by_technology(evaluate.first_windows(_collection(shift=100.0)))
    assert 0.2 < shares["human"] < 0.8
    assert shares["tts"] > shares["human"]


def test_a_card_names_every_source_and_the_paired_numbers(tmp_path: Path) -> None:
    document = {
        "name": "toy",
        "version": "1",
        "made_with": {"recipe_sha256": "ab" * 32},
        "calibration": {
            "fp32": {
                "wide": {
                    "exposure": {
                        "clips": 1,
                        "legs": 2,
                        "speakers": 3,
                        "sources": 4,
                        "hours": 0.5,
                    },
                    "leg": {
                        "between_sd": 1.0,
                        "bonafide_between_sd": 0.7,
                        "spoof_between_sd": 1.6,
                        "within_sd": 2.0,
                    },
                }
            }
        },
    }
    (tmp_path / "bundle.yaml").write_text(yaml.safe_dump(document))
    items = _collection()
    result = evaluate.report({"direct": items}, frozenset())
    split = Split({"a": "train", "b": "validation"}, frozenset({"secret"}))
    card = write_card(tmp_path, result, [item.clip for item in items], split)
    assert "direct, paired sources" in card
    assert "**train**, 40 clips of 1 sources: a (40)." in card
    assert "b (20)" in card
    assert "secret" in card
    assert "espeak-ng" in card
    assert "fake" not in card


def test_the_numbers_can_be_written_as_json() -> None:
    result = evaluate.report({"direct": _collection()}, frozenset())
    plain = json.loads(json.dumps(result, default=evaluate.plain))
    assert plain["measured"]["direct"]["eer"]["low"] <= plain["measured"]["direct"]["eer"]["high"]
    metrics = evaluate.bundle_metrics(result)
    assert all(math.isfinite(value) for value in metrics.values())
    assert "validation_direct_paired_sources_eer" in metrics
