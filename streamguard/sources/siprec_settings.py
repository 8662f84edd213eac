"""Configuration of the SIPREC recording server."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, IPvAnyAddress, IPvAnyNetwork, model_validator

from streamguard.protocols.digest import Algorithm
from streamguard.settings import Secret, Section
from streamguard.sources.connection_settings import ListenTlsSettings
from streamguard.sources.ports import even_ports
from streamguard.sources.section import SourceName

MAX_PORTS = 8_000


class Transport(enum.StrEnum):
    """How a listener speaks SIP."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"


class ListenSettings(Section):
    """One address that SIP is listened for on."""

    transport: Transport = Field(description="udp, tcp or tls")
    host: IPvAnyAddress = Field(
        default="127.0.0.1", validate_default=True, description="Local address to listen on"
    )
    port: int | None = Field(
        default=None, ge=1, le=65_535, description="null is 5060, for tls 5061"
    )

    @property
    def effective_port(self) -> int:
        return self.port or (5061 if self.transport is Transport.TLS else 5060)

    def __str__(self) -> str:
        return f"{self.transport.value} {self.host} port {self.effective_port}"


class SipTlsSettings(ListenTlsSettings):
    """The certificate of the TLS listeners, and whose certificates are asked for."""

    client_ca: Path | None = Field(
        default=None,
        description="PEM file: only peers with a certificate of this authority may connect",
    )


class SipUser(Section):
    """Who may log in."""

    username: str = Field(min_length=1, max_length=128, description="As the peer sends it")
    password: Secret = Field(description="Where the password is")


class DigestSettings(Section):
    """Peers have to log in (RFC 7616, RFC 8760)."""

    realm: str = Field(
        default="streamguard",
        pattern=r'^[^"\\\x00-\x1f]{1,128}$',
        description="Shown to the peer; part of what is hashed",
    )
    users: tuple[SipUser, ...] = Field(min_length=1, description="Names and passwords")
    algorithms: tuple[Algorithm, ...] = Field(
        default=(Algorithm.SHA_256, Algorithm.MD5),
        min_length=1,
        description="Offered in this order; leave MD5 out if every peer knows SHA-256",
    )


class SiprecSettings(Section):
    """A session recording server (RFC 7866): session border controllers send it their calls."""

    type: Literal["siprec"] = Field(default="siprec", description="Record calls by SIPREC")
    name: SourceName = Field(description="Name of the source in topics, metrics and alerts")
    listen: tuple[ListenSettings, ...] = Field(
        default=(ListenSettings(transport=Transport.UDP), ListenSettings(transport=Transport.TCP)),
        min_length=1,
        max_length=16,
        description="Where SIP is listened for; off loopback peers must be told apart by 'allow', "
        "'digest' or, for tls, 'tls.client_ca'",
    )
    tls: SipTlsSettings | None = Field(default=None, description="For listeners with tls")
    media_host: IPvAnyAddress | None = Field(
        default=None,
        description="Local address for RTP, named in answers; null is that of the first listener",
    )
    media_ports: Annotated[
        tuple[Annotated[int, Field(ge=1024, le=65534, multiple_of=2)], ...],
        BeforeValidator(even_ports),
        Field(min_length=1, max_length=MAX_PORTS),
    ] = Field(
        default="41000-41998",
        validate_default=True,
        description='Even UDP ports for RTP, a list or a range "41000-41998"; RTCP is on the port '
        "above. A call needs one for each speaker",
    )
    advertise: IPvAnyAddress | None = Field(
        default=None,
        description="Address that peers reach us under, where it is not the local one (NAT)",
    )
    allow: tuple[IPvAnyNetwork, ...] = Field(
        default=(), description="Networks (CIDR) that may speak SIP to us; empty allows all"
    )
    digest: DigestSettings | None = Field(default=None, description="Peers must log in")
    max_calls: int = Field(
        default=64, ge=1, le=4_000, description="Calls at a time; more are answered 503"
    )
    retry_after_s: int = Field(
        default=10, ge=1, le=3600, description="When a refused peer may try again (Retry-After)"
    )
    requests_per_s: float = Field(
        default=50.0, gt=0.0, le=10_000.0, description="New requests of one host, on average"
    )
    requests_burst: int = Field(
        default=200, ge=1, le=100_000, description="New requests of one host at once"
    )
    max_connections: int = Field(
        default=256, ge=1, le=10_000, description="TCP and TLS connections at a time"
    )
    max_connections_per_host: int = Field(
        default=32, ge=1, le=10_000, description="The same, of one host"
    )
    end_on_disconnect: bool = Field(
        default=False,
        description="Whether calls end with the TCP connection that they were last heard over",
    )
    session_expires_s: int = Field(
        default=1800,
        ge=90,
        le=86_400,
        description="How often a peer that can (RFC 4028) must say that its call is up, at least",
    )
    inactivity_s: float = Field(
        default=30.0,
        gt=0.0,
        le=3600.0,
        description="A call ends (we hang up) after this long without a packet",
    )
    silence_inactivity_s: float = Field(
        default=300.0,
        gt=0.0,
        le=86_400.0,
        description="The same while it is on hold or its senders announced silence",
    )
    jitter_ms: float = Field(
        default=60.0,
        ge=0.0,
        le=1000.0,
        description="How long packets wait for a missing one; a clean stream does not wait",
    )

    @property
    def effective_media_host(self) -> IPvAnyAddress:
        """Where RTP is received."""
        return self.media_host or self.listen[0].host

    def warnings(self) -> Iterator[str]:
        """What will not work on this machine as it is now, or not as meant."""
        if self.tls is not None:
            for path in (self.tls.cert, self.tls.key, self.tls.client_ca):
                if path is not None and not path.exists():
                    yield f"source {self.name}: tls: no such file: {path}"
        if len(self.media_ports) < 2 * self.max_calls:
            yield (
                f"source {self.name}: {len(self.media_ports)} media_ports are enough for "
                f"{len(self.media_ports) // 2} calls of two speakers, not for max_calls "
                f"{self.max_calls}"
            )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for one in self.listen:
            self._check_listener(one)
        if self.effective_media_host.is_unspecified and self.advertise is None:
            raise ValueError(
                "media_host: answers must name an address that peers can send to: name it here or "
                "in 'advertise'"
            )
        public = next((one for one in self.listen if not one.host.is_loopback), None)
        if public is not None and self.effective_media_host.is_loopback and not self.advertise:
            raise ValueError(
                f"media_host: {self.effective_media_host} is loopback, where peers of the listener "
                f"{public} cannot send audio to: name an address of ours that they reach"
            )
        if len(set(self.media_ports)) != len(self.media_ports):
            raise ValueError("media_ports: each port once")
        places = [
            (one.transport is Transport.UDP, one.host, one.effective_port) for one in self.listen
        ]
        if len(set(places)) != len(places):
            raise ValueError("listen: each address once")
        return self

    def _check_listener(self, one: ListenSettings) -> None:
        is_tls = one.transport is Transport.TLS
        if is_tls and self.tls is None:
            raise ValueError("tls: name the certificate and key for the tls listener")
        if one.host.is_unspecified and self.advertise is None:
            raise ValueError(
                f"listen: {one.host} names no address for the peers: name one, or 'advertise'"
            )
        mutual = is_tls and self.tls is not None and self.tls.client_ca is not None
        if not (one.host.is_loopback or self.allow or self.digest or mutual):
            raise ValueError(
                f"listen: {one.host} is not loopback: name in 'allow' the networks of the peers, "
                "or have them log in ('digest', or 'tls.client_ca' for tls)"
            )
