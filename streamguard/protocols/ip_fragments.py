"""Whole datagrams out of IP fragments (RFC 791, RFC 8200), within bounds. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from streamguard.protocols.packets import IpPacket

MAX_PENDING = 64
"""Datagrams that wait for the rest of them."""
MAX_PENDING_PER_SOURCE = 16
"""One sender of first halves must not push out everybody else's."""
MAX_PARTS = 64
MAX_DATAGRAM_BYTES = 65_535
TIMEOUT_S = 30.0

_Key = tuple[str, str, int, int]


@dataclass(slots=True)
class _Pending:
    began_at: float
    parts: dict[int, bytes] = field(default_factory=dict)
    """By offset."""
    size: int | None = None
    """Known with the last part."""
    received: int = 0


class FragmentAssembler:
    """Fragments in any order; ``drops`` counts, by reason, the datagrams that came to nothing.

    Parts that overlap without being the same are an attack on whoever reassembles otherwise
    (RFC 5722): their datagram is dropped.
    """

    def __init__(self, drops: Counter[str]) -> None:
        self._drops = drops
        self._pending: dict[_Key, _Pending] = {}
        """Oldest first."""

    def __len__(self) -> int:
        return len(self._pending)

    def push(self, packet: IpPacket, now: float) -> IpPacket | None:
        """Take any packet: a whole one comes back as it is, a part when it completes a whole."""
        part = packet.fragment
        if part is None:
            return packet
        key = (packet.source, packet.target, packet.protocol, part.identification)
        pending = self._pending.get(key)
        if pending is not None and now - pending.began_at > TIMEOUT_S:
            self._forget(key, "fragment_timeout")
            pending = None
        if pending is None:
            self._make_room(packet.source, now)
            pending = self._pending[key] = _Pending(now)
        stop = part.offset + len(packet.payload)
        wrong: str | None = None
        if not part.more:
            if pending.size not in (None, stop):
                wrong = "fragment_overlap"
            pending.size = stop
        wrong = wrong or self._add(pending, part.offset, packet.payload)
        if wrong is not None:
            self._forget(key, wrong)
            return None
        if pending.size is None or pending.received < pending.size:
            return None
        return self._complete(key, packet)

    def _add(self, pending: _Pending, offset: int, data: bytes) -> str | None:
        if pending.parts.get(offset) == data:
            return None  # sent, or captured, twice
        stop = offset + len(data)
        overlaps = any(
            offset < start + len(other) and start < stop for start, other in pending.parts.items()
        )
        if overlaps or offset in pending.parts:
            return "fragment_overlap"
        if stop > MAX_DATAGRAM_BYTES or len(pending.parts) == MAX_PARTS:
            return "fragment_oversized"
        pending.parts[offset] = data
        pending.received += len(data)
        return None

    def _complete(self, key: _Key, packet: IpPacket) -> IpPacket | None:
        pending = self._pending.pop(key)
        if pending.received != pending.size:  # parts reach beyond the last one
            self._drops["fragment_overlap"] += 1
            return None
        whole = b"".join(pending.parts[offset] for offset in sorted(pending.parts))
        return replace(packet, payload=whole, fragment=None)

    def _make_room(self, source: str, now: float) -> None:
        while self._pending:
            key, oldest = next(iter(self._pending.items()))
            if now - oldest.began_at <= TIMEOUT_S:
                break
            self._forget(key, "fragment_timeout")
        same = [key for key in self._pending if key[0] == source]
        if len(same) >= MAX_PENDING_PER_SOURCE:
            self._forget(same[0], "fragment_overflow")
        elif len(self._pending) >= MAX_PENDING:
            self._forget(next(iter(self._pending)), "fragment_overflow")

    def _forget(self, key: _Key, reason: str) -> None:
        del self._pending[key]
        self._drops[reason] += 1
