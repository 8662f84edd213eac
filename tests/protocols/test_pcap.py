from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamguard.protocols.pcap import MAX_FRAME_BYTES, CaptureParser, Frame, is_capture
from tools.capture_writer import Captured, pcapng_bytes, write_pcap

FRAMES = [Captured(1_700_000_000.25, b"first"), Captured(1_700_000_000.5, b"second!!")]
EXPECTED = [
    Frame(1_700_000_000_250_000_000, 1, b"first"),
    Frame(1_700_000_000_500_000_000, 1, b"second!!"),
]
ORDERS: list[Literal["<", ">"]] = ["<", ">"]


def parse(data: bytes, piece: int = 1 << 20) -> tuple[list[Frame], str | None]:
    parser = CaptureParser()
    frames: list[Frame] = []
    for start in range(0, len(data), piece):
        frames += parser.feed(data[start : start + piece])
    parser.finish()
    return frames, parser.problem


def pcap_bytes(folder: Path, order: Literal["<", ">"] = "<", *, nanoseconds: bool = False) -> bytes:
    path = folder / "call.pcap"
    write_pcap(path, FRAMES, order=order, nanoseconds=nanoseconds)
    return path.read_bytes()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("nanoseconds", [False, True])
def test_pcap_is_read_in_both_byte_orders_and_resolutions(
    tmp_path: Path, order: Literal["<", ">"], nanoseconds: bool
) -> None:
    data = pcap_bytes(tmp_path, order, nanoseconds=nanoseconds)
    assert is_capture(data[:4])
    assert parse(data) == (EXPECTED, None)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("resolution", [6, 9, 3, 0x80 | 10])
def test_pcapng_is_read_in_both_byte_orders_and_any_resolution(
    order: Literal["<", ">"], resolution: int
) -> None:
    data = pcapng_bytes(FRAMES, order=order, resolution=resolution)
    assert is_capture(data[:4])
    assert parse(data) == (EXPECTED, None)


def test_simple_packets_have_the_time_of_the_packet_before() -> None:
    data = pcapng_bytes(FRAMES[:1]) + pcapng_bytes(FRAMES, simple=True)
    frames, problem = parse(data)
    assert problem is None
    assert [frame.data for frame in frames] == [b"first", b"first", b"second!!"]
    assert {frame.time_ns for frame in frames} == {EXPECTED[0].time_ns}


def test_each_section_of_a_pcapng_has_its_own_byte_order_and_interfaces() -> None:
    data = pcapng_bytes(FRAMES[:1]) + pcapng_bytes(FRAMES[1:], link_type=101, order=">")
    frames, problem = parse(data)
    assert problem is None
    assert frames == [EXPECTED[0], Frame(EXPECTED[1].time_ns, 101, b"second!!")]


@pytest.mark.parametrize("piece", [1, 3, 7])
def test_pieces_of_any_size_give_the_same_frames(tmp_path: Path, piece: int) -> None:
    assert parse(pcap_bytes(tmp_path), piece) == (EXPECTED, None)
    assert parse(pcapng_bytes(FRAMES), piece) == (EXPECTED, None)


def test_a_file_that_breaks_off_gives_what_is_there_and_says_so(tmp_path: Path) -> None:
    for data in (pcap_bytes(tmp_path), pcapng_bytes(FRAMES)):
        assert parse(data[:-1]) == (EXPECTED[:1], "truncated: breaks off after 1 frames")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "not a capture: too short for a header"),
        (b"\xd4\xc3", "not a capture: too short for a header"),
        (b"RIFF....WAVE", "not a capture: it begins neither like pcap nor like pcapng"),
        (b"\xd4\xc3\xb2\xa1\x09\0" + bytes(18), "pcap version 9; allowed: 2"),
        (b"\x0a\x0d\x0d\x0a" + bytes(8), "damaged after 0 frames: a section without a byte-order"),
    ],
)
def test_what_is_no_capture_is_said(data: bytes, problem: str) -> None:
    frames, said = parse(data)
    assert frames == []
    assert said is not None
    assert said.startswith(problem)


def test_a_record_of_an_impossible_length_ends_the_file_not_the_memory(tmp_path: Path) -> None:
    data = pcap_bytes(tmp_path) + bytes(8) + b"\xff\xff\xff\x7f" * 2 + bytes(100)
    frames, problem = parse(data)
    assert frames == EXPECTED
    assert problem == (
        f"damaged after 2 frames: one of {0x7FFFFFFF} bytes; allowed: {MAX_FRAME_BYTES}"
    )


def test_blocks_that_contradict_themselves_end_the_file() -> None:
    good = pcapng_bytes(FRAMES)
    for bad, words in (
        (good[:-4] + b"\0\0\0\x01", "two lengths differ"),
        (good + b"\x06\0\0\0" * 3, "a block of 6 bytes"),
        (pcapng_bytes([])[:28] + pcapng_bytes(FRAMES)[-40:], "is not described"),
    ):
        _, problem = parse(bad)
        assert problem is not None
        assert words in problem


@settings(max_examples=40)
@given(st.binary(max_size=400), st.integers(1, 64))
def test_no_bytes_raise(data: bytes, piece: int) -> None:
    for head in (b"", b"\xd4\xc3\xb2\xa1\x02\0\x04\0" + bytes(16), pcapng_bytes([])):
        parse(head + data, piece)
