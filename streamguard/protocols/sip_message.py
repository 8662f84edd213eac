"""SIP messages on the wire (RFC 3261): bytes in, requests and responses out, and back again.

Nothing here keeps state beyond the bytes of one connection, does I/O, or says what a message
means. What cannot be read is a :class:`~streamguard.errors.ProtocolError`, and nothing else.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import MappingProxyType

from streamguard.errors import ProtocolError
from streamguard.protocols.sip_values import Via, parse_via, split_list

MAX_MESSAGE_BYTES = 65_535
"""A UDP datagram holds no more; a recorder's INVITE is 4 KiB, of which metadata is most."""
MAX_HEAD_BYTES = 16_384
MAX_HEADERS = 128
_VERSION = "SIP/2.0"
_CRLF = b"\r\n"
_PING = b"\r\n\r\n"

_TOKEN = re.compile(r"[A-Za-z0-9.!%*_+`'~-]+\Z")
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
_STATUS = re.compile(r"[1-6][0-9][0-9]\Z")
_DIGITS = re.compile(r"[0-9]{1,10}\Z")
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")

_LONG_FORMS = MappingProxyType(
    {
        "a": "accept-contact",
        "b": "referred-by",
        "c": "content-type",
        "d": "request-disposition",
        "e": "content-encoding",
        "f": "from",
        "i": "call-id",
        "j": "reject-contact",
        "k": "supported",
        "l": "content-length",
        "m": "contact",
        "o": "event",
        "r": "refer-to",
        "s": "subject",
        "t": "to",
        "u": "allow-events",
        "v": "via",
        "x": "session-expires",
        "y": "identity",
    }
)
"""Compact forms of header names (RFC 3261 section 7.3.3 and the IANA registry)."""

_ODD_CASES = MappingProxyType(
    {
        "call-id": "Call-ID",
        "cseq": "CSeq",
        "min-se": "Min-SE",
        "www-authenticate": "WWW-Authenticate",
    }
)


@dataclass(frozen=True, slots=True)
class Headers:
    """Header fields in their order; names in lower case and long form, values unfolded."""

    fields: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> str | None:
        """The first value of that (lower-case, long) name."""
        return next((value for key, value in self.fields if key == name), None)

    def all(self, name: str) -> tuple[str, ...]:
        """Every field of that name, as written: a list in one field is not taken apart."""
        return tuple(value for key, value in self.fields if key == name)

    def items(self, name: str) -> tuple[str, ...]:
        """The elements of a comma-separated header, over all its fields."""
        return tuple(item for value in self.all(name) for item in split_list(value))

    def tokens(self, name: str) -> frozenset[str]:
        """Option tags, methods and the like, in lower case."""
        return frozenset(item.lower() for item in self.items(name))

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.fields)


@dataclass(frozen=True, slots=True)
class SipRequest:
    """A request; ``body`` is exactly as long as Content-Length says."""

    method: str
    uri: str
    headers: Headers
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class SipResponse:
    """A response."""

    status: int
    reason: str
    headers: Headers
    body: bytes = b""


SipMessage = SipRequest | SipResponse


class KeepAlive(enum.Enum):
    """Empty lines between the messages of a connection (RFC 5626 section 3.5.1)."""

    PING = "ping"
    """CRLF CRLF: to be answered by one CRLF."""


