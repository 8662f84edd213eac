"""The words of a verdict: rejections, window scores, attributions, states."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


class Rejection(enum.StrEnum):
    """Why a window abstains. A rejected window is no evidence for either side."""

    SILENCE = "silence"
    NON_SPEECH = "non_speech"
    CLIPPED = "clipped"
    PACKET_LOSS = "packet_loss"
    TONE = "tone"
    MUSIC = "music"
    ANNOUNCEMENT = "announcement"
    """A prompt that the operator knows: legitimate, synthetic or not."""
    OVERLOAD = "overload"
    UNCALIBRATED = "uncalibrated"
    OUT_OF_DISTRIBUTION = "out_of_distribution"
    LOW_CONFIDENCE = "low_confidence"


class State(enum.StrEnum):
    """What is said of a leg so far."""

    UNKNOWN = "UNKNOWN"
    BONAFIDE = "BONAFIDE"
    SUSPECT = "SUSPECT"
    SPOOF = "SPOOF"


class Channel(enum.StrEnum):
    """The class of channel that a calibration belongs to."""

    WIDE = "wide"
    NARROW = "narrow"
    LOW_RATE = "low_rate"


@dataclass(frozen=True, slots=True)
class Label:
    """An accepted class with its conformal p-value."""

    label: str
    p_value: float


@dataclass(frozen=True, slots=True)
class Attribution:
    """Which technology, then which generator. ``None`` is not run (yet)."""

    technology: Label | Rejection | None = None
    generator: Label | Rejection | None = None


@dataclass(frozen=True, slots=True)
class WindowScore:
    """One window of one leg: the last six hops (fewer at the start), and what the models said."""

    leg: str
    segment: int
    index: int
    """Of the window's last hop, from 0 at the start of the leg."""
    start_s: float
    end_s: float
    """Seconds from the start of the leg."""
    raw: float | None
    """The detector's mean logit, positive for spoof; None if it could not be scored at all."""
    llr: float | None
    """Natural logarithm, calibrated, positive for spoof, without a prior."""
    rejected: Rejection | None
    new_hops: int
    """Usable hops in it that no earlier accepted window of the segment has counted."""
    usable_hops: int
    net_speech_s: float
    """Of the hop that it adds."""
    channel: Channel
    attribution: Attribution | None = None
    received_at: float = 0.0
    """Monotonic arrival of its last sample."""
    ood: float | None = None
    """How far from what the detector was trained on, higher is farther; None: it does not say."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of a leg after a window."""

    leg: str
    state: State
    llr: float
    """Of the leg: evidence that saturates, not a sum over windows."""
    p_spoof: float
    """With the configured prior."""
    net_speech_s: float
    windows_scored: int
    windows_rejected: Mapping[Rejection, int] = field(default_factory=lambda: MappingProxyType({}))
    attribution: Attribution = Attribution()
    evidence: tuple[tuple[float, float], ...] = ()
    """(start_s, end_s) of the windows that decided, most telling first, at most eight."""
    rule: str = "sequential"
    changed: bool = False
    """Whether the change detector, not the level, speaks."""
    clear: bool = False
    """Whether enough has been heard since to say that nothing suspicious is left: the evidence is
    at the clear level or below it, not merely new."""
    offset_s: float = 0.0
    """End of the newest window, seconds from the start of the leg."""
