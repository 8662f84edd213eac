"""AudioSocket: frames from bytes, and a call from frames."""

from __future__ import annotations

import uuid
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamguard.events import (
    Audio,
    CallEnded,
    CallStarted,
    EndReason,
    LegRole,
    LegStarted,
    MediaChanged,
    Tone,
)
from streamguard.protocols.audiosocket import (
    RATES_HZ,
    AudioSocketSession,
    Frame,
    FrameReader,
    FrameType,
    build_frame,
)
from streamguard.protocols.media_call import opaque_id
from streamguard.protocols.media_session import MAX_MALFORMED
from tests.protocols.media_play import DATA, FIRST_HZ, Played, sine
from tests.sources.collect import samples_of

UUID = uuid.UUID("40325ec2-5efd-4bd3-805f-53576e581d13")
NAMED = build_frame(FrameType.UUID, UUID.bytes)


def session(drops: Counter[str] | None = None) -> AudioSocketSession:
    return AudioSocketSession("pbx", Counter() if drops is None else drops, LegRole.CALLER)


def feed(line: AudioSocketSession, *parts: bytes) -> Played:
    played = Played()
    for index, part in enumerate(parts):
        played.add(line.feed(part, 0.0001 * index))
    return played


def test_a_recorded_call_is_one_leg_with_every_sample() -> None:
    drops: Counter[str] = Counter()
    played = feed(session(drops), (DATA / "audiosocket" / "call.bin").read_bytes())
    (leg,) = played.legs()
    assert (leg.role, leg.codec, leg.rate_hz) == (LegRole.CALLER, "L16", 16_000)
    np.testing.assert_array_equal(samples_of(played.events, leg.leg), sine(16_000, 3_200, FIRST_HZ))
    assert [tone.name for tone in played.of(Tone)] == ["dtmf"]
    (end,) = played.of(CallEnded)
    assert (end.reason, played.close) == (EndReason.HANGUP, "end")
    assert not drops


def test_bytes_may_come_one_by_one() -> None:
    recording = (DATA / "audiosocket" / "call.bin").read_bytes()
    whole = feed(session(), recording)
    dribbled = feed(session(), *(recording[n : n + 1] for n in range(len(recording))))
    assert [type(event) for event in dribbled.events] == [type(event) for event in whole.events]
    for played in (whole, dribbled):
        np.testing.assert_array_equal(
            samples_of(played.events, played.legs()[0].leg), sine(16_000, 3_200, FIRST_HZ)
        )


@pytest.mark.parametrize(("kind", "rate_hz"), RATES_HZ.items())
def test_every_rate_that_asterisk_has_is_heard(kind: int, rate_hz: int) -> None:
    samples = sine(rate_hz, rate_hz // 50, FIRST_HZ)
    played = feed(session(), NAMED + build_frame(kind, samples.astype("<i2").tobytes()))
    (leg,) = played.legs()
    assert leg.rate_hz == rate_hz
    np.testing.assert_array_equal(samples_of(played.events, leg.leg), samples)


def test_a_change_of_rate_goes_on_at_the_same_time() -> None:
    narrow, wide = build_frame(0x10, bytes(320)), build_frame(0x12, bytes(640))
    played = feed(session(), NAMED + narrow + wide + wide)
    (change,) = played.of(MediaChanged)
    assert (change.codec, change.rate_hz) == ("L16", 16_000)
    assert [event.first_sample for event in played.of(Audio)] == [0, 320, 640]


def test_the_call_begins_with_the_uuid_and_can_be_found_by_it() -> None:
    played = feed(session(), NAMED)
    (call,) = played.of(CallStarted)
    assert call.call.split("-")[0] == opaque_id(str(UUID)).split("-")[0]
    assert str(UUID) not in call.call


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (build_frame(0x10, bytes(321)), "odd_size"),
        (build_frame(0x10), "empty"),
        (build_frame(0x42, b"?"), "unknown_type"),
        (build_frame(FrameType.UUID, UUID.bytes), "second_start"),
        (build_frame(FrameType.UUID, b"short"), "uuid"),
        (build_frame(FrameType.ERROR, b"\x04"), "peer_error"),
        (build_frame(FrameType.ERROR), "peer_error"),
    ],
)
def test_what_cannot_be_used_is_counted_and_the_call_goes_on(frame: bytes, reason: str) -> None:
    drops: Counter[str] = Counter()
    audio = build_frame(0x10, bytes(320))
    played = feed(session(drops), NAMED + audio + frame + audio)
    assert len(played.of(Audio)) == 2
    assert played.close is None
    assert drops == {reason: 1}


def test_the_error_that_the_party_hung_up_ends_the_call() -> None:
    played = feed(session(), NAMED + build_frame(FrameType.ERROR, b"\x01"))
    assert [end.reason for end in played.of(CallEnded)] == [EndReason.HANGUP]
    assert played.close == "end"


def test_audio_without_a_call_is_counted() -> None:
    drops: Counter[str] = Counter()
    assert feed(session(drops), build_frame(0x10, bytes(320))).events == []
    assert drops == {"before_start": 1}


def test_what_is_no_audiosocket_is_closed_after_a_while() -> None:
    played = feed(session(), build_frame(0x42) * MAX_MALFORMED)
    assert played.close == "too_malformed"


def test_after_the_end_nothing_begins_again() -> None:
    drops: Counter[str] = Counter()
    played = feed(session(drops), NAMED + build_frame(0), NAMED + build_frame(0x10, bytes(320)))
    assert len(played.of(CallStarted)) == 1
    assert not played.of(LegStarted)
    assert drops == {"after_stop": 2}


@given(
    st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=400)), max_size=8),
    st.lists(st.integers(1, 50), min_size=1),
)
def test_frames_are_found_wherever_the_bytes_are_cut(
    sent: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    data = b"".join(build_frame(kind, payload) for kind, payload in sent)
    reader = FrameReader()
    frames: list[Frame] = []
    turn = 0
    while data:
        size = cuts[turn % len(cuts)]
        turn += 1
        frames += reader.feed(data[:size])
        data = data[size:]
    assert [(frame.kind, frame.payload) for frame in frames] == sent
