"""``copy``: human clips of one role of a split, resynthesised. See ``python -m tools.corpus copy``.

A copy keeps the source, speaker, level, length and alignment of its original: the pair differs in
nothing but the vocoder, so the recording condition says nothing about the label.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from tools.corpus.likeness import Likeness, likeness
from tools.corpus.manifest import detail
from tools.corpus.method import Copier, Method
from tools.corpus.spectra import RATE_HZ, Signal
from tools.data import AudioCache, Clip, active_span
from tools.progress import track

if TYPE_CHECKING:
    import numpy.typing as npt

    Pcm = npt.NDArray[np.int16]

LEARN_CLIPS = 200
"""Clips that the codecs learn their codebooks from: about ten minutes of speech."""
SHORTEST_S = 0.5
_LEAST_CORRELATION = 0.7
_MOST_DISTANCE_DB = 9.0
_PEAK = 0.99


@dataclass(frozen=True, slots=True)
class Task:
    """One copy to make."""

    clip: Clip
    method: str


@dataclass(frozen=True, slots=True)
class Copy:
    """What became of a task."""

    task: Task
    file: Path | None
    """None for a copy that was thrown away, being too little like its original."""
    detail: str
    likeness: Likeness
    cpu_s: float


def plan(
    clips: Sequence[Clip], methods: Sequence[str], per_clip: int, limit: int | None, seed: int
) -> list[Task]:
    """``per_clip`` different methods for each clip, all methods about equally often.

    Under a limit every clip keeps its first copy before any gets a second one.
    """
    rng = np.random.default_rng(seed)
    order = {clip.path: rng.permutation(len(methods)) for clip in clips}
    tasks = [
        Task(clips[index], methods[order[clips[index].path][version]])
        for version in range(min(per_clip, len(methods)))
        for index in rng.permutation(len(clips))
    ]
    return tasks[:limit]


def prepare(
    methods: Sequence[Method], clips: Sequence[Clip], cache: AudioCache, seed: int
) -> dict[str, Copier]:
    """The copiers; those that learn hear the same random choice of the clips."""
    rng = np.random.default_rng(seed)
    heard = [to_float(cache.samples(clips[i])) for i in rng.permutation(len(clips))[:LEARN_CLIPS]]
    with threadpool_limits(1):
        return {
            method.name: method.prepare(heard, _generator(seed, method.name))
            for method in track(methods, "preparing", len(methods))
        }


def make_copies(
    tasks: Sequence[Task],
    copiers: Mapping[str, Copier],
    cache: AudioCache,
    out: Path,
    seed: int,
    workers: int,
) -> Iterator[Copy]:
    """Write the FLAC files below ``out``, in the order of the tasks."""
    for name in {task.method for task in tasks}:
        (out / name).mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("fork")  # the copiers are handed down, not pickled
    with ProcessPoolExecutor(workers, context, _begin_worker, (copiers, out, seed)) as pool:
        audio = (np.array(cache.samples(task.clip)) for task in tasks)
        copies = pool.map(_copy, tasks, audio, chunksize=4)
        yield from track(copies, "copying", len(tasks))


_worker: tuple[Mapping[str, Copier], Path, int]


def _begin_worker(copiers: Mapping[str, Copier], out: Path, seed: int) -> None:
    global _worker  # a process of the pool belongs to one call of make_copies
    _worker = copiers, out, seed
    threadpool_limits(1)


def _copy(task: Task, pcm: Pcm) -> Copy:
    copiers, out, seed = _worker
    started = time.process_time()
    original = to_float(pcm)
    rng = _generator(seed, task.method, task.clip.path)
    made, drawn = copiers[task.method](original, rng)
    copy = at_level(made, original)
    found = likeness(copy, original)
    told = {"of": task.clip.path, **drawn, "distance_db": found.distance_db}
    good = found.correlation >= _LEAST_CORRELATION and found.distance_db <= _MOST_DISTANCE_DB
    file = out / task.method / _file_name(task) if good else None
    if file is not None:
        # Rounded without dither, as the collection's own FLAC files are.
        soundfile.write(file, np.round(copy * 32768).astype(np.int16), RATE_HZ, subtype="PCM_16")
    return Copy(task, file, detail(told), found, time.process_time() - started)


def usable(pcm: Pcm) -> bool:
    """Whether a clip holds enough sound to be worth a copy."""
    start, stop = active_span(pcm)
    return stop - start >= SHORTEST_S * RATE_HZ and bool(np.any(pcm))


def at_level(copy: Signal, original: Signal) -> Signal:
    """The copy at the root mean square of its original; lower where it would clip."""
    power = float(np.mean(np.square(copy, dtype=np.float64)))
    wanted = float(np.mean(np.square(original, dtype=np.float64)))
    gain = np.sqrt(wanted / max(power, 1e-12))
    peak = float(np.abs(copy).max()) * gain
    return np.asarray(copy * min(gain, gain * _PEAK / max(peak, 1e-9)), np.float32)


def to_float(pcm: Pcm) -> Signal:
    """Full scale 1.0."""
    return np.asarray(pcm, np.float32) / np.float32(32768)


def _generator(seed: int, *names: str) -> np.random.Generator:
    """Independent of the order of the work and of the number of workers."""
    digest = hashlib.sha256("\0".join((str(seed), *names)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def _file_name(task: Task) -> str:
    digest = hashlib.sha256(task.clip.path.encode()).hexdigest()[:8]
    return f"{Path(task.clip.path).stem}_{digest}.flac"
