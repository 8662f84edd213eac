"""SIPp as a recording client: a scenario of our own, with audio from a capture that we write."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamguard.audio.g711 import encode_alaw
from streamguard.protocols.rtp import RtpPacket, build_packet
from tools.capture_writer import Captured, ethernet, udp, write_pcap

SCENARIO = Path(__file__).parent.parent / "data" / "siprec" / "sipp_uac.xml"
PACKET_SAMPLES = 160


def write_audio(path: Path, samples: npt.NDArray[np.int16]) -> int:
    """A capture of A-law packets of 20 ms; how many. ``samples`` are at 8 kHz."""
    packets = len(samples) // PACKET_SAMPLES
    frames = []
    for index in range(packets):
        piece = samples[index * PACKET_SAMPLES : (index + 1) * PACKET_SAMPLES]
        payload = encode_alaw(piece)
        packet = RtpPacket(8, index == 0, index, index * PACKET_SAMPLES, 0x51BB, payload)
        datagram = udp(("192.0.2.1", 4000), ("192.0.2.2", 5000), build_packet(packet))
        frames.append(Captured(1_000 + 0.02 * index, ethernet(datagram)))
    write_pcap(path, frames)
    return packets


def command(
    folder: Path,
    audio: Path,
    length_ms: int,
    port: int,
    transport: str,
    media_port: int,
    *more: str,
) -> list[str]:
    """The command line; None of it waits for a terminal."""
    sipp = shutil.which("sipp")
    assert sipp is not None
    scenario = folder / "scenario.xml"
    text = SCENARIO.read_text().replace("PCAP_FILE", str(audio))
    scenario.write_text(text.replace("LENGTH_MS", str(length_ms)))
    return [
        sipp, f"127.0.0.1:{port}", "-sf", str(scenario), "-i", "127.0.0.1", "-mi", "127.0.0.1",
        "-mp", str(media_port), "-t", {"udp": "u1", "tcp": "t1"}[transport], "-nostdin",
        "-timeout", "30", "-timeout_error", *more,
    ]  # fmt: skip
