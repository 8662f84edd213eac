"""Asterisk's chan_websocket, from messages to events."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from streamguard.events import CallStarted, LegRole, Tone
from streamguard.protocols.chan_websocket import ChanWebsocketSession
from streamguard.protocols.media_call import opaque_id
from tests.protocols.media_play import FIRST_HZ, Message, play, sine, transcript
from tests.sources.collect import samples_of


def session(
    drops: Counter[str] | None = None, direction: str | None = None
) -> ChanWebsocketSession:
    shared: Counter[str] = Counter() if drops is None else drops
    return ChanWebsocketSession("pbx", shared, LegRole.CALLER, direction)


@pytest.mark.parametrize("control", ["asterisk_plain", "asterisk_json"])
def test_both_forms_of_control_give_the_same_call(control: str) -> None:
    drops: Counter[str] = Counter()
    played = play(session(drops), transcript(control))
    (leg,) = played.legs()
    assert (leg.role, leg.codec, leg.rate_hz) == (LegRole.CALLER, "L16", 16_000)
    np.testing.assert_array_equal(samples_of(played.events, leg.leg), sine(16_000, 3_200, FIRST_HZ))
    assert [tone.name for tone in played.of(Tone)] == ["dtmf"]
    (call,) = played.of(CallStarted)
    assert call.call.split("-")[0] == opaque_id("asterisk-1700000000.1").split("-")[0]
    assert played.replies == []
    assert not drops


@pytest.mark.parametrize(
    ("name", "rate_hz", "count"),
    [
        ("ulaw", 8_000, 320),
        ("alaw", 8_000, 320),
        ("slin", 8_000, 160),
        ("slin44", 44_100, 160),
        ("slin192", 192_000, 160),
    ],
)
def test_the_format_is_what_media_start_says(name: str, rate_hz: int, count: int) -> None:
    messages = [Message(0.0, f"MEDIA_START format:{name}"), Message(0.1, bytes(320))]
    played = play(session(), messages)
    (leg,) = played.legs()
    assert leg.rate_hz == rate_hz
    assert len(samples_of(played.events, leg.leg)) == count


@pytest.mark.parametrize("name", ["g729", "siren14", "", "SLIN"])
def test_a_format_that_cannot_be_decoded_is_refused(name: str) -> None:
    assert play(session(), [Message(0.0, f"MEDIA_START format:{name}")]).close == (
        "unsupported_format"
    )


def test_the_direction_is_set_in_the_form_that_asterisk_speaks() -> None:
    plain = play(session(direction="out"), transcript("asterisk_plain")).replies
    as_json = play(session(direction="out"), transcript("asterisk_json")).replies
    assert plain == ["SET_MEDIA_DIRECTION out"]
    assert [json.loads(reply) for reply in as_json] == [
        {"command": "SET_MEDIA_DIRECTION", "direction": "out"}
    ]


def test_unknown_control_and_early_media_are_counted() -> None:
    drops: Counter[str] = Counter()
    messages = ["", "media_start format:ulaw", "HELLO", '{"event": 7}', "DTMF_END digit:1"]
    played = play(session(drops), [*(Message(0.0, m) for m in messages), Message(0.0, b"\0\0")])
    assert drops == {"unknown_event": 4, "before_start": 1}
    assert played.events == []
