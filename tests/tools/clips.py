"""Clips of a made-up collection."""

from __future__ import annotations

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
