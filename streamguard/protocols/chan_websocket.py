"""Asterisk's chan_websocket (20.16, 21.11, 22.6, 23.0 and later): Asterisk connects to us.

Media come in binary messages, control in text: single lines (the default) or, since 20.18, 22.8 and
23.2, JSON. Both begin with ``MEDIA_START``, which names the format. A monitor sends no media, and
no command: Asterisk plays silence to the channel by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from streamguard.audio.decoders import Codec
from streamguard.errors import ProtocolError
from streamguard.events import LegRole
from streamguard.protocols.json_fields import JsonObject, parse_object, text_in
from streamguard.protocols.media_call import Interleaved
from streamguard.protocols.media_session import MediaSession

SUBPROTOCOL = "media"
"""What ``websocket_client.conf`` usually asks for."""

_FORMATS: Mapping[str, tuple[Codec, int]] = {
    "ulaw": (Codec.PCMU, 8_000),
    "alaw": (Codec.PCMA, 8_000),
    "gsm": (Codec.GSM, 8_000),
    "g722": (Codec.G722, 16_000),
    "opus": (Codec.OPUS, 48_000),
    "slin": (Codec.L16, 8_000),
    "slin12": (Codec.L16, 12_000),
    "slin16": (Codec.L16, 16_000),
    "slin24": (Codec.L16, 24_000),
    "slin32": (Codec.L16, 32_000),
    "slin44": (Codec.L16, 44_100),
    "slin48": (Codec.L16, 48_000),
    "slin96": (Codec.L16, 96_000),
    "slin192": (Codec.L16, 192_000),
}
"""Asterisk's names of formats; its signed linear is little endian."""
_OF_NO_INTEREST = {
    "MEDIA_XON",
    "MEDIA_XOFF",
    "STATUS",
    "QUEUE_DRAINED",
    "MEDIA_BUFFERING_COMPLETED",
    "MEDIA_MARK_PROCESSED",
    "ERROR",
}
"""About media and commands that we do not send."""


class ChanWebsocketSession(MediaSession):
    """One channel: one leg."""

    def __init__(
        self, source: str, drops: Counter[str], role: LegRole, direction: str | None = None
    ) -> None:
        """``direction`` is sent back as the argument of ``SET_MEDIA_DIRECTION``."""
        super().__init__(source, drops)
        self._role = role
        self._direction = direction
        self._audio: Interleaved | None = None

    def _text(self, message: str, now: float) -> None:
        as_json = message.lstrip().startswith("{")
        fields = parse_object(message) if as_json else _parse_line(message)
        event = text_in(fields, "event")
        if event == "MEDIA_START":
            self._begin(fields, as_json, now)
        elif event == "DTMF_END":
            if self._audio is not None:
                self._audio.legs[0].digit(now)
        elif event not in _OF_NO_INTEREST:
            raise ProtocolError("chan_websocket", "unknown_event")

    def _begin(self, fields: JsonObject, as_json: bool, now: float) -> None:
        name = text_in(fields, "format")
        if name not in _FORMATS:
            self._refuse("unsupported_format", f"format {name[:40]!r}")
            return
        call = text_in(fields, "channel_id") or text_in(fields, "connection_id")
        codec, rate_hz = _FORMATS[name]
        self._audio = self._open(call, (self._role,), codec, rate_hz, now)
        if self._audio is not None and self._direction is not None:
            self._replies.append(
                f'{{"command": "SET_MEDIA_DIRECTION", "direction": "{self._direction}"}}'
                if as_json
                else f"SET_MEDIA_DIRECTION {self._direction}"
            )

    def _binary(self, message: bytes, now: float) -> None:
        if self._audio is None:
            raise ProtocolError("chan_websocket", "before_start")
        self._audio.payload(message, now)


def _parse_line(line: str) -> JsonObject:
    """``EVENT key:value key:value``; a value may contain colons, but no space."""
    event, *words = line.split() or [""]
    fields: JsonObject = {"event": event}
    for word in words:
        key, colon, value = word.partition(":")
        if colon and key != "event":
            fields.setdefault(key, value)
    return fields
