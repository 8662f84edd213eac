"""FreeSWITCH mod_audio_fork and mod_audio_stream: a text of the dial plan, then L16 in messages.

Neither says on the wire what it sends: rate and mix are arguments of ``uuid_audio_fork`` and
``uuid_audio_stream``, so the configuration has them, or the metadata, which both modules send first
as they are given it. Ours is a JSON object, ``{"call_id": ..., "rate_hz": 8000, "mix": "stereo",
"caller": ..., "callee": ...}``, each field optional; anything else is taken for somebody else's and
ignored. Whoever can reach us can write it, so it chooses among what is allowed and names nothing
that we show.
"""

from __future__ import annotations

import enum
from collections import Counter

from streamguard.audio.decoders import Codec
from streamguard.errors import ProtocolError
from streamguard.events import LegRole
from streamguard.protocols.json_fields import number_in, parse_object, text_in
from streamguard.protocols.media_call import Interleaved
from streamguard.protocols.media_session import MediaSession

SUBPROTOCOL = "audio.drachtio.org"
"""Of mod_audio_fork, which goes away where it is not accepted."""
MAX_RATE_HZ = 48_000


class Mix(enum.StrEnum):
    """The mix type of both modules."""

    MONO = "mono"
    """One channel: the caller."""
    MIXED = "mixed"
    """One channel: both parties."""
    STEREO = "stereo"
    """Two channels: the caller, the callee."""


class FreeswitchSession(MediaSession):
    """One fork of one call."""

    def __init__(
        self,
        source: str,
        drops: Counter[str],
        mix: Mix,
        rate_hz: int,
        roles: tuple[LegRole, LegRole] = (LegRole.CALLER, LegRole.CALLEE),
    ) -> None:
        """``roles``: of the first (or only) and of the second channel."""
        super().__init__(source, drops)
        self._mix = mix
        self._rate_hz = rate_hz
        self._roles = roles
        self._name = ""
        self._audio: Interleaved | None = None
        self._described = False

    def _text(self, message: str, now: float) -> None:
        if self._described or self._audio is not None:
            return  # send_text of the dial plan, and the text of `stop`
        self._described = True
        try:
            fields = parse_object(message)
        except ProtocolError:
            return
        self._name = text_in(fields, "call_id")
        self._numbers[LegRole.CALLER] = text_in(fields, "caller")
        self._numbers[LegRole.CALLEE] = text_in(fields, "callee")
        self._rate_hz = number_in(fields, "rate_hz", 8_000, MAX_RATE_HZ) or self._rate_hz
        mix = text_in(fields, "mix")
        if mix in set(Mix):
            self._mix = Mix(mix)

    def _binary(self, message: bytes, now: float) -> None:
        if self._audio is None:
            match self._mix:
                case Mix.MONO:
                    roles: tuple[LegRole, ...] = self._roles[:1]
                case Mix.MIXED:
                    roles = (LegRole.MIXED,)
                case Mix.STEREO:
                    roles = self._roles
            self._audio = self._open(self._name, roles, Codec.L16, self._rate_hz, now)
            if self._audio is None:
                return
        self._audio.payload(message, now)
