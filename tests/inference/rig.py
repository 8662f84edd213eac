"""A scorer on numpy engines and plain front ends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from streamguard.audio.frames import RawBlock
from streamguard.inference.network import Network
from streamguard.inference.scorer import HopResult, Models, Scorer
from streamguard.verdict.scores import Channel, WindowScore
from tests.inference.makers import (
    NumpyEngine,
    PlainFrontEnd,
    attribution_document,
    bundle_of,
    detection_document,
    judge,
)


class Rig:
    """A scorer on numpy engines and plain front ends, all within reach."""

    def __init__(
        self,
        *,
        state: bool = False,
        attribution: bool = False,
        channels: Sequence[Channel] = (Channel.WIDE,),
        catch_up: int = 6,
        min_llr: float = 0.0,
    ) -> None:
        self.engine = NumpyEngine(state=state)
        self.attribution = NumpyEngine(task="attribution")
        self.front_ends: dict[str, PlainFrontEnd] = {}
        self.scorer = Scorer(
            Models(
                Network(bundle_of(detection_document(state=state), *channels), self.engine),
                Network(bundle_of(attribution_document()), self.attribution)
                if attribution
                else None,
            ),
            front_end=self._front_end,
            judge=judge,
            attribution_min_llr=min_llr,
            attribution_catch_up_hops=catch_up,
        )

    def _front_end(self, leg: str, left_context: int) -> PlainFrontEnd:
        return self.front_ends.setdefault(leg, PlainFrontEnd(leg, left_context))

    def feed(self, blocks: Iterable[RawBlock], at_once: int = 1) -> list[HopResult]:
        queue = list(blocks)
        results = []
        for i in range(0, len(queue), at_once):
            results += self.scorer.process(queue[i : i + at_once])
        return results


def scores(results: Iterable[HopResult], leg: str | None = None) -> list[WindowScore]:
    return [r.score for r in results if r.score is not None and leg in (None, r.leg)]
