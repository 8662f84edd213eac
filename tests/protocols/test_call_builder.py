from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import count

import numpy as np
import pytest

from streamguard.events import (
    Answered,
    Audio,
    CallEnded,
    CallStarted,
    EndReason,
    Hold,
    IdentityKind,
    LegEnded,
    LegRole,
    LegStarted,
    Quality,
    Resume,
    SegmentStarted,
    SourceEvent,
)
from streamguard.protocols import call_builder
from streamguard.protocols.call_builder import CallBuilder
from streamguard.protocols.call_legs import CallRules
from streamguard.protocols.pcap import Frame
from streamguard.protocols.rtcp import build_bye
from streamguard.protocols.rtp_codecs import COMFORT_NOISE, DTMF, PCMA, PCMU
from tests.captures import START_UTC, in_order, rtp_packets, signal, sip_call, stream, tone
from tests.protocols.senders import samples_of
from tools.capture_writer import Captured, fragments, tcp, udp
from tools.sip_call import SipCall

CALL = SipCall()
TRUNK = IdentityKind.TRUNK
RULES = CallRules(
    formats={0: PCMU, 8: PCMA, 13: COMFORT_NOISE, 101: DTMF},
    role=LegRole.UNKNOWN,
    bare_packets=5,
    depth_s=0.06,
    inactivity_s=15.0,
    silence_inactivity_s=60.0,
    max_legs=8,
)
HERE, THERE = ("192.0.2.77", 4_000), ("192.0.2.78", 5_000)


class Listener:
    """A builder, what it said, and the time of the capture."""

    def __init__(self, rules: CallRules = RULES) -> None:
        ids = count()
        self.drops: Counter[str] = Counter()
        self.builder = CallBuilder(
            "tap", rules, self.drops, lambda: f"id{next(ids)}", started_utc=START_UTC
        )
        self.events: list[SourceEvent] = []

    def hear(self, frames: Sequence[Captured]) -> list[SourceEvent]:
        """Frames of raw IP; what they gave."""
        before = len(self.events)
        for one in frames:
            frame = Frame(round(one.time_s * 1e9), 101, one.data)
            self.events += self.builder.frame(frame, one.time_s - START_UTC)
        return self.events[before:]

    def of(self, kind: type) -> list[SourceEvent]:
        return [event for event in self.events if isinstance(event, kind)]

    def legs(self) -> list[LegStarted]:
        return [event for event in self.events if isinstance(event, LegStarted)]

    def heard(self, leg: str) -> np.ndarray:
        mine = [event for event in self.events if getattr(event, "leg", None) == leg]
        return samples_of(mine)


def test_a_signalled_call_has_two_legs_with_their_roles_and_ends_with_its_bye() -> None:
    listener = Listener()
    listener.hear(sip_call(tone(1.0), tone(1.0, 600.0)))
    started = [event for event in listener.events if isinstance(event, CallStarted)]
    assert len(started) == 1
    legs = listener.legs()
    assert [(leg.role, leg.index, leg.codec, leg.rate_hz) for leg in legs] == [
        (LegRole.CALLER, 0, "PCMU", 8_000),
        (LegRole.CALLEE, 1, "PCMU", 8_000),
    ]
    assert {leg.call for leg in legs} == {started[0].call}
    # The first packet came 0.1 s into the capture, with 20 ms that were spoken before.
    assert legs[0].started_utc == pytest.approx(START_UTC + 0.08, abs=1e-6)
    for leg, wanted in zip(legs, (tone(1.0), tone(1.0, 600.0)), strict=True):
        heard = listener.heard(leg.leg)
        assert len(heard) == 8_000
        assert np.corrcoef(heard, wanted)[0, 1] > 0.999
    assert [event.reason for event in listener.events if isinstance(event, LegEnded)] == [
        EndReason.HANGUP,
        EndReason.HANGUP,
    ]
    assert isinstance(listener.events[-1], CallEnded)
    assert listener.builder.legs_active == 0
    assert not +listener.drops


def test_ids_say_nothing_about_who_calls() -> None:
    listener = Listener()
    listener.hear(sip_call(tone(0.5), tone(0.5)))
    said = repr([event for event in listener.events if not isinstance(event, Audio)])
    assert all(leg.identities and leg.answered for leg in listener.legs())
    trunks = [one.value for leg in listener.legs() for one in leg.identities if one.kind is TRUNK]
    assert trunks == [CALL.caller[0]] * 2
    assert "example.com" not in said
    assert "192.0.2" not in said
    assert CALL.call_id not in said


