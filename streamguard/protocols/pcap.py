"""Capture files, pcap and pcapng: bytes in, link-layer frames out. Pure.

Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng. A file that breaks off or is damaged
gives the frames before that, and a ``problem``: nothing is raised for what a file holds.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

MAX_FRAME_BYTES = 262_144
"""As libpcap has it; a record that claims more is damage."""
MAX_BLOCK_BYTES = 16 << 20
"""Of pcapng: room for a frame, or for a table of names that is skipped."""
MAX_INTERFACES = 1_024

_NS = 1_000_000_000
_PCAP_MAGICS = {
    b"\xd4\xc3\xb2\xa1": ("<", 1_000),
    b"\xa1\xb2\xc3\xd4": (">", 1_000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}
"""First bytes -> byte order, nanoseconds per unit of the fraction."""
_PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"
_SECTION_BYTE_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_PCAP_HEADER_BYTES = 24

_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _ENHANCED_PACKET = 0x0A0D0D0A, 1, 2, 3, 6
_OPTION_TSRESOL, _OPTION_TSOFFSET = 9, 14


@dataclass(frozen=True, slots=True)
class Frame:
    """One captured link-layer frame; cut where the capture cut it."""

    time_ns: int
    """Since 1970, as the capturing machine had it."""
    link_type: int
    """LINKTYPE_ number."""
    data: bytes


@dataclass(frozen=True, slots=True)
class _Interface:
    """Of a pcapng section."""

    link_type: int
    snap_bytes: int
    """0 is no limit."""
    units_per_s: int
    offset_s: int

    def time_ns(self, units: int) -> int:
        return self.offset_s * _NS + units * _NS // self.units_per_s


def is_capture(head: bytes) -> bool:
    """Whether a file that begins so is a pcap or pcapng."""
    return head[:4] in _PCAP_MAGICS or head[:4] == _PCAPNG_MAGIC


class CaptureParser:
    """Feed it the file in any pieces; each gives the frames that it completes.

    ``problem`` is None, or why there will be no more frames, in words for the user.
    """

    def __init__(self) -> None:
        self.problem: str | None = None
        self._buffer = b""
        self._order = ""
        """Byte order of the file or section: ``<`` or ``>``; empty before the first header."""
        self._is_pcapng = False
        self._fraction_ns = 1
        self._link_type = 0
        self._interfaces: list[_Interface] = []
        self._last_ns = 0
        self._frames = 0

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete with these bytes, in the order of the file."""
        frames: list[Frame] = []
        if self.problem is not None:
            return frames
        self._buffer += data
        at = 0 if self._order else self._open()
        while self.problem is None and self._order:
            used = self._block(at, frames) if self._is_pcapng else self._record(at, frames)
            if used == 0:
                break
            at += used
        self._buffer = self._buffer[at:] if self.problem is None else b""
        self._frames += len(frames)
        return frames

    def finish(self) -> None:
        """The file is over: what is left of it was cut off."""
        if self.problem is None and (self._buffer or not self._order):
            if self._order:
                self.problem = f"truncated: breaks off after {self._frames} frames"
            else:
                self.problem = "not a capture: too short for a header"

    def _open(self) -> int:
        """Look at the first bytes; how many of them are the header."""
        head = self._buffer
        if len(head) < 4:
            return 0
        if head[:4] == _PCAPNG_MAGIC:
            self._is_pcapng = True
            self._order = "<"  # until the section header says
            return 0
        known = _PCAP_MAGICS.get(head[:4])
        if known is None:
            self.problem = "not a capture: it begins neither like pcap nor like pcapng"
            return 0
        if len(head) < _PCAP_HEADER_BYTES:
            return 0
        self._order, self._fraction_ns = known
        major, _minor, _zone, _digits, _snap, link = struct.unpack_from(
            self._order + "HHiIII", head, 4
        )
        if major != 2:
            self.problem = f"pcap version {major}; allowed: 2"
        # The upper bits say how long the frame check sequence is; IP has its own length.
        self._link_type = link & 0x0FFF_FFFF
        return _PCAP_HEADER_BYTES

    def _record(self, at: int, frames: list[Frame]) -> int:
        """Take one pcap record; its length, 0 where it is not complete."""
        start = at + 16
        if start > len(self._buffer):
            return 0
        size: int
        seconds, fraction, size, _ = struct.unpack_from(self._order + "IIII", self._buffer, at)
        if size > MAX_FRAME_BYTES:
            self.problem = (
                f"damaged after {self._frames + len(frames)} frames: one of {size} bytes; "
                f"allowed: {MAX_FRAME_BYTES}"
            )
            return 0
        stop = start + size
        if stop > len(self._buffer):
            return 0
        time_ns = seconds * _NS + fraction * self._fraction_ns
        frames.append(Frame(time_ns, self._link_type, self._buffer[start:stop]))
        return stop - at

    def _block(self, at: int, frames: list[Frame]) -> int:
        """Take one pcapng block; its length, 0 where it is not complete."""
        buffer = self._buffer
        if at + 12 > len(buffer):
            return 0
        if buffer[at : at + 4] == _PCAPNG_MAGIC:
            order = _SECTION_BYTE_ORDERS.get(buffer[at + 8 : at + 12])
            if order is None:
                return self._damage(frames, "a section without a byte-order mark")
            self._order = order
        kind: int
        size: int
        kind, size = struct.unpack_from(self._order + "II", buffer, at)
        if size < 12 or size % 4 or size > MAX_BLOCK_BYTES:
            return self._damage(frames, f"a block of {size} bytes")
        stop = at + size
        if stop > len(buffer):
            return 0
        if buffer[stop - 4 : stop] != buffer[at + 4 : at + 8]:
            return self._damage(frames, "a block whose two lengths differ")
        wrong = self._body(kind, buffer[at + 8 : stop - 4], frames)
        return self._damage(frames, wrong) if wrong is not None else size

    def _damage(self, frames: list[Frame], what: str) -> int:
        self.problem = f"damaged after {self._frames + len(frames)} frames: {what}"
        return 0

    def _body(self, kind: int, body: bytes, frames: list[Frame]) -> str | None:
        """Take what is in a block; what is wrong with it."""
        match kind:
            case _ if kind == _SECTION:
                self._interfaces = []
                return None if len(body) >= 16 else "a short section header"
            case _ if kind == _INTERFACE:
                return self._add_interface(body)
            case _ if kind == _ENHANCED_PACKET:
                return self._add_packet(body, "IIIII", frames)
            case _ if kind == _OLD_PACKET:
                return self._add_packet(body, "HHIIII", frames)
            case _ if kind == _SIMPLE_PACKET:
                return self._add_simple(body, frames)
            case _:
                return None  # names, statistics, secrets, comments

    def _add_interface(self, body: bytes) -> str | None:
        if len(body) < 8:
            return "a short interface description"
        if len(self._interfaces) == MAX_INTERFACES:
            return f"more than {MAX_INTERFACES} interfaces"
        link_type, _, snap_bytes = struct.unpack_from(self._order + "HHI", body)
        units_per_s, offset_s = 1_000_000, 0
        at = 8
        while at + 4 <= len(body):
            code, size = struct.unpack_from(self._order + "HH", body, at)
            value = body[at + 4 : at + 4 + size]
            if code == 0:
                break
            if code == _OPTION_TSRESOL and len(value) == 1:
                exponent = value[0] & 0x7F
                units_per_s = 2**exponent if value[0] & 0x80 else 10**exponent
            elif code == _OPTION_TSOFFSET and len(value) == 8:
                (offset_s,) = struct.unpack(self._order + "q", value)
            at += 4 + size + -size % 4
        self._interfaces.append(_Interface(link_type, snap_bytes, units_per_s, offset_s))
        return None

    def _add_packet(self, body: bytes, fields: str, frames: list[Frame]) -> str | None:
        """An enhanced packet block, or its predecessor that counts drops in 16 bits."""
        layout = struct.Struct(self._order + fields)
        if len(body) < layout.size:
            return "a short packet block"
        number, *_, high, low, size, _ = layout.unpack_from(body)
        if number >= len(self._interfaces):
            return f"a packet of interface {number}, which is not described"
        if layout.size + size > len(body):
            return "a packet that is longer than its block"
        interface = self._interfaces[number]
        self._last_ns = interface.time_ns(high << 32 | low)
        data = body[layout.size : layout.size + size]
        frames.append(Frame(self._last_ns, interface.link_type, data))
        return None

    def _add_simple(self, body: bytes, frames: list[Frame]) -> str | None:
        """A simple packet block: of the first interface, without a time of its own."""
        if len(body) < 4:
            return "a short packet block"
        if not self._interfaces:
            return "a packet of interface 0, which is not described"
        interface = self._interfaces[0]
        (size,) = struct.unpack_from(self._order + "I", body)
        if interface.snap_bytes:
            size = min(size, interface.snap_bytes)
        frames.append(Frame(self._last_ns, interface.link_type, body[4 : 4 + size]))
        return None
