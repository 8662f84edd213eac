"""Codecs whose samples and RTP clock differ, and legs that change codec in mid-call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from streamguard.audio.intake import Intake
from streamguard.events import (
    Audio,
    Gap,
    GapReason,
    MediaChanged,
    SegmentStarted,
    SourceEvent,
    Tone,
)
from streamguard.protocols.rtp import RtpPacket, TelephoneEvent, build_telephone_event
from streamguard.protocols.rtp_codecs import PCMU, PayloadFormat, parse_rtpmap
from streamguard.protocols.rtp_stream import RtpStream
from tests.protocols.senders import gaps_of, segments_of

L16 = parse_rtpmap("L16/16000")
TONES = parse_rtpmap("telephone-event/8000")


def leg(
    formats: dict[int, PayloadFormat], announced: PayloadFormat, drops: Counter[str] | None = None
) -> RtpStream:
    return RtpStream("leg", formats, Counter() if drops is None else drops, 0.06, announced)


def l16(index: int, *, ms: int = 20, first_timestamp: int = 77) -> RtpPacket:
    count = 16 * ms
    samples = np.arange(index * count, (index + 1) * count).astype(">i2")
    timestamp = first_timestamp + index * count
    return RtpPacket(97, False, 9 + index, timestamp & 0xFFFF_FFFF, 5, samples.tobytes())


def pcmu(index: int, timestamp: int, *, ms: int = 20) -> RtpPacket:
    return RtpPacket(0, False, 9 + index, timestamp, 5, b"\x55" * (8 * ms))


def played(receiver: RtpStream, packets: Iterable[tuple[float, RtpPacket]]) -> list[SourceEvent]:
    events: list[SourceEvent] = []
    for now, packet in packets:
        events += receiver.receive(packet, now)
    return events + receiver.flush()


@pytest.mark.parametrize("ms", [10, 20, 30, 40, 60])
def test_packets_of_any_usual_length_make_one_unbroken_leg(ms: int) -> None:
    packets = [(0.001 * ms * n, l16(n, ms=ms)) for n in range(12)]
    events = played(leg({97: L16}, L16), packets)
    assert all(isinstance(event, Audio) for event in events)
    heard = np.concatenate([event.samples for event in events if isinstance(event, Audio)])
    np.testing.assert_array_equal(heard, np.arange(12 * 16 * ms).astype(np.int16))


def test_a_leg_that_starts_in_another_format_than_announced_says_so_first() -> None:
    events = played(leg({0: PCMU, 97: L16}, PCMU), [(0.0, l16(0)), (0.02, l16(1))])
    assert isinstance(events[0], MediaChanged)
    assert (events[0].codec, events[0].rate_hz) == ("L16", 16_000)
    assert [type(event) for event in events[1:]] == [Audio, Audio]


def test_a_lost_packet_of_g722_is_a_gap_at_the_rate_of_the_samples() -> None:
    pytest.importorskip("av")
    g722 = parse_rtpmap("G722")
    packets = [
        (0.02 * n, RtpPacket(9, False, n, 160 * n, 5, bytes(160))) for n in (0, 1, 3, 4, 5, 6, 7)
    ]
    events = played(leg({9: g722}, g722), packets)
    assert gaps_of(events) == [(640, 320, GapReason.LOST)]
    assert {len(event.samples) for event in events if isinstance(event, Audio)} == {320}


def test_an_opus_packet_of_two_bytes_is_silence_and_what_follows_says_how_long() -> None:
    pytest.importorskip("av")
    opus = parse_rtpmap("opus/48000/2")
    receiver = leg({111: opus}, opus)
    speech = bytes([0x78, 0x07, 0xC9, 0x79, 0xC8, 0xC9, 0x57, 0xC0])
    events = receiver.receive(RtpPacket(111, False, 0, 0, 5, speech), 0.0)
    assert isinstance(events[0], Audio)
    count = len(events[0].samples)
    events = receiver.receive(RtpPacket(111, False, 1, count, 5, b"\x78"), 0.02)
    assert receiver.silent
    assert events == []
    events = receiver.receive(RtpPacket(111, False, 2, count + 19_200, 5, speech), 0.42)
    assert gaps_of(events) == [(count, 19_200, GapReason.DTX)]
    assert not receiver.silent


def test_what_cannot_be_decoded_is_loss_of_its_length() -> None:
    drops: Counter[str] = Counter()
    packets = [(0.02 * n, l16(n)) for n in range(5)]
    packets[2] = (0.04, RtpPacket(97, False, 11, packets[2][1].timestamp, 5, b"odd"))
    events = played(leg({97: L16}, L16, drops), packets)
    assert gaps_of(events) == [(640, 320, GapReason.LOST)]
    assert drops["undecodable"] == 1


def test_a_change_of_rate_on_one_clock_keeps_the_time_and_the_intake_agrees() -> None:
    pytest.importorskip("av")
    g722 = parse_rtpmap("G722")
    packets = [(0.02 * n, pcmu(n, 160 * n)) for n in range(50)]
    packets += [
        (0.02 * n, RtpPacket(9, False, 9 + n, 160 * n, 5, bytes(160))) for n in range(50, 100)
    ]
    events = played(leg({0: PCMU, 9: g722}, PCMU), packets)
    changes = [event for event in events if isinstance(event, MediaChanged)]
    assert changes == [MediaChanged("leg", "G722", 16_000)]
    assert not segments_of(events)
    intake = Intake("leg", 8_000)
    blocks = []
    for event in events:
        if isinstance(event, Audio):
            blocks += intake.audio(event)
        elif isinstance(event, MediaChanged):
            blocks += intake.media_changed(event.rate_hz)
    assert intake.position_s == pytest.approx(2.0)
    assert [(block.rate_hz, block.first_sample) for block in blocks] == [
        (8_000, 0),
        (8_000, 4_000),
        (16_000, 16_000),
        (16_000, 24_000),
    ]


def test_a_change_of_clock_starts_a_segment_because_its_timestamps_compare_with_nothing() -> None:
    packets = [(0.02 * n, pcmu(n, 160 * n)) for n in range(3)]
    packets += [(0.02 * n, l16(n, first_timestamp=0xFFFF_0000)) for n in range(3, 6)]
    events = played(leg({0: PCMU, 97: L16}, PCMU), packets)
    assert segments_of(events) == ["clock"]
    assert not gaps_of(events)
    kinds = [type(event) for event in events if not isinstance(event, Audio)]
    assert kinds == [SegmentStarted, MediaChanged]
    first = next(e for e in events if isinstance(e, Audio) and len(e.samples) == 320)
    assert first.first_sample == 3 * 320


def test_a_pause_across_a_change_of_clock_is_filled_by_the_time_that_passed() -> None:
    packets = [(0.0, pcmu(0, 0)), (2.02, l16(1)), (2.04, l16(2))]
    events = played(leg({0: PCMU, 97: L16}, PCMU), packets)
    assert [event.count for event in events if isinstance(event, Gap)] == [16_000]


def test_an_event_on_another_clock_than_the_audio_is_masked_from_where_it_was_heard() -> None:
    def report(index: int, duration: int) -> RtpPacket:
        payload = build_telephone_event(TelephoneEvent(5, False, -10, duration))
        return RtpPacket(101, False, 9 + index, 4_242, 5, payload)

    packets = [(0.0, l16(0)), (0.02, l16(1)), (0.04, report(2, 160)), (0.06, report(3, 320))]
    events = played(leg({97: L16, 101: TONES}, L16), packets)
    tones = [(e.first_sample, e.count) for e in events if isinstance(e, Tone)]
    assert tones == [(640, 320), (640, 640)]


def test_jitter_is_in_seconds_of_the_clock_of_the_codec() -> None:
    receiver = leg({97: L16}, L16)
    for n in range(400):
        receiver.receive(l16(n), 0.02 * n + (0.004 if n % 2 else 0.0))
    assert receiver.reception.jitter_s == pytest.approx(0.004, rel=0.02)


def test_each_talk_segment_begins_with_a_fresh_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[PayloadFormat] = []
    decoder = PayloadFormat.decoder

    def counted(self: PayloadFormat):  # type: ignore[no-untyped-def]  # what the original returns
        made.append(self)
        return decoder(self)

    monkeypatch.setattr(PayloadFormat, "decoder", counted)
    packets = [(0.02 * n, l16(n)) for n in range(5)]
    packets += [(0.02 * n, l16(n, first_timestamp=0x7000_0000)) for n in range(5, 10)]
    events = played(leg({97: L16}, L16), packets)
    assert segments_of(events) == ["timestamp"]
    assert len(made) == 2


def test_a_timestamp_that_is_a_little_early_is_no_jump_and_the_next_gap_is_shorter() -> None:
    packets = [(0.02 * n, l16(n)) for n in range(6)]
    for n in (1, 2, 3):  # as of an encoder that cuts 6.5 ms of look-ahead off its first packet
        at, one = packets[n]
        packets[n] = (at, replace(one, timestamp=one.timestamp - 104))
    events = played(leg({97: L16}, L16), packets)
    assert all(isinstance(event, Audio) for event in events)
    heard = np.concatenate([event.samples for event in events if isinstance(event, Audio)])
    np.testing.assert_array_equal(heard, np.arange(6 * 320).astype(np.int16))


def test_a_timestamp_that_is_early_by_more_than_a_packet_is_a_jump() -> None:
    packets = [(0.02 * n, l16(n)) for n in range(3)]
    packets += [(0.02 * n, l16(n, first_timestamp=77 - 321)) for n in range(3, 6)]
    events = played(leg({97: L16}, L16), packets)
    assert segments_of(events) == ["timestamp"]


@pytest.mark.parametrize(("name", "most"), [("PCMU", 1600), ("L16/16000", 6400)])
def test_more_than_200_ms_in_one_packet_is_dropped_and_counted(name: str, most: int) -> None:
    """Or a sender could make hours of audio in a minute (RFC 3551, section 4.2)."""
    form = parse_rtpmap(name)
    assert form.most_bytes == most
    drops: Counter[str] = Counter()
    stream = RtpStream("leg", {96: form}, drops, 0.0, announced=form)
    too_long = RtpPacket(96, False, 1, 0, 5, bytes(most + 2))
    assert stream.receive(too_long, 0.0) == []
    assert stream.receive(RtpPacket(96, False, 1, 0, 5, bytes(most)), 0.0) != []
    assert drops["oversized"] == 1
