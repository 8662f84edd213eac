"""Settings that all sources have in common to which calls connect."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, IPvAnyNetwork, field_validator

from streamguard.settings import Secret, Section
from streamguard.sources.section import SourceName
from streamguard.telemetry.settings import is_loopback, split_address


class ListenTlsSettings(Section):
    """How we prove who we are to those who connect."""

    cert: Path = Field(description="PEM file of our certificate, with what it is signed by")
    key: Path = Field(description="PEM file of the certificate's private key")
    key_password: Secret | None = Field(default=None, description="Password of the private key")


class ConnectionSettings(Section):
    """A listening TCP socket, and what may come over it."""

    name: SourceName = Field(description="Name of the source in topics, metrics and alerts")
    listen: str = Field(
        default="127.0.0.1:0", description="Address and port, as 127.0.0.1:9092 or [::1]:9092"
    )
    allow: tuple[IPvAnyNetwork, ...] = Field(
        default=(), description="Networks (CIDR) that may connect; empty allows all"
    )
    max_calls: int = Field(
        default=100, ge=1, le=10_000, description="Calls at a time; further ones are refused"
    )
    start_timeout_s: float = Field(
        default=10.0,
        gt=0.0,
        le=120.0,
        description="A connection that has begun no call by then is closed",
    )
    inactivity_s: float = Field(
        default=60.0,
        gt=0.0,
        le=86_400.0,
        description="A call ends after this long without audio, unless it is announced to be held",
    )

    @field_validator("listen")
    @classmethod
    def _address_and_port(cls, value: str) -> str:
        split_address(value)
        return value

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return split_address(self.listen)

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.address[0])
