"""Speech to train and measure with: one kind of clip, whatever corpus it comes from.

The collection has a manifest; public corpora have layouts of their own, read by ``tools.corpora``.
Both become a ``Corpus`` of ``Clip``: one label vocabulary, one way to choose a role, one decoded
cache.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr
import yaml

from streamguard.errors import AudioFileError, StreamguardError
from tools.progress import track
from tools.shard import SUFFIX as SHARD_SUFFIX
from tools.shard import unpack_shard

if TYPE_CHECKING:
    import numpy.typing as npt

SAMPLE_RATE_HZ = 16000
SPLITS_FOLDER = Path(__file__).parent / "splits"
DEFAULT_SPLIT = SPLITS_FOLDER / "main.yaml"
SHARD_CACHE = Path.home() / ".cache" / "streamguard" / "shards"

SETS = ("core", "extra")
LABELS = ("bonafide", "spoof", "noise", "rir")
TECHNOLOGIES = ("human", "tts", "vc", "vocoder", "codec", "unknown", "noise", "rir")
"""``unknown``: spoofed speech whose publisher does not say how it was made."""
ROLES = ("train", "validation", "calibration", "test")
SUBSETS = ("train", "dev", "eval")
"""What a public corpus calls its own parts."""
_ROLE_SUBSETS = {"train": "train", "validation": "dev", "test": "eval"}
SPOOF_TECHNOLOGIES = frozenset(("tts", "vc", "vocoder", "codec", "unknown"))


class DataError(StreamguardError):
    """A manifest or a split says something impossible."""

    def __init__(self, file: Path, line: int, field: str, value: str, allowed: str) -> None:
        self.file, self.line, self.field, self.value, self.allowed = (
            file,
            line,
            field,
            value,
            allowed,
        )
        super().__init__(f"{file}:{line}: {field}: {value!r}: {allowed}")


@dataclass(frozen=True, slots=True)
class Clip:
    """One row of the manifest."""

    path: str
    """Relative to the folder of the manifest."""
    set: str
    label: str
    technology: str
    generator: str
    source_repo: str
    speaker: str
    language: str
    orig_sr: int
    """Hertz, of the original before it was resampled to 16 kHz."""
    seconds: float
    detail: str
    sha256: str
    """Empty where the corpus publishes none."""
    subset: str = ""
    """Of the corpus' own split; empty in a manifest, whose split is a file by source."""

    @property
    def spoof(self) -> bool:
        return self.label == "spoof"

    @property
    def speech(self) -> bool:
        return self.label in ("bonafide", "spoof")


_FIELDS = tuple(field.name for field in dataclasses.fields(Clip) if field.name != "subset")


def data_folder(option: Path | None) -> Path:
    """The folder with ``manifest.csv``: the option ``--data``, else ``$STREAMGUARD_DATA``.

    A shard (``tools.pack_shard``) in its place is unpacked into the user's cache first.
    """
    folder = option or Path(os.environ.get("STREAMGUARD_DATA", ""))
    if folder.suffix == SHARD_SUFFIX and folder.is_file():
        folder = unpack_shard(folder, SHARD_CACHE)
    if not (folder / "manifest.csv").is_file():
        raise DataError(
            folder / "manifest.csv", 0, "--data", str(folder), "a folder that holds manifest.csv"
        )
    return folder


