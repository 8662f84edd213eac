"""Twilio Media Streams, from messages to events."""

from __future__ import annotations

import base64
import json
from collections import Counter
from typing import Any

import numpy as np
import pytest

from streamguard.audio.g711 import decode_ulaw, encode_ulaw
from streamguard.events import (
    Audio,
    CallEnded,
    CallStarted,
    EndReason,
    Gap,
    GapReason,
    LegEnded,
    LegRole,
    LegStarted,
    Quality,
    SegmentStarted,
    Tone,
)
from streamguard.protocols.media_call import opaque_id
from streamguard.protocols.media_session import MAX_MALFORMED
from streamguard.protocols.numbered_media import NumberedMedia
from streamguard.protocols.twilio import twilio_session
from tests.protocols.media_play import FIRST_HZ, SECOND_HZ, Message, play, sine, transcript
from tests.sources.collect import samples_of

ROLES = {"inbound": LegRole.CALLER, "outbound": LegRole.CALLEE}
FRAME = 160


def session(drops: Counter[str] | None = None) -> NumberedMedia:
    return twilio_session("cloud", Counter() if drops is None else drops, ROLES)


def start(**media_format: Any) -> str:
    values = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1, **media_format}
    event = {"event": "start", "start": {"callSid": "CA3", "mediaFormat": values}}
    return json.dumps({**event, "sequenceNumber": "1"})


def media(number: int, chunk: int, **values: Any) -> str:
    payload = base64.b64encode(encode_ulaw(sine(8000, FRAME, FIRST_HZ))).decode()
    fields = {"track": "inbound", "chunk": str(chunk), "payload": payload, **values}
    return json.dumps({"event": "media", "sequenceNumber": str(number), "media": fields})


def test_a_call_with_both_tracks_is_two_legs_with_every_sample() -> None:
    drops: Counter[str] = Counter()
    played = play(session(drops), transcript("twilio"))
    caller, callee = played.legs()
    assert (caller.role, callee.role) == (LegRole.CALLER, LegRole.CALLEE)
    assert (caller.index, callee.index) == (0, 1)
    assert {(leg.codec, leg.rate_hz, leg.source) for leg in (caller, callee)} == {
        ("PCMU", 8000, "cloud")
    }
    for leg, hertz in ((caller, FIRST_HZ), (callee, SECOND_HZ)):
        expected = decode_ulaw(encode_ulaw(sine(8000, 10 * FRAME, hertz)))
        np.testing.assert_array_equal(samples_of(played.events, leg.leg), expected)
    assert not +drops
    assert played.close == "end"
    assert played.replies == []


def test_a_call_begins_with_start_and_ends_with_stop_legs_first() -> None:
    played = play(session(), transcript("twilio"))
    assert isinstance(played.events[0], CallStarted)
    assert [type(event) for event in played.events[-3:]] == [LegEnded, LegEnded, CallEnded]
    assert [(one.loss_pct, one.jitter_ms < 1) for one in played.of(Quality)] == [(0.0, True)] * 2
    assert {event.reason for event in played.of(LegEnded)} == {EndReason.HANGUP}


def test_the_id_of_a_call_can_be_found_by_its_sid_and_tells_nothing() -> None:
    (call,) = play(session(), transcript("twilio")).of(CallStarted)
    sid = "CA" + "0" * 31 + "3"
    assert call.call.split("-")[0] == opaque_id(sid).split("-")[0]
    assert sid not in call.call
    (other,) = play(session(), transcript("twilio")).of(CallStarted)
    assert other.call != call.call  # two connections of one call are two calls


def test_numbers_come_where_the_twiml_names_them() -> None:
    fields = json.loads(start())
    fields["start"]["customParameters"] = {"from": "+15550100", "to": "+15550199"}
    messages = [json.dumps(fields), media(2, 1), media(3, 1, track="outbound")]
    played = play(session(), [Message(0.0, text) for text in messages])
    assert [[one.value for one in leg.identities] for leg in played.legs()] == [
        ["+15550100"],
        ["+15550199"],
    ]


def test_a_digit_masks_the_leg_that_pressed_it_and_is_not_named() -> None:
    played = play(session(), transcript("twilio"))
    (tone,) = played.of(Tone)
    assert tone.leg == played.legs()[0].leg
    assert tone.name == "dtmf"
    assert (tone.first_sample, tone.first_sample + tone.count) == (0, 6 * FRAME + 800)


def test_a_missing_message_is_a_gap_on_the_track_that_missed_a_chunk() -> None:
    drops: Counter[str] = Counter()
    messages = [start(), media(2, 1), media(3, 1, track="outbound")]
    messages += [media(5, 2, track="outbound"), media(6, 3)]  # 4 was the inbound chunk 2
    played = play(session(drops), [Message(0.02 * n, text) for n, text in enumerate(messages)])
    inbound, outbound = played.legs()
    (gap,) = played.of(Gap)
    assert (gap.leg, gap.first_sample, gap.count) == (inbound.leg, FRAME, FRAME)
    assert gap.reason is GapReason.LOST
    assert len(samples_of(played.events, outbound.leg)) == 2 * FRAME
    assert drops["missing"] == 1


