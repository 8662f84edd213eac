"""Label lists, and which clips an epoch draws."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.tools.clips import clip
from tools.data import Clip
from tools.draws import Balance, BalancedDraw, PairDraw, draw_weights
from tools.labels import NO_LABEL, Labels

RECIPE: dict[str, Any] = {
    "labels": {
        "technology": ["codec", "tts"],
        "generator_min_sources": 2,
        "generator_min_clips": 3,
        "generator_exclude": ["both"],
    }
}


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


BALANCE = Balance(0.5, 0.5, {"tts": 0.4, "vc": 0.2, "vocoder": 0.2, "codec": 0.2})


def _collection() -> list[Clip]:
    """Extra leans to spoof and one source is large, as in the collection."""
    kinds = [
        *[("core", "bonafide", "human", "a")] * 30,
        *[("core", "bonafide", "human", "b")] * 2,
        *[("core", "spoof", "tts", "a")] * 10,
        *[("core", "spoof", "vc", "c")] * 5,
        *[("extra", "bonafide", "human", "a")] * 5,
        *[("extra", "spoof", "tts", "c")] * 60,
    ]
    return [
        replace(
            CLIPS[0], path=str(n), set=s, label=label, technology=technology, source_repo=source
        )
        for n, (s, label, technology, source) in enumerate(kinds)
    ]


def test_classes_are_even_inside_each_set_and_technologies_as_asked() -> None:
    clips = _collection()
    weights = draw_weights(clips, BALANCE)
    mass: Counter[tuple[str, str]] = Counter()
    technology: Counter[str] = Counter()
    for item, weight in zip(clips, weights, strict=True):
        mass[item.set, item.label] += weight
        technology[item.technology] += weight * (item.set == "core")
    for share in mass.values():
        assert abs(share - 0.25) < 1e-9
    assert abs(technology["tts"] / technology["vc"] - 2.0) < 1e-9


def test_a_large_source_does_not_drown_a_small_one() -> None:
    clips = _collection()
    weights = draw_weights(clips, BALANCE)
    share: Counter[str] = Counter()
    for item, weight in zip(clips, weights, strict=True):
        if (item.set, item.label) == ("core", "bonafide"):
            share[item.source_repo] += weight
    assert abs(share["a"] / share["b"] - np.sqrt(30 / 2)) < 1e-9


def test_a_four_holds_two_clips_of_each_class_of_one_source() -> None:
    clips = _collection()
    rows = PairDraw(clips).rows(42, np.random.default_rng(0))
    fours = rows.reshape(-1, 4)
    assert len(fours) == 10
    for four in fours:
        # Only source a has both classes at least twice.
        assert {clips[row].source_repo for row in four} == {"a"}
        assert sorted(clips[row].spoof for row in four) == [False, False, True, True]


def test_without_a_paired_source_there_are_no_fours() -> None:
    clips = [clip for clip in _collection() if clip.spoof]
    assert PairDraw(clips).rows(40, np.random.default_rng(0)).shape == (0,)
