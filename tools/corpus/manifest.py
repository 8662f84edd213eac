"""The manifest of what was made: the columns of the collection's own."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

if TYPE_CHECKING:
    import numpy.typing as npt

COLUMNS = (
    "path,set,label,technology,generator,source_repo,source_path,source_commit,license,speaker,"
    "language,orig_sr,seconds,detail,dataset,rms_db,clip_frac,active_frac,bw_hz,sha256,"
    "source_seconds"
).split(",")
"""Those that nothing is known about stay empty."""


def describe(file: Path) -> dict[str, object]:
    """The columns that follow from the audio."""
    pcm: npt.NDArray[np.int16]
    pcm, rate = soundfile.read(file, dtype="int16")
    level = np.sqrt(np.mean(np.square(pcm.astype(np.float64)))) / 32768
    return {
        "seconds": round(len(pcm) / rate, 4),
        "rms_db": round(20 * float(np.log10(max(float(level), 1e-6))), 1),
        "clip_frac": round(float(np.mean(np.abs(pcm.astype(np.int32)) >= 32767)), 6),
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }


def write(file: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write the whole manifest; the file appears when it is complete."""
    unfinished = file.with_suffix(".tmp")
    with unfinished.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    unfinished.replace(file)


def detail(told: Mapping[str, object]) -> str:
    """The column ``detail``: ``key=value; key=value``, numbers to three digits."""
    return "; ".join(
        f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in told.items()
    )
