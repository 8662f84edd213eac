from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamguard.protocols import packets
from streamguard.protocols.packets import (
    Datagram,
    Fragment,
    IpPacket,
    Segment,
    Unusable,
    parse_frame,
    parse_transport,
)
from tools import capture_writer as writer

HERE, THERE = ("192.0.2.1", 4_000), ("198.51.100.7", 40_000)
HERE_6, THERE_6 = ("2001:db8::1", 4_000), ("2001:db8::2", 40_000)
PACKET = writer.udp(HERE, THERE, b"hello")
PACKET_6 = writer.udp(HERE_6, THERE_6, b"hello")


def content(link_type: int, frame: bytes) -> Datagram | Segment | Unusable:
    packet = parse_frame(link_type, frame)
    return packet if isinstance(packet, Unusable) else parse_transport(packet)


@pytest.mark.parametrize(
    ("link_type", "wrap"),
    [
        (1, writer.ethernet),
        (1, lambda packet: writer.ethernet(packet, (0x8100, 100))),
        (1, lambda packet: writer.ethernet(packet, (0x88A8, 7), (0x8100, 100))),
        (0, writer.null),
        (108, writer.null),
        (101, bytes),
        (12, bytes),
        (14, bytes),
        (113, writer.sll),
        (276, writer.sll2),
    ],
)
def test_every_link_layer_is_peeled_off(link_type: int, wrap: Callable[[bytes], bytes]) -> None:
    assert content(link_type, wrap(PACKET)) == Datagram(HERE, THERE, b"hello")
    assert content(link_type, wrap(PACKET_6)) == Datagram(HERE_6, THERE_6, b"hello")


def test_a_vlan_tag_behind_a_cooked_header_is_peeled_off_too() -> None:
    tag = b"\0\x64\x08\x00"
    tagged = writer.sll(PACKET)[:14] + b"\x81\0" + tag + PACKET
    assert content(113, tagged) == Datagram(HERE, THERE, b"hello")
    tagged_2 = b"\x81\0" + writer.sll2(PACKET)[2:20] + tag + PACKET
    assert content(276, tagged_2) == Datagram(HERE, THERE, b"hello")


def test_padding_of_short_frames_is_no_payload() -> None:
    frame = writer.ethernet(writer.udp(HERE, THERE, b"x"))
    assert len(frame) == 60
    assert content(1, frame) == Datagram(HERE, THERE, b"x")


def test_tcp_is_taken_apart() -> None:
    found = content(101, writer.tcp(HERE, THERE, 17, b"data", flags=0x02 | 0x01))
    assert found == Segment(HERE, THERE, 17, syn=True, ends=True, payload=b"data")


def test_ipv4_mapped_addresses_are_ipv4() -> None:
    mapped = writer.udp(("::ffff:192.0.2.1", 1), ("2001:db8::2", 2), b"")
    assert content(101, mapped) == Datagram(("192.0.2.1", 1), ("2001:db8::2", 2), b"")


def test_extension_headers_of_ipv6_are_passed_over() -> None:
    udp = PACKET_6[40:]
    options = b"\x3c\0" + bytes(6) + b"\x11\0" + bytes(6)  # hop by hop, then destination options
    packet = PACKET_6[:4] + bytes([0, len(options + udp), 0, 64]) + PACKET_6[8:40] + options + udp
    assert content(101, packet) == Datagram(HERE_6, THERE_6, b"hello")


def test_parts_say_where_they_belong() -> None:
    first, second = writer.fragments(writer.udp(HERE, THERE, bytes(20)), 16, 77)
    for frame, part in ((first, Fragment(77, 0, more=True)), (second, Fragment(77, 16, False))):
        packet = parse_frame(101, frame)
        assert isinstance(packet, IpPacket)
        assert packet.fragment == part
    header = b"\x11\0" + (8 << 0 | 1).to_bytes(2, "big") + (77).to_bytes(4, "big")
    packet_6 = PACKET_6[:4] + bytes([0, 8 + 13, 44, 64]) + PACKET_6[8:40] + header + PACKET_6[40:]
    whole = parse_frame(101, packet_6)
    assert isinstance(whole, IpPacket)
    assert whole.fragment == Fragment(77, 8, more=True)
    assert whole.protocol == 17


@pytest.mark.parametrize(
    ("link_type", "frame", "reason"),
    [
        (147, PACKET, Unusable.LINK_TYPE),
        (1, b"\0" * 12, Unusable.SHORT),
        (1, b"\0" * 12 + b"\x08\x06" + bytes(28), Unusable.NOT_IP),  # ARP
        (1, b"\0" * 12 + b"\x81\x00\0\x01" * 5 + b"\x08\0" + PACKET, Unusable.NOT_IP),
        (101, b"", Unusable.SHORT),
        (101, b"\x45", Unusable.SHORT),
        (101, b"\x95" + PACKET[1:], Unusable.NOT_IP),
        (101, b"\x41" + PACKET[1:], Unusable.IP_HEADER),
        (101, PACKET[:-1], Unusable.CUT),
        (101, PACKET_6[:-1], Unusable.CUT),
        (101, PACKET_6[:39], Unusable.SHORT),
        (101, writer.ip("192.0.2.1", "192.0.2.2", 1, bytes(8)), Unusable.TRANSPORT),
        (101, writer.ip("192.0.2.1", "192.0.2.2", 17, bytes(7)), Unusable.SHORT),
        (101, writer.ip("192.0.2.1", "192.0.2.2", 6, bytes(20)), Unusable.SHORT),
    ],
)
def test_what_cannot_be_used_says_why(link_type: int, frame: bytes, reason: Unusable) -> None:
    assert content(link_type, frame) is reason


@settings(max_examples=100)
@given(
    st.sampled_from([0, 1, 12, 14, 101, 108, 113, 147, 228, 276]),
    st.binary(max_size=120),
    st.sampled_from([b"", PACKET, PACKET_6, writer.ethernet(PACKET), writer.sll(PACKET)]),
    st.integers(0, 120),
)
def test_no_bytes_raise(link_type: int, noise: bytes, frame: bytes, at: int) -> None:
    for data in (noise, frame[:at] + noise + frame[at + len(noise) :], frame[:at]):
        assert isinstance(content(link_type, data), Datagram | Segment | Unusable)
    assert packets.address_text.cache_info().currsize <= 4_096
