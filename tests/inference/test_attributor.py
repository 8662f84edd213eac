"""Attribution in the scorer: when it runs, on what, how late.

Levels around 0.25 lean to spoof and to the first technology, below 0 to bona fide.
"""

from __future__ import annotations

from streamguard.verdict.scores import Label
from tests.inference.makers import (
    block,
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
    rig = Rig(attribution=True, catch_up=2)
    results = rig.feed(block("a", i) for i in range(6))
    assert all(score.attribution is None for score in scores(results))
    assert rig.attribution.calls == [("hop_fp32", 3)], "one for the new hop and two to catch up"
    late = [r for r in rig.scorer.process([block("b", 0)]) if r.late is not None]
    (result,) = late
    assert (result.leg, result.index, result.score, result.quality) == ("a", 5, None, None)
    assert result.late is not None
    prompt = scores(Rig(attribution=True).feed(block("a", i) for i in range(6)))[0]
    assert result.late == prompt.attribution


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


def test_attribution_runs_on_usable_hops_only() -> None:
    rig = Rig(attribution=True)
    (score,) = scores(rig.feed(block("a", i, level=0.25 * (i != 2)) for i in range(6)))
    assert score.attribution is not None
    assert [rows for graph, rows in rig.attribution.calls if graph == "hop_fp32"] == [5]
