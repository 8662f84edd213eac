"""Our reception statistics against those of Wireshark, on the same packets."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from streamguard.protocols.rtp import RtpPacket, build_packet
from tests.protocols.senders import packet, stream

RAW_IPV4 = 101
"""The pcap link type of packets that begin with their IP header."""


def write_pcap(path: Path, arrivals: list[tuple[float, RtpPacket]]) -> None:
    """Enough of IPv4 and UDP for a dissector; no checksums."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, RAW_IPV4))
        for at_s, one in arrivals:
            payload = build_packet(one)
            udp = struct.pack("!HHHH", 4_000, 40_000, 8 + len(payload), 0) + payload
            host = b"\x7f\x00\x00\x01"
            head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0)
            data = head + host + host + udp
            microseconds = round(at_s * 1e6)
            file.write(
                struct.pack(
                    "<IIII", microseconds // 10**6, microseconds % 10**6, len(data), len(data)
                )
            )
            file.write(data)


@pytest.mark.peer
def test_loss_and_jitter_are_those_that_wireshark_finds(tmp_path: Path) -> None:
    tshark = shutil.which("tshark")
    if tshark is None:
        pytest.skip("tshark is not installed")
    random = np.random.default_rng(11)
    arrivals = [
        (100.0 + 0.02 * index + float(random.uniform(0, 0.015)), packet(index))
        for index in range(400)
        if index in (0, 399) or random.uniform() > 0.05
    ]
    pcap = tmp_path / "call.pcap"
    write_pcap(pcap, arrivals)
    # fmt: off
    report = subprocess.run(
        [tshark, "-r", pcap, "-q", "-d", "udp.port==40000,rtp", "-z", "rtp,streams"],
        check=True, capture_output=True, text=True, timeout=15,
    ).stdout
    # fmt: on
    (line,) = (line for line in report.splitlines() if "0x0000ABCD" in line)
    # SSRC, payload, packets, lost, (percent), three deltas, jitter: least, mean, greatest
    fields = line[line.index("0x0000ABCD") :].split()
    received, lost, jitter_max_ms = int(fields[2]), int(fields[3]), float(fields[10])

    receiver = stream(Counter())
    jitters: list[float] = []
    for at_s, one in arrivals:
        receiver.receive(one, at_s)
        jitters.append(1_000 * receiver.reception.jitter_s)
    receiver.flush()
    reception = receiver.reception
    assert (reception.expected - reception.lost, reception.lost) == (received, lost)
    assert max(jitters) == pytest.approx(jitter_max_ms, abs=0.01)