def read_manifest(path: Path) -> tuple[Clip, ...]:
    """Every clip of a manifest; raises ``DataError`` with file, line and field."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            missing = [name for name in _FIELDS if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(path, 1, missing[0], "", "a column of this name must exist")
            return tuple(_clip(path, reader.line_num, row) for row in reader)
    except (UnicodeDecodeError, csv.Error) as err:
        raise DataError(path, 0, "file", path.name, f"must be CSV in UTF-8 ({err})") from err


def _clip(path: Path, line: int, row: Mapping[str, str | None]) -> Clip:
    def text(field: str) -> str:
        value = row[field]
        if value is None:
            raise DataError(path, line, field, "", "the row ends before this field")
        return value

    def one_of(field: str, allowed: Sequence[str]) -> str:
        value = text(field)
        if value not in allowed:
            raise DataError(path, line, field, value, "one of " + ", ".join(allowed))
        return value

    def positive(field: str) -> float:
        value = text(field)
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0 < number < float("inf"):
            raise DataError(path, line, field, value, "a number above zero")
        return number

    def filled(field: str) -> str:
        value = text(field)
        if not value:
            raise DataError(path, line, field, value, "must not be empty")
        return value

    label = one_of("label", LABELS)
    technology = one_of("technology", TECHNOLOGIES)
    if (label == "spoof") != (technology in SPOOF_TECHNOLOGIES):
        raise DataError(path, line, "technology", technology, f"does not go with label {label}")
    relative = filled("path")
    if Path(relative).is_absolute() or ".." in Path(relative).parts:
        raise DataError(path, line, "path", relative, "relative to the folder of the manifest")
    return Clip(
        path=relative,
        set=one_of("set", SETS),
        label=label,
        technology=technology,
        generator=filled("generator"),
        source_repo=filled("source_repo"),
        speaker=text("speaker"),
        language=text("language"),
        orig_sr=int(positive("orig_sr")),
        seconds=positive("seconds"),
        detail=text("detail"),
        sha256=text("sha256"),
    )


@dataclass(frozen=True, slots=True)
class Split:
    """Which role each source plays, and which generators nothing may be trained on."""

    sources: Mapping[str, str]
    held_out_generators: frozenset[str]

    def role(self, clip: Clip) -> str | None:
        """``train | validation | calibration | test``; None for a clip that must not be used.

        A clip of a training source by a held-out generator is in no role: scoring it would not be
        a test on unseen sources.
        """
        role = self.sources.get(clip.source_repo)
        if role == "train" and clip.generator in self.held_out_generators:
            return None
        return role

    def select(self, clips: Iterable[Clip], role: str) -> tuple[Clip, ...]:
        """The clips of a role, speech, noise and impulse responses alike."""
        return tuple(clip for clip in clips if self.role(clip) == role)


def read_split(path: Path = DEFAULT_SPLIT) -> Split:
    """Read a split file; raises ``DataError``."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as err:
        raise DataError(path, 0, "file", path.name, f"must be YAML in UTF-8 ({err})") from err
    if not isinstance(content, dict) or content.get("schema") != "streamguard.split/1":
        raise DataError(path, 1, "schema", "", "streamguard.split/1")
    sources = content.get("sources")
    if not isinstance(sources, dict):
        raise DataError(path, 1, "sources", repr(sources), "a mapping of source_repo to role")
    for source, role in sources.items():
        if role not in ROLES:
            raise DataError(path, 0, f"sources.{source}", str(role), "one of " + ", ".join(ROLES))
    held_out = content.get("held_out_generators") or []
    if not isinstance(held_out, list) or not all(isinstance(name, str) for name in held_out):
        raise DataError(path, 0, "held_out_generators", repr(held_out), "a list of names")
    return Split(sources, frozenset(held_out))


@dataclass(frozen=True, slots=True)
class Corpus:
    """Clips and the folder that their paths are relative to."""

    root: Path
    clips: tuple[Clip, ...]

    def select(self, role: str, split: Split) -> tuple[Clip, ...]:
        """The clips of a role: by the corpus' own subsets where it has them, else by the split.

        A public corpus has no clips for calibration. Raises ``DataError`` for a corpus without
        subsets of whose sources the split knows none.
        """
        if any(clip.subset for clip in self.clips):
            wanted = _ROLE_SUBSETS.get(role)
            return tuple(clip for clip in self.clips if clip.subset == wanted)
        sources = {clip.source_repo for clip in self.clips}
        if sources and not sources & split.sources.keys():
            allowed = "the split must give a role to a source of this corpus"
            raise DataError(self.root, 0, "--split", min(sources), allowed)
        return split.select(self.clips, role)


def open_corpus(spec: str) -> Corpus:
    """``NAME=FOLDER`` of a public corpus (``tools.corpora.CORPORA``), or a folder with a manifest.

    Raises ``DataError``.
    """
    from tools.corpora import CORPORA, load  # its loaders need the vocabulary above

    name, equals, folder = spec.partition("=")
    if not equals:
        return _collection(data_folder(Path(spec)))
    if name not in CORPORA:
        raise DataError(Path(folder), 0, "--corpus", name, "one of " + ", ".join(CORPORA))
    return Corpus(Path(folder), load(name, Path(folder)))


