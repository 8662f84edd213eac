"""SRTP: libsrtp as the other end, and what must be refused."""

from __future__ import annotations

import base64
import importlib.util
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamguard.errors import MissingExtraError, ProtocolError
from streamguard.protocols.rtcp import build_bye, parse_rtcp
from streamguard.protocols.rtp import RtpPacket, build_packet
from streamguard.protocols.srtp import SUITES, SrtpReceiver, check_extra, parse_inline

if TYPE_CHECKING:
    from pylibsrtp import Session

KEY = bytes(range(30))
INLINE = "inline:" + base64.b64encode(KEY).decode()

needs_libsrtp = pytest.mark.skipif(
    importlib.util.find_spec("pylibsrtp") is None, reason="needs the extra 'srtp'"
)


def sender(suite: str = SUITES[0], key: bytes = KEY) -> Session:
    from pylibsrtp import Policy, Session

    profile = (
        Policy.SRTP_PROFILE_AES128_CM_SHA1_80
        if suite == SUITES[0]
        else Policy.SRTP_PROFILE_AES128_CM_SHA1_32
    )
    return Session(Policy(key, Policy.SSRC_ANY_OUTBOUND, 0, profile))


def plain(sequence: int, ssrc: int = 5) -> bytes:
    return build_packet(RtpPacket(0, False, sequence, 160 * sequence, ssrc, bytes(range(160))))


@needs_libsrtp
@pytest.mark.parametrize(("suite", "tag_bytes"), [(SUITES[0], 10), (SUITES[1], 4)])
def test_what_one_end_protects_the_other_opens(suite: str, tag_bytes: int) -> None:
    protected = sender(suite).protect(plain(1))
    assert len(protected) == len(plain(1)) + tag_bytes
    assert protected[12:172] != plain(1)[12:]
    assert SrtpReceiver(suite, KEY).open(protected) == plain(1)


@needs_libsrtp
def test_rtcp_on_the_same_port_is_opened_too() -> None:
    opened = SrtpReceiver(SUITES[0], KEY).open(sender().protect_rtcp(build_bye(9)))
    assert opened is not None
    packet = parse_rtcp(opened)
    assert packet is not None
    assert packet.leaving == (9,)


@needs_libsrtp
def test_the_rollover_counter_goes_on_across_the_wrap_of_sequence_numbers() -> None:
    source, receiver = sender(), SrtpReceiver(SUITES[0], KEY)
    for number in range(65_500, 65_536 + 40):
        packet = plain(number)
        assert receiver.open(source.protect(packet)) == packet


@needs_libsrtp
def test_a_new_ssrc_under_the_same_key_is_opened() -> None:
    source, receiver = sender(), SrtpReceiver(SUITES[0], KEY)
    for ssrc in (5, 6):
        assert receiver.open(source.protect(plain(1, ssrc))) == plain(1, ssrc)


@needs_libsrtp
def test_what_is_forged_changed_plain_or_sent_twice_is_refused() -> None:
    protected = sender().protect(plain(1))
    receiver = SrtpReceiver(SUITES[0], KEY)
    changed = bytearray(protected)
    changed[40] ^= 1
    assert receiver.open(bytes(changed)) is None
    assert receiver.open(sender(key=bytes(30)).protect(plain(1))) is None
    assert receiver.open(plain(1)) is None
    assert receiver.open(protected) == plain(1)
    assert receiver.open(protected) is None


@needs_libsrtp
@given(st.binary(max_size=200) | st.binary(min_size=1_490, max_size=1_600))
def test_any_bytes_are_refused_and_never_raise(data: bytes) -> None:
    assert SrtpReceiver(SUITES[0], KEY).open(data) is None


@needs_libsrtp
def test_bytes_that_begin_like_rtp_are_refused_and_never_raise() -> None:
    receiver = SrtpReceiver(SUITES[0], KEY)
    for first in (0x80, 0x8F, 0x90, 0xBF):
        for size in (2, 11, 12, 13, 21, 22, 40):
            assert receiver.open(bytes([first, 0]) + bytes(size)) is None
            assert receiver.open(bytes([first, 200]) + bytes(size)) is None


def test_a_key_of_sdp_is_read_with_and_without_its_lifetime() -> None:
    assert parse_inline(INLINE) == KEY
    assert parse_inline(INLINE + "|2^20") == KEY
    assert parse_inline(INLINE.rstrip("=")) == KEY


@pytest.mark.parametrize(
    "text",
    [
        "",
        "inline:",
        "inline:c2VjcmV0",
        "inline:§§§",
        "uri:" + INLINE[7:],
        INLINE + "|2^20|1:4",
        INLINE + "|1:4",
    ],
)
def test_a_wrong_key_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ProtocolError) as error:
        parse_inline(text)
    assert "c2VjcmV0" not in str(error.value)
    assert INLINE[7:] not in str(error.value)


def test_another_suite_is_refused() -> None:
    with pytest.raises(ProtocolError, match="AES_CM_128_HMAC_SHA1_80"):
        SrtpReceiver("AEAD_AES_128_GCM", KEY)


def test_without_the_extra_the_refusal_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"streamguard\[srtp\]"):
        check_extra()
