"""What captured frames carry of calls: SIP messages, over UDP and TCP, and datagrams of media."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from streamguard.errors import ProtocolError
from streamguard.protocols.ip_fragments import FragmentAssembler
from streamguard.protocols.packets import Datagram, Unusable, parse_frame, parse_transport
from streamguard.protocols.pcap import Frame
from streamguard.protocols.sip_message import SipMessage, parse_message
from streamguard.protocols.tcp_stream import SipConnections, looks_like_sip

_RTP_BITS = 0x80
_RTP_MASK = 0xC0
"""The version of RTP and RTCP, which no text begins with (RFC 3550 section 5.1)."""


@dataclass(frozen=True, slots=True)
class Overheard:
    """A message of signalling, and the address that it came from."""

    host: str
    message: SipMessage


class FrameReader:
    """Frames in the order of the capture; ``drops`` counts, by reason, what came to nothing."""

    def __init__(self, drops: Counter[str]) -> None:
        self._drops = drops
        self._fragments = FragmentAssembler(drops)
        self._connections = SipConnections(drops)

    def read(self, frame: Frame, now: float) -> list[Overheard] | Datagram:
        """Messages of signalling that are complete with this frame, or a datagram of media."""
        packet = parse_frame(frame.link_type, frame.data)
        if isinstance(packet, Unusable):
            self._drops[packet.value] += 1
            return []
        whole = self._fragments.push(packet, now)
        if whole is None:
            return []
        content = parse_transport(whole)
        match content:
            case Unusable():
                self._drops[content.value] += 1
                return []
            case Datagram():
                return self._datagram(content)
            case _:
                host = content.source[0]
                return [Overheard(host, one) for one in self._connections.push(content)]

    def _datagram(self, datagram: Datagram) -> list[Overheard] | Datagram:
        data = datagram.payload
        if data and data[0] & _RTP_MASK == _RTP_BITS:
            return datagram
        if not looks_like_sip(data):
            self._drops["other"] += 1
            return []
        try:
            return [Overheard(datagram.source[0], parse_message(data))]
        except ProtocolError as err:
            self._drops[f"sip_{err.reason}"] += 1
            return []
