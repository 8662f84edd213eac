"""A clean RTP stream of G.711, and what senders do to theirs. Pure; random by a generator."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamguard.audio.g711 import decode_ulaw, encode_alaw, encode_ulaw
from streamguard.protocols.rtp import RtpPacket, TelephoneEvent, build_telephone_event

if TYPE_CHECKING:
    import numpy.typing as npt

RATE_HZ = 8_000
PACKET_SAMPLES = 160
PACKET_S = PACKET_SAMPLES / RATE_HZ
PCMU, PCMA, COMFORT_NOISE, EVENT = 0, 8, 13, 101
CN_EVERY_PACKETS = 10
"""A comfort-noise update every 200 ms."""
CN_LEVEL_DBOV = 60
PAUSE_DB = 30.0
"""What lies so far below the level of the speech is a pause that need not be sent."""
HANG_PACKETS = 10
"""Packets of a pause that are sent all the same: 200 ms, so that no word loses its end."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A packet and a moment in seconds: that of sending, or of arrival."""

    at_s: float
    packet: RtpPacket


def clean_stream(samples: npt.NDArray[np.int16], random: np.random.Generator) -> list[Sent]:
    """``samples`` (8 kHz) as PCMU, 20 ms a packet, numbers beginning anywhere (RFC 3550 5.1)."""
    sequence, timestamp, ssrc = (int(random.integers(0, 1 << bits)) for bits in (16, 32, 32))
    return [
        Sent(
            index * PACKET_S,
            RtpPacket(
                payload_type=PCMU,
                marker=index == 0,
                sequence=(sequence + index) & 0xFFFF,
                timestamp=(timestamp + start) & 0xFFFF_FFFF,
                ssrc=ssrc,
                payload=encode_ulaw(samples[start : start + PACKET_SAMPLES]),
            ),
        )
        for index, start in enumerate(range(0, len(samples) - PACKET_SAMPLES + 1, PACKET_SAMPLES))
    ]


def wrapping(stream: Sequence[Sent], random: np.random.Generator) -> list[Sent]:
    """Sequence numbers and timestamps wrap two seconds into the call."""
    first = stream[0].packet
    ahead = round(2.0 / PACKET_S)
    steps = -ahead - first.sequence, -ahead * PACKET_SAMPLES - first.timestamp
    return [_moved(one, *steps) for one in stream]


def ssrc_flips(
    stream: Sequence[Sent], random: np.random.Generator, every_s: float = 5.0
) -> list[Sent]:
    """Another SSRC, with numbers of its own, every few seconds: transfers, re-INVITEs."""
    out: list[Sent] = []
    part, steps, ssrc = 0, (0, 0), stream[0].packet.ssrc
    for one in stream:
        if int(one.at_s / every_s) != part:
            part = int(one.at_s / every_s)
            steps = int(random.integers(0, 1 << 16)), int(random.integers(0, 1 << 32))
            ssrc = int(random.integers(0, 1 << 32))
        moved = _moved(one, *steps)
        out.append(Sent(one.at_s, dataclasses.replace(moved.packet, ssrc=ssrc)))
    return out


def timestamp_jumps(
    stream: Sequence[Sent], random: np.random.Generator, every_s: float = 5.0
) -> list[Sent]:
    """Timestamps jump by up to an hour, ahead and back, while the sequence goes on."""
    out: list[Sent] = []
    part = step = 0
    for one in stream:
        if int(one.at_s / every_s) != part:
            part = int(one.at_s / every_s)
            step += int(random.integers(-3_600 * RATE_HZ, 3_600 * RATE_HZ))
        out.append(_moved(one, 0, step))
    return out


def payload_type_switch(
    stream: Sequence[Sent], random: np.random.Generator, every_s: float = 7.0
) -> list[Sent]:
    """From PCMU to PCMA and back, every few seconds."""
    return [
        one
        if int(one.at_s / every_s) % 2 == 0
        else Sent(
            one.at_s,
            dataclasses.replace(
                one.packet,
                payload_type=PCMA,
                payload=encode_alaw(decode_ulaw(one.packet.payload)),
            ),
        )
        for one in stream
    ]


def comfort_noise(stream: Sequence[Sent], random: np.random.Generator) -> list[Sent]:
    """Pauses are not sent; comfort noise (RFC 3389) says so."""
    levels = np.array([_level_db(one.packet.payload) for one in stream])
    speech = levels > levels.max() - PAUSE_DB
    out: list[Sent] = []
    quiet = 0
    for one, spoken in zip(stream, speech, strict=True):
        quiet = 0 if spoken else quiet + 1
        if quiet <= HANG_PACKETS:
            out.append(one)
        elif (quiet - HANG_PACKETS) % CN_EVERY_PACKETS == 1:
            noise = dataclasses.replace(
                one.packet, payload_type=COMFORT_NOISE, payload=bytes([CN_LEVEL_DBOV])
            )
            out.append(Sent(one.at_s, noise))
    return _renumbered(out)


def telephone_events(
    stream: Sequence[Sent], random: np.random.Generator, every_s: float = 4.0, length: int = 10
) -> list[Sent]:
    """A digit of 200 ms every few seconds, in place of the audio (RFC 4733)."""
    out: list[Sent] = []
    every = round(every_s / PACKET_S)
    for index, one in enumerate(stream):
        within = index % every
        if index < every or within >= length:
            out.append(one)
            continue
        start = stream[index - within].packet.timestamp
        last = within == length - 1
        event = TelephoneEvent(5, last, -10, (within + 1) * PACKET_SAMPLES)
        packet = dataclasses.replace(
            one.packet,
            payload_type=EVENT,
            marker=within == 0,
            timestamp=start,
            payload=build_telephone_event(event),
        )
        # The last packet is sent three times, each with a number of its own (section 2.5.1.4).
        copies = 3 if last else 1
        out += [Sent(one.at_s, dataclasses.replace(packet)) for _ in range(copies)]
    return _renumbered(out)


def _moved(one: Sent, sequence: int, timestamp: int) -> Sent:
    packet = one.packet
    return Sent(
        one.at_s,
        dataclasses.replace(
            packet,
            sequence=(packet.sequence + sequence) & 0xFFFF,
            timestamp=(packet.timestamp + timestamp) & 0xFFFF_FFFF,
        ),
    )


def _renumbered(stream: Iterable[Sent]) -> list[Sent]:
    """Sequence numbers without holes, in the order of sending."""
    out: list[Sent] = []
    for one in stream:
        first = out[0].packet.sequence if out else one.packet.sequence
        number = (first + len(out)) & 0xFFFF
        out.append(Sent(one.at_s, dataclasses.replace(one.packet, sequence=number)))
    return out


def _level_db(payload: bytes) -> float:
    power = float(np.mean(decode_ulaw(payload).astype(np.float64) ** 2))
    return 10 * float(np.log10(power + 1.0))
