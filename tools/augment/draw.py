"""What a batch is to be put through: drawn first, from the settings alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tools.augment.codecs import CODECS
from tools.augment.filters import EQ_KNOTS_HZ
from tools.augment.loss import CONCEALMENTS
from tools.augment.settings import AugmentSettings

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]
    Names = npt.NDArray[np.str_]

BAND_DB_PER_KHZ = 120.0
"""Of ``band``: 60 dB per 500 Hz, steep, as codecs and converters are."""
_LONGEST_BURST_PACKETS = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """One value per crop; the neutral value where a crop is left alone."""

    shift_s: Floats
    roll: Floats
    """Share of the crop's length."""
    speed: Floats
    semitones: Floats
    eq_db: Floats
    """``[count, knots]``."""
    band_hz: Floats
    """Infinite for none, as ``converter_hz``."""
    converter_hz: Floats
    converter_db_per_khz: Floats
    room: Bools
    recorded_room: Bools
    """Only where there is a room."""
    reverberation_s: Floats
    direct_db: Floats
    snr_db: Floats
    """Infinite for no noise."""
    noise_slope: Floats
    recorded_noise: Bools
    """Only where there is noise."""
    overdrive_db: Floats
    gain_db: Floats
    white: Floats
    """Standard deviation, full scale 1.0; 0 for none."""
    step: Floats
    """Of the coarser grid, full scale 1.0; 0 for none."""
    dither: Bools
    codec: Names
    """Empty for none."""
    loss: Floats
    burst_packets: Floats
    concealment: Names
    telephone: Bools

    def __len__(self) -> int:
        return len(self.gain_db)


def draw(settings: AugmentSettings, count: int, rng: np.random.Generator) -> Draw:
    """The fates of ``count`` crops. It knows nothing of them: not even the class can matter.

    Raises ValueError for a codec that does not exist.
    """

    def sometimes(
        share: float, limits: tuple[float, float], otherwise: float, logarithmic: bool = False
    ) -> Floats:
        low, high = np.log(limits) if logarithmic else limits
        values = rng.uniform(low, high, count)
        return np.where(
            rng.random(count) < share, np.exp(values) if logarithmic else values, otherwise
        )

    none = np.zeros(count)
    weights = dict(settings.codecs) or dict.fromkeys(CODECS, 1.0)
    for name in weights:
        if name not in CODECS:
            raise ValueError(f"augment.codecs: {name!r}: one of " + ", ".join(CODECS))
    names = list(weights)
    chance = np.array([weights[name] for name in names]) / sum(weights.values())
    codecs = rng.choice(names, count, p=chance)
    room = rng.random(count) < settings.room
    snr_db = sometimes(settings.noise, settings.snr_db, np.inf)
    loss = sometimes(settings.loss, settings.loss_share, 0.0)
    # Half of the losses are random, half come in bursts.
    bursts = np.where(rng.random(count) < 0.5, 1.0, rng.uniform(1.5, _LONGEST_BURST_PACKETS, count))
    return Draw(
        shift_s=sometimes(settings.shift, settings.shift_s, 0.0),
        speed=sometimes(settings.speed, settings.speed_ratio, 1.0),
        semitones=sometimes(settings.pitch, settings.pitch_semitones, 0.0),
        eq_db=rng.normal(0.0, settings.eq_sigma_db, (count, len(EQ_KNOTS_HZ)))
        * (rng.random((count, 1)) < settings.eq),
        band_hz=sometimes(settings.band, (3400.0, 8000.0), np.inf),
        converter_hz=sometimes(settings.converter, settings.converter_hz, np.inf),
        converter_db_per_khz=sometimes(1.0, settings.converter_db_per_khz, 0.0, logarithmic=True),
        room=room,
        recorded_room=room & (rng.random(count) < settings.recorded_room),
        reverberation_s=rng.uniform(*settings.reverberation_s, count),
        direct_db=rng.uniform(*settings.direct_db, count),
        snr_db=snr_db,
        noise_slope=rng.uniform(0.0, 2.0, count),
        recorded_noise=np.isfinite(snr_db) & (rng.random(count) < settings.recorded_noise),
        overdrive_db=sometimes(settings.clip, (0.0, 10.0), 0.0),
        gain_db=rng.uniform(*settings.gain_db, count),
        step=2.0 ** -(sometimes(settings.requantise, settings.requantise_bits, np.inf) - 1.0),
        dither=rng.random(count) < 0.5,
        codec=np.where(rng.random(count) < settings.codec, codecs, ""),
        loss=loss,
        burst_packets=bursts,
        concealment=rng.choice(CONCEALMENTS, count),
        telephone=rng.random(count) < settings.telephone,
        # Last, and only where asked for: the seeds of earlier recipes keep their meaning.
        roll=sometimes(settings.roll, settings.roll_share, 0.0) if settings.roll else none,
        white=sometimes(settings.white, settings.white_level, 0.0) if settings.white else none,
    )
