"""How a leg is judged: the rule, its error rates, the change detector, the hysteresis."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from streamguard.clock import HOP_SECONDS, WINDOW_HOPS
from streamguard.settings import Section

WINDOW_S = WINDOW_HOPS * HOP_SECONDS


def hops_of(seconds: float) -> int:
    """The fewest hops that hold so many seconds."""
    return max(1, math.ceil(seconds / HOP_SECONDS - 1e-9))


class SequentialSettings(Section):
    """A truncated sequential test per talk segment; its boundaries are found by simulation."""

    false_alarm: float = Field(default=0.01, gt=0, lt=0.5)
    """Share of bona fide talk segments that may ever be called SPOOF, however long they last."""
    miss: float = Field(default=0.25, gt=0, lt=0.5)
    """Share of spoofed talk segments that may ever be called BONAFIDE; lower says it less often."""
    min_net_speech_s: float = Field(default=3.0, ge=1.0, le=60.0)
    """Seconds of accepted speech before anything but UNKNOWN is said, by either rule."""
    horizon_net_speech_s: float = Field(default=60.0, ge=3.0, le=3600.0)
    """Seconds of accepted speech after which more speech adds no more weight to the evidence."""

    @model_validator(mode="after")
    def _horizon_after_first_look(self) -> Self:
        if self.horizon_net_speech_s < self.min_net_speech_s:
            raise ValueError(
                f"horizon_net_speech_s ({self.horizon_net_speech_s:g}) must be at least "
                f"min_net_speech_s ({self.min_net_speech_s:g})"
            )
        return self


class CusumSettings(Section):
    """Looks for a voice that changes in mid-call, against the leg's own baseline."""

    enabled: bool = True
    """Whether a change may raise (and a change back may clear)."""
    false_alarms_per_call_hour: float = Field(default=0.1, ge=0.001, le=10.0)
    """Of the change detector alone, in an hour of one leg's net speech."""
    baseline_s: float = Field(default=10.0, ge=3.0, le=600.0)
    """Seconds of accepted speech that make the first baseline; it goes on growing afterwards."""
    shift: float | None = Field(default=None, gt=0, le=100.0)
    """Change of the mean window LLR to look for; default: the distance of the class means."""


class MajoritySettings(Section):
    """k of the last n accepted windows; windows and seconds are both explicit."""

    k: int = Field(default=8, ge=1, le=1000)
    """Accepted windows that must vote for spoof."""
    n: int = Field(default=12, ge=1, le=1000)
    """The last accepted windows that vote; rejected windows abstain."""
    quorum: int = Field(default=8, ge=1, le=1000)
    """Accepted windows before anything but UNKNOWN is said."""
    min_votes_s: float = Field(default=4.0, ge=0.5)
    """Seconds of speech, counted once, that the windows voting for spoof must add."""
    window_llr: float = Field(default=2.0, ge=-20.0, le=20.0)
    """A window votes for spoof at this LLR or above."""
    clear_k: int = Field(default=3, ge=0, le=1000)
    """A raised leg is cleared when no more than so many of the last n vote for spoof."""

    @property
    def longest_s(self) -> float:
        """Seconds of speech, counted once, in n windows one hop apart."""
        return WINDOW_S + (self.n - 1) * HOP_SECONDS

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.k > self.n:
            raise ValueError(f"k ({self.k}) must not exceed n ({self.n})")
        if not self.k <= self.quorum <= self.n:
            raise ValueError(f"quorum ({self.quorum}) must be from k ({self.k}) to n ({self.n})")
        if self.clear_k >= self.k:
            raise ValueError(f"clear_k ({self.clear_k}) must be below k ({self.k})")
        # Of a long leg each window adds one hop: that is the least that must be able to raise.
        if self.min_votes_s > self.n * HOP_SECONDS:
            raise ValueError(
                f"min_votes_s ({self.min_votes_s:g}) can't be reached: "
                f"{self.n} windows of a running leg add {self.n * HOP_SECONDS:g} s"
            )
        return self


class VerdictSettings(Section):
    """What is said of a leg, and when."""

    rule: Literal["sequential", "majority"] = "sequential"
    """``sequential``: asked error rates per leg; ``majority``: k of n windows, as a baseline."""
    sequential: SequentialSettings = SequentialSettings()
    """The sequential rule."""
    majority: MajoritySettings = MajoritySettings()
    """The majority rule."""
    cusum: CusumSettings = CusumSettings()
    """The change detector, on top of either rule."""
    suspect_llr: float = Field(default=1.0, ge=0.0, le=20.0)
    """SUSPECT from this leg LLR on (sequential rule); no boundary for SPOOF is ever lower."""
    clear_llr: float = Field(default=0.0, ge=-20.0, le=20.0)
    """SPOOF and SUSPECT are left only at this leg LLR or below; BONAFIDE is never above it."""
    min_dwell_s: float = Field(default=6.0, ge=0.0, le=600.0)
    """Seconds of call that SPOOF lasts at least, so that alerts don't flap."""
    mixed_pause_s: float = Field(default=WINDOW_S, ge=WINDOW_S, le=60.0)
    """On a mixed line, a pause in accepted speech that ends a talk segment."""
    mixed_hold_s: float = Field(default=60.0, ge=0.0, le=3600.0)
    """On a mixed line, how long a finished SPOOF or SUSPECT talk segment still counts."""

    @model_validator(mode="after")
    def _clears_below_suspect(self) -> Self:
        if self.clear_llr >= self.suspect_llr:
            raise ValueError(
                f"clear_llr ({self.clear_llr:g}) must be below suspect_llr ({self.suspect_llr:g})"
            )
        return self
