"""The four legs of the demonstration, made at run time; nothing is kept."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from streamguard.demo.legs import (
    PACKET_SAMPLES,
    RATE_HZ,
    DemoError,
    DemoLeg,
    Mark,
    MarkKind,
    Truth,
    read_sound,
    to_int16,
)
from streamguard.demo.synthesis import SENTENCES, Synthesizer, installed

if TYPE_CHECKING:
    import numpy.typing as npt

    Signal = npt.NDArray[np.float64]

ACTIVE_LEVEL_DBFS: Final = -26.0
"""The nominal active speech level of ITU-T P.56 practice, so no leg is told by its loudness."""
ALSA_SOUNDS: Final = Path("/usr/share/sounds/alsa")
_FRAME: Final = RATE_HZ // 100
_MARGIN_DB: Final = 15.9
"""P.56: what lies this far below the active level is pause."""
_DTMF_HZ: Final = {
    digit: (low, high)
    for low, row in ((697, "123"), (770, "456"), (852, "789"), (941, "*0#"))
    for high, digit in zip((1209, 1336, 1477), row, strict=True)
}


def build_legs(human: Signal | None = None, human_note: str = "") -> tuple[DemoLeg, ...]:
    """Synthetic, human, human then synthetic, no speech: about 30, 40, 46 and 25 s.

    ``human``: other speech at 8 kHz in place of the recordings of alsa-utils.
    """
    synthesizers = installed()
    if human is None:
        whole, part = alsa_speech(40.0, ALSA_SOUNDS), alsa_speech(24.0, ALSA_SOUNDS)
        human_note = ALSA_NOTE
    else:
        whole, part = _repeated(human, 40.0), _repeated(human, 24.0)
    first, second = synthesizers[0], synthesizers[-1]
    turn = _whole_packets(part)
    turned = np.concatenate(
        [levelled(turn), levelled(synthetic_speech(second, 22.0, SENTENCES[5:]))]
    )
    samples, marks = no_speech()
    return (
        DemoLeg(
            "synthetic",
            Truth.SYNTHETIC,
            "PCMU",
            to_int16(levelled(synthetic_speech(first, 30.0, SENTENCES))),
            f"speech synthesized by {first.name}, our own text",
        ),
        DemoLeg("human", Truth.HUMAN, "PCMA", to_int16(levelled(whole)), human_note),
        DemoLeg(
            "turns",
            Truth.TURNS,
            "PCMU",
            to_int16(turned),
            f"the human voice for {len(turn) / RATE_HZ:.1f} s, then {second.name}",
            turn_s=len(turn) / RATE_HZ,
        ),
        DemoLeg(
            "no-speech",
            Truth.NO_SPEECH,
            "PCMA",
            to_int16(samples),
            "silence, comfort noise, DTMF in band and as events",
            marks,
        ),
    )


ALSA_NOTE: Final = "one speaker's eight two-word recordings of alsa-utils, repeated with pauses"


def alsa_speech(duration_s: float, folder: Path) -> Signal:
    """The loudspeaker-test recordings (a real voice), joined with pauses and repeated.

    Eight phrases of six words by one speaker: much less varied than a conversation. The pauses are
    digital silence, as the recordings' own ends nearly are.
    """
    files = sorted(path for path in folder.glob("*.wav") if path.stem != "Noise")
    if not files:
        raise DemoError(
            f"{folder}: no recordings of a human voice; the Debian package alsa-utils brings them "
            "(apt-get install alsa-utils), or give a recording of your own"
        )
    phrases = [_trimmed(read_sound(path)) for path in files]
    rng = np.random.default_rng(1)
    parts: list[Signal] = []
    length = 0
    while True:
        for index in rng.permutation(len(phrases)):
            pause = np.zeros(round(rng.uniform(0.25, 0.7) * RATE_HZ))
            parts += [phrases[index], pause]
            length += len(phrases[index]) + len(pause)
            if length >= (duration_s - 0.9) * RATE_HZ:  # half a phrase: comes closest
                return np.concatenate(parts)


def synthetic_speech(
    synthesizer: Synthesizer, duration_s: float, sentences: Sequence[str]
) -> Signal:
    """Whole sentences with pauses, about ``duration_s``; a short text begins again."""
    rng = np.random.default_rng(2)
    parts: list[Signal] = []
    length = index = 0
    while length < (duration_s - 1.8) * RATE_HZ:  # half a sentence: comes closest
        speech = _trimmed(synthesizer.speak(sentences[index % len(sentences)]))
        pause = np.zeros(round(rng.uniform(0.25, 0.7) * RATE_HZ))
        parts += [speech, pause]
        length += len(speech) + len(pause)
        index += 1
    return np.concatenate(parts)


def no_speech() -> tuple[Signal, tuple[Mark, ...]]:
    """25 s without a voice: silence, comfort noise as packets and as audio, digits both ways."""
    rng = np.random.default_rng(3)
    silence = np.zeros(4 * RATE_HZ)
    noise = rng.normal(0.0, 10 ** (-60 / 20), 4 * RATE_HZ)
    digits = np.concatenate([_dtmf(digit) for digit in "0123456789*#3141592653"])[: 5 * RATE_HZ]
    parts = [silence, np.zeros(5 * RATE_HZ), digits, noise, np.zeros(4 * RATE_HZ), silence]
    starts = np.cumsum([0, *(len(part) for part in parts)])
    quiet = Mark(MarkKind.COMFORT_NOISE, int(starts[1]), len(parts[1]), 60)
    first_event = int(starts[4])
    events = tuple(
        # 120 ms on in every 400 ms, in the range of a person who dials
        Mark(MarkKind.EVENT, first_event + index * 3200, 6 * PACKET_SAMPLES, code)
        for index, code in enumerate((4, 9, 3, 0, 7, 11, 1, 10, 8, 2))
    )
    return np.concatenate(parts), (quiet, *events)


def levelled(samples: Signal) -> Signal:
    """The same speech at -26 dBFS active level."""
    gain_db = ACTIVE_LEVEL_DBFS - active_level_dbfs(samples)
    return np.asarray(samples * 10 ** (gain_db / 20))


def active_level_dbfs(samples: Signal) -> float:
    """RMS level of the frames that are speech, in the manner of ITU-T P.56 (10 ms frames).

    Raises DemoError for silence, which has no such level.
    """
    frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)
    power = np.mean(frames**2, axis=1)
    if not power.size or power.max() < 1e-9:
        raise DemoError("the recording is silent")
    level = float(power.max())
    for _ in range(20):
        level = float(power[power > level * 10 ** (-_MARGIN_DB / 10)].mean())
    return float(10 * np.log10(level))


def own_recording(path: Path) -> tuple[Signal, str]:
    """A recording of the user's, for ``build_legs``."""
    return read_sound(path), f"the recording {path.name}"


