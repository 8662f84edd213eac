"""What all loaders share: rows of protocol files, entries before the audio is looked at."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile

from streamguard.errors import AudioFileError
from tools.data import Clip, DataError
from tools.progress import track

AUDIO_SUFFIXES = frozenset((".wav", ".flac", ".mp3", ".ogg"))


@dataclass(frozen=True, slots=True)
class Entry:
    """What a corpus says of one file; lengths and rates are in the file itself."""

    path: str
    """Relative to the folder of the corpus."""
    label: str
    technology: str
    generator: str
    source: str
    speaker: str = ""
    language: str = ""
    subset: str = ""
    detail: str = ""


def clips_of(root: Path, entries: Sequence[Entry]) -> tuple[Clip, ...]:
    """The entries with what their audio says; raises ``DataError`` for a file that is not there."""
    return tuple(_clip(root, entry) for entry in track(entries, "reading headers", len(entries)))


def _clip(root: Path, entry: Entry) -> Clip:
    path = root / entry.path
    if not path.is_file():
        raise DataError(path, 0, "file", entry.path, "named by the corpus, must exist")
    try:
        info = soundfile.info(path)
    except soundfile.LibsndfileError as err:
        raise AudioFileError(str(path), str(err)) from err
    return Clip(
        path=entry.path,
        set="core",
        label=entry.label,
        technology=entry.technology,
        generator=entry.generator,
        source_repo=entry.source,
        speaker=entry.speaker,
        language=entry.language,
        orig_sr=info.samplerate,
        seconds=info.frames / info.samplerate,
        detail=entry.detail,
        sha256="",
        subset=entry.subset,
    )


def _read(path: Path) -> str:
    """A text file, packed with gzip or not; raises ``DataError`` if it is missing or no text."""
    if not path.is_file():
        raise DataError(path, 0, "file", path.name, "the corpus must hold this file")
    try:
        if path.suffix == ".gz":
            return gzip.decompress(path.read_bytes()).decode("utf-8-sig")
        return path.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, gzip.BadGzipFile, zlib.error, EOFError) as err:
        raise DataError(path, 0, "file", path.name, f"must be UTF-8 text ({err})") from err


def fields(path: Path, names: Sequence[str], least: int) -> Iterator[tuple[int, list[str]]]:
    """Line number and blank-separated fields of each line that is not empty.

    ``names``: all fields a line may have; the first ``least`` it must have, the others come empty.
    """
    for number, line in enumerate(_read(path).splitlines(), 1):
        values = line.split()
        if not values:
            continue
        if len(values) < least:
            raise DataError(path, number, names[len(values)], "", "the line ends before this field")
        if len(values) > len(names):
            extra = values[len(names)]
            raise DataError(path, number, "line", extra, f"has only {len(names)} fields")
        yield number, values + [""] * (len(names) - len(values))


def csv_rows(path: Path, names: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Line number and the named columns of each row of a CSV file with a header."""
    reader = csv.DictReader(io.StringIO(_read(path)))
    for name in names:
        if name not in (reader.fieldnames or ()):
            raise DataError(path, 1, name, "", "a column of this name must exist")
    for row in reader:
        values: list[str] = []
        for name in names:
            value = row[name]
            if not value:
                raise DataError(path, reader.line_num, name, "", "must not be empty")
            values.append(value)
        yield reader.line_num, values


def inside(path: Path, line: int, field: str, value: str) -> str:
    """A file name of a protocol; raises ``DataError`` if it leads out of the corpus."""
    if Path(value).is_absolute() or ".." in Path(value).parts:
        raise DataError(path, line, field, value, "relative to the folder of the corpus")
    return Path(value).as_posix()


def one_of(path: Path, line: int, field: str, value: str, allowed: Sequence[str]) -> str:
    """The value itself; raises ``DataError`` if it is none of the allowed."""
    if value not in allowed:
        raise DataError(path, line, field, value, "one of " + ", ".join(allowed))
    return value


def audio_files(folder: Path) -> list[Path]:
    """The sound files right in a folder, sorted; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in AUDIO_SUFFIXES)
