"""The INVITEs of six makers of session border controllers, in our own hand: who speaks on which
line, and what is answered."""

from __future__ import annotations

import pytest

from streamguard.events import LegRole
from streamguard.protocols.sdp import Direction
from streamguard.protocols.sip_message import SipRequest, SipResponse, parse_message
from streamguard.protocols.sip_transaction import Flow
from streamguard.protocols.siprec_offer import read_offer
from tests.protocols.siprec_rig import DIALECTS, Rig, answer_of, fixture

CALLER, CALLEE, MIXED = LegRole.CALLER, LegRole.CALLEE, LegRole.MIXED


def request_of(name: str) -> SipRequest:
    message = parse_message(fixture(name))
    assert isinstance(message, SipRequest)
    return message


def accepted(name: str) -> tuple[Rig, SipResponse]:
    rig = Rig()
    request = request_of(name)
    transport = "TCP" if "/TCP" in (request.headers.get("via") or "") else "UDP"
    response = rig.ask(request, Flow(transport, "192.0.2.10", 5060, 0))
    assert response.status == 200, response
    return rig, response


@pytest.mark.parametrize(
    ("name", "roles"),
    [
        # Says outright who called, and names the called one first.
        ("oracle", [CALLEE, CALLER]),
        # By the From of the recorded call: the caller sends label 2.
        ("ribbon", [CALLEE, CALLER]),
        # By the calling number of the GTD part.
        ("cisco", [CALLEE, CALLER]),
        # One line with both voices.
        ("broadworks", [MIXED]),
        # The line of the B leg comes first.
        ("sems", [CALLEE, CALLER]),
        # The first participant called.
        ("opensips", [CALLER, CALLEE]),
    ],
)
def test_every_leg_carries_its_speaker(name: str, roles: list[LegRole]) -> None:
    rig, _ = accepted(name)
    assert rig.roles() == roles
    assert [leg.index for leg in rig.legs()] == list(range(len(roles)))


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("oracle", "PCMU"),
        ("ribbon", "PCMA"),
        ("cisco", "PCMU"),
        ("broadworks", "PCMA"),
        ("sems", "PCMA"),
        ("opensips", "PCMU"),
    ],
)
def test_every_leg_announces_the_codec_that_its_line_prefers(name: str, codec: str) -> None:
    rig, _ = accepted(name)
    assert {(leg.codec, leg.rate_hz) for leg in rig.legs()} == {(codec, 8_000)}


@pytest.mark.parametrize("name", DIALECTS)
def test_every_line_is_answered_by_one_that_only_receives_under_its_label(name: str) -> None:
    rig, response = accepted(name)
    offer = read_offer(request_of(name)).sdp
    assert offer is not None
    answer = answer_of(response)
    assert [line.label for line in answer.media] == [line.label for line in offer.media]
    assert {line.direction for line in answer.media} == {Direction.RECVONLY}
    assert {line.connection for line in answer.media} == {rig.media_host}
    ports = [line.port for line in answer.media]
    assert ports == [41_000 + 2 * number for number in range(len(ports))]
    for ours, theirs in zip(answer.media, offer.media, strict=True):
        assert set(ours.formats) <= set(theirs.formats)


@pytest.mark.parametrize("name", DIALECTS)
def test_only_the_signalled_address_is_listened_to(name: str) -> None:
    rig, _ = accepted(name)
    offer = read_offer(request_of(name)).sdp
    assert offer is not None
    expected = [(line.connection, line.port) for line in offer.media]
    assert [(spec.host, spec.port) for spec, _ in rig.media.lines.values()] == expected


def test_a_codec_that_we_do_not_know_is_left_out_of_the_answer() -> None:
    _, response = accepted("opensips")
    assert all("96" not in line.formats for line in answer_of(response).media)
    assert all("101" in line.formats for line in answer_of(response).media)


def test_the_session_timer_that_a_dialect_asks_for_is_the_peers_to_keep() -> None:
    _, response = accepted("ribbon")
    assert response.headers.get("session-expires") == "1800;refresher=uac"
    assert response.headers.get("require") == "timer"


def test_a_single_line_is_mixed_even_if_only_one_speaker_is_said_to_send_it() -> None:
    rig = Rig()
    data = fixture("broadworks").replace(
        b"<send>00000000-0000-1000-8000-bw0000000005</send>\r\n  </participant>\r\n  <stream",
        b"</participant>\r\n  <stream".ljust(80),
    )
    message = parse_message(data)
    assert isinstance(message, SipRequest)
    assert rig.ask(message).status == 200
    assert rig.roles() == [MIXED]


def test_a_leg_carries_the_identity_of_its_speaker_and_trunk_for_the_policy() -> None:
    rig, _ = accepted("oracle")
    numbers = [[one.value for one in leg.identities] for leg in rig.legs()]
    assert numbers == [["+12025550187", "192.0.2.10"], ["+12025550142", "192.0.2.10"]]
    mixed, _ = accepted("broadworks")
    (leg,) = mixed.legs()
    assert [one.value for one in leg.identities[:2]] == ["4930555001", "+4930555099"]
    assert "555" not in repr(leg)


def test_numbers_and_names_show_in_no_representation_of_the_metadata() -> None:
    for name in DIALECTS:
        metadata = read_offer(request_of(name)).metadata
        assert metadata is not None
        text = repr(metadata)
        for private in ("5550", "0794", "1001", "2001", "0555", "alice", "bob"):
            assert private not in text
