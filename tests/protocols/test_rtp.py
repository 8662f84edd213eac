"""The RTP, RTCP and telephone-event formats, byte by byte."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamguard.protocols.rtcp import RtcpPacket, build_bye
from streamguard.protocols.rtp import (
    MAX_PAYLOAD_BYTES,
    Malformed,
    RtpPacket,
    TelephoneEvent,
    build_packet,
    build_telephone_event,
    parse,
    parse_telephone_event,
)

# Version 2, PT 0, sequence 0x1234, timestamp 0xDEADBEEF, SSRC 0x01020304, payload "ab".
PLAIN = bytes.fromhex("8000 1234 deadbeef 01020304 6162")


def parsed(data: bytes) -> RtpPacket:
    packet = parse(data)
    assert isinstance(packet, RtpPacket)
    return packet


def test_every_field_of_the_fixed_header_is_read() -> None:
    assert parse(PLAIN) == RtpPacket(0, False, 0x1234, 0xDEADBEEF, 0x01020304, b"ab")


def test_the_marker_is_not_part_of_the_payload_type() -> None:
    packet = parsed(b"\x80\x88" + PLAIN[2:])
    assert (packet.payload_type, packet.marker) == (8, True)


def test_contributing_sources_extension_and_padding_are_not_payload() -> None:
    csrcs = bytes(8)
    extension = struct.pack("!HH", 0xBEDE, 1) + b"\xff\xff\xff\xff"
    data = b"\xb2" + PLAIN[1:12] + csrcs + extension + b"payload" + b"\x00\x00\x03"
    assert parsed(data).payload == b"payload"


def test_padding_may_take_the_whole_payload() -> None:
    assert parsed(b"\xa0" + PLAIN[1:12] + b"\x00\x02").payload == b""


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Malformed.SHORT),
        (PLAIN[:11], Malformed.SHORT),
        (b"\x40" + PLAIN[1:], Malformed.VERSION),
        (b"\x00\x01" + PLAIN[2:], Malformed.VERSION),
        (b"\x81" + PLAIN[1:], Malformed.CSRC),
        (b"\x90" + PLAIN[1:], Malformed.EXTENSION),
        (b"\x90" + PLAIN[1:12] + b"\xbe\xde\x00\x02" + bytes(4), Malformed.EXTENSION),
        (b"\xa0" + PLAIN[1:12] + b"\x00", Malformed.PADDING),
        (b"\xa0" + PLAIN[1:12] + b"\x05\x05", Malformed.PADDING),
        (PLAIN[:12] + bytes(MAX_PAYLOAD_BYTES + 1), Malformed.OVERSIZED),
    ],
)
def test_a_packet_that_contradicts_itself_is_refused_with_its_reason(
    data: bytes, reason: Malformed
) -> None:
    assert parse(data) is reason


def test_rtcp_on_the_rtp_port_is_told_apart_by_its_second_byte() -> None:
    assert parse(build_bye(0xCAFE)) == RtcpPacket(leaving=(0xCAFE,), reporters=(0xCAFE,))
    assert parse(b"\x81\xcb\x00\x01") is Malformed.RTCP


def test_a_telephone_event_is_read_and_named() -> None:
    # Digit 5, end, volume 10, 800 samples: the layout of RFC 4733 section 2.3.
    event = parse_telephone_event(bytes([5, 0x8A, 0x03, 0x20]))
    assert event == TelephoneEvent(code=5, end=True, volume_dbm0=-10, duration=800)
    assert event.name == "dtmf-5"


def test_events_beyond_the_keypad_keep_their_number() -> None:
    names = [TelephoneEvent(code, False, 0, 0).name for code in (0, 10, 11, 15, 16, 70)]
    assert names == ["dtmf-0", "dtmf-*", "dtmf-#", "dtmf-D", "dtmf-flash", "event-70"]


def test_a_short_telephone_event_is_none() -> None:
    assert parse_telephone_event(b"\x05\x0a\x03") is None


@given(
    payload_type=st.integers(0, 63),
    marker=st.booleans(),
    sequence=st.integers(0, 0xFFFF),
    timestamp=st.integers(0, 0xFFFF_FFFF),
    ssrc=st.integers(0, 0xFFFF_FFFF),
    payload=st.binary(max_size=400),
)
def test_what_is_built_is_what_is_parsed(
    payload_type: int, marker: bool, sequence: int, timestamp: int, ssrc: int, payload: bytes
) -> None:
    packet = RtpPacket(payload_type, marker, sequence, timestamp, ssrc, payload)
    assert parse(build_packet(packet)) == packet


@given(
    st.builds(
        TelephoneEvent,
        code=st.integers(0, 255),
        end=st.booleans(),
        volume_dbm0=st.integers(-63, 0),
        duration=st.integers(0, 0xFFFF),
    )
)
def test_a_built_event_is_the_parsed_event(event: TelephoneEvent) -> None:
    assert parse_telephone_event(build_telephone_event(event)) == event


@given(st.binary(max_size=300))
def test_any_bytes_give_a_result_and_never_an_exception(data: bytes) -> None:
    assert isinstance(parse(data), RtpPacket | RtcpPacket | Malformed)
    parse_telephone_event(data)


@given(st.binary(max_size=60), st.sampled_from([0x80, 0x90, 0xA0, 0xB0, 0x8F, 0xBF]))
def test_bytes_that_begin_like_rtp_never_raise_and_never_grow(tail: bytes, first: int) -> None:
    packet = parse(bytes([first, 0]) + tail)
    if isinstance(packet, RtpPacket):
        assert len(packet.payload) <= len(tail)
