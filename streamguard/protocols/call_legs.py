"""What a builder of calls keeps: its rules, the calls that are up, and their legs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from streamguard.events import LegRole, Quality
from streamguard.protocols.packets import Endpoint
from streamguard.protocols.rtp_codecs import PayloadFormat
from streamguard.protocols.rtp_stream import RtpStream
from streamguard.protocols.sip_calls import Side

Flow = tuple[Endpoint, Endpoint]
"""From, to."""


@dataclass(frozen=True, slots=True)
class CallRules:
    """What the owner of a builder decides."""

    formats: Mapping[int, PayloadFormat]
    """Of RTP that no SDP describes."""
    role: LegRole
    """Of its speakers."""
    bare_packets: int
    """How many of its packets must agree; 0 leaves such RTP out."""
    depth_s: float
    inactivity_s: float
    silence_inactivity_s: float
    max_legs: int


@dataclass(slots=True, eq=False)
class CallLeg:
    """A leg that is up."""

    leg: str
    call: BuiltCall
    flow: Flow
    stream: RtpStream
    formats: dict[int, PayloadFormat]
    """Read by the stream: new descriptions are put into it."""
    role: LegRole
    speaks: tuple[Side, int] | None
    """Which line of which side of a signalled call."""
    last_packet_at: float
    last_quality_at: float
    held: bool
    answered: bool

    def is_inactive(self, rules: CallRules, now: float) -> bool:
        """Whether it has been quiet for too long; who is silent on purpose may be so for longer."""
        quiet = self.stream.silent or self.held
        patience_s = rules.silence_inactivity_s if quiet else rules.inactivity_s
        return now - self.last_packet_at >= patience_s

    def quality(self) -> Quality:
        reception = self.stream.reception
        return Quality(self.leg, reception.loss_pct, 1000 * reception.jitter_s)


@dataclass(slots=True, eq=False)
class BuiltCall:
    """A call that has a leg, or had."""

    call: str
    call_id: str | None
    """Its Call-ID, where it is signalled."""
    legs: list[CallLeg] = field(default_factory=list)
    """That are up."""
    begun: int = 0
