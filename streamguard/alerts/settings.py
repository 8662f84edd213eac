"""Configuration of alerts, their outbox and the broker."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from streamguard.settings import Secret, Section

_FORBIDDEN_IN_PREFIX = "+#"


class TlsSettings(Section):
    """How the broker proves who it is, and how we do."""

    ca: Path | None = Field(
        default=None, description="PEM file of the broker's authority; without it the system's list"
    )
    cert: Path | None = Field(default=None, description="PEM file of our client certificate")
    key: Path | None = Field(default=None, description="PEM file of the certificate's private key")
    key_password: Secret | None = Field(default=None, description="Password of the private key")
    check_hostname: bool = Field(
        default=True, description="Whether the certificate must name the host that we connect to"
    )

    @model_validator(mode="after")
    def _cert_with_key(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key go together: name both or neither")
        if self.key_password is not None and self.key is None:
            raise ValueError("key_password needs a key")
        return self


class MqttSettings(Section):
    """The broker, and how to live with it."""

    host: str = Field(default="localhost", min_length=1, description="Name or address")
    port: int | None = Field(
        default=None, ge=1, le=65535, description="TCP port; 1883, or 8883 with tls"
    )
    prefix: str = Field(
        default="streamguard", min_length=1, max_length=128, description="First level of all topics"
    )
    client_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        description="MQTT client identifier, one per daemon; default streamguard-<node>",
    )
    username: str | None = Field(default=None, min_length=1, description="User name")
    password: Secret | None = Field(default=None, description="Where the password is")
    tls: TlsSettings | None = Field(
        default=None, description="Without it the line is not encrypted"
    )
    protocol: Literal["auto", "5", "3.1.1"] = Field(
        default="auto", description="auto asks for 5 and falls back to 3.1.1"
    )
    keepalive_s: int = Field(
        default=30, ge=5, le=3600, description="Silence after which the broker sends our last will"
    )
    will_delay_s: int = Field(
        default=5,
        ge=0,
        le=300,
        description="MQTT 5: the will waits so long for us to come back, so availability is steady",
    )
    timeout_s: float = Field(
        default=10.0, gt=0, le=120, description="For connecting and for each acknowledgement"
    )
    backoff_first_s: float = Field(
        default=1.0, gt=0, le=60, description="Upper end of the first wait before a new attempt"
    )
    backoff_cap_s: float = Field(
        default=15.0, gt=0, le=3600, description="Upper end of every wait; waits are random"
    )
    delayed_after_s: float = Field(
        default=10.0,
        gt=0,
        description="A message is marked delayed when it waited longer than this, "
        "or when there was no connection as it was written",
    )
    update_expiry_s: int = Field(
        default=300,
        ge=1,
        description="MQTT 5: an `updated` that nobody fetched by then is dropped by the broker",
    )
    commands: bool = Field(default=True, description="Whether acknowledge and suppress are taken")

    @field_validator("protocol", mode="before")
    @classmethod
    def _number_five(cls, value: Any) -> Any:
        # `protocol: 5` is a number in YAML, and what everybody writes.
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("prefix")
    @classmethod
    def _prefix_is_a_topic(cls, value: str) -> str:
        if any(c in _FORBIDDEN_IN_PREFIX or not c.isprintable() for c in value):
            raise ValueError("no +, # or control characters")
        if value.startswith("$") or "" in value.split("/"):
            raise ValueError("no $ at the start and no empty level (a / at either end, or //)")
        return value

    @model_validator(mode="after")
    def _password_with_user(self) -> Self:
        if self.password is not None and self.username is None:
            raise ValueError("password needs a username")
        if self.backoff_first_s > self.backoff_cap_s:
            raise ValueError("backoff_first_s must not be above backoff_cap_s")
        return self

    @property
    def effective_port(self) -> int:
        if self.port is not None:
            return self.port
        return 8883 if self.tls is not None else 1883

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    def warnings(self) -> tuple[str, ...]:
        """What works but should not be left so; for the log and for ``check``."""
        if self.tls is None and not self.is_loopback:
            return (
                f"mqtt: {self.host} is not this machine and tls is not set: alerts"
                f"{' and the password' if self.password else ''} cross the network in clear",
            )
        return ()


class OutboxSettings(Section):
    """The file in which alerts wait for the broker."""

    path: Path | None = Field(
        default=None,
        description="SQLite file; default streamguard/outbox.sqlite3 in the XDG state directory",
    )
    max_messages: int = Field(
        default=10_000,
        ge=10,
        description="Bound of waiting messages: above it `updated` coalesce, never the others",
    )
    reserve_bytes: int = Field(
        default=1_048_576,
        ge=0,
        description="Disk kept back so that raised and cleared fit when the disk is full",
    )

    @property
    def location(self) -> Path:
        if self.path is not None:
            return self.path
        # systemd's StateDirectory= comes first: it is where a service may write.
        base = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
        if base:
            return Path(base) / "outbox.sqlite3"
        xdg = os.environ.get("XDG_STATE_HOME", "")
        root = Path(xdg) if xdg.startswith("/") else Path.home() / ".local" / "state"
        return root / "streamguard" / "outbox.sqlite3"


class SeveritySettings(Section):
    """Severity 1 to 6, as in OCSF: informational, low, medium, high, critical, fatal."""

    suspect: int = Field(default=3, ge=1, le=6, description="Of the state SUSPECT")
    spoof: int = Field(default=4, ge=1, le=6, description="Of the state SPOOF")
    strong_spoof: int = Field(default=5, ge=1, le=6, description="Of SPOOF at or above strong_llr")
    strong_llr: float = Field(
        default=4.6, description="LLR of the leg (natural log) from which SPOOF is strong: 100 to 1"
    )

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if not self.suspect <= self.spoof <= self.strong_spoof:
            raise ValueError("suspect <= spoof <= strong_spoof")
        return self


class AlertSettings(Section):
    """When an alert is raised, told again and taken back."""

    raise_on_suspect: bool = Field(default=False, description="Whether SUSPECT raises too")
    min_update_interval_s: float = Field(
        default=5.0, ge=0, le=3600, description="Least audio time between two `updated` of a leg"
    )
    update_llr_step: float = Field(
        default=0.3, gt=0, description="Move of the leg's LLR that is worth an `updated`"
    )
    min_dwell_s: float = Field(
        default=6.0,
        ge=0,
        le=3600,
        description="Least audio time from raised to cleared on evidence",
    )
    severity: SeveritySettings = Field(
        default=SeveritySettings(), description="From state and LLR to severity 1 to 6"
    )
    source_verdict_ttl_s: float = Field(
        default=60.0, gt=1, le=86_400, description="Life of a source's retained verdict"
    )
