"""MLAAD (Müller et al., 2024) with the source-tracing protocol.

``{train,dev,eval}.csv`` with the columns ``path,model_name``; audio below ``fake/LANGUAGE/MODEL/``.
The protocol has no bona fide speech: attribution only.
"""

from __future__ import annotations

from pathlib import Path

from tools.corpora.entry import Entry, csv_rows, inside
from tools.data import SUBSETS, DataError

RESYNTHESIS = "griffin_lim"
"""The one model that copies human recordings; all others read text."""


def entries(root: Path) -> list[Entry]:
    """Train, dev and eval."""
    return [entry for part in SUBSETS for entry in parse_protocol(root / f"{part}.csv", part)]


def parse_protocol(path: Path, subset: str) -> list[Entry]:
    """One protocol file. The generator keeps the published name: the classes are made of it."""
    found: list[Entry] = []
    for line, (file, model) in csv_rows(path, ("path", "model_name")):
        name = inside(path, line, "path", file)
        parts = Path(name).parts
        if len(parts) != 4 or parts[0] != "fake":
            raise DataError(path, line, "path", file, "./fake/LANGUAGE/MODEL/FILE")
        found.append(
            Entry(
                path=name,
                label="spoof",
                technology="vocoder" if model == RESYNTHESIS else "tts",
                generator=model,
                source="mlaad",
                language=parts[1],
                subset=subset,
            )
        )
    return found
