"""Who may speak on a port, and where a call begins and ends; without sockets."""

from __future__ import annotations

import struct
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamguard.events import (
    Audio,
    CallEnded,
    CallStarted,
    EndReason,
    Identity,
    IdentityKind,
    LegEnded,
    LegRole,
    LegStarted,
    Quality,
    SourceEvent,
)
from streamguard.protocols.rtcp import build_bye
from streamguard.protocols.rtp import build_packet
from streamguard.sources.base import Refusal
from streamguard.sources.rtp_port import LegCount, RtpPort
from streamguard.sources.settings import RtpSettings
from tests.protocols.senders import packet, samples_of, segments_of, sent

ALICE = ("192.0.2.1", 4_000)
ALICE_ELSEWHERE = ("192.0.2.1", 4_002)
MALLORY = ("203.0.113.9", 4_000)


class Bench:
    """A port with its counters in reach."""

    def __init__(self, *, max_legs: int = 4, **values: Any) -> None:
        self.drops: Counter[str] = Counter()
        self.legs = LegCount(max_legs)
        self.settings = RtpSettings.model_validate({"name": "t", "ports": [40_000], **values})
        self.port = self.another()

    def another(self) -> RtpPort:
        return RtpPort("t", self.settings, self.legs, self.drops, lambda host: host != "0.0.0.1")

    def send(
        self, indices: range, sender: tuple[str, int] = ALICE, at_s: float = 0.0, **values: Any
    ) -> list[SourceEvent]:
        """Packets of a clean stream, 20 ms apart."""
        events: list[SourceEvent] = []
        for index in indices:
            data = build_packet(packet(index, **values))
            events += self.port.datagram(data, sender, at_s + 0.02 * index)
        return events


def kinds(events: list[SourceEvent]) -> list[type]:
    return [type(event) for event in events]


def test_a_call_begins_with_the_second_packet_and_plays_the_first() -> None:
    bench = Bench(role="caller")
    assert bench.send(range(1)) == []
    events = bench.send(range(1, 3))
    assert kinds(events) == [CallStarted, LegStarted, Audio, Audio, Audio]
    started = events[1]
    assert isinstance(started, LegStarted)
    assert (started.codec, started.rate_hz, started.role) == ("PCMU", 8_000, LegRole.CALLER)
    assert started.received_at == 0.0
    assert started.identities == (Identity(IdentityKind.TRUNK, ALICE[0]),)
    np.testing.assert_array_equal(samples_of(events), sent(range(3)))


def test_ids_do_not_contain_the_address() -> None:
    events = Bench().send(range(2))
    assert "192" not in repr([e for e in events if isinstance(e, CallStarted | LegStarted)])


@pytest.mark.parametrize(
    ("lock", "intruder", "taken"),
    [
        ("address_port", ALICE_ELSEWHERE, False),
        ("address_port", MALLORY, False),
        ("address", ALICE_ELSEWHERE, True),
        ("address", MALLORY, False),
        ("none", MALLORY, True),
    ],
)
def test_the_lock_decides_who_else_may_speak(
    lock: str, intruder: tuple[str, int], taken: bool
) -> None:
    bench = Bench(lock=lock)
    bench.send(range(2))
    events = bench.send(range(2, 3), sender=intruder)
    assert bool(events) is taken
    assert bench.drops["locked_out"] == (0 if taken else 1)


def test_a_sender_that_is_not_allowed_is_dropped_before_anything_is_read() -> None:
    bench = Bench()
    assert bench.send(range(5), sender=("0.0.0.1", 9)) == []
    assert bench.port.control(build_bye(1), ("0.0.0.1", 9), 0.0) == []
    assert bench.drops == {"not_allowed": 6}


def test_a_new_ssrc_of_the_same_sender_is_a_new_segment_of_the_same_leg() -> None:
    bench = Bench()
    events = bench.send(range(3)) + bench.send(range(3, 6), ssrc=1)
    assert segments_of(events) == ["ssrc"]
    assert kinds(events).count(LegStarted) == 1


