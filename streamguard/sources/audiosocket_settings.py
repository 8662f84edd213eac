"""Configuration of the AudioSocket server."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from streamguard.events import LegRole
from streamguard.sources.connection_settings import ConnectionSettings


class AudioSocketSettings(ConnectionSettings):
    """Asterisk's AudioSocket over TCP: one connection, one call leg."""

    type: Literal["audiosocket"] = Field(
        default="audiosocket", description="Asterisk connects by AudioSocket"
    )
    listen: str = Field(
        default="127.0.0.1:9092", description="Address and port, as 127.0.0.1:9092 or [::1]:9092"
    )
    role: LegRole = Field(
        default=LegRole.UNKNOWN, description="Who speaks: caller, callee, mixed or unknown"
    )

    @model_validator(mode="after")
    def _known_senders(self) -> Self:
        # The protocol has no credentials: beyond loopback it matters who may connect.
        if not self.is_loopback and not self.allow:
            raise ValueError(
                f"listen is {self.listen}, which others can reach: name in 'allow' the networks "
                "that may connect"
            )
        return self
