"""Vonage Voice API WebSocket: one JSON message, then L16 of one party in binary messages.

Vonage documentation, "WebSockets in the Vonage Voice API": 20 ms of little-endian mono a message;
keys pressed and answers to commands (we give none) are JSON in between.
"""

from __future__ import annotations

import re
from collections import Counter

from streamguard.audio.decoders import Codec
from streamguard.errors import ProtocolError
from streamguard.events import LegRole
from streamguard.protocols.json_fields import JsonObject, number_in, parse_object, text_in
from streamguard.protocols.media_call import Interleaved
from streamguard.protocols.media_session import MediaSession

_CONTENT_TYPE = re.compile(r"audio/l16\s*;\s*rate=(\d{4,6})", re.IGNORECASE | re.ASCII)
_CALL_KEYS = ("uuid", "conversation_uuid", "call_uuid")
MAX_DIGIT_MS = 10_000


class VonageSession(MediaSession):
    """One ``websocket`` endpoint: one leg. Two parties are two of them."""

    def __init__(self, source: str, drops: Counter[str], role: LegRole) -> None:
        super().__init__(source, drops)
        self._role = role
        self._audio: Interleaved | None = None

    def _text(self, message: str, now: float) -> None:
        fields = parse_object(message)
        match text_in(fields, "event").removeprefix("websocket:"):
            case "connected":
                self._connected(fields, now)
            case "dtmf":
                if self._audio is not None:
                    held_ms = number_in(fields, "duration", 0, MAX_DIGIT_MS) or 0
                    self._audio.legs[0].digit(now, held_ms / 1000)
            case "cleared" | "notify":
                pass
            case _:
                raise ProtocolError("vonage", "unknown_event")

    def _connected(self, fields: JsonObject, now: float) -> None:
        content_type = text_in(fields, "content-type")
        match = _CONTENT_TYPE.fullmatch(content_type.strip())
        if match is None:
            self._refuse("unsupported_format", f"content-type {content_type[:60]!r}")
            return
        self._numbers[LegRole.CALLER] = text_in(fields, "caller")
        self._numbers[LegRole.CALLEE] = text_in(fields, "callee")
        name = next((text_in(fields, key) for key in _CALL_KEYS if text_in(fields, key)), "")
        self._audio = self._open(name, (self._role,), Codec.L16, int(match[1]), now)

    def _binary(self, message: bytes, now: float) -> None:
        if self._audio is None:
            raise ProtocolError("vonage", "before_start")
        self._audio.payload(message, now)
