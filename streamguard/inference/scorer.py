"""From blocks of many legs to window scores. Synchronous; owned by the inference thread."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamguard.audio.frames import HopQuality, RawBlock
from streamguard.clock import HOP_SECONDS, WINDOW_HOPS
from streamguard.errors import BundleError
from streamguard.inference.attributor import Attributor
from streamguard.inference.leg import (
    Arrival,
    Draft,
    FrontEndLike,
    HopKind,
    LegState,
    Slot,
    rounds,
)
from streamguard.inference.network import HopOutput, Network
from streamguard.verdict.rejection import OOD_ALPHA, is_strange
from streamguard.verdict.scores import Attribution, Rejection, WindowScore

if TYPE_CHECKING:
    import numpy.typing as npt

    from streamguard.inference.network import Row
    from streamguard.verdict.calibration import ChannelCalibration

FRAME_SECONDS = 0.01
"""Of the gate's speech frames."""


@dataclass(frozen=True, slots=True)
class StageSeconds:
    """Time that a batch spent in each stage; all its hops share it."""

    front_end: float = 0.0
    detector: float = 0.0
    head: float = 0.0
    attribution: float = 0.0
    """0 where no window of these legs was in line for it."""


@dataclass(frozen=True, slots=True)
class HopResult:
    """What became of one hop, or what became known later of an earlier one."""

    leg: str
    segment: int
    index: int
    """Of the hop, which is the last hop of the window."""
    quality: HopQuality | None
    """Of a ``HopKind.HOP``; None for the other kinds."""
    score: WindowScore | None
    """None before the sixth hop of a segment."""
    late: Attribution | None = None
    """Attribution of the window that ended here, which was scored before; comes with no score."""
    stages: StageSeconds = StageSeconds()
    received_at: float = 0.0
    kind: HopKind = HopKind.HOP


@dataclass(frozen=True, slots=True)
class Models:
    """What is swapped as one."""

    detector: Network
    attribution: Network | None = None

    def warm_up(self) -> None:
        for network in self._networks():
            network.warm_up()

    def close(self) -> None:
        for network in self._networks():
            network.close()

    def _networks(self) -> tuple[Network, ...]:
        return tuple(n for n in (self.detector, self.attribution) if n is not None)


