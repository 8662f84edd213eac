"""A call that reaches us as messages of a connection: its legs, their positions, its end. Pure.

The connection keeps the order and loses nothing, so what has to be watched is the sender: one that
does not number its samples may stop in mid-call (hold, a paused stream) and go on minutes later.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from streamguard.audio.decoders import Codec, PayloadDecoder
from streamguard.errors import ProtocolError
from streamguard.events import (
    Audio,
    CallEnded,
    CallStarted,
    EndReason,
    Gap,
    GapReason,
    Hold,
    Identity,
    LegEnded,
    LegRole,
    LegStarted,
    MediaChanged,
    Quality,
    Resume,
    SegmentStarted,
    SourceEvent,
    Tone,
)
from streamguard.sources.base import new_id

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PAUSE_S = 2.0
"""No sample for this long: what comes then is not spliced to what was before."""
SETTLED_S = 1.0
"""After a pause: by then it shows whether the samples were held up on the way (they come in a burst
and catch up) or never sent (the leg stays behind the clock)."""
MIN_LAG_S = 1.0
"""A leg this far behind the clock has missed time that must be counted."""
MAX_GAP_S = 60.0
"""A longer hole is told as a new talk segment alone: one message must not make hours of zeros."""
DTMF_BEFORE_S = 0.25
DTMF_AFTER_S = 0.1
"""A digit is told when it has been recognised or is over, so most of its tone has come before."""

Emit = Callable[[SourceEvent], None]
Identify = Callable[[LegRole], tuple[Identity, ...]]


def opaque_id(name: str) -> str:
    """An id of a call that tells nothing, but can be found by who knows the name it has elsewhere.

    16 hexadecimal digits of BLAKE2b (``printf %s NAME | b2sum -l 64``), and some that keep two
    connections of one call apart.
    """
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8)
    return f"{digest.hexdigest()}-{secrets.token_hex(3)}"


class MediaLeg:
    """One direction of a call; positions count from 0 and have no holes."""

    def __init__(self, leg: str, rate_hz: int, emit: Emit) -> None:
        self.rate_hz = rate_hz
        self.heard_s = 0.0
        """Audio so far, without gaps."""
        self._leg = leg
        self._emit = emit
        self._position = 0
        self._began_at = 0.0
        """Of sample 0 on the clock of arrivals, no later than any arrival so far allows."""
        self._last_audio_at: float | None = None
        self._lag_s = 0.0
        self._resumed_at: float | None = None
        """End of a pause, until it is known what the pause was."""

    def audio(self, samples: npt.NDArray[np.int16], now: float, *, timed: bool = False) -> None:
        """Samples that follow on. ``timed``: its sender numbers them, and pauses are told apart."""
        if not len(samples):
            return
        if not timed:
            self._watch(len(samples) / self.rate_hz, now)
        self._last_audio_at = now
        samples.flags.writeable = False
        self._emit(Audio(self._leg, self._position, samples, now))
        self._position += len(samples)
        self.heard_s += len(samples) / self.rate_hz

    def _watch(self, duration_s: float, now: float) -> None:
        end_s = self._position / self.rate_hz + duration_s
        if self._last_audio_at is None:
            self._began_at = now - end_s
        self._began_at = min(self._began_at, now - end_s)
        lag_s = now - self._began_at - end_s
        if self._last_audio_at is not None and now - self._last_audio_at >= PAUSE_S:
            self._emit(SegmentStarted(self._leg, self._position, "pause"))
            self._resumed_at, self._lag_s = now, lag_s
        if self._resumed_at is None:
            return
        self._lag_s = min(self._lag_s, lag_s)
        if now - self._resumed_at >= SETTLED_S:
            self._resumed_at = None
            if self._lag_s >= MIN_LAG_S:
                self.gap(round(self._lag_s * self.rate_hz), GapReason.DTX, now)

    def gap(self, count: int, reason: GapReason, now: float) -> None:
        """So many samples that did not come."""
        if count > MAX_GAP_S * self.rate_hz:
            self._position += count
            self._emit(SegmentStarted(self._leg, self._position, "gap"))
        elif count > 0:
            self._emit(Gap(self._leg, self._position, count, reason, now))
            self._position += count

    def digit(self, now: float, duration_s: float = 0.0) -> None:
        """A key was pressed about now. Which one is nobody's business here: it may be a PIN."""
        first = max(0, self._position - round((DTMF_BEFORE_S + duration_s) * self.rate_hz))
        count = self._position + round(DTMF_AFTER_S * self.rate_hz) - first
        self._emit(Tone(self._leg, first, count, "dtmf", now))

    def quality(self, loss_pct: float, jitter_ms: float) -> None:
        self._emit(Quality(self._leg, loss_pct, jitter_ms))

    def segment(self, reason: str) -> None:
        self._emit(SegmentStarted(self._leg, self._position, reason))

    def hold(self) -> None:
        self._emit(Hold(self._leg))

    def resume(self) -> None:
        self._emit(Resume(self._leg))

    def change(self, codec: str, rate_hz: int) -> None:
        """Another codec or rate from here on; time goes on where it was."""
        self._position = self._position * rate_hz // self.rate_hz
        self.rate_hz = rate_hz
        self._emit(MediaChanged(self._leg, codec, rate_hz))

    def end(self, reason: EndReason, now: float) -> None:
        self._emit(LegEnded(self._leg, reason, now))


class MediaCall:
    """A call from its first message to its end."""

    def __init__(self, source: str, name: str, now: float, emit: Emit, identify: Identify) -> None:
        """``name`` is what the other system calls it; without one the id is random."""
        self._source = source
        self._call = opaque_id(name) if name else new_id()
        self._emit = emit
        self._identify = identify
        self.legs: list[MediaLeg] = []
        emit(CallStarted(source, self._call, now))

    def open_leg(self, role: LegRole, codec: str, rate_hz: int, now: float) -> MediaLeg:
        leg = new_id()
        started = LegStarted(
            self._source,
            self._call,
            leg,
            role,
            codec,
            rate_hz,
            now,
            index=len(self.legs),
            identities=self._identify(role),
        )
        self._emit(started)
        self.legs.append(MediaLeg(leg, rate_hz, self._emit))
        return self.legs[-1]

    def end(self, reason: EndReason, now: float) -> None:
        for leg in self.legs:
            leg.end(reason, now)
        self._emit(CallEnded(self._call, reason, now))


class Interleaved:
    """Raw audio of all legs of a call in one stream of messages, sample by sample in turn."""

    def __init__(
        self,
        call: MediaCall,
        roles: Sequence[LegRole],
        codec: Codec,
        decoder: PayloadDecoder,
        now: float,
    ) -> None:
        """Opens the legs."""
        self._decoder = decoder
        self._unit = len(roles) * (2 if codec is Codec.L16 else 1)
        self.legs = [call.open_leg(role, codec.value, decoder.rate_hz, now) for role in roles]

    def payload(self, data: bytes, now: float) -> None:
        """One message. Raises ProtocolError for what is no whole number of samples, or none."""
        if len(data) % self._unit:
            raise ProtocolError("media", "odd_size")
        samples = self._decoder.decode(data)
        if not len(samples):
            raise ProtocolError("media", "undecodable")
        if len(self.legs) == 1:
            self.legs[0].audio(samples, now)
            return
        for index, leg in enumerate(self.legs):
            leg.audio(samples[index :: len(self.legs)].copy(), now)
