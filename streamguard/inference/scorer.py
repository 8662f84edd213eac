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
    FrontEndLike,
    LegState,
    Slot,
    mostly_dropped,
    rounds,
)
from streamguard.inference.network import HopOutput, Network
from streamguard.verdict.scores import Attribution, Channel, Rejection, WindowScore

if TYPE_CHECKING:
    import numpy.typing as npt

    from streamguard.inference.network import Row

FRAME_SECONDS = 0.01
"""Of the gate's speech frames."""


@dataclass(frozen=True, slots=True)
class StageSeconds:
    """Time that a batch spent in each stage; all its hops share it."""

    front_end: float = 0.0
    detector: float = 0.0
    head: float = 0.0
    attribution: float = 0.0


@dataclass(frozen=True, slots=True)
class HopResult:
    """What became of one hop, or what became known later of an earlier one."""

    leg: str
    segment: int
    index: int
    """Of the hop, which is the last hop of the window."""
    quality: HopQuality | None
    """None where the hop was dropped, and for results that no new hop brought."""
    score: WindowScore | None
    """None before the sixth hop of a segment."""
    late: Attribution | None = None
    """Attribution of the window that ended here, which was scored before; comes with no score."""
    stages: StageSeconds = StageSeconds()
    received_at: float = 0.0


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


@dataclass(frozen=True, slots=True, eq=False)
class _Draft:
    """A result that waits for its window's score."""

    leg: LegState
    segment: int
    index: int
    quality: HopQuality | None
    channel: Channel
    window: tuple[Slot, ...]
    """Empty where there is no window yet."""
    first: bool
    """Whether it is the first window of its segment."""
    received_at: float


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
        self._use(models)

    def _use(self, models: Models) -> None:
        bundle = models.detector.bundle
        if bundle.manifest.task != "detection":
            raise BundleError(
                str(bundle.folder), f"task: {bundle.manifest.task}: detection is needed here"
            )
        attributor = Attributor(models.attribution) if models.attribution is not None else None
        self._models = models
        self._detector = models.detector
        self._attributor = attributor

    @property
    def attribution_counts(self) -> Mapping[str, int]:
        """As :class:`Attributor` counts; empty without attribution."""
        return dict(self._attributor.counts) if self._attributor is not None else {}

    def replace_models(self, models: Models) -> None:
        """Take other models; windows start anew, audio goes on. The old ones are closed."""
        old = self._models
        self._use(models)
        for leg in self._legs.values():
            leg.forget_scores()
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
        drafts: list[_Draft] = []
        for arrival, output in zip(arrivals, outputs, strict=True):
            drafts += self._place(arrival, output)
        stages = StageSeconds(front_end=heard - started, detector=ran - heard)
        return self._finish(drafts, stages, len(arrivals), shed=shed)

    def close_leg(self, leg: str, *, shed_attribution: bool = False) -> list[HopResult]:
        """Forget a leg; score what it had if that never filled a window, finish what waits."""
        state = self._legs.get(leg)
        if state is None:
            return []
        drafts = self._rest_of_segment(state)
        results = self._finish(drafts, StageSeconds(), WINDOW_HOPS, shed=shed_attribution)
        del self._legs[leg]
        if self._attributor is not None:
            self._attributor.forget(leg)
        return results

    def _arrivals(self, block: RawBlock) -> list[Arrival]:
        leg = self._legs.get(block.leg)
        if leg is None:
            front_end = self._front_end(block.leg, self._detector.left_context)
            leg = self._legs[block.leg] = LegState(block.leg, front_end)
        dropped = mostly_dropped(block)
        hops = leg.front_end.process(block)
        return [Arrival(leg, hop, leg.front_end.channel, dropped) for hop in hops]

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

    def _place(self, arrival: Arrival, output: HopOutput | None) -> list[_Draft]:
        leg, hop = arrival.leg, arrival.hop
        drafts: list[_Draft] = []
        if hop.segment != leg.segment:
            drafts += self._rest_of_segment(leg)
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
            _Draft(
                leg=leg,
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

    def _rest_of_segment(self, leg: LegState) -> list[_Draft]:
        """The partial window of a segment that never had a full one."""
        if leg.had_window or not leg.slots:
            return []
        last = leg.slots[-1].index
        window = tuple(leg.slots)
        return [_Draft(leg, leg.segment, last, None, leg.channel, window, True, leg.received_at)]

    def _finish(
        self, drafts: Sequence[_Draft], stages: StageSeconds, new_hops: int, *, shed: bool
    ) -> list[HopResult]:
        started = time.perf_counter()
        scores = self._score(drafts)
        scored = time.perf_counter()
        late = self._attribute(drafts, scores, new_hops, shed=shed)
        attribution_s = time.perf_counter() - scored if self._attributor is not None else 0.0
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
            )
            for draft, score in zip(drafts, scores, strict=True)
        ]
        return results + [dataclasses.replace(result, stages=stages) for result in late]

    def _score(self, drafts: Sequence[_Draft]) -> list[WindowScore | None]:
        windows = [self._parts_of(draft) for draft in drafts]
        asked = [parts for parts in windows if parts]
        rows = iter(self._detector.windows(asked))
        logits = [float(next(rows)["logit"][0]) if parts else None for parts in windows]
        return [
            self._window_score(draft, logit) if draft.window else None
            for draft, logit in zip(drafts, logits, strict=True)
        ]

    def _parts_of(self, draft: _Draft) -> list[Row]:
        parts = [slot.parts for slot in draft.window if slot.parts is not None]
        if self._detector.whole_window and len(parts) < WINDOW_HOPS:
            return []
        return parts

    def _window_score(self, draft: _Draft, logit: float | None) -> WindowScore:
        window = draft.window
        self.counts["windows"] += 1
        raw = logit if logit is not None and np.isfinite(logit) else None
        calibration = self._detector.bundle.calibration(self._detector.precision, draft.channel)
        affine = calibration.llr if calibration is not None else None
        rejected = self._judge([slot.quality for slot in window])
        if rejected is None and affine is None:
            rejected = Rejection.UNCALIBRATED
        if rejected is None and raw is None:
            # The gate found speech in it, but the network gave no number for it.
            rejected = Rejection.OUT_OF_DISTRIBUTION
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
        )

    def _attribute(
        self,
        drafts: Sequence[_Draft],
        scores: list[WindowScore | None],
        new_hops: int,
        *,
        shed: bool,
    ) -> list[HopResult]:
        """Put labels on ``scores`` in place; return those of earlier windows."""
        if self._attributor is None:
            return []
        leaning = [
            (draft, score)
            for draft, score in zip(drafts, scores, strict=True)
            if score is not None
            and score.rejected is None
            and score.llr is not None
            and score.llr >= self._min_llr
        ]
        if shed:
            self._attributor.shed(len(leaning))
            return []
        for draft, score in leaning:
            self._attributor.ask(draft.leg, score, draft.window)
        late = []
        places = {(draft.leg.name, draft.segment, draft.index): i for i, draft in enumerate(drafts)}
        for done in self._attributor.run(new_hops + self._catch_up):
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
        )
