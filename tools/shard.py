"""A collection in one file, for a machine that has nothing else.

The bytes, integers unsigned and little-endian: ``MAGIC``, the sha256 of all that follows it, the
length of the manifest and the number of clips (8 bytes each), the manifest (CSV, deflated), where
each clip ends in the audio (8 bytes each, in the order of the manifest), and the audio: the clips'
files (Ogg-Opus or FLAC) one behind the other. Reading a shard takes numpy, and soundfile for the
clips; ``unpack_shard`` makes it a folder that every tool reads.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import os
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from streamguard.errors import StreamguardError

SUFFIX = ".shard"
MAGIC = b"streamguard.shard/1\n"
_DIGEST_BYTES = 32
_LENGTHS_BYTES = 16
_MAX_MANIFEST_BYTES = 256 << 20


class ShardError(StreamguardError):
    """A file is no shard, or a damaged one."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")


def write_shard(path: Path, rows: Sequence[Mapping[str, str]], files: Sequence[bytes]) -> None:
    """Write atomically; ``files`` are in the order of the manifest's ``rows``."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    manifest = zlib.compress(text.getvalue().encode(), 9)
    lengths = np.array([len(manifest), len(files)], "<u8")
    ends = np.cumsum([len(file) for file in files], dtype="<u8")
    body = b"".join((lengths.tobytes(), manifest, ends.tobytes(), *files))
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(MAGIC + hashlib.sha256(body).digest() + body)
    temporary.replace(path)


def parse_shard(content: bytes) -> tuple[bytes, list[bytes]]:
    """``manifest.csv`` and the clips' files in its order. Raises ValueError."""
    if not content.startswith(MAGIC):
        raise ValueError(f"does not begin with {MAGIC!r}")
    begin = len(MAGIC) + _DIGEST_BYTES
    body = memoryview(content)[begin:]
    if hashlib.sha256(body).digest() != content[len(MAGIC) : begin]:
        raise ValueError("cut off or damaged: its sha256 is another one")
    if len(body) < _LENGTHS_BYTES:
        raise ValueError("too short")
    manifest_bytes, count = (int(value) for value in np.frombuffer(body, "<u8", 2))
    audio_begins = _LENGTHS_BYTES + manifest_bytes + 8 * count
    if audio_begins > len(body):
        raise ValueError("its manifest and its clips do not fit into it")
    inflate = zlib.decompressobj()
    try:
        manifest = inflate.decompress(body[_LENGTHS_BYTES:][:manifest_bytes], _MAX_MANIFEST_BYTES)
    except zlib.error as err:
        raise ValueError(f"manifest: {err}") from err
    if not inflate.eof:
        raise ValueError("manifest: cut off, or longer than 256 MiB")
    ends = [0, *np.frombuffer(body[audio_begins - 8 * count : audio_begins], "<u8").tolist()]
    audio = body[audio_begins:]
    if ends != sorted(ends) or ends[-1] != len(audio):
        raise ValueError("the ends of the clips must rise to the length of the audio")
    return manifest, [bytes(audio[start:end]) for start, end in itertools.pairwise(ends)]


def unpack_shard(shard: Path, cache: Path) -> Path:
    """The folder with ``manifest.csv`` that a shard becomes; made once, named by its content.

    Raises ShardError, also for a clip whose bytes are not those of its manifest's ``sha256``.
    """
    content = shard.read_bytes()
    folder = cache / f"shard-{hashlib.sha256(content).hexdigest()[:16]}"
    if (folder / "manifest.csv").is_file():
        return folder
    try:
        manifest, files = parse_shard(content)
        rows = list(csv.DictReader(io.StringIO(manifest.decode(), newline="")))
    except (ValueError, csv.Error) as err:
        raise ShardError(shard, str(err)) from err
    if len(rows) != len(files):
        raise ShardError(shard, f"manifest: {len(rows)} rows for {len(files)} clips")
    for line, (row, file) in enumerate(zip(rows, files, strict=True), start=2):
        relative = Path(row.get("path") or "/")
        if relative.is_absolute() or ".." in relative.parts:
            raise ShardError(shard, f"manifest:{line}: path: {relative}: must stay in the folder")
        if hashlib.sha256(file).hexdigest() != row.get("sha256"):
            raise ShardError(shard, f"manifest:{line}: sha256: not that of {relative}")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="unpacking-", dir=cache) as temporary:
        unfinished = Path(temporary) / "shard"
        for row, file in zip(rows, files, strict=True):
            target = unfinished / row["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file)
        (unfinished / "manifest.csv").write_bytes(manifest)
        try:
            os.rename(unfinished, folder)
        except OSError:
            # Another process may have been quicker; what it made is the same.
            if not (folder / "manifest.csv").is_file():
                raise
    return folder
