"""Write captures: pcap and pcapng files, and the frames in them. For tests, and for ``impair``.

The counterpart of ``streamguard/protocols/{pcap,packets}.py``; it shares no code with them.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ETHERNET, RAW, NULL, SLL, SLL2 = 1, 101, 0, 113, 276

Endpoint = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Captured:
    """A frame and when it was seen, in seconds since 1970."""

    time_s: float
    data: bytes


def write_pcap(
    path: Path,
    frames: Iterable[Captured],
    link_type: int = ETHERNET,
    *,
    order: Literal["<", ">"] = "<",
    nanoseconds: bool = False,
) -> None:
    """A file of :func:`pcap_bytes`."""
    data = pcap_bytes(frames, link_type, order=order, nanoseconds=nanoseconds)
    path.write_bytes(data)


def pcap_bytes(
    frames: Iterable[Captured],
    link_type: int = ETHERNET,
    *,
    order: Literal["<", ">"] = "<",
    nanoseconds: bool = False,
) -> bytes:
    """The classic format, in either byte order and resolution."""
    magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    out = bytearray(struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262_144, link_type))
    units_per_s = 1_000_000_000 if nanoseconds else 1_000_000
    for frame in frames:
        seconds, fraction = divmod(_units(frame.time_s, units_per_s), units_per_s)
        size = len(frame.data)
        out += struct.pack(order + "IIII", seconds, fraction, size, size) + frame.data
    return bytes(out)


def pcapng_bytes(
    frames: Iterable[Captured],
    link_type: int = ETHERNET,
    *,
    order: Literal["<", ">"] = "<",
    resolution: int = 6,
    simple: bool = False,
) -> bytes:
    """One section with one interface; ``resolution`` is the option if_tsresol."""

    def block(kind: int, body: bytes) -> bytes:
        body += b"\0" * (-len(body) % 4)
        size = struct.pack(order + "I", 12 + len(body))
        return struct.pack(order + "I", kind) + size + body + size

    units_per_s = 2 ** (resolution & 0x7F) if resolution & 0x80 else 10**resolution
    option = struct.pack(order + "HHB3x", 9, 1, resolution) + struct.pack(order + "HH", 0, 0)
    out = block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))
    out += block(1, struct.pack(order + "HHI", link_type, 0, 0) + option)
    for frame in frames:
        size = len(frame.data)
        if simple:
            out += block(3, struct.pack(order + "I", size) + frame.data)
            continue
        units = _units(frame.time_s, units_per_s)
        head = struct.pack(order + "IIIII", 0, units >> 32, units & 0xFFFF_FFFF, size, size)
        out += block(6, head + frame.data)
    return out


def udp(source: Endpoint, target: Endpoint, payload: bytes, identification: int = 0) -> bytes:
    """An IP packet, of the version that the addresses have, with a UDP datagram."""
    head = struct.pack("!HHHH", source[1], target[1], 8 + len(payload), 0)
    return ip(source[0], target[0], 17, head + payload, identification)


def tcp(
    source: Endpoint, target: Endpoint, sequence: int, payload: bytes, flags: int = 0x18
) -> bytes:
    """An IP packet with a TCP segment (flags: PSH and ACK)."""
    head = struct.pack(
        "!HHIIBBHHH", source[1], target[1], sequence & 0xFFFF_FFFF, 0, 5 << 4, flags, 65_535, 0, 0
    )
    return ip(source[0], target[0], 6, head + payload)


def ip(source: str, target: str, protocol: int, payload: bytes, identification: int = 0) -> bytes:
    """An IP packet; IPv4 has its header's checksum."""
    hosts = ipaddress.ip_address(source).packed + ipaddress.ip_address(target).packed
    if len(hosts) == 32:
        return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + hosts + payload
    return _ipv4_header(hosts, 20 + len(payload), identification, 0, protocol) + payload


def fragments(packet: bytes, size: int, identification: int) -> list[bytes]:
    """An IPv4 packet in parts of ``size`` payload bytes (a multiple of 8)."""
    payload, hosts, protocol = packet[20:], packet[12:20], packet[9]
    parts = []
    for start in range(0, len(payload), size):
        part = payload[start : start + size]
        more = 0x2000 if start + size < len(payload) else 0
        head = _ipv4_header(hosts, 20 + len(part), identification, more | start // 8, protocol)
        parts.append(head + part)
    return parts


def ethernet(packet: bytes, *tags: tuple[int, int]) -> bytes:
    """An Ethernet frame; ``tags`` are (ethertype, VLAN), outermost first. Padded to 60 bytes."""
    kind = 0x86DD if packet[0] >> 4 == 6 else 0x0800
    head = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01"
    head += b"".join(struct.pack("!HH", tag, number) for tag, number in tags)
    return (head + struct.pack("!H", kind) + packet).ljust(60, b"\0")


def sll(packet: bytes) -> bytes:
    """Linux cooked capture, version 1."""
    kind = 0x86DD if packet[0] >> 4 == 6 else 0x0800
    return struct.pack("!HHH8sH", 0, 1, 6, b"\x02\0\0\0\0\x01", kind) + packet


def sll2(packet: bytes) -> bytes:
    """Linux cooked capture, version 2."""
    kind = 0x86DD if packet[0] >> 4 == 6 else 0x0800
    return struct.pack("!HHIHBB8s", kind, 0, 1, 1, 0, 6, b"\x02\0\0\0\0\x01") + packet


def null(packet: bytes) -> bytes:
    """BSD loopback: the address family in the byte order of the machine."""
    return struct.pack("<I", 30 if packet[0] >> 4 == 6 else 2) + packet


def _units(time_s: float, units_per_s: int) -> int:
    """Nanoseconds since 1970 are more than a float holds."""
    seconds = int(time_s)
    return seconds * units_per_s + round((time_s - seconds) * units_per_s)


def _ipv4_header(hosts: bytes, size: int, identification: int, part: int, protocol: int) -> bytes:
    def header(checksum: int) -> bytes:
        fields = (0x45, 0, size, identification, part, 64, protocol, checksum)
        return struct.pack("!BBHHHBBH", *fields) + hosts

    total = sum(struct.unpack("!10H", header(0)))
    total = (total & 0xFFFF) + (total >> 16)
    return header(~((total & 0xFFFF) + (total >> 16)) & 0xFFFF)