@pytest.mark.parametrize("muxed", [True, False])
def test_a_bye_ends_the_call_at_once(muxed: bool) -> None:
    bench = Bench()
    bench.send(range(3))
    receive = bench.port.datagram if muxed else bench.port.control
    events = receive(build_bye(0xABCD), (ALICE[0], 4_001 if not muxed else 4_000), 1.0)
    assert kinds(events) == [Quality, LegEnded, CallEnded]
    ended = events[1]
    assert isinstance(ended, LegEnded)
    assert ended.reason is EndReason.HANGUP
    assert bench.legs.active == 0


def test_what_waits_behind_a_hole_is_played_before_the_call_ends() -> None:
    bench = Bench()
    events = bench.send(range(2)) + bench.send(range(3, 4))
    events += bench.port.control(build_bye(0xABCD), ALICE, 0.08)
    assert len(samples_of(events)) == 4 * 160


@pytest.mark.parametrize(("ssrc", "sender"), [(0xABCE, ALICE), (0xABCD, MALLORY)])
def test_a_bye_of_another_stream_or_host_ends_nothing(ssrc: int, sender: tuple[str, int]) -> None:
    bench = Bench()
    bench.send(range(3))
    assert bench.port.control(build_bye(ssrc), sender, 1.0) == []
    assert bench.drops["bye_of_others"] == 1
    assert bench.legs.active == 1


def test_packets_that_a_bye_overtook_open_no_call_and_the_next_stream_does() -> None:
    bench = Bench()
    first = bench.send(range(3))
    bench.port.control(build_bye(0xABCD), ALICE, 0.06)
    assert bench.send(range(3, 6)) == []
    assert bench.drops["after_bye"] == 3
    second = bench.send(range(6, 9), ssrc=77)
    ids = [e.call for e in first + second if isinstance(e, CallStarted)]
    assert len(set(ids)) == 2


def test_a_leg_ends_when_nothing_comes_any_more() -> None:
    bench = Bench(inactivity_s=5)
    bench.send(range(3))
    assert LegEnded not in kinds(bench.port.tick(5.03))
    events = bench.port.tick(5.05)
    assert [e.reason for e in events if isinstance(e, LegEnded)] == [EndReason.INACTIVITY]
    assert bench.port.tick(20.0) == []


def test_announced_silence_is_waited_for_longer() -> None:
    bench = Bench(inactivity_s=5, silence_inactivity_s=30)
    bench.send(range(2))
    bench.send(range(2, 3), payload_type=13, payload=b"\x40")
    assert LegEnded not in kinds(bench.port.tick(29.0))
    assert LegEnded in kinds(bench.port.tick(31.0))


def test_a_hole_at_the_end_is_noticed_by_the_passing_of_time() -> None:
    bench = Bench()
    events = bench.send(range(2)) + bench.send(range(3, 4))
    assert len(samples_of(events)) == 320
    events += bench.port.tick(0.13)
    assert len(samples_of(events)) == 640


def test_quality_comes_about_once_a_second() -> None:
    bench = Bench()
    bench.send(range(8))
    bench.send(range(10, 100))
    ticks = [event for n in range(40) for event in bench.port.tick(2.0 + n * 0.05)]
    qualities = [event for event in ticks if isinstance(event, Quality)]
    assert len(qualities) == 2
    assert qualities[0].loss_pct == pytest.approx(2.0)
    assert qualities[0].jitter_ms == pytest.approx(0.0, abs=0.01)


def test_senders_beyond_the_limit_are_refused_until_a_leg_ends() -> None:
    bench = Bench(max_legs=1)
    bench.send(range(2))
    bench.port = bench.another()
    assert bench.send(range(4), sender=MALLORY) == []
    assert bench.drops["refused"] == 3
    bench.legs.active = 0
    events = bench.send(range(4, 6), sender=MALLORY)
    assert kinds(events)[:2] == [CallStarted, LegStarted]


