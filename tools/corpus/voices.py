"""The voices of the classical synthesizers that Debian packages, drawn at random."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from streamguard.demo.synthesis import Synthesizer
from streamguard.errors import StreamguardError
from tools.corpus.method import pick
from tools.corpus.sentences import SENTENCES

_ENGLISH = 0.5
"""Share of English where a program speaks several languages."""


class ProgramMissing(StreamguardError):
    """A synthesizer that was asked for is not installed, or has no voice that we know."""

    def __init__(self, name: str, package: str) -> None:
        super().__init__(f"{name} cannot speak here: install the Debian package {package}")


@dataclass(frozen=True, slots=True)
class Voice:
    """A synthesizer set to one voice, and the language that it speaks."""

    synthesizer: Synthesizer
    language: str
    speaker: str
    drawn: Mapping[str, object]


DrawVoice = Callable[[np.random.Generator], Voice]


@dataclass(frozen=True, slots=True)
class Program:
    """One generator of the corpus."""

    generator: str
    package: str
    executable: str
    prepare: Callable[[], DrawVoice]
    """Asks the program for its voices, once."""

    @property
    def source(self) -> str:
        """As the collection names what its own machine made."""
        return f"local:{self.package}"

    @property
    def installed(self) -> bool:
        return shutil.which(self.executable) is not None

    def open(self) -> DrawVoice:
        """Ready to draw voices; raises ``ProgramMissing``."""
        if not self.installed:
            raise ProgramMissing(self.generator, self.package)
        return self.prepare()


def _espeak(rng: np.random.Generator) -> Voice:
    """Formant synthesis: any language, of a variant of voice, pitch, speed and intonation."""
    accents = {
        "en": ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-us-nyc"),
        "fr": ("fr-fr", "fr-be", "fr-ch"),
        "es": ("es", "es-419"),
        "pt": ("pt", "pt-br"),
    }
    language = "en" if rng.random() < _ENGLISH else pick(rng, tuple(SENTENCES))
    variant = pick(rng, [f"m{i}" for i in range(1, 9)] + [f"f{i}" for i in range(1, 6)])
    voice = f"{pick(rng, accents.get(language, (language,)))}+{variant}"
    speed, pitch = int(rng.integers(120, 211)), int(rng.integers(20, 81))
    arguments = ("-v", voice, "-s", str(speed), "-p", str(pitch), "-f", "{text}", "-w", "{wav}")
    synthesizer = Synthesizer("espeak-ng", "espeak-ng", "espeak-ng", arguments)
    return Voice(synthesizer, language, voice, {"speed": speed, "pitch": pitch})


def _flite(rng: np.random.Generator) -> Voice:
    """Diphones (kal) and statistical clusters (awb, rms, slt), stretched and raised."""
    voice = pick(rng, ("kal", "kal16", "awb", "rms", "slt"))
    stretch = round(float(rng.uniform(0.8, 1.3)), 2)
    mean_hz = round(float(rng.uniform(150, 230) if voice == "slt" else rng.uniform(85, 150)))
    arguments = (
        *("-voice", voice, "--setf", f"duration_stretch={stretch}"),
        *("--setf", f"int_f0_target_mean={mean_hz}", "-f", "{text}", "-o", "{wav}"),
    )
    synthesizer = Synthesizer("flite", "flite", "flite", arguments)
    return Voice(synthesizer, "en", voice, {"stretch": stretch, "mean_hz": mean_hz})


_FESTIVAL_VOICES = {
    "kal_diphone": ("en", "ascii"),
    "ked_diphone": ("en", "ascii"),
    "cmu_us_slt_arctic_hts": ("en", "ascii"),
    "lp_diphone": ("it", "latin-1"),
    "pc_diphone": ("it", "latin-1"),
    "hy_fi_mv_diphone": ("fi", "latin-1"),
    "czech_ph": ("cs", "iso-8859-2"),
    "msu_ru_nsh_clunits": ("ru", "utf-8"),
}
"""Language and encoding of those voices that Debian packages and that read our sentences."""


def festival_voices() -> tuple[str, ...]:
    """The voices of ``_FESTIVAL_VOICES`` that this machine has."""
    listed = subprocess.run(
        ["festival", "-b", "(print (voice.list))"],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    ).stdout
    present = set(listed.strip(" ()\n").split())
    return tuple(name for name in _FESTIVAL_VOICES if name in present)


def _festival() -> DrawVoice:
    """Diphones, unit selection and HMMs, by the packages festvox-* that are installed."""
    voices = festival_voices()
    if not voices:
        raise ProgramMissing("festival", "festvox-kallpc16k")

    def draw(rng: np.random.Generator) -> Voice:
        voice = pick(rng, voices)
        language, encoding = _FESTIVAL_VOICES[voice]
        stretch = round(float(rng.uniform(0.85, 1.3)), 2)
        settings = f"(begin (voice_{voice}) (Parameter.set 'Duration_Stretch {stretch})"
        drawn: dict[str, object] = {"stretch": stretch}
        if voice in ("kal_diphone", "ked_diphone"):
            mean, spread = int(rng.integers(85, 160)), int(rng.integers(8, 30))
            drawn["mean_hz"] = mean
            settings += (
                f" (set! int_lr_params '((target_f0_mean {mean}) (target_f0_std {spread})"
                " (model_f0_mean 170) (model_f0_std 34)))"
            )
        arguments = ("-eval", settings + ")", "{text}", "-o", "{wav}")
        synthesizer = Synthesizer("festival", "text2wave", "festival", arguments, encoding)
        return Voice(synthesizer, language, voice, drawn)

    return draw


PROGRAMS: Final = {
    program.generator: program
    for program in (
        Program("espeak", "espeak-ng", "espeak-ng", lambda: _espeak),
        Program("flite", "flite", "flite", lambda: _flite),
        Program("festival", "festival", "text2wave", _festival),
    )
}
