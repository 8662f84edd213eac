"""Session descriptions (RFC 8866) and answers to offers (RFC 3264), as far as audio goes.

Pure. What cannot be read is a :class:`~streamguard.errors.ProtocolError`; attributes that nobody
here acts on are left out, except that an answer repeats what the offer's line needs.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from streamguard.errors import ProtocolError

MAX_BYTES = 65_535
MAX_LINES = 2_048
MAX_MEDIA = 64
MAX_FORMATS = 64
MAX_CRYPTOS = 16

_NUMBER = re.compile(r"[0-9]{1,10}\Z")
_MEDIA = re.compile(r"(\S{1,32})\s+([0-9]{1,5})(?:/[0-9]{1,5})?\s+(\S{1,64})\s*(.*)\Z")
_RTPMAP = re.compile(r"([0-9]{1,3})\s+([^\s/]{1,64})/([0-9]{1,6})(?:/([0-9]{1,2}))?\Z")
_FMTP = re.compile(r"([0-9]{1,3})\s+(.{1,1024})\Z")
_CRYPTO = re.compile(r"([0-9]{1,9})\s+([A-Za-z0-9_]{1,64})\s+(\S{1,512})(?:\s+(.{1,256}))?\Z")
_RTCP = re.compile(r"([0-9]{1,5})(?:\s+IN\s+(IP[46]\s+\S{1,255}))?\Z", re.IGNORECASE)
_PTIME = re.compile(r"([0-9]{1,4})(?:\.[0-9]{1,6})?\Z")
_LABEL = re.compile(r"\S{1,128}\Z")


class Direction(enum.StrEnum):
    """Which way media goes, as the writer of the description sees it."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"


_DIRECTIONS = frozenset(Direction)


@dataclass(frozen=True, slots=True)
class RtpMap:
    """What a payload type number stands for."""

    payload_type: int
    encoding: str
    """As written: compare without regard to case."""
    clock_hz: int
    channels: int = 1


STATIC_MAPS: Mapping[int, RtpMap] = MappingProxyType(
    {
        one.payload_type: one
        for one in (
            RtpMap(0, "PCMU", 8_000),
            RtpMap(3, "GSM", 8_000),
            RtpMap(4, "G723", 8_000),
            RtpMap(5, "DVI4", 8_000),
            RtpMap(6, "DVI4", 16_000),
            RtpMap(7, "LPC", 8_000),
            RtpMap(8, "PCMA", 8_000),
            RtpMap(9, "G722", 8_000),
            RtpMap(10, "L16", 44_100, 2),
            RtpMap(11, "L16", 44_100),
            RtpMap(12, "QCELP", 8_000),
            RtpMap(13, "CN", 8_000),
            RtpMap(15, "G728", 8_000),
            RtpMap(18, "G729", 8_000),
        )
    }
)
"""Audio types that need no rtpmap (RFC 3551 section 6)."""


@dataclass(frozen=True, slots=True, repr=False)
class Crypto:
    """One ``a=crypto`` line (RFC 4568); a secret: it has no repr."""

    tag: int
    suite: str
    key_params: str
    """``inline:`` and base64 of key and salt, with whatever follows after ``|``."""
    session_params: str = ""

    def line(self) -> str:
        """The value of the attribute."""
        return f"{self.tag} {self.suite} {self.key_params} {self.session_params}".rstrip()


