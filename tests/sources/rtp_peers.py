"""Senders that we did not write, one per codec, recorded at once; and Wireshark's view of them."""

from __future__ import annotations

import contextlib
import selectors
import shutil
import socket
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from streamguard.events import Audio, SourceEvent
from streamguard.protocols.rtp import RtpPacket, build_packet, parse
from streamguard.sources.rtp_port import LegCount, RtpPort
from streamguard.sources.settings import RtpSettings
from tests.sources.collect import free_ports

PAYLOAD_TYPES = {
    0: "PCMU",
    3: "GSM",
    8: "PCMA",
    9: "G722",
    13: "CN",
    97: "L16/16000",
    101: "telephone-event",
    111: "opus/48000/2",
}
SECONDS = 2.0
WAIT_S = 40.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """A datagram, when it came, and from which port."""

    at_s: float
    data: bytes
    port: int


@dataclass(frozen=True, slots=True)
class PeerCall:
    """One sender of one codec."""

    program: str
    codec: str
    payload_type: int
    command: tuple[str, ...]
    """With ``{speech}`` and ``{port}`` to fill in."""

    @property
    def name(self) -> str:
        return f"{self.program}-{self.codec.partition('/')[0]}"


def _ffmpeg(
    codec: str, payload_type: int, encoder: str, rate_hz: int, frame_bytes: int
) -> PeerCall:
    samples = rate_hz // 50
    filters = f"aresample={rate_hz},asetnsamples=n={samples}:p=0,arealtime"
    target = f"rtp://127.0.0.1:{{port}}?pkt_size={12 + frame_bytes}"
    command = (
        "ffmpeg", "-v", "error", "-nostdin", "-i", "{speech}", "-t", f"{SECONDS:g}",
        "-af", filters, "-c:a", *encoder.split(), "-payload_type", str(payload_type),
        "-f", "rtp", "-rtpflags", "send_bye", target,
    )  # fmt: skip
    return PeerCall("ffmpeg", codec, payload_type, command)


def _gstreamer(codec: str, payload_type: int, rate_hz: int, elements: str) -> PeerCall:
    command = (
        "gst-launch-1.0", "-q", "filesrc", "location={speech}", "!", "wavparse", "!",
        "audioconvert", "!", "audioresample", "!",
        f"audio/x-raw,rate={rate_hz},channels=1", "!", *elements.split(), f"pt={payload_type}",
        "!", "udpsink", "host=127.0.0.1", "port={port}", "sync=true",
    )  # fmt: skip
    return PeerCall("gst-launch-1.0", codec, payload_type, command)


# ffmpeg packs no GSM into RTP ("Unsupported codec gsm").
_PTIME = "min-ptime=20000000 max-ptime=20000000"
CALLS = (
    _ffmpeg("PCMU", 0, "pcm_mulaw", 8_000, 160),
    _ffmpeg("PCMA", 8, "pcm_alaw", 8_000, 160),
    _ffmpeg("G722", 9, "g722", 16_000, 160),
    _ffmpeg("L16/16000", 97, "pcm_s16be", 16_000, 640),
    _ffmpeg("opus/48000/2", 111, "libopus -b:a 32k -frame_duration 20", 48_000, 1_200),
    _gstreamer("PCMU", 0, 8_000, f"mulawenc ! rtppcmupay {_PTIME}"),
    _gstreamer("PCMA", 8, 8_000, f"alawenc ! rtppcmapay {_PTIME}"),
    _gstreamer("G722", 9, 16_000, f"avenc_g722 ! rtpg722pay {_PTIME}"),
    _gstreamer("L16/16000", 97, 16_000, f"audioconvert ! rtpL16pay {_PTIME}"),
    _gstreamer("opus/48000/2", 111, 48_000, "opusenc bitrate=32000 ! rtpopuspay"),
    _gstreamer("GSM", 3, 8_000, "gsmenc ! rtpgsmpay"),
)


def record(speech: Path, calls: Sequence[PeerCall]) -> dict[str, list[Arrival]]:
    """All senders at work at once; what arrived of each, by its name."""
    arrivals: dict[str, list[Arrival]] = {call.name: [] for call in calls}
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        peers = []
        for call, port in zip(calls, free_ports(len(calls)), strict=True):
            for number in (port, port + 1):  # RTCP has a port, too: or its sender is told so
                sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
                sock.setblocking(False)
                sock.bind(("127.0.0.1", number))
                if number == port:
                    selector.register(sock, selectors.EVENT_READ, arrivals[call.name])
            words = [word.format(speech=speech, port=port) for word in call.command]
            peers.append(
                subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            )
        try:
            deadline = time.monotonic() + WAIT_S
            over_at = deadline
            while time.monotonic() < min(deadline, over_at):
                for key, _ in selector.select(0.1):
                    _read(key)
                if over_at == deadline and all(peer.poll() is not None for peer in peers):
                    over_at = time.monotonic() + 0.3
        finally:
            for peer in peers:
                peer.kill()
                peer.wait()
    return arrivals