def test_while_calls_are_refused_those_that_are_up_go_on() -> None:
    bench = Bench()
    bench.send(range(2))
    bench.legs.refusal = Refusal.DRAINING
    assert kinds(bench.send(range(2, 4))) == [Audio, Audio]
    bench.port = bench.another()
    assert bench.send(range(4), sender=MALLORY) == []
    assert bench.drops["refused"] == 3
    bench.legs.refusal = None
    assert kinds(bench.send(range(4, 6), sender=MALLORY))[:2] == [CallStarted, LegStarted]


def sender_report(ssrc: int, about: int, lost_of_256: int = 64, jitter: int = 80) -> bytes:
    """A report of ``ssrc`` that receives ``about`` with a quarter of it lost."""
    info = struct.pack("!BBHIQIII", 0x81, 200, 12, ssrc, 0, 0, 50, 8_000)
    return info + struct.pack("!IIIIII", about, lost_of_256 << 24, 0, jitter, 0, 0)


def test_a_sender_that_reports_without_speaking_is_waited_for_like_announced_silence() -> None:
    bench = Bench(inactivity_s=5, silence_inactivity_s=30)
    bench.send(range(3))
    bench.port.control(sender_report(0xABCD, 1), (ALICE[0], 4_001), 4.0)
    assert LegEnded not in kinds(bench.port.tick(29.0))
    assert LegEnded in kinds(bench.port.tick(31.0))


def test_a_report_of_a_stranger_keeps_no_leg_alive() -> None:
    bench = Bench(inactivity_s=5, silence_inactivity_s=30)
    bench.send(range(3))
    bench.port.control(sender_report(0xABCD, 0xABCD), MALLORY, 4.0)
    ended = bench.port.tick(6.0)
    assert LegEnded in kinds(ended)
    assert [e.far_loss_pct for e in ended if isinstance(e, Quality)] == [None]


@pytest.mark.parametrize("muxed", [True, False])
def test_what_rtcp_says_of_the_leg_is_in_its_quality(muxed: bool) -> None:
    bench = Bench()
    bench.send(range(3))
    receive = bench.port.datagram if muxed else bench.port.control
    receive(sender_report(1, 0xABCD), (ALICE[0], 4_000 if muxed else 4_001), 0.06)
    (quality,) = [event for event in bench.port.tick(1.2) if isinstance(event, Quality)]
    assert (quality.far_loss_pct, quality.far_jitter_ms) == (25.0, 10.0)


@pytest.mark.parametrize(("payload_type", "reason"), [(96, "payload_type"), (101, "before_audio")])
def test_only_audio_opens_a_call(payload_type: int, reason: str) -> None:
    bench = Bench()
    assert bench.send(range(4), payload_type=payload_type) == []
    assert bench.drops == {reason: 4}


def test_many_senders_of_one_packet_each_take_no_memory_and_open_no_call() -> None:
    bench = Bench()
    for number in range(1_000):
        assert bench.send(range(1), sender=("192.0.2.7", number)) == []
    assert bench.drops["stray"] == 1_000 - 16
    assert bench.send(range(2))


@given(
    st.lists(
        st.tuples(
            st.binary(max_size=80),
            st.sampled_from([ALICE, MALLORY]),
            st.booleans(),
            st.booleans(),
        ),
        max_size=60,
    )
)
def test_random_bytes_never_raise_and_a_running_call_goes_on(
    datagrams: list[tuple[bytes, tuple[str, int], bool, bool]],
) -> None:
    bench = Bench()
    events = bench.send(range(2))
    for number, (tail, sender, looks_like_rtp, is_control) in enumerate(datagrams):
        data = b"\x80\x00" + tail if looks_like_rtp else tail
        receive = bench.port.control if is_control else bench.port.datagram
        events += receive(data, sender, 0.05)
        events += bench.port.tick(0.05)
        one = build_packet(packet(2 + number))
        events += bench.port.datagram(one, ALICE, 0.05)
    events += bench.port.tick(60.0)
    assert bench.legs.active == 0
    assert kinds(events)[-2:] == [LegEnded, CallEnded]
    played = sum(len(event.samples) for event in events if isinstance(event, Audio))
    assert played >= 160 * 2
