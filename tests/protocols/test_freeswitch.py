"""FreeSWITCH mod_audio_fork and mod_audio_stream, from messages to events."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from streamguard.events import CallStarted, Gap, GapReason, LegRole, SegmentStarted
from streamguard.protocols.freeswitch import FreeswitchSession, Mix
from tests.protocols.media_play import FIRST_HZ, SECOND_HZ, Message, play, sine, transcript
from tests.sources.collect import samples_of


def session(
    mix: Mix = Mix.MONO, rate_hz: int = 8_000, drops: Counter[str] | None = None
) -> FreeswitchSession:
    return FreeswitchSession("pbx", Counter() if drops is None else drops, mix, rate_hz)


def test_stereo_is_two_legs_with_every_sample_as_the_metadata_say() -> None:
    drops: Counter[str] = Counter()
    played = play(session(drops=drops), transcript("freeswitch"))
    caller, callee = played.legs()
    assert (caller.role, callee.role) == (LegRole.CALLER, LegRole.CALLEE)
    assert caller.rate_hz == 16_000
    for leg, hertz in ((caller, FIRST_HZ), (callee, SECOND_HZ)):
        np.testing.assert_array_equal(
            samples_of(played.events, leg.leg), sine(16_000, 3_200, hertz)
        )
    assert not drops
    assert played.replies == []


@pytest.mark.parametrize(
    ("mix", "roles"),
    [
        (Mix.MONO, [LegRole.CALLER]),
        (Mix.MIXED, [LegRole.MIXED]),
        (Mix.STEREO, [LegRole.CALLER, LegRole.CALLEE]),
    ],
)
def test_without_metadata_the_configuration_says_who_speaks(mix: Mix, roles: list[LegRole]) -> None:
    played = play(session(mix), [Message(0.0, bytes(640))])
    assert [leg.role for leg in played.legs()] == roles
    assert [leg.rate_hz for leg in played.legs()] == [8_000] * len(roles)


@pytest.mark.parametrize(
    "metadata",
    [
        "Hello World",
        "{}",
        "[1, 2]",
        json.dumps({"mix": "quadro", "rate_hz": 1_000_000, "call_id": 7}),
        json.dumps({"mix": ["stereo"], "rate_hz": "many"}),
        "{" * 100_000,
    ],
)
def test_metadata_that_are_not_ours_change_nothing(metadata: str) -> None:
    drops: Counter[str] = Counter()
    played = play(session(drops=drops), [Message(0.0, metadata), Message(0.1, bytes(320))])
    (leg,) = played.legs()
    assert (leg.role, leg.rate_hz) == (LegRole.CALLER, 8_000)
    assert not drops


def test_metadata_may_name_the_parties_and_the_source_the_trunk() -> None:
    line = session(Mix.STEREO)
    line.trunk = "/branch"
    metadata = json.dumps({"caller": "+15550100", "callee": "sip:desk@example.com"})
    played = play(line, [Message(0.0, metadata), Message(0.1, bytes(640))])
    assert [[(one.kind.value, one.value) for one in leg.identities] for leg in played.legs()] == [
        [("number", "+15550100"), ("trunk", "/branch")],
        [("number", "sip:desk@example.com"), ("trunk", "/branch")],
    ]


def test_only_the_first_text_describes() -> None:
    messages = [Message(0.0, "{}"), Message(0.0, '{"mix": "stereo"}'), Message(0.1, bytes(320))]
    assert len(play(session(), messages).legs()) == 1


def test_a_rate_that_nobody_samples_at_is_refused() -> None:
    played = play(session(), [Message(0.0, '{"rate_hz": 9001}'), Message(0.1, bytes(320))])
    assert played.close == "unsupported_format"
    assert not played.of(CallStarted)


def test_half_a_stereo_sample_is_counted() -> None:
    drops: Counter[str] = Counter()
    play(session(Mix.STEREO, drops=drops), [Message(0.0, bytes(640)), Message(0.1, bytes(642))])
    assert drops == {"odd_size": 1}


def frames(first_s: float, count: int) -> list[Message]:
    """20 ms each, at the pace of speech."""
    return [Message(first_s + 0.02 * n, bytes(320)) for n in range(count)]


def test_after_a_pause_time_goes_on_where_the_clock_is() -> None:
    played = play(session(), [*frames(0.0, 50), *frames(61.0, 100)])
    (segment,) = played.of(SegmentStarted)
    (gap,) = played.of(Gap)
    assert (segment.reason, segment.first_sample) == ("pause", 8_000)
    assert gap.reason is GapReason.DTX
    # A minute of nothing: the last sample is 63 s after the first was heard.
    assert gap.count == pytest.approx(60 * 8_000, abs=320)
    (leg,) = played.legs()
    assert len(samples_of(played.events, leg.leg)) == pytest.approx(63 * 8_000, abs=160)


def test_what_a_stalled_network_held_back_is_no_pause() -> None:
    held = [Message(6.0, bytes(320)) for _ in range(250)]
    played = play(session(), [*frames(0.0, 50), *held, *frames(6.02, 100)])
    assert played.of(Gap) == []
    assert [segment.reason for segment in played.of(SegmentStarted)] == ["pause"]
