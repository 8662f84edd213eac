"""Attribution in the scorer: when it runs, on what, how late.

Levels around 0.25 lean to spoof and to the first technology, below 0 to bona fide.
"""

from __future__ import annotations

import pytest

from streamguard.audio.frames import RawBlock
from streamguard.inference.leg import HopKind
from streamguard.inference.network import Network
from streamguard.inference.scorer import HopResult, Models
from streamguard.verdict.scores import Attribution, Label
from tests.inference.makers import (
    NumpyEngine,
    attribution_document,
    block,
    bundle_of,
    detection_document,
    dropped_block,
)
from tests.inference.rig import Rig, scores


def test_a_leaning_window_is_attributed_with_the_hops_it_missed() -> None:
    rig = Rig(attribution=True)
    results = scores(rig.feed(block("a", i) for i in range(8)))
    for score in results:
        assert score.attribution is not None
        assert isinstance(score.attribution.technology, Label)
        assert score.attribution.technology.label == "tts"
    assert [rows for graph, rows in rig.attribution.calls if graph == "hop_fp32"] == [6, 1, 1]


def test_a_window_that_leans_to_bona_fide_is_not_attributed() -> None:
    rig = Rig(attribution=True)
    (score,) = scores(rig.feed(block("a", i, level=-0.25) for i in range(6)))
    assert score.llr is not None
    assert score.llr < 0
    assert score.attribution is None
    assert rig.attribution.calls == []


def test_a_rejected_window_is_not_attributed() -> None:
    rig = Rig(attribution=True)
    rig.feed(block("a", i, level=0.25 if i == 5 else 0.0) for i in range(6))
    assert rig.attribution.calls == []


def test_attribution_at_a_capped_rate_comes_late_and_is_still_right() -> None:
    rig = Rig(attribution=True, catch_up=3)
    results = rig.feed(block("a", i) for i in range(6))
    assert all(score.attribution is None for score in scores(results))
    assert rig.attribution.calls == [("hop_fp32", 4)], "one for the new hop and three to catch up"
    results = rig.feed([block("b", 0), dropped_block("a", 6)])
    (result,) = [r for r in results if r.late is not None]
    assert (result.leg, result.index, result.score, result.quality) == ("a", 5, None, None)
    assert result.kind is HopKind.LATE
    assert result.late is not None
    prompt = scores(Rig(attribution=True).feed(block("a", i) for i in range(6)))[0]
    assert result.late == prompt.attribution


@pytest.mark.parametrize("catch_up", [0, 1, 2, 6])
def test_at_any_rate_every_window_of_a_steady_leg_is_attributed_in_the_end(catch_up: int) -> None:
    rig = Rig(attribution=True, catch_up=catch_up)
    results = scores(rig.feed(block("a", i) for i in range(20)))
    assert all(score.attribution is not None for score in results[5:])
    rows = [rows for graph, rows in rig.attribution.calls if graph == "hop_fp32"]
    assert max(rows) == min(6, 1 + catch_up)


@pytest.mark.parametrize("catch_up", [0, 1, 6])
def test_labels_are_the_same_whether_legs_come_together_or_alone(catch_up: int) -> None:
    def labels(results: list[HopResult], leg: str) -> dict[int, Attribution]:
        late = {r.index: r.late for r in results if r.leg == leg and r.late is not None}
        prompt = {
            score.index: score.attribution
            for score in scores(results, leg)
            if score.attribution is not None
        }
        return late | prompt

    def hop(leg: str, i: int) -> RawBlock:
        leans = leg == "a" or (i + ord(leg)) % 5 > 0
        return block(leg, i, level=0.25 if leans else -0.9)

    mixed = [hop(leg, i) for i in range(16) for leg in "abcd"]
    together = Rig(attribution=True, catch_up=catch_up).feed(mixed, at_once=4)
    in_turn = Rig(attribution=True, catch_up=catch_up).feed(mixed, at_once=1)
    for leg in "abcd":
        alone = labels(
            Rig(attribution=True, catch_up=catch_up).feed(hop(leg, i) for i in range(16)), leg
        )
        assert alone
        for got in (labels(together, leg), labels(in_turn, leg)):
            assert got.keys() == alone.keys()
            for index, label in alone.items():
                assert str(got[index].technology) == str(label.technology)


def test_what_waits_is_finished_when_the_leg_is_closed() -> None:
    rig = Rig(attribution=True, catch_up=0)
    rig.feed(block("a", i) for i in range(6))
    (result,) = rig.scorer.close_leg("a")
    assert result.late is not None


def test_under_load_attribution_is_shed_and_counted_and_detection_goes_on() -> None:
    rig = Rig(attribution=True)
    for i in range(5):
        rig.scorer.process([block("a", i)])
    (result,) = rig.scorer.process([block("a", 5)], shed_attribution=True)
    assert result.score is not None
    assert result.score.llr is not None
    assert result.score.attribution is None
    assert rig.attribution.calls == []
    assert rig.scorer.attribution_counts["shed"] == 1


def test_a_window_whose_audio_was_overwritten_is_lost_and_counted() -> None:
    rig = Rig(attribution=True)
    rig.feed(block("a", i) for i in range(5))
    rig.front_ends["a"].keep_hops = 2
    (score,) = scores(rig.feed([block("a", 5)]))
    assert score.llr is not None
    assert score.attribution is None
    assert rig.scorer.attribution_counts["lost"] == 1


def test_a_newer_window_takes_the_place_of_one_that_waits() -> None:
    rig = Rig(attribution=True, catch_up=0)
    results = rig.feed(block("a", i) for i in range(7))
    assert [r for r in results if r.late] == []
    assert rig.scorer.attribution_counts["superseded"] == 1


def test_a_window_that_waits_when_its_leg_is_forgotten_is_lost_and_counted() -> None:
    rig = Rig(attribution=True, catch_up=0)
    rig.feed(block("a", i) for i in range(6))
    attributor = rig.scorer._attributor
    assert attributor is not None
    attributor.forget("a")
    attributor.forget("a")
    assert rig.scorer.attribution_counts == {"lost": 1}


def test_a_change_of_models_loses_what_waits_and_goes_on_counting() -> None:
    rig = Rig(attribution=True)
    rig.feed(block("a", i) for i in range(6))
    rig.scorer._catch_up = 0
    rig.feed(block("b", i) for i in range(6))
    rig.scorer.replace_models(
        Models(
            Network(bundle_of(detection_document()), NumpyEngine()),
            Network(bundle_of(attribution_document()), NumpyEngine(task="attribution")),
        )
    )
    assert rig.scorer.attribution_counts == {"attributed": 1, "lost": 1}


def test_attribution_has_a_time_only_where_it_ran() -> None:
    rig = Rig(attribution=True)
    results = rig.feed(block("a", i, level=0.25 if i > 2 else -0.9) for i in range(9))
    leans = [r.score is not None and r.score.attribution is not None for r in results]
    assert [r.stages.attribution > 0 for r in results] == leans
    assert set(leans) == {False, True}


def test_attribution_runs_on_usable_hops_only() -> None:
    rig = Rig(attribution=True)
    (score,) = scores(rig.feed(block("a", i, level=0.25 * (i != 2)) for i in range(6)))
    assert score.attribution is not None
    assert [rows for graph, rows in rig.attribution.calls if graph == "hop_fp32"] == [5]
