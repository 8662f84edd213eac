"""Order out of disorder: a reorder buffer for RTP packets, and how well they arrived.

Pure: time comes in as an argument. A packet in its place is released at once, so a clean stream is
not delayed; only behind a missing packet the others wait, for ``depth_s`` at most.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamguard.protocols.rtp import RtpPacket

MAX_DROPOUT = 3_000
MAX_MISORDER = 100
"""RFC 3550 appendix A.1: sequence steps beyond these are a restart of the sender, not loss."""

DEFAULT_DEPTH_S = 0.06
CAPACITY = 64
"""Packets held behind a hole: far more than the depth needs at 10 ms a packet, and a bound."""


@dataclass(frozen=True, slots=True)
class Released:
    """A packet whose turn it is."""

    packet: RtpPacket
    arrived_at: float
    lost_before: int
    """Packets directly before it that will not come any more."""


def follows(first: RtpPacket, second: RtpPacket) -> bool:
    """Whether two packets are neighbours of one stream (RFC 3550 A.1, MIN_SEQUENTIAL 2)."""
    return second.ssrc == first.ssrc and second.sequence == (first.sequence + 1) & 0xFFFF


class JitterBuffer:
    """One sequence-number space, from the packet it starts with; owned by one stream.

    What comes twice or too late is counted in ``duplicates`` and ``late``; sequence numbers given
    up on are counted in ``lost`` (those that come late are among them).
    """

    def __init__(self, first_sequence: int, depth_s: float = DEFAULT_DEPTH_S) -> None:
        self._next = first_sequence
        """Extended: counts on through the 16-bit wraps."""
        self._depth_s = depth_s
        self._held: dict[int, tuple[RtpPacket, float]] = {}
        self._given_up: set[int] = set()
        self.received = 0
        self.lost = 0
        self.late = 0
        self.duplicates = 0

    def __len__(self) -> int:
        return len(self._held)

    def accepts(self, sequence: int) -> bool:
        """Whether the number belongs to this space: neither a restart nor another stream."""
        return -MAX_MISORDER <= self._extend(sequence) - self._next < MAX_DROPOUT

    def push(self, packet: RtpPacket, now: float) -> list[Released]:
        """Take a packet that :meth:`accepts`; what can be played now, in order."""
        number = self._extend(packet.sequence)
        if number < self._next:
            self._count_past(number)
        elif number in self._held:
            self.duplicates += 1
        elif number == self._next and not self._held:
            self.received += 1
            self._next += 1
            return [Released(packet, now, 0)]
        else:
            self.received += 1
            self._held[number] = (packet, now)
        return self.poll(now)

    def poll(self, now: float) -> list[Released]:
        """What can be played by ``now``: in order, or behind a hole that has lasted too long."""
        out: list[Released] = []
        while self._held:
            skipped = 0
            if self._next not in self._held:
                deadline = self.deadline()
                overdue = deadline is not None and now >= deadline
                if not overdue and len(self._held) <= CAPACITY:
                    break
                skipped = self._skip()
            packet, arrived_at = self._held.pop(self._next)
            self._next += 1
            out.append(Released(packet, arrived_at, skipped))
        return out

    def flush(self) -> list[Released]:
        """Everything still held; the holes are lost."""
        return self.poll(float("inf"))

    def deadline(self) -> float | None:
        """When :meth:`poll` will have something to say, if nothing else arrives."""
        if not self._held:
            return None
        return min(arrived_at for _, arrived_at in self._held.values()) + self._depth_s

    def _extend(self, sequence: int) -> int:
        step = (sequence - self._next + 0x8000 & 0xFFFF) - 0x8000
        return self._next + step

    def _count_past(self, number: int) -> None:
        if number in self._given_up:
            self._given_up.discard(number)
            self.late += 1
        else:
            self.duplicates += 1

    def _skip(self) -> int:
        """Give up on everything before the first packet held."""
        first = min(self._held)
        skipped = first - self._next
        self.lost += skipped
        self._given_up.update(range(max(self._next, first - MAX_MISORDER), first))
        self._given_up = {n for n in self._given_up if n >= first - MAX_MISORDER}
        self._next = first
        return skipped


class JitterEstimator:
    """Interarrival jitter, in order of arrival (RFC 3550 section 6.4.1 and appendix A.8).

    A step of more than a second is a stall or a jump of the sender's timestamps, and left out.
    """

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        """Of the timestamps."""
        self._last: tuple[int, float] | None = None
        self._jitter = 0.0

    @property
    def jitter_s(self) -> float:
        return self._jitter / self.rate_hz

    def update(self, timestamp: int, arrived_at: float) -> None:
        """Account for one media packet; those with a fixed timestamp (events) stay out."""
        if self._last is not None:
            sent = signed32(timestamp - self._last[0])
            difference = abs((arrived_at - self._last[1]) * self.rate_hz - sent)
            if difference <= self.rate_hz:
                self._jitter += (difference - self._jitter) / 16
        self._last = (timestamp, arrived_at)


def signed32(difference: int) -> int:
    """A difference of 32-bit timestamps, across their wrap."""
    return (difference + 0x8000_0000 & 0xFFFF_FFFF) - 0x8000_0000
