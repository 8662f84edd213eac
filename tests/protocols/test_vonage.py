"""Vonage Voice API WebSocket, from messages to events."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from streamguard.events import LegRole, Tone
from streamguard.protocols.vonage import VonageSession
from tests.protocols.media_play import FIRST_HZ, Message, play, sine, transcript
from tests.sources.collect import samples_of


def session(drops: Counter[str] | None = None) -> VonageSession:
    return VonageSession("cloud", Counter() if drops is None else drops, LegRole.CALLER)


def connected(content_type: str) -> str:
    return json.dumps({"event": "websocket:connected", "content-type": content_type})


def test_a_connection_is_one_leg_with_every_sample() -> None:
    drops: Counter[str] = Counter()
    played = play(session(drops), transcript("vonage"))
    (leg,) = played.legs()
    assert (leg.role, leg.codec, leg.rate_hz) == (LegRole.CALLER, "L16", 16_000)
    np.testing.assert_array_equal(samples_of(played.events, leg.leg), sine(16_000, 3_200, FIRST_HZ))
    assert not drops
    assert played.replies == []


def test_a_digit_masks_as_long_as_it_was_pressed() -> None:
    (tone,) = play(session(), transcript("vonage")).of(Tone)
    assert tone.name == "dtmf"
    assert tone.first_sample + tone.count == 6 * 320 + 1_600


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000])
def test_the_rate_is_in_the_content_type(rate_hz: int) -> None:
    played = play(
        session(),
        [
            Message(0.0, connected(f"audio/l16;rate={rate_hz}")),
            Message(0.1, sine(rate_hz, 100, FIRST_HZ).tobytes()),
        ],
    )
    assert [leg.rate_hz for leg in played.legs()] == [rate_hz]


@pytest.mark.parametrize(
    "content_type",
    ["", "audio/l16", "audio/l16;rate=7999", "audio/l16;rate=٨٠٠٠", "audio/pcmu;rate=8000"],
)
def test_another_content_type_is_refused(content_type: str) -> None:
    played = play(session(), [Message(0.0, connected(content_type))])
    assert played.close == "unsupported_format"
    assert played.events == []


def test_half_samples_and_audio_before_the_first_message_are_counted() -> None:
    drops: Counter[str] = Counter()
    messages = [
        Message(0.0, b"\0\0"),
        Message(0.0, connected("audio/l16;rate=8000")),
        Message(0.1, b"\0\0\0"),
        Message(0.2, json.dumps({"event": "websocket:somersault"})),
    ]
    play(session(drops), messages)
    assert drops == {"before_start": 1, "odd_size": 1, "unknown_event": 1}
