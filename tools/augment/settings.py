"""What an ``Augmenter`` may do, and how often: the section ``augment`` of a recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

RATE_HZ = 16000


@dataclass(frozen=True, slots=True)
class AugmentSettings:
    """Probabilities (shares of the crops) and ranges, which are drawn from evenly.

    What a recipe does not name keeps its default, and what came later than the first recipes
    defaults to never.
    """

    gain_db: tuple[float, float] = (-30.0, 0.0)
    """Of the loudest sample, relative to full scale."""
    room: float = 0.3
    """Share of clips that are put into a room."""
    recorded_room: float = 0.2
    """Share of those whose room is a recorded impulse response, not a simulated one."""
    reverberation_s: tuple[float, float] = (0.1, 0.7)
    """Simulated decay time to -60 dB."""
    direct_db: tuple[float, float] = (0.0, 15.0)
    """Simulated energy of the direct sound over the reverberation."""
    eq: float = 0.9
    eq_sigma_db: float = 5.0
    band: float = 0.3
    """Share with a low-pass between 3.4 and 8 kHz."""
    noise: float = 0.6
    recorded_noise: float = 0.3
    """Share of the noisy ones whose noise is a recording, not coloured noise."""
    snr_db: tuple[float, float] = (5.0, 40.0)
    clip: float = 0.05
    """Share overdriven by up to 10 dB."""
    telephone: float = 0.5
    """Share sent through an 8 kHz G.711 line."""
    shift: float = 0.0
    """Share moved in time."""
    shift_s: tuple[float, float] = (-0.25, 0.25)
    """Positive is later."""
    roll: float = 0.0
    """Share moved round: what runs over at the end comes back at the start."""
    roll_share: tuple[float, float] = (0.0, 0.4)
    """Of the crop's length, later."""
    speed: float = 0.0
    """Share played faster or slower, as a tape is: pitch and tempo together."""
    speed_ratio: tuple[float, float] = (0.9, 1.1)
    pitch: float = 0.0
    """Share whose pitch moves and whose tempo stays."""
    pitch_semitones: tuple[float, float] = (-2.0, 2.0)
    converter: float = 0.0
    """Share that was once sampled at a lower rate: a low-pass of any steepness."""
    converter_hz: tuple[float, float] = (3400.0, 8000.0)
    converter_db_per_khz: tuple[float, float] = (20.0, 2000.0)
    """Drawn evenly on a logarithmic scale: from an analogue filter to an FFT resampler."""
    white: float = 0.0
    """Share with white noise of a level that does not depend on the speech."""
    white_level: tuple[float, float] = (0.005, 0.05)
    """Standard deviation, full scale 1.0."""
    requantise: float = 0.0
    """Share that went through coarser steps, half of them with triangular dither."""
    requantise_bits: tuple[float, float] = (9.0, 15.0)
    """Of full scale."""
    codec: float = 0.0
    """Share that went through a codec, before any telephone line."""
    codecs: Mapping[str, float] = field(default_factory=dict)
    """Weight of each name of ``tools.augment.CODECS`` among them; empty is all alike."""
    loss: float = 0.0
    """Share that lost packets, behind the codec."""
    loss_share: tuple[float, float] = (0.01, 0.2)
    """Of the packets."""

    def __post_init__(self) -> None:
        """Raises ValueError, naming the field, for what cannot be a probability or a range."""
        for setting in dataclasses.fields(self):
            value = getattr(self, setting.name)
            if isinstance(value, Mapping):
                if any(weight < 0 for weight in value.values()):
                    raise ValueError(f"augment.{setting.name}: {value}: weights are not negative")
            elif isinstance(value, tuple | list):
                if len(value) != 2 or value[0] > value[1]:
                    raise ValueError(f"augment.{setting.name}: {value}: lowest and highest value")
            elif setting.name != "eq_sigma_db" and not 0.0 <= value <= 1.0:
                raise ValueError(f"augment.{setting.name}: {value}: a share from 0 to 1")
