"""Asterisk's AudioSocket: frames on a TCP connection, one call leg each. Bytes in, events out.

Asterisk documentation, "AudioSocket": type (8 bit), length (16 bit, big endian), payload. Audio is
signed linear, 16 bit, mono, little endian; its rate is in the type of the frame.
"""

from __future__ import annotations

import enum
import struct
import uuid
from collections import Counter
from dataclasses import dataclass
from functools import partial

from streamguard.audio.decoders import Codec, PayloadDecoder, make_decoder
from streamguard.errors import ProtocolError
from streamguard.events import EndReason, LegRole, SourceEvent
from streamguard.protocols.media_call import MediaLeg
from streamguard.protocols.media_session import MediaSession, Outcome

HANGUP_FRAME = b"\x00\x00\x00"
"""What we send to end a connection, and all that we ever send."""

_HEADER = struct.Struct("!BH")
_UUID_BYTES = 16


class FrameType(enum.IntEnum):
    """Types beside those of audio."""

    HANGUP = 0x00
    UUID = 0x01
    DTMF = 0x03
    ERROR = 0xFF


RATES_HZ = {
    0x10: 8_000,
    0x11: 12_000,
    0x12: 16_000,
    0x13: 24_000,
    0x14: 32_000,
    0x15: 44_100,
    0x16: 48_000,
    0x17: 96_000,
    0x18: 192_000,
}
"""Types of audio."""
_HUNG_UP = b"\x01"
"""Error of Asterisk: the party has hung up. The others (2 frame lost, 4 no memory) end nothing."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it came; the type may be one that we do not know."""

    kind: int
    payload: bytes


def build_frame(kind: int, payload: bytes = b"") -> bytes:
    """A frame as bytes."""
    return _HEADER.pack(kind, len(payload)) + payload


class FrameReader:
    """Bytes, however they are cut, to frames; what waits is less than one frame (64 KiB)."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        self._waiting += data
        frames: list[Frame] = []
        at = 0
        while len(self._waiting) - at >= _HEADER.size:
            kind, length = _HEADER.unpack_from(self._waiting, at)
            stop = at + _HEADER.size + length
            if len(self._waiting) < stop:
                break
            frames.append(Frame(kind, bytes(self._waiting[at + _HEADER.size : stop])))
            at = stop
        del self._waiting[:at]
        return frames


class AudioSocketSession(MediaSession):
    """One connection: the UUID of the call first, then its audio, until somebody hangs up."""

    def __init__(self, source: str, drops: Counter[str], role: LegRole) -> None:
        super().__init__(source, drops)
        self._role = role
        self._reader = FrameReader()
        self._leg: MediaLeg | None = None
        self._decoder: PayloadDecoder | None = None
        self.frames = 0
        """So far, usable or not."""

    def feed(self, data: bytes, now: float) -> Outcome:
        """Bytes as they come."""
        events: list[SourceEvent] = []
        for frame in self._reader.feed(data):
            self.frames += 1
            events += self._take(partial(self._frame, frame, now)).events
        return Outcome(tuple(events), close=self._close)

    def _frame(self, frame: Frame, now: float) -> None:
        if self._over or self._close is not None:
            raise ProtocolError("audiosocket", "after_stop")
        if frame.kind == FrameType.UUID:
            if len(frame.payload) != _UUID_BYTES:
                raise ProtocolError("audiosocket", "uuid")
            self._start(_uuid_text(frame.payload), now)
        elif frame.kind == FrameType.HANGUP:
            self._end(EndReason.HANGUP, now)
        elif self._call is None:
            raise ProtocolError("audiosocket", "before_start")
        elif frame.kind in RATES_HZ:
            self._audio(RATES_HZ[frame.kind], frame.payload, now)
        elif frame.kind == FrameType.DTMF:
            if self._leg is not None:
                self._leg.digit(now)
        elif frame.kind == FrameType.ERROR:
            self._drops["peer_error"] += 1
            if frame.payload == _HUNG_UP:
                self._end(EndReason.HANGUP, now)
        else:
            raise ProtocolError("audiosocket", "unknown_type")

    def _audio(self, rate_hz: int, payload: bytes, now: float) -> None:
        assert self._call is not None
        if not payload or len(payload) % 2:
            raise ProtocolError("audiosocket", "odd_size" if payload else "empty")
        if self._decoder is None or self._decoder.rate_hz != rate_hz:
            self._decoder = make_decoder(Codec.L16, rate_hz, byteorder="little")
            if self._leg is not None:
                self._leg.change(Codec.L16.value, rate_hz)
        if self._leg is None:
            self._leg = self._call.open_leg(self._role, Codec.L16.value, rate_hz, now)
        self._leg.audio(self._decoder.decode(payload), now)


def _uuid_text(raw: bytes) -> str:
    """As it stands in a dial plan, so that its digest can be found again."""
    return str(uuid.UUID(bytes=raw))
