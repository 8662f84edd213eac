"""Senders and readers that the tests of RTP share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from streamguard.audio.g711 import decode_ulaw
from streamguard.events import Audio, Gap, GapReason, SegmentStarted, SourceEvent
from streamguard.protocols.rtp import RtpPacket
from streamguard.protocols.rtp_codecs import COMFORT_NOISE, DTMF, PCMA, PCMU
from streamguard.protocols.rtp_stream import RtpStream

PACKET_SAMPLES = 160
PACKET_S = 0.02
FORMATS = {0: PCMU, 8: PCMA, 13: COMFORT_NOISE, 101: DTMF}


def voice(index: int) -> bytes:
    """A payload that no other packet has."""
    return np.random.default_rng(index).integers(0, 256, PACKET_SAMPLES, np.uint8).tobytes()


def packet(
    index: int,
    *,
    first_sequence: int = 100,
    first_timestamp: int = 5_000,
    ssrc: int = 0xABCD,
    payload_type: int = 0,
    payload: bytes | None = None,
    skipped_samples: int = 0,
) -> RtpPacket:
    """Packet ``index`` of a clean stream, after ``skipped_samples`` of unsent silence."""
    return RtpPacket(
        payload_type=payload_type,
        marker=False,
        sequence=(first_sequence + index) & 0xFFFF,
        timestamp=(first_timestamp + index * PACKET_SAMPLES + skipped_samples) & 0xFFFF_FFFF,
        ssrc=ssrc,
        payload=voice(index) if payload is None else payload,
    )


def stream(drops: Counter[str] | None = None, depth_s: float = 0.06) -> RtpStream:
    return RtpStream("leg", FORMATS, Counter() if drops is None else drops, depth_s)


def play(receiver: RtpStream, packets: Iterable[RtpPacket]) -> list[SourceEvent]:
    """Receive at a packet every 20 ms, then everything that is still held."""
    events: list[SourceEvent] = []
    for number, one in enumerate(packets):
        events += receiver.receive(one, number * PACKET_S)
    return events + receiver.flush()


def samples_of(events: Iterable[SourceEvent]) -> npt.NDArray[np.int16]:
    """The leg as a listener has it: gaps are zeros. Fails when positions have holes or overlap."""
    parts: list[npt.NDArray[np.int16]] = []
    position = 0
    for event in events:
        if isinstance(event, Audio | Gap | SegmentStarted):
            assert event.first_sample == position
        if isinstance(event, Audio):
            assert event.samples.dtype == np.int16
            parts.append(event.samples.astype(np.int16))
            position += len(event.samples)
        elif isinstance(event, Gap):
            parts.append(np.zeros(event.count, np.int16))
            position += event.count
    return np.concatenate(parts) if parts else np.zeros(0, np.int16)


def gaps_of(events: Iterable[SourceEvent]) -> list[tuple[int, int, GapReason]]:
    return [(e.first_sample, e.count, e.reason) for e in events if isinstance(e, Gap)]


def segments_of(events: Iterable[SourceEvent]) -> list[str]:
    return [e.reason for e in events if isinstance(e, SegmentStarted)]


def sent(indices: Iterable[int]) -> npt.NDArray[np.int16]:
    return np.concatenate([decode_ulaw(voice(index)) for index in indices])