class Scorer:
    """Keeps the last six hops of every leg, and runs both networks on batches across legs.

    ``front_end(leg, left_context)`` makes the front end of a new leg; ``judge`` says why a window
    abstains, given the qualities of its hops (None: dropped for overload). ``counts``: ``hops``,
    ``unusable``, ``dropped``, ``non_finite``, ``windows``.
    """

    def __init__(
        self,
        models: Models,
        *,
        front_end: Callable[[str, int], FrontEndLike],
        judge: Callable[[Sequence[HopQuality | None]], Rejection | None],
        attribution_min_llr: float = 0.0,
        attribution_catch_up_hops: int = WINDOW_HOPS,
    ) -> None:
        self._front_end = front_end
        self._judge = judge
        self._min_llr = attribution_min_llr
        self._catch_up = attribution_catch_up_hops
        self._legs: dict[str, LegState] = {}
        self.counts: Counter[str] = Counter()
        self._attribution_counts: Counter[str] = Counter()
        self._use(models)

    def _use(self, models: Models) -> None:
        bundle = models.detector.bundle
        if bundle.manifest.task != "detection":
            raise BundleError(
                str(bundle.folder), f"task: {bundle.manifest.task}: detection is needed here"
            )
        attributor = None
        if models.attribution is not None:
            attributor = Attributor(models.attribution, self._attribution_counts)
        self._models = models
        self._detector = models.detector
        self._ood_alpha = bundle.manifest.thresholds.ood or OOD_ALPHA
        self._attributor = attributor

    @property
    def attribution_counts(self) -> Mapping[str, int]:
        """As :class:`Attributor` counts, over all models there were; empty without attribution."""
        return dict(self._attribution_counts)

    def replace_models(self, models: Models) -> None:
        """Take other models; windows start anew, audio goes on. The old ones are closed."""
        old, attributor = self._models, self._attributor
        self._use(models)
        for leg in self._legs.values():
            leg.forget_scores()
            if attributor is not None:
                attributor.forget(leg.name)
        old.close()

    def warm_up(self) -> None:
        self._models.warm_up()

    def close(self) -> None:
        self._models.close()
        self._legs.clear()

    def process(
        self, blocks: Sequence[RawBlock], *, shed_attribution: bool = False
    ) -> list[HopResult]:
        """Score blocks, those of one leg in their order; results of one leg come in its order.

        Never two blocks of a leg at once: what is said must not depend on how blocks are batched.
        """
        results = []
        for at_once in rounds(blocks):
            results += self._process(at_once, shed=shed_attribution)
        return results

    def _process(self, blocks: Sequence[RawBlock], *, shed: bool) -> list[HopResult]:
        started = time.perf_counter()
        arrivals = [arrival for block in blocks for arrival in self._arrivals(block)]
        heard = time.perf_counter()
        outputs = self._run_detector(arrivals)
        ran = time.perf_counter()
        drafts: list[Draft] = []
        for arrival, output in zip(arrivals, outputs, strict=True):
            drafts += self._place(arrival, output)
        stages = StageSeconds(front_end=heard - started, detector=ran - heard)
        new_hops = Counter(arrival.leg.name for arrival in arrivals)
        budget = {leg: count + self._catch_up for leg, count in new_hops.items()}
        return self._finish(drafts, stages, budget, shed=shed)

    def close_leg(self, leg: str, *, shed_attribution: bool = False) -> list[HopResult]:
        """Forget a leg; score what it had if that never filled a window, finish what waits."""
        state = self._legs.get(leg)
        if state is None:
            return []
        drafts = state.rest()
        results = self._finish(drafts, StageSeconds(), {leg: WINDOW_HOPS}, shed=shed_attribution)
        del self._legs[leg]
        if self._attributor is not None:
            self._attributor.forget(leg)
        return results

    def _arrivals(self, block: RawBlock) -> list[Arrival]:
        leg = self._legs.get(block.leg)
        if leg is None:
            front_end = self._front_end(block.leg, self._detector.left_context)
            leg = self._legs[block.leg] = LegState(block.leg, front_end)
        return leg.hear(block)

    def _run_detector(self, arrivals: Sequence[Arrival]) -> list[HopOutput | None]:
        """One call for all hops; with recurrent state, one for the first of each leg, and so on."""
        outputs: list[HopOutput | None] = [None] * len(arrivals)
        turns: list[list[int]] = []
        depth: Counter[str] = Counter()
        for i, arrival in enumerate(arrivals):
            if arrival.dropped or not (arrival.hop.usable or self._detector.whole_window):
                continue
            at = depth[arrival.leg.name] if self._detector.has_state else 0
            depth[arrival.leg.name] += 1
            if at == len(turns):
                turns.append([])
            turns[at].append(i)
        for members in turns:
            inputs = {i: self._samples(arrivals[i]) for i in members}
            ready = {i: samples for i, samples in inputs.items() if samples is not None}
            states = [self._state(arrivals[i]) for i in ready]
            results = self._detector.hops(list(ready.values()), states)
            for i, output in zip(ready, results, strict=True):
                leg = arrivals[i].leg
                leg.state = output.state if output.finite else None
                self.counts["non_finite"] += not output.finite
                outputs[i] = output
        return outputs

    def _samples(self, arrival: Arrival) -> npt.NDArray[np.float32] | None:
        hop, need = arrival.hop, self._detector.left_context
        if len(hop.context) >= need:
            return np.concatenate([hop.context[len(hop.context) - need :], hop.samples])
        # The front end was made for a model that reads less; its ring holds what is missing.
        return arrival.leg.front_end.replay(hop.index, need)

    def _state(self, arrival: Arrival) -> Row:
        leg = arrival.leg
        if leg.state is None or leg.state_segment != arrival.hop.segment:
            leg.state = self._detector.fresh_state()
            leg.state_segment = arrival.hop.segment
        return leg.state

    def _place(self, arrival: Arrival, output: HopOutput | None) -> list[Draft]:
        leg, hop = arrival.leg, arrival.hop
        drafts: list[Draft] = []
        if hop.segment != leg.segment:
            drafts += leg.rest()
            leg.start_segment(hop.segment)
        parts = output.parts if output is not None and output.finite else None
        usable = hop.usable and parts is not None
        quality = None if arrival.dropped else hop.quality
        self.counts.update(hops=1, unusable=not usable, dropped=arrival.dropped)
        leg.add(Slot(hop.index, quality, usable, parts))
        leg.received_at = hop.received_at
        leg.channel = arrival.channel
        full = len(leg.slots) == WINDOW_HOPS
        drafts.append(
            Draft(
                leg=leg,
                kind=HopKind.DROPPED if arrival.dropped else HopKind.HOP,
                segment=hop.segment,
                index=hop.index,
                quality=quality,
                channel=arrival.channel,
                window=tuple(leg.slots) if full else (),
                first=not leg.had_window,
                received_at=hop.received_at,
            )
        )
        leg.had_window = leg.had_window or full
        return drafts

    def _finish(
        self,
        drafts: Sequence[Draft],
        stages: StageSeconds,
        budget: Mapping[str, int],
        *,
        shed: bool,
    ) -> list[HopResult]:
        started = time.perf_counter()
        scores = self._score(drafts)
        scored = time.perf_counter()
        late: list[HopResult] = []
        attribution_s = 0.0
        if self._attributor is not None:
            self._line_up(self._attributor, drafts, scores, shed=shed)
            if self._attributor.waits(budget):
                late = self._attribute(self._attributor, drafts, scores, budget)
                attribution_s = time.perf_counter() - scored
        stages = dataclasses.replace(stages, head=scored - started, attribution=attribution_s)
        results = [
            HopResult(
                leg=draft.leg.name,
                segment=draft.segment,
                index=draft.index,
                quality=draft.quality,
                score=score,
                stages=stages,
                received_at=draft.received_at,
                kind=draft.kind,
            )
            for draft, score in zip(drafts, scores, strict=True)
        ]
        return results + [dataclasses.replace(result, stages=stages) for result in late]

    def _score(self, drafts: Sequence[Draft]) -> list[WindowScore | None]:
        windows = [self._parts_of(draft) for draft in drafts]
        asked = [parts for parts in windows if parts]
        rows = iter(self._detector.windows(asked))
        return [
            self._window_score(draft, next(rows) if parts else {}) if draft.window else None
            for draft, parts in zip(drafts, windows, strict=True)
        ]

    def _parts_of(self, draft: Draft) -> list[Row]:
        """Empty where the head is not to be asked."""
        parts = [slot.parts for slot in draft.window if slot.parts is not None]
        if self._detector.whole_window:
            # It runs on the pauses of a window too, but not on a window of nothing else.
            speech = any(slot.usable for slot in draft.window)
            return parts if speech and len(parts) == len(draft.window) else []
        return parts

    def _window_score(self, draft: Draft, row: Row) -> WindowScore:
        """``row``: what the head says of the window; empty where it was not asked."""
        window = draft.window
        self.counts["windows"] += 1
        raw = float(row["logit"][0]) if row and np.isfinite(row["logit"][0]) else None
        ood = float(row["ood"][0]) if "ood" in row else None
        calibration = self._detector.bundle.calibration(self._detector.precision, draft.channel)
        affine = calibration.llr if calibration is not None else None
        rejected = self._judge([slot.quality for slot in window])
        if rejected is None:
            rejected = self._distrust(raw, ood, calibration)
        added = window if draft.first else window[-1:]
        frames = sum(slot.quality.active_frames for slot in added if slot.quality is not None)
        return WindowScore(
            leg=draft.leg.name,
            segment=draft.segment,
            index=draft.index,
            start_s=window[0].index * HOP_SECONDS,
            end_s=(draft.index + 1) * HOP_SECONDS,
            raw=raw,
            llr=affine.apply(raw) if affine is not None and raw is not None else None,
            rejected=rejected,
            new_hops=draft.leg.count_new(window) if rejected is None else 0,
            usable_hops=sum(slot.usable for slot in window),
            net_speech_s=frames * FRAME_SECONDS,
            channel=draft.channel,
            received_at=draft.received_at,
            ood=ood,
        )

    def _distrust(
        self, raw: float | None, ood: float | None, calibration: ChannelCalibration | None
    ) -> Rejection | None:
        """Why the detector's own numbers are no evidence, although the gate heard speech."""
        if calibration is None or calibration.llr is None:
            return Rejection.UNCALIBRATED
        if raw is None or is_strange(ood, calibration.ood, self._ood_alpha):
            return Rejection.OUT_OF_DISTRIBUTION
        return None

    def _line_up(
        self,
        attributor: Attributor,
        drafts: Sequence[Draft],
        scores: Sequence[WindowScore | None],
        *,
        shed: bool,
    ) -> None:
        """Ask for the attribution of the windows that lean to spoof."""
        leaning = [
            (draft, score)
            for draft, score in zip(drafts, scores, strict=True)
            if score is not None
            and score.rejected is None
            and score.llr is not None
            and score.llr >= self._min_llr
        ]
        if shed:
            attributor.shed(len(leaning))
            return
        for draft, score in leaning:
            attributor.ask(draft.leg, score, draft.window)

    def _attribute(
        self,
        attributor: Attributor,
        drafts: Sequence[Draft],
        scores: list[WindowScore | None],
        budget: Mapping[str, int],
    ) -> list[HopResult]:
        """Put labels on ``scores`` in place; return those of earlier windows."""
        late = []
        places = {(draft.leg.name, draft.segment, draft.index): i for i, draft in enumerate(drafts)}
        for done in attributor.run(budget):
            i = places.get((done.leg, done.segment, done.index))
            scored = scores[i] if i is not None else None
            if i is not None and scored is not None:
                scores[i] = dataclasses.replace(scored, attribution=done.attribution)
            else:
                late.append(self._late(done.leg, done.segment, done.index, done.attribution))
        return late

    def _late(self, leg: str, segment: int, index: int, attribution: Attribution) -> HopResult:
        return HopResult(
            leg=leg,
            segment=segment,
            index=index,
            quality=None,
            score=None,
            late=attribution,
            received_at=self._legs[leg].received_at,
            kind=HopKind.LATE,
        )
