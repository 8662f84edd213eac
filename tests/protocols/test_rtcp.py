"""RTCP byte by byte, and as somebody else's library writes it down."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamguard.protocols.rtcp import (
    MAX_BYTES,
    ReportBlock,
    RtcpPacket,
    build_bye,
    parse_rtcp,
)

BLOCK = struct.pack("!IIIIII", 0xCAFE, 0x40_00_00_07, 12_345, 88, 0, 0)
"""A quarter lost since the last report, 7 in all, jitter 88."""


def sender_report(ssrc: int, blocks: bytes = b"", *, packets: int = 50) -> bytes:
    count = len(blocks) // 24
    info = struct.pack("!IQIII", ssrc, 0, 8_000, packets, 160 * packets)
    return struct.pack("!BBH", 0x80 | count, 200, 6 + 6 * count) + info + blocks


def receiver_report(ssrc: int, blocks: bytes = b"") -> bytes:
    count = len(blocks) // 24
    return struct.pack("!BBHI", 0x80 | count, 201, 1 + 6 * count, ssrc) + blocks


def source_description(ssrc: int) -> bytes:
    chunk = struct.pack("!I", ssrc) + b"\x01\x06a@b.cd\x00\x00\x00\x00"
    return struct.pack("!BBH", 0x81, 202, len(chunk) // 4) + chunk


def test_a_sender_report_names_who_lives_and_how_others_are_received() -> None:
    packet = parse_rtcp(sender_report(7, BLOCK) + source_description(7))
    assert packet == RtcpPacket(reporters=(7,), reports=(ReportBlock(0xCAFE, 0.25, 88),))


def test_a_receiver_report_has_blocks_of_several_streams() -> None:
    other = struct.pack("!IIIIII", 2, 0, 0, 3, 0, 0)
    packet = parse_rtcp(receiver_report(9, BLOCK + other))
    assert packet is not None
    assert [block.ssrc for block in packet.reports] == [0xCAFE, 2]


def test_profile_extensions_behind_the_blocks_are_passed_over() -> None:
    extended = struct.pack("!BBHI", 0x81, 201, 9, 9) + BLOCK + bytes(8)
    packet = parse_rtcp(extended)
    assert packet is not None
    assert len(packet.reports) == 1


@pytest.mark.parametrize("kind", [202, 204, 205, 206, 207])
def test_other_kinds_are_passed_over(kind: int) -> None:
    other = struct.pack("!BBHI", 0x81, kind, 1, 5)
    assert parse_rtcp(receiver_report(9) + other) == RtcpPacket(reporters=(9,))


def test_a_bye_anywhere_in_a_compound_packet_names_who_leaves() -> None:
    assert parse_rtcp(build_bye(0xCAFE)) == RtcpPacket(leaving=(0xCAFE,), reporters=(0xCAFE,))
    two = struct.pack("!BBHII", 0x82, 203, 3, 1, 2) + b"\x03bye"
    assert parse_rtcp(two) == RtcpPacket(leaving=(1, 2))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\xcb",
        struct.pack("!BBH", 0x81, 203, 1),
        struct.pack("!BBH", 0x9F, 203, 0),
        struct.pack("!BBHI", 0x40, 203, 1, 9),
        struct.pack("!BBHI", 0x80, 100, 1, 9),
        struct.pack("!BBHI", 0x81, 201, 1, 9),
        struct.pack("!BBH", 0x80, 201, 0),
        sender_report(1)[:-4],
        sender_report(1, BLOCK)[:4] + bytes(24),
        build_bye(1) + b"\x80",
        receiver_report(1) * (MAX_BYTES // 8 + 1),
    ],
)
def test_what_contradicts_itself_is_refused(data: bytes) -> None:
    assert parse_rtcp(data) is None


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.builds(sender_report, st.integers(0, 0xFFFF_FFFF)),
            st.builds(
                lambda first, kind, body: struct.pack("!BBH", first, kind, len(body) // 4) + body,
                st.integers(0, 255),
                st.integers(195, 210),
                st.binary(max_size=64),
            ),
        ),
        max_size=6,
    )
)
def test_any_bytes_give_a_bounded_result_and_never_an_exception(parts: list[bytes]) -> None:
    data = b"".join(parts)
    packet = parse_rtcp(data)
    if packet is not None:
        found = len(packet.leaving) + len(packet.reporters) + len(packet.reports)
        assert 4 * found <= len(data)
