"""One received RTP stream on the sample clock of its leg: packets in, events out. Pure.

Timestamps count time, sequence numbers count packets: a step in both is loss, a step in the
timestamp alone is silence that was not sent (DTX). Positions count from 0 and have no holes:
every sample of the leg is in exactly one ``Audio`` or ``Gap``. A ``Tone`` lies over them, may reach
ahead of what has come so far, and is repeated with the same start while it grows.

Positions are in samples of the codec in use; timestamps are in its RTP clock, which for G.722 is
another one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from streamguard.audio.decoders import Codec, PayloadDecoder
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
from streamguard.protocols.rtp_codecs import CN, PCMU, TELEPHONE_EVENT, PayloadFormat

MAX_GAP_S = 60.0
"""A longer silence inside a stream starts a new talk segment instead of being filled in."""
GAP_AHEAD_S = 1.0
"""How far a timestamp may step beyond the time that passed: some senders burst after a stall."""
RESTART_SILENCE_S = 0.1
"""A pause before a new segment longer than this is kept as a gap, so that positions keep to the
wall clock; shorter ones are jitter."""

OPUS_DTX_BYTES = 2
"""An Opus packet no longer than this is silence (DTX, RFC 7587 section 3.1.3)."""
PACKET_S = 0.02
"""What a lost packet is taken to have held before the first one was decoded."""


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
    ``announced`` is what ``LegStarted`` said; audio of another format begins with ``MediaChanged``.
    ``formats`` may be replaced while the leg runs (re-INVITE); packets that wait take the new ones.
    """

    def __init__(
        self,
        leg: str,
        formats: Mapping[int, PayloadFormat],
        drops: Counter[str],
        depth_s: float = DEFAULT_DEPTH_S,
        announced: PayloadFormat = PCMU,
    ) -> None:
        self._leg = leg
        self.formats = formats
        self._drops = drops
        self._depth_s = depth_s
        self._format = announced
        self._decoder: PayloadDecoder | None = None
        """None until the next packet of audio: a talk segment begins with a fresh one."""
        self._ssrc: int | None = None
        self._buffer: JitterBuffer | None = None
        self._candidate: tuple[RtpPacket, float] | None = None
        """First packet of what may be a new sequence space; a second one must confirm it."""
        self._jitter = JitterEstimator(announced.clock_hz)
        self._past = Reception(0, 0, 0, 0, 0.0)
        self._position = 0
        self._next_timestamp: int | None = None
        self._last_arrival = 0.0
        self._packet_samples = round(PACKET_S * announced.rate_hz)
        self._lost_packets = 0
        self._ahead_s = GAP_AHEAD_S
        """How far all gaps together may yet run ahead of the time that passed: each may be believed
        by itself, and a gap in every packet makes hours of zeros all the same."""
        self._early_ticks = 0
        """How far the samples are ahead of the timestamps, which were early."""
        self._tone_stop = 0
        self._event: tuple[int, int] | None = None
        """Timestamp and start of the newest event that is on another clock than the audio."""
        self.silent = False
        """Whether the sender announced silence (comfort noise) and has not spoken since."""

    @property
    def ssrc(self) -> int | None:
        return self._ssrc

    @property
    def clock_hz(self) -> int:
        """Of the timestamps now."""
        return self._format.clock_hz

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
        payload_format = self.formats.get(packet.payload_type)
        if payload_format is not None and len(packet.payload) > payload_format.most_bytes:
            self._drops["oversized"] += 1
            return []
        if self._buffer is None:
            self._open(packet)
        elif packet.ssrc != self._ssrc or not self._buffer.accepts(packet.sequence):
            return self._probe(packet, now)
        assert self._buffer is not None
        self._drop_candidate()
        if payload_format is not None and payload_format.name != TELEPHONE_EVENT:
            self._measure(packet, payload_format, now)
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

    def _measure(self, packet: RtpPacket, payload_format: PayloadFormat, now: float) -> None:
        if payload_format.clock_hz != self._jitter.rate_hz:
            self._jitter = JitterEstimator(payload_format.clock_hz)
        self._jitter.update(packet.timestamp, now)

    def _drop_candidate(self) -> None:
        if self._candidate is not None:
            self._candidate = None
            self._drops["stray"] += 1

    def _probe(self, packet: RtpPacket, now: float) -> list[SourceEvent]:
        """A restart counts when two packets in a row agree and none of the old stream is between
        them: two streams mixed on one port do not cut each other to pieces, nor does video."""
        payload_format = self.formats.get(packet.payload_type)
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
        self._measure(first, payload_format, arrived_at)
        self._measure(packet, payload_format, now)
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
            payload_format = self.formats.get(item.packet.payload_type)
            if payload_format is None:
                self._drops["payload_type"] += 1
            elif payload_format.name == TELEPHONE_EVENT:
                events += self._tone(item, payload_format)
            elif payload_format.name == CN:
                events += self._silence(item, payload_format)
            elif not item.packet.payload:
                self._drops["empty"] += 1
            elif payload_format.codec is Codec.OPUS and len(item.packet.payload) <= OPUS_DTX_BYTES:
                events += self._silence(item, payload_format)
            else:
                events += self._audio(item, payload_format)
        return events

    def _silence(self, item: Released, payload_format: PayloadFormat) -> list[SourceEvent]:
        self.silent = True
        # Comfort noise on a clock of its own says nothing of when.
        if payload_format.clock_hz != self._format.clock_hz:
            return []
        return self._advance(item)

    def _audio(self, item: Released, payload_format: PayloadFormat) -> list[SourceEvent]:
        events: list[SourceEvent] = []
        if payload_format.clock_hz != self._format.clock_hz and self._next_timestamp is not None:
            # Timestamps of two clocks cannot be subtracted (RFC 7160 section 3).
            events += self._segment("clock", item.arrived_at)
        events += self._advance(item)
        if payload_format != self._format:
            events.append(self._switch(payload_format))
        if self._decoder is None:
            self._decoder = payload_format.decoder()
        samples = self._decoder.decode(item.packet.payload)
        self.silent = False
        if not len(samples):
            # It came, but nothing of it is heard: what the next timestamp leaves open is loss.
            self._drops["undecodable"] += 1
            self._lost_packets = 1
            return events
        events.append(Audio(self._leg, self._position, samples, item.arrived_at))
        self._position += len(samples)
        self._packet_samples = len(samples)
        self._next_timestamp = item.packet.timestamp + payload_format.ticks(len(samples))
        self._next_timestamp &= 0xFFFF_FFFF
        return events

    def _switch(self, payload_format: PayloadFormat) -> MediaChanged:
        """Go on in another format; positions go on at the same time in its rate."""
        rate_hz, old_rate_hz = payload_format.rate_hz, self._format.rate_hz
        self._position = self._position * rate_hz // old_rate_hz
        self._tone_stop = self._tone_stop * rate_hz // old_rate_hz
        self._packet_samples = self._packet_samples * rate_hz // old_rate_hz
        self._format = payload_format
        self._decoder = None
        return MediaChanged(self._leg, payload_format.name, rate_hz)

    def _advance(self, item: Released) -> list[SourceEvent]:
        """Bring the position to the packet's timestamp: by a gap if that is believable, else by a
        new segment (a jump must neither create hours of zeros nor run backwards)."""
        timestamp, arrived_at = item.packet.timestamp, item.arrived_at
        events: list[SourceEvent] = []
        if self._next_timestamp is not None:
            ticks = signed32(timestamp - self._next_timestamp)
            if -self._packet_samples <= self._format.samples(ticks) < 0:
                # A timestamp a little early is no jump: encoders cut their look-ahead off the first
                # packet (Opus), gateways stamp by their clock. The next gap is shorter by as much.
                self._early_ticks -= ticks
                ticks = 0
            elif 0 < ticks:
                repaid = min(ticks, self._early_ticks)
                self._early_ticks -= repaid
                ticks -= repaid
            passed_s = arrived_at - self._last_arrival
            longest_s = min(MAX_GAP_S, passed_s + GAP_AHEAD_S, max(0.0, passed_s + self._ahead_s))
            if 0 <= ticks <= longest_s * self._format.clock_hz:
                self._ahead_s += passed_s - ticks / self._format.clock_hz
                self._ahead_s = min(self._ahead_s, MAX_GAP_S)
                step = self._format.samples(ticks)
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
        rate_hz = self._format.rate_hz
        silence_s = min(MAX_GAP_S, arrived_at - self._last_arrival)
        silence_s -= self._packet_samples / rate_hz
        events: list[SourceEvent] = []
        if silence_s > RESTART_SILENCE_S:
            events += self._gap(round(silence_s * rate_hz), GapReason.LOST, arrived_at)
        events.append(SegmentStarted(self._leg, self._position, reason))
        self._decoder = None
        self._next_timestamp = None
        self._early_ticks = 0
        self._last_arrival = arrived_at
        self._tone_stop = self._position
        return events

    def _gap(self, count: int, reason: GapReason, arrived_at: float) -> list[SourceEvent]:
        if count == 0:
            return []
        gap = Gap(self._leg, self._position, count, reason, arrived_at)
        self._position += count
        return [gap]

    def _tone(self, item: Released, payload_format: PayloadFormat) -> list[SourceEvent]:
        """The event so far, if this report says more of it than the ones before."""
        event = parse_telephone_event(item.packet.payload)
        if event is None:
            self._drops["event_malformed"] += 1
            return []
        if self._next_timestamp is None:
            self._drops["event_before_audio"] += 1
            return []
        start = self._start_of(item.packet.timestamp, payload_format)
        rate_hz = self._format.rate_hz
        longest_s = min(MAX_GAP_S, item.arrived_at - self._last_arrival + GAP_AHEAD_S)
        if not -MAX_GAP_S <= (start - self._position) / rate_hz <= longest_s:
            self._drops["event_timestamp"] += 1
            return []
        stop = start + event.duration * rate_hz // payload_format.clock_hz
        start = max(start, 0)
        if stop <= max(start, self._tone_stop):
            return []
        self._tone_stop = stop
        return [Tone(self._leg, start, stop - start, event.name, item.arrived_at)]

    def _start_of(self, timestamp: int, payload_format: PayloadFormat) -> int:
        """Where in the leg an event began."""
        assert self._next_timestamp is not None
        if payload_format.clock_hz == self._format.clock_hz:
            ticks = signed32(timestamp - self._next_timestamp)
            return self._position + self._format.samples(ticks)
        # telephone-event/8000 beside opus/48000: on which clock the timestamp is, senders do not
        # agree; so it began where its first report found the leg.
        if self._event is None or self._event[0] != timestamp:
            self._event = (timestamp, self._position)
        return self._event[1]
