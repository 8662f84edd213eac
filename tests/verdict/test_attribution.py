"""What the windows of a leg agree on."""

from __future__ import annotations

import itertools

import pytest

from streamguard.verdict.attribution import AttributionTally
from streamguard.verdict.scores import Attribution, Label, Rejection
from streamguard.verdict.telling import MOST, TellingWindows


def tally(*said: tuple[Attribution | None, int]) -> Attribution:
    all_of_it = AttributionTally()
    for attribution, hops in said:
        all_of_it.add(attribution, hops)
    return all_of_it.result()


def tts(p_value: float, generator: Label | Rejection | None = None) -> Attribution:
    return Attribution(Label("tts", p_value), generator)


CODEC = Attribution(Label("codec", 0.5), Label("encodec", 0.4))
REJECTED = Attribution(Rejection.LOW_CONFIDENCE)


def test_nothing_said_is_not_run() -> None:
    assert tally((None, 6), (Attribution(), 1)) == Attribution()


def test_the_label_with_most_hops_wins_with_twice_its_mean_p_value() -> None:
    """The mean of dependent p-values is none; twice the mean is."""
    said = tally((tts(0.4), 6), (tts(0.1), 1), (CODEC, 1))
    assert isinstance(said.technology, Label)
    assert said.technology.label == "tts"
    assert said.technology.p_value == pytest.approx(2 * 2.5 / 7)


def test_a_p_value_is_never_above_one() -> None:
    assert tally((tts(0.8), 6)).technology == Label("tts", 1.0)


def test_windows_in_conflict_name_nobody() -> None:
    assert tally((tts(0.8), 3), (CODEC, 3)) == Attribution(Rejection.LOW_CONFIDENCE)


def test_rejected_windows_abstain_unless_all_are() -> None:
    assert tally((REJECTED, 6), (tts(0.25), 1)).technology == Label("tts", 0.5)
    odd = Attribution(Rejection.OUT_OF_DISTRIBUTION)
    assert tally((REJECTED, 2), (odd, 3)).technology is Rejection.OUT_OF_DISTRIBUTION


def test_a_generator_counts_only_beside_the_agreed_technology() -> None:
    said = tally((CODEC, 2), (tts(0.5, Label("vits", 0.25)), 3))
    assert said.generator == Label("vits", 0.5)
    assert tally((CODEC, 2), (tts(0.5), 3)).generator is None


def test_telling_windows_are_disjoint_bounded_and_best_first() -> None:
    telling = TellingWindows()
    for hop in range(200):
        telling.add(score=hop % 13, start_s=hop * 0.5, end_s=hop * 0.5 + 3.0)
    spans = telling.spans()
    assert len(spans) == MOST
    by_time = sorted(spans)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(by_time))
    assert spans[0] == (6.0, 9.0)
