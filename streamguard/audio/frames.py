"""What flows between intake, front end, gate and inference."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Mask(enum.IntFlag):
    """Why a sample is not received speech; 0 where it is."""

    NONE = 0
    LOST = 1
    DTX = 2
    TONE = 4
    HOLD = 8
    OVERLOAD = 16


@dataclass(frozen=True, slots=True)
class MaskedSpan:
    """Samples ``start`` (inclusive) to ``stop`` (exclusive) of a leg, in the rate of the holder."""

    start: int
    stop: int
    mask: Mask


@dataclass(frozen=True, slots=True, eq=False)
class RawBlock:
    """About one hop of a leg as received: source rate, not yet resampled. Read-only."""

    leg: str
    segment: int
    """Talk segment, from 0; samples of different segments are never spliced into one window."""
    first_sample: int
    """In the source rate, from 0 at the start of the leg."""
    samples: npt.NDArray[np.int16] | npt.NDArray[np.float32]
    """Masked samples are zero here."""
    rate_hz: int
    spans: tuple[MaskedSpan, ...]
    """What of this block is masked, in source-rate samples of the leg."""
    received_at: float
    """Monotonic arrival of the last sample."""
    codec: str = ""
    """As in SDP, where it is known: it decides the channel class."""


@dataclass(frozen=True, slots=True)
class HopQuality:
    """What the gate measured on one hop."""

    level_dbfs: float
    """RMS of the unmasked samples; floor -120."""
    speech_fraction: float
    """Share of the hop that is active speech, 0 to 1."""
    clipped_fraction: float
    lost_fraction: float
    tone_fraction: float
    """Signalled or detected tones (DTMF, dial, ringback)."""
    music_likelihood: float
    """0 to 1, over the gate's memory of the leg."""
    highband_db: float | None
    """Level above 4.2 kHz relative to 0.3-3.4 kHz in speech; None without speech."""
    active_frames: int
    """10 ms frames of active speech, 0 to 50."""
    announcement: bool = False
    """Whether it is one of the prompts that the operator knows."""


@dataclass(frozen=True, slots=True, eq=False)
class Hop:
    """0.5 s of one leg at 16 kHz, level-normalised, with the left context the networks need."""

    leg: str
    segment: int
    index: int
    """From 0 at the start of the leg; hop ``k`` is samples ``8000 k`` to ``8000 (k + 1)``."""
    context: npt.NDArray[np.float32]
    """``[left_context]`` samples before the hop (zeros before the start of a segment)."""
    samples: npt.NDArray[np.float32]
    """``[8000]``."""
    quality: HopQuality
    usable: bool
    """Whether its frames may enter a window's sums (speech, nothing lost or masked to speak of)."""
    received_at: float

    @property
    def first_sample(self) -> int:
        return self.index * len(self.samples)
