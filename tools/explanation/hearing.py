"""A file as the daemon's front end hears it, with the frames that its gate takes for speech."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from streamguard.audio.frames import Mask
from streamguard.audio.frontend import FrontEnd
from streamguard.audio.gate import FRAMES, Gate
from streamguard.audio.level import BLOCK_SAMPLES
from streamguard.audio.resample import resampler
from streamguard.audio.settings import GateSettings
from streamguard.clock import HOP_SAMPLES, HOP_SECONDS, SAMPLE_RATE_HZ, WINDOW_HOPS
from streamguard.errors import AudioFileError, StreamguardError
from tools.augment import to_int16
from tools.scoring import blocks

if TYPE_CHECKING:
    import numpy.typing as npt

    Int16Array = npt.NDArray[np.int16]
    Floats = npt.NDArray[np.float32]
    Bools = npt.NDArray[np.bool_]

_LEG = "file"


class ExplanationError(StreamguardError):
    """A file, a time or a network that cannot be explained."""


@dataclass(frozen=True, slots=True, eq=False)
class HeardFile:
    """All hops of a file, from its beginning."""

    source: Int16Array
    """Mono, at ``rate_hz``."""
    rate_hz: int
    samples: Floats
    """``[left_context + 8000 hops]``, normalised, as a network reads them."""
    left_context: int
    usable: Bools
    """``[hops]``."""
    speech: Bools
    """``[50 hops]``: 10 ms frames that the gate takes for speech."""
    delay_s: float
    """By which hops lag the file."""

    @property
    def hops(self) -> int:
        return len(self.usable)

    def window_at(self, at_s: float) -> range:
        """Hops of the window whose middle is nearest. Raises ExplanationError."""
        end_s = self.hops * HOP_SECONDS
        if not 0.0 <= at_s <= end_s:
            raise ExplanationError(f"--at: {at_s:g}: 0 to {end_s:g} seconds")
        size = min(WINDOW_HOPS, self.hops)
        starts = np.arange(self.hops - size + 1)
        middles = (starts + size / 2) * HOP_SECONDS - self.delay_s
        first = int(starts[np.abs(middles - at_s).argmin()])
        return range(first, first + size)


def hear(file: Path, left_context: int) -> HeardFile:
    """Decode a file and send it through the daemon's front end.

    Raises AudioFileError for what cannot be read or is shorter than a hop.
    """
    try:
        audio, rate_hz = soundfile.read(file, dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as err:
        raise AudioFileError(str(file), str(err)) from err
    source = to_int16(audio.mean(axis=1))
    front_end = FrontEnd(_LEG, left_context, GateSettings())
    hops = [hop for block in blocks(source, rate_hz) for hop in front_end.process(block)]
    if not hops:
        raise AudioFileError(str(file), f"shorter than {HOP_SECONDS:g} s")
    return HeardFile(
        source=source,
        rate_hz=rate_hz,
        samples=np.concatenate([hops[0].context, *(hop.samples for hop in hops)]),
        left_context=left_context,
        usable=np.array([hop.usable for hop in hops], np.bool_),
        speech=_speech(source, rate_hz, len(hops)),
        delay_s=front_end.delay / SAMPLE_RATE_HZ,
    )


class _ToldGate(Gate):
    """Keeps which frames it took for speech; a hop's quality only has their number."""

    told: Bools

    def _active(self, energy: Floats, flatness: Floats, heard: Bools) -> Bools:
        self.told = super()._active(energy, flatness, heard)
        return self.told


def _speech(source: Int16Array, rate_hz: int, hops: int) -> Bools:
    """The gate once more, on what the front end shows it."""
    filtered = resampler(rate_hz)
    raw = filtered.process(source.astype(np.float32) * np.float32(1.0 / 32768.0))
    raw = np.concatenate((np.zeros(BLOCK_SAMPLES, np.float32), raw))
    gate = _ToldGate(GateSettings())
    found = np.zeros((hops, FRAMES), np.bool_)
    for hop in range(hops):
        mask = None
        if hop == 0:
            mask = np.zeros(HOP_SAMPLES, np.uint8)
            mask[: filtered.delay + BLOCK_SAMPLES] = int(Mask.DTX)
        gate.measure(raw[hop * HOP_SAMPLES : (hop + 1) * HOP_SAMPLES], mask)
        found[hop] = gate.told
    return found.reshape(-1)
