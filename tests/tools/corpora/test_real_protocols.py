"""The loaders on the published protocol files, where ``$STREAMGUARD_DATA/protocols`` has them."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from tools.corpora import asvspoof2019, mlaad

FOLDER = Path(os.environ.get("STREAMGUARD_DATA", "")) / "protocols"


def _protocol(name: str) -> Path:
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(f"$STREAMGUARD_DATA/protocols/{name} is not here")
    return path


def test_the_asvspoof_2019_la_protocol_is_read_whole() -> None:
    entries = asvspoof2019.parse_protocol(_protocol("asvspoof2019_LA_protocol.txt.gz"))
    parts = Counter((entry.subset, entry.label) for entry in entries)
    # Table 2 of Wang et al., 2020; the file ends in the middle of no part.
    assert parts["train", "bonafide"] == 2580
    assert parts["train", "spoof"] == 22800
    assert parts["dev", "bonafide"] == 2548
    assert parts["dev", "spoof"] == 22296
    assert parts["eval", "bonafide"] == 7355
    assert parts["eval", "spoof"] == 63882
    assert len({entry.generator for entry in entries}) == 20


def test_the_mlaad_source_tracing_protocol_has_the_published_classes() -> None:
    parts = {
        part: mlaad.parse_protocol(_protocol(f"mlaad_source_tracing_{part}.csv.gz"), part)
        for part in ("train", "dev", "eval")
    }
    assert {part: len(entries) for part, entries in parts.items()} == {
        "train": 11100,
        "dev": 12000,
        "eval": 33900,
    }
    models = {part: {entry.generator for entry in found} for part, found in parts.items()}
    assert len(models["train"]) == 24
    assert len(models["dev"] & models["train"]) == 8
    assert len(models["eval"] & models["train"]) == 21
    technologies = Counter(entry.technology for found in parts.values() for entry in found)
    assert technologies == {"tts": 53100, "vocoder": 3900}