def test_signalling_over_tcp_and_in_fragments_is_understood() -> None:
    call = CALL
    invite, answer = call.invite(), call.answer()
    sip = [
        Captured(START_UTC, tcp(call.caller, call.callee, 1, b"", flags=2)),
        Captured(START_UTC, tcp(call.caller, call.callee, 202, invite[200:])),
        Captured(START_UTC, tcp(call.caller, call.callee, 2, invite[:200])),
    ]
    # The first segment opens the stream, so what overtook it is sent again.
    sip.append(Captured(START_UTC, tcp(call.caller, call.callee, 202, invite[200:])))
    parts = fragments(udp(call.callee, call.caller, answer), 200, 9)
    sip += [Captured(START_UTC + 0.01, part) for part in reversed(parts)]
    listener = Listener()
    voice = rtp_packets(tone(0.2))
    listener.hear(sip + stream(voice, call.caller_media, call.callee_media, 0.1))
    assert [leg.role for leg in listener.legs()] == [LegRole.CALLER]


def test_early_media_is_a_leg_before_the_call_is_answered() -> None:
    listener = Listener()
    listener.hear(
        [
            signal(CALL.invite(), CALL, 0.0),
            signal(CALL.answer("183 Session Progress"), CALL, 0.05, to_caller=True),
            *stream(rtp_packets(tone(0.4)), CALL.callee_media, CALL.caller_media, 0.1),
            signal(CALL.refusal("486 Busy Here"), CALL, 0.6, to_caller=True),
        ]
    )
    assert [(leg.role, leg.answered) for leg in listener.legs()] == [(LegRole.CALLEE, False)]
    assert isinstance(listener.events[-1], CallEnded)


def test_the_answer_ends_early_media() -> None:
    listener = Listener()
    listener.hear(
        [
            signal(CALL.invite(), CALL, 0.0),
            signal(CALL.answer("183 Session Progress"), CALL, 0.05, to_caller=True),
            *stream(rtp_packets(tone(0.4)), CALL.callee_media, CALL.caller_media, 0.1),
            signal(CALL.answer(), CALL, 0.5, to_caller=True),
            signal(CALL.ack(), CALL, 0.5),
        ]
    )
    (leg,) = listener.legs()
    assert [event for event in listener.events if isinstance(event, Answered)] == [
        Answered(leg.leg)
    ]


def test_rtp_that_nobody_announced_is_a_call_of_a_pair_of_streams() -> None:
    listener = Listener()
    listener.hear(
        in_order(
            [
                *stream(rtp_packets(tone(1.0), ssrc=1), HERE, THERE),
                *stream(rtp_packets(tone(1.0), ssrc=2), THERE, HERE, 0.3),
                *stream(rtp_packets(tone(1.0), ssrc=3), HERE, ("192.0.2.99", 5_000)),
            ]
        )
    )
    legs = listener.legs()
    assert [leg.role for leg in legs] == [LegRole.UNKNOWN] * 3
    calls = [leg.call for leg in legs]
    assert len(set(calls)) == 2
    assert calls[0] == calls[2]  # in the order of starting: the two that begin at once, the answer
    assert [leg.index for leg in legs] == [0, 0, 1]
    hosts = [[one.value for one in leg.identities if one.kind is TRUNK] for leg in legs]
    assert hosts == [[HERE[0]], [HERE[0]], [THERE[0]]]
    # The packets by which it was found are heard too.
    assert all(len(listener.heard(leg.leg)) == 8_000 for leg in legs)


def test_a_sender_that_leaves_and_comes_back_as_another_is_a_new_call() -> None:
    """As after a collision of SSRCs (RFC 3550 section 8.2)."""
    listener = Listener()
    bye = udp((HERE[0], HERE[1] + 1), (THERE[0], THERE[1] + 1), build_bye(1))
    listener.hear(stream(rtp_packets(tone(0.4), ssrc=1), HERE, THERE))
    listener.hear([Captured(START_UTC + 0.4, bye)])
    late = rtp_packets(tone(0.04), ssrc=1, sequence=27, timestamp=3_299)
    listener.hear(stream(late, HERE, THERE, 0.4))
    listener.hear(stream(rtp_packets(tone(0.4), ssrc=2), HERE, THERE, 0.44))
    assert [len(listener.heard(leg.leg)) for leg in listener.legs()] == [3_200, 3_200]
    assert +listener.drops == {"after_end": 2}


