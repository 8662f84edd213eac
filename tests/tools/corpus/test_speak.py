"""``python -m tools.corpus speak``: drawing voices, and the programs where they are installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamguard.demo import synthesis
from tools.corpus import speaking, voices
from tools.corpus.__main__ import main
from tools.corpus.sentences import SENTENCES
from tools.data import read_manifest


@pytest.mark.peer
@pytest.mark.parametrize("name", sorted(voices.PROGRAMS))
def test_a_program_speaks_into_a_manifest(name: str, tmp_path: Path) -> None:
    if not voices.PROGRAMS[name].installed:
        pytest.skip(f"{voices.PROGRAMS[name].executable} is not installed")
    options = ["--out", str(tmp_path), "--count", "2", "--programs", name, "--workers", "2"]
    assert main(["speak", *options]) == 0
    clips = read_manifest(tmp_path / "manifest.csv")
    assert len(clips) == 2
    for clip in clips:
        assert (clip.label, clip.technology, clip.generator) == ("spoof", "tts", name)
        assert clip.source_repo.startswith("local:")
        assert clip.speaker
        assert 0.5 < clip.seconds <= 5.0
        samples, rate = soundfile.read(tmp_path / clip.path)
        assert rate == 16000
        assert np.abs(samples).max() > 0.05


def test_a_program_that_is_not_installed_names_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(voices.ProgramMissing, match="Debian package espeak-ng"):
        list(speaking.speak([voices.PROGRAMS["espeak"]], 1, tmp_path, 1, 1))


def test_festival_without_a_voice_that_we_know_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(voices, "festival_voices", lambda: ())
    with pytest.raises(voices.ProgramMissing, match="festvox-kallpc16k"):
        voices.PROGRAMS["festival"].prepare()


@pytest.mark.parametrize("name", ["espeak", "flite"])
def test_drawn_voices_differ_and_have_sentences_to_read(name: str) -> None:
    draw = voices.PROGRAMS[name].prepare()
    rng = np.random.default_rng(0)
    drawn = [draw(rng) for _ in range(50)]
    assert len({voice.synthesizer.arguments for voice in drawn}) > 45
    for voice in drawn:
        assert SENTENCES[voice.language]
        assert {"{text}", "{wav}"} <= set(voice.synthesizer.arguments)


def test_no_sentence_is_one_of_the_demonstration() -> None:
    ours = {text for texts in SENTENCES.values() for text in texts}
    assert not ours & set(synthesis.SENTENCES)


def test_some_texts_end_in_numbers() -> None:
    rng = np.random.default_rng(0)
    texts = [speaking.draw_text("en", rng) for _ in range(200)]
    numbered = [text for text in texts if text.rstrip(".").split()[-1].isdecimal()]
    assert 40 < len(numbered) < 80
    assert len(set(texts)) > 60


def test_a_long_clip_is_cut_and_a_quiet_one_raised() -> None:
    pcm = np.zeros(16000 * 8, np.int16)
    pcm[4000:-4000] = np.random.default_rng(0).integers(-300, 300, 16000 * 8 - 8000)
    found = speaking.cut_and_level(pcm, np.random.default_rng(1))
    assert len(found) == 5 * 16000
    assert 0.1 <= np.abs(found).max() / 32768 <= 0.9
