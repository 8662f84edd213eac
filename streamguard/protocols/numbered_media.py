"""What Twilio and Telnyx share: JSON messages with a number, a track and audio in base64.

Both tracks of a call come over one connection, each with its own chunk numbers; the sequence number
counts all messages. Tracks are named as the carrier sees them: ``inbound`` is what it receives from
the party on its line, ``outbound`` what it sends to that party.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from streamguard.audio.decoders import Codec, PayloadDecoder, make_decoder
from streamguard.errors import MissingExtraError, ProtocolError
from streamguard.events import EndReason, GapReason, LegRole
from streamguard.protocols.jitter import JitterEstimator
from streamguard.protocols.json_fields import (
    JsonObject,
    bytes_in,
    number_in,
    object_in,
    parse_object,
    text_in,
)
from streamguard.protocols.media_call import MediaLeg
from streamguard.protocols.media_order import MessageOrder, Ordered
from streamguard.protocols.media_session import MediaSession

MAX_NUMBER = 1 << 53
QUALITY_S = 1.0
MIN_PAUSE_S = 0.1
"""A shorter step of the sender's timestamps is their jitter."""


@dataclass(frozen=True, slots=True)
class Names:
    """How a dialect spells what both say."""

    sequence: str
    call: str
    """In ``start``: what the carrier calls the call."""
    media_format: str
    rate: str
    parties: str
    """In ``start``: the object with ``from`` and ``to``; empty: ``start`` itself."""
    encodings: Mapping[str, Codec]
    """By name, in lower case."""


@dataclass(frozen=True, slots=True)
class _Media:
    track: str
    chunk: int | None
    timestamp_ms: int | None
    payload: bytes


@dataclass(slots=True)
class _Track:
    """One leg, and how far its sender has counted."""

    leg: MediaLeg
    decoder: PayloadDecoder
    chunk: int | None = None
    next_ms: float | None = None
    last_arrival: float = 0.0
    missing: int = 0
    """Messages of the connection that did not come since its last one."""
    received: int = 0
    lost: int = 0
    """Messages of this track."""
    jitter: JitterEstimator = field(default_factory=lambda: JitterEstimator(1_000))

    def tell_quality(self) -> None:
        expected = max(1, self.received + self.lost)
        self.leg.quality(100 * self.lost / expected, 1_000 * self.jitter.jitter_s)


