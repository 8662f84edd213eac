"""Our reception statistics of captured calls against those of Wireshark, whatever happened to them.

The captures are the impairment player's, with SIP: both sides find the stream by themselves.
"""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from streamguard.protocols.captured import FrameReader
from streamguard.protocols.packets import Datagram
from streamguard.protocols.pcap import CaptureParser
from streamguard.protocols.rtp import RtpPacket, parse
from streamguard.protocols.rtp_stream import Reception, RtpStream
from tests.captures import tone
from tools.impairment.catalogue import BY_NAME
from tools.impairment.play import FORMATS, capture
from tools.impairment.stream import clean_stream

pytestmark = pytest.mark.peer

NAMES = (
    "clean",
    "loss-10",
    "burst-10",
    "reorder-5",
    "reorder-late",
    "duplicate-10",
    "jitter-30",
    "wrap",
    "ssrc-flip",
    "telephone-event",
    "timestamp-jump",
)
ODD_TIMESTAMPS = ("telephone-event", "timestamp-jump")
"""Wireshark takes timestamps that stand still or jump for jitter of the network; we do not."""


@dataclass(frozen=True)
class Statistics:
    """Of all streams of a capture together, as ``tshark -z rtp,streams`` has them."""

    packets: int
    lost: int
    """Expected less received; a packet that came twice counts against one that never came."""
    jitter_mean_ms: float
    jitter_max_ms: float


def tshark_statistics(path: Path) -> Statistics:
    tshark = shutil.which("tshark")
    if tshark is None:
        pytest.skip("tshark is not installed")
    command = [tshark, "-r", str(path), "-q", "-z", "rtp,streams"]
    report = subprocess.run(command, check=True, capture_output=True, text=True, timeout=15).stdout
    streams = []
    for line in report.splitlines():
        if " 0x" in line:
            # ... SSRC, payloads, packets, lost, (percent), three deltas, three jitters, problems
            fields = line.split()
            percent = next(at for at, text in enumerate(fields) if text.endswith("%)"))
            packets, lost = fields[percent - 2 : percent]
            mean_ms, max_ms = fields[percent + 5 : percent + 7]
            streams.append(Statistics(int(packets), int(lost), float(mean_ms), float(max_ms)))
    assert streams
    total = sum(one.packets for one in streams)
    return Statistics(
        total,
        sum(one.lost for one in streams),
        sum(one.jitter_mean_ms * (one.packets - 1) for one in streams) / (total - len(streams)),
        max(one.jitter_max_ms for one in streams),
    )


def our_statistics(path: Path) -> tuple[Statistics, Reception]:
    parser = CaptureParser()
    frames = parser.feed(path.read_bytes())
    parser.finish()
    assert parser.problem is None
    reader = FrameReader(Counter())
    stream = RtpStream("leg", FORMATS, Counter())
    jitters_ms: list[float] = []
    ssrcs: set[int] = set()
    for frame in frames:
        # Differences are what counts: a float of seconds since 1970 is only good to 0.2 us.
        now = (frame.time_ns - frames[0].time_ns) / 1e9
        content = reader.read(frame, now)
        packet = parse(content.payload) if isinstance(content, Datagram) else None
        if isinstance(packet, RtpPacket):
            stream.receive(packet, now)
            ssrcs.add(packet.ssrc)
            jitters_ms.append(1_000 * stream.reception.jitter_s)
    stream.flush()
    found = stream.reception
    received = found.expected - found.lost + found.late + found.duplicates
    missing = found.lost - found.late - found.duplicates
    # The first packet of a stream has none yet.
    mean_ms = sum(jitters_ms) / (len(jitters_ms) - len(ssrcs))
    return Statistics(received, missing, mean_ms, max(jitters_ms)), found


@pytest.mark.parametrize("name", NAMES)
def test_packets_loss_and_jitter_are_those_that_wireshark_finds(tmp_path: Path, name: str) -> None:
    clean = clean_stream(tone(10.0), np.random.default_rng(1))
    arrivals = BY_NAME[name].apply(clean, np.random.default_rng(2))
    path = tmp_path / "call.pcap"
    capture(path, arrivals.packets)
    theirs = tshark_statistics(path)
    ours, reception = our_statistics(path)
    assert (ours.packets, ours.lost) == (theirs.packets, theirs.lost)
    assert ours.packets == len(arrivals.packets)
    assert reception.lost - reception.late == arrivals.lost
    if name in ODD_TIMESTAMPS:
        assert ours.jitter_max_ms < 0.01
        return
    assert ours.jitter_max_ms == pytest.approx(theirs.jitter_max_ms, abs=0.01)
    assert ours.jitter_mean_ms == pytest.approx(theirs.jitter_mean_ms, abs=0.01)
