"""One event model for every source of audio (version 1).

A source, whatever it speaks, emits these and nothing else; everything behind it (legs, gate,
inference, verdict, alerts) sees only these. Sample positions count from 0 at ``LegStarted``, in the
leg's own rate; ``received_at`` is the monotonic clock of the run (real or virtual), in seconds.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

EVENT_MODEL_VERSION = 1


class LegRole(enum.StrEnum):
    """Who speaks on a leg, as far as the source knows."""

    CALLER = "caller"
    CALLEE = "callee"
    MIXED = "mixed"
    UNKNOWN = "unknown"


class GapReason(enum.StrEnum):
    """Why samples of a leg are not speech that was received."""

    LOST = "lost"
    """Packets that never came, or came too late to play."""
    DTX = "dtx"
    """The sender says that nothing was said (discontinuous transmission, comfort noise)."""
    OVERLOAD = "overload"
    """We dropped it ourselves."""


class EndReason(enum.StrEnum):
    """Why a leg or a call ended."""

    HANGUP = "hangup"
    """The far side ended it (BYE, end of file)."""
    INACTIVITY = "inactivity"
    """Nothing arrived for the configured time."""
    SOURCE_LOST = "source_lost"
    """The source itself died."""
    SHUTDOWN = "shutdown"


class IdentityKind(enum.StrEnum):
    """What an identity names."""

    NUMBER = "number"
    """A telephone number or SIP address of record."""
    TRUNK = "trunk"
    """What the call came over: the address or name of a peer, a trunk group."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is on a leg, as signalled. It has no repr, and goes no further than the policy."""

    kind: IdentityKind
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SourceUp:
    """A source is ready to receive audio."""

    source: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class SourceDown:
    """A source has stopped receiving; the supervisor may restart it."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class CallStarted:
    """A call begins; ``call`` is opaque (never a number or an address)."""

    source: str
    call: str
    received_at: float


@dataclass(frozen=True, slots=True)
class LegStarted:
    """One direction of one call begins."""

    source: str
    call: str
    leg: str
    """Opaque and unique for the life of the process."""
    role: LegRole
    codec: str
    """As in SDP: ``PCMU``, ``PCMA``, ``L16``, or ``file``, ``mic``."""
    rate_hz: int
    received_at: float
    """When the source learnt of it: a live leg's first samples were spoken before they came."""
    index: int = 0
    """Position of the leg in its call, from 0."""
    started_utc: float | None = None
    """POSIX seconds of sample 0, if the source knows it (a replay does); else arrivals decide."""
    identities: tuple[Identity, ...] = ()
    """Of its speaker, and of the trunk; for the policy alone."""
    answered: bool = True
    """False: what comes until ``Answered`` is early media (ringback, announcements)."""


@dataclass(frozen=True, slots=True)
class LegUpdated:
    """The source learnt more about a leg."""

    leg: str
    role: LegRole


@dataclass(frozen=True, slots=True)
class Answered:
    """The call of a leg was answered: early media is over, and a new talk segment begins."""

    leg: str


@dataclass(frozen=True, slots=True)
class MediaChanged:
    """The codec or the rate changes from the next ``Audio`` on; a new talk segment begins."""

    leg: str
    codec: str
    rate_hz: int


@dataclass(frozen=True, slots=True)
class Hold:
    """The leg is on hold: what comes until ``Resume`` is not its speaker."""

    leg: str


@dataclass(frozen=True, slots=True)
class Resume:
    """The leg is taken off hold; a new talk segment begins."""

    leg: str


@dataclass(frozen=True, slots=True)
class SegmentStarted:
    """Audio from here on must not be spliced to what came before (new SSRC, timestamp jump)."""

    leg: str
    first_sample: int
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """Mono samples of one leg; read-only after creation, copy to keep."""

    leg: str
    first_sample: int
    samples: npt.NDArray[np.int16] | npt.NDArray[np.float32]
    """1-D. int16 is full scale 32768; float32 is full scale 1.0."""
    received_at: float


@dataclass(frozen=True, slots=True)
class Gap:
    """``count`` samples of a leg that carry no received speech."""

    leg: str
    first_sample: int
    count: int
    reason: GapReason
    received_at: float


@dataclass(frozen=True, slots=True)
class Tone:
    """A signalled tone (RFC 4733 telephone-event) covers these samples: not speech."""

    leg: str
    first_sample: int
    count: int
    name: str
    received_at: float


@dataclass(frozen=True, slots=True)
class Quality:
    """Reception quality of a leg so far, as the source measures it."""

    leg: str
    loss_pct: float
    jitter_ms: float
    far_loss_pct: float | None = None
    """Lately, at the other end of the stream, as its RTCP reports say."""
    far_jitter_ms: float | None = None


@dataclass(frozen=True, slots=True)
class LegEnded:
    """A leg is over; nothing more comes for it."""

    leg: str
    reason: EndReason
    received_at: float


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A call is over; its legs have ended before."""

    call: str
    reason: EndReason
    received_at: float


SourceEvent = (
    SourceUp
    | SourceDown
    | CallStarted
    | LegStarted
    | LegUpdated
    | Answered
    | MediaChanged
    | Hold
    | Resume
    | SegmentStarted
    | Audio
    | Gap
    | Tone
    | Quality
    | LegEnded
    | CallEnded
)
