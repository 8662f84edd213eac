"""The manifest, the split and the cache, on a small tree of our own making."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamguard.errors import AudioFileError
from tools import data
from tools.data import AudioCache, Clip, DataError, read_manifest, read_split

HEADER = (
    "path,set,label,technology,generator,source_repo,speaker,language,orig_sr,seconds,detail,sha256"
)
GOOD = "core/a.wav,core,spoof,tts,vits,some/repo,anna,en,22050,1.5,,00"


def _manifest(tmp_path: Path, *rows: str, header: str = HEADER) -> Path:
    path = tmp_path / "manifest.csv"
    path.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")
    return path


def test_a_row_becomes_a_clip(tmp_path: Path) -> None:
    (clip,) = read_manifest(_manifest(tmp_path, GOOD))
    assert clip == Clip(
        path="core/a.wav",
        set="core",
        label="spoof",
        technology="tts",
        generator="vits",
        source_repo="some/repo",
        speaker="anna",
        language="en",
        orig_sr=22050,
        seconds=1.5,
        detail="",
        sha256="00",
    )
    assert clip.spoof
    assert clip.speech


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("core/a.wav,core", "core/a.wav,main", "set"),
        ("spoof,tts", "fake,tts", "label"),
        ("spoof,tts", "spoof,magic", "technology"),
        ("spoof,tts", "bonafide,tts", "technology"),
        ("22050", "many", "orig_sr"),
        ("1.5", "-1", "seconds"),
        ("1.5", "inf", "seconds"),
        ("vits", "", "generator"),
        ("core/a.wav", "../a.wav", "path"),
        ("core/a.wav", "/etc/passwd", "path"),
        (",anna,en,22050,1.5,,00", "", "speaker"),
    ],
)
def test_a_bad_field_is_named_with_file_and_line(
    tmp_path: Path, old: str, new: str, field: str
) -> None:
    path = _manifest(tmp_path, GOOD, GOOD.replace(old, new, 1))
    with pytest.raises(DataError) as caught:
        read_manifest(path)
    assert (caught.value.file, caught.value.line, caught.value.field) == (path, 3, field)
    assert str(caught.value).startswith(f"{path}:3: {field}: ")


def test_a_manifest_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = _manifest(tmp_path, GOOD)
    path.write_bytes(path.read_bytes() + b"\xff\xfe")
    with pytest.raises(DataError, match=r"manifest\.csv.*UTF-8"):
        read_manifest(path)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = _manifest(tmp_path, header=HEADER.replace("speaker,", ""))
    with pytest.raises(DataError, match=r":1: speaker: "):
        read_manifest(path)


def test_a_folder_without_manifest_says_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--data.*manifest\.csv"):
        data.data_folder(tmp_path)


def test_the_data_folder_can_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _manifest(tmp_path)
    monkeypatch.setenv("STREAMGUARD_DATA", str(tmp_path))
    assert data.data_folder(None) == tmp_path


def _clip(path: str, source: str, label: str = "spoof", generator: str = "vits") -> Clip:
    return Clip(
        path=path,
        set="core",
        label=label,
        technology="tts" if label == "spoof" else "human",
        generator=generator,
        source_repo=source,
        speaker="",
        language="",
        orig_sr=16000,
        seconds=1.0,
        detail="",
        sha256=path,
    )


def test_paired_sources_hold_both_classes() -> None:
    clips = [_clip("1", "a"), _clip("2", "a", "bonafide"), _clip("3", "b"), _clip("4", "c", "rir")]
    assert data.paired_sources(clips) == {"a"}


def _split(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "split.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_held_out_generator_trains_nothing_and_tests_elsewhere(tmp_path: Path) -> None:
    split = read_split(
        _split(
            tmp_path,
            "schema: streamguard.split/1\nheld_out_generators: [secret]\n"
            "sources: {a: train, b: validation}\n",
        )
    )
    clips = [
        _clip("1", "a"),
        _clip("2", "a", generator="secret"),
        _clip("3", "b", generator="secret"),
        _clip("4", "elsewhere"),
    ]
    assert [split.role(clip) for clip in clips] == ["train", None, "validation", None]
    assert [clip.path for clip in split.select(clips, "train")] == ["1"]


@pytest.mark.parametrize(
    "text",
    [
        "sources: {}",
        "schema: streamguard.split/1\nsources: {a: training}",
        "- 1",
        "schema: x",
        "schema: [",
        "schema: streamguard.split/1\nsources: {}\nheld_out_generators: xtts",
        "schema: streamguard.split/1\nsources: {}\nheld_out_generators: [1]",
    ],
)
def test_a_bad_split_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError):
        read_split(_split(tmp_path, text))


def test_the_committed_split_has_every_role_and_keeps_the_demo_voices_in_training() -> None:
    split = read_split()
    roles = list(split.sources.values())
    assert len(roles) > 80
    assert 0.6 < roles.count("train") / len(roles) < 0.8
    assert roles.count("validation") >= 8
    assert roles.count("calibration") >= 10
    for name in ("espeak-ng", "flite", "festival"):
        assert split.sources[f"local:{name}"] == "train"
    assert len(split.held_out_generators) >= 10


def _write(path: Path, samples: np.ndarray, rate: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype="PCM_16")


def test_clips_are_decoded_once_and_mapped_bit_by_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = np.arange(-400, 400, dtype=np.int16)
    _write(tmp_path / "1.wav", samples, 16000)
    _write(tmp_path / "2.wav", samples[::-1].copy(), 16000)
    clips = [_clip("1.wav", "a"), _clip("2.wav", "a")]
    cache = AudioCache.open(tmp_path, tmp_path / "cache", clips)
    np.testing.assert_array_equal(cache.samples(clips[0]), samples)
    np.testing.assert_array_equal(cache.samples(clips[1]), samples[::-1])

    def forbidden(path: Path) -> None:
        raise AssertionError(f"{path} is decoded again")

    monkeypatch.setattr(data, "decode", forbidden)
    again = AudioCache.open(tmp_path, tmp_path / "cache", clips)
    np.testing.assert_array_equal(again.samples(clips[1]), samples[::-1])


def test_an_interrupted_cache_is_made_again(tmp_path: Path) -> None:
    _write(tmp_path / "1.wav", np.ones(100, np.int16), 16000)
    clips = [_clip("1.wav", "a"), _clip("gone.wav", "a")]
    with pytest.raises(AudioFileError, match=r"gone\.wav"):
        AudioCache.open(tmp_path, tmp_path / "cache", clips)
    _write(tmp_path / "gone.wav", np.ones(100, np.int16), 16000)
    assert len(AudioCache.open(tmp_path, tmp_path / "cache", clips).samples(clips[1])) == 100


def test_other_rates_and_channels_become_16_khz_mono(tmp_path: Path) -> None:
    time = np.arange(8000) / 8000
    tone = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    _write(tmp_path / "1.wav", np.stack((tone, tone), axis=1), 8000)
    decoded = data.decode(tmp_path / "1.wav")
    assert decoded.dtype == np.int16
    assert len(decoded) == 16000
    assert np.abs(decoded[1000:-1000]).max() == pytest.approx(16384, rel=0.02)


@pytest.mark.parametrize("content", [b"", b"not audio at all"])
def test_a_file_that_is_no_audio_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.wav").write_bytes(content)
    with pytest.raises(AudioFileError, match=r"bad\.wav"):
        data.decode(tmp_path / "bad.wav")


def test_silence_at_both_ends_is_trimmed_to_10_ms() -> None:
    samples = np.zeros(16000, np.int16)
    samples[4000:12000] = 8000
    assert data.active_span(samples) == (4000, 12000)
    assert data.active_span(np.zeros(16000, np.int16)) == (0, 16000)
    assert data.active_span(np.zeros(3, np.int16)) == (0, 3)


def test_the_manifest_header_may_hold_more_columns(tmp_path: Path) -> None:
    path = _manifest(tmp_path, GOOD + ",x", header=HEADER + ",license")
    with path.open(newline="") as stream:
        assert "license" in next(csv.reader(stream))
    assert len(read_manifest(path)) == 1


def test_a_folder_with_a_manifest_is_a_corpus_whose_roles_the_split_gives(tmp_path: Path) -> None:
    _manifest(tmp_path, GOOD, GOOD.replace("some/repo", "other/repo").replace("a.wav", "b.wav"))
    corpus = data.open_corpus(str(tmp_path))
    split = data.Split({"some/repo": "train"}, frozenset())
    assert corpus.root == tmp_path
    assert [clip.path for clip in corpus.select("train", split)] == ["core/a.wav"]
    assert corpus.select("validation", split) == ()


def test_a_corpus_without_subsets_needs_a_split_that_knows_its_sources(tmp_path: Path) -> None:
    _manifest(tmp_path, GOOD)
    corpus = data.open_corpus(str(tmp_path))
    with pytest.raises(DataError, match="--split: 'some/repo': the split must give a role"):
        corpus.select("test", data.Split({"other/repo": "test"}, frozenset()))


def test_an_unknown_corpus_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one of asvspoof2019_la, "):
        data.open_corpus(f"asvspoof2077={tmp_path}")


def test_a_command_line_says_which_speech_in_one_of_two_ways(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _manifest(tmp_path, GOOD)
    parser = argparse.ArgumentParser()
    data.corpus_options(parser)
    corpus = data.chosen_corpus(parser.parse_args(["--data", str(tmp_path)]))
    assert [clip.path for clip in corpus.clips] == ["core/a.wav"]
    with pytest.raises(DataError, match="meta"):
        data.chosen_corpus(parser.parse_args(["--corpus", f"in_the_wild={tmp_path}"]))
    with pytest.raises(SystemExit):
        parser.parse_args(["--data", "x", "--corpus", "y=z"])
    assert "not allowed with" in capsys.readouterr().err
