"""Synthetic speech from whatever synthesizer Debian has installed. Text and audio are our own."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from streamguard.demo.legs import DemoError, read_sound

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Synthesizer:
    """A program that reads a text file and writes a WAV file."""

    name: str
    program: str
    package: str
    """The Debian package that brings it."""
    arguments: tuple[str, ...]
    """``{text}`` and ``{wav}`` stand for the two files."""

    encoding: str = "utf-8"
    """Of the text file."""
    voices: str = ""
    """Pattern of the folders of its voices below ``/``, where they are packages of their own."""

    @property
    def is_installed(self) -> bool:
        """Whether the program is there, and has something to speak with."""
        if shutil.which(self.program) is None:
            return False
        return not self.voices or any(Path("/").glob(self.voices))

    def speak(self, text: str) -> npt.NDArray[np.float64]:
        """The text as speech at 8 kHz, full scale 1.0. Raises DemoError if the program fails."""
        with tempfile.TemporaryDirectory(prefix="streamguard-demo-") as folder:
            wav = Path(folder) / "speech.wav"
            self.render(text, wav)
            return read_sound(wav)

    def render(self, text: str, wav: Path) -> None:
        """Write the WAV file, and the text beside it. Raises DemoError if the program fails."""
        source = wav.with_suffix(".txt")
        source.write_text(text + "\n", encoding=self.encoding)
        command = [
            self.program,
            *(part.format(text=source, wav=wav) for part in self.arguments),
        ]
        try:
            subprocess.run(  # noqa: S603  # fixed commands, with our own text
                command, check=True, capture_output=True, timeout=_TIMEOUT_S
            )
        except subprocess.CalledProcessError as err:
            said = err.stderr.decode(errors="replace").strip()[-200:]
            raise DemoError(f"{self.name} failed with status {err.returncode}: {said}") from err
        except (OSError, subprocess.TimeoutExpired) as err:
            raise DemoError(f"{self.name} failed: {err}") from err
        if not wav.exists() or not wav.stat().st_size:
            # What festival does without a voice, with status 0.
            raise DemoError(f"{self.name} wrote no speech; has it a voice?")


SYNTHESIZERS: Final = (
    Synthesizer("flite (slt)", "flite", "flite", ("-voice", "slt", "-f", "{text}", "-o", "{wav}")),
    Synthesizer(
        "espeak-ng",
        "espeak-ng",
        "espeak-ng",
        ("-v", "en-us", "-s", "160", "-f", "{text}", "-w", "{wav}"),
    ),
    Synthesizer(
        "festival",
        "text2wave",
        "festival",
        ("{text}", "-o", "{wav}"),
        voices="usr/share/festival/voices/*/*",
    ),
)


def installed() -> tuple[Synthesizer, ...]:
    """Those that this machine has, at least one. Raises DemoError naming the packages."""
    found = tuple(s for s in SYNTHESIZERS if s.is_installed)
    if not found:
        names = ", ".join(s.package for s in SYNTHESIZERS)
        raise DemoError(
            f"no speech synthesizer is installed; one of these packages is needed: {names} "
            "(for instance: apt-get install espeak-ng)"
        )
    return found


SENTENCES: Final = (
    "Good morning, this is the appointment service of the harbour clinic.",
    "I am calling about the letter that we sent you two weeks ago.",
    "Your visit on Thursday has to move to the following Monday.",
    "Would a quarter past nine in the morning still suit you?",
    "Please bring the blue form and a list of your medicines.",
    "The entrance on the river side is closed until the end of May.",
    "You can leave the car in the second row behind the bakery.",
    "If the time is wrong for you, just tell me what works better.",
    "There is also a free place on Wednesday afternoon at four.",
    "I will send a short message with the number of the room.",
    "Nothing else changes, and you do not have to call us back.",
    "Thank you for your patience, and have a pleasant day.",
)
"""About 40 s of speech; written for this demonstration, in no training text."""
