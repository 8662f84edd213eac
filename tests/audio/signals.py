"""Signals that the audio tests listen to, and a leg's whole front end in one call."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile as sf

from streamguard.audio.frontend import FrontEnd
from streamguard.audio.intake import Intake
from streamguard.audio.resample import resampler
from streamguard.audio.settings import GateSettings
from streamguard.events import Audio

if TYPE_CHECKING:
    import numpy.typing as npt

    from streamguard.audio.frames import Hop

    FloatArray = npt.NDArray[np.float32]

RATE_HZ = 16_000
ALSA_SOUNDS = Path("/usr/share/sounds/alsa")


def seconds(duration_s: float, rate_hz: int = RATE_HZ) -> npt.NDArray[np.float64]:
    """The time of each sample."""
    time: npt.NDArray[np.float64] = np.arange(round(duration_s * rate_hz)) / rate_hz
    return time


def lines(
    frequencies_hz: tuple[float, ...], duration_s: float, rate_hz: int = RATE_HZ
) -> FloatArray:
    """A sum of sines of amplitude 0.1 each."""
    time = seconds(duration_s, rate_hz)
    waves = [np.sin(2.0 * np.pi * frequency * time) for frequency in frequencies_hz]
    signal: FloatArray = (0.1 * np.sum(waves, axis=0)).astype(np.float32)
    return signal


def noise(level_dbfs: float, duration_s: float, rate_hz: int = RATE_HZ) -> FloatArray:
    """White noise of this RMS level."""
    rng = np.random.default_rng(7)
    white = rng.standard_normal(round(duration_s * rate_hz), dtype=np.float32)
    return white * np.float32(10.0 ** (level_dbfs / 20.0))


def hold_music(duration_s: float) -> FloatArray:
    """Chords under a melody, 100 beats a minute, plucked strings."""
    rng = np.random.default_rng(3)
    out = np.zeros(round((duration_s + 1.0) * RATE_HZ))
    scale = (0, 2, 4, 5, 7, 9, 11)
    chords = ((0, 4, 7), (9, 12, 16), (5, 9, 12), (7, 11, 14))
    for beat in range(int(duration_s / 0.6)):
        notes = [(220.0, step, 0.3) for step in chords[beat // 4 % 4]]
        notes.append((440.0, int(rng.choice(scale)), 0.6))
        for root_hz, step, loudness in notes:
            time = seconds(0.6)
            tone = sum(
                np.sin(2.0 * np.pi * root_hz * 2.0 ** (step / 12) * k * time) / k
                for k in range(1, 6)
            )
            begin = round(beat * 0.6 * RATE_HZ)
            out[begin : begin + len(time)] += loudness * np.exp(-3.0 * time) * tone
    played = (0.5 * out / np.abs(out).max())[: round(duration_s * RATE_HZ)]
    music: FloatArray = played.astype(np.float32)
    return music


def recorded_speech() -> FloatArray:
    """Human speech: the loudspeaker-test recordings of alsa-utils, without pauses between them."""
    files = sorted(path for path in ALSA_SOUNDS.glob("*.wav") if path.stem != "Noise")
    if not files:
        pytest.skip("the recordings of alsa-utils are not installed")
    parts = []
    for file in files:
        samples, rate_hz = sf.read(file, dtype="float32", always_2d=True)
        assert rate_hz == 48_000
        heard = resampler(rate_hz).process(samples[:, 0])
        loud = np.flatnonzero(np.abs(heard) > 0.03 * np.abs(heard).max())
        parts.append(heard[loud[0] : loud[-1] + 1])
    return np.concatenate(parts)


def spoken(text: str, folder: Path) -> tuple[FloatArray, int]:
    """Synthetic speech by espeak-ng, and its rate."""
    program = shutil.which("espeak-ng")
    if program is None:
        pytest.skip("espeak-ng is not installed")
    file = folder / "spoken.wav"
    subprocess.run([program, "-v", "en", "-w", str(file), text], check=True, timeout=15)
    samples, rate_hz = sf.read(file, dtype="float32")
    return samples, rate_hz


def listen(
    samples: npt.NDArray[np.float32] | npt.NDArray[np.int16],
    rate_hz: int = RATE_HZ,
    settings: GateSettings | None = None,
) -> tuple[list[Hop], FrontEnd]:
    """All hops of a clip, and the front end that made them."""
    intake = Intake("leg", rate_hz)
    front = FrontEnd("leg", 240, settings or GateSettings())
    blocks = intake.audio(Audio("leg", 0, samples, 0.0))
    return [hop for block in blocks for hop in front.process(block)], front
