"""What a session recording server is told, and what it has done by its owner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from streamguard.events import SourceEvent
from streamguard.protocols.sip_transaction import Flow, Send
from streamguard.protocols.siprec_session import Media


@dataclass(frozen=True, slots=True)
class ServerRules:
    """What a server allows."""

    max_calls: int
    retry_after_s: int
    session_expires_s: int
    inactivity_s: float
    silence_inactivity_s: float
    srtp: bool
    """Whether SRTP lines can be taken."""
    end_on_disconnect: bool
    """Whether the end of a TCP connection ends its calls."""


class Hands(Protocol):
    """What the server has done by its owner."""

    @property
    def media(self) -> Media: ...

    @property
    def media_host(self) -> str:
        """The address that answers name."""

    def send(self, send: Send) -> None:
        """Bytes to a peer; a connection that is gone swallows them."""

    def emit(self, event: SourceEvent) -> None: ...

    def sent_by(self, flow: Flow) -> str:
        """``host:port`` of ours that the peer of this flow talks to."""

    def new_id(self) -> str:
        """An opaque id for a call or leg."""

    def allows(self, host: str, now: float) -> bool:
        """Whether the host may ask for something new once more."""