@dataclass(frozen=True, slots=True)
class MediaLine:
    """One ``m=`` section. Payload types come in the order of preference."""

    kind: str
    """``audio``, ``video``, ``image`` ..."""
    port: int
    """0: the line is refused, or over."""
    protocol: str
    """``RTP/AVP``, ``RTP/SAVP`` ..."""
    formats: tuple[str, ...]
    connection: str | None = None
    """Host that media comes from or goes to; that of the session where the line has none."""
    direction: Direction = Direction.SENDRECV
    maps: tuple[RtpMap, ...] = ()
    """Of the payload types in ``formats`` whose encoding is known, in that order."""
    fmtp: Mapping[int, str] = field(default_factory=dict)
    ptime_ms: int | None = None
    maxptime_ms: int | None = None
    label: str | None = None
    """RFC 4574: joins the line to the metadata of a recording."""
    cryptos: tuple[Crypto, ...] = ()
    rtcp_port: int | None = None
    """Where it is not the port above (RFC 3605)."""
    rtcp_host: str | None = None
    rtcp_mux: bool = False

    @property
    def is_srtp(self) -> bool:
        return "SAVP" in self.protocol.upper()


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """An offer or an answer."""

    origin: str
    """The value of ``o=``: as long as it stays the same, nothing has changed (RFC 3264)."""
    connection: str | None
    media: tuple[MediaLine, ...]


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What we say to one line that we take."""

    port: int
    payload_types: tuple[int, ...]
    """Some of the offer's."""
    direction: Direction = Direction.RECVONLY
    crypto: Crypto | None = None
    """Our own key under the tag that we chose."""


def parse_sdp(data: bytes) -> SessionDescription:
    """Raises ProtocolError, also where a line is not of the form that its letter asks for."""
    if len(data) > MAX_BYTES:
        raise ProtocolError("sdp", "oversized")
    lines = data.decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
    if b"\0" in data:
        raise ProtocolError("sdp", "control_character")
    if len(lines) > MAX_LINES:
        raise ProtocolError("sdp", "too_many_lines")
    sections: list[list[tuple[str, str]]] = [[]]
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        if len(line) < 2 or line[1] != "=" or not line[0].isalpha():
            raise ProtocolError("sdp", "line", f"line {number + 1} is not of the form x=value")
        if line[0] == "m":
            sections.append([])
        sections[-1].append((line[0], line[2:].strip()))
    if len(sections) - 1 > MAX_MEDIA:
        raise ProtocolError("sdp", "too_many_media")
    session = sections[0]
    if not session or session[0] != ("v", "0"):
        raise ProtocolError("sdp", "version")
    connection = _connection(session)
    direction = _direction(session) or Direction.SENDRECV
    return SessionDescription(
        origin=next((value for letter, value in session if letter == "o"), ""),
        connection=connection,
        media=tuple(_media(section, connection, direction) for section in sections[1:]),
    )


def build_answer(
    offer: SessionDescription,
    acceptances: Sequence[Acceptance | None],
    *,
    host: str,
    session_id: int,
    version: int,
) -> bytes:
    """One line per offered line, in the same order; None refuses a line with port 0.

    ``version`` grows with every answer of a session that differs from the one before.
    """
    family = f"IP{ipaddress.ip_address(host).version}"
    lines = [
        "v=0",
        f"o=- {session_id} {version} IN {family} {host}",
        "s=-",
        f"c=IN {family} {host}",
        "t=0 0",
    ]
    for line, acceptance in zip(offer.media, acceptances, strict=True):
        if acceptance is None:
            formats = " ".join(line.formats) or "0"
            lines.append(f"m={line.kind} 0 {line.protocol} {formats}")
        else:
            lines += _accepted(line, acceptance)
        if line.label is not None:
            lines.append(f"a=label:{line.label}")
    return ("\r\n".join(lines) + "\r\n").encode()


def _accepted(line: MediaLine, acceptance: Acceptance) -> list[str]:
    types = acceptance.payload_types
    out = [f"m={line.kind} {acceptance.port} {line.protocol} {' '.join(map(str, types))}"]
    for one in line.maps:
        if one.payload_type in types:
            channels = f"/{one.channels}" if one.channels > 1 else ""
            out.append(f"a=rtpmap:{one.payload_type} {one.encoding}/{one.clock_hz}{channels}")
    out += [f"a=fmtp:{number} {line.fmtp[number]}" for number in types if number in line.fmtp]
    if line.ptime_ms is not None:
        out.append(f"a=ptime:{line.ptime_ms}")
    out.append(f"a={acceptance.direction.value}")
    if acceptance.crypto is not None:
        out.append(f"a=crypto:{acceptance.crypto.line()}")
    if line.rtcp_mux:
        out.append("a=rtcp-mux")
    return out