def parse_message(data: bytes) -> SipMessage:
    """One message that fills a datagram. Bytes beyond Content-Length are dropped (section 18.3)."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise ProtocolError("sip", "oversized")
    data = data.lstrip(_CRLF)
    end = _END_OF_HEAD.search(data)
    if end is None:
        raise ProtocolError("sip", "no_end", "the header section has no end")
    message = _parse_head(data[: end.start()])
    body = data[end.end() :]
    length = _content_length(message.headers)
    if length is not None and length > len(body):
        raise ProtocolError("sip", "content_length", "the body is shorter than Content-Length says")
    return _with_body(message, body if length is None else body[:length])


def parse_headers(head: bytes) -> Headers:
    """Header fields without a start line: those of a body part (RFC 2045). Raises ProtocolError."""
    return Headers(tuple(_fields(_lines(head)))) if head else Headers()


def serialise(message: SipMessage) -> bytes:
    """The wire form, with the Content-Length of the body."""
    if isinstance(message, SipRequest):
        lines = [f"{message.method} {message.uri} {_VERSION}"]
    else:
        lines = [f"{_VERSION} {message.status} {message.reason}"]
    lines += [f"{_written(name)}: {value}" for name, value in message.headers if name != _LENGTH]
    lines += [f"Content-Length: {len(message.body)}", "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + message.body


class SipStream:
    """The messages of one TCP or TLS connection, whatever pieces they come in.

    Framed by Content-Length, which a stream must have (section 18.3). After a ProtocolError the
    place in the stream is lost: the connection is to be closed.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._head: SipMessage | None = None
        self._missing = 0
        """Body bytes of the head that is read."""

    @property
    def pending(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._head is not None or bool(self._buffer.strip(_CRLF))

    def feed(self, data: bytes) -> list[SipMessage | KeepAlive]:
        """Take bytes; what is complete with them. Raises ProtocolError: when what came before the
        mistake has been given out, so with the next bytes at the latest."""
        self._buffer += data
        out: list[SipMessage | KeepAlive] = []
        try:
            while (item := self._next()) is not None:
                out.append(item)
        except ProtocolError:
            if not out:
                raise
        return out

    def _next(self) -> SipMessage | KeepAlive | None:
        if self._head is None:
            if self._buffer.startswith(_PING):
                del self._buffer[: len(_PING)]
                return KeepAlive.PING
            if _PING.startswith(self._buffer):
                return None  # nothing, a ping that has not come as a whole, or a pong
            self._skip_empty_lines()
            if not self._read_head():
                return None
        assert self._head is not None
        if len(self._buffer) < self._missing:
            return None
        message = _with_body(self._head, bytes(self._buffer[: self._missing]))
        del self._buffer[: self._missing]
        self._head = None
        return message

    def _skip_empty_lines(self) -> None:
        start = len(self._buffer) - len(self._buffer.lstrip(_CRLF))
        if start:
            del self._buffer[:start]
            self._searched = 0

    def _read_head(self) -> bool:
        # Look again at the last three bytes only: a peer that dribbles must not cost a square.
        end = _END_OF_HEAD.search(self._buffer, max(0, self._searched - 3))
        if (end.start() if end else len(self._buffer)) > MAX_HEAD_BYTES:
            raise ProtocolError("sip", "oversized")
        if end is None:
            self._searched = len(self._buffer)
            return False
        head = _parse_head(bytes(self._buffer[: end.start()]))
        length = _content_length(head.headers)
        if length is None:
            raise ProtocolError("sip", "content_length", "a stream needs Content-Length")
        del self._buffer[: end.end()]
        self._head, self._missing, self._searched = head, length, 0
        return True


def top_via(headers: Headers) -> Via:
    """Of whoever sent us the request. Raises ProtocolError, also where there is none."""
    items = headers.items("via")
    return parse_via(items[0] if items else "")


def _parse_head(head: bytes) -> SipMessage:
    if len(head) > MAX_HEAD_BYTES:
        raise ProtocolError("sip", "oversized")
    lines = _lines(head)
    headers = Headers(tuple(_fields(lines[1:])))
    first, _, rest = lines[0].partition(" ")
    if first.upper() == _VERSION:
        status, _, reason = rest.partition(" ")
        if not _STATUS.match(status):
            raise ProtocolError("sip", "start_line")
        return SipResponse(int(status), reason, headers)
    uri, _, version = rest.rpartition(" ")
    if not _TOKEN.match(first) or not uri or re.search(r"[\s<>]", uri):
        raise ProtocolError("sip", "start_line")
    if version.upper() != _VERSION:
        raise ProtocolError("sip", "version")
    return SipRequest(first, uri, headers)


def _lines(head: bytes) -> list[str]:
    # UTF-8 as the RFC asks; what is not comes through unchanged (RFC 4475 section 3.1.1.4).
    text = head.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
    if "\0" in text or "\r" in text:
        # Our answers repeat what the peer wrote: others may see a new line where we see none.
        raise ProtocolError("sip", "control_character")
    return text.split("\n")


def _fields(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Unfold (a line that begins with white space goes on with the one before), take apart."""
    unfolded: list[list[str]] = []
    for line in lines:
        if line[:1] in (" ", "\t"):
            if not unfolded:
                raise ProtocolError("sip", "folding")
            unfolded[-1].append(line.strip())
        else:
            unfolded.append([line])
    if len(unfolded) > MAX_HEADERS:
        raise ProtocolError("sip", "too_many_headers")
    for parts in unfolded:
        name, colon, value = " ".join(parts).partition(":")
        name = name.rstrip(" \t").lower()
        if not colon or not _NAME.match(name):
            raise ProtocolError("sip", "header")
        yield _LONG_FORMS.get(name, name), value.strip()


_LENGTH = "content-length"


def _content_length(headers: Headers) -> int | None:
    values = headers.all(_LENGTH)
    if not values:
        return None
    if len(set(values)) > 1 or not _DIGITS.match(values[0]):
        raise ProtocolError("sip", "content_length")
    length = int(values[0])
    if length > MAX_MESSAGE_BYTES:
        raise ProtocolError("sip", "oversized")
    return length


def _with_body(message: SipMessage, body: bytes) -> SipMessage:
    if isinstance(message, SipRequest):
        return SipRequest(message.method, message.uri, message.headers, body)
    return SipResponse(message.status, message.reason, message.headers, body)


def _written(name: str) -> str:
    return _ODD_CASES.get(name) or "-".join(word.capitalize() for word in name.split("-"))
