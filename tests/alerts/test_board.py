from __future__ import annotations

from streamguard.alerts.board import SourceBoard
from streamguard.verdict.scores import State


def state_of(value: dict[str, object] | None) -> object:
    assert value is not None
    return value["state"]


def test_a_source_says_the_worst_of_its_calls() -> None:
    board = SourceBoard(ttl_s=60)
    assert state_of(board.reset("trunk", 0.0)) == "UNKNOWN"
    assert state_of(board.verdict("trunk", "a", State.BONAFIDE, 1.0)) == "BONAFIDE"
    assert state_of(board.verdict("trunk", "b", State.SPOOF, 2.0)) == "SPOOF"
    ended = board.leg_ended("b", 3.0)
    assert ended is not None
    assert (ended[0], state_of(ended[1])) == ("trunk", "BONAFIDE")


def test_an_undecided_call_keeps_a_source_from_being_called_bona_fide() -> None:
    board = SourceBoard(ttl_s=60)
    board.verdict("trunk", "a", State.BONAFIDE, 1.0)
    assert state_of(board.verdict("trunk", "b", State.UNKNOWN, 2.0)) == "UNKNOWN"


def test_the_same_state_is_said_again_before_it_expires_and_not_sooner() -> None:
    board = SourceBoard(ttl_s=60)
    first = board.verdict("trunk", "a", State.SPOOF, 0.0)
    assert board.verdict("trunk", "a", State.SPOOF, 29.0) is None
    again = board.verdict("trunk", "a", State.SPOOF, 30.0)
    assert first is not None
    assert again is not None
    assert again["since"] == first["since"] == "1970-01-01T00:00:00.000Z"
    assert again["expires_at"] == "1970-01-01T00:01:30.000Z"


def test_a_lost_source_knows_nothing() -> None:
    board = SourceBoard(ttl_s=60)
    board.verdict("trunk", "a", State.SPOOF, 0.0)
    assert state_of(board.source_lost("trunk", 1.0)) == "UNKNOWN"
    assert board.leg_ended("a", 2.0) is None


def test_a_call_that_says_nothing_keeps_its_source_from_expiring() -> None:
    board = SourceBoard(ttl_s=60)
    board.reset("idle", 0.0)
    board.verdict("trunk", "a", State.SPOOF, 0.0)
    assert board.refresh(29.0) == {}
    again = board.refresh(30.0)
    assert list(again) == ["trunk"], "a source without calls has nothing that could hold"
    assert again["trunk"]["state"] == "SPOOF"
    assert again["trunk"]["expires_at"] == "1970-01-01T00:01:30.000Z"


def test_a_new_model_has_said_nothing_of_the_calls_that_go_on() -> None:
    board = SourceBoard(ttl_s=60)
    board.verdict("trunk", "a", State.SPOOF, 0.0)
    board.verdict("other", "b", State.UNKNOWN, 0.0)
    changed = board.model_changed(1.0)
    assert list(changed) == ["trunk"]
    assert (changed["trunk"]["state"], changed["trunk"]["legs"]) == ("UNKNOWN", 1)
    assert state_of(board.verdict("trunk", "a", State.BONAFIDE, 2.0)) == "BONAFIDE"
