"""Genesys AudioHook, version 2: an open transaction, audio, and a close transaction.

Genesys Cloud documentation, "AudioHook protocol"; numbers of messages and positions are checked and
counted, not insisted on: a monitor loses nothing by hearing on. ``external`` is the customer,
``internal`` the agent. A session for nobody (all ids are zero) only tests the connection.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from streamguard.audio.decoders import Codec
from streamguard.errors import ProtocolError
from streamguard.events import EndReason, GapReason, LegRole
from streamguard.protocols.json_fields import (
    JsonObject,
    number_in,
    object_in,
    parse_object,
    text_in,
)
from streamguard.protocols.media_call import Interleaved
from streamguard.protocols.media_session import MediaSession

VERSION = "2"
MAX_MEDIA = 32
"""Formats of an offer that are looked at."""
MAX_DURATION_S = 86_400.0
_RATE_HZ = 8_000
_CODECS = {"PCMU": Codec.PCMU, "L16": Codec.L16}
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DURATION = re.compile(r"PT(\d{1,9}(?:\.\d{1,9})?)S", re.ASCII)
_NOBODY = "00000000-0000-0000-0000-000000000000"
_MAX_SEQUENCE = 1 << 53


class AudioHookSession(MediaSession):
    """One session, from ``open`` to ``closed``."""

    def __init__(
        self,
        source: str,
        drops: Counter[str],
        roles: Mapping[str, LegRole],
        *,
        organization: str = "",
        busy: bool = False,
    ) -> None:
        """``roles`` of ``external`` and ``internal``; ``organization`` as the handshake named it
        (empty: none was); ``busy``: turn the session away when it opens."""
        super().__init__(source, drops)
        self._roles = roles
        self._organization = organization
        self._busy = busy
        self._id = ""
        self._sent = 0
        self._received = 0
        self._audio: Interleaved | None = None
        self._opened = False
        self._held = False
        self._disconnected = False

    @property
    def on_hold(self) -> bool:
        return self._held

    def _text(self, message: str, now: float) -> None:
        fields = parse_object(message)
        kind, session = text_in(fields, "type"), text_in(fields, "id")
        number = number_in(fields, "seq", 1, _MAX_SEQUENCE)
        if (
            text_in(fields, "version") != VERSION
            or number is None
            or not _UUID.fullmatch(session)
            or (self._id and session != self._id)
        ):
            raise ProtocolError("audiohook", "message")
        if number != self._received + 1:
            self._drops["sequence"] += 1
        self._id, self._received = session, number
        parameters = object_in(fields, "parameters")
        match kind:
            case "open":
                self._begin(parameters, now)
            case "ping":
                self._say("pong", {})
            case "close":
                self._end(EndReason.HANGUP, now)
                self._say("closed", {})
            case "paused" | "resumed" | "discarded":
                self._interrupt(kind, parameters, now)
            case "error":
                self._drops["peer_error"] += 1
            case "update":
                pass  # of the language: nothing here depends on it
            case _:
                raise ProtocolError("audiohook", "unknown_event")

    def _begin(self, parameters: JsonObject, now: float) -> None:
        if self._opened:
            raise ProtocolError("audiohook", "second_start")
        self._opened = True
        if self._busy:
            self._turn_away("error", "busy: no capacity for another session")
            return
        if self._organization and text_in(parameters, "organizationId") != self._organization:
            self._drops["unauthorized"] += 1
            self._turn_away("unauthorized", "organizationId is not that of the request")
            return
        conversation = text_in(parameters, "conversationId")
        participant = object_in(parameters, "participant")
        self._numbers[self._roles["external"]] = text_in(participant, "ani")
        chosen = _choose(parameters.get("media"))
        if conversation == text_in(participant, "id") == _NOBODY:
            self._say("opened", {"media": [chosen] if chosen else [], "startPaused": False})
            return
        if chosen is None:
            self._drops["unsupported_format"] += 1
            self._turn_away("error", "no media that is understood: PCMU or L16, 8000 Hz")
            return
        roles = [self._roles[channel] for channel in chosen["channels"]]
        codec = _CODECS[chosen["format"]]
        self._audio = self._open(conversation, roles, codec, _RATE_HZ, now)
        self._say("opened", {"media": [chosen], "startPaused": False})

    def _interrupt(self, kind: str, parameters: JsonObject, now: float) -> None:
        if self._audio is None:
            return
        discarded_s = _seconds(text_in(parameters, "discarded"))
        for leg in self._audio.legs:
            if kind == "paused" and not self._held:
                leg.hold()
            if discarded_s is not None:
                leg.gap(round(discarded_s * _RATE_HZ), GapReason.LOST, now)
            if kind == "resumed" and self._held:
                leg.resume()
        if kind != "discarded":
            self._held = kind == "paused"

    def _binary(self, message: bytes, now: float) -> None:
        if self._audio is None or self._over:
            raise ProtocolError(
                "audiohook", "before_start" if self._audio is None else "after_stop"
            )
        if self._held:
            raise ProtocolError("audiohook", "while_paused")
        self._audio.payload(message, now)

    def _end(self, reason: EndReason, now: float) -> None:
        if reason in {EndReason.SHUTDOWN, EndReason.INACTIVITY} and not self._over:
            self._disconnect("completed", reason.value)
        super()._end(reason, now)

    def _turn_away(self, reason: str, words: str) -> None:
        """The peer closes then, by a close transaction; the server's timer sees to it that it does.

        ``_over``: nothing that comes still begins a call.
        """
        self.refusal = words
        self._over = True
        self._disconnect(reason, words)

    def _disconnect(self, reason: str, words: str) -> None:
        if not self._disconnected and self._id:
            self._disconnected = True
            self._say("disconnect", {"reason": reason, "info": words})

    def _say(self, kind: str, parameters: dict[str, Any]) -> None:
        self._sent += 1
        answer = {
            "version": VERSION,
            "type": kind,
            "id": self._id,
            "seq": self._sent,
            "clientseq": self._received,
            "parameters": parameters,
        }
        self._replies.append(json.dumps(answer))


def _choose(offer: object) -> dict[str, Any] | None:
    """The first that has both parties, else the first that has one, of what can be decoded."""
    usable: list[dict[str, Any]] = []
    for media in offer[:MAX_MEDIA] if isinstance(offer, list) else ():
        if not isinstance(media, dict):
            continue
        channels = media.get("channels")
        if (
            media.get("type") == "audio"
            and media.get("format") in ("PCMU", "L16")
            and media.get("rate") == _RATE_HZ
            and channels in (["external"], ["internal"], ["external", "internal"])
        ):
            usable.append({key: media[key] for key in ("type", "format", "channels", "rate")})
    return max(usable, key=lambda media: len(media["channels"]), default=None)


def _seconds(duration: str) -> float | None:
    """``PT1.25S``, as all durations of the protocol are written."""
    match = _DURATION.fullmatch(duration)
    return min(float(match[1]), MAX_DURATION_S) if match else None
