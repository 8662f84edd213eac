"""When new calls are refused, and when they are taken again."""

from __future__ import annotations

import pytest

from streamguard.admission import RECOVERY_S, Admission
from streamguard.sources.base import Emit, Refusal, SourceStats


class Trunk:
    """A source that remembers what it was told."""

    name = "trunk"

    def __init__(self) -> None:
        self.told: list[Refusal | None] = []

    async def run(self, emit: Emit) -> None:
        raise NotImplementedError

    def refuse_calls(self, why: Refusal | None) -> None:
        self.told.append(why)

    def stats(self) -> SourceStats:
        return SourceStats(0, {}, 0, 0, None)


@pytest.fixture
def trunk() -> Trunk:
    return Trunk()


def admission(trunk: Trunk) -> Admission:
    return Admission({"trunk": trunk})


def test_dropped_audio_refuses_calls_until_nothing_was_dropped_for_a_while(trunk: Trunk) -> None:
    gate = admission(trunk)
    gate.observe(dropped=3, backlogs=0, load=0.5, now=1.0)
    gate.observe(dropped=3, backlogs=0, load=0.5, now=RECOVERY_S)
    assert trunk.told == [Refusal.OVERLOAD]
    gate.observe(dropped=3, backlogs=0, load=0.5, now=1.0 + RECOVERY_S)
    assert trunk.told == [Refusal.OVERLOAD, None]


def test_more_drops_keep_calls_refused(trunk: Trunk) -> None:
    gate = admission(trunk)
    for second in range(30):
        gate.observe(dropped=second + 1, backlogs=0, load=0.5, now=float(second))
    assert trunk.told == [Refusal.OVERLOAD]


@pytest.mark.parametrize(("load", "refused"), [(0.5, False), (0.95, True)])
def test_a_backlog_is_overload_only_under_full_load(
    trunk: Trunk, load: float, refused: bool
) -> None:
    gate = admission(trunk)
    gate.observe(dropped=0, backlogs=2, load=load, now=1.0)
    assert (gate.refusal is Refusal.OVERLOAD) is refused


def test_attribution_is_shed_before_calls_are_refused_and_both_are_said(trunk: Trunk) -> None:
    gate = admission(trunk)
    said = [gate.given_up]
    gate.observe(dropped=0, backlogs=1, load=0.5, shed=4, now=1.0)
    said.append(gate.given_up)
    assert trunk.told == []
    gate.observe(dropped=1, backlogs=2, load=1.0, shed=9, now=2.0)
    said.append(gate.given_up)
    gate.observe(dropped=1, backlogs=2, load=0.5, shed=9, now=2.0 + RECOVERY_S)
    said.append(gate.given_up)
    shed, refused = "overload: attribution is shed", "overload: new calls are refused"
    assert said == [(), (shed,), (shed, refused), ()]


def test_full_load_alone_is_a_recording_that_is_played_fast(trunk: Trunk) -> None:
    gate = admission(trunk)
    gate.observe(dropped=0, backlogs=0, load=1.0, now=1.0)
    assert gate.refusal is None


def test_draining_is_for_good_and_outlives_an_overload(trunk: Trunk) -> None:
    gate = admission(trunk)
    gate.observe(dropped=1, backlogs=0, load=1.0, now=0.0)
    gate.drain()
    gate.observe(dropped=1, backlogs=0, load=0.0, now=RECOVERY_S + 1)
    assert gate.refusal is Refusal.DRAINING
    assert trunk.told == [Refusal.OVERLOAD, Refusal.DRAINING, Refusal.DRAINING]


def test_a_source_that_comes_later_is_under_the_same_rule(trunk: Trunk) -> None:
    gate = Admission({})
    gate.admit(trunk)
    gate.drain()
    gate.admit(trunk)
    assert trunk.told == [None, Refusal.DRAINING]
