"""RTP and telephone-event on the wire, and RTCP beside them: bytes in, a typed result out.

RFC 3550 (RTP, RTCP), RFC 5761 (both on one port), RFC 4733 (telephone-event). Nothing here keeps
state, does I/O, or raises for what a peer sent: a datagram that cannot be used is a ``Malformed``.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

from streamguard.protocols.rtcp import RTCP_TYPES, RtcpPacket, parse_rtcp

HEADER_BYTES = 12
MAX_PAYLOAD_BYTES = 5_760
"""60 ms of L16 at 48 kHz, in fragments; of everything else, an Ethernet frame holds no more."""

_VERSION_BITS = 0x80
_VERSION_MASK = 0xC0
_EVENT_BYTES = 4
_EVENT_NAMES = (*(str(digit) for digit in range(10)), "*", "#", "A", "B", "C", "D", "flash")

_RTP_HEADER = struct.Struct("!BBHII")
_EVENT = struct.Struct("!BBH")


class Malformed(enum.StrEnum):
    """Why a datagram is neither RTP nor RTCP that we can use."""

    SHORT = "short"
    VERSION = "version"
    """Not RTP at all: STUN, DTLS, noise."""
    CSRC = "csrc"
    EXTENSION = "extension"
    PADDING = "padding"
    OVERSIZED = "oversized"
    RTCP = "rtcp_malformed"


@dataclass(frozen=True, slots=True)
class RtpPacket:
    """One RTP packet; contributing sources and header extensions are checked and left out."""

    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes
    """Without padding; may be empty (keep-alive)."""


@dataclass(frozen=True, slots=True)
class TelephoneEvent:
    """The first event report of an RFC 4733 payload."""

    code: int
    end: bool
    volume_dbm0: int
    duration: int
    """Samples (timestamp units) since the packet's timestamp."""

    @property
    def name(self) -> str:
        """``dtmf-5``, ``dtmf-#``, ``event-32``."""
        known = self.code < len(_EVENT_NAMES)
        return f"dtmf-{_EVENT_NAMES[self.code]}" if known else f"event-{self.code}"


def parse(datagram: bytes) -> RtpPacket | RtcpPacket | Malformed:
    """Tell RTP from RTCP on one port and take either apart (RFC 3550 section 5.1, RFC 5761)."""
    if len(datagram) >= 2 and datagram[1] in RTCP_TYPES:
        return parse_rtcp(datagram) or Malformed.RTCP
    size = len(datagram)
    if size < HEADER_BYTES:
        return Malformed.SHORT
    first, second, sequence, timestamp, ssrc = _RTP_HEADER.unpack_from(datagram)
    if first & _VERSION_MASK != _VERSION_BITS:
        return Malformed.VERSION
    start = HEADER_BYTES + 4 * (first & 0x0F)
    if start > size:
        return Malformed.CSRC
    if first & 0x10:
        if start + 4 > size:
            return Malformed.EXTENSION
        words = int.from_bytes(datagram[start + 2 : start + 4], "big")
        start += 4 + 4 * words
        if start > size:
            return Malformed.EXTENSION
    stop = size
    if first & 0x20:
        padding = datagram[-1]
        stop -= padding
        if padding == 0 or stop < start:
            return Malformed.PADDING
    if stop - start > MAX_PAYLOAD_BYTES:
        return Malformed.OVERSIZED
    return RtpPacket(
        payload_type=second & 0x7F,
        marker=bool(second & 0x80),
        sequence=sequence,
        timestamp=timestamp,
        ssrc=ssrc,
        payload=datagram[start:stop],
    )


def parse_telephone_event(payload: bytes) -> TelephoneEvent | None:
    """RFC 4733 section 2.3; None where it is too short to be one."""
    if len(payload) < _EVENT_BYTES:
        return None
    code, flags, duration = _EVENT.unpack_from(payload)
    return TelephoneEvent(code, bool(flags & 0x80), -(flags & 0x3F), duration)


def build_packet(packet: RtpPacket) -> bytes:
    """The wire form, without contributing sources, extension or padding; counters wrap."""
    second = packet.payload_type | (0x80 if packet.marker else 0)
    header = _RTP_HEADER.pack(
        _VERSION_BITS,
        second,
        packet.sequence & 0xFFFF,
        packet.timestamp & 0xFFFF_FFFF,
        packet.ssrc & 0xFFFF_FFFF,
    )
    return header + packet.payload


def build_telephone_event(event: TelephoneEvent) -> bytes:
    """The payload of an event report."""
    flags = (0x80 if event.end else 0) | (-event.volume_dbm0 & 0x3F)
    return _EVENT.pack(event.code, flags, event.duration)
