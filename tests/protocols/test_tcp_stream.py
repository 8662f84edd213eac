from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamguard.protocols import tcp_stream
from streamguard.protocols.packets import Segment
from streamguard.protocols.sip_message import SipMessage, SipRequest
from streamguard.protocols.tcp_stream import SipConnections, looks_like_sip
from tools.sip_call import SipCall

CALL = SipCall()
INVITE = CALL.invite()


def segment(
    sequence: int, payload: bytes, *, syn: bool = False, ends: bool = False, port: int = 5060
) -> Segment:
    source, target = ("192.0.2.1", port), ("192.0.2.2", 5060)
    return Segment(source, target, sequence & 0xFFFF_FFFF, syn, ends, payload)


def methods(messages: list[SipMessage]) -> list[str]:
    return [one.method for one in messages if isinstance(one, SipRequest)]


@pytest.fixture
def drops() -> Counter[str]:
    return Counter()


def push_all(connections: SipConnections, segments: list[Segment]) -> list[str]:
    return [name for one in segments for name in methods(connections.push(one))]


@pytest.mark.parametrize("first", [1, 0xFFFF_FFF0])
def test_a_message_in_pieces_is_one_message(first: int, drops: Counter[str]) -> None:
    pieces = [segment(first + at, INVITE[at : at + 50]) for at in range(0, len(INVITE), 50)]
    assert push_all(SipConnections(drops), pieces) == ["INVITE"]


def test_pieces_out_of_order_and_sent_again_are_put_in_order(drops: Counter[str]) -> None:
    data = INVITE + CALL.ack()
    pieces = [segment(at, data[at : at + 70]) for at in range(0, len(data), 70)]
    shuffled = [pieces[0], pieces[2], pieces[1], pieces[1], *pieces[3:]]
    overlapping = segment(35, data[35:175])
    assert push_all(SipConnections(drops), [*shuffled[:3], overlapping, *shuffled[3:]]) == [
        "INVITE",
        "ACK",
    ]
    assert not drops


def test_keep_alives_and_several_messages_in_one_segment(drops: Counter[str]) -> None:
    data = b"\r\n\r\n" + INVITE + CALL.ack() + b"\r\n\r\n" + CALL.bye()
    assert push_all(SipConnections(drops), [segment(9, data)]) == ["INVITE", "ACK", "BYE"]


def test_a_capture_that_begins_in_a_message_waits_for_the_next_one(drops: Counter[str]) -> None:
    half = INVITE[100:]
    segments = [segment(1, half), segment(1 + len(half), CALL.bye())]
    assert push_all(SipConnections(drops), segments) == ["BYE"]


def test_a_hole_that_stays_is_given_up_on(drops: Counter[str]) -> None:
    connections = SipConnections(drops)
    assert push_all(connections, [segment(1, INVITE[:100])]) == []
    at = 1 + len(INVITE)
    for _ in range(tcp_stream.MAX_HELD_SEGMENTS + 1):
        message = CALL.bye()
        found = push_all(connections, [segment(at, message)])
        at += len(message)
    assert len(found) > tcp_stream.MAX_HELD_SEGMENTS / 2
    assert set(found) == {"BYE"}
    assert drops == {"sip_hole": 1}


def test_new_connections_on_old_ports_begin_anew(drops: Counter[str]) -> None:
    connections = SipConnections(drops)
    push_all(connections, [segment(1, INVITE[:100])])
    push_all(connections, [segment(7, b"", syn=True)])
    assert push_all(connections, [segment(8, INVITE)]) == ["INVITE"]
    far = 8 + len(INVITE) + 2 * tcp_stream.MAX_JUMP_BYTES
    assert push_all(connections, [segment(far, CALL.bye())]) == ["BYE"]


def test_the_last_message_may_come_with_the_end_of_the_connection(drops: Counter[str]) -> None:
    connections = SipConnections(drops)
    assert push_all(connections, [segment(1, INVITE, ends=True)]) == ["INVITE"]
    assert len(connections) == 0


def test_what_is_not_sip_is_not_kept(drops: Counter[str]) -> None:
    connections = SipConnections(drops)
    push_all(connections, [segment(1, b"GET / HTTP/1.1\r\n\r\n"), segment(1, b"\x16\x03\x01")])
    assert len(connections) == 0
    assert not looks_like_sip(b"GET / HTTP/1.1")
    assert looks_like_sip(b"\r\nSIP/2.0 200 OK")
    assert looks_like_sip(b"INVITE sips:bob@example.com SIP/2.0")


def test_a_broken_message_costs_its_connection_alone(drops: Counter[str]) -> None:
    connections = SipConnections(drops)
    broken = b"INVITE sip:bob@example.com SIP/2.0\r\nContent-Length: x\r\n\r\n"
    assert push_all(connections, [segment(1, broken)]) == []
    assert drops == {"sip_content_length": 1}
    assert push_all(connections, [segment(1 + len(broken), INVITE)]) == ["INVITE"]


def test_connections_are_bounded(drops: Counter[str]) -> None:
    connections = SipConnections(drops)
    for port in range(10_000, 10_400):
        connections.push(segment(1, INVITE[:60], port=port))
    assert len(connections) == tcp_stream.MAX_CONNECTIONS
    assert drops["sip_connections"] == 400 - tcp_stream.MAX_CONNECTIONS


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 3_000), st.integers(0, 600), st.integers(0, 200), st.booleans()),
        max_size=80,
    )
)
def test_no_segments_raise(pieces: list[tuple[int, int, int, bool]]) -> None:
    connections = SipConnections(Counter())
    data = INVITE + CALL.ack()
    for sequence, start, size, syn in pieces:
        connections.push(segment(sequence, data[start : start + size], syn=syn))
    assert len(connections) <= 1