@pytest.mark.parametrize(
    "change",
    [
        lambda index, data: data[:8] + index.to_bytes(4, "big") + data[12:],  # SSRC
        lambda index, data: data[:2] + (7_919 * index % 65_536).to_bytes(2, "big") + data[4:],
        lambda index, data: data[:1] + b"\x60" + data[2:],  # a payload type that we do not know
        lambda index, data: b"\x40" + data[1:],  # version 1
    ],
)
def test_what_only_looks_like_rtp_is_no_call(change: object) -> None:
    assert callable(change)
    frames = stream(rtp_packets(tone(1.0)), HERE, THERE)
    broken = [
        Captured(one.time_s, udp(HERE, THERE, change(index, one.data[28:])))
        for index, one in enumerate(frames)
    ]
    listener = Listener()
    assert listener.hear(broken) == []
    assert listener.drops.total() + RULES.bare_packets >= len(frames)


def test_unannounced_rtp_can_be_left_out() -> None:
    rules = CallRules(RULES.formats, RULES.role, 0, 0.06, 15.0, 60.0, 8)
    listener = Listener(rules)
    assert listener.hear(stream(rtp_packets(tone(0.2)), HERE, THERE)) == []
    assert listener.drops == {"unannounced": 10}


def test_a_voice_that_is_captured_twice_is_one_leg() -> None:
    listener = Listener()
    voice = rtp_packets(tone(1.0))
    relayed = stream(voice, ("192.0.2.50", 700), CALL.callee_media, 0.101)
    listener.hear(
        in_order([*sip_call(tone(1.0), tone(1.0)), *relayed, *stream(voice, HERE, THERE, 60.0)])
    )
    roles = Counter(leg.role for leg in listener.legs())
    assert roles == {LegRole.CALLER: 1, LegRole.CALLEE: 1, LegRole.UNKNOWN: 1}
    assert listener.drops["second_flow"] == 49  # the first came before there was a leg


def test_a_speaker_who_moves_to_another_address_stays_one_leg() -> None:
    listener = Listener()
    first, second = rtp_packets(tone(1.0)), rtp_packets(tone(1.0), ssrc=0x77)
    listener.hear(
        [
            signal(CALL.invite(), CALL, 0.0),
            signal(CALL.answer(), CALL, 0.05, to_caller=True),
            *stream(first, CALL.caller_media, CALL.callee_media, 0.1),
            *stream(second, ("203.0.113.5", 1_111), CALL.callee_media, 2.5),
        ]
    )
    (leg,) = listener.legs()
    assert [event.reason for event in listener.events if isinstance(event, SegmentStarted)] == [
        "ssrc"
    ]
    assert len(listener.heard(leg.leg)) > 16_000


def test_a_re_invite_moves_a_leg_to_its_new_address_at_once() -> None:
    listener = Listener()
    voice = rtp_packets(tone(2.0))
    moved = SipCall(callee_media=("192.0.2.2", 50_002))
    listener.hear(
        in_order(
            [
                signal(CALL.invite(), CALL, 0.0),
                signal(CALL.answer(), CALL, 0.05, to_caller=True),
                *stream(voice[:50], CALL.caller_media, CALL.callee_media, 0.1),
                signal(CALL.invite(cseq=2, again=True), CALL, 1.0),
                signal(moved.answer(cseq=2), CALL, 1.05, to_caller=True),
                *stream(voice[50:], CALL.caller_media, moved.callee_media, 1.1),
            ]
        )
    )
    (leg,) = listener.legs()
    assert len(listener.heard(leg.leg)) == 16_000
    assert not +listener.drops


def test_hold_and_resume_reach_the_leg_of_who_asked() -> None:
    listener = Listener()
    frames = sip_call(tone(3.0), tone(3.0))
    frames += [
        signal(CALL.invite(direction="sendonly", cseq=5, again=True), CALL, 1.0),
        signal(CALL.answer(cseq=5, direction="recvonly"), CALL, 1.05, to_caller=True),
        signal(CALL.invite(cseq=6, again=True), CALL, 2.0),
        signal(CALL.answer(cseq=6), CALL, 2.05, to_caller=True),
    ]
    listener.hear(in_order(frames))
    caller = next(leg.leg for leg in listener.legs() if leg.role is LegRole.CALLER)
    told = [event for event in listener.events if isinstance(event, Hold | Resume)]
    assert told == [Hold(caller), Resume(caller)]


