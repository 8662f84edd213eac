"""Configuration of the media WebSocket server: one socket, a path for each system that connects."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from streamguard.events import LegRole
from streamguard.protocols.freeswitch import MAX_RATE_HZ, Mix
from streamguard.settings import Secret, Section
from streamguard.sources.connection_settings import ConnectionSettings, ListenTlsSettings

UrlPath = Annotated[str, Field(pattern=r"^/[A-Za-z0-9_./-]{0,128}$")]


class TwilioPath(Section):
    """Twilio Media Streams."""

    dialect: Literal["twilio"] = Field(default="twilio", description="Twilio Media Streams")
    path: UrlPath = Field(default="/twilio", description="Path of the URL")
    auth_token: Secret | None = Field(
        default=None, description="Auth token of the account, by which Twilio signs its requests"
    )
    url: str | None = Field(
        default=None,
        max_length=512,
        description="The wss:// URL as it stands in the TwiML: what Twilio signs; with auth_token",
    )
    inbound: LegRole = Field(
        default=LegRole.CALLER, description="Who speaks on the track that Twilio receives"
    )
    outbound: LegRole = Field(
        default=LegRole.CALLEE, description="Who speaks on the track that Twilio sends"
    )

    @field_validator("url")
    @classmethod
    def _a_web_socket(cls, value: str | None) -> str | None:
        if value is not None and (
            urlsplit(value).scheme not in {"ws", "wss"} or not urlsplit(value).netloc
        ):
            raise ValueError("a URL that begins with wss:// (or ws://), as in the TwiML")
        return value

    @model_validator(mode="after")
    def _token_with_url(self) -> Self:
        if (self.auth_token is None) != (self.url is None):
            raise ValueError("auth_token and url go together: the signature is over the URL")
        return self

    @property
    def has_credential(self) -> bool:
        return self.auth_token is not None


class TelnyxPath(Section):
    """Telnyx media streaming."""

    dialect: Literal["telnyx"] = Field(default="telnyx", description="Telnyx media streaming")
    path: UrlPath = Field(default="/telnyx", description="Path of the URL")
    token: Secret | None = Field(
        default=None, description="Token of our own, given to Telnyx with the streaming command"
    )
    token_in: Literal["header", "start"] = Field(
        default="header",
        description="Where it comes back: Authorization header (stream_auth_token), or the custom "
        "parameter streamguard_token of the start message",
    )
    inbound: LegRole = Field(
        default=LegRole.CALLER, description="Who speaks on the track that Telnyx receives"
    )
    outbound: LegRole = Field(
        default=LegRole.CALLEE, description="Who speaks on the track that Telnyx sends"
    )
    reorder_ms: float = Field(
        default=200.0,
        ge=0.0,
        le=2_000.0,
        description="How long audio waits for a missing message; what comes in order does not wait",
    )

    @property
    def has_credential(self) -> bool:
        return self.token is not None


class VonagePath(Section):
    """Vonage Voice API: one party per connection."""

    dialect: Literal["vonage"] = Field(default="vonage", description="Vonage Voice API WebSocket")
    path: UrlPath = Field(default="/vonage", description="Path of the URL")
    signature_secret: Secret | None = Field(
        default=None,
        description="Signature secret of the account: requests carry a signed token (HS256)",
    )
    token: Secret | None = Field(
        default=None, description="Instead: a token of our own that the NCCO names"
    )
    role: LegRole = Field(
        default=LegRole.UNKNOWN, description="Who speaks: caller, callee, mixed or unknown"
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.signature_secret is not None and self.token is not None:
            raise ValueError("signature_secret or token, not both")
        return self

    @property
    def has_credential(self) -> bool:
        return self.signature_secret is not None or self.token is not None


class AudioHookPath(Section):
    """Genesys Cloud AudioHook Monitor."""

    dialect: Literal["audiohook"] = Field(
        default="audiohook", description="Genesys Cloud AudioHook Monitor"
    )
    path: UrlPath = Field(default="/audiohook", description="Path of the URL")
    api_key: Secret | None = Field(default=None, description="API key of the integration")
    client_secret: Secret | None = Field(
        default=None,
        description="Client secret of the integration, in base64: requests are signed with it",
    )
    external: LegRole = Field(default=LegRole.CALLER, description="Who the customer is")
    internal: LegRole = Field(default=LegRole.CALLEE, description="Who the agent is")

    @model_validator(mode="after")
    def _secret_with_key(self) -> Self:
        if self.client_secret is not None and self.api_key is None:
            raise ValueError("client_secret needs the api_key that it belongs to")
        return self

    @property
    def has_credential(self) -> bool:
        return self.api_key is not None


class FreeswitchPath(Section):
    """FreeSWITCH mod_audio_fork or mod_audio_stream."""

    dialect: Literal["freeswitch"] = Field(
        default="freeswitch", description="FreeSWITCH mod_audio_fork or mod_audio_stream"
    )
    path: UrlPath = Field(default="/freeswitch", description="Path of the URL")
    token: Secret | None = Field(
        default=None, description="Bearer token, or password of a basic authentication"
    )
    mix: Mix = Field(
        default=Mix.MONO, description="Mix type of the start command: mono, mixed or stereo"
    )
    rate_hz: int = Field(
        default=8_000, ge=8_000, le=MAX_RATE_HZ, description="Rate of the start command"
    )
    first: LegRole = Field(default=LegRole.CALLER, description="Who speaks on the (first) channel")
    second: LegRole = Field(default=LegRole.CALLEE, description="Who speaks on the second channel")

    @property
    def has_credential(self) -> bool:
        return self.token is not None


class AsteriskPath(Section):
    """Asterisk chan_websocket, as a channel or as external media."""

    dialect: Literal["asterisk"] = Field(default="asterisk", description="Asterisk chan_websocket")
    path: UrlPath = Field(default="/asterisk", description="Path of the URL")
    token: Secret | None = Field(
        default=None,
        description="Password in websocket_client.conf; the user name is not looked at",
    )
    role: LegRole = Field(
        default=LegRole.UNKNOWN, description="Who speaks: caller, callee, mixed or unknown"
    )
    media_direction: Literal["in", "out", "both"] | None = Field(
        default=None,
        description="Sent as SET_MEDIA_DIRECTION when media start; null sends no command at all",
    )

    @property
    def has_credential(self) -> bool:
        return self.token is not None


MediaPath = Annotated[
    TwilioPath | TelnyxPath | VonagePath | AudioHookPath | FreeswitchPath | AsteriskPath,
    Field(discriminator="dialect"),
]


class MediaWsSettings(ConnectionSettings):
    """Calls that come over WebSockets."""

    type: Literal["media_ws"] = Field(
        default="media_ws", description="Other systems connect by WebSocket"
    )
    listen: str = Field(
        default="127.0.0.1:8765", description="Address and port, as 127.0.0.1:8765 or [::1]:8765"
    )
    tls: ListenTlsSettings | None = Field(
        default=None, description="Without it a proxy in front of us has to encrypt"
    )
    paths: tuple[MediaPath, ...] = Field(
        min_length=1, max_length=64, description="What may connect, told apart by path"
    )
    heartbeat_s: float = Field(
        default=20.0, gt=0.0, le=600.0, description="How often a peer is asked whether it lives"
    )
    max_message_bytes: int = Field(
        default=65_536,
        ge=1_024,
        le=1 << 20,
        description="A longer message closes its connection",
    )
    max_messages_per_s: float = Field(
        default=500.0,
        ge=10.0,
        le=100_000.0,
        description="Of one connection; a faster one is read no faster than this",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        paths = [entry.path for entry in self.paths]
        twice = sorted({path for path in paths if paths.count(path) > 1})
        if twice:
            raise ValueError(f"paths: each path once; twice: {', '.join(twice)}")
        open_to_all = [entry.path for entry in self.paths if not entry.has_credential]
        if open_to_all and not self.is_loopback:
            raise ValueError(
                f"listen is {self.listen}, which others can reach: these paths need a credential: "
                f"{', '.join(open_to_all)}"
            )
        return self

    def warnings(self) -> tuple[str, ...]:
        """What works but should not be left so; for ``check``."""
        if self.tls is None and not self.is_loopback:
            return (
                f"source {self.name}: {self.listen} can be reached by others and tls is not set: "
                "calls and tokens cross the network in clear unless a proxy encrypts",
            )
        return ()
