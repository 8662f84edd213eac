"""From blocks to window scores: windows, rejections, accounts, attribution, segments, state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from streamguard.audio.frames import Hop, HopQuality, RawBlock
from streamguard.audio.frontend import FrontEnd
from streamguard.audio.intake import Intake
from streamguard.audio.settings import GateSettings
from streamguard.clock import WINDOW_HOPS
from streamguard.errors import BundleError
from streamguard.events import Audio
from streamguard.inference.lanes import Lanes
from streamguard.inference.leg import HopKind
from streamguard.inference.network import Network
from streamguard.inference.scorer import Models, Scorer
from streamguard.verdict.calibration import ConformalTable
from streamguard.verdict.rejection import judge_window
from streamguard.verdict.scores import Channel, Rejection
from tests.inference.makers import (
    NumpyEngine,
    PlainFrontEnd,
    attribution_document,
    block,
    bundle_of,
    detection_document,
    dropped_block,
    judge,
)
from tests.inference.rig import Rig, scores

if TYPE_CHECKING:
    from streamguard.inference.engine import Tensors


def test_a_window_comes_with_the_sixth_hop_and_with_each_one_after() -> None:
    results = Rig().feed(block("a", i) for i in range(8))
    assert [r.index for r in results] == list(range(8))
    assert [r.score is not None for r in results] == [False] * 5 + [True] * 3
    assert [(s.index, s.start_s, s.end_s) for s in scores(results)] == [
        (5, 0.0, 3.0),
        (6, 0.5, 3.5),
        (7, 1.0, 4.0),
    ]


def test_the_llr_is_calibrated_and_the_hops_are_counted_once() -> None:
    first, second = scores(Rig().feed(block("a", i) for i in range(7)))
    assert first.raw is not None
    assert first.llr == pytest.approx(2.0 * first.raw + 0.5)
    assert (first.new_hops, second.new_hops) == (6, 1)
    assert first.net_speech_s == pytest.approx(6 * 0.4)
    assert second.net_speech_s == pytest.approx(0.4)
    assert first.received_at == 2.5


def test_the_window_score_is_that_of_the_samples_of_its_hops() -> None:
    blocks = [block("a", i) for i in range(7)]
    (_, second) = scores(Rig().feed(blocks))
    x = np.concatenate([b.samples.astype(np.float64) / 32768 for b in blocks])
    now, before = x[8000:], x[8000 - 16 : -16]
    assert second.raw == pytest.approx(4 * now.mean() + (now * before).mean(), abs=1e-4)


def test_hops_that_are_not_usable_add_nothing() -> None:
    levels = [0.25, 0.25, 0.0, 0.25, 0.0, 0.25]
    rig = Rig()
    (mixed,) = scores(rig.feed(block("a", i, level=x) for i, x in enumerate(levels)))
    assert mixed.rejected is None
    assert (mixed.usable_hops, mixed.new_hops) == (4, 4)
    assert mixed.raw is not None
    assert mixed.raw > 4 * 0.24, "silence would have pulled the mean down"
    assert [rows for graph, rows in rig.engine.calls if graph == "hop_fp32"] == [1, 1, 1, 1]


def test_a_rejected_window_has_its_llr_but_counts_no_hops() -> None:
    levels = [0.0] * 4 + [0.25] * 3
    results = scores(Rig().feed(block("a", i, level=x) for i, x in enumerate(levels)))
    rejected, accepted = results
    assert rejected.rejected is Rejection.SILENCE
    assert rejected.llr is not None
    assert rejected.new_hops == 0
    assert accepted.rejected is None
    assert accepted.new_hops == 3, "those that the rejected window did not count"


def test_a_window_without_any_usable_hop_has_no_llr() -> None:
    (score,) = scores(Rig().feed(block("a", i, level=0.0) for i in range(6)))
    assert (score.rejected, score.raw, score.llr) == (Rejection.SILENCE, None, None)


def test_a_dropped_hop_rejects_its_windows_as_overload() -> None:
    blocks = [block("a", i) for i in range(6)] + [dropped_block("a", 6)]
    blocks += [block("a", i) for i in range(7, 13)]
    rig = Rig()
    results = rig.feed(blocks)
    said = [s.rejected for s in scores(results)]
    assert said == [None] + [Rejection.OVERLOAD] * 6 + [None]
    assert (results[6].kind, results[6].quality) == (HopKind.DROPPED, None)
    assert {r.kind for r in results[:6] + results[7:]} == {HopKind.HOP}
    assert scores(results)[-1].new_hops == 6
    assert rig.scorer.counts["dropped"] == 1


def test_hops_that_never_came_are_holes_not_splices() -> None:
    blocks = [block("a", i) for i in (0, 1, 2, 3, 4, 7)]
    (score,) = scores(Rig().feed(blocks))
    assert score.rejected is Rejection.OVERLOAD
    assert (score.start_s, score.end_s) == (1.0, 4.0)


def test_a_channel_without_calibration_is_uncalibrated() -> None:
    rig = Rig(channels=(Channel.NARROW,))
    (score,) = scores(rig.feed(block("a", i) for i in range(6)))
    assert (score.rejected, score.llr, score.new_hops) == (Rejection.UNCALIBRATED, None, 0)
    assert score.raw is not None


def test_a_precision_without_calibration_is_uncalibrated() -> None:
    rig = Rig()
    rig.engine.info = replace(rig.engine.info, precision="int8")
    (score,) = scores(rig.feed(block("a", i) for i in range(6)))
    assert (score.rejected, score.llr) == (Rejection.UNCALIBRATED, None)


class DistantEngine(NumpyEngine):
    """Its head says that every window is so far away."""

    def __init__(self, ood: float) -> None:
        super().__init__()
        self.ood = ood

    def run(self, graph: str, inputs: Tensors) -> Tensors:
        out = dict(super().run(graph, inputs))
        if not graph.startswith("hop"):
            out["ood"] = np.full_like(out["logit"], self.ood)
        return out


def distant_scorer(ood: float) -> Scorer:
    """On distances of up to 198 it was calibrated."""
    document = detection_document()
    document["thresholds"] = {"ood": 0.02}
    bundle = bundle_of(document, Channel.WIDE)
    seen = ConformalTable(tuple(float(i) for i in range(199)))
    known = replace(bundle.calibrations["fp32"][Channel.WIDE], ood=seen)
    bundle = replace(bundle, calibrations={"fp32": {Channel.WIDE: known}})
    models = Models(Network(bundle, DistantEngine(ood)))
    return Scorer(models, front_end=PlainFrontEnd, judge=judge)


@pytest.mark.parametrize(("ood", "strange"), [(100.0, False), (195.0, False), (197.0, True)])
def test_a_window_far_from_the_training_data_is_rejected_but_keeps_its_llr(
    ood: float, strange: bool
) -> None:
    scorer = distant_scorer(ood)
    results = [result for i in range(6) for result in scorer.process([block("a", i)])]
    (score,) = scores(results)
    assert score.ood == ood
    assert score.llr is not None
    assert score.rejected is (Rejection.OUT_OF_DISTRIBUTION if strange else None)
    assert score.new_hops == (0 if strange else 6)


def test_a_distance_that_is_no_number_is_out_of_distribution() -> None:
    scorer = distant_scorer(float("nan"))
    results = [result for i in range(6) for result in scorer.process([block("a", i)])]
    (score,) = scores(results)
    assert score.rejected is Rejection.OUT_OF_DISTRIBUTION


def test_numbers_that_are_none_are_not_passed_on() -> None:
    rig = Rig(state=True)
    rig.feed(block("a", i) for i in range(5))
    healthy = rig.engine._hop

    def broken(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: np.full_like(x, np.nan) for name, x in healthy(inputs).items()}

    rig.engine._hop = broken  # type: ignore[method-assign,assignment]  # a graph gone wrong
    (score,) = scores(rig.feed([block("a", 5)]))
    rig.engine._hop = healthy  # type: ignore[method-assign]  # well again
    (after,) = scores(rig.feed([block("a", 6)]))
    assert rig.scorer.counts["non_finite"] == 1
    assert (score.usable_hops, after.usable_hops) == (5, 5)
    assert after.raw is not None
    assert np.isfinite(after.raw)


@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("at_once", [1, 2, 5, 64])
def test_two_legs_interleaved_score_as_each_alone(state: bool, at_once: int) -> None:
    a = [block("a", i, level=0.2 + 0.01 * i) for i in range(10)]
    b = [block("b", i, level=-0.1 if i % 3 else 0.0) for i in range(9)]
    mixed = [x for pair in zip(a, b, strict=False) for x in pair] + a[9:]
    together = Rig(state=state).feed(mixed, at_once)
    for leg, alone in (("a", a), ("b", b)):
        expected = scores(Rig(state=state).feed(alone))
        got = scores(together, leg)
        assert [s.index for s in got] == [s.index for s in expected]
        for x, y in zip(got, expected, strict=True):
            assert x.raw == pytest.approx(y.raw, abs=1e-5)
            assert (x.rejected, x.new_hops, x.usable_hops) == (
                y.rejected,
                y.new_hops,
                y.usable_hops,
            )


@pytest.mark.parametrize("state", [False, True])
def test_two_hops_of_one_block_are_taken_in_order(state: bool) -> None:
    class TwoHops(PlainFrontEnd):
        def process(self, block: RawBlock) -> list[Hop]:
            halves = [
                replace(block, first_sample=block.first_sample + at, samples=samples)
                for at, samples in ((0, block.samples[:8000]), (8000, block.samples[8000:]))
            ]
            return [hop for half in halves for hop in super(TwoHops, self).process(half)]

    rig, plain = Rig(state=state), [block("a", i) for i in range(8)]
    rig.front_ends["a"] = TwoHops("a", 16)
    pairs = [
        replace(one, samples=np.concatenate([one.samples, two.samples]))
        for one, two in zip(plain[::2], plain[1::2], strict=True)
    ]
    got, expected = scores(rig.feed(pairs)), scores(Rig(state=state).feed(plain))
    assert [s.raw for s in got] == pytest.approx([s.raw for s in expected], abs=1e-6)
    hop_calls = [rows for graph, rows in rig.engine.calls if graph == "hop_fp32"]
    assert hop_calls == ([1] * 8 if state else [2] * 4)


def test_a_batch_of_many_legs_is_one_call_of_each_graph() -> None:
    rig = Rig()
    for i in range(6):
        rig.scorer.process([block(leg, i) for leg in "abcde"])
    assert rig.engine.calls == [("hop_fp32", 5)] * 6 + [("head_fp32", 5)]


def test_what_is_said_does_not_depend_on_how_blocks_are_batched() -> None:
    blocks = [block("a", i, level=0.02 * i) for i in range(14)]
    one = Rig(attribution=True).feed(blocks, 1)
    many = Rig(attribution=True).feed(blocks, 14)
    assert scores(one) == scores(many)
    assert any(score.attribution is not None for score in scores(one))


def test_a_new_call_with_the_same_name_starts_from_nothing() -> None:
    rig = Rig(state=True)
    first = rig.feed(block("a", i) for i in range(7))
    assert rig.scorer.close_leg("a") == []
    rig.front_ends.clear()
    again = rig.feed(block("a", i) for i in range(7))
    assert scores(first) == scores(again)


def test_segments_are_never_spliced() -> None:
    blocks = [block("a", i) for i in range(7)]
    blocks += [block("a", i, segment=1) for i in range(7, 13)]
    results = Rig(state=True).feed(blocks)
    assert [(s.segment, s.index) for s in scores(results)] == [(0, 5), (0, 6), (1, 12)]
    fresh = scores(Rig(state=True).feed(block("a", i, segment=1) for i in range(7, 13)))
    assert scores(results)[-1] == fresh[-1]


def test_a_short_segment_gives_one_partial_window_when_it_ends() -> None:
    blocks = [block("a", i) for i in range(3)] + [block("a", 3, segment=1)]
    results = Rig().feed(blocks)
    (partial,) = scores(results)
    assert (partial.segment, partial.index, partial.start_s, partial.end_s) == (0, 2, 0.0, 1.5)
    assert (partial.usable_hops, partial.new_hops) == (3, 3)
    assert partial.net_speech_s == pytest.approx(1.2)
    assert [(r.segment, r.index) for r in results][-2:] == [(0, 2), (1, 3)]
    assert [r.kind for r in results][-2:] == [HopKind.REST, HopKind.HOP]


def test_a_short_leg_gives_one_partial_window_when_it_is_closed() -> None:
    rig = Rig()
    rig.feed(block("a", i) for i in range(4))
    (result,) = rig.scorer.close_leg("a")
    assert result.score is not None
    assert (result.quality, result.index, result.score.usable_hops) == (None, 3, 4)
    assert result.kind is HopKind.REST
    assert rig.scorer.close_leg("a") == []


def test_the_rest_after_full_windows_is_no_news() -> None:
    rig = Rig()
    rig.feed(block("a", i) for i in range(9))
    assert rig.scorer.close_leg("a") == []


def test_other_models_start_windows_anew_and_close_the_old_ones() -> None:
    rig = Rig(state=True)
    rig.feed(block("a", i) for i in range(6))
    engine = NumpyEngine(state=True)
    rig.scorer.replace_models(Models(Network(bundle_of(detection_document(state=True)), engine)))
    assert rig.engine.closed
    results = rig.feed(block("a", i) for i in range(6, 12))
    assert [s.index for s in scores(results)] == [11]
    assert scores(results)[0].new_hops == 6
    assert engine.calls[0] == ("hop_fp32", 1)


def test_a_model_that_reads_more_context_gets_it_from_the_ring() -> None:
    rig = Rig()
    rig.feed([block("a", 0)])
    rig.front_ends["a"].left_context = 0
    rig.feed([block("a", 1)])
    assert rig.front_ends["a"].replays == 1
    assert [rows for _, rows in rig.engine.calls] == [1, 1]


def test_models_of_the_wrong_task_are_refused() -> None:
    detector = Network(bundle_of(detection_document()), NumpyEngine())
    attribution = Network(bundle_of(attribution_document()), NumpyEngine(task="attribution"))

    def scorer(models: Models) -> Scorer:
        return Scorer(models, front_end=PlainFrontEnd, judge=judge)

    with pytest.raises(BundleError, match="task: attribution: detection is needed"):
        scorer(Models(attribution))
    with pytest.raises(BundleError, match="task: detection: attribution is needed"):
        scorer(Models(detector, detector))


def test_the_judge_sees_the_qualities_of_the_six_hops() -> None:
    seen: list[list[HopQuality | None]] = []

    def spy(qualities: Sequence[HopQuality | None]) -> None:
        seen.append(list(qualities))

    network = Network(bundle_of(detection_document()), NumpyEngine())
    scorer = Scorer(Models(network), front_end=PlainFrontEnd, judge=spy)
    for i in range(5):
        scorer.process([block("a", i)])
    scorer.process([dropped_block("a", 5)])
    (qualities,) = seen
    assert [quality is None for quality in qualities] == [False] * 5 + [True]


def _real_scorer() -> Scorer:
    """With the front end and the gate of the product."""
    gate = GateSettings()
    return Scorer(
        Models(Network(bundle_of(detection_document()), NumpyEngine())),
        front_end=lambda leg, left_context: FrontEnd(leg, left_context, gate),
        judge=partial(judge_window, settings=gate),
    )


@pytest.mark.parametrize("rate_hz", [8000, 11025, 16000, 44100, 48000])
@pytest.mark.parametrize("dropped", [1, 6, 7, 30])
def test_a_hole_of_any_length_rejects_its_windows_and_keeps_the_grid(
    rate_hz: int, dropped: int
) -> None:
    intake, lanes, scorer = Intake("a", rate_hz), Lanes(per_leg=4, total=64), _real_scorer()
    speech = np.random.default_rng(1).normal(0, 3000, 60 * rate_hz).astype(np.int16)
    blocks = [b for b in intake.audio(Audio("a", 0, speech, 0.0)) if b.first_sample // rate_hz < 28]
    results = []
    for i, raw in enumerate(blocks):
        lanes.put(raw, live=True)
        if not 10 <= i < 13 + dropped:
            results += scorer.process(lanes.take(64).blocks)
    assert lanes.dropped == {"overload": dropped}
    assert lanes.submitted == lanes.taken + dropped
    if dropped <= WINDOW_HOPS:
        assert scorer.counts["dropped"] == dropped
    else:  # skipped, but for a hop that the next block only ends
        assert scorer.counts["dropped"] == (rate_hz == 11025)

    indices = [r.index for r in results if r.kind is not HopKind.REST]
    assert indices == sorted(set(indices))
    # At a rate of no whole half second the hop of a block may come with the block after it.
    assert len(blocks) - 2 <= indices[-1] < len(blocks)
    said = {score.index: score.rejected for score in scores(results)}
    for index, rejected in said.items():
        in_hole = 10 <= index < 10 + dropped + WINDOW_HOPS - 1
        assert (rejected is Rejection.OVERLOAD) == in_hole, index
    assert max(said) > 20 + dropped


def test_the_real_front_end_and_gate_fit() -> None:
    scorer = _real_scorer()
    results = [r for i in range(7) for r in scorer.process([block("a", i, level=0.0)])]
    assert [s.rejected for s in scores(results)] == [Rejection.SILENCE] * 2
