"""Everything that training reads in one small file:
``python -m tools.pack_shard SHARD --data D``; then ``--data SHARD`` wherever a folder goes.

Speech becomes Opus, at one rate for all clips of a set, whatever their class: the rate must not
become the label. Noise and impulse responses stay lossless: a codec for speech would ruin them.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from streamguard.errors import StreamguardError
from tools.command import run
from tools.data import (
    DEFAULT_SPLIT,
    ROLES,
    SAMPLE_RATE_HZ,
    Clip,
    DataError,
    active_span,
    data_folder,
    decode,
    read_manifest,
    read_split,
)
from tools.progress import track
from tools.shard import SUFFIX, unpack_shard, write_shard

if TYPE_CHECKING:
    import numpy.typing as npt

_MARGIN = SAMPLE_RATE_HZ // 10
"""Kept on either side of the speech, so that trimming again finds the same span."""
_LOWEST_BIT_RATE, _BIT_RATES = 6000, 250000
"""libsndfile spreads its compression level, 1 to 0, over these bits a second."""


class ShardSizeError(StreamguardError):
    """What was packed is larger than what may travel."""

    def __init__(self, mebibytes: float, limit: float) -> None:
        super().__init__(
            f"{mebibytes:.1f} MiB of {limit:g} allowed: pack fewer roles or lower rates"
        )


@dataclass(frozen=True, slots=True)
class Rates:
    """Kilobits a second of each set."""

    core: float = 28.0
    extra: float = 14.0

    def of(self, clip: Clip) -> float | None:
        """None for what stays lossless."""
        if not clip.speech:
            return None
        return self.core if clip.set == "core" else self.extra


def encode(samples: npt.NDArray[np.int16], kbps: float | None) -> bytes:
    """A clip as the bytes of an Ogg-Opus file, or of a FLAC file without a rate."""
    stream = io.BytesIO()
    if kbps is None:
        soundfile.write(stream, samples, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    else:
        level = 1.0 - (kbps * 1000.0 - _LOWEST_BIT_RATE) / _BIT_RATES
        soundfile.write(
            stream,
            samples,
            SAMPLE_RATE_HZ,
            format="OGG",
            subtype="OPUS",
            compression_level=min(max(level, 0.0), 1.0),
        )
    return stream.getvalue()


def trimmed(samples: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Without the silence at the ends, which no trainer reads, but for a margin."""
    start, stop = active_span(samples)
    return samples[max(0, start - _MARGIN) : stop + _MARGIN]


def pack(data: Path, shard: Path, clips: Sequence[Clip], rates: Rates, workers: int) -> int:
    """Write the shard of these clips of ``data / manifest.csv``; returns its bytes."""
    wanted = {clip.path: clip for clip in clips}
    with (data / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["path"] in wanted]

    def packed(row: Mapping[str, str]) -> tuple[dict[str, str], bytes]:
        clip = wanted[row["path"]]
        samples = decode(data / clip.path)
        if clip.speech:
            samples = trimmed(samples)
        kbps = rates.of(clip)
        file = encode(samples, kbps)
        suffix = ".flac" if kbps is None else ".ogg"
        return {
            **row,
            "path": str(PurePosixPath(clip.path).with_suffix(suffix)),
            "seconds": f"{len(samples) / SAMPLE_RATE_HZ:.3f}",
            "sha256": hashlib.sha256(file).hexdigest(),
        }, file

    with ThreadPoolExecutor(workers) as pool:
        results = list(track(pool.map(packed, rows), "packing", len(rows)))
    write_shard(shard, [row for row, _ in results], [file for _, file in results])
    return shard.stat().st_size


def compare(
    data: Path, unpacked: Path, clips: Sequence[Clip]
) -> dict[str, npt.NDArray[np.float64]]:
    """Correlation of each packed clip with its original, by set; raises ValueError for a clip
    that is missing or of another length."""
    restored = {_stem(clip): clip for clip in read_manifest(unpacked / "manifest.csv")}
    likeness: dict[str, list[float]] = {}
    for clip in track(clips, "comparing", len(clips)):
        if _stem(clip) not in restored:
            raise ValueError(f"{clip.path}: not in the shard")
        original = decode(data / clip.path)
        if clip.speech:
            original = trimmed(original)
        heard = decode(unpacked / restored[_stem(clip)].path)
        if len(heard) != len(original):
            raise ValueError(f"{clip.path}: {len(heard)} samples, packed {len(original)}")
        value = float(np.corrcoef(heard.astype(float), original.astype(float))[0, 1])
        likeness.setdefault(f"{clip.set} {clip.label}", []).append(value)
    return {name: np.array(values) for name, values in likeness.items()}


def _stem(clip: Clip) -> str:
    return str(PurePosixPath(clip.path).with_suffix(""))


def main(argv: Sequence[str] | None = None) -> int:
    """Pack, say how large, and compare with the original where asked."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tools.pack_shard")
    parser.add_argument("shard", type=Path, help=f"file to write, *{SUFFIX}")
    parser.add_argument("--data", type=Path, help="folder with manifest.csv ($STREAMGUARD_DATA)")
    parser.add_argument("--split", type=Path, default=DEFAULT_SPLIT)
    parser.add_argument("--roles", nargs="+", choices=ROLES, default=["train", "validation"])
    parser.add_argument("--core-kbps", type=float, default=Rates().core)
    parser.add_argument("--extra-kbps", type=float, default=Rates().extra)
    parser.add_argument("--limit-mib", type=float, default=55.0)
    parser.add_argument("--workers", type=int, default=1, help="encoder threads")
    parser.add_argument("--verify", type=Path, metavar="FOLDER", help="unpack there and compare")
    options = parser.parse_args(argv)
    if options.shard.suffix != SUFFIX:
        parser.error(f"shard: {options.shard}: a file *{SUFFIX}")
    data, split = data_folder(options.data), read_split(options.split)
    clips = [
        clip for clip in read_manifest(data / "manifest.csv") if split.role(clip) in options.roles
    ]
    if not clips:
        raise DataError(data, 0, "--roles", " ".join(options.roles), "roles that some clips have")
    rates = Rates(options.core_kbps, options.extra_kbps)
    size = pack(data, options.shard, clips, rates, options.workers) / 2**20
    print(f"{options.shard}: {len(clips)} clips, {size:.1f} MiB")
    if size > options.limit_mib:
        raise ShardSizeError(size, options.limit_mib)
    if options.verify:
        likeness = compare(data, unpack_shard(options.shard, options.verify), clips)
        for name, values in sorted(likeness.items()):
            low, middle = np.quantile(values, (0.05, 0.5))
            print(
                f"{name}: {len(values)} clips of the packed length, correlation {middle:.3f} "
                f"in the median, {low:.3f} at the 5th percentile, {values.min():.3f} at worst"
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
