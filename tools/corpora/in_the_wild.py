"""In-the-Wild (Müller et al., 2022): ``meta.csv`` with ``file,speaker,label``, audio beside it.

How a deepfake of a celebrity was made is not known: technology and generator are ``unknown``.
"""

from __future__ import annotations

from pathlib import Path

from tools.corpora.entry import Entry, csv_rows, inside, one_of

_LABELS = {"bona-fide": "bonafide", "spoof": "spoof"}


def entries(root: Path) -> list[Entry]:
    """Every row of ``meta.csv``. No split is published."""
    path = root / "meta.csv"
    found: list[Entry] = []
    for line, (file, speaker, key) in csv_rows(path, ("file", "speaker", "label")):
        label = _LABELS[one_of(path, line, "label", key, tuple(_LABELS))]
        found.append(
            Entry(
                path=inside(path, line, "file", file),
                label=label,
                technology="unknown" if label == "spoof" else "human",
                generator="unknown" if label == "spoof" else "human",
                source="in_the_wild",
                speaker=speaker,
                language="en",
            )
        )
    return found
