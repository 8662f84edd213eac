"""Fake-or-Real (Reimao and Tzerpos, 2019): ``{training,validation,testing}/{real,fake}/*``.

Give the folder of one version (for-norm, for-2seconds, for-rerecorded, for-original). All its
spoofed speech is text-to-speech; which system spoke a file is not told.
"""

from __future__ import annotations

from pathlib import Path

from tools.corpora.entry import Entry, audio_files
from tools.data import DataError

_SUBSETS = {"training": "train", "validation": "dev", "testing": "eval"}
_LABELS = {"real": "bonafide", "fake": "spoof"}


def entries(root: Path) -> list[Entry]:
    """All three parts, by file name."""
    found: list[Entry] = []
    for part, subset in _SUBSETS.items():
        for name, label in _LABELS.items():
            files = audio_files(root / part / name)
            if not files:
                raise DataError(root / part / name, 0, "folder", name, "must hold sound files")
            found += [
                Entry(
                    path=file.relative_to(root).as_posix(),
                    label=label,
                    technology="tts" if label == "spoof" else "human",
                    generator="unknown" if label == "spoof" else "human",
                    source="fake_or_real",
                    language="en",
                    subset=subset,
                )
                for file in files
            ]
    return found
