"""k of the last n accepted windows."""

from __future__ import annotations

import pytest

from streamguard.verdict.majority import Majority
from streamguard.verdict.scores import Rejection, State
from streamguard.verdict.settings import MajoritySettings, VerdictSettings
from tests.verdict.legs import NO_CUSUM, play, voter, window

THREE_OF_SIX = MajoritySettings(k=3, n=6, quorum=3, min_votes_s=1.5, window_llr=0.0, clear_k=1)


def states(votes: str, settings: MajoritySettings = THREE_OF_SIX) -> list[State]:
    """The state after each vote: ``s`` for spoof, ``b`` for bona fide; one hop each."""
    majority, state, out = Majority(settings), State.UNKNOWN, []
    for vote in votes:
        majority.add(1.0 if vote == "s" else -1.0, 1)
        state = majority.state(state, may_clear=True)
        out.append(state)
    return out


def test_no_verdict_without_a_quorum() -> None:
    assert states("ss") == [State.UNKNOWN] * 2
    assert states("bbb")[-1] is State.BONAFIDE


def test_k_votes_raise() -> None:
    assert states("bbsss")[-2:] == [State.SUSPECT, State.SPOOF]


def test_isolated_peaks_never_add_up() -> None:
    """A counter that only goes down would fire at the third peak, and then at every single one."""
    assert State.SPOOF not in states("bbbbbbbs" * 20)


def test_one_alarm_does_not_make_the_next_one_cheaper() -> None:
    seen = states("sss" + "b" * 12 + "s" + "b" * 12 + "ss")
    assert seen[2] is State.SPOOF
    assert State.SPOOF not in seen[10:]


def test_votes_between_k_and_the_clear_level_keep_what_was_raised() -> None:
    seen = states("sssbbbb")
    assert seen[2:6] == [State.SPOOF] * 4  # three, then two of the last six
    assert states("sssbbbbb")[-1] is State.BONAFIDE  # one of the last six


def test_a_raised_leg_waits_for_its_dwell_time() -> None:
    majority = Majority(THREE_OF_SIX)
    for _ in range(6):
        majority.add(-1.0, 1)
    assert majority.state(State.SPOOF, may_clear=False) is State.SPOOF
    assert majority.state(State.SPOOF, may_clear=True) is State.BONAFIDE


def test_votes_must_carry_the_seconds_too() -> None:
    settings = THREE_OF_SIX.model_copy(update={"min_votes_s": 2.5})
    assert states("ssss", settings)[-1] is State.SUSPECT
    assert states("sssss", settings)[-1] is State.SPOOF


def test_a_window_that_adds_no_hop_has_no_vote() -> None:
    majority = Majority(THREE_OF_SIX)
    for _ in range(10):
        majority.add(5.0, 0)
    assert majority.state(State.UNKNOWN, may_clear=True) is State.UNKNOWN


@pytest.mark.parametrize("rejected_between", [0, 1, 7])
def test_rejected_windows_abstain(rejected_between: int) -> None:
    settings = VerdictSettings(rule="majority", majority=THREE_OF_SIX, cusum=NO_CUSUM)
    scores, index = [], 5
    for place in range(12):
        scores.append(window(index, 1.0 if place > 5 else -1.0, new_hops=1 if place else 6))
        for _ in range(rejected_between):
            index += 1
            scores.append(window(index, 9.0, rejected=Rejection.SILENCE))
        index += 1
    verdicts = play(voter(settings), scores)
    accepted = verdicts[:: rejected_between + 1]
    assert [verdict.state for verdict in accepted].index(State.SPOOF) == 8
    assert accepted[-1].rule == "majority"
    assert accepted[-1].windows_scored == 12