def own_voice(duration_s: float, device: str | None = None) -> tuple[Signal, str]:
    """The user's own voice from the microphone, for ``build_legs``; kept in memory only."""
    try:
        import sounddevice
    except (ImportError, OSError) as err:  # OSError: the package is there, PortAudio is not
        raise DemoError(
            f"the microphone needs PortAudio and the extra 'mic': {err} "
            f"(sudo apt-get install libportaudio2; "
            f"{sys.executable} -m pip install 'streamguard[mic]')"
        ) from err
    try:
        samples = sounddevice.rec(
            round(duration_s * RATE_HZ),
            samplerate=RATE_HZ,
            channels=1,
            dtype="float32",
            device=device,
            blocking=True,
        )
    except (sounddevice.PortAudioError, ValueError) as err:
        raise DemoError(f"microphone {device or '(default)'}: {err}") from err
    return np.asarray(samples[:, 0], np.float64), "your own voice, from the microphone"


def _trimmed(samples: Signal) -> Signal:
    """Without the silence at both ends, but for 40 ms."""
    frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)
    power = np.mean(frames**2, axis=1)
    if not power.size or power.max() < 1e-9:
        raise DemoError("the recording is silent")
    active = np.flatnonzero(power > power.max() * 10 ** (-40 / 10))
    return samples[max(0, active[0] - 4) * _FRAME : (active[-1] + 5) * _FRAME]


def _repeated(samples: Signal, duration_s: float) -> Signal:
    wanted = round(duration_s * RATE_HZ)
    return np.tile(samples, -(-wanted // len(samples)))[:wanted]


def _whole_packets(samples: Signal) -> Signal:
    return samples[: len(samples) // PACKET_SAMPLES * PACKET_SAMPLES]


def _dtmf(digit: str) -> Signal:
    """One digit: 100 ms on at -13 dBFS per tone, 100 ms off (ITU-T Q.24 needs 40 ms each)."""
    time_s = np.arange(RATE_HZ // 10) / RATE_HZ
    tone = sum(np.sin(2 * np.pi * hz * time_s) for hz in _DTMF_HZ[digit])
    return np.concatenate([tone * np.sqrt(2) * 10 ** (-13 / 20), np.zeros(RATE_HZ // 10)])
