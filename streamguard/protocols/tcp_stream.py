"""SIP out of captured TCP segments: in order, each byte once, within bounds. Pure."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from streamguard.errors import ProtocolError
from streamguard.protocols.packets import Endpoint, Segment
from streamguard.protocols.sip_message import KeepAlive, SipMessage, SipStream

MAX_CONNECTIONS = 256
"""Directions of connections that speak SIP; beyond it the one unused for longest is forgotten."""
MAX_HELD_BYTES = 65_536
"""Of a direction, behind a hole."""
MAX_HELD_SEGMENTS = 64
MAX_JUMP_BYTES = 1 << 20
"""A sequence number further away than any window is a new connection on the same ports."""

_START = re.compile(rb"\s*(?:SIP/2\.0 [1-6]\d\d |[A-Z]{2,20} (?:sips?|tel|urn):)", re.IGNORECASE)


def looks_like_sip(data: bytes) -> bool:
    """Whether a message begins here."""
    return _START.match(data) is not None


class TcpStream:
    """One direction of one connection, from the sequence number that it begins with."""

    def __init__(self, sequence: int) -> None:
        self._next = sequence
        self._held: dict[int, bytes] = {}
        """By sequence number: what came before its turn."""
        self.lost_bytes = 0
        """Never captured, and given up on."""

    def push(self, sequence: int, data: bytes) -> bytes | None:
        """What can be read in order now; None where bytes before it will not come any more, or it
        is no part of this stream: read on from what :meth:`resume` gives."""
        ahead = _signed(sequence - self._next)
        if abs(ahead) > MAX_JUMP_BYTES:
            return None
        if ahead > 0:
            self._held[sequence] = data
            too_much = sum(map(len, self._held.values())) > MAX_HELD_BYTES
            return None if too_much or len(self._held) > MAX_HELD_SEGMENTS else b""
        out = bytearray(data[-ahead:])
        self._next = self._next + len(out) & 0xFFFF_FFFF
        while (more := self._next_held()) is not None:
            out += more
            self._next = self._next + len(more) & 0xFFFF_FFFF
        return bytes(out)

    def resume(self) -> bytes:
        """Give up on the hole: what is held behind it."""
        if not self._held:
            return b""
        first = min(self._held, key=lambda sequence: _signed(sequence - self._next))
        self.lost_bytes += _signed(first - self._next)
        self._next = first
        return self.push(first, self._held.pop(first)) or b""

    def _next_held(self) -> bytes | None:
        for sequence, data in self._held.items():
            skip = -_signed(sequence - self._next)
            if skip >= 0:
                del self._held[sequence]
                return data[skip:]
        return None


@dataclass(slots=True)
class _Direction:
    stream: TcpStream
    sip: SipStream = field(default_factory=SipStream)


class SipConnections:
    """All TCP connections of a capture; only those in which SIP messages begin are kept.

    ``drops`` counts, by reason, the messages that could not be had.
    """

    def __init__(self, drops: Counter[str]) -> None:
        self._drops = drops
        self._directions: dict[tuple[Endpoint, Endpoint], _Direction] = {}
        """The one used last comes last."""

    def __len__(self) -> int:
        return len(self._directions)

    def push(self, segment: Segment) -> list[SipMessage]:
        """Take any segment; the messages that are complete with it."""
        key = (segment.source, segment.target)
        direction = self._directions.pop(key, None)
        messages: list[SipMessage] = []
        if segment.payload:
            if direction is not None:
                direction = self._go_on(direction, segment, messages)
            if direction is None and looks_like_sip(segment.payload):
                direction = _Direction(TcpStream(segment.sequence))
                direction = self._go_on(direction, segment, messages)
        if direction is not None and not (segment.syn or segment.ends):
            self._directions[key] = direction
            if len(self._directions) > MAX_CONNECTIONS:
                del self._directions[next(iter(self._directions))]
                self._drops["sip_connections"] += 1
        return messages

    def _go_on(
        self, direction: _Direction, segment: Segment, messages: list[SipMessage]
    ) -> _Direction | None:
        """Read on; None where the place in the stream is lost."""
        data = direction.stream.push(segment.sequence, segment.payload)
        if data is None:
            self._drops["sip_hole"] += 1
            data = direction.stream.resume()
            if not looks_like_sip(data):
                return None
            direction.sip = SipStream()
        try:
            found = direction.sip.feed(data)
        except ProtocolError as err:
            self._drops[f"sip_{err.reason}"] += 1
            return None
        messages += [one for one in found if not isinstance(one, KeepAlive)]
        return direction


def _signed(difference: int) -> int:
    """A difference of 32-bit sequence numbers, across their wrap."""
    return (difference + 0x8000_0000 & 0xFFFF_FFFF) - 0x8000_0000
