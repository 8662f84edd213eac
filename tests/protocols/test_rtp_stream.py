"""From packets to the sample clock of a leg: loss, silence, tones, restarts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamguard.audio.frames import Mask
from streamguard.audio.g711 import decode_alaw
from streamguard.audio.intake import Intake
from streamguard.events import Audio, Gap, GapReason, MediaChanged, SourceEvent, Tone
from streamguard.protocols.rtp import RtpPacket, TelephoneEvent, build_telephone_event
from streamguard.protocols.rtp_stream import MAX_GAP_S
from tests.protocols.senders import (
    FORMATS,
    PACKET_S,
    gaps_of,
    packet,
    play,
    samples_of,
    segments_of,
    sent,
    stream,
    voice,
)


def test_a_clean_stream_is_decoded_sample_for_sample() -> None:
    events = play(stream(), [packet(index) for index in range(20)])
    assert all(isinstance(event, Audio) for event in events)
    np.testing.assert_array_equal(samples_of(events), sent(range(20)))


def test_audio_is_stamped_with_the_arrival_of_its_packet_and_is_read_only() -> None:
    (event,) = stream().receive(packet(0), 3.5)
    assert isinstance(event, Audio)
    assert event.received_at == 3.5
    assert not event.samples.flags.writeable


def test_a_lost_packet_becomes_a_lost_gap_of_its_length() -> None:
    drops: Counter[str] = Counter()
    receiver = stream(drops)
    events = play(receiver, [packet(index) for index in (0, 1, 3, 4, 5, 6, 7)])
    assert gaps_of(events) == [(320, 160, GapReason.LOST)]
    assert receiver.reception.loss_pct == pytest.approx(100 / 8)


def test_a_late_packet_is_counted_and_not_played() -> None:
    drops: Counter[str] = Counter()
    events = play(stream(drops), [packet(index) for index in (0, 2, 3, 4, 5, 6, 1, 7)])
    assert gaps_of(events) == [(160, 160, GapReason.LOST)]
    assert drops["late"] == 1


def test_a_duplicate_is_counted_and_not_played() -> None:
    drops: Counter[str] = Counter()
    events = play(stream(drops), [packet(index) for index in (0, 1, 1, 2)])
    np.testing.assert_array_equal(samples_of(events), sent(range(3)))
    assert drops["duplicate"] == 1


def test_a_timestamp_step_without_a_sequence_step_is_silence_not_loss() -> None:
    receiver = stream()
    events = receiver.receive(packet(0), 0.0)
    events += receiver.receive(packet(1, skipped_samples=4_000), 0.52)
    assert gaps_of(events) == [(160, 4_000, GapReason.DTX)]
    assert receiver.reception.loss_pct == 0.0


def test_a_gap_in_every_packet_does_not_make_time_run_faster() -> None:
    """Each of them is believable: a second of silence, a little ahead of its time."""
    receiver = stream()
    events: list[SourceEvent] = []
    for number in range(200):
        one = packet(number, skipped_samples=8_000 * number)
        events += receiver.receive(one, number * PACKET_S)
    silence = sum(count for _, count, _ in gaps_of(events))
    assert 8_000 <= silence <= 8_000 * (1 + 200 * PACKET_S)
    assert len(samples_of(events)) - silence == 200 * 160


def test_loss_on_the_edge_of_silence_is_told_from_the_silence() -> None:
    receiver = stream()
    events = receiver.receive(packet(0), 0.0)
    events += receiver.receive(packet(2, skipped_samples=4_000), 0.54) + receiver.flush()
    assert gaps_of(events) == [(160, 160, GapReason.LOST), (320, 4_000, GapReason.DTX)]


def test_comfort_noise_is_silence_and_is_never_decoded() -> None:
    receiver = stream()
    events = receiver.receive(packet(0), 0.0)
    events += receiver.receive(packet(1, payload_type=13, payload=b"\x40"), 0.02)
    was_silent = receiver.silent
    assert len(samples_of(events)) == 160
    events += receiver.receive(packet(2, skipped_samples=1_600), 0.22)
    assert gaps_of(events) == [(160, 1_760, GapReason.DTX)]
    assert (was_silent, receiver.silent) == (True, False)
    assert len(samples_of(events)) == 160 + 1_760 + 160


def test_the_sequence_and_the_timestamp_may_wrap_at_once() -> None:
    packets = [
        packet(index, first_sequence=65_533, first_timestamp=0xFFFF_FFFF - 400)
        for index in range(8)
    ]
    events = play(stream(), packets)
    assert not gaps_of(events)
    np.testing.assert_array_equal(samples_of(events), sent(range(8)))


def test_a_new_ssrc_starts_a_segment_and_loses_nothing() -> None:
    drops: Counter[str] = Counter()
    old = [packet(index) for index in range(3)]
    new = [packet(index, ssrc=1, first_sequence=9_000, first_timestamp=77) for index in range(3, 6)]
    events = play(stream(drops), old + new)
    assert segments_of(events) == ["ssrc"]
    np.testing.assert_array_equal(samples_of(events), sent(range(6)))
    assert not +drops


def test_one_packet_of_another_ssrc_does_not_cut_the_stream() -> None:
    drops: Counter[str] = Counter()
    packets = [packet(0), packet(9, ssrc=1), packet(1), packet(2)]
    events = play(stream(drops), packets)
    assert segments_of(events) == []
    np.testing.assert_array_equal(samples_of(events), sent(range(3)))
    assert drops["stray"] == 1


def test_two_streams_mixed_on_one_port_leave_the_first_whole() -> None:
    drops: Counter[str] = Counter()
    packets = [one for index in range(10) for one in (packet(index), packet(index + 50, ssrc=1))]
    events = play(stream(drops), packets)
    assert segments_of(events) == []
    np.testing.assert_array_equal(samples_of(events), sent(range(10)))
    assert drops["stray"] == 9  # the last one still waits for its second


def test_bursts_of_video_between_the_audio_do_not_cut_it() -> None:
    drops: Counter[str] = Counter()
    packets: list[RtpPacket] = []
    for index in range(5):
        packets.append(packet(index))
        packets += [packet(5 * index + n, ssrc=1, payload_type=96) for n in range(5)]
    events = play(stream(drops), packets)
    assert segments_of(events) == []
    np.testing.assert_array_equal(samples_of(events), sent(range(5)))
    assert drops["stray"] == 25


def test_a_restarted_sequence_starts_a_segment() -> None:
    packets = [packet(index) for index in range(3)]
    packets += [packet(index, first_sequence=30_000) for index in range(3, 6)]
    events = play(stream(), packets)
    assert segments_of(events) == ["sequence"]
    np.testing.assert_array_equal(samples_of(events), sent(range(6)))


@pytest.mark.parametrize("jump", [8_000 * 3_600, 0x7000_0000, -16_000, -0x7000_0000])
def test_a_timestamp_jump_starts_a_segment_and_no_hours_of_zeros(jump: int) -> None:
    packets = [packet(index) for index in range(3)]
    packets += [packet(index, skipped_samples=jump) for index in range(3, 6)]
    events = play(stream(), packets)
    assert segments_of(events) == ["timestamp"]
    np.testing.assert_array_equal(samples_of(events), sent(range(6)))


def test_a_pause_before_a_restart_keeps_positions_on_the_wall_clock() -> None:
    receiver = stream()
    events = receiver.receive(packet(0), 0.0)
    events += receiver.receive(packet(1, ssrc=1), 3.02)
    events += receiver.receive(packet(2, ssrc=1), 3.04)
    assert gaps_of(events) == [(160, 24_000, GapReason.LOST)]
    assert segments_of(events) == ["ssrc"]


def test_a_pause_of_hours_adds_no_more_than_the_longest_gap() -> None:
    receiver = stream()
    events = receiver.receive(packet(0), 0.0)
    events += receiver.receive(packet(1, ssrc=1), 7_200.0)
    events += receiver.receive(packet(2, ssrc=1), 7_200.02)
    assert len(samples_of(events)) <= MAX_GAP_S * 8_000 + 3 * 160


def test_a_change_of_law_in_mid_call_is_announced_and_decoded() -> None:
    events = play(stream(), [packet(0), packet(1, payload_type=8), packet(2, payload_type=8)])
    changes = [event for event in events if isinstance(event, MediaChanged)]
    assert changes == [MediaChanged("leg", "PCMA", 8_000)]
    np.testing.assert_array_equal(samples_of(events)[160:320], decode_alaw(voice(1)))


def test_an_unknown_payload_type_is_counted_and_is_no_loss() -> None:
    drops: Counter[str] = Counter()
    receiver = stream(drops)
    events = play(receiver, [packet(0), packet(1, payload_type=96), packet(2)])
    assert drops["payload_type"] == 1
    assert gaps_of(events) == [(160, 160, GapReason.DTX)]
    assert receiver.reception.lost == 0


def test_an_empty_keep_alive_is_counted_and_ignored() -> None:
    drops: Counter[str] = Counter()
    events = play(stream(drops), [packet(0), packet(1, payload=b"")])
    assert drops["empty"] == 1
    assert len(samples_of(events)) == 160


def event_packet(index: int, report: TelephoneEvent, at: int) -> RtpPacket:
    """Report number ``index`` on the wire of an event that began with packet ``at``."""
    return RtpPacket(
        101, False, 100 + index, 5_000 + at * 160, 0xABCD, build_telephone_event(report)
    )


def tones_of(events: list[SourceEvent]) -> list[tuple[int, int, str]]:
    return [(e.first_sample, e.count, e.name) for e in events if isinstance(e, Tone)]


def test_a_telephone_event_grows_from_one_start_and_its_end_says_nothing_new() -> None:
    reports = [TelephoneEvent(1, False, -10, n * 160) for n in (1, 2, 3)]
    reports += [TelephoneEvent(1, True, -10, 480)] * 3
    packets = [packet(0), packet(1)]
    packets += [event_packet(2 + n, report, at=2) for n, report in enumerate(reports)]
    packets.append(
        RtpPacket(0, False, 108, 5_000 + 5 * 160, 0xABCD, voice(5))  # speech goes on after it
    )
    events = play(stream(), packets)
    assert tones_of(events) == [
        (320, 160, "dtmf-1"),
        (320, 320, "dtmf-1"),
        (320, 480, "dtmf-1"),
    ]
    assert gaps_of(events) == [(320, 480, GapReason.DTX)]
    assert segments_of(events) == []


def test_a_key_held_for_seconds_is_masked_in_the_blocks_behind() -> None:
    """What leaves here is what the intake makes masks of: 2 s of tone, no audio meanwhile."""
    receiver, intake = stream(), Intake("leg", 8_000)
    packets = [(0.02 * n, packet(n)) for n in range(25)]
    packets += [
        (0.5 + 0.05 * n, event_packet(25 + n, TelephoneEvent(9, False, -10, 400 * n), at=25))
        for n in range(1, 41)
    ]
    packets += [
        (2.5 + 0.02 * n, RtpPacket(0, False, 166 + n, 5_000 + (125 + n) * 160, 0xABCD, voice(n)))
        for n in range(25)
    ]
    blocks = []
    for now, one in packets:
        for event in receiver.receive(one, now):
            if isinstance(event, Audio):
                blocks += intake.audio(event)
            elif isinstance(event, Gap):
                blocks += intake.gap(event)
            elif isinstance(event, Tone):
                blocks += intake.tone(event)
    masked = [
        sum(span.stop - span.start for span in block.spans if span.mask & Mask.TONE)
        for block in blocks
    ]
    assert masked == [0, 4_000, 4_000, 4_000, 4_000, 0]
    assert {block.segment for block in blocks} == {0}


def test_a_telephone_event_beside_running_audio_lies_over_it() -> None:
    packets = [packet(0), event_packet(1, TelephoneEvent(5, False, -10, 320), at=0)]
    packets.append(RtpPacket(0, False, 102, 5_160, 0xABCD, voice(1)))
    events = play(stream(), packets)
    assert tones_of(events) == [(0, 320, "dtmf-5")]
    np.testing.assert_array_equal(samples_of(events), sent(range(2)))


def test_an_event_far_from_the_stream_is_counted_and_ignored() -> None:
    drops: Counter[str] = Counter()
    events = play(
        stream(drops),
        [packet(0), event_packet(1, TelephoneEvent(5, False, -10, 320), at=1_000_000)],
    )
    assert tones_of(events) == []
    assert drops["event_timestamp"] == 1


def test_a_broken_event_is_counted_and_ignored() -> None:
    drops: Counter[str] = Counter()
    play(stream(drops), [packet(0), packet(1, payload_type=101, payload=b"\x01")])
    assert drops["event_malformed"] == 1


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF_FFFF), st.data())
def test_any_order_within_the_depth_gives_the_same_samples(
    first_sequence: int, first_timestamp: int, data: st.DataObject
) -> None:
    """The first packet defines where the stream begins; behind it, any disorder of up to three
    packets (60 ms at 20 ms a packet) is mended."""
    groups = data.draw(st.lists(st.permutations(range(3)), min_size=1, max_size=8))
    order = [0]
    for permutation in groups:
        begin = len(order)
        order += [begin + step for step in permutation]
    packets = [
        packet(index, first_sequence=first_sequence, first_timestamp=first_timestamp)
        for index in order
    ]
    events = play(stream(), packets)
    assert not gaps_of(events)
    assert not segments_of(events)
    np.testing.assert_array_equal(samples_of(events), sent(range(len(order))))


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*FORMATS, 96]),
            st.integers(0, 0xFFFF) | st.integers(95, 130),
            st.integers(0, 0xFFFF_FFFF) | st.integers(0, 50_000),
            st.sampled_from([1, 2]),
            st.binary(max_size=40),
            st.floats(0.0, 2.0),
        ),
        max_size=80,
    )
)
def test_any_packets_keep_positions_whole_and_memory_and_work_bounded(
    arrivals: list[tuple[int, int, int, int, bytes, float]],
) -> None:
    receiver = stream()
    events: list[SourceEvent] = []
    now = 0.0
    for payload_type, sequence, timestamp, ssrc, payload, step_s in arrivals:
        now += step_s
        one = RtpPacket(payload_type, False, sequence, timestamp, ssrc, payload)
        events += receiver.receive(one, now)
        events += receiver.poll(now)
        assert receiver.held <= 64
    events += receiver.flush()
    position = 0
    for event in events:
        if isinstance(event, Audio | Gap):
            assert event.first_sample == position
            position += len(event.samples) if isinstance(event, Audio) else event.count
    # Gaps run ahead of the time that passed by a second at most, and the payloads are short.
    assert position <= len(arrivals) * 40 + (1 + 2 * now) * 8_000
    assert 0.0 <= receiver.reception.loss_pct <= 100.0
