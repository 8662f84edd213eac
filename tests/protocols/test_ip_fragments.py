from __future__ import annotations

from collections import Counter
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamguard.protocols import ip_fragments
from streamguard.protocols.ip_fragments import FragmentAssembler
from streamguard.protocols.packets import Fragment, IpPacket


def part(
    offset: int, data: bytes, *, more: bool, number: int = 1, source: str = "192.0.2.1"
) -> IpPacket:
    return IpPacket(source, "192.0.2.2", 17, data, Fragment(number, offset, more))


PARTS = [
    part(0, b"a" * 8, more=True),
    part(8, b"b" * 8, more=True),
    part(16, b"c" * 3, more=False),
]
WHOLE = b"a" * 8 + b"b" * 8 + b"c" * 3


@pytest.fixture
def drops() -> Counter[str]:
    return Counter()


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_parts_in_any_order_make_the_whole(order: tuple[int, ...], drops: Counter[str]) -> None:
    assembler = FragmentAssembler(drops)
    results = [assembler.push(PARTS[index], 0.0) for index in order]
    assert results[:2] == [None, None]
    assert results[2] == IpPacket("192.0.2.1", "192.0.2.2", 17, WHOLE)
    assert len(assembler) == 0
    assert not drops


def test_whole_packets_pass_by(drops: Counter[str]) -> None:
    packet = IpPacket("192.0.2.1", "192.0.2.2", 17, b"x")
    assert FragmentAssembler(drops).push(packet, 0.0) is packet


def test_a_part_that_comes_twice_does_no_harm(drops: Counter[str]) -> None:
    assembler = FragmentAssembler(drops)
    for one in (PARTS[0], PARTS[0], PARTS[2]):
        assert assembler.push(one, 0.0) is None
    whole = assembler.push(PARTS[1], 0.0)
    assert whole is not None
    assert whole.payload == WHOLE


@pytest.mark.parametrize(
    "bad", [part(4, b"x" * 8, more=True), part(0, b"x" * 8, more=True), part(0, b"", more=False)]
)
def test_parts_that_overlap_spoil_their_datagram(bad: IpPacket, drops: Counter[str]) -> None:
    assembler = FragmentAssembler(drops)
    assembler.push(PARTS[0], 0.0)
    assembler.push(PARTS[2], 0.0)
    assert assembler.push(bad, 0.0) is None
    assert drops == {"fragment_overlap": 1}


def test_a_part_beyond_the_last_one_spoils_it_too(drops: Counter[str]) -> None:
    assembler = FragmentAssembler(drops)
    assembler.push(part(32, b"z" * 8, more=True), 0.0)
    assembler.push(PARTS[0], 0.0)
    assert assembler.push(part(8, b"b" * 8, more=False), 0.0) is None
    assert drops == {"fragment_overlap": 1}


def test_what_stays_incomplete_is_forgotten(drops: Counter[str]) -> None:
    assembler = FragmentAssembler(drops)
    assembler.push(PARTS[0], 0.0)
    assembler.push(PARTS[1], ip_fragments.TIMEOUT_S + 1)
    assert drops == {"fragment_timeout": 1}
    assert len(assembler) == 1


def test_one_sender_of_first_parts_pushes_out_nobody_else(drops: Counter[str]) -> None:
    assembler = FragmentAssembler(drops)
    assembler.push(part(0, b"a" * 8, more=True, source="192.0.2.9"), 0.0)
    for number in range(1_000):
        assembler.push(part(0, b"x" * 8, more=True, number=number), 0.0)
    assert len(assembler) == 1 + ip_fragments.MAX_PENDING_PER_SOURCE
    assert assembler.push(part(8, b"b", more=False, source="192.0.2.9"), 0.0) is not None
    assert drops == {"fragment_overflow": 1_000 - ip_fragments.MAX_PENDING_PER_SOURCE}


def test_many_senders_of_first_parts_are_bounded(drops: Counter[str]) -> None:
    assembler = FragmentAssembler(drops)
    for number in range(1_000):
        assembler.push(part(0, b"x" * 8, more=True, source=f"10.0.{number // 256}.{number}"), 0.0)
    assert len(assembler) == ip_fragments.MAX_PENDING


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 8_191), st.binary(max_size=40), st.booleans(), st.integers(0, 2)),
        max_size=60,
    )
)
def test_no_parts_raise_or_make_more_than_a_datagram(
    parts: list[tuple[int, bytes, bool, int]],
) -> None:
    assembler = FragmentAssembler(Counter())
    for offset, data, more, number in parts:
        whole = assembler.push(part(8 * offset, data, more=more, number=number), 0.0)
        assert whole is None or len(whole.payload) <= ip_fragments.MAX_DATAGRAM_BYTES
    assert len(assembler) <= 3