def test_packets_that_a_bye_overtook_open_no_call_of_their_own() -> None:
    listener = Listener()
    listener.hear(sip_call(tone(1.0), tone(1.0)))
    legs = len(listener.legs())
    rest = stream(rtp_packets(tone(3.0), ssrc=0xA), CALL.caller_media, CALL.callee_media, 1.2)
    assert listener.hear(rest) == []
    assert len(listener.legs()) == legs
    assert listener.drops["after_end"] == 150
    # But the same ports may be used by another call at once.
    again = SipCall(call_id="another")
    assert listener.hear(sip_call(tone(0.5), tone(0.5), again, start_s=4.3))
    assert len(listener.legs()) == legs + 2


def test_a_call_that_falls_silent_is_closed_by_the_timer() -> None:
    listener = Listener()
    frames = [one for one in sip_call(tone(1.0), tone(2.0)) if b"BYE" not in one.data]
    listener.hear(frames)
    assert listener.builder.tick(10.0)  # its quality, at least
    assert listener.builder.legs_active == 2
    events = listener.builder.tick(20.0)
    ended = [event for event in events if isinstance(event, LegEnded | CallEnded)]
    assert [event.reason for event in ended] == [EndReason.INACTIVITY] * 3
    assert listener.builder.legs_active == 0
    assert listener.builder.tick(30.0) == []


def test_a_bye_of_rtcp_ends_a_leg_that_no_sip_announced_and_no_other() -> None:
    listener = Listener()
    listener.hear(stream(rtp_packets(tone(0.5), ssrc=1), HERE, THERE))
    goodbye = udp((HERE[0], HERE[1] + 1), (THERE[0], THERE[1] + 1), build_bye(1))
    listener.hear([Captured(START_UTC + 1, goodbye)])
    assert isinstance(listener.events[-1], CallEnded)
    listener = Listener()
    listener.hear([one for one in sip_call(tone(0.5), tone(0.5)) if b"BYE" not in one.data])
    ends = (CALL.caller_media, CALL.callee_media)
    listener.hear([Captured(START_UTC + 1, udp(*ends, build_bye(0xA)))])
    assert listener.builder.legs_active == 2


def test_the_end_of_the_capture_ends_every_call() -> None:
    listener = Listener()
    listener.hear(stream(rtp_packets(tone(0.5), ssrc=1), HERE, THERE))
    listener.hear([one for one in sip_call(tone(0.5), tone(0.5)) if b"BYE" not in one.data])
    events = listener.builder.finish(5.0)
    assert len([event for event in events if isinstance(event, CallEnded)]) == 2
    qualities = [event for event in events if isinstance(event, Quality)]
    assert [quality.loss_pct for quality in qualities] == [0.0] * 3


def test_legs_are_bounded_and_a_drain_begins_none() -> None:
    listener = Listener()
    for number in range(12):
        target = ("192.0.2.200", 10_000 + 2 * number)
        listener.hear(stream(rtp_packets(tone(0.2), ssrc=number), HERE, target, number))
    assert listener.builder.legs_active == RULES.max_legs
    assert listener.drops["busy"] > 0
    listener = Listener()
    listener.hear(stream(rtp_packets(tone(0.2), ssrc=1), HERE, THERE))
    listener.builder.draining = True
    listener.hear(stream(rtp_packets(tone(0.2), ssrc=2), THERE, HERE, 0.2))  # of a running call
    assert listener.builder.legs_active == 2
    listener.hear(stream(rtp_packets(tone(0.2), ssrc=3), HERE, ("192.0.2.99", 6_000), 0.4))
    assert listener.builder.legs_active == 2
    assert listener.drops["draining"] > 0


def test_flows_that_never_become_calls_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_builder, "MAX_CANDIDATES", 20)
    listener = Listener()
    (packet,) = rtp_packets(tone(0.02))
    for number in range(300):
        listener.hear(stream([packet], ("192.0.2.1", number + 1), THERE))
    assert listener.drops["stray"] == 280


def test_srtp_is_counted_not_decoded_as_noise() -> None:
    listener = Listener()
    invite = CALL.invite().replace(b"RTP/AVP", b"RTP/SAVP").replace(b"s=-", b"s=")
    answer = CALL.answer().replace(b"RTP/AVP", b"RTP/SAVP").replace(b"s=-", b"s=")
    listener.hear(
        [
            signal(invite, CALL, 0.0),
            signal(answer, CALL, 0.1, to_caller=True),
            *stream(rtp_packets(tone(0.5)), CALL.caller_media, CALL.callee_media, 0.2),
        ]
    )
    assert listener.legs() == []
    assert listener.drops == {"srtp": 25}
