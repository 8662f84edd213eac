"""Whether a window may speak, and if not, why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from streamguard.audio.gate import FRAMES, hop_fault
from streamguard.clock import HOP_SECONDS, WINDOW_HOPS
from streamguard.verdict.scores import Rejection

if TYPE_CHECKING:
    from streamguard.audio.frames import HopQuality
    from streamguard.audio.settings import GateSettings
    from streamguard.verdict.calibration import ConformalTable

PRECEDENCE = (
    Rejection.PACKET_LOSS,
    Rejection.TONE,
    Rejection.ANNOUNCEMENT,
    Rejection.CLIPPED,
    Rejection.SILENCE,
    Rejection.MUSIC,
    Rejection.NON_SPEECH,
)
"""Of several reasons, the one given. Overload comes before all: then we do not know the others.
Faults of the line come before what was on it, and what is certain before what is a guess."""
TELLING_SHARE = 1 / 3
"""Share of a window's hops that must have a fault for it to be the reason (2 of 6)."""
OOD_ALPHA = 0.01
"""Share of windows like those of the calibration that are called out of distribution all the same,
if the bundle says nothing else."""


def judge_window(
    qualities: Sequence[HopQuality | None], settings: GateSettings
) -> Rejection | None:
    """None if the window is evidence: enough active speech in its usable hops, no hop missing.

    ``qualities`` are those of its hops in order, None for one that overload dropped. Bad hops add
    nothing to a window, so they do not spoil it as long as the others hold ``min_net_speech_s``
    (scaled down for a window of fewer than six hops). Otherwise the reason is the first of
    :data:`PRECEDENCE` that a third of the hops have, or ``non_speech``: too little of it.
    """
    hops = [quality for quality in qualities if quality is not None]
    if len(hops) < len(qualities):
        return Rejection.OVERLOAD
    faults = [hop_fault(quality, settings) for quality in hops]
    if hops and hops[-1].music_likelihood > settings.max_music_likelihood:
        # Music is heard over longer than a window: what the last hop says holds for the others.
        faults = [fault or Rejection.MUSIC for fault in faults]
    needed_s = settings.min_net_speech_s * min(1.0, len(hops) / WINDOW_HOPS)
    net_s = sum(
        net_speech_s(quality) for quality, fault in zip(hops, faults, strict=True) if fault is None
    )
    if hops and net_s >= needed_s:
        return None
    counts = Counter(faults)
    telling = (
        reason for reason in PRECEDENCE if hops and counts[reason] >= TELLING_SHARE * len(hops)
    )
    return next(telling, Rejection.NON_SPEECH)


def net_speech_s(quality: HopQuality) -> float:
    """Seconds of active speech in a hop."""
    return quality.active_frames * HOP_SECONDS / FRAMES


def is_strange(ood: float | None, table: ConformalTable | None, alpha: float) -> bool:
    """Whether a window is out of distribution: so far from the training data are few held out.

    False where the model gives no score, or none was calibrated.
    """
    return ood is not None and table is not None and table.p_value(ood) < alpha
