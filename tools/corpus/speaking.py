"""``speak``: text read by the classical synthesizers of Debian, each clip by another voice."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from tools.corpus.method import pick
from tools.corpus.sentences import SENTENCES
from tools.corpus.spectra import RATE_HZ
from tools.corpus.voices import Program, Voice
from tools.data import active_span, decode
from tools.progress import track

if TYPE_CHECKING:
    import numpy.typing as npt

    Pcm = npt.NDArray[np.int16]

LONGEST = 5 * RATE_HZ
"""Samples; as long as the clips of the collection are at most."""
_MARGIN = RATE_HZ // 25
_PEAK_DB = (-20.0, -1.0)
_NUMBERED = 0.3
"""Share of the texts that end in numbers: it makes more texts than there are sentences."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """A clip that was made."""

    file: Path
    program: Program
    voice: Voice
    text: str
    rate_hz: int
    """Of what the program wrote."""


def speak(
    programs: Sequence[Program], count: int, out: Path, seed: int, workers: int
) -> Iterator[Spoken]:
    """``count`` clips, the programs in turn.

    Raises ``ProgramMissing`` before the first, ``DemoError`` when a program fails.
    """
    draws = [program.open() for program in programs]
    for program in programs:
        (out / program.generator).mkdir(parents=True, exist_ok=True)

    def make(index: int) -> Spoken:
        digest = hashlib.sha256(f"{seed} {index}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        program = programs[index % len(programs)]
        voice = draws[index % len(programs)](rng)
        text = draw_text(voice.language, rng)
        file = out / program.generator / f"{index:05}_{voice.language}.flac"
        with tempfile.TemporaryDirectory(prefix="streamguard-corpus-") as folder:
            wav = Path(folder) / "speech.wav"
            voice.synthesizer.render(text, wav)
            soundfile.write(file, cut_and_level(decode(wav), rng), RATE_HZ, subtype="PCM_16")
            return Spoken(file, program, voice, text, soundfile.info(wav).samplerate)

    with ThreadPoolExecutor(workers) as pool:
        yield from track(pool.map(make, range(count)), "speaking", count)


def draw_text(language: str, rng: np.random.Generator) -> str:
    """A sentence of the language, some with numbers at the end."""
    text = pick(rng, SENTENCES[language])
    if rng.random() >= _NUMBERED:
        return text
    return f"{text[:-1].rstrip()}, {rng.integers(10, 100)} {rng.integers(10, 100)}."


def cut_and_level(pcm: Pcm, rng: np.random.Generator) -> Pcm:
    """At most five seconds from anywhere, little silence at the ends, at a random level."""
    start, stop = active_span(pcm)
    speech = pcm[max(0, start - _MARGIN) : stop + _MARGIN].astype(np.float64)
    first = int(rng.integers(0, max(1, len(speech) - LONGEST + 1)))
    speech = speech[first : first + LONGEST]
    peak = 32768 * 10 ** (rng.uniform(*_PEAK_DB) / 20)
    return np.round(speech * peak / max(float(np.abs(speech).max()), 1.0)).astype(np.int16)
