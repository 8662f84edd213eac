"""Each loader on a small tree in the layout that its corpus is published in."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tests.tools.corpora import trees
from tests.tools.corpora.trees import TREES, sound, text
from tools.corpora import CORPORA, asvspoof2019
from tools.corpora.entry import fields
from tools.data import (
    LABELS,
    SUBSETS,
    TECHNOLOGIES,
    AudioCache,
    Clip,
    DataError,
    open_corpus,
    read_split,
)


def _load(name: str, root: Path) -> tuple[Clip, ...]:
    return open_corpus(f"{name}={TREES[name](root)}").clips


def _told(clip: Clip) -> tuple[str, str, str, str]:
    return clip.label, clip.technology, clip.generator, clip.subset


def test_every_corpus_of_the_registry_has_a_tree_here() -> None:
    assert CORPORA.keys() == TREES.keys()


@pytest.mark.parametrize("name", sorted(TREES))
def test_all_corpora_speak_one_vocabulary(name: str, tmp_path: Path) -> None:
    clips = _load(name, tmp_path)
    assert clips
    for clip in clips:
        assert clip.label in LABELS
        assert clip.technology in TECHNOLOGIES
        assert clip.spoof == (clip.technology != "human")
        assert clip.spoof == (clip.generator != "human")
        assert clip.subset in ("", *SUBSETS)
        assert clip.source_repo.split("/")[0] == name
        assert clip.seconds == pytest.approx(0.1)
        assert (tmp_path / clip.path).is_file()


# Without a protocol what is not there is not known.
@pytest.mark.parametrize("name", sorted(TREES.keys() - {"fake_or_real", "wavefake"}))
def test_a_missing_sound_file_is_named(name: str, tmp_path: Path) -> None:
    clip = _load(name, tmp_path)[0]
    (tmp_path / clip.path).unlink()
    with pytest.raises(DataError, match="must exist") as caught:
        open_corpus(f"{name}={tmp_path}")
    assert caught.value.file == tmp_path / clip.path


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("asvspoof2019_la", "ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.dev.trl.txt"),
        ("asvspoof2021_la", "keys/LA/CM/trial_metadata.txt"),
        ("asvspoof2021_df", "keys/DF/CM/trial_metadata.txt"),
        ("mlaad", "eval.csv"),
        ("in_the_wild", "meta.csv"),
    ],
)
def test_a_missing_protocol_is_named(name: str, file: str, tmp_path: Path) -> None:
    (TREES[name](tmp_path) / file).unlink()
    with pytest.raises(DataError, match="must hold this file") as caught:
        open_corpus(f"{name}={tmp_path}")
    assert caught.value.file == tmp_path / file


@pytest.mark.parametrize("name", ["fake_or_real", "codecfake", "wavefake"])
def test_an_empty_folder_is_not_a_corpus_without_clips(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        open_corpus(f"{name}={tmp_path}")


def test_asvspoof_2019_knows_the_technology_of_each_attack(tmp_path: Path) -> None:
    assert [_told(clip) for clip in _load("asvspoof2019_la", tmp_path)] == [
        ("bonafide", "human", "human", "train"),
        ("spoof", "tts", "asvspoof_a01", "train"),
        ("bonafide", "human", "human", "dev"),
        ("spoof", "vc", "asvspoof_a05", "dev"),
        ("bonafide", "human", "human", "eval"),
        ("spoof", "vc", "asvspoof_a19", "eval"),
    ]
    voices = [f"A{number:02}" for number in (5, 6, 17, 18, 19)]
    assert [name for name, kind in asvspoof2019.SYSTEMS.items() if kind == "vc"] == voices
    assert len(asvspoof2019.SYSTEMS) == 19


def test_asvspoof_2021_la_leaves_the_hidden_trials_out(tmp_path: Path) -> None:
    clips = _load("asvspoof2021_la", tmp_path)
    assert [_told(clip) for clip in clips] == [
        ("spoof", "tts", "asvspoof_a07", "eval"),
        ("bonafide", "human", "human", "dev"),
    ]
    assert clips[0].detail == "codec=alaw; channel=ita_tx"


def test_asvspoof_2021_df_keeps_its_three_sources_apart(tmp_path: Path) -> None:
    clips = _load("asvspoof2021_df", tmp_path)
    assert [_told(clip) for clip in clips] == [
        ("spoof", "tts", "asvspoof_a14", "dev"),
        ("spoof", "vc", "vcc2020_task1-team20", "eval"),
        ("bonafide", "human", "human", "eval"),
    ]
    assert [clip.source_repo for clip in clips] == [
        "asvspoof2021_df/asvspoof",
        "asvspoof2021_df/vcc2020",
        "asvspoof2021_df/asvspoof",
    ]


def test_fake_or_real_takes_its_labels_from_folders(tmp_path: Path) -> None:
    assert {_told(clip) for clip in _load("fake_or_real", tmp_path)} == {
        (label, technology, generator, subset)
        for label, technology, generator in (
            ("bonafide", "human", "human"),
            ("spoof", "tts", "unknown"),
        )
        for subset in SUBSETS
    }


def test_codecfake_names_the_codec_the_speaker_and_the_language(tmp_path: Path) -> None:
    clips = _load("codecfake", tmp_path)
    assert [_told(clip) for clip in clips] == [
        ("bonafide", "human", "human", "train"),
        ("spoof", "codec", "soundstream", "train"),
        ("bonafide", "human", "human", "dev"),
        ("spoof", "codec", "academiccodec", "dev"),
        ("spoof", "codec", "dac", "eval"),
    ]
    assert [(clip.speaker, clip.language) for clip in clips] == [
        ("p225", "en"),
        ("p225", "en"),
        ("SSB0005", "zh"),
        ("SSB0005", "zh"),
        ("p226", "en"),
    ]
    assert clips[0].orig_sr == 24000


def test_mlaad_keeps_the_published_names_of_its_models(tmp_path: Path) -> None:
    clips = _load("mlaad", tmp_path)
    assert [_told(clip) for clip in clips] == [
        ("spoof", "tts", "suno/bark", "train"),
        ("spoof", "vocoder", "griffin_lim", "dev"),
        ("spoof", "tts", "tts_models/uk/mai/vits", "eval"),
    ]
    assert [clip.language for clip in clips] == ["en", "de", "uk"]
    assert clips[0].path == "fake/en/bark/a.wav"


def test_wavefake_pairs_each_voice_with_its_human_originals(tmp_path: Path) -> None:
    assert {(clip.source_repo, *_told(clip)) for clip in _load("wavefake", tmp_path)} == {
        ("wavefake/ljspeech", "spoof", "vocoder", "hifigan", ""),
        ("wavefake/jsut", "spoof", "vocoder", "parallelwavegan", ""),
        ("wavefake/ljspeech", "spoof", "tts", "conformerfastspeech2", ""),
        ("wavefake/ljspeech", "bonafide", "human", "human", ""),
        ("wavefake/jsut", "bonafide", "human", "human", ""),
    }


def test_in_the_wild_does_not_guess_how_a_fake_was_made(tmp_path: Path) -> None:
    clips = _load("in_the_wild", tmp_path)
    assert [_told(clip) for clip in clips] == [
        ("spoof", "unknown", "unknown", ""),
        ("bonafide", "human", "human", ""),
    ]
    assert clips[1].speaker == "Hitchens, Christopher"


_LA19 = "ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.train.trn.txt"
_LA21 = "keys/LA/CM/trial_metadata.txt"
_DF21 = "keys/DF/CM/trial_metadata.txt"


@pytest.mark.parametrize(
    ("name", "file", "line", "field"),
    [
        ("asvspoof2019_la", _LA19, "LA_0079 LA_T_1000003 - A20 spoof", "system"),
        ("asvspoof2019_la", _LA19, "LA_0079 LA_T_1000003 - - spoof", "system"),
        ("asvspoof2019_la", _LA19, "LA_0079 LA_T_1000003 - A01 bonafide", "system"),
        ("asvspoof2019_la", _LA19, "LA_0079 LA_T_1000003 - A01 fake", "key"),
        ("asvspoof2019_la", _LA19, "LA_0079 LA_X_1000003 - A01 spoof", "file"),
        ("asvspoof2019_la", _LA19, "LA_0079 LA_T_../../x - A01 spoof", "file"),
        ("asvspoof2019_la", _LA19, "LA_0079 LA_T_1000003 - A01", "key"),
        ("asvspoof2019_la", _LA19, "LA_0079 LA_T_1000003 - A01 spoof more", "line"),
        ("asvspoof2021_la", _LA21, "LA_0009 LA_E_1 alaw ita_tx A99 spoof notrim eval", "attack"),
        ("asvspoof2021_la", _LA21, "LA_0009 LA_E_1 alaw ita_tx A07 spoof notrim later", "phase"),
        ("asvspoof2021_la", _LA21, "LA_0009 ../LA_E_1 alaw ita_tx A07 spoof notrim eval", "file"),
        (
            "asvspoof2021_df",
            _DF21,
            "x DF_E_1 none vcc1999 t spoof notrim eval v - - - -",
            "channel",
        ),
        ("asvspoof2021_df", _DF21, "x DF_E_1 none asvspoof A07 spoof notrim eval", "vocoder"),
        ("codecfake", "label/train.txt", "p225_002.wav maybe 0", "label"),
        ("codecfake", "label/train.txt", "F09_p225_002.wav fake 9", "file"),
        ("codecfake", "label/train.txt", "/etc/F01_x.wav fake 1", "file"),
        ("codecfake", "label/train.txt", "F01_p225_002.wav", "label"),
        ("mlaad", "train.csv", "./fake/en/bark/a.wav,", "model_name"),
        ("mlaad", "train.csv", "./real/en/bark/a.wav,suno/bark", "path"),
        ("mlaad", "train.csv", "../fake/en/bark/a.wav,suno/bark", "path"),
        ("in_the_wild", "meta.csv", "9.wav,Nobody,real", "label"),
        ("in_the_wild", "meta.csv", "/etc/9.wav,Nobody,spoof", "file"),
        ("in_the_wild", "meta.csv", "9.wav,Nobody", "label"),
    ],
)
def test_a_bad_line_is_named_with_file_line_and_field(
    name: str, file: str, line: str, field: str, tmp_path: Path
) -> None:
    path = TREES[name](tmp_path) / file
    good = path.read_text()
    path.write_text(good + line + "\n")
    with pytest.raises(DataError) as caught:
        open_corpus(f"{name}={tmp_path}")
    assert (caught.value.file, caught.value.field) == (path, field)
    assert caught.value.line == len(good.splitlines()) + 1


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    root = trees.in_the_wild(tmp_path)
    text(root / "meta.csv", "file,who,label", "0.wav,x,spoof")
    with pytest.raises(DataError, match="speaker: '': a column of this name must exist"):
        open_corpus(f"in_the_wild={root}")


def test_a_protocol_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    root = trees.in_the_wild(tmp_path)
    (root / "meta.csv").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DataError, match="must be UTF-8 text"):
        open_corpus(f"in_the_wild={root}")


@pytest.mark.parametrize("damaged", [slice(0, 12), slice(3, None)])
def test_a_packed_protocol_that_is_cut_or_damaged_is_an_error(
    tmp_path: Path, damaged: slice
) -> None:
    packed = gzip.compress(b"speaker file - - bonafide\n" * 9)
    path = tmp_path / "protocol.txt.gz"
    for content in (packed[damaged], packed[:10] + b"\xff" * 9 + packed[19:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"protocol\.txt\.gz"):
            list(fields(path, ("speaker",), 1))


def test_a_corpus_can_be_cached_and_the_roles_follow_its_own_subsets(tmp_path: Path) -> None:
    corpus = open_corpus(f"asvspoof2019_la={trees.asvspoof2019(tmp_path / 'la')}")
    cache = AudioCache.open(corpus.root, tmp_path / "cache", corpus.clips)
    assert {len(cache.samples(clip)) for clip in corpus.clips} == {1600}
    split = read_split()
    for role, subset in (("train", "train"), ("validation", "dev"), ("test", "eval")):
        assert {clip.subset for clip in corpus.select(role, split)} == {subset}
    assert corpus.select("calibration", split) == ()


def test_two_corpora_with_the_same_file_names_have_caches_of_their_own(tmp_path: Path) -> None:
    for name, rate in (("one", 16000), ("two", 8000)):
        trees.in_the_wild(tmp_path / name)
        sound(tmp_path / name / "0.wav", rate)
    corpora = [open_corpus(f"in_the_wild={tmp_path / name}") for name in ("one", "two")]
    caches = [AudioCache.open(c.root, tmp_path / "cache", c.clips) for c in corpora]
    first, second = (
        cache.samples(corpus.clips[0]) for cache, corpus in zip(caches, corpora, strict=True)
    )
    assert first.tolist() != second.tolist()