def _read(key: selectors.SelectorKey) -> None:
    assert isinstance(key.fileobj, socket.socket)
    with contextlib.suppress(BlockingIOError):
        while True:
            data, sender = key.fileobj.recvfrom(6_144)
            # A capture has microseconds: what is compared with it must not have more.
            key.data.append(Arrival(round(time.monotonic(), 6), data, sender[1]))


def media(arrivals: Sequence[Arrival]) -> list[tuple[float, RtpPacket]]:
    """The RTP among them."""
    found = []
    for arrival in arrivals:
        packet = parse(arrival.data)
        if isinstance(packet, RtpPacket):
            found.append((arrival.at_s, packet))
    return found


def heard(
    arrivals: Sequence[Arrival],
    drops: Counter[str],
    payload_types: Mapping[int, str] = PAYLOAD_TYPES,
) -> list[SourceEvent]:
    """What our own port makes of it, up to the end of the leg."""
    settings = RtpSettings.model_validate(
        {"name": "t", "ports": [40_000], "payload_types": dict(payload_types)}
    )
    port = RtpPort("t", settings, LegCount(4), drops, lambda host: True)
    events: list[SourceEvent] = []
    now = 0.0
    for arrival in arrivals:
        now = arrival.at_s
        events += port.datagram(arrival.data, ("127.0.0.1", arrival.port), now)
    return events + port.tick(now + 61.0)


def likeness(events: Sequence[SourceEvent], rate_hz: int, said: Path) -> float:
    """Of what was heard and what was said, in the telephone band: the greatest normalised
    correlation over delays of up to 0.2 s."""
    parts = [event.samples.astype(np.float64) for event in events if isinstance(event, Audio)]
    original, original_hz = soundfile.read(said)
    ours = soxr.resample(np.concatenate(parts), rate_hz, 8_000)
    theirs = soxr.resample(original, original_hz, 8_000)
    longest = 1_600
    count = min(len(ours), len(theirs)) - longest
    return max(
        float(np.corrcoef(ours[delay : delay + count], theirs[:count])[0, 1])
        for delay in range(longest)
    )


@dataclass(frozen=True, slots=True)
class WiresharkView:
    """A line of ``rtp,streams``."""

    packets: int
    lost: int
    jitter_max_ms: float


def wireshark(path: Path, packets: Sequence[tuple[float, RtpPacket]], codec: str) -> WiresharkView:
    """What tshark says of these packets; an SDP before them tells it the clock of the codec."""
    tshark = shutil.which("tshark")
    assert tshark is not None
    rtpmap = f"{codec}/8000" if "/" not in codec else codec
    number = packets[0][1].payload_type
    sdp = (
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        f"m=audio 40000 RTP/AVP {number}\r\na=rtpmap:{number} {rtpmap}\r\n"
    )
    invite = (
        "INVITE sip:b@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1\r\n"
        "From: <sip:a@127.0.0.1>;tag=1\r\nTo: <sip:b@127.0.0.1>\r\nCall-ID: 1\r\n"
        "CSeq: 1 INVITE\r\nContent-Type: application/sdp\r\n"
        f"Content-Length: {len(sdp)}\r\n\r\n{sdp}"
    )
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 101))
        _write(file, packets[0][0] - 0.1, 5_060, 5_060, invite.encode())
        for at_s, packet in packets:
            _write(file, at_s, 4_000, 40_000, build_packet(packet))
    report = subprocess.run(
        [tshark, "-r", path, "-q", "-z", "rtp,streams"],
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip
    ssrc = f"0x{packets[0][1].ssrc:08X}"
    (line,) = (line for line in report.splitlines() if ssrc in line)
    # SSRC, payload, packets, lost, (percent), three deltas, jitter: least, mean, greatest
    fields = line[line.index(ssrc) :].replace("ITU-T ", "").split()
    at = next(i for i, word in enumerate(fields) if word.startswith("("))
    return WiresharkView(int(fields[at - 2]), int(fields[at - 1]), float(fields[at + 6]))


def _write(file: BinaryIO, at_s: float, source: int, target: int, payload: bytes) -> None:
    udp = struct.pack("!HHHH", source, target, 8 + len(payload), 0) + payload
    host = b"\x7f\x00\x00\x01"
    data = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + host + host + udp
    whole_s, micro_s = divmod(round(at_s * 1e6), 10**6)
    file.write(struct.pack("<IIII", whole_s, micro_s, len(data), len(data)) + data)


def thinned(packets: Sequence[tuple[float, RtpPacket]]) -> list[tuple[float, RtpPacket]]:
    """Every thirteenth packet is lost, but for the first and last ones."""
    inner = [one for n, one in enumerate(packets[2:-2]) if n % 13 != 5]
    return [*packets[:2], *inner, *packets[-2:]]