def corpus_options(parser: argparse.ArgumentParser) -> None:
    """The two ways to say which speech: ``--data FOLDER`` and ``--corpus NAME=FOLDER``."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--data", type=Path, help="folder with manifest.csv ($STREAMGUARD_DATA)")
    group.add_argument("--corpus", metavar="NAME=FOLDER", help="a public corpus, see tools/corpora")


def chosen_corpus(options: argparse.Namespace) -> Corpus:
    """The corpus of ``corpus_options``; raises ``DataError``."""
    if options.corpus is not None:
        return open_corpus(options.corpus)
    return _collection(data_folder(options.data))


def speech_of(corpus: Corpus, role: str, split_file: Path) -> list[Clip]:
    """The speech of a role by a split file; raises ``DataError`` where there is none."""
    chosen = [clip for clip in corpus.select(role, read_split(split_file)) if clip.speech]
    if not chosen:
        allowed = f"a corpus some of whose speech is for {role}"
        raise DataError(corpus.root, 0, "--split", str(split_file), allowed)
    return chosen


def _collection(root: Path) -> Corpus:
    return Corpus(root, read_manifest(root / "manifest.csv"))


def paired_sources(clips: Iterable[Clip]) -> frozenset[str]:
    """Sources that hold both bona fide and spoofed speech."""
    labels: dict[str, set[str]] = {}
    for clip in clips:
        if clip.speech:
            labels.setdefault(clip.source_repo, set()).add(clip.label)
    return frozenset(source for source, found in labels.items() if len(found) == 2)


class AudioCache:
    """Decoded clips, 16 kHz mono int16, in one memory-mapped file. Read-only after creation."""

    def __init__(
        self, samples: npt.NDArray[np.int16], spans: Mapping[str, tuple[int, int]]
    ) -> None:
        self._samples = samples
        self._spans = spans

    def samples(self, clip: Clip) -> npt.NDArray[np.int16]:
        """``[samples]`` of a clip; a view, copy to keep or change."""
        start, stop = self._spans[clip.path]
        return self._samples[start:stop]

    @classmethod
    def open(cls, data: Path, cache: Path, clips: Sequence[Clip]) -> AudioCache:
        """Map the cache of exactly these clips, decoding them once with a progress bar."""
        key = hashlib.sha256(
            "\n".join(f"{clip.path} {clip.sha256 or data.resolve()}" for clip in clips).encode()
        ).hexdigest()[:16]
        audio, index = cache / f"speech-{key}.i16", cache / f"speech-{key}.json"
        if not index.exists():
            cache.mkdir(parents=True, exist_ok=True)
            _decode_all(data, clips, audio, index)
        spans = {path: (start, stop) for path, start, stop in json.loads(index.read_text())}
        return cls(np.memmap(audio, dtype=np.int16, mode="r"), spans)


def _decode_all(data: Path, clips: Sequence[Clip], audio: Path, index: Path) -> None:
    spans: list[tuple[str, int, int]] = []
    position = 0
    temporary = audio.with_suffix(".tmp")
    with temporary.open("wb") as stream:
        for clip in track(clips, "decoding", len(clips)):
            samples = decode(data / clip.path)
            stream.write(samples.tobytes())
            spans.append((clip.path, position, position + len(samples)))
            position += len(samples)
    temporary.replace(audio)
    # The index comes last: it says that the audio beside it is whole.
    unfinished = index.with_suffix(".tmp")
    unfinished.write_text(json.dumps(spans))
    unfinished.replace(index)


def decode(path: Path) -> npt.NDArray[np.int16]:
    """A whole file as 16 kHz mono int16; raises ``AudioFileError``."""
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as err:
        raise AudioFileError(str(path), str(err)) from err
    mono = samples.mean(axis=1)
    if rate != SAMPLE_RATE_HZ:
        mono = soxr.resample(mono, rate, SAMPLE_RATE_HZ)
    if not len(mono) or not np.isfinite(mono).all():
        raise AudioFileError(str(path), "no finite samples")
    return np.asarray(np.clip(np.round(mono * 32768.0), -32768, 32767), np.int16)


def active_span(samples: npt.NDArray[np.int16], drop_db: float = 40.0) -> tuple[int, int]:
    """Start and stop of a clip without the silence at its ends.

    A 10 ms frame is silent when ``drop_db`` below the loudest one. Both classes are trimmed alike:
    the length of leading silence differs between synthesisers and recordings.
    """
    frame = SAMPLE_RATE_HZ // 100
    count = len(samples) // frame
    if count == 0:
        return 0, len(samples)
    power = np.square(samples[: count * frame].reshape(count, frame).astype(np.float32)).mean(
        axis=1
    )
    loud = np.flatnonzero(power > power.max() * 10 ** (-drop_db / 10))
    if not len(loud):
        return 0, len(samples)
    return int(loud[0]) * frame, (int(loud[-1]) + 1) * frame