def _media(
    section: list[tuple[str, str]], session_host: str | None, session_direction: Direction
) -> MediaLine:
    match = _MEDIA.match(section[0][1])
    if match is None or int(match[2]) > 65_535:
        raise ProtocolError("sdp", "media")
    formats = tuple(match[4].split())
    if len(formats) > MAX_FORMATS:
        raise ProtocolError("sdp", "too_many_formats")
    found: dict[str, list[str]] = {}
    for letter, value in section[1:]:
        if letter == "a":
            name, _, text = value.partition(":")
            found.setdefault(name.lower(), []).append(text.strip())
    rtcp = _RTCP.match(_first(found, "rtcp") or "")
    return MediaLine(
        kind=match[1].lower(),
        port=int(match[2]),
        protocol=match[3],
        formats=formats,
        connection=_connection(section) or session_host,
        direction=_direction(section) or session_direction,
        maps=_maps(formats, found.get("rtpmap", [])),
        fmtp=_fmtp(formats, found.get("fmtp", [])),
        ptime_ms=_milliseconds(_first(found, "ptime")),
        maxptime_ms=_milliseconds(_first(found, "maxptime")),
        label=_label(_first(found, "label")),
        cryptos=_cryptos(found.get("crypto", [])),
        rtcp_port=int(rtcp[1]) if rtcp and 0 < int(rtcp[1]) < 65_536 else None,
        rtcp_host=_host(rtcp[2]) if rtcp and rtcp[2] else None,
        rtcp_mux="rtcp-mux" in found,
    )


def _first(found: Mapping[str, list[str]], name: str) -> str | None:
    return found[name][0] if name in found else None


def _label(value: str | None) -> str | None:
    return value if value is not None and _LABEL.match(value) else None


def _milliseconds(value: str | None) -> int | None:
    match = _PTIME.match(value) if value is not None else None
    return int(match[1]) if match and int(match[1]) else None


def _maps(formats: tuple[str, ...], written: list[str]) -> tuple[RtpMap, ...]:
    known = dict(STATIC_MAPS)
    for value in written:
        match = _RTPMAP.match(value)
        if match is None or int(match[1]) > 127 or int(match[3]) == 0:
            continue  # an encoding that we can't read is one that we don't know
        number = int(match[1])
        known[number] = RtpMap(number, match[2], int(match[3]), int(match[4] or 1) or 1)
    numbers = [int(one) for one in dict.fromkeys(formats) if _NUMBER.match(one)]
    return tuple(known[number] for number in numbers if number in known)


def _fmtp(formats: tuple[str, ...], written: list[str]) -> Mapping[int, str]:
    matches = (_FMTP.match(value) for value in written)
    return {int(match[1]): match[2].strip() for match in matches if match and match[1] in formats}


def _cryptos(written: list[str]) -> tuple[Crypto, ...]:
    if len(written) > MAX_CRYPTOS:
        raise ProtocolError("sdp", "too_many_cryptos")
    matches = (_CRYPTO.match(value) for value in written)
    return tuple(
        Crypto(int(match[1]), match[2], match[3], (match[4] or "").strip())
        for match in matches
        if match
    )


def _direction(section: list[tuple[str, str]]) -> Direction | None:
    for letter, value in section:
        if letter == "a" and value.lower() in _DIRECTIONS:
            return Direction(value.lower())
    return None


def _connection(section: list[tuple[str, str]]) -> str | None:
    for letter, value in section:
        if letter == "c":
            network, _, rest = value.partition(" ")
            if network.upper() != "IN":
                raise ProtocolError("sdp", "connection")
            return _host(rest)
    return None


def _host(text: str) -> str:
    """Of ``IP4 192.0.2.1`` or ``IP6 2001:db8::1``; a name is left as it is, a TTL goes."""
    family, _, host = " ".join(text.split()).partition(" ")
    host = host.partition("/")[0].strip()
    if family.upper() not in ("IP4", "IP6") or not re.fullmatch(r"[A-Za-z0-9.:_-]{1,255}", host):
        raise ProtocolError("sdp", "connection")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host
