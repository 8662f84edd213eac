"""Codecfake (Xie et al., 2024): VCTK and AISHELL-3 resynthesised by neural codecs.

``label/{train,dev,C1..C7}.txt`` with ``file real|fake [class]``; audio in ``train/``, ``dev/`` and
``test/C1/`` to ``test/C7/``. A fake's name begins with its codec: ``F01_p225_001.wav``. The parts
are published apart: those whose label file is here are read. A1 to A3 (audio language models, no
codec to name) are not.
"""

from __future__ import annotations

import re
from pathlib import Path

from tools.corpora.entry import Entry, fields, inside, one_of
from tools.data import DataError

CODECS = {
    "F01": "soundstream",
    "F02": "speechtokenizer",
    "F03": "funcodec",
    "F04": "encodec",
    "F05": "audiodec",
    "F06": "academiccodec",
    "F07": "dac",
}
"""F07 occurs in C7 only: the codec that the published systems have not seen."""

_TESTS = {f"C{number}": f"F0{number}" for number in range(1, 8)}
_SPEAKERS = (
    (re.compile(r"(SSB\d{4})\d+"), "zh"),
    (re.compile(r"([ps]\d+)_\d+"), "en"),
)


def entries(root: Path) -> list[Entry]:
    """Every part whose label file is here; at least one must be."""
    parts = {"train": "train", "dev": "dev", **{name: f"test/{name}" for name in _TESTS}}
    found: list[Entry] = []
    labels = {name: root / "label" / f"{name}.txt" for name in parts}
    present = [name for name, file in labels.items() if file.is_file()]
    if not present:
        raise DataError(labels["train"], 0, "file", "label/train.txt", "or another list must exist")
    for name in present:
        found += parse_labels(labels[name], parts[name], _TESTS.get(name))
    return found


def parse_labels(path: Path, folder: str, only: str | None = None) -> list[Entry]:
    """One label file; ``only``: the codec of a test part, for names that do not say it."""
    subset = folder if folder in ("train", "dev") else "eval"
    found: list[Entry] = []
    for line, (file, key, _) in fields(path, ("file", "label", "class"), 2):
        one_of(path, line, "label", key, ("real", "fake"))
        name = inside(path, line, "file", file)
        codec = name[:3] if name[:3] in CODECS else only
        if key == "fake" and codec is None:
            raise DataError(path, line, "file", file, "a fake begins with " + ", ".join(CODECS))
        speaker, language = _speaker(name)
        found.append(
            Entry(
                path=f"{folder}/{name}",
                label="spoof" if key == "fake" else "bonafide",
                technology="codec" if key == "fake" else "human",
                generator=CODECS[codec] if key == "fake" and codec else "human",
                source="codecfake",
                speaker=speaker,
                language=language,
                subset=subset,
            )
        )
    return found


def _speaker(name: str) -> tuple[str, str]:
    """Speaker and language of a file of VCTK or AISHELL-3; empty for others."""
    for pattern, language in _SPEAKERS:
        match = pattern.search(name)
        if match:
            return match[1], language
    return "", ""