def test_time_in_which_nothing_was_sent_is_silence() -> None:
    played = play(
        session(),
        [
            Message(0.0, start()),
            Message(0.02, media(2, 1, timestamp="0")),
            Message(2.52, media(3, 2, timestamp="2500")),
        ],
    )
    (gap,) = played.of(Gap)
    assert (gap.reason, gap.count) == (GapReason.DTX, 2_480 * 8)


def test_a_timestamp_cannot_stretch_the_call_beyond_the_time_that_passed() -> None:
    played = play(
        session(),
        [
            Message(0.0, start()),
            Message(0.02, media(2, 1, timestamp="0")),
            Message(0.04, media(3, 2, timestamp="9007199254740991")),
        ],
    )
    assert played.of(Gap) == []


def test_a_new_count_is_a_new_segment() -> None:
    played = play(
        session(), [Message(0.0, text) for text in (start(), media(2, 1), media(90_000, 1))]
    )
    (segment,) = played.of(SegmentStarted)
    assert segment.first_sample == FRAME


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"payload": "not base64!"}, "base64"),
        ({"payload": None}, "payload"),
        ({"payload": "AAAA=AAA"}, "base64"),
        ({"payload": ""}, "undecodable"),
        ({"track": "sideways"}, "unknown_track"),
        ({"track": 7}, "unknown_track"),
    ],
)
def test_media_that_cannot_be_used_are_counted_and_the_call_goes_on(
    change: dict[str, Any], reason: str
) -> None:
    drops: Counter[str] = Counter()
    messages = [start(), media(2, 1, **change), media(3, 2), media(4, 3)]
    played = play(session(drops), [Message(0.0, text) for text in messages])
    assert len(played.of(Audio)) == 2
    assert drops[reason] == 1


def test_a_track_that_only_sends_rubbish_has_a_leg_and_no_audio() -> None:
    line = session()
    play(line, [Message(0.0, start()), Message(0.0, media(2, 1, payload=""))], end=False)
    (quality,) = line.tick(2.0).events
    assert isinstance(quality, Quality)
    assert (quality.loss_pct, quality.jitter_ms) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "json"),
        ("[]", "json"),
        ('{"event": NaN}', "json"),
        ("[" * 100_000, "json"),
        ('{"event": "unheard of"}', "unknown_event"),
        (media(2, 1), "before_start"),
    ],
)
def test_what_is_no_message_of_the_protocol_is_counted(text: str, reason: str) -> None:
    drops: Counter[str] = Counter()
    played = play(session(drops), [Message(0.0, text)])
    assert played.events == []
    assert drops == {reason: 1}


def test_a_number_that_is_out_of_bounds_is_no_number() -> None:
    drops: Counter[str] = Counter()
    line = session(drops)
    play(line, [Message(0.0, start())], end=False)
    for number in ("-1", "1e3", "9" * 19, "٣", None, True, 1.5, 1 << 60):
        fields = json.loads(media(2, 1))
        fields["sequenceNumber"] = number
        assert line.text(json.dumps(fields), 0.0).events == ()
    assert drops == {"unnumbered": 8}


def test_what_speaks_another_language_is_closed_after_a_while() -> None:
    line = session()
    outcomes = [line.binary(b"\0" * 160, 0.0) for _ in range(MAX_MALFORMED)]
    assert [outcome.close for outcome in outcomes[:-1]] == [None] * (MAX_MALFORMED - 1)
    assert outcomes[-1].close == "too_malformed"


def test_a_format_that_cannot_be_decoded_is_refused() -> None:
    for change in ({"encoding": "audio/x-l24"}, {"channels": 2}, {"encoding": None}):
        drops: Counter[str] = Counter()
        line = session(drops)
        played = play(line, [Message(0.0, start(**change))])
        assert played.close == "unsupported_format"
        assert line.refusal
        assert not line.started
        assert not played.of(LegStarted)


def test_a_second_start_does_not_begin_a_second_call() -> None:
    drops: Counter[str] = Counter()
    played = play(session(drops), [Message(0.0, start()), Message(0.0, start())])
    assert len(played.of(CallStarted)) == 1
    assert drops == {"second_start": 1}


def test_a_connection_that_breaks_ends_the_call_once() -> None:
    line = session()
    play(line, [Message(0.0, start()), Message(0.0, media(2, 1))], end=False)
    first = line.end(EndReason.SOURCE_LOST, 1.0)
    assert [type(event) for event in first.events] == [Quality, LegEnded, CallEnded]
    assert line.end(EndReason.SHUTDOWN, 2.0).events == ()
    drops: Counter[str] = Counter()
    late = session(drops)
    play(late, transcript("twilio"))
    assert late.text(media(99, 99), 9.0).events == ()
    assert drops["after_stop"] == 1
