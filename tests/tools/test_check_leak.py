"""The probes find recording conditions where there are some, and nothing where there are none."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from tools.augment import AugmentSettings
from tools.check_leak import (
    PROBES,
    Finding,
    Heard,
    guess,
    log_mel,
    look,
    main,
    measure,
    pauses,
    settled,
    table,
)
from tools.metrics import Interval, auc


def _clip(seed: int, hiss: float, seconds: float = 1.0) -> np.ndarray:
    """Bursts of noise with a pause between them that is as loud as the room."""
    rng = np.random.default_rng(seed)
    count = int(16000 * seconds)
    clip = 0.1 * rng.standard_normal(count)
    clip[count // 3 : count // 2] = 0.0
    return np.asarray(clip + hiss * rng.standard_normal(count), np.float32)


def _heard(leak: float, count: int, seed: int) -> Heard:
    rng = np.random.default_rng(seed)
    spoof = np.arange(count) % 2 == 0
    features = rng.standard_normal((count, 5))
    features[:, 0] += leak * spoof
    sources = tuple(f"s{row // 4 % 10}" for row in range(count))
    return Heard(features, spoof, sources, np.ones(count))


def test_pauses_are_the_frames_far_below_the_loudest() -> None:
    silent = pauses(_clip(0, 0.001))
    assert silent[36:46].all()
    assert not silent[:30].any()
    assert not silent[52:].any()
    assert not pauses(_clip(0, 0.02)).any()


def test_every_frame_of_the_spectrum_has_its_pause_or_not() -> None:
    for samples in (100, 400, 401, 16000):
        clip = _clip(1, 0.001)[:samples]
        assert len(log_mel(clip)) == len(pauses(clip))


def test_a_band_answers_to_its_frequency() -> None:
    tone = np.asarray(0.5 * np.sin(np.arange(16000) * 2 * np.pi * 1000 / 16000), np.float32)
    bands = log_mel(tone).mean(axis=0)
    # 1000 mel of 2840, in 41 steps.
    assert abs(int(np.argmax(bands)) - 13) <= 1


def test_the_pause_probe_sees_nothing_of_the_speech() -> None:
    """Other speech around the same pause: the same features."""
    clip = _clip(2, 0.001)
    other = clip.copy()
    speech = np.repeat(~pauses(clip), 160)
    other[: 32 * 160] *= 0.9
    assert speech[: 32 * 160].all()
    silent = pauses(clip)
    inner = silent.copy()
    # The frames at the border of the pause hold a little speech.
    edges = np.flatnonzero(silent)[[0, 1, 2, -3, -2, -1]]
    inner[edges] = False
    one = look("pauses", log_mel(clip), inner)
    two = look("pauses", log_mel(other), inner)
    np.testing.assert_allclose(one, two, rtol=1e-5)
    assert not np.allclose(
        look("spectrum", log_mel(clip), inner), look("spectrum", log_mel(other), inner), rtol=1e-5
    )


def test_a_clip_without_pauses_is_not_seen() -> None:
    clip = _clip(3, 0.02)
    assert np.isnan(look("pauses", log_mel(clip), pauses(clip))).all()


def test_a_level_does_not_matter_once_the_mean_is_removed() -> None:
    clip = _clip(4, 0.001)
    silent = pauses(clip)
    loud = look("spectrum, mean removed", log_mel(clip), silent)
    quiet = look("spectrum, mean removed", log_mel(clip * np.float32(0.5)), silent)
    np.testing.assert_allclose(loud, quiet, atol=1e-3)


def test_a_leak_is_found_and_its_interval_does_not_hold_chance() -> None:
    train, test = _heard(2.0, 200, 0), _heard(2.0, 200, 1)
    paired = frozenset(test.sources)
    leaking = measure("pauses", "x", train, test, paired)
    assert leaking.pooled.low > 0.8
    assert leaking.paired is not None
    assert leaking.paired.low > 0.8
    clean = measure("pauses", "x", _heard(0.0, 200, 0), _heard(0.0, 200, 1), paired)
    assert clean.pooled.low < 0.5 < clean.pooled.high


def test_clips_that_cannot_be_seen_lower_the_coverage_only() -> None:
    train, test = _heard(2.0, 200, 0), _heard(2.0, 200, 1)
    test.features[::4] = np.nan
    found = measure("pauses", "x", train, test, frozenset())
    assert found.clips == 150
    assert found.coverage == 0.75
    assert found.paired is None
    assert found.pooled.value > 0.85


def test_clips_weigh_as_the_trainer_draws_them() -> None:
    """Half of the clips say the opposite; without weight they must not be heard."""
    train, test = _heard(3.0, 400, 0), _heard(3.0, 200, 1)
    liars = np.arange(400) >= 180
    train.features[liars, 0] *= -1.0
    trusting = guess(train, test)
    train.weights[liars] = 0.0
    assert auc(guess(train, test), test.spoof) > 0.9 > auc(trusting, test.spoof)


def test_the_table_names_what_is_better_than_chance() -> None:
    good, bad = Interval(0.52, 0.4, 0.6), Interval(0.7, 0.6, 0.8)
    text = table(
        [
            Finding("pauses", "as published", bad, good, 10, 1.0),
            Finding("spectrum", "augmented", good, None, 10, 0.5),
        ]
    )
    assert "| 0.700 (0.600–0.800) | 0.520 (0.400–0.600) | 10 | 100% | pooled |" in text
    assert "| – | 10 | 50% | no |" in text


def test_nothing_moves_in_time() -> None:
    settings = settled(AugmentSettings(speed=0.5, pitch=0.5, shift=0.5, codec=0.5))
    assert (settings.speed, settings.pitch, settings.shift) == (0.0, 0.0, 0.0)
    assert settings.codec == 0.5


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """Spoofed clips hiss less: pauses tell, and noise of the augmentation covers it."""
    rows = []
    for number in range(36):
        spoof, source = number % 2 == 0, number // 2 % 6
        path = f"core/{number}.wav"
        (tmp_path / "core").mkdir(exist_ok=True)
        clip = _clip(number, 0.0004 if spoof else 0.0015)
        soundfile.write(tmp_path / path, clip, 16000)
        rows.append(
            {
                "path": path,
                "set": "core",
                "label": "spoof" if spoof else "bonafide",
                "technology": "tts" if spoof else "human",
                "generator": "x",
                "source_repo": f"owner/{source}",
                "speaker": "",
                "language": "",
                "orig_sr": "16000",
                "seconds": "1.0",
                "detail": "",
                "sha256": str(number),
            }
        )
    with (tmp_path / "manifest.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    roles = {f"owner/{k}": "train" if k < 4 else "validation" for k in range(6)}
    split = {"schema": "streamguard.split/1", "sources": roles, "held_out_generators": []}
    (tmp_path / "split.yaml").write_text(yaml.safe_dump(split))
    recipe = {
        "system": "x",
        "seed": 1,
        "balance": {"source_power": 0.5, "core": 0.5, "technology": {"tts": 1.0}},
        "augment": {"noise": 1.0, "snr_db": [5.0, 15.0], "room": 0.0, "telephone": 0.0},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return tmp_path


def test_a_hiss_that_tells_the_class_is_covered_by_the_augmentation(
    collection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(
        [
            str(collection / "recipe.yaml"),
            *("--data", str(collection)),
            *("--split", str(collection / "split.yaml")),
            *("--cache", str(collection / "cache")),
            *("--json", str(collection / "leak.json")),
        ]
    )
    assert code == 0
    assert capsys.readouterr().out.count("\n") == 2 + 4 * len(PROBES)
    found = {
        (entry["probe"], entry["condition"]): entry["pooled"]["value"]
        for entry in yaml.safe_load((collection / "leak.json").read_text())
    }
    assert found["pauses", "as published"] > 0.95
    assert found["pauses", "augmented"] < 0.85
