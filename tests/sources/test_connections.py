"""What holds for every connection of a source, whatever it speaks."""

from __future__ import annotations

from streamguard.sources.connections import AUDIO_AHEAD_S, Pace


def test_a_sender_at_its_own_pace_never_waits() -> None:
    pace = Pace(AUDIO_AHEAD_S)
    assert {pace.add(0.02, 0.02 * n) for n in range(10_000)} == {0.0}


def test_a_burst_is_taken_and_what_is_beyond_waits_until_it_is_due() -> None:
    pace = Pace(1.0)
    waits = [pace.add(0.1, 0.0) for _ in range(13)]
    assert waits[:10] == [0.0] * 10
    assert [round(wait, 6) for wait in waits[10:]] == [0.1, 0.2, 0.3]


def test_a_long_silence_earns_no_more_than_one_burst() -> None:
    pace = Pace(1.0)
    pace.add(0.1, 0.0)
    assert pace.add(1.0, 3_600.0) == 0.0
    assert round(pace.add(0.5, 3_600.0), 6) == 0.5
