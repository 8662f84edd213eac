"""Clips of a made-up collection."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from tools.data import Clip


def clip(generator: str, source: str, number: int, *, technology: str = "tts") -> Clip:
    return Clip(
        path=f"core/{source}/{technology}-{generator}-{number}.flac",
        set="core" if number % 4 else "extra",
        label="spoof",
        technology=technology,
        generator=generator,
        source_repo=source,
        speaker="",
        language="en",
        orig_sr=16000,
        seconds=1.0,
        detail="",
        sha256="",
    )


def buzz(seconds: float = 5.0, pitch_hz: float = 120.0) -> npt.NDArray[np.int16]:
    """What the gate takes for speech: a buzz with changing pitch and formants, in syllables."""
    rng = np.random.default_rng(2)
    time = np.arange(round(seconds * 16000)) / 16000
    pitch = pitch_hz + 20 * np.sin(2 * np.pi * 0.7 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / 16000
    formant = 700 + 400 * np.sin(2 * np.pi * 2.3 * time)
    voiced = sum(
        np.sin(k * phase) * np.exp(-(((k * pitch - formant) / 500) ** 2)) + 0.1 * np.sin(k * phase)
        for k in range(1, 25)
    )
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * time) + 0.4, 0, 1)
    samples = 2500 * syllables * voiced + rng.normal(0, 20, len(time))
    return np.asarray(samples, np.int16)


def speaking_collection(folder: Path) -> Path:
    """A manifest and a split: low voices are bona fide, high ones spoofed, in three sources.

    Two sources are for training, ``held`` is for validation and holds both classes.
    """
    columns = "path,set,label,technology,generator,source_repo,speaker,language,orig_sr,seconds"
    rows = [columns + ",detail,sha256"]
    voices = buzz(3.5, 115.0), buzz(3.5, 180.0)
    for number in range(24):
        spoof = number % 2 == 1
        name = f"{number}.wav"
        soundfile.write(folder / name, np.roll(voices[spoof], 1500 * number), 16000)
        kind = "spoof,tts,vits" if spoof else "bonafide,human,human"
        source = ("one", "two", "held")[number % 6 // 2]
        rows.append(f"{name},core,{kind},{source},,en,16000,3.5,,{number}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    (folder / "split.yaml").write_text(
        "schema: streamguard.split/1\nsources: {one: train, two: train, held: validation}\n"
    )
    return folder
