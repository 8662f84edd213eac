"""Calls as a capture has them: signalling and both voices, in the order of their times."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from streamguard.audio.g711 import encode_ulaw
from streamguard.protocols.rtp import RtpPacket, build_packet
from tools.capture_writer import Captured, Endpoint, udp
from tools.sip_call import SipCall

START_UTC = 1_700_000_000.0
PACKET_SAMPLES = 160
PACKET_S = 0.02


def tone(seconds: float, hertz: float = 440.0) -> npt.NDArray[np.int16]:
    """8 kHz."""
    at = np.arange(round(8_000 * seconds)) / 8_000
    return (8_000 * np.sin(2 * np.pi * hertz * at)).astype(np.int16)


def narrow(path: Path) -> npt.NDArray[np.int16]:
    """A recording at 8 kHz."""
    samples, rate_hz = soundfile.read(path, dtype="float32")
    out: npt.NDArray[np.float32] = soxr.resample(samples, rate_hz, 8_000)
    return (out * 32_767).clip(-32_768, 32_767).astype(np.int16)


def rtp_packets(
    samples: npt.NDArray[np.int16], *, ssrc: int = 0x1234, sequence: int = 7, timestamp: int = 99
) -> list[RtpPacket]:
    """PCMU, 20 ms a packet."""
    return [
        RtpPacket(
            payload_type=0,
            marker=index == 0,
            sequence=(sequence + index) & 0xFFFF,
            timestamp=(timestamp + start) & 0xFFFF_FFFF,
            ssrc=ssrc,
            payload=encode_ulaw(samples[start : start + PACKET_SAMPLES]),
        )
        for index, start in enumerate(range(0, len(samples) - PACKET_SAMPLES + 1, PACKET_SAMPLES))
    ]


def stream(
    packets: Iterable[RtpPacket], source: Endpoint, target: Endpoint, start_s: float = 0.0
) -> list[Captured]:
    """One flow of RTP, a packet every 20 ms; frames are raw IP."""
    return [
        Captured(START_UTC + start_s + PACKET_S * index, udp(source, target, build_packet(packet)))
        for index, packet in enumerate(packets)
    ]


def signal(message: bytes, call: SipCall, at_s: float, *, to_caller: bool = False) -> Captured:
    """A message of SIP over UDP."""
    ends = (call.callee, call.caller) if to_caller else (call.caller, call.callee)
    return Captured(START_UTC + at_s, udp(*ends, message))


def sip_call(
    caller: npt.NDArray[np.int16],
    callee: npt.NDArray[np.int16],
    call: SipCall | None = None,
    start_s: float = 0.0,
) -> list[Captured]:
    """A whole call: INVITE, answer, both voices, BYE; over when the longer voice is."""
    call = call or SipCall()
    length_s = max(len(caller), len(callee)) / 8_000
    begin = start_s + 0.1
    frames = [
        signal(call.invite(), call, start_s),
        signal(call.answer(), call, start_s + 0.05, to_caller=True),
        signal(call.ack(), call, start_s + 0.06),
        *stream(rtp_packets(caller, ssrc=0xA), call.caller_media, call.callee_media, begin),
        *stream(rtp_packets(callee, ssrc=0xB), call.callee_media, call.caller_media, begin + 0.005),
        signal(call.bye(), call, begin + length_s + 0.05),
    ]
    return in_order(frames)


def in_order(frames: Sequence[Captured]) -> list[Captured]:
    return sorted(frames, key=lambda frame: frame.time_s)
