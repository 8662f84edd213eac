"""Telnyx media streaming: audio in any order, from messages to events."""

from __future__ import annotations

import base64
import json
from collections import Counter
from typing import Any

import numpy as np
import pytest

from streamguard.audio.g711 import decode_alaw, encode_alaw
from streamguard.events import Audio, Gap, GapReason, LegRole, Quality
from streamguard.protocols.telnyx import TelnyxSession
from tests.protocols.media_play import FIRST_HZ, SECOND_HZ, Message, play, sine, transcript
from tests.sources.collect import samples_of

ROLES = {"inbound": LegRole.CALLER, "outbound": LegRole.CALLEE}
FRAME = 160


def session(
    drops: Counter[str] | None = None, reorder_s: float = 0.2, token: str | None = None
) -> TelnyxSession:
    return TelnyxSession("cloud", Counter() if drops is None else drops, ROLES, reorder_s, token)


def start(encoding: str = "PCMA", rate_hz: int = 8000, **more: Any) -> str:
    media_format = {"encoding": encoding, "sample_rate": rate_hz, "channels": 1}
    fields = {"call_control_id": "v2:one", "media_format": media_format, **more}
    return json.dumps({"event": "start", "sequence_number": "1", "start": fields})


def media(number: int, chunk: int, payload: bytes | None = None) -> str:
    audio = encode_alaw(sine(8000, FRAME, FIRST_HZ)) if payload is None else payload
    fields = {"track": "inbound", "chunk": str(chunk), "payload": base64.b64encode(audio).decode()}
    return json.dumps({"event": "media", "sequence_number": str(number), "media": fields})


def test_what_comes_out_of_order_and_twice_is_heard_in_order_and_once() -> None:
    drops: Counter[str] = Counter()
    played = play(session(drops), transcript("telnyx"))
    legs = {leg.role: leg.leg for leg in played.legs()}
    for role, hertz in ((LegRole.CALLER, FIRST_HZ), (LegRole.CALLEE, SECOND_HZ)):
        expected = decode_alaw(encode_alaw(sine(8000, 10 * FRAME, hertz)))
        np.testing.assert_array_equal(samples_of(played.events, legs[role]), expected)
    assert +drops == {"duplicate": 1}
    assert played.close == "end"


def test_what_does_not_come_in_time_is_lost_and_counted_late_when_it_does() -> None:
    drops: Counter[str] = Counter()
    line = session(drops)
    played = play(line, [Message(0.0, start()), Message(0.02, media(2, 1))], end=False)
    played.add(line.text(media(4, 3), 0.06))
    assert len(played.of(Audio)) == 1
    played.add(line.tick(0.25))
    assert len(played.of(Audio)) == 1
    played.add(line.tick(0.27))
    (gap,) = played.of(Gap)
    assert (gap.first_sample, gap.count, gap.reason) == (FRAME, FRAME, GapReason.LOST)
    assert played.of(Audio)[1].first_sample == 2 * FRAME
    played.add(line.text(media(3, 2), 0.3))
    assert +drops == {"missing": 1, "late": 1}
    played.add(line.tick(1.3))
    (quality,) = played.of(Quality)
    assert quality.loss_pct == pytest.approx(100 / 3)


def test_what_waits_is_heard_when_the_call_stops() -> None:
    stop = json.dumps({"event": "stop", "sequence_number": "5"})
    messages = [start(), media(2, 1), media(4, 3), stop]
    played = play(session(), [Message(0.0, text) for text in messages])
    assert len(played.of(Audio)) == 2
    assert len(played.of(Gap)) == 1


def test_l16_is_little_endian() -> None:
    samples = sine(16_000, 320, FIRST_HZ)
    messages = [start("L16", 16_000), media(2, 1, samples.astype("<i2").tobytes())]
    played = play(session(), [Message(0.0, text) for text in messages])
    (leg,) = played.legs()
    assert leg.rate_hz == 16_000
    np.testing.assert_array_equal(samples_of(played.events, leg.leg), samples)


@pytest.mark.parametrize(("encoding", "rate_hz"), [("G722", 16_000), ("OPUS", 48_000)])
def test_codecs_of_the_extra_are_decoded_at_their_own_rate(encoding: str, rate_hz: int) -> None:
    pytest.importorskip("av", reason="needs PyAV (extra 'codecs')")
    payloads = _encoded(encoding, rate_hz)
    messages = [start(encoding, 8_000), *(media(n + 2, n + 1, p) for n, p in enumerate(payloads))]
    played = play(session(), [Message(0.0, text) for text in messages])
    (leg,) = played.legs()
    assert leg.rate_hz == rate_hz
    assert len(samples_of(played.events, leg.leg)) >= rate_hz // 10


def _encoded(encoding: str, rate_hz: int) -> list[bytes]:
    """0.2 s of a sine in packets of 20 ms."""
    import av

    name = {"G722": "g722", "OPUS": "libopus"}[encoding]
    encoder = av.CodecContext.create(name, "w")
    assert isinstance(encoder, av.AudioCodecContext)
    encoder.sample_rate, encoder.format, encoder.layout = rate_hz, "s16", "mono"
    payloads = []
    for index in range(10):
        samples = sine(rate_hz, rate_hz // 50, FIRST_HZ, index * rate_hz // 50)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), "s16", "mono")
        frame.sample_rate, frame.pts = rate_hz, index * rate_hz // 50
        payloads += [bytes(packet) for packet in encoder.encode(frame)]
    return [payload for payload in payloads if payload]


def test_formats_that_we_have_no_decoder_for_are_refused() -> None:
    for encoding, rate_hz in (("AMR-WB", 16_000), ("GSM", 8_000), ("L16", 7_999), ("", 8_000)):
        played = play(session(), [Message(0.0, start(encoding, rate_hz))])
        assert played.close == "unsupported_format"
        assert played.events == []


@pytest.mark.parametrize(
    "parameters",
    [
        {"streamguard_token": "open sesame"},
        [{"name": "tenant", "value": "x"}, {"name": "streamguard_token", "value": "open sesame"}],
    ],
)
def test_a_token_in_the_start_message_opens(parameters: Any) -> None:
    line = session(token="open sesame")
    play(line, [Message(0.0, start(custom_parameters=parameters))], end=False)
    assert line.started


@pytest.mark.parametrize(
    "parameters",
    [
        None,
        {},
        {"streamguard_token": "open sesame "},
        {"streamguard_token": ["open sesame"]},
        {"streamguard_token": "\ud800"},
        [["streamguard_token", "open sesame"]],
        [{"name": "streamguard_token"}],
    ],
)
def test_without_the_token_no_call_begins(parameters: Any) -> None:
    drops: Counter[str] = Counter()
    line = session(drops, token="open sesame")
    played = play(line, [Message(0.0, start(custom_parameters=parameters))])
    assert played.close == "unauthorized"
    assert played.events == []
    assert drops == {"unauthorized": 1}
