"""One RTP port: who may speak on it, and where a call begins and ends. No I/O, no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from streamguard.events import (
    CallEnded,
    CallStarted,
    EndReason,
    Identity,
    IdentityKind,
    LegEnded,
    LegStarted,
    Quality,
    SourceEvent,
)
from streamguard.protocols.jitter import follows
from streamguard.protocols.rtcp import ReportBlock, RtcpPacket, parse_rtcp
from streamguard.protocols.rtp import Malformed, RtpPacket, parse
from streamguard.protocols.rtp_stream import RtpStream
from streamguard.protocols.srtp import SrtpReceiver
from streamguard.sources.base import Refusal, new_id
from streamguard.sources.rtp_socket import Address
from streamguard.sources.settings import RtpSettings, SourceLock

MAX_CANDIDATES = 16
"""Senders per port that have shown one packet and wait to show a second."""
CANDIDATE_S = 1.0
"""A first packet older than this proves nothing any more."""
AFTER_BYE_S = 2.0
"""How long packets that a BYE overtook are kept from opening a call of their own."""
QUALITY_S = 1.0


@dataclass(slots=True)
class LegCount:
    """Legs of all ports of a source, against their limit."""

    limit: int
    active: int = 0
    started: int = 0
    refusal: Refusal | None = None
    """Why no leg may begin, whatever the limit."""

    @property
    def is_full(self) -> bool:
        return self.refusal is not None or self.active >= self.limit


@dataclass(slots=True)
class _Leg:
    """The call that is up on the port."""

    call: str
    leg: str
    sender: Address
    stream: RtpStream
    last_packet_at: float
    last_quality_at: float
    reported_at: float = 0.0
    """Last RTCP report of the sender: it lives, though it may have nothing to say."""
    far_end: ReportBlock | None = None
    """The last that a receiver said of the stream."""


class RtpPort:
    """Datagrams of one port in, events out.

    A call begins with two consecutive audio packets of one sender (so noise opens none) and ends
    with that stream's BYE or when nothing comes any more. Until then, others are dropped: whoever
    can reach the port could else put words into the call.
    """

    def __init__(
        self,
        source: str,
        settings: RtpSettings,
        legs: LegCount,
        drops: Counter[str],
        is_allowed: Callable[[str], bool],
        make_opener: Callable[[], SrtpReceiver] | None = None,
    ) -> None:
        self._source = source
        self._settings = settings
        self._legs = legs
        self._drops = drops
        self._is_allowed = is_allowed
        self._make_opener = make_opener
        self._opener = make_opener() if make_opener is not None else None
        self._leg: _Leg | None = None
        self._candidates: dict[Address, tuple[RtpPacket, float]] = {}
        self._left: tuple[str, int, float] | None = None
        """Host and SSRC of the last BYE, and until when it is remembered."""

    def datagram(self, data: bytes, sender: Address, now: float) -> list[SourceEvent]:
        """Take what came to the port itself: RTP, or RTCP beside it (RFC 5761)."""
        if not self._is_allowed(sender[0]):
            self._drops["not_allowed"] += 1
            return []
        opened = self._open(data)
        if opened is None:
            return []
        packet = parse(opened)
        if isinstance(packet, RtpPacket):
            return self._media(packet, sender, now)
        return self._control(packet, sender, now)

    def control(self, data: bytes, sender: Address, now: float) -> list[SourceEvent]:
        """Take what came to the port above: RTCP only."""
        if not self._is_allowed(sender[0]):
            self._drops["not_allowed"] += 1
            return []
        opened = self._open(data)
        if opened is None:
            return []
        return self._control(parse_rtcp(opened) or Malformed.RTCP, sender, now)

    def tick(self, now: float) -> list[SourceEvent]:
        """Let time pass; to be called a few times per packet time, packets or not."""
        leg = self._leg
        if leg is None:
            return []
        settings = self._settings
        at_rest = leg.stream.silent or leg.reported_at > leg.last_packet_at
        patience_s = settings.silence_inactivity_s if at_rest else settings.inactivity_s
        if now - leg.last_packet_at >= patience_s:
            return self._end(leg, EndReason.INACTIVITY, now)
        events = leg.stream.poll(now)
        if now - leg.last_quality_at >= QUALITY_S:
            leg.last_quality_at = now
            events.append(_quality(leg))
        return events

    def _open(self, data: bytes) -> bytes | None:
        """What is in a datagram; None where it is not signed by the key of the source."""
        if self._opener is None:
            return data
        opened = self._opener.open(data)
        if opened is None:
            self._drops["srtp"] += 1
        return opened

    def _media(self, packet: RtpPacket, sender: Address, now: float) -> list[SourceEvent]:
        leg = self._leg
        if leg is None:
            return self._probe(packet, sender, now)
        if not self._is_locked_to(leg, sender):
            self._drops["locked_out"] += 1
            return []
        leg.last_packet_at = now
        return leg.stream.receive(packet, now)

    def _is_locked_to(self, leg: _Leg, sender: Address) -> bool:
        match self._settings.lock:
            case SourceLock.ADDRESS_PORT:
                return sender == leg.sender
            case SourceLock.ADDRESS:
                return sender[0] == leg.sender[0]
            case SourceLock.NONE:
                return True

    def _probe(self, packet: RtpPacket, sender: Address, now: float) -> list[SourceEvent]:
        payload_format = self._settings.payload_types.get(packet.payload_type)
        if payload_format is None or not payload_format.is_audio:
            self._drops["payload_type" if payload_format is None else "before_audio"] += 1
            return []
        if self._left is not None and now < self._left[2]:
            if self._left[:2] == (sender[0], packet.ssrc):
                self._drops["after_bye"] += 1
                return []
        first = self._candidates.pop(sender, None)
        self._candidates[sender] = (packet, now)
        if first is None or now - first[1] > CANDIDATE_S or not follows(first[0], packet):
            if first is not None:
                self._drops["stray"] += 1
            if len(self._candidates) > MAX_CANDIDATES:
                del self._candidates[next(iter(self._candidates))]
                self._drops["stray"] += 1
            return []
        if self._legs.is_full:
            # RTP has no word for "busy": nobody hears the sender, and he is told by nobody.
            self._drops["refused"] += 1
            return []
        return self._start(first, packet, sender, now)

    def _start(
        self, first: tuple[RtpPacket, float], second: RtpPacket, sender: Address, now: float
    ) -> list[SourceEvent]:
        settings = self._settings
        call, leg = new_id(), new_id()
        packet, began_at = first
        announced = settings.payload_types[packet.payload_type]
        stream = RtpStream(
            leg, settings.payload_types, self._drops, settings.jitter_ms / 1000, announced
        )
        self._leg = _Leg(call, leg, sender, stream, last_packet_at=now, last_quality_at=now)
        self._candidates.clear()
        self._legs.active += 1
        self._legs.started += 1
        return [
            CallStarted(self._source, call, began_at),
            LegStarted(
                self._source,
                call,
                leg,
                settings.role,
                announced.name,
                announced.rate_hz,
                received_at=began_at,
                identities=(Identity(IdentityKind.TRUNK, sender[0]),),
            ),
            *stream.receive(packet, began_at),
            *stream.receive(second, now),
        ]

    def _control(
        self, packet: RtcpPacket | Malformed, sender: Address, now: float
    ) -> list[SourceEvent]:
        if isinstance(packet, Malformed):
            self._drops[packet.value] += 1
            return []
        leg = self._leg
        if leg is None:
            return []
        # RTCP has a port of its own: only the host can be that of the lock.
        locked_out = self._settings.lock is not SourceLock.NONE and sender[0] != leg.sender[0]
        if not locked_out:
            if leg.stream.ssrc in packet.reporters:
                leg.reported_at = now
            for block in packet.reports:
                if block.ssrc == leg.stream.ssrc:
                    leg.far_end = block
        if not packet.leaving:
            return []
        if locked_out or leg.stream.ssrc not in packet.leaving:
            self._drops["bye_of_others"] += 1
            return []
        self._left = (sender[0], leg.stream.ssrc, now + AFTER_BYE_S)
        return self._end(leg, EndReason.HANGUP, now)

    def _end(self, leg: _Leg, reason: EndReason, now: float) -> list[SourceEvent]:
        self._leg = None
        self._legs.active -= 1
        if self._make_opener is not None:
            # The next call counts its packets from the beginning, perhaps under the same SSRC.
            self._opener = self._make_opener()
        return [
            *leg.stream.flush(),
            _quality(leg),
            LegEnded(leg.leg, reason, now),
            CallEnded(leg.call, reason, now),
        ]


def _quality(leg: _Leg) -> Quality:
    reception, far_end = leg.stream.reception, leg.far_end
    return Quality(
        leg.leg,
        reception.loss_pct,
        1000 * reception.jitter_s,
        far_loss_pct=100 * far_end.fraction_lost if far_end else None,
        far_jitter_ms=1000 * far_end.jitter / leg.stream.clock_hz if far_end else None,
    )
