"""Configuration of sources: one section per type, told apart by ``type``."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, IPvAnyAddress, IPvAnyNetwork, model_validator

from streamguard.errors import MissingExtraError
from streamguard.events import LegRole
from streamguard.protocols.srtp import check_extra
from streamguard.settings import Secret, Section
from streamguard.sources.audiosocket_settings import AudioSocketSettings
from streamguard.sources.media_ws_settings import MediaWsSettings
from streamguard.sources.payload_types import PayloadTypes
from streamguard.sources.pcap_settings import PcapSettings
from streamguard.sources.ports import even_ports
from streamguard.sources.section import SourceName
from streamguard.sources.siprec_settings import SiprecSettings

MAX_PORTS = 1_000


class FileSettings(Section):
    """Replay of recorded files; every channel is a leg of its own."""

    type: Literal["file"] = Field(default="file", description="Replay audio files")
    name: SourceName = Field(description="Name of the source in topics, metrics and alerts")
    paths: tuple[Path, ...] = Field(
        min_length=1, description="Files that libsndfile reads, played one after the other"
    )
    speed: float = Field(
        default=1.0,
        ge=0.0,
        le=1000.0,
        description="1 is real time, N is N times faster, 0 is as fast as they are consumed",
    )
    loop: bool = Field(default=False, description="Start again after the last file")
    role: LegRole = Field(
        default=LegRole.UNKNOWN, description="Who speaks: caller, callee, mixed or unknown"
    )
    channels: tuple[Annotated[int, Field(ge=0, le=15)], ...] | None = Field(
        default=None, description="Channels to play, from 0; null plays every one"
    )
    channel_roles: tuple[LegRole, ...] = Field(
        default=(), description="Who speaks on each played channel, in order; others have 'role'"
    )


class MicSettings(Section):
    """The first channel of a sound card's input."""

    type: Literal["mic"] = Field(default="mic", description="Capture from a sound card")
    name: SourceName = Field(description="Name of the source in topics, metrics and alerts")
    device: int | str | None = Field(
        default=None,
        description="Part of the device's name (survives replugging) or index; null is the default",
    )
    rate_hz: int = Field(
        default=16_000, ge=8_000, le=192_000, description="Sample rate asked of the device"
    )
    latency: Literal["low", "high"] | Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        default="low", description="low, high, or seconds"
    )
    role: LegRole = Field(
        default=LegRole.MIXED, description="Who speaks: caller, callee, mixed or unknown"
    )
    stall_s: float = Field(
        default=5.0, gt=0.0, le=60.0, description="No audio for this long: the source has died"
    )


class SourceLock(enum.StrEnum):
    """From whom a running RTP leg takes packets."""

    ADDRESS_PORT = "address_port"
    ADDRESS = "address"
    NONE = "none"


class SrtpSettings(Section):
    """What protects the packets of a source, agreed with the sender beforehand (RFC 4568)."""

    suite: Literal["AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"] = Field(
        default="AES_CM_128_HMAC_SHA1_80", description="As in a=crypto of SDP"
    )
    key: Secret = Field(description="Where the key is: base64 of 16 bytes of key and 14 of salt")

    @model_validator(mode="after")
    def _installed(self) -> Self:
        try:
            check_extra()
        except MissingExtraError as err:
            raise ValueError(str(err)) from err
        return self


class RtpSettings(Section):
    """Bare RTP on fixed ports: audio with comfort noise and telephone events."""

    type: Literal["rtp"] = Field(default="rtp", description="Receive RTP over UDP")
    name: SourceName = Field(description="Name of the source in topics, metrics and alerts")
    host: IPvAnyAddress = Field(
        default="127.0.0.1",
        validate_default=True,
        description="Local address to listen on; off loopback 'allow' must name the senders",
    )
    ports: Annotated[
        tuple[Annotated[int, Field(ge=1024, le=65534, multiple_of=2)], ...],
        BeforeValidator(even_ports),
        Field(min_length=1, max_length=MAX_PORTS),
    ] = Field(
        description='Even UDP ports, as a list or a range "40000-40006"; RTCP is on the port above'
    )
    payload_types: PayloadTypes = Field(
        default={0: "PCMU", 8: "PCMA", 11: "L16/44100", 13: "CN", 101: "telephone-event"},
        validate_default=True,
        description="What each payload type number carries, as in SDP: PCMU, PCMA, L16/16000, CN, "
        "telephone-event, and with the extra 'codecs' G722, GSM and opus/48000/2",
    )
    role: LegRole = Field(
        default=LegRole.UNKNOWN, description="Who speaks: caller, callee, mixed or unknown"
    )
    allow: tuple[IPvAnyNetwork, ...] = Field(
        default=(), description="Networks (CIDR) that may send; empty allows all, on loopback only"
    )
    lock: SourceLock = Field(
        default=SourceLock.ADDRESS_PORT,
        description="From whom a running leg takes packets: address_port, address or none",
    )
    inactivity_s: float = Field(
        default=5.0, gt=0.0, le=3600.0, description="A leg ends after this long without a packet"
    )
    silence_inactivity_s: float = Field(
        default=60.0,
        gt=0.0,
        le=3600.0,
        description="The same for a leg whose sender announced silence (comfort noise)",
    )
    jitter_ms: float = Field(
        default=60.0,
        ge=0.0,
        le=1000.0,
        description="How long packets wait for a missing one; a clean stream does not wait",
    )
    max_legs: int = Field(
        default=64, ge=1, le=10_000, description="Legs at a time; further senders are refused"
    )
    srtp: SrtpSettings | None = Field(
        default=None, description="Take protected packets only, of this key (extra 'srtp')"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.host.is_loopback and not self.allow:
            raise ValueError(
                f"host {self.host} is not loopback: name in 'allow' the networks that may send"
            )
        if len(set(self.ports)) != len(self.ports):
            raise ValueError("ports: each port once")
        if not any(payload_format.is_audio for payload_format in self.payload_types.values()):
            raise ValueError("payload_types: at least one codec, such as PCMU")
        return self


SourceSettings = Annotated[
    FileSettings
    | MicSettings
    | RtpSettings
    | AudioSocketSettings
    | MediaWsSettings
    | PcapSettings
    | SiprecSettings,
    Field(discriminator="type"),
]
