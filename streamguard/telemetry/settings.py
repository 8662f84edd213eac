"""Settings of the health server and of the log."""

from __future__ import annotations

import ipaddress
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from streamguard.settings import Secret, Section


class HttpSettings(Section):
    """Where ``/livez``, ``/readyz``, ``/metrics`` and ``/status`` are served."""

    listen: str | None = Field(
        default="127.0.0.1:8099",
        description="Address and port, as 127.0.0.1:8099 or [::1]:8099; null switches it off",
    )
    token: Secret | None = Field(
        default=None,
        description="Bearer token that every request must carry; needed for any other address "
        "than loopback",
    )

    @field_validator("listen")
    @classmethod
    def _address_and_port(cls, value: str | None) -> str | None:
        if value is not None:
            split_address(value)
        return value

    @model_validator(mode="after")
    def _a_token_beyond_loopback(self) -> Self:
        if self.listen is not None and self.token is None:
            host, _ = split_address(self.listen)
            if not is_loopback(host):
                raise ValueError(
                    f"listen is {self.listen}, which others can reach: set token, or listen on "
                    "127.0.0.1 or [::1]"
                )
        return self


class LogSettings(Section):
    """What is logged, and how. The log goes to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe level that is written"
    )
    format: Literal["text", "json"] = Field(
        default="text", description="text for people, json for one object per line"
    )


def split_address(listen: str) -> tuple[str, int]:
    """``"127.0.0.1:8099"`` to host and port. Raises ValueError saying what is allowed."""
    host, colon, port = listen.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    if not colon or not host or (":" in host and not bracketed):
        raise ValueError("must be address:port, with an IPv6 address in brackets")
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError(f"port {port!r} must be a number from 0 (any free port) to 65535")
    if host != "localhost":
        try:
            ipaddress.ip_address(host)
        except ValueError as err:
            raise ValueError(f"{host!r} must be an IP address or localhost") from err
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host`` (an IP address or a name)."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
