"""The calls of the impairment table: synthesised at run time, a human voice, and clips if given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soxr

from streamguard.demo.legs import DemoError, to_int16
from streamguard.demo.synthesis import SENTENCES, installed
from streamguard.demo.voices import ALSA_SOUNDS, alsa_speech, levelled, synthetic_speech
from tools.impairment.stream import RATE_HZ

if TYPE_CHECKING:
    import numpy.typing as npt

CALL_S = 24.0
LEAST_CLIP_S = 12.0
"""Shorter legs of joined clips have too few windows to compare."""


@dataclass(frozen=True, slots=True, eq=False)
class Voice:
    """One direction of a call, 8 kHz."""

    name: str
    samples: npt.NDArray[np.int16]


def synthesised() -> Iterator[Voice]:
    """Two texts by each synthesizer that is installed."""
    for synthesizer in installed():
        for number, first in enumerate((0, 6)):
            speech = synthetic_speech(synthesizer, CALL_S, SENTENCES[first:] + SENTENCES[:first])
            yield Voice(f"{synthesizer.name} {number + 1}", to_int16(levelled(speech)))


def human() -> Iterator[Voice]:
    """The recordings of alsa-utils, if they are installed: one speaker."""
    try:
        yield Voice("alsa-utils", to_int16(levelled(alsa_speech(CALL_S, ALSA_SOUNDS))))
    except DemoError:
        return


def recorded(data: Path, cache: Path, calls: int, seed: int) -> Iterator[Voice]:
    """Legs of joined validation clips, as many spoofed as bona fide. Raises DataError."""
    # What prepares training material needs torch; the other voices do not.
    from tools.data import SAMPLE_RATE_HZ, AudioCache, data_folder, read_manifest, read_split
    from tools.legs import pseudo_legs

    root = data_folder(data)
    found = read_split().select(read_manifest(root / "manifest.csv"), "validation")
    clips = [clip for clip in found if clip.speech]
    legs = [
        leg
        for leg in pseudo_legs(clips, AudioCache.open(root, cache, clips), CALL_S)
        if len(leg.samples) >= LEAST_CLIP_S * SAMPLE_RATE_HZ
    ]
    random = np.random.default_rng(seed)
    for spoof in (False, True):
        mine = [leg for leg in legs if leg.clip.spoof is spoof]
        for number in random.permutation(len(mine))[: calls // 2]:
            leg = mine[int(number)]
            samples = soxr.resample(leg.samples / 32_768.0, SAMPLE_RATE_HZ, RATE_HZ, quality="HQ")
            name = f"{leg.clip.source_repo} {leg.clip.generator} {number}"
            yield Voice(name, to_int16(np.asarray(samples, np.float64)))
