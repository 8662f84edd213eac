"""The corpus needs scipy (the extra 'train'); without it there is nothing to collect here."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile

_MISSING = importlib.util.find_spec("scipy") is None
collect_ignore_glob = ["test_*.py"] if _MISSING else []


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """As in the workers of the tool; threads would wait for each other on a busy machine."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

    with threadpool_limits(1):
        yield


HEADER = (
    "path,set,label,technology,generator,source_repo,speaker,language,orig_sr,seconds,detail,"
    "sha256,license"
)


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """Three human clips to train with (one too short), one of validation, one spoofed."""
    from tests.tools.corpus.sounds import voice

    folder = tmp_path / "data"
    folder.mkdir()
    rows = [
        ("a.wav", "bonafide,human,human,some/train", 1.0),
        ("b.wav", "bonafide,human,human,some/train", 1.2),
        ("short.wav", "bonafide,human,human,some/train", 0.3),
        ("v.wav", "bonafide,human,human,some/validation", 1.0),
        ("s.wav", "spoof,tts,vits,some/train", 1.0),
    ]
    lines = [HEADER]
    for seed, (name, what, seconds) in enumerate(rows):
        soundfile.write(folder / name, voice(seconds, 100 + 20 * seed, seed), 16000)
        lines.append(f"{name},core,{what},anna,en,22050,{seconds},,{seed},CC0")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "split.yaml").write_text(
        "schema: streamguard.split/1\nsources: {some/train: train, some/validation: validation}\n"
    )
    return folder
