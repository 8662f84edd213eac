"""The daemon with one thing set: which legs lean to spoof.

What the networks say of made-up voices decides how much work follows (attribution, alerts), so a
bench would measure its own voices. Every network runs as it does for users; only the numbers of the
detector are replaced after it has run, so that a stated share of the legs leans to spoof on every
window and the others do not.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from streamguard.app import Daemon
from streamguard.clock import Clock
from streamguard.config import Config
from streamguard.inference.handover import ScorerLike
from streamguard.inference.leg import Draft
from streamguard.inference.pair import open_models
from streamguard.inference.scorer import HopResult, Scorer
from streamguard.scoring import make_scorer, pair_names
from streamguard.verdict.scores import WindowScore

if TYPE_CHECKING:
    from streamguard.inference.network import Row

LEANING_LLR = 2.0
"""Of the legs that lean to spoof, on every window; the others have as much for bona fide."""


class SteeredScorer(Scorer):
    """Of the legs that it meets, in their order, ``share`` lean to spoof: evenly spread."""

    share = 0.0

    def _window_score(self, draft: Draft, row: Row) -> WindowScore:
        return super()._window_score(draft, self._steered(draft, row) if row else row)

    def close_leg(self, leg: str, *, shed_attribution: bool = False) -> list[HopResult]:
        results = super().close_leg(leg, shed_attribution=shed_attribution)
        self._leaning.pop(leg, None)  # afterwards: the rest of a short leg is scored here
        return results

    @functools.cached_property
    def _leaning(self) -> dict[str, bool]:
        return {}

    def _leans(self, leg: str) -> bool:
        if leg not in self._leaning:
            leaning = sum(self._leaning.values())
            self._leaning[leg] = leaning < int((len(self._leaning) + 1) * self.share)
        return self._leaning[leg]

    def _steered(self, draft: Draft, row: Row) -> Row:
        calibration = self._detector.bundle.calibration(self._detector.precision, draft.channel)
        if calibration is None or calibration.llr is None:
            return row  # uncalibrated stays so, and is counted as rejected
        llr = LEANING_LLR if self._leans(draft.leg.name) else -LEANING_LLR
        raw = (llr - calibration.llr.offset) / calibration.llr.scale
        return {**row, "logit": np.array([raw], np.float32), "ood": np.zeros(1, np.float32)}


class SteeredDaemon(Daemon):
    """``share``: of the legs, lean to spoof on every window."""

    def __init__(
        self, config: Config, config_path: Path, clock: Clock | None = None, *, share: float
    ) -> None:
        super().__init__(config, config_path, clock)
        self._kind = type("SteeredScorer", (SteeredScorer,), {"share": share})

    def _first_scorer(self) -> ScorerLike:
        self._models = open_models(pair_names(self._config))
        config = self._config
        return make_scorer(self._models, config.gate, config.inference, self._kind)
