"""WaveFake (Frank and Schönherr, 2021): LJSpeech and JSUT through vocoders, one folder each.

The folders of ``generated_audio.zip``, beside each other; the human originals beside them as they
unpack: ``LJSpeech-1.1/wavs`` and ``jsut_ver1.1/*/wav``, where the user has them. No split is
published.
"""

from __future__ import annotations

from pathlib import Path

from tools.corpora.entry import Entry, audio_files
from tools.data import DataError

VOCODERS = {
    "full_band_melgan": "fullbandmelgan",
    "hifiGAN": "hifigan",
    "melgan": "melgan",
    "melgan_large": "melganlarge",
    "multi_band_melgan": "multibandmelgan",
    "parallel_wavegan": "parallelwavegan",
    "waveglow": "waveglow",
}
TTS_FOLDER = "common_voices_prompts_from_conformer_fastspeech2_pwg_ljspeech"
"""Not a copy: new sentences from text, in the voice of LJSpeech."""
_LANGUAGES = {"ljspeech": "en", "jsut": "ja"}


def entries(root: Path) -> list[Entry]:
    """Every known folder below ``root``; raises ``DataError`` if there is none."""
    found: list[Entry] = []
    for voice in _LANGUAGES:
        for name, generator in VOCODERS.items():
            found += _folder(root, root / f"{voice}_{name}", voice, "vocoder", generator)
    found += _folder(root, root / TTS_FOLDER, "ljspeech", "tts", "conformerfastspeech2")
    if not found:
        known = ", ".join(f"ljspeech_{name}" for name in VOCODERS)
        raise DataError(root, 0, "folder", root.name, f"must hold one of {known}, ...")
    found += _folder(root, root / "LJSpeech-1.1" / "wavs", "ljspeech", "human", "human")
    for folder in sorted((root / "jsut_ver1.1").glob("*/wav")):
        found += _folder(root, folder, "jsut", "human", "human")
    return found


def _folder(root: Path, folder: Path, voice: str, technology: str, generator: str) -> list[Entry]:
    return [
        Entry(
            path=file.relative_to(root).as_posix(),
            label="bonafide" if technology == "human" else "spoof",
            technology=technology,
            generator=generator,
            source=f"wavefake/{voice}",
            speaker=voice,
            language=_LANGUAGES[voice],
        )
        for file in audio_files(folder)
    ]
