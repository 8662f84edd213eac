"""The reorder buffer and the reception statistics, packet by packet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamguard.protocols.jitter import (
    CAPACITY,
    MAX_MISORDER,
    JitterBuffer,
    JitterEstimator,
    Released,
    follows,
    signed32,
)
from tests.protocols.senders import packet


def numbers(released: list[Released]) -> list[int]:
    return [item.packet.sequence for item in released]


def test_packets_in_order_are_released_at_once() -> None:
    buffer = JitterBuffer(100)
    for index in range(5):
        assert numbers(buffer.push(packet(index), index * 0.02)) == [100 + index]
    assert buffer.deadline() is None


def test_a_reordered_packet_takes_its_place_without_loss() -> None:
    buffer = JitterBuffer(100)
    assert numbers(buffer.push(packet(0), 0.00)) == [100]
    assert numbers(buffer.push(packet(2), 0.02)) == []
    assert numbers(buffer.push(packet(1), 0.03)) == [101, 102]
    assert buffer.lost == 0


def test_a_hole_is_given_up_after_the_depth_and_not_before() -> None:
    buffer = JitterBuffer(100, depth_s=0.06)
    buffer.push(packet(0), 0.0)
    buffer.push(packet(3), 0.05)
    assert buffer.deadline() == pytest.approx(0.11)
    assert buffer.poll(0.109) == []
    (released,) = buffer.poll(0.11)
    assert released == Released(packet(3), arrived_at=0.05, lost_before=2)
    assert buffer.lost == 2


def test_a_late_packet_is_counted_and_not_played() -> None:
    buffer = JitterBuffer(100)
    buffer.push(packet(0), 0.0)
    buffer.push(packet(2), 0.04)
    buffer.poll(1.0)
    assert buffer.push(packet(1), 1.0) == []
    assert (buffer.late, buffer.duplicates) == (1, 0)


def test_a_packet_that_comes_twice_is_played_once() -> None:
    buffer = JitterBuffer(100)
    buffer.push(packet(0), 0.0)
    assert buffer.push(packet(0), 0.0) == []
    buffer.push(packet(2), 0.0)
    assert buffer.push(packet(2), 0.0) == []
    assert (buffer.late, buffer.duplicates) == (0, 2)


def test_the_sequence_number_wraps_without_a_mark() -> None:
    buffer = JitterBuffer(65_534)
    got = [
        number
        for index in range(4)
        for number in numbers(buffer.push(packet(index, first_sequence=65_534), 0.0))
    ]
    assert got == [65_534, 65_535, 0, 1]
    assert buffer.lost == 0


def test_reorder_across_the_wrap_is_mended() -> None:
    buffer = JitterBuffer(65_535)
    buffer.push(packet(0, first_sequence=65_535), 0.0)
    assert buffer.push(packet(2, first_sequence=65_535), 0.0) == []
    assert numbers(buffer.push(packet(1, first_sequence=65_535), 0.0)) == [0, 1]


def test_a_full_buffer_gives_the_hole_up_early() -> None:
    buffer = JitterBuffer(100)
    released = []
    for index in range(1, CAPACITY + 2):
        released = buffer.push(packet(index), 0.0)
    assert len(released) == CAPACITY + 1
    assert (buffer.lost, len(buffer)) == (1, 0)


def test_steps_too_far_either_way_do_not_belong_to_the_stream() -> None:
    buffer = JitterBuffer(1_000)
    assert buffer.accepts(1_000)
    assert buffer.accepts(1_000 - MAX_MISORDER)
    assert not buffer.accepts(1_000 - MAX_MISORDER - 1)
    assert buffer.accepts(3_999)
    assert not buffer.accepts(4_000)


def test_neighbours_have_one_ssrc_and_consecutive_numbers() -> None:
    assert follows(packet(0), packet(1))
    assert follows(packet(0, first_sequence=65_535), packet(1, first_sequence=65_535))
    assert not follows(packet(0), packet(2))
    assert not follows(packet(0), packet(1, ssrc=1))


def test_timestamp_differences_are_signed_across_the_wrap() -> None:
    assert signed32(5 - 0xFFFF_FFFB) == 10
    assert signed32(0xFFFF_FFFB - 5) == -10


def test_a_steady_stream_has_no_jitter() -> None:
    jitter = JitterEstimator(8_000)
    for index in range(50):
        jitter.update(160 * index, 7.0 + 0.02 * index)
    assert jitter.jitter_s == pytest.approx(0.0, abs=1e-9)


def test_jitter_follows_the_formula_of_rfc_3550() -> None:
    jitter = JitterEstimator(8_000)
    jitter.update(0, 0.0)
    jitter.update(160, 0.03)  # 10 ms late: |D| = 80 samples
    assert jitter.jitter_s == pytest.approx(80 / 16 / 8_000)
    jitter.update(320, 0.04)  # 10 ms early
    assert jitter.jitter_s == pytest.approx((5 + (80 - 5) / 16) / 8_000)


def test_a_jump_of_the_timestamps_is_not_jitter() -> None:
    jitter = JitterEstimator(8_000)
    for index in range(10):
        jitter.update(160 * index + (10**6 if index > 4 else 0), 0.02 * index)
    assert jitter.jitter_s == pytest.approx(0.0, abs=1e-9)


@given(
    st.lists(st.tuples(st.integers(0, 0xFFFF), st.floats(0.0, 0.2)), max_size=200),
    st.integers(0, 0xFFFF),
)
def test_any_arrivals_are_released_in_order_and_accounted_for(
    arrivals: list[tuple[int, float]], first: int
) -> None:
    buffer = JitterBuffer(first)
    now = 0.0
    pushed = 0
    released: list[Released] = []
    for sequence, step_s in arrivals:
        now += step_s
        if buffer.accepts(sequence):
            pushed += 1
            released += buffer.push(packet(0, first_sequence=sequence), now)
        assert len(buffer) <= CAPACITY
    released += buffer.flush()
    assert len(released) == buffer.received == pushed - buffer.late - buffer.duplicates
    expected = first
    for item in released:
        expected += item.lost_before
        assert item.packet.sequence == expected & 0xFFFF
        expected += 1
    assert expected - first == buffer.received + buffer.lost