class NumberedMedia(MediaSession):
    """``connected``, ``start``, ``media`` and so on, until ``stop``."""

    def __init__(
        self,
        source: str,
        drops: Counter[str],
        names: Names,
        roles: Mapping[str, LegRole],
        reorder_s: float,
    ) -> None:
        """``roles`` by track."""
        super().__init__(source, drops)
        self._names = names
        self._roles = roles
        self._order: MessageOrder[_Media] = MessageOrder(reorder_s)
        self._tracks: dict[str, _Track] = {}
        self._told_at = 0.0
        self._codec: Codec | None = None
        self._rate_hz: int | None = None

    def _text(self, message: str, now: float) -> None:
        fields = parse_object(message)
        event = text_in(fields, "event")
        number = number_in(fields, self._names.sequence, 0, MAX_NUMBER)
        if event == "media":
            self._media(object_in(fields, "media"), number, now)
            return
        if event == "start":
            self._begin(object_in(fields, "start"), now)
        elif number is not None:
            self._play(self._order.push(number, None, now))
        if event == "dtmf":
            self._digit(object_in(fields, "dtmf"), now)
        elif event == "stop":
            self._end(EndReason.HANGUP, now)
        elif event == "error":
            self._drops["peer_error"] += 1
        elif event not in {"start", "connected", "mark"}:
            raise ProtocolError("media", "unknown_event")

    def _begin(self, start: JsonObject, now: float) -> None:
        names = self._names
        media_format = object_in(start, names.media_format)
        encoding = text_in(media_format, "encoding")
        codec = names.encodings.get(encoding.lower())
        rate_hz = number_in(media_format, names.rate, 1, 1_000_000)
        channels = number_in(media_format, "channels", 1, 1) if "channels" in media_format else 1
        if codec is None or channels is None:
            self._refuse("unsupported_format", f"encoding {encoding[:40]!r} cannot be decoded")
            return
        try:
            # G.722 and Opus have one rate of samples, whatever rate their clock is said to have.
            make_decoder(codec, rate_hz if codec is Codec.L16 else None)
        except (ValueError, MissingExtraError) as err:
            self._refuse("unsupported_format", str(err))
            return
        parties = object_in(start, names.parties) if names.parties else start
        self._numbers[LegRole.CALLER] = text_in(parties, "from")
        self._numbers[LegRole.CALLEE] = text_in(parties, "to")
        self._start(text_in(start, names.call), now)
        self._codec = codec
        self._rate_hz = rate_hz if codec is Codec.L16 else None

    def _media(self, media: JsonObject, number: int | None, now: float) -> None:
        if self._call is None:
            raise ProtocolError("media", "before_start")
        if self._over:
            raise ProtocolError("media", "after_stop")
        track = text_in(media, "track")
        if track not in self._roles:
            raise ProtocolError("media", "unknown_track")
        if number is None:
            raise ProtocolError("media", "unnumbered")
        item = _Media(
            track,
            number_in(media, "chunk", 0, MAX_NUMBER),
            number_in(media, "timestamp", 0, MAX_NUMBER),
            bytes_in(media, "payload"),
        )
        late, duplicates = self._order.late, self._order.duplicates
        self._play(self._order.push(number, item, now))
        self._drops["late"] += self._order.late - late
        self._drops["duplicate"] += self._order.duplicates - duplicates

    def _poll(self, now: float) -> None:
        if self._over:
            return
        self._play(self._order.poll(now))
        if now - self._told_at >= QUALITY_S:
            self._told_at = now
            for track in self._tracks.values():
                track.tell_quality()

    def _end(self, reason: EndReason, now: float) -> None:
        if self._call is not None and not self._over:
            self._play(self._order.flush())
            for track in self._tracks.values():
                track.tell_quality()
        super()._end(reason, now)

    def _play(self, released: list[Ordered[_Media]]) -> None:
        for item in released:
            for track in self._tracks.values():
                track.missing += item.missing_before
            self._drops["missing"] += item.missing_before
            self._one(item)

    def _one(self, item: Ordered[_Media]) -> None:
        media, now = item.item, item.arrived_at
        track = self._tracks.get(media.track) or self._open_track(media.track, now)
        samples = track.decoder.decode(media.payload)
        if not len(samples):
            self._drops["undecodable"] += 1
            return
        frame_s = len(samples) / track.leg.rate_hz
        if item.restarted:
            track.leg.segment("sequence")
        elif track.next_ms is not None or track.chunk is not None:
            self._fill(track, media, len(samples), now)
        track.missing = 0
        track.received += 1
        track.chunk = media.chunk
        track.last_arrival = now
        if media.timestamp_ms is not None:
            track.next_ms = media.timestamp_ms + 1000 * frame_s
            track.jitter.update(media.timestamp_ms & 0xFFFF_FFFF, now)
        track.leg.audio(samples, now, timed=True)

    def _open_track(self, name: str, now: float) -> _Track:
        assert self._call is not None
        assert self._codec is not None
        decoder = make_decoder(self._codec, self._rate_hz, byteorder="little")
        leg = self._call.open_leg(self._roles[name], self._codec.value, decoder.rate_hz, now)
        self._tracks[name] = _Track(leg, decoder)
        return self._tracks[name]

    def _fill(self, track: _Track, media: _Media, frame: int, now: float) -> None:
        """Tell of what is missing before a message: lost, or never said."""
        frames = track.missing
        if media.chunk is not None and track.chunk is not None:
            # Of the messages that are missing some may have been the other track's.
            frames = min(frames, max(0, media.chunk - track.chunk - 1))
        track.lost += frames
        lost = frames * frame
        track.leg.gap(lost, GapReason.LOST, now)
        if media.timestamp_ms is None or track.next_ms is None:
            return
        rate_hz = track.leg.rate_hz
        step_s = (media.timestamp_ms - track.next_ms) / 1000 - lost / rate_hz
        # No more than really passed: a stamp of another unit must not stretch the call.
        step_s = min(step_s, now - track.last_arrival - (lost + frame) / rate_hz)
        if step_s >= MIN_PAUSE_S:
            track.leg.gap(round(step_s * rate_hz), GapReason.DTX, now)

    def _digit(self, dtmf: JsonObject, now: float) -> None:
        """On the track it names (``inbound``, ``inbound_track``), or on the party's own."""
        name = text_in(dtmf, "track").removesuffix("_track") or "inbound"
        track = self._tracks.get(name)
        if track is not None:
            track.leg.digit(now)
