"""Capacity over real RTP: every packet is accounted for."""

from __future__ import annotations

import contextlib
import socket

import pytest

from streamguard.bench.rtp_rig import free_ports
from streamguard.bench.rtp_sender import SLOTS, START, Sender
from streamguard.bench.speech import voice_ulaw
from streamguard.protocols.rtcp import RtcpPacket
from streamguard.protocols.rtp import RtpPacket, parse
from tests.bench.test_report import needs_bundles
from tests.commands.cli import streamguard


@needs_bundles
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_bench_of_rtp_counts_every_packet_that_it_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streamguard.bench.rtp.most_ports", lambda: 2)
    done = streamguard("bench", "--source", "rtp", "--ingest-only", "--seconds", "1", "--json")
    assert done.code == 0, done.err
    capacity = done.json()["capacity"]
    rtp = capacity["rtp"]
    trial = rtp["best"] or rtp["first_harmed"]
    assert 0 < trial["sent"] <= 2 * 50 * (trial["seconds"] + 1)
    assert (rtp["unread"], trial["lost"]) == (0, 0)
    assert capacity["rtp_legs"] == (rtp["best"]["legs"] if rtp["best"] else 0)
    assert rtp["path"].startswith("ingest only")
    assert trial["windows_scored"] == 0
    assert capacity["budget_ms"] == 500


def test_the_youngest_legs_end_first_and_each_says_bye() -> None:
    with contextlib.ExitStack() as stack:
        sockets = {}
        for port in (first := free_ports(3), first + 2, first + 4):
            for number in (port, port + 1):
                sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                sock.bind(("127.0.0.1", number))
                sock.settimeout(5)
                sockets[number] = sock
        sender = Sender(range(first, first + 6, 2), voice_ulaw(1.0))
        sender.bring_to(3, 0)
        for index in (START, START + 1):
            for slot in range(SLOTS):
                sender.send(slot, index)
        assert sender.sent == 6
        heard = [parse(sockets[port].recv(2048)) for port in (first, first + 2, first + 4)]
        sender.bring_to(1, START + 2)
        left = [parse(sockets[port + 1].recv(2048)) for port in (first + 2, first + 4)]
        sender.bring_to(3, START + 2)
        sender.bring_to(0, START + 2)
    ssrcs = [packet.ssrc for packet in heard if isinstance(packet, RtpPacket)]
    assert len(set(ssrcs)) == 3
    assert [packet.leaving for packet in left if isinstance(packet, RtcpPacket)] == [
        (ssrc,) for ssrc in ssrcs[1:]
    ]
