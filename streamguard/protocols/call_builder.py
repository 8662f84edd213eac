"""Calls out of captured frames: SIP and RTP that we overhear in, one event model out. Pure.

A flow of RTP that a call's SDP announces is a leg of that call, and its speaker is known. Other RTP
is found by what it looks like (RFC 3550 appendix A.1, with more packets), and makes a call of its
own together with the flow in the other direction. Time is that of the capture, in seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from streamguard.events import (
    Answered,
    CallEnded,
    CallStarted,
    EndReason,
    Hold,
    Identity,
    IdentityKind,
    LegEnded,
    LegStarted,
    LegUpdated,
    Resume,
    SourceEvent,
)
from streamguard.protocols.call_legs import BuiltCall, CallLeg, CallRules, Flow
from streamguard.protocols.captured import FrameReader, Overheard
from streamguard.protocols.jitter import MAX_MISORDER
from streamguard.protocols.packets import Datagram
from streamguard.protocols.pcap import Frame
from streamguard.protocols.rtcp import RtcpPacket
from streamguard.protocols.rtp import RtpPacket, parse
from streamguard.protocols.rtp_codecs import PayloadFormat
from streamguard.protocols.rtp_stream import PACKET_S, RtpStream
from streamguard.protocols.sip_calls import Change, ChangeKind, SipCalls, Speaker

MAX_CANDIDATES = 1_024
"""Flows that have shown something like RTP and wait to show more of it."""
CANDIDATE_S = 1.0
"""Packets further apart than this prove nothing together."""
ANNOUNCED_PACKETS = 2
"""Of a flow that a call announces: enough (RFC 3550 A.1, MIN_SEQUENTIAL)."""
AFTER_END_S = 2.0
"""Packets of a flow whose call has ended open no other, until it has been quiet for so long."""
TAKEOVER_S = 1.0
"""Another flow of the same speaker takes over when the leg has heard nothing for so long; until
then it is the same voice captured twice, before and behind a relay."""
QUALITY_S = 1.0

_Packets = list[tuple[RtpPacket, float]]
"""With their times of arrival."""


class CallBuilder:
    """Feed it frames in the order of their times, and let time pass with :meth:`tick`.

    ``drops`` counts, by reason, what came to nothing. ``started_utc`` is the hour of second 0.
    """

    def __init__(
        self,
        source: str,
        rules: CallRules,
        drops: Counter[str],
        new_id: Callable[[], str],
        started_utc: float | None = None,
    ) -> None:
        self._source = source
        self._rules = rules
        self._drops = drops
        self._new_id = new_id
        self._started_utc = started_utc
        self._reader = FrameReader(drops)
        self._sip = SipCalls(drops)
        self._legs: dict[Flow, CallLeg] = {}
        self._calls: dict[str, BuiltCall] = {}
        """Signalled calls that are up, by Call-ID."""
        self._candidates: dict[Flow, _Packets] = {}
        self._over: dict[Flow, tuple[int | None, float]] = {}
        """Flows of calls that have ended: whose stream that was (SSRC), and when it was last
        heard."""
        self.legs_started = 0
        self.draining = False
        """Whether calls that begin from now on are left out."""

    @property
    def legs_active(self) -> int:
        return len(self._legs)

    def frame(self, frame: Frame, now: float) -> list[SourceEvent]:
        """Take one frame of the capture."""
        content = self._reader.read(frame, now)
        if isinstance(content, Datagram):
            return self._rtp(content.payload, (content.source, content.target), now)
        events: list[SourceEvent] = []
        for overheard in content:
            events += self._signal(overheard, now)
        return events

    def _signal(self, overheard: Overheard, now: float) -> list[SourceEvent]:
        """Take one SIP message."""
        events: list[SourceEvent] = []
        for change in self._sip.message(overheard.message, overheard.host):
            call = self._calls.get(change.call_id)
            if call is not None:
                events += self._changed(call, change, now)
        return events

    def tick(self, now: float) -> list[SourceEvent]:
        """Let time pass; to be called a few times per packet time, packets or not."""
        events: list[SourceEvent] = []
        for leg in list(self._legs.values()):
            events += leg.stream.poll(now)
            if now - leg.last_quality_at >= QUALITY_S:
                leg.last_quality_at = now
                events.append(leg.quality())
        for call in {id(leg.call): leg.call for leg in self._legs.values()}.values():
            if all(leg.is_inactive(self._rules, now) for leg in call.legs):
                events += self._end(call, EndReason.INACTIVITY, now)
        return events

    def finish(self, now: float) -> list[SourceEvent]:
        """The capture is over, and with it every call."""
        events: list[SourceEvent] = []
        while self._legs:
            leg = next(iter(self._legs.values()))
            events += self._end(leg.call, EndReason.HANGUP, now)
        return events

    # Media.

    def _rtp(self, data: bytes, flow: Flow, now: float) -> list[SourceEvent]:
        packet = parse(data)
        if isinstance(packet, RtcpPacket):
            return self._control(packet, flow, now)
        if not isinstance(packet, RtpPacket):
            self._drops[packet.value] += 1
            return []
        leg = self._legs.get(flow)
        if leg is not None:
            leg.last_packet_at = now
            return leg.stream.receive(packet, now)
        return self._probe(packet, flow, now)

    def _probe(self, packet: RtpPacket, flow: Flow, now: float) -> list[SourceEvent]:
        """Packets of a flow that is no leg (yet)."""
        speaker = self._sip.speaker(*flow)
        if speaker is None and self._is_over(packet, flow, now):
            self._drops["after_end"] += 1
            return []
        formats = self._rules.formats if speaker is None else speaker.formats
        reason = self._refusal(packet, flow, speaker, formats, now)
        if reason is not None:
            self._drops[reason] += 1
            return []
        packets = self._candidates.pop(flow, [])
        if packets and not _agree(packets[-1], packet, now):
            self._drops["stray"] += len(packets)
            packets = []
        packets.append((packet, now))
        needed = self._rules.bare_packets if speaker is None else ANNOUNCED_PACKETS
        if len(packets) >= needed:
            return self._start(packets, flow, speaker, formats, now)
        self._candidates[flow] = packets
        if len(self._candidates) > MAX_CANDIDATES:
            self._drops["stray"] += len(self._candidates.pop(next(iter(self._candidates))))
        return []

    def _refusal(
        self,
        packet: RtpPacket,
        flow: Flow,
        speaker: Speaker | None,
        formats: Mapping[int, PayloadFormat],
        now: float,
    ) -> str | None:
        """Why a packet can't be the beginning of a leg."""
        if speaker is None and not self._rules.bare_packets:
            return "unannounced"
        if speaker is not None and speaker.encrypted:
            return "srtp"
        payload_format = formats.get(packet.payload_type)
        if payload_format is None:
            return "payload_type"
        if not payload_format.is_audio and flow not in self._candidates:
            return "before_audio"
        if speaker is not None:
            leg = self._leg_of(speaker)
            if leg is not None and not self._takes_over(speaker, leg, now):
                return "second_flow"
        return None

    def _takes_over(self, speaker: Speaker, leg: CallLeg, now: float) -> bool:
        """Whether another flow of a leg's speaker goes on where the leg's own one ended."""
        before = self._sip.speaker(*leg.flow)
        moved = speaker.current and before is not None and not before.current
        return moved or now - leg.last_packet_at >= TAKEOVER_S

    def _leg_of(self, speaker: Speaker) -> CallLeg | None:
        call = self._calls.get(speaker.call_id)
        if call is None:
            return None
        spoken = (leg for leg in call.legs if leg.speaks == (speaker.side, speaker.line))
        return next(spoken, None)

    def _is_over(self, packet: RtpPacket, flow: Flow, now: float) -> bool:
        ssrc, last_at = self._over.get(flow, (None, 0.0))
        if ssrc != packet.ssrc:
            return False  # a new sender, and perhaps stragglers of the old one between its packets
        del self._over[flow]
        if now - last_at >= AFTER_END_S:
            return False
        self._over[flow] = (ssrc, now)
        return True

    def _start(
        self,
        packets: _Packets,
        flow: Flow,
        speaker: Speaker | None,
        formats: Mapping[int, PayloadFormat],
        now: float,
    ) -> list[SourceEvent]:
        events: list[SourceEvent] = []
        leg = self._leg_of(speaker) if speaker is not None else None
        if leg is not None:
            del self._legs[leg.flow]
            leg.flow = flow
            leg.formats.update(formats)
            leg.last_packet_at = now
            self._legs[flow] = leg
        elif len(self._legs) >= self._rules.max_legs:
            self._drops["busy"] += len(packets)
            return []
        elif self.draining and self._call_of(flow, speaker) is None:
            self._drops["draining"] += len(packets)
            return []
        else:
            leg = self._new_leg(packets[0], flow, speaker, formats, now, events)
        for packet, arrived_at in packets:
            events += leg.stream.receive(packet, arrived_at)
        return events

    def _new_leg(
        self,
        first: tuple[RtpPacket, float],
        flow: Flow,
        speaker: Speaker | None,
        formats: Mapping[int, PayloadFormat],
        now: float,
        events: list[SourceEvent],
    ) -> CallLeg:
        packet, began_at = first
        call = self._call_of(flow, speaker)
        if call is None:
            call = BuiltCall(self._new_id(), None if speaker is None else speaker.call_id)
            if call.call_id is not None:
                self._calls[call.call_id] = call
            events.append(CallStarted(self._source, call.call, began_at))
        name = self._new_id()
        own_formats = dict(formats)
        announced = own_formats[packet.payload_type]
        leg = CallLeg(
            leg=name,
            call=call,
            flow=flow,
            stream=RtpStream(name, own_formats, self._drops, self._rules.depth_s, announced),
            formats=own_formats,
            role=self._rules.role if speaker is None else speaker.role,
            speaks=None if speaker is None else (speaker.side, speaker.line),
            last_packet_at=now,
            last_quality_at=now,
            held=speaker is not None and speaker.held,
            answered=speaker is None or speaker.answered,
        )
        self._legs[flow] = leg
        self.legs_started += 1
        utc = self._started_utc
        events.append(
            LegStarted(
                source=self._source,
                call=call.call,
                leg=name,
                role=leg.role,
                codec=announced.name,
                rate_hz=announced.rate_hz,
                received_at=began_at,
                index=call.begun,
                # What a packet holds was spoken before it was sent.
                started_utc=None if utc is None else utc + began_at - PACKET_S,
                identities=(
                    (Identity(IdentityKind.TRUNK, flow[0][0]),)
                    if speaker is None
                    else speaker.identities
                ),
                answered=leg.answered,
            )
        )
        call.legs.append(leg)
        call.begun += 1
        if leg.held:
            events.append(Hold(name))
        return leg

    def _call_of(self, flow: Flow, speaker: Speaker | None) -> BuiltCall | None:
        if speaker is not None:
            return self._calls.get(speaker.call_id)
        back = self._legs.get((flow[1], flow[0]))
        return back.call if back is not None and back.call.call_id is None else None

    def _control(self, packet: RtcpPacket, flow: Flow, now: float) -> list[SourceEvent]:
        """RTCP, on the port of its own above that of the media, or on the same (RFC 5761)."""
        (from_host, from_port), (to_host, to_port) = flow
        leg = self._legs.get(flow) or self._legs.get(
            ((from_host, from_port - 1), (to_host, to_port - 1))
        )
        if leg is None or leg.call.call_id is not None:
            return []  # of a signalled call SIP says when it is over
        if leg.stream.ssrc not in packet.leaving:
            return []
        return self._end_leg(leg, EndReason.HANGUP, now)

    # What signalling changes.

    def _changed(self, call: BuiltCall, change: Change, now: float) -> list[SourceEvent]:
        if change.kind is ChangeKind.ENDED:
            return self._end(call, EndReason.HANGUP, now)
        events: list[SourceEvent] = []
        for leg in call.legs:
            if change.kind is ChangeKind.DESCRIBED:
                events += self._described(leg)
            elif change.kind is ChangeKind.ANSWERED:
                if not leg.answered:
                    leg.answered = True
                    events.append(Answered(leg.leg))
            elif leg.speaks == (change.side, change.line):
                leg.held = change.kind is ChangeKind.HELD
                events.append(Hold(leg.leg) if leg.held else Resume(leg.leg))
        return events

    def _described(self, leg: CallLeg) -> list[SourceEvent]:
        speaker = self._sip.speaker(*leg.flow)
        if speaker is None or (speaker.side, speaker.line) != leg.speaks:
            return []
        leg.formats.update(speaker.formats)
        if speaker.role is leg.role:
            return []
        leg.role = speaker.role
        return [LegUpdated(leg.leg, leg.role)]

    def _end(self, call: BuiltCall, reason: EndReason, now: float) -> list[SourceEvent]:
        events: list[SourceEvent] = []
        for leg in list(call.legs):
            events += self._end_leg(leg, reason, now)
        return events

    def _end_leg(self, leg: CallLeg, reason: EndReason, now: float) -> list[SourceEvent]:
        """End a leg, and its call with the last one."""
        del self._legs[leg.flow]
        leg.call.legs.remove(leg)
        self._over[leg.flow] = (leg.stream.ssrc, now)
        if len(self._over) > MAX_CANDIDATES:
            del self._over[next(iter(self._over))]
        events = [*leg.stream.flush(), leg.quality(), LegEnded(leg.leg, reason, now)]
        if not leg.call.legs:
            if leg.call.call_id is not None:
                del self._calls[leg.call.call_id]
            events.append(CallEnded(leg.call.call, reason, now))
        return events


def _agree(last: tuple[RtpPacket, float], packet: RtpPacket, now: float) -> bool:
    """Whether two packets in a row are of one stream: in order or nearly so, and soon after."""
    before, at = last
    step = (packet.sequence - before.sequence + 0x8000 & 0xFFFF) - 0x8000
    return packet.ssrc == before.ssrc and 0 < abs(step) <= MAX_MISORDER and now - at <= CANDIDATE_S
