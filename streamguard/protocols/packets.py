"""From a captured frame to UDP and TCP: link layers, VLAN tags, IPv4 and IPv6. Pure, stateless.

Checksums are not looked at: captures on the sending machine have none (offloading). A frame that
cannot be used is an ``Unusable``; nothing is raised for what it holds.
"""

from __future__ import annotations

import enum
import functools
import ipaddress
import struct
from dataclasses import dataclass

Endpoint = tuple[str, int]
"""Address in its canonical text form, port."""

ETHERNET, NULL, LOOP, SLL, SLL2 = 1, 0, 108, 113, 276
RAW = (12, 14, 101, 228, 229)
"""Link types of frames that begin with their IP header."""

MAX_TAGS = 4
MAX_EXTENSION_HEADERS = 8

_IPV4, _IPV6 = 0x0800, 0x86DD
_VLAN = frozenset({0x8100, 0x88A8, 0x9100})  # 802.1Q, 802.1ad (QinQ), and its forerunner
_TCP, _UDP = 6, 17
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION = 0, 43, 44, 51, 60


class Unusable(enum.StrEnum):
    """Why a frame is left out."""

    LINK_TYPE = "link_type"
    NOT_IP = "not_ip"
    SHORT = "frame_short"
    IP_HEADER = "ip_header"
    CUT = "frame_cut"
    """The capture kept less than the packet had (its snap length)."""
    TRANSPORT = "transport"
    """Neither UDP nor TCP."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """Which part of a datagram an IP packet carries."""

    identification: int
    offset: int
    """Bytes."""
    more: bool


@dataclass(frozen=True, slots=True)
class IpPacket:
    """One IP packet, without its headers and padding."""

    source: str
    target: str
    protocol: int
    payload: bytes
    fragment: Fragment | None = None


@dataclass(frozen=True, slots=True)
class Datagram:
    """What UDP carried."""

    source: Endpoint
    target: Endpoint
    payload: bytes


@dataclass(frozen=True, slots=True)
class Segment:
    """What one packet of a TCP connection carried, in one direction."""

    source: Endpoint
    target: Endpoint
    sequence: int
    syn: bool
    ends: bool
    """FIN or RST."""
    payload: bytes


def parse_frame(link_type: int, data: bytes) -> IpPacket | Unusable:
    """Peel off the link layer and the IP header."""
    match link_type:
        case _ if link_type == ETHERNET:
            return _by_ethertype(data, 12)
        case _ if link_type in RAW:
            return _parse_ip(data)
        case _ if link_type in (NULL, LOOP):
            # The address family's number depends on the system; the IP version does not.
            return _parse_ip(data[4:])
        case _ if link_type == SLL:
            return _by_ethertype(data, 14)
        case _ if link_type == SLL2:
            if len(data) < 20:
                return Unusable.SHORT
            # The type comes first; a VLAN tag, where there is one, behind the header.
            return _by_ethertype(data[:2] + data[20:], 0)
        case _:
            return Unusable.LINK_TYPE


def parse_transport(packet: IpPacket) -> Datagram | Segment | Unusable:
    """Take a whole (reassembled) IP packet apart."""
    data = packet.payload
    if packet.protocol == _UDP:
        if len(data) < 8:
            return Unusable.SHORT
        source, target, size = struct.unpack_from("!HHH", data)
        if size == 0:
            size = len(data)  # a jumbogram, or a capture before the length was filled in
        if not 8 <= size <= len(data):
            return Unusable.CUT
        return Datagram((packet.source, source), (packet.target, target), data[8:size])
    if packet.protocol == _TCP:
        if len(data) < 20:
            return Unusable.SHORT
        source, target, sequence, _, offset, flags = struct.unpack_from("!HHIIBB", data)
        start = 4 * (offset >> 4)
        if not 20 <= start <= len(data):
            return Unusable.SHORT
        return Segment(
            source=(packet.source, source),
            target=(packet.target, target),
            sequence=sequence,
            syn=bool(flags & 0x02),
            ends=bool(flags & 0x05),
            payload=data[start:],
        )
    return Unusable.TRANSPORT


@functools.lru_cache(maxsize=4096)
def address_text(packed: bytes) -> str:
    """4 or 16 bytes in canonical text; IPv4 mapped into IPv6 is IPv4."""
    address = ipaddress.ip_address(packed)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def _by_ethertype(data: bytes, at: int) -> IpPacket | Unusable:
    for _ in range(MAX_TAGS + 1):
        if at + 2 > len(data):
            return Unusable.SHORT
        kind = int.from_bytes(data[at : at + 2], "big")
        if kind in (_IPV4, _IPV6):
            return _parse_ip(data[at + 2 :])
        if kind not in _VLAN:
            return Unusable.NOT_IP
        at += 4
    return Unusable.NOT_IP


def _parse_ip(data: bytes) -> IpPacket | Unusable:
    version = data[0] >> 4 if data else 0
    if version == 4:
        return _parse_ipv4(data)
    if version == 6:
        return _parse_ipv6(data)
    return Unusable.NOT_IP if data else Unusable.SHORT


def _parse_ipv4(data: bytes) -> IpPacket | Unusable:
    if len(data) < 20:
        return Unusable.SHORT
    first, _, size, identification, part, _, protocol = struct.unpack_from("!BBHHHBB", data)
    start = 4 * (first & 0x0F)
    # 0: the capture was made before the network card cut a large packet into pieces.
    stop = size or len(data)
    if start < 20 or stop < start:
        return Unusable.IP_HEADER
    if stop > len(data):
        return Unusable.CUT
    more, offset = bool(part & 0x2000), 8 * (part & 0x1FFF)
    return IpPacket(
        source=address_text(data[12:16]),
        target=address_text(data[16:20]),
        protocol=protocol,
        payload=data[start:stop],
        fragment=Fragment(identification, offset, more) if more or offset else None,
    )


def _parse_ipv6(data: bytes) -> IpPacket | Unusable:
    if len(data) < 40:
        return Unusable.SHORT
    size, protocol = struct.unpack_from("!HB", data, 4)
    stop = 40 + size if size else len(data)
    if stop > len(data):
        return Unusable.CUT
    at = 40
    fragment: Fragment | None = None
    for _ in range(MAX_EXTENSION_HEADERS):
        if protocol not in (_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION):
            break
        if at + 8 > stop:
            return Unusable.IP_HEADER
        following, length = data[at], data[at + 1]
        if protocol == _FRAGMENT:
            part, identification = struct.unpack_from("!HI", data, at + 2)
            more, offset = bool(part & 1), part & 0xFFF8
            fragment = Fragment(identification, offset, more) if more or offset else None
            at += 8
        else:
            at += 4 * (length + 2) if protocol == _AUTHENTICATION else 8 * (length + 1)
        is_later_part = fragment is not None and fragment.offset > 0
        protocol = following
        if is_later_part:
            break  # what follows is the middle of the datagram, not a header
    if at > stop:
        return Unusable.IP_HEADER
    return IpPacket(
        source=address_text(data[8:24]),
        target=address_text(data[24:40]),
        protocol=protocol,
        payload=data[at:stop],
        fragment=fragment,
    )
