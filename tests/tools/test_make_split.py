"""The drawn split: by source and generator, never by clip."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from tests.tools.test_crops import CLIP
from tools import make_split
from tools.data import Clip, Split, read_split


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    """Forty sources: paired, spoofed only, human only; some generators in several of them."""
    rng = np.random.default_rng(0)
    clips = []
    for number in range(40):
        source = f"repo/{number}"
        generator = f"gen{rng.integers(25)}"
        technology = ("tts", "vc", "vocoder", "codec")[number % 4]
        spoof = replace(
            CLIP, label="spoof", technology=technology, generator=generator, source_repo=source
        )
        clips += [spoof] * (int(rng.integers(5, 40)) if number % 3 else 0)
        clips += [replace(CLIP, source_repo=source)] * (10 if number % 3 != 1 else 0)
    clips.append(replace(CLIP, label="noise", technology="noise", source_repo="noises"))
    return clips


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_split, "STEPS", 1500)


def test_the_same_seed_draws_the_same_split(clips: list[Clip]) -> None:
    assert make_split.draw_split(clips, 1) == make_split.draw_split(clips, 1)
    assert make_split.draw_split(clips, 1) != make_split.draw_split(clips, 2)


def test_the_shares_come_near_to_what_is_asked(clips: list[Clip]) -> None:
    roles, _ = make_split.draw_split(clips, 1)
    count = Counter(roles[clip.source_repo] for clip in clips if clip.label == "bonafide")
    for role, share in make_split.SHARES.items():
        assert abs(count[role] / sum(count.values()) - share) < 0.08


def test_generators_outside_training_are_held_out(clips: list[Clip]) -> None:
    roles, held_out = make_split.draw_split(clips, 1)
    trained = {c.generator for c in clips if c.spoof and roles[c.source_repo] == "train"}
    elsewhere = {c.generator for c in clips if c.spoof and roles[c.source_repo] != "train"}
    assert elsewhere - trained <= set(held_out)
    assert 0 < len(set(held_out) & trained) <= make_split.EXTRA_HELD_OUT
    assert set(held_out) <= elsewhere


def test_sources_with_an_unseen_technology_are_for_the_test_alone(clips: list[Clip]) -> None:
    roles, held_out = make_split.draw_split(clips, 1, ["vocoder", "codec"])
    unseen = {c.source_repo for c in clips if c.technology in ("vocoder", "codec")}
    assert {source for source, role in roles.items() if role == "test"} == unseen
    split = Split(roles, frozenset(held_out))
    assert {clip.label for clip in split.select(clips, "test")} == {"bonafide", "spoof"}
    for role, share in make_split.SHARES.items():
        chosen = [clip for clip in split.select(clips, role) if clip.speech]
        assert {clip.technology for clip in chosen} == {"human", "tts", "vc"}
        of_role = sum(roles[c.source_repo] == role for c in clips if c.source_repo not in unseen)
        assert abs(of_role / sum(c.source_repo not in unseen for c in clips) - share) < 0.12
    trained = {clip.generator for clip in split.select(clips, "train") if clip.spoof}
    tested = {clip.generator for clip in split.select(clips, "test") if clip.spoof}
    assert tested - trained <= set(held_out)


def test_a_cross_corpus_split_does_not_replace_the_main_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        make_split.main(["--data", str(tmp_path), "--unseen", "vocoder"])
    assert ended.value.code == 2
    assert "--out" in capsys.readouterr().err


def test_sources_of_noise_augment_training(clips: list[Clip]) -> None:
    assert make_split.draw_split(clips, 1)[0]["noises"] == "train"


def test_the_command_writes_a_file_that_reads_back(clips: list[Clip], tmp_path: Path) -> None:
    names = [field.name for field in fields(Clip)]
    rows = [
        ",".join("x" if name == "path" else str(getattr(clip, name)) for name in names)
        for clip in clips
    ]
    (tmp_path / "manifest.csv").write_text("\n".join((",".join(names), *rows)) + "\n")
    out = tmp_path / "splits" / "main.yaml"
    assert make_split.main(["--data", str(tmp_path), "--seed", "3", "--out", str(out)]) == 0
    roles, held_out = make_split.draw_split(clips, 3)
    split = read_split(out)
    assert dict(split.sources) == roles
    assert split.held_out_generators == frozenset(held_out)
