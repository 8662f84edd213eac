"""The doors of the media WebSocket server: what each path asks for, and who is behind it."""

from __future__ import annotations

import base64
import binascii
import ssl
from collections import Counter
from dataclasses import dataclass, field

from streamguard.errors import SourceError
from streamguard.protocols import chan_websocket, freeswitch
from streamguard.protocols.audiohook import AudioHookSession
from streamguard.protocols.chan_websocket import ChanWebsocketSession
from streamguard.protocols.freeswitch import FreeswitchSession
from streamguard.protocols.handshake import (
    AudioHookCheck,
    Check,
    Handshake,
    JwtCheck,
    TokenCheck,
    TwilioCheck,
)
from streamguard.protocols.media_session import MediaSession
from streamguard.protocols.telnyx import TelnyxSession
from streamguard.protocols.twilio import twilio_session
from streamguard.protocols.vonage import VonageSession
from streamguard.settings import Secret
from streamguard.sources.media_ws_settings import (
    AsteriskPath,
    AudioHookPath,
    FreeswitchPath,
    MediaPath,
    MediaWsSettings,
    TelnyxPath,
    TwilioPath,
    VonagePath,
)
from streamguard.sources.tls import server_context


@dataclass(frozen=True, slots=True)
class Door:
    """A path, and what it takes to come in by it."""

    entry: MediaPath
    checks: tuple[Check, ...]
    """Of the request; none where there is no credential, or it comes later."""
    start_token: str | None = field(repr=False)

    @property
    def can_turn_away(self) -> bool:
        """Whether the protocol has a word for busy; of others the HTTP status is all there is."""
        return isinstance(self.entry, AudioHookPath)

    @property
    def subprotocols(self) -> tuple[str, ...]:
        """What the peer may ask for by ``Sec-WebSocket-Protocol``."""
        match self.entry:
            case FreeswitchPath():
                return (freeswitch.SUBPROTOCOL,)
            case AsteriskPath():
                return (chan_websocket.SUBPROTOCOL,)
            case _:
                return ()

    def judge(self, request: Handshake, now_utc: float) -> None:
        """Raises ProtocolError for a stranger."""
        for check in self.checks:
            check(request, now_utc)

    def session(
        self, source: str, drops: Counter[str], request: Handshake, *, busy: bool
    ) -> MediaSession:
        """For a connection that has come in; ``busy``: only to be turned away."""
        session = self._session(source, drops, request, busy=busy)
        session.trunk = self.entry.path
        return session

    def _session(
        self, source: str, drops: Counter[str], request: Handshake, *, busy: bool
    ) -> MediaSession:
        match self.entry:
            case TwilioPath() as entry:
                roles = {"inbound": entry.inbound, "outbound": entry.outbound}
                return twilio_session(source, drops, roles)
            case TelnyxPath() as entry:
                roles = {"inbound": entry.inbound, "outbound": entry.outbound}
                wait_s = entry.reorder_ms / 1000
                return TelnyxSession(source, drops, roles, wait_s, self.start_token)
            case VonagePath() as entry:
                return VonageSession(source, drops, entry.role)
            case AudioHookPath() as entry:
                roles = {"external": entry.external, "internal": entry.internal}
                organization = request.headers.get("audiohook-organization-id", "")
                return AudioHookSession(source, drops, roles, organization=organization, busy=busy)
            case FreeswitchPath() as entry:
                speakers = (entry.first, entry.second)
                return FreeswitchSession(source, drops, entry.mix, entry.rate_hz, speakers)
            case AsteriskPath() as entry:
                return ChanWebsocketSession(source, drops, entry.role, entry.media_direction)


def open_doors(settings: MediaWsSettings) -> list[Door]:
    """Reads the secrets. Raises SourceError for one that cannot be had."""
    keyring = _Keyring(settings.name)
    doors = []
    for entry in settings.paths:
        match entry:
            case TelnyxPath(token_in="start"):
                doors.append(Door(entry, (), keyring.secret(entry.token)))
            case _:
                doors.append(Door(entry, keyring.checks(entry), None))
    return doors


def tls_context(settings: MediaWsSettings) -> ssl.SSLContext | None:
    """Raises SourceError for a certificate that cannot be used."""
    return None if settings.tls is None else server_context(settings.name, settings.tls)


@dataclass(frozen=True, slots=True)
class _Keyring:
    """Secrets of a source."""

    source: str

    def secret(self, secret: Secret | None) -> str | None:
        try:
            return None if secret is None else secret.read()
        except ValueError as err:
            raise SourceError(self.source, str(err)) from err

    def checks(self, entry: MediaPath) -> tuple[Check, ...]:
        """What a request for a path has to pass; nothing where it has no credential."""
        match entry:
            case TwilioPath():
                auth_token = self.secret(entry.auth_token)
                return (TwilioCheck(auth_token, entry.url),) if auth_token and entry.url else ()
            case VonagePath(signature_secret=Secret()):
                return (JwtCheck(self.secret(entry.signature_secret) or ""),)
            case AudioHookPath():
                api_key = self.secret(entry.api_key)
                return (AudioHookCheck(api_key, self._client_secret(entry)),) if api_key else ()
            case TelnyxPath() | VonagePath() | FreeswitchPath() | AsteriskPath():
                token = self.secret(entry.token)
                return (TokenCheck(token),) if token else ()

    def _client_secret(self, entry: AudioHookPath) -> bytes | None:
        text = self.secret(entry.client_secret)
        try:
            return None if text is None else base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as err:
            raise SourceError(self.source, f"{entry.path}: client_secret is not base64") from err
