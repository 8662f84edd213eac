from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from streamguard.audio.g711 import decode_alaw, decode_ulaw
from streamguard.protocols.rtp import parse_telephone_event
from tests.captures import tone
from tools.impairment.catalogue import BY_NAME, CLEAN, IMPAIRMENTS, Impairment
from tools.impairment.network import lost_in_bursts
from tools.impairment.stream import COMFORT_NOISE, EVENT, PCMA, Sent, clean_stream

LONG = tone(60.0)


def stream(seconds: float = 60.0) -> list[Sent]:
    return clean_stream(LONG[: round(8_000 * seconds)], np.random.default_rng(1))


def sequence_steps(packets: list[Sent]) -> Counter[int]:
    numbers = [one.packet.sequence for one in packets]
    return Counter((b - a) & 0xFFFF for a, b in pairwise(numbers))


@pytest.mark.parametrize("impairment", [CLEAN, *IMPAIRMENTS], ids=lambda one: one.name)
def test_the_same_seed_does_the_same_and_arrivals_are_in_order(impairment: Impairment) -> None:
    clean = stream(12.0)
    first = impairment.apply(clean, np.random.default_rng(5))
    again = impairment.apply(clean, np.random.default_rng(5))
    assert first == again
    assert list(first.packets) == sorted(first.packets, key=lambda one: one.at_s)
    assert first.lost == first.sent - len({id(one.packet) for one in first.packets})
    assert BY_NAME[impairment.name] is impairment


@pytest.mark.parametrize("share", [1, 3, 5, 10, 20])
def test_random_loss_is_of_the_share_that_its_name_says(share: int) -> None:
    found = BY_NAME[f"loss-{share}"].apply(stream(), np.random.default_rng(2))
    assert found.sent == 3_000
    assert found.lost / found.sent == pytest.approx(share / 100, rel=0.35)


def test_bursts_have_the_loss_and_the_length_that_was_asked_for() -> None:
    many = [Sent(one.at_s, one.packet) for one in stream() * 20]
    alive = {id(one) for one in lost_in_bursts(many, np.random.default_rng(3), 0.1, 8.0)}
    lost = np.array([id(one) not in alive for one in many])
    bursts = int((lost[1:] & ~lost[:-1]).sum()) + int(lost[0])
    assert lost.mean() == pytest.approx(0.1, rel=0.2)
    assert lost.sum() / bursts == pytest.approx(8.0, rel=0.2)


def test_reordering_and_repetition_lose_nothing() -> None:
    for name in ("reorder-5", "reorder-late", "duplicate-10", "jitter-30"):
        found = BY_NAME[name].apply(stream(), np.random.default_rng(4))
        assert found.lost == 0
        assert {one.packet.sequence for one in found.packets} == {
            one.packet.sequence for one in stream()
        }
    twice = BY_NAME["duplicate-10"].apply(stream(), np.random.default_rng(4))
    assert len(twice.packets) == pytest.approx(3_300, rel=0.05)


def test_numbers_wrap_two_seconds_into_the_call() -> None:
    found = BY_NAME["wrap"].apply(stream(4.0), np.random.default_rng(1)).packets
    wraps = [at for at, one in enumerate(found) if one.packet.sequence == 0]
    assert wraps == [100]
    assert found[100].packet.timestamp == 0
    assert sequence_steps(list(found)) == {1: 199}


def test_flips_change_the_ssrc_and_its_numbers_and_jumps_the_timestamp_alone() -> None:
    flips = BY_NAME["ssrc-flip"].apply(stream(12.0), np.random.default_rng(9)).packets
    assert len({one.packet.ssrc for one in flips}) == 3
    assert sequence_steps(list(flips))[1] == 597
    jumps = BY_NAME["timestamp-jump"].apply(stream(12.0), np.random.default_rng(9)).packets
    assert sequence_steps(list(jumps)) == {1: 599}
    steps = Counter((b.packet.timestamp - a.packet.timestamp) for a, b in pairwise(jumps))
    assert steps[160] == 597


def test_another_payload_type_carries_the_same_voice() -> None:
    clean = stream(10.0)
    found = BY_NAME["payload-type"].apply(clean, np.random.default_rng(1)).packets
    other = found[400].packet
    assert other.payload_type == PCMA
    before = decode_ulaw(clean[400].packet.payload).astype(float)
    assert np.corrcoef(before, decode_alaw(other.payload))[0, 1] > 0.999
    assert found[0] == clean[0]


def test_pauses_become_comfort_noise_and_leave_no_hole_in_the_numbers() -> None:
    samples = tone(6.0)
    samples[16_000:32_000] = 0
    clean = clean_stream(samples, np.random.default_rng(1))
    found = BY_NAME["comfort-noise"].apply(clean, np.random.default_rng(1))
    kinds = Counter(one.packet.payload_type for one in found.packets)
    # Of 2 s of pause 200 ms are sent, then an update of the noise every 200 ms.
    assert kinds == {0: 210, COMFORT_NOISE: 9}
    assert sequence_steps(list(found.packets)) == {1: 218}
    assert found.lost == 0


def test_digits_stand_in_place_of_audio_as_the_rfc_has_it() -> None:
    found = BY_NAME["telephone-event"].apply(stream(10.0), np.random.default_rng(1)).packets
    events = [one.packet for one in found if one.packet.payload_type == EVENT]
    assert len(events) == 2 * 12
    assert len({packet.timestamp for packet in events}) == 2
    said = [parse_telephone_event(packet.payload) for packet in events[:12]]
    assert [one.duration for one in said if one] == [160 * n for n in range(1, 10)] + 3 * [1_600]
    assert [one.end for one in said if one] == 9 * [False] + 3 * [True]
    assert sequence_steps(list(found)) == {1: len(found) - 1}
