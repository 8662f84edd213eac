"""Session descriptions and the answers to them."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamguard.errors import ProtocolError
from streamguard.protocols.sdp import (
    MAX_FORMATS,
    MAX_LINES,
    MAX_MEDIA,
    Acceptance,
    Crypto,
    Direction,
    RtpMap,
    SessionDescription,
    build_answer,
    parse_sdp,
)
from streamguard.protocols.sdp_formats import formats_of
from tests.protocols.siprec_rig import crlf

HEAD = "v=0\no=- 1 7 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\n"


def parsed(text: str) -> SessionDescription:
    return parse_sdp(crlf(HEAD + text))


def test_a_line_is_read_with_everything_that_is_said_of_it() -> None:
    (line,) = parsed(
        "m=audio 20000/2 RTP/SAVP 0 96 101 13\n"
        "c=IN IP4 192.0.2.9/127\n"
        "a=rtpmap:96 opus/48000/2\n"
        "a=rtpmap:101 telephone-event/8000\n"
        "a=fmtp:101 0-15\n"
        "a=ptime:20\na=maxptime:60\n"
        "a=label:one\n"
        "a=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:abc|2^20 UNENCRYPTED_SRTCP\n"
        "a=rtcp:20055 IN IP4 192.0.2.8\na=rtcp-mux\na=sendonly\n"
    ).media
    assert (line.kind, line.port, line.protocol) == ("audio", 20_000, "RTP/SAVP")
    assert line.formats == ("0", "96", "101", "13")
    assert (line.connection, line.rtcp_host, line.rtcp_port) == ("192.0.2.9", "192.0.2.8", 20_055)
    assert line.maps == (
        RtpMap(0, "PCMU", 8_000),
        RtpMap(96, "opus", 48_000, 2),
        RtpMap(101, "telephone-event", 8_000),
        RtpMap(13, "CN", 8_000),
    )
    assert (line.fmtp, line.ptime_ms, line.maxptime_ms, line.label) == (
        {101: "0-15"},
        20,
        60,
        "one",
    )
    assert line.cryptos == (
        Crypto(2, "AES_CM_128_HMAC_SHA1_80", "inline:abc|2^20", "UNENCRYPTED_SRTCP"),
    )
    assert (line.is_srtp, line.rtcp_mux, line.direction) == (True, True, Direction.SENDONLY)


def test_what_the_session_says_holds_for_lines_that_say_nothing() -> None:
    text = (
        HEAD.replace("t=0", "a=inactive\nt=0")
        + "m=audio 2 RTP/AVP 0\nm=audio 4 RTP/AVP 0\na=sendrecv\n"
    )
    lines = parse_sdp(crlf(text)).media
    assert [line.direction for line in lines] == [Direction.INACTIVE, Direction.SENDRECV]
    assert {line.connection for line in lines} == {"192.0.2.1"}


def test_a_payload_type_may_be_given_another_meaning_than_its_static_one() -> None:
    (line,) = parsed("m=audio 2 RTP/AVP 9\na=rtpmap:9 G722/8000/1\n").media
    assert line.maps == (RtpMap(9, "G722", 8_000),)


def test_a_payload_type_that_nobody_explains_is_in_no_map() -> None:
    (line,) = parsed("m=audio 2 RTP/AVP 97 0\na=rtpmap:97 broken\na=rtpmap:8 PCMA/8000\n").media
    assert line.maps == (RtpMap(0, "PCMU", 8_000),)


def test_ipv6_addresses_are_written_in_one_way() -> None:
    text = HEAD.replace("c=IN IP4 192.0.2.1", "c=IN IP6 2001:DB8:0::1") + "m=audio 2 RTP/AVP 0\n"
    assert parse_sdp(crlf(text)).media[0].connection == "2001:db8::1"


def test_a_key_is_in_no_representation() -> None:
    description = parsed("m=audio 2 RTP/SAVP 0\na=crypto:1 S inline:secretsecret\n")
    assert "secretsecret" not in repr(description)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "version"),
        ("v=1\n", "version"),
        ("s=-\nv=0\n", "version"),
        ("v=0\nnonsense\n", "line"),
        ("v=0\n=x\n", "line"),
        ("v=0\nm=audio\n", "media"),
        ("v=0\nm=audio 99999 RTP/AVP 0\n", "media"),
        ("v=0\nm=audio -1 RTP/AVP 0\n", "media"),
        ("v=0\nc=ATM x\n", "connection"),
        ("v=0\nc=IN IP4\n", "connection"),
        ("v=0\nc=IN IP4 a;b\n", "connection"),
        ("v=0\ns=\0\n", "control_character"),
        ("v=0\n" + "m=audio 2 RTP/AVP 0\n" * (MAX_MEDIA + 1), "too_many_media"),
        ("v=0\n" + "a=x\n" * MAX_LINES, "too_many_lines"),
        ("v=0\nm=audio 2 RTP/AVP" + " 0" * (MAX_FORMATS + 1) + "\n", "too_many_formats"),
        ("v=0\nm=audio 2 RTP/SAVP 0\n" + "a=crypto:1 S k\n" * 17, "too_many_cryptos"),
        ("v=0\na=" + "x" * 70_000 + "\n", "oversized"),
    ],
)
def test_what_breaks_the_rules_is_refused_with_its_reason(text: str, why: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_sdp(crlf(text))
    assert (caught.value.protocol, caught.value.reason) == ("sdp", why)


def test_an_answer_has_a_line_for_every_offered_one_in_the_same_order() -> None:
    offer = parsed(
        "m=audio 2 RTP/AVP 0 97 101\na=rtpmap:97 AMR/8000\na=rtpmap:101 telephone-event/8000\n"
        "a=fmtp:101 0-15\na=ptime:30\na=label:x\n"
        "m=video 4 RTP/AVP 99\na=label:y\n"
        "m=audio 6 RTP/AVP 8\na=rtcp-mux\n"
    )
    accepted = [Acceptance(41_000, (0, 101)), None, Acceptance(41_002, (8,), Direction.INACTIVE)]
    answer = parse_sdp(build_answer(offer, accepted, host="198.51.100.1", session_id=5, version=2))
    assert answer.origin == "- 5 2 IN IP4 198.51.100.1"
    first, second, third = answer.media
    assert (first.port, first.formats, first.label) == (41_000, ("0", "101"), "x")
    assert (first.direction, first.fmtp, first.ptime_ms) == (Direction.RECVONLY, {101: "0-15"}, 30)
    assert (second.kind, second.port, second.formats, second.label) == ("video", 0, ("99",), "y")
    assert (third.direction, third.rtcp_mux, third.label) == (Direction.INACTIVE, True, None)


def test_what_we_can_decode_of_a_line_comes_in_its_order() -> None:
    (line,) = parsed(
        "m=audio 2 RTP/AVP 96 8 18 0 101\n"
        "a=rtpmap:96 L16/16000\na=rtpmap:101 telephone-event/8000\n"
    ).media
    drops: Counter[str] = Counter()
    formats = formats_of(line, drops)
    assert [(number, str(one)) for number, one in formats.items()] == [
        (96, "L16/16000"),
        (8, "PCMA/8000"),
        (0, "PCMU/8000"),
        (101, "telephone-event/8000"),
    ]
    assert not drops


_LINE = st.one_of(
    st.sampled_from(
        ["v=0", "m=audio 2 RTP/AVP 0", "m=audio 0 RTP/SAVP 0 8", "c=IN IP4 192.0.2.1", "a=sendonly"]
    ),
    st.from_regex(r"a=(rtpmap|fmtp|crypto|ptime|label|rtcp|maxptime):[ -~]{0,30}", fullmatch=True),
    st.from_regex(r"[a-z]=[ -~]{0,30}", fullmatch=True),
    st.text(max_size=20),
)


@given(st.lists(_LINE, max_size=12), st.binary(max_size=40))
def test_any_lines_give_a_description_or_a_protocol_error(lines: list[str], tail: bytes) -> None:
    data = "\r\n".join(["v=0", *lines]).encode("utf-8", "replace") + tail
    try:
        offer = parse_sdp(data)
    except ProtocolError:
        return
    # Whatever was read can be answered, and the answer can be read.
    answer = build_answer(offer, [None] * len(offer.media), host="::1", session_id=1, version=1)
    assert [line.kind for line in parse_sdp(answer).media] == [line.kind for line in offer.media]
