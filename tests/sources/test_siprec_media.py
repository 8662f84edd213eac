"""One signalled line: who is heard on it, and what of RTCP and SRTP."""

from __future__ import annotations

import base64
import errno
import socket
import struct
from collections import Counter
from ipaddress import IPv4Address

import pytest

from streamguard.events import Audio, MediaChanged, Quality
from streamguard.protocols.rtp import RtpPacket, build_packet
from streamguard.protocols.rtp_codecs import COMFORT_NOISE, PCMA, PCMU
from streamguard.protocols.sdp import Crypto
from streamguard.protocols.siprec_session import LineSpec
from streamguard.sources import rtp_socket
from streamguard.sources.rtp_socket import Traffic
from streamguard.sources.siprec_media import MediaPorts, SignalledLine
from tests.sources.collect import free_ports

PEER = ("192.0.2.1", 20_000)
SSRC = 0x1234


def spec(crypto: Crypto | None = None, port: int = PEER[1], host: str = PEER[0]) -> LineSpec:
    return LineSpec("leg", {0: PCMU, 8: PCMA, 13: COMFORT_NOISE}, PCMU, host, port, crypto)


def packet(index: int, payload_type: int = 0, size: int = 160) -> bytes:
    return build_packet(
        RtpPacket(payload_type, False, index, index * 160, SSRC, bytes([index]) * size)
    )


def line(crypto: Crypto | None = None) -> tuple[SignalledLine, Counter[str]]:
    drops: Counter[str] = Counter()
    return SignalledLine(spec(crypto), drops, 0.06, now=0.0), drops


def heard(one: SignalledLine, index: int, sender: tuple[str, int]) -> bool:
    events = one.datagram(packet(index), sender, index * 0.02)
    return any(isinstance(event, Audio) for event in events)


def test_another_host_is_never_heard() -> None:
    one, drops = line()
    assert not heard(one, 0, ("192.0.2.2", PEER[1]))
    assert drops == {"locked_out": 1}
    assert one.heard == (0.0, False)


def test_a_host_may_send_from_another_port_until_its_own_is_heard() -> None:
    one, drops = line()
    other, third = (PEER[0], 30_000), (PEER[0], 30_002)
    assert heard(one, 0, other)
    assert heard(one, 1, other)
    assert not heard(one, 2, third)
    assert heard(one, 2, PEER)
    assert not heard(one, 3, other)
    assert drops["locked_out"] == 2


def test_a_renegotiated_address_is_the_only_one_from_then_on() -> None:
    one, _ = line()
    assert heard(one, 0, PEER)
    one.change(spec(host="192.0.2.3", port=20_004))
    assert not heard(one, 1, PEER)
    assert heard(one, 1, ("192.0.2.3", 20_004))


def test_audio_of_another_codec_than_announced_begins_with_saying_so() -> None:
    one, _ = line()
    events = one.datagram(packet(0, 8), PEER, 0.0)
    assert [type(event) for event in events] == [MediaChanged, Audio]


def test_comfort_noise_is_announced_silence() -> None:
    one, _ = line()
    one.datagram(packet(0), PEER, 0.0)
    one.datagram(packet(1, 13, 1), PEER, 0.5)
    assert one.heard == (0.5, True)
    one.datagram(packet(2), PEER, 1.0)
    assert one.heard == (1.0, False)


def test_rtcp_of_the_sender_says_that_it_lives_and_a_bye_ends_nothing() -> None:
    one, drops = line()
    one.datagram(packet(0), PEER, 0.0)
    report = struct.pack("!BBHI", 0x80, 200, 6, SSRC) + bytes(20)
    bye = struct.pack("!BBHI", 0x81, 203, 1, SSRC)
    assert one.control(report + bye, ("192.0.2.1", 20_001), 5.0) == []
    assert one.heard == (0.0, True)
    assert one.control(b"nonsense", PEER, 6.0) == []
    assert drops["rtcp_malformed"] == 1


def test_quality_is_told_once_a_second_and_at_the_end() -> None:
    one, _ = line()
    one.datagram(packet(0), PEER, 0.0)
    one.datagram(packet(2), PEER, 0.04)
    told = [
        event for n in range(1, 45) for event in one.tick(n * 0.05) if isinstance(event, Quality)
    ]
    assert len(told) == 2
    final = one.finish()[-1]
    assert isinstance(final, Quality)
    assert final.loss_pct == pytest.approx(100 / 3)


def test_only_packets_of_the_signalled_key_are_heard() -> None:
    pylibsrtp = pytest.importorskip("pylibsrtp", reason="needs the extra 'srtp'")
    key = bytes(range(30))
    crypto = Crypto(1, "AES_CM_128_HMAC_SHA1_80", f"inline:{base64.b64encode(key).decode()}|2^20")
    policy = pylibsrtp.Policy(
        key,
        pylibsrtp.Policy.SSRC_ANY_OUTBOUND,
        0,
        pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    )
    sender = pylibsrtp.Session(policy)
    one, drops = line(crypto)
    protected = sender.protect(packet(0))
    assert any(isinstance(event, Audio) for event in one.datagram(protected, PEER, 0.0))
    assert one.datagram(packet(1), PEER, 0.02) == []
    assert one.datagram(protected, PEER, 0.04) == []
    assert drops["srtp"] == 2


def ports(traffic: Traffic, source: str = "sbc") -> MediaPorts:
    local = IPv4Address("127.0.0.1")
    return MediaPorts(
        source, local, free_ports(), 0.06, traffic, lambda: 0.0, lambda _: None, lambda _: None
    )


async def test_where_no_socket_can_be_had_there_is_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    traffic = Traffic()
    media = ports(traffic)
    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", full)
        assert media.open(spec()) is None
    assert set(traffic.drops) == {"port_taken"}
    assert media.open(spec()) is not None
    media.shut()


async def test_a_small_receive_buffer_is_told_once_and_not_for_every_call(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rtp_socket, "RECEIVE_BUFFER_BYTES", 1 << 30)
    media = ports(Traffic(), "sbc-small-buffer")
    assert media.open(spec()) is not None
    media.shut()
    assert [record.message.partition(" of ")[0] for record in caplog.records] == [
        "source sbc-small-buffer: receive buffer"
    ]
