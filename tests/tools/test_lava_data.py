"""Label lists and balanced draws for LAVA, and crops as the daemon would hear them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from tools.data import AudioCache, Clip
from tools.lava_data import NO_LABEL, BalancedDraw, Crops, Labels

pytestmark = pytest.mark.train

RECIPE: dict[str, Any] = {
    "labels": {
        "technology": ["codec", "tts"],
        "generator_min_sources": 2,
        "generator_min_clips": 3,
        "generator_exclude": ["both"],
    }
}
FRONT_END = {"trim_db": 40.0, "run_in_seconds": 0.1}


def clip(generator: str, source: str, number: int, *, technology: str = "tts") -> Clip:
    return Clip(
        path=f"core/{source}/{technology}-{generator}-{number}.flac",
        set="core" if number % 4 else "extra",
        label="spoof",
        technology=technology,
        generator=generator,
        source_repo=source,
        speaker="",
        language="en",
        orig_sr=16000,
        seconds=1.0,
        detail="",
        sha256="",
    )


CLIPS = [
    *(clip("known", "a", number) for number in range(2)),
    *(clip("known", "b", number) for number in range(2)),
    *(clip("one_source", "a", number) for number in range(40)),
    clip("rare", "a", 0),
    clip("rare", "b", 0),
    *(clip("both", source, number) for source in "ab" for number in range(5)),
    *(clip("coder", source, number, technology="codec") for source in "ab" for number in range(3)),
]


def test_only_generators_of_several_sources_and_enough_clips_are_listed() -> None:
    labels = Labels.of(CLIPS, RECIPE)
    assert labels.generator == (("codec", "coder"), ("tts", "known"))
    assert labels.generator_of(clip("known", "elsewhere", 0)) == 1
    assert labels.generator_of(clip("rare", "a", 0)) == NO_LABEL
    assert labels.generator_of(clip("known", "a", 0, technology="codec")) == NO_LABEL


def test_labels_survive_being_written_into_a_bundle() -> None:
    labels = Labels.of(CLIPS, RECIPE)
    plain = labels.plain()
    assert plain["generator"][0] == {"name": "coder", "technology": "codec"}
    assert Labels.from_plain(plain) == labels


def test_draws_are_balanced_by_technology_first_and_by_listed_generator_second() -> None:
    labels = Labels.of(CLIPS, RECIPE)
    draw = BalancedDraw(CLIPS, labels)
    rng = np.random.default_rng(0)
    first: list[Clip] = []
    second: list[Clip] = []
    for _ in range(100):
        batch = draw.draw(16, rng)
        first += batch[:8]
        second += batch[8:]
    technologies = Counter(item.technology for item in first)
    assert technologies["codec"] == pytest.approx(400, abs=60), "6 of 62 clips, half of the draws"
    assert {item.generator for item in second} == {"known", "coder"}
    assert Counter(item.generator for item in second)["known"] == pytest.approx(400, abs=60)


def test_without_listed_generators_the_whole_batch_is_balanced_by_technology() -> None:
    draw = BalancedDraw(CLIPS, Labels(("codec", "tts"), ()))
    assert len(draw.draw(6, np.random.default_rng(0))) == 6


def cache_of(samples: np.ndarray[Any, np.dtype[np.int16]], item: Clip) -> AudioCache:
    return AudioCache(samples, {item.path: (0, len(samples))})


def test_crops_leave_out_silence_at_the_ends_and_are_as_loud_as_the_daemon_makes_them() -> None:
    rng = np.random.default_rng(1)
    speech = (rng.standard_normal(24000) * 500).astype(np.int16)
    silence = np.zeros(8000, np.int16)
    item = clip("known", "a", 0)
    crops = Crops(cache_of(np.concatenate((silence, speech, silence)), item), FRONT_END)
    assert len(crops.trimmed(item)) == pytest.approx(24000, abs=320)
    batch = crops.batch([item, item], 8000, rng)
    assert batch.shape == (2, 8000)
    assert batch.dtype == np.float32
    assert 0.5 < float(np.abs(batch).max()) <= 1.0


def test_a_clip_shorter_than_a_crop_is_repeated_not_padded() -> None:
    rng = np.random.default_rng(1)
    item = clip("known", "a", 0)
    samples = (rng.standard_normal(1600) * 2000).astype(np.int16)
    batch = Crops(cache_of(samples, item), FRONT_END).batch([item], 8000, rng)
    frames = batch.reshape(-1, 400)
    assert bool((np.abs(frames).max(axis=1) > 0.01).all())
