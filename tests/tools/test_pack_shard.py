"""A packed collection reads like the original, small, alike for both classes."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tools.data import AudioCache, Clip, DataError, data_folder, decode, read_manifest
from tools.pack_shard import Rates, ShardSizeError, compare, encode, main, trimmed
from tools.shard import unpack_shard

COLUMNS = (
    "path,set,label,technology,generator,source_repo,source_path,speaker,language,"
    "orig_sr,seconds,detail,sha256"
).split(",")
KINDS = (
    ("core", "bonafide", "human"),
    ("core", "spoof", "tts"),
    ("extra", "bonafide", "human"),
    ("extra", "spoof", "vc"),
    ("core", "rir", "rir"),
)


def _voice(seed: int) -> np.ndarray:
    time_s = np.arange(24000) / 16000
    tone = sum(np.sin(2 * np.pi * (120 + 10 * seed) * k * time_s) / k for k in range(1, 12))
    clip = np.concatenate((np.zeros(8000), 0.1 * tone, np.zeros(4000)))
    return np.asarray(clip * 32768, np.int16)


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    rows = []
    for number, (set_name, label, technology) in enumerate(KINDS * 2):
        source = f"owner/{'train' if number < 5 else 'test'}"
        path = f"{set_name}/{number}.flac"
        (folder / set_name).mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / path, _voice(number), 16000)
        rows.append(
            dict.fromkeys(COLUMNS, "")
            | {
                "path": path,
                "set": set_name,
                "label": label,
                "technology": technology,
                "generator": technology,
                "source_repo": source,
                "source_path": f"wav/{number}.wav",
                "orig_sr": "16000",
                "seconds": "2.25",
            }
        )
    with (folder / "manifest.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "split.yaml").write_text(
        "schema: streamguard.split/1\nsources: {owner/train: train, owner/test: test}\n"
        "held_out_generators: []\n"
    )
    return folder


def _pack(collection: Path, *more: str) -> Path:
    shard = collection.parent / "small.shard"
    split = str(collection.parent / "split.yaml")
    assert main([str(shard), "--data", str(collection), "--split", split, *more]) == 0
    return shard


def test_a_shard_is_read_without_the_original_folder(collection: Path) -> None:
    shard = _pack(collection)
    originals = {clip.path: decode(collection / clip.path) for clip in _clips(collection)}
    shutil.rmtree(collection)
    folder = unpack_shard(shard, collection.parent / "cache")
    clips = read_manifest(folder / "manifest.csv")
    assert [clip.path for clip in clips] == [
        "core/0.ogg",
        "core/1.ogg",
        "extra/2.ogg",
        "extra/3.ogg",
        "core/4.flac",
    ]
    audio = AudioCache.open(folder, collection.parent / "cache", clips)
    for clip in clips:
        original = originals[str(Path(clip.path).with_suffix(".flac"))]
        if clip.speech:
            original = trimmed(original)
        heard = audio.samples(clip)
        assert len(heard) == len(original)
        assert clip.seconds == pytest.approx(len(heard) / 16000, abs=0.001)
        assert np.corrcoef(heard, original)[0, 1] > 0.9


def _clips(collection: Path) -> list[Clip]:
    return list(read_manifest(collection / "manifest.csv"))


def test_other_columns_travel_too(collection: Path) -> None:
    folder = unpack_shard(_pack(collection), collection.parent / "cache")
    with (folder / "manifest.csv").open(newline="") as stream:
        assert next(csv.DictReader(stream))["source_path"] == "wav/0.wav"


def test_only_the_asked_roles_are_packed(collection: Path) -> None:
    folder = unpack_shard(_pack(collection, "--roles", "test"), collection.parent / "cache")
    sources = {clip.source_repo for clip in read_manifest(folder / "manifest.csv")}
    assert sources == {"owner/test"}


def test_the_option_data_takes_a_shard(collection: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = _pack(collection)
    monkeypatch.setattr("tools.data.SHARD_CACHE", collection.parent / "cache")
    folder = data_folder(shard)
    assert len(read_manifest(folder / "manifest.csv")) == 5


def test_impulse_responses_stay_exact(collection: Path) -> None:
    folder = unpack_shard(_pack(collection), collection.parent / "cache")
    np.testing.assert_array_equal(
        decode(folder / "core/4.flac"), decode(collection / "core/4.flac")
    )


def test_both_classes_of_a_set_get_the_same_rate(collection: Path) -> None:
    rates = Rates(core=30.0, extra=12.0)
    for clip in _clips(collection):
        expected = {"core": 30.0, "extra": 12.0}[clip.set] if clip.speech else None
        assert rates.of(clip) == expected


def test_a_lower_rate_is_smaller() -> None:
    sizes = [len(encode(_voice(1), kbps)) for kbps in (8.0, 24.0, 64.0)]
    assert sizes == sorted(sizes)
    assert sizes[2] > 2 * sizes[0]


def test_trimming_keeps_a_margin_and_finds_the_same_speech_again() -> None:
    clip = _voice(0)
    once = trimmed(clip)
    assert len(once) == pytest.approx(24000 + 2 * 1600, abs=320)
    np.testing.assert_array_equal(trimmed(once), once)


def test_a_shard_that_is_too_large_is_refused(collection: Path) -> None:
    with pytest.raises(ShardSizeError, match=r"MiB of 0.001 allowed"):
        _pack(collection, "--limit-mib", "0.001")


def test_roles_without_clips_are_refused(collection: Path) -> None:
    with pytest.raises(DataError, match="--roles: 'calibration'"):
        _pack(collection, "--roles", "calibration")


def test_comparison_finds_missing_and_shortened_clips(collection: Path) -> None:
    folder = unpack_shard(_pack(collection), collection.parent / "cache")
    clips = _clips(collection)
    likeness = compare(collection, folder, clips[:5])
    assert set(likeness) == {
        "core bonafide",
        "core spoof",
        "extra bonafide",
        "extra spoof",
        "core rir",
    }
    with pytest.raises(ValueError, match=r"core/5.flac: not in the shard"):
        compare(collection, folder, clips)
    soundfile.write(folder / "core/4.flac", np.zeros(100, np.int16), 16000)
    with pytest.raises(ValueError, match=r"core/4.flac: 100 samples"):
        compare(collection, folder, clips[:5])
