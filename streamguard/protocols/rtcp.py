"""RTCP on the wire (RFC 3550 section 6): bytes in, what a listener acts on out.

Read are sender reports, receiver reports and BYE. SDES, APP, feedback (RFC 4585) and XR (RFC 3611)
are checked for their length and passed over: names of people are none of our business.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

RTCP_TYPES = range(192, 224)
"""The second byte of RTCP, never that of RTP (RFC 5761 section 4)."""
MAX_BYTES = 4_096
"""Of a compound packet: no one on an Ethernet is near it, and it bounds what is read of one."""

_VERSION_BITS = 0x80
_VERSION_MASK = 0xC0
_SENDER_REPORT = 200
_RECEIVER_REPORT = 201
_BYE = 203
_COMMON = struct.Struct("!BBH")
_SENDER_INFO_BYTES = 24
"""With the SSRC before it."""
_BLOCK = struct.Struct("!IIIIII")


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """How a receiver gets the stream of somebody (RFC 3550 section 6.4.1)."""

    ssrc: int
    """Whose stream it is."""
    fraction_lost: float
    """0 to 1, since its last report."""
    jitter: int
    """In units of the RTP clock of the stream."""


@dataclass(frozen=True, slots=True)
class RtcpPacket:
    """A compound RTCP packet, reduced to what a listener acts on."""

    leaving: tuple[int, ...] = ()
    """SSRCs of its BYE packets."""
    reporters: tuple[int, ...] = ()
    """SSRCs of its sender and receiver reports: they live, even where they send no media."""
    reports: tuple[ReportBlock, ...] = ()


def parse_rtcp(datagram: bytes) -> RtcpPacket | None:
    """Walk a compound packet; None where its lengths contradict each other or :data:`MAX_BYTES`.

    A packet on its own is taken, too, whatever its type: reduced-size RTCP (RFC 5506), and simple
    senders.
    """
    leaving: list[int] = []
    reporters: list[int] = []
    reports: list[ReportBlock] = []
    offset = 0
    if not 0 < len(datagram) <= MAX_BYTES:
        return None
    while offset < len(datagram):
        if offset + 4 > len(datagram):
            return None
        first, kind, words = _COMMON.unpack_from(datagram, offset)
        stop = offset + 4 + 4 * words
        if first & _VERSION_MASK != _VERSION_BITS or kind not in RTCP_TYPES:
            return None
        if stop > len(datagram):
            return None
        count = first & 0x1F
        body = offset + 4
        if kind in (_SENDER_REPORT, _RECEIVER_REPORT):
            info = _SENDER_INFO_BYTES if kind == _SENDER_REPORT else 4
            if body + info + count * _BLOCK.size > stop:
                return None
            (reporter,) = struct.unpack_from("!I", datagram, body)
            reporters.append(reporter)
            blocks = datagram[body + info : body + info + count * _BLOCK.size]
            reports += [
                ReportBlock(ssrc, (loss >> 24) / 256, jitter)
                for ssrc, loss, _, jitter, _, _ in _BLOCK.iter_unpack(blocks)
            ]
        elif kind == _BYE:
            if count > words:
                return None
            leaving.extend(struct.unpack_from(f"!{count}I", datagram, body))
        offset = stop
    return RtcpPacket(tuple(leaving), tuple(reporters), tuple(reports))


def build_bye(ssrc: int) -> bytes:
    """An empty receiver report and a BYE: the smallest legal compound packet."""
    report = struct.pack("!BBHI", _VERSION_BITS, _RECEIVER_REPORT, 1, ssrc)
    return report + struct.pack("!BBHI", _VERSION_BITS | 1, _BYE, 1, ssrc)
