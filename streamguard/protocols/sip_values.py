"""What SIP headers hold (RFC 3261 section 25): lists, parameters, hosts, names and addresses.

Pure; what cannot be read is a :class:`~streamguard.errors.ProtocolError`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from streamguard.errors import ProtocolError

_TOKEN = re.compile(r"[A-Za-z0-9.!%*_+`'~-]+\Z")
_DIGITS = re.compile(r"[0-9]{1,10}\Z")
_VIA = re.compile(r"\s*SIP\s*/\s*2\.0\s*/\s*([A-Za-z0-9.+-]+)\s+(.+)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Via:
    """One hop that a request has come through, and where its responses go."""

    transport: str
    """Upper case: UDP, TCP, TLS ..."""
    host: str
    """Without the brackets of an IPv6 address."""
    port: int | None
    params: tuple[tuple[str, str], ...]

    def param(self, name: str) -> str | None:
        return next((value for key, value in self.params if key == name), None)


@dataclass(frozen=True, slots=True)
class NameAddr:
    """A name, an address and its parameters: From, To, Contact."""

    display: str
    uri: str
    params: tuple[tuple[str, str], ...]

    def param(self, name: str) -> str | None:
        """Empty where the parameter has no value."""
        return next((value for key, value in self.params if key == name), None)


def split_list(value: str) -> list[str]:
    """The elements of a comma-separated value; commas inside quotes and <> do not separate."""
    return [item for item in (part.strip() for part in _split(value, ",")) if item]


def parse_params(text: str) -> tuple[tuple[str, str], ...]:
    """``;name=value;flag``: names in lower case, values unquoted, each name once."""
    found: dict[str, str] = {}
    for part in _split(text, ";"):
        name, _, value = part.partition("=")
        name = name.strip().lower()
        if name and name not in found:
            found[name] = unquote(value.strip())
    return tuple(found.items())


def parse_via(value: str) -> Via:
    """One element of a Via header (section 20.42)."""
    match = _VIA.match(value)
    if match is None:
        raise ProtocolError("sip", "via")
    sent_by, _, params = match[2].partition(";")
    host, port = split_host_port(re.sub(r"\s", "", sent_by))
    return Via(match[1].upper(), host, port, parse_params(params))


def split_host_port(text: str) -> tuple[str, int | None]:
    """``host``, ``host:port``, ``[v6]:port``. Raises ProtocolError."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:\[\]]+))(?::([0-9]{1,5}))?", text)
    if match is None or (match[3] is not None and not 0 < int(match[3]) < 65_536):
        raise ProtocolError("sip", "host_port")
    return match[1] or match[2], int(match[3]) if match[3] else None


def parse_name_addr(value: str) -> NameAddr:
    """One From, To or Contact. Without <> all parameters are the header's (section 20.10)."""
    value = value.strip()
    display = ""
    if value.startswith('"'):
        end = _end_of_quotes(value)
        display, value = unquote(value[:end]), value[end:].lstrip()
        if not value.startswith("<"):
            raise ProtocolError("sip", "name_addr")
    if "<" in value:
        before, _, value = value.partition("<")
        uri, closed, rest = value.partition(">")
        if not closed or not uri.strip() or uri != uri.strip():
            raise ProtocolError("sip", "name_addr")
        rest = rest.strip()
        if rest and not rest.startswith(";"):
            raise ProtocolError("sip", "name_addr")
        return NameAddr(display or before.strip(), uri, parse_params(rest))
    uri, _, rest = value.partition(";")
    uri = uri.strip()
    if not uri or re.search(r'[\s",?]', uri):
        raise ProtocolError("sip", "name_addr")
    return NameAddr("", uri, parse_params(rest))


def parse_cseq(value: str) -> tuple[int, str]:
    """Number (below 2**31) and method (section 8.1.1.5)."""
    number, _, method = " ".join(value.split()).partition(" ")
    if not _DIGITS.match(number) or int(number) >= 1 << 31 or not _TOKEN.match(method):
        raise ProtocolError("sip", "cseq")
    return int(number), method


def unquote(value: str) -> str:
    """A quoted string without its quotes and escapes; anything else as it is."""
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    return re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL)


def quote(value: str) -> str:
    """As a quoted string."""
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'


def _split(text: str, separator: str) -> list[str]:
    """At a separator that is outside quotes and angle brackets; unbalanced ones are the peer's."""
    if '"' not in text and "<" not in text:
        return text.split(separator)
    parts: list[str] = []
    start = position = 0
    in_angles = False
    while position < len(text):
        char = text[position]
        if char == '"' and not in_angles:
            position = _end_of_quotes(text, position)
            continue
        if char == "<":
            in_angles = True
        elif char == ">":
            in_angles = False
        elif char == separator and not in_angles:
            parts.append(text[start:position])
            start = position + 1
        position += 1
    parts.append(text[start:])
    return parts


def _end_of_quotes(text: str, start: int = 0) -> int:
    """Behind the closing quote. Raises ProtocolError where there is none."""
    position = start + 1
    while position < len(text):
        if text[position] == "\\":
            position += 1
        elif text[position] == '"':
            return position + 1
        position += 1
    raise ProtocolError("sip", "quotes")
