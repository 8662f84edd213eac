"""``python -m tools.corpus copy`` on a small collection of our own making."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tools.corpus import copying
from tools.corpus.__main__ import NothingToDoError, OutputExists, main
from tools.data import AudioCache, Clip, DataError, read_manifest


def _run(collection: Path, *more: str) -> Path:
    out = collection.parent / "out"
    root = collection.parent
    options = ["--data", str(collection), "--out", str(out), "--split", str(root / "split.yaml")]
    options += ["--cache", str(root / "cache"), "--workers", "1", *more]
    assert main(["copy", *options]) == 0
    return out


def test_copies_of_the_role_only_in_the_manifest_of_the_collection(
    collection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = _run(collection, "--methods", "lpc,mel_phase", "--per-clip", "2")
    clips = read_manifest(out / "manifest.csv")
    assert Counter((clip.generator, clip.technology) for clip in clips) == {
        ("lpc", "vocoder"): 2,
        ("mel_phase", "vocoder"): 2,
    }
    assert {clip.source_repo for clip in clips} == {"some/train"}
    assert {clip.detail.split("; ")[0] for clip in clips} == {"of=a.wav", "of=b.wav"}
    assert {(clip.speaker, clip.language, clip.orig_sr, clip.set) for clip in clips} == {
        ("anna", "en", 22050, "core")
    }
    with (out / "manifest.csv").open(newline="") as stream:
        assert {row["license"] for row in csv.DictReader(stream)} == {"CC0"}
    assert "lpc" in capsys.readouterr().out


def test_a_copy_has_the_length_and_the_level_of_its_original(collection: Path) -> None:
    out = _run(collection, "--methods", "imaging", "--per-clip", "1")
    for clip in read_manifest(out / "manifest.csv"):
        original, _ = soundfile.read(collection / clip.detail.split("; ")[0].removeprefix("of="))
        copy, rate = soundfile.read(out / clip.path)
        assert rate == 16000
        assert soundfile.info(out / clip.path).subtype == "PCM_16"
        assert len(copy) == len(original)
        assert np.abs(copy).max() < 1.0
        ratio = np.sqrt(np.mean(copy**2) / np.mean(original**2))
        assert ratio == pytest.approx(1.0, rel=0.01)


def test_the_copies_can_be_cached_and_trained_with(collection: Path) -> None:
    out = _run(collection, "--methods", "lpc", "--limit", "1")
    clips = read_manifest(out / "manifest.csv")
    cache = AudioCache.open(out, collection.parent / "cache2", clips)
    assert len(clips) == 1
    assert len(cache.samples(clips[0])) == round(clips[0].seconds * 16000)


def test_the_same_seed_makes_the_same_copies_with_any_number_of_workers(collection: Path) -> None:
    methods = ("--methods", "lpc,imaging", "--per-clip", "2")
    first = {c.path: c.sha256 for c in read_manifest(_run(collection, *methods) / "manifest.csv")}
    (collection.parent / "out").rename(collection.parent / "before")
    more = (*methods, "--workers", "2")
    again = {c.path: c.sha256 for c in read_manifest(_run(collection, *more) / "manifest.csv")}
    assert again == first


def test_a_folder_that_holds_a_corpus_is_not_written_over(collection: Path) -> None:
    _run(collection, "--methods", "lpc", "--limit", "1")
    with pytest.raises(OutputExists, match="empty folder"):
        _run(collection, "--methods", "lpc", "--limit", "1")


def test_a_role_without_human_speech_is_an_error(collection: Path) -> None:
    with pytest.raises(DataError, match="a role with bona fide clips"):
        _run(collection, "--role", "test")


def test_an_unknown_method_names_the_known_ones(
    collection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        _run(collection, "--methods", "lpc,magic")
    assert "'magic': one of griffinlim, " in capsys.readouterr().err


def _clip(path: str) -> Clip:
    return Clip(path, "core", "bonafide", "human", "human", "s", "", "", 16000, 1.0, "", path)


def test_methods_are_spread_evenly_and_no_clip_gets_one_twice() -> None:
    clips = [_clip(str(index)) for index in range(200)]
    tasks = copying.plan(clips, ("a", "b", "c", "d", "e"), 3, None, seed=1)
    assert len(tasks) == 600
    assert len({(task.clip.path, task.method) for task in tasks}) == 600
    assert min(Counter(task.method for task in tasks).values()) > 90


def test_under_a_limit_every_clip_is_copied_before_any_is_copied_again() -> None:
    clips = [_clip(str(index)) for index in range(50)]
    tasks = copying.plan(clips, ("a", "b", "c"), 3, 70, seed=1)
    assert len(tasks) == 70
    assert set(Counter(task.clip.path for task in tasks).values()) == {1, 2}


def test_a_level_that_would_clip_is_lowered() -> None:
    original = np.full(1000, 0.9, np.float32)
    spiky = np.zeros(1000, np.float32)
    spiky[10] = 1.0
    assert np.abs(copying.at_level(spiky, original)).max() == pytest.approx(0.99, abs=1e-3)


def test_no_method_and_no_network_is_nothing_to_do(collection: Path) -> None:
    options = ["--data", str(collection), "--out", str(collection.parent / "out")]
    with pytest.raises(NothingToDoError, match="needs a --network"):
        main(["copy", *options, "--methods", "none"])
