"""One received RTP stream on the sample clock of its leg: packets in, events out. Pure.

Timestamps count samples, sequence numbers count packets: a step in both is loss, a step in the
timestamp alone is silence that was not sent (DTX). Positions count from 0 and have no holes:
every sample of the leg is in exactly one ``Audio`` or ``Gap``. A ``Tone`` lies over them, may reach
ahead of what has come so far, and is repeated with the same start while it grows.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from streamguard.audio.g711 import decode_alaw, decode_ulaw
from streamguard.events import (
    Audio,
    Gap,
    GapReason,
    MediaChanged,
    SegmentStarted,
    SourceEvent,
    Tone,
)
from streamguard.protocols.jitter import (
    DEFAULT_DEPTH_S,
    JitterBuffer,
    JitterEstimator,
    Released,
    follows,
    signed32,
)
from streamguard.protocols.rtp import RtpPacket, parse_telephone_event

CLOCK_RATE_HZ = 8_000
"""Of every payload format below (RFC 3551)."""
MAX_GAP_S = 60.0
"""A longer silence inside a stream starts a new talk segment instead of being filled in."""
GAP_AHEAD_S = 1.0
"""How far a timestamp may step beyond the time that passed: some senders burst after a stall."""
RESTART_SILENCE_S = 0.1
"""A pause before a new segment longer than this is kept as a gap, so that positions keep to the
wall clock; shorter ones are jitter."""

_DECODERS = {"PCMU": decode_ulaw, "PCMA": decode_alaw}


class PayloadFormat(enum.StrEnum):
    """What a payload type number carries; names as in SDP."""

    PCMU = "PCMU"
    PCMA = "PCMA"
    CN = "CN"
    """RFC 3389 comfort noise: the sender says that nothing is said."""
    TELEPHONE_EVENT = "telephone-event"

    @property
    def is_audio(self) -> bool:
        return self in _DECODERS


@dataclass(frozen=True, slots=True)
class Reception:
    """How well a stream has arrived so far."""

    expected: int
    """Packets."""
    lost: int
    """Packets that could not be played in time."""
    late: int
    duplicates: int
    jitter_s: float

    @property
    def loss_pct(self) -> float:
        return 100.0 * self.lost / self.expected if self.expected else 0.0


class RtpStream:
    """State of one leg received over RTP; owned by its source, fed in order of arrival.

    ``drops`` is shared with the owner and counts, by reason, every packet that is not played.
    """

    def __init__(
        self,
        leg: str,
        formats: Mapping[int, PayloadFormat],
        drops: Counter[str],
        depth_s: float = DEFAULT_DEPTH_S,
    ) -> None:
        self._leg = leg
        self._formats = formats
        self._drops = drops
        self._depth_s = depth_s
        self._ssrc: int | None = None
        self._buffer: JitterBuffer | None = None
        self._candidate: tuple[RtpPacket, float] | None = None
        """First packet of what may be a new sequence space; a second one must confirm it."""
        self._jitter = JitterEstimator(CLOCK_RATE_HZ)
        self._past = Reception(0, 0, 0, 0, 0.0)
        self._codec: PayloadFormat | None = None
        self._position = 0
        self._next_timestamp: int | None = None
        self._last_arrival = 0.0
        self._packet_samples = 160
        self._lost_packets = 0
        self._tone_stop = 0
        self.silent = False
        """Whether the sender announced silence (comfort noise) and has not spoken since."""

    @property
    def ssrc(self) -> int | None:
        return self._ssrc

    @property
    def held(self) -> int:
        """Packets waiting behind a hole."""
        return len(self._buffer) if self._buffer is not None else 0

    @property
    def reception(self) -> Reception:
        """Over all sequence spaces of the leg."""
        past, buffer = self._past, self._buffer
        if buffer is None:
            return past
        return Reception(
            expected=past.expected + buffer.received + buffer.lost,
            lost=past.lost + buffer.lost,
            late=past.late + buffer.late,
            duplicates=past.duplicates + buffer.duplicates,
            jitter_s=self._jitter.jitter_s,
        )

    def receive(self, packet: RtpPacket, now: float) -> list[SourceEvent]:
        """Take one packet of this leg's sender; what became playable by it."""
        if self._buffer is None:
            self._open(packet)
        elif packet.ssrc != self._ssrc or not self._buffer.accepts(packet.sequence):
            return self._probe(packet, now)
        assert self._buffer is not None
        self._drop_candidate()
        payload_format = self._formats.get(packet.payload_type)
        if payload_format not in (None, PayloadFormat.TELEPHONE_EVENT):
            self._jitter.update(packet.timestamp, now)
        late, duplicates = self._buffer.late, self._buffer.duplicates
        released = self._buffer.push(packet, now)
        self._drops["late"] += self._buffer.late - late
        self._drops["duplicate"] += self._buffer.duplicates - duplicates
        return self._play(released)

    def poll(self, now: float) -> list[SourceEvent]:
        """What became playable by the passing of time."""
        return self._play(self._buffer.poll(now)) if self._buffer is not None else []

    def deadline(self) -> float | None:
        """When :meth:`poll` will have something, if nothing else arrives."""
        return self._buffer.deadline() if self._buffer is not None else None

    def flush(self) -> list[SourceEvent]:
        """Everything still held; call before the leg ends."""
        return self._play(self._buffer.flush()) if self._buffer is not None else []

    def _open(self, packet: RtpPacket) -> None:
        self._ssrc = packet.ssrc
        self._buffer = JitterBuffer(packet.sequence, self._depth_s)

    def _drop_candidate(self) -> None:
        if self._candidate is not None:
            self._candidate = None
            self._drops["stray"] += 1

    def _probe(self, packet: RtpPacket, now: float) -> list[SourceEvent]:
        """A restart counts when two packets in a row agree and none of the old stream is between
        them: two streams mixed on one port do not cut each other to pieces, nor does video."""
        payload_format = self._formats.get(packet.payload_type)
        if payload_format is None or not payload_format.is_audio:
            self._drops["stray"] += 1
            return self.poll(now)
        if self._candidate is None or not follows(self._candidate[0], packet):
            self._drop_candidate()
            self._candidate = (packet, now)
            return self.poll(now)
        first, arrived_at = self._candidate
        self._candidate = None
        reason = "ssrc" if packet.ssrc != self._ssrc else "sequence"
        events = self.flush()
        self._past = self.reception
        self._open(first)
        self._jitter.update(first.timestamp, arrived_at)
        self._jitter.update(packet.timestamp, now)
        self._lost_packets = 0
        if self._next_timestamp is not None:
            events += self._segment(reason, arrived_at)
        assert self._buffer is not None
        return [
            *events,
            *self._play(self._buffer.push(first, arrived_at)),
            *self._play(self._buffer.push(packet, now)),
        ]

    def _play(self, released: list[Released]) -> list[SourceEvent]:
        events: list[SourceEvent] = []
        for item in released:
            self._lost_packets += item.lost_before
            payload_format = self._formats.get(item.packet.payload_type)
            if payload_format is None:
                self._drops["payload_type"] += 1
            elif payload_format is PayloadFormat.TELEPHONE_EVENT:
                events += self._tone(item)
            elif payload_format is PayloadFormat.CN:
                events += self._advance(item)
                self.silent = True
            elif not item.packet.payload:
                self._drops["empty"] += 1
            else:
                events += self._audio(item, payload_format)
        return events

    def _audio(self, item: Released, codec: PayloadFormat) -> list[SourceEvent]:
        events = self._advance(item)
        if codec is not self._codec:
            if self._codec is not None:
                events.append(MediaChanged(self._leg, codec.value, CLOCK_RATE_HZ))
            self._codec = codec
        samples = _DECODERS[codec](item.packet.payload)
        samples.flags.writeable = False
        events.append(Audio(self._leg, self._position, samples, item.arrived_at))
        self._position += len(samples)
        self._packet_samples = len(samples)
        self._next_timestamp = item.packet.timestamp + len(samples) & 0xFFFF_FFFF
        self.silent = False
        return events

    def _advance(self, item: Released) -> list[SourceEvent]:
        """Bring the position to the packet's timestamp: by a gap if that is believable, else by a
        new segment (a jump must neither create hours of zeros nor run backwards)."""
        timestamp, arrived_at = item.packet.timestamp, item.arrived_at
        events: list[SourceEvent] = []
        if self._next_timestamp is not None:
            step = signed32(timestamp - self._next_timestamp)
            longest_s = min(MAX_GAP_S, arrived_at - self._last_arrival + GAP_AHEAD_S)
            if 0 <= step <= longest_s * CLOCK_RATE_HZ:
                lost = min(step, self._lost_packets * self._packet_samples)
                events += self._gap(lost, GapReason.LOST, arrived_at)
                events += self._gap(step - lost, GapReason.DTX, arrived_at)
            else:
                events += self._segment("timestamp", arrived_at)
        self._lost_packets = 0
        self._last_arrival = arrived_at
        self._next_timestamp = timestamp
        return events

    def _segment(self, reason: str, arrived_at: float) -> list[SourceEvent]:
        silence_s = min(MAX_GAP_S, arrived_at - self._last_arrival)
        silence_s -= self._packet_samples / CLOCK_RATE_HZ
        events: list[SourceEvent] = []
        if silence_s > RESTART_SILENCE_S:
            events += self._gap(round(silence_s * CLOCK_RATE_HZ), GapReason.LOST, arrived_at)
        events.append(SegmentStarted(self._leg, self._position, reason))
        self._next_timestamp = None
        self._last_arrival = arrived_at
        self._tone_stop = self._position
        return events

    def _gap(self, count: int, reason: GapReason, arrived_at: float) -> list[SourceEvent]:
        if count == 0:
            return []
        gap = Gap(self._leg, self._position, count, reason, arrived_at)
        self._position += count
        return [gap]

    def _tone(self, item: Released) -> list[SourceEvent]:
        """The event so far, if this report says more of it than the ones before."""
        event = parse_telephone_event(item.packet.payload)
        if event is None:
            self._drops["event_malformed"] += 1
            return []
        if self._next_timestamp is None:
            self._drops["event_before_audio"] += 1
            return []
        start = self._position + signed32(item.packet.timestamp - self._next_timestamp)
        longest_s = item.arrived_at - self._last_arrival + GAP_AHEAD_S
        if not -MAX_GAP_S <= (start - self._position) / CLOCK_RATE_HZ <= min(MAX_GAP_S, longest_s):
            self._drops["event_timestamp"] += 1
            return []
        stop = start + event.duration
        start = max(start, 0)
        if stop <= max(start, self._tone_stop):
            return []
        self._tone_stop = stop
        return [Tone(self._leg, start, stop - start, event.name, item.arrived_at)]
